"""The race to a level: when the clock stops, what a stopped run means, which setting is taken, and our own runner."""
from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import time_to_result
from covid_xray.records import record_table

TARGETS = np.arange(12) % 3


def said(right: bool) -> np.ndarray:
    "Probabilities that name each film's class, or nobody's"
    return np.eye(3)[TARGETS] * 0.4 + 0.2 if right else np.full((12, 3), 1 / 3)


def test_the_watch_stops_at_the_level_or_at_the_limit() -> None:
    watch = time_to_result.Watch(level=0.9, limit=60)
    watch.note(TARGETS, said(False))
    with pytest.raises(time_to_result.Reached):
        watch.note(TARGETS, said(True))
    assert [area for *_, area in watch.curve] == [0.5, 1.0]
    late = time_to_result.Watch(level=0.9, limit=0)
    with pytest.raises(time_to_result.Reached):
        late.tick()


@pytest.mark.parametrize("rows, best", [
    ([(True, 9.0, 0.9), (True, 5.0, 0.9), (False, 1.0, 0.8)], 1),  # the quickest that got there
    ([(False, 9.0, 0.6), (False, 9.0, np.nan), (False, 9.0, 0.7)], 2),  # else the best by then
    ([(False, 9.0, np.nan), (False, 9.0, np.nan), (False, 9.0, np.nan)], 0),  # else the published one, which is first
])
def test_the_search_takes_the_quickest(tmp_path, monkeypatch, rows, best) -> None:
    table = pd.DataFrame(rows, columns=["reached", "seconds", "best_auroc"])
    table = table.assign(data="phantom", system="fastai", options=[json.dumps({"rate": k}) for k in range(3)])
    table.to_csv(tmp_path / "time_to_result_search.csv", index=False)
    monkeypatch.setattr(time_to_result, "RESULTS", tmp_path)
    assert time_to_result.best_of("phantom", "fastai") == {"rate": best}
    with pytest.raises(SystemExit, match="run with --search first"):
        time_to_result.best_of("darkcovidnet", "fastai")


def test_others_get_a_multiple_of_our_time_with_the_same_seed(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(time_to_result, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match="when ours has run"):
        time_to_result.limit_of("phantom", "fastai", 1)
    pd.DataFrame({"data": "phantom", "system": "ours", "seed": [0, 1], "seconds": [4.0, 6.0]}).to_csv(
        tmp_path / "time_to_result.csv", index=False)
    assert time_to_result.limit_of("phantom", "fastai", 1) == time_to_result.PATIENCE * 6.0


def test_systems_take_turns_and_ours_goes_first() -> None:
    order = [(t["data"], t["seed"], t["system"]) for tasks in time_to_result.plan(False, ["phantom"]) for t in tasks]
    assert [system for *_, system in order[:6]] == 2 * list(time_to_result.SYSTEMS)
    assert [seed for _, seed, _ in order[::3]] == list(time_to_result.SEEDS)
    assert time_to_result.SYSTEMS[0] == "ours"


def test_our_runner_learns_and_ends_at_the_level() -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["covid", "normal", "pneumonia"])[np.arange(48) % 3]
    images = rng.integers(0, 40, (48, 256, 256), dtype=np.uint8)
    images[::3, :, :128] += 150
    images[2::3, :, 128:] += 150
    table = record_table({"path": [f"{k}.png" for k in range(48)], "label": labels})
    films = {"train": images, "valid": images, "table": {"train": table, "valid": table}}
    watch = time_to_result.Watch(level=0.99, limit=60)
    options = time_to_result.SEARCH["ours"][0] | {"epochs": 30}
    time_to_result.ours(films, options, 0, watch)
    assert watch.curve[-1][2] >= 0.99 and all(area < 0.99 for *_, area in watch.curve[:-1])


@pytest.mark.parametrize("path", sorted(time_to_result.RESULTS.glob("time_to_result*.csv")), ids=lambda p: p.stem)
def test_stored_runs_are_what_they_say(path) -> None:
    "A run that reached the level says so, a stopped one took its limit, and none stands there twice"
    runs = pd.read_csv(path)
    assert len(runs) and not runs.duplicated(["data", "system", "seed", "options"]).any()
    assert (runs["reached"] == (runs["best_auroc"] >= runs["level"])).all()
    ours = runs[runs["system"] == "ours"].groupby(["data", "seed"])["seconds"].min()
    for stopped in runs[~runs["reached"]].itertuples():
        limit = time_to_result.PATIENCE * ours[stopped.data, stopped.seed]
        assert stopped.seconds >= (time_to_result.SEARCH_LIMIT if "search" in path.stem else limit) - 0.1
