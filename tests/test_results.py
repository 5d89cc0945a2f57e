"""The stored results of real films against scikit-learn, and the tools that make them on simulated films."""
from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as reference

import outside
import results

from covid_xray import phantom, training
from covid_xray.data import Radiographs
from covid_xray.splits import patient_groups

ROOT = Path(__file__).resolve().parent.parent
STORED = ROOT / "covid_xray" / "results"


# ---- what is stored ----


def rows_of(experiment: str, model: str) -> pd.DataFrame:
    files = sorted((STORED / "real").glob(results.file_of(experiment, model, "*").name))
    return pd.concat(map(pd.read_csv, files), ignore_index=True)


def rows_together(experiment: str) -> pd.DataFrame:
    "The mean of two models by hand: rows put side by side by checksum"
    one, other = (rows_of(experiment, model).set_index(["source", "sha256"]) for model in results.TOGETHER["together"])
    other = other.loc[one.index]
    assert (one["label"] == other["label"]).all()
    said = one.filter(like="p_")
    return one.assign(**((said + other[said.columns]) / 2)).reset_index()


def test_every_stored_prediction_is_sound_and_of_a_film_once() -> None:
    for path in sorted((STORED / "real").glob("*.csv")):
        rows = pd.read_csv(path)
        said = rows.filter(like="p_")
        np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-4)
        assert not rows.duplicated(["source", "sha256"]).any(), path.name
        assert set(rows["label"]) <= {name.removeprefix("p_") for name in said}, path.name


def test_the_table_is_what_scikit_learn_says_of_the_predictions() -> None:
    real = pd.read_csv(STORED / "real.csv")
    whole = real[(real["part"] == "all folds")].groupby(["experiment", "model"], sort=False)
    for (experiment, model), table in whole:
        rows = rows_together(experiment) if model in results.TOGETHER else rows_of(experiment, model)
        table = table.set_index(["metric", "label"])
        names = [name.removeprefix("p_") for name in rows.filter(like="p_")]
        called = np.array(names)[rows.filter(like="p_").to_numpy().argmax(axis=1)]
        accuracy = table.loc[("accuracy", "overall")]
        assert accuracy["films"] == len(rows) and accuracy["low"] < accuracy["value"] < accuracy["high"]
        assert accuracy["value"] == pytest.approx(reference.accuracy_score(rows["label"], called), abs=1e-3)
        for name in names:
            area = reference.roc_auc_score(rows["label"] == name, rows[f"p_{name}"])
            assert table.loc[("auroc", name), "value"] == pytest.approx(area, abs=1e-3), (experiment, model, name)


def test_the_ladder_is_what_scikit_learn_says_of_the_scores() -> None:
    found, said = pd.read_csv(STORED / "outside.csv"), pd.read_csv(STORED / "outside_scores.csv")
    for row in found[found["part"] == "all films"].itertuples():
        labels = [*outside.QUESTIONS[row.question], "normal"]
        some = said[(said["left_out"] == row.left_out) & said["label"].isin(labels)]
        area = reference.roc_auc_score(some["label"] != "normal", some[row.recipe])
        assert row.auroc == pytest.approx(area, abs=1e-3) and row.low <= row.auroc <= row.high
        assert (row.abnormal, row.normal) == ((some["label"] != "normal").sum(), (some["label"] == "normal").sum())


def test_networks_beside_the_ladder_are_what_scikit_learn_says_of_them() -> None:
    found = pd.read_csv(STORED / "outside_networks.csv")
    for row in found[(found["part"] == "all films") & (found["left_out"] != "Cohen and Hannover")].itertuples():
        said = pd.read_csv(results.file_of("an archive left out", row.model, row.left_out.lower()))
        asked = [*outside.QUESTIONS[row.question], "normal"]
        said = said[said["label"].isin(asked)]
        area = reference.roc_auc_score(said["label"] != "normal", 1 - said["p_normal"])
        assert row.auroc == pytest.approx(area, abs=2e-3) and row.low <= row.auroc <= row.high
        assert row.gain == pytest.approx(row.last_rung - row.auroc, abs=2e-4)


# ---- the tools ----


def test_together_needs_every_member_and_only_films_that_all_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    (tmp_path / "real").mkdir()
    facts = {"source": "s", "label": "normal", "learnt_from": 9, "cpu_seconds": 2}

    def keep(model: str, fold: int, said: dict[str, float]) -> None:
        rows = [{**facts, "sha256": film, "p_normal": p, "p_pneumonia": 1 - p} for film, p in said.items()]
        pd.DataFrame(rows).to_csv(results.file_of("pneumonia within NIH", model, str(fold)), index=False)

    keep("residual-128", 0, {"a": 0.2, "b": 0.4})
    assert results.kept_rows("pneumonia within NIH", "together") is None
    keep("lite0-224", 0, {"b": 0.8, "a": 0.6})
    keep("lite0-224", 1, {"c": 0.9})
    rows = results.kept_rows("pneumonia within NIH", "together")
    assert rows.set_index("sha256")["p_normal"].round(6).to_dict() == {"a": 0.4, "b": 0.6}
    assert set(rows["fold"]) == {"0"} and (rows["cpu_seconds"] == 4).all()


def small_films(count: int = 40) -> Radiographs:
    films = phantom.simulate(count, size_px=32, seed=0)
    return Radiographs.from_arrays(films.images, films.table)


