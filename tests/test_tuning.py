"""Chapter 4b: weights, copies and priors against formulas worked by hand; the search against a landscape we know."""
from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

import sweeps
from covid_xray.tuning import adjust_prior, class_weights, oversample, repeat_training, search

TARGETS = np.array([0] * 2 + [1] * 12 + [2] * 6)


def test_class_weights_are_those_of_scikit_learn() -> None:
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=TARGETS)
    assert np.allclose(class_weights(TARGETS), theirs)
    with pytest.raises(ValueError, match="class 1 has no film"):
        class_weights(np.array([0, 2, 2]))


def test_oversampling_keeps_every_film_and_makes_classes_equal() -> None:
    rows = oversample(TARGETS, seed=3)
    assert set(rows) == set(range(len(TARGETS)))
    assert np.bincount(TARGETS[rows]).tolist() == [12, 12, 12]
    copies = np.bincount(rows)
    assert all(np.ptp(copies[TARGETS == target]) <= 1 for target in range(3))
    assert np.array_equal(rows, oversample(TARGETS, seed=3))


def test_the_weighted_loss_is_the_loss_over_the_copies() -> None:
    "12 of each class come from 2, 12 and 6: whole numbers of copies, so that the two agree exactly"
    logits = torch.randn(len(TARGETS), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets, rows = torch.tensor(TARGETS), oversample(TARGETS)
    weighted = F.cross_entropy(logits, targets, weight=torch.tensor(class_weights(TARGETS)))
    assert torch.isclose(weighted, F.cross_entropy(logits[rows], targets[rows]))


def test_another_prior_by_hand() -> None:
    "Even odds at a share of 0.5; at 0.1 the odds are 1 to 9"
    assert np.allclose(adjust_prior([[0.5, 0.5]], [0.5, 0.5], [0.1, 0.9]), [[0.1, 0.9]])
    assert np.allclose(adjust_prior([[0.2, 0.8]], [0.1, 0.9], [0.4, 0.6]), [[0.6, 0.4]])  # 0.8 to 0.5333 is 3 to 2


def test_another_prior_is_exact_where_the_densities_are_known() -> None:
    "Two normal densities: posterior under one prior, adjusted, is the posterior under the other"
    x = np.linspace(-3, 4, 30)[:, None]
    densities = np.exp(-((x - np.array([[0.0, 1.5]])) ** 2) / 2)

    def posterior(prior: list[float]) -> np.ndarray:
        return densities * prior / (densities * prior).sum(1, keepdims=True)

    assert np.allclose(adjust_prior(posterior([0.05, 0.95]), [0.05, 0.95], [0.4, 0.6]), posterior([0.4, 0.6]))
    for wrong in ([0.5, 0.6], [1.0, 0.0], [0.2, 0.3, 0.5]):
        with pytest.raises(ValueError, match="add up to 1"):
            adjust_prior([[0.5, 0.5]], [0.5, 0.5], wrong)


def test_the_search_finds_a_known_hill_and_keeps_the_account() -> None:
    pytest.importorskip("optuna")

    def objective(trial) -> float:
        return -(trial.suggest_float("x", -4, 4) - 1) ** 2

    for sampler in ("tpe", "random"):
        table = search(objective, 25, seed=1, sampler=sampler)
        assert list(table["trial"]) == list(range(25))
        assert np.allclose(table["score"], -((table["x"] - 1) ** 2))
        assert np.array_equal(table["best_so_far"], np.maximum.accumulate(table["score"]))
        assert table["score"].max() > -0.2
        assert search(objective, 25, seed=1, sampler=sampler)["x"].equals(table["x"])
    with pytest.raises(ValueError, match="grid.*tpe, random"):
        search(objective, 1, sampler="grid")


def test_a_missing_optuna_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match=r"covid_xray\[course\]"):
        search(lambda trial: 0.0, 1)


def test_a_job_is_computed_once_and_stale_rows_go(tmp_path) -> None:
    done, path = [], tmp_path / "sweep_x.csv"

    def run(job: dict) -> list[dict]:
        done.append(job["seed"])
        return [{"epoch": epoch, "loss": 1 / (job["seed"] + 3)} for epoch in range(2)]

    todo = [{"version": "4", "rate": 3e-5, "seed": seed} for seed in range(3)]
    sweeps.run_sweep(path, run, todo[:2])
    sweeps.run_sweep(path, run, todo)
    assert done == [0, 1, 2] and len(pd.read_csv(path)) == 6
    sweeps.run_sweep(path, run, [{**job, "version": "5"} for job in todo])
    table = pd.read_csv(path)
    assert done == [0, 1, 2] * 2 and len(table) == 6 and set(table["version"]) == {5}


def test_repeated_training_hands_each_seed_on() -> None:
    from covid_xray import phantom
    from covid_xray.data import Radiographs

    made = phantom.simulate(24, size_px=32, seed=5)
    films = Radiographs.from_arrays(made.images, made.table)

    def build() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(16, 3))

    metrics = {"right": lambda targets, probabilities: (probabilities.argmax(1) == targets).mean()}
    table = repeat_training(build, films, films, films, seeds=(1, 2, 1), metrics=metrics, epochs=1)
    assert list(table["seed"]) == [1, 2, 1] and table["right"].between(0, 1).all()
    assert table["valid_loss"][0] == table["valid_loss"][2] != table["valid_loss"][1]