def test_an_interrupted_fold_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films, recipe = small_films(), results.Recipe("plain", 32, 3)
    monkeypatch.setattr(results, "with_validation", lambda films, *_: (films.select(np.arange(25)), films))
    learn, test = np.arange(30), np.arange(30, 40)
    whole, _ = results.train_fold(films, learn, test, recipe, "image", tmp_path / "whole")
    validate, calls = training._validate, []

    def stop_in_the_second_epoch(*arguments: object) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(*arguments)

    monkeypatch.setattr(training, "_validate", stop_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):  # so nothing is kept of it
        results.train_fold(films, learn, test, recipe, "image", tmp_path / "half")
    assert len(pd.read_csv(tmp_path / "half" / "log.csv")) == 1
    again, seconds = results.train_fold(films, learn, test, recipe, "image", tmp_path / "half")
    np.testing.assert_allclose(again.probabilities, whole.probabilities, atol=1e-6)
    assert seconds > 0


def records(count: int, seed: int = 0) -> pd.DataFrame:
    "Films of two sources with one film a person, view tied to the label"
    rng = np.random.default_rng(seed)
    abnormal = rng.random(count) < 0.4
    return pd.DataFrame({
        "label": pd.array(np.where(abnormal, "pneumonia", "normal"), dtype="string"),
        "view": pd.array(np.where(rng.random(count) < np.where(abnormal, 0.2, 0.7), "AP", "PA"), dtype="string"),
        "age": pd.array(rng.integers(20, 80, count), dtype="Float64"),
        "archive": pd.array(np.where(rng.random(count) < 0.5, "here", "there"), dtype="string"),
        "person": pd.array([f"p{i}" for i in range(count)], dtype="string"),
        "dup_group": pd.array([None] * count, dtype="string"), "bytes": pd.array([1000] * count, dtype="Int64")})


def test_weights_make_label_and_view_independent() -> None:
    table = records(600)
    abnormal = (table["label"] != "normal").to_numpy(dtype=bool)
    weights, is_ap = outside.weigh(table, abnormal), (table["view"] == "AP").to_numpy(dtype=bool)
    for name in ("here", "there"):
        own = (table["archive"] == name).to_numpy(dtype=bool)
        shares = [np.average(is_ap[own & side], weights=weights[own & side]) for side in (abnormal, ~abnormal)]
        assert abs(shares[0] - shares[1]) < 0.02 < abs(is_ap[own & abnormal].mean() - is_ap[own & ~abnormal].mean())
        assert weights[own & abnormal].sum() == pytest.approx(weights[own & ~abnormal].sum(), rel=0.1)


def test_within_sources_the_source_says_nothing() -> None:
    "One feature tells the source, which goes with the label; another tells the disease, weakly"
    table, rng = records(800), np.random.default_rng(1)
    abnormal = (table["label"] != "normal").to_numpy(dtype=bool)
    there = np.where(abnormal, rng.random(800) < 0.95, rng.random(800) < 0.05)
    table["archive"] = pd.array(np.where(there, "there", "here"), dtype="string")
    seen = np.stack([there + rng.normal(0, 0.1, 800), abnormal + rng.normal(0, 1, 800)], 1)
    share = {}
    for within in (False, True):
        _, weights = outside.fit(outside.Rung("last", within_sources=within), seen, table)
        share[within] = abs(weights[0]) / np.abs(weights).sum()
    assert share[False] > 0.6 and share[True] < 0.35


def test_nobody_of_the_tested_archive_is_learnt_from() -> None:
    table = records(60)
    test = (table["archive"] == "here").to_numpy(dtype=bool)
    tested, other = np.flatnonzero(test)[0], np.flatnonzero(~test)[0]
    table.loc[other, "person"] = table["person"][tested]  # one person has films in both archives
    learn = outside.learnt_from(table, test, outside.Rung("last", within_sources=True))
    groups = patient_groups(table)
    assert learn.any() and not set(groups[learn]) & set(groups[test])
    assert learn.sum() == (~test).sum() - 1
    one_label = table.assign(label=table["label"].mask(~test, "normal"))
    assert not outside.learnt_from(one_label, test, outside.Rung("last", within_sources=True)).any()


# ---- the checklist ----


def test_the_checklist_answers_every_item() -> None:
    cells = json.loads((ROOT / "nbs/guides/checklist.ipynb").read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells)
    line = r"^\| ([\d–a-g]+) \| [^|]+ \| (yes|partly|no|does not apply) \| ([^|]+) \|$"
    answers = re.findall(line, text, re.MULTILINE)
    assert [number for number, *_ in answers[:44]] == [str(i) for i in range(1, 45)]
    assert [re.match(r"\d+", number)[0] for number, *_ in answers[44:]] == [
        *"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27".split()]
    for start, stop, name in ((0, 44, "CLAIM 2024, 44 items"), (44, None, "TRIPOD+AI, 27 items")):
        said = pd.Series([answer for _, answer, _ in answers[start:stop]]).value_counts()
        line = re.search(rf"\*\*{re.escape(name)}\*\*: ([^.]+)\.", text)[1]
        assert line == ", ".join(f"{said[k]} {k}" for k in ("yes", "partly", "no", "does not apply") if k in said)
    for link in re.findall(r"\]\(([^)h][^)]*)\)", text):
        assert (ROOT / "nbs/guides" / link).is_file(), link
