"""Chapter 7 against what is known: who stands on which side of a switch, formulas by hand, and SciPy."""
from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from covid_xray import choices, pitfalls, probes
from covid_xray.data import Radiographs
from covid_xray.models import Predictions
from covid_xray.splits import patient_groups, split_by_patient


@pytest.fixture(autouse=True)
def few_films(monkeypatch: pytest.MonkeyPatch) -> None:
    "The switches at a tenth of their size"
    for module in (pitfalls, choices, probes):
        for name, count in (("TRAIN", 24), ("VALID", 8), ("TEST", 16)):
            monkeypatch.setattr(module, name, count)


def persons(films: Radiographs) -> set[str]:
    return set(films.table["person"])


# ---- the switches ----


def test_the_same_patients_stand_on_both_sides_only_where_leaked() -> None:
    leaked, honest = pitfalls.same_patient(0, 1.0)
    assert persons(leaked.test) <= persons(leaked.train) and not persons(honest.test) & persons(honest.train)
    assert list(leaked.test.table["path"]) == list(honest.test.table["path"])
    assert len(leaked.train) == len(honest.train) == len(persons(leaked.train)) == len(persons(honest.train))
    assert not set(leaked.test.table["path"]) & set(leaked.train.table["path"])
    half = pitfalls.same_patient(0, 0.5)[0]
    assert len(persons(half.test) & persons(half.train)) == 8


def test_copies_stand_on_both_sides_only_where_leaked() -> None:
    leaked, honest = pitfalls.duplicates(0, 1.0)
    for trial, expected in ((leaked, 16), (honest, 0)):
        both = pd.concat([trial.train.table, trial.test.table], ignore_index=True)
        groups = patient_groups(both)
        assert len(set(groups[:24]) & set(groups[24:])) == expected
        assert not set(trial.test.table["patient"]) & set(trial.train.table["patient"])  # under another number
        assert trial.train.table["path"].str.contains("copy=1").sum() in (0, 16)
    assert list(leaked.test.table["path"]) == list(honest.test.table["path"])


def test_source_is_label_and_then_is_not() -> None:
    tied, free = pitfalls.sources(1, 1.0)
    for films in (tied.train, tied.valid, tied.test):
        assert ((films.table["site"] == "south") == (films.table["label"] == "covid")).all()
    assert tied.train is free.train
    same = ["label", "age", "sex", "view"]
    assert tied.test.table[same].equals(free.test.table[same])
    assert free.test.table.groupby("label")["site"].nunique().max() == 2


def test_a_planted_thing_is_on_all_sick_films_and_can_be_taken_off() -> None:
    tied, free = pitfalls.planted("marker")(0, 1.0)
    ringed = tied.test.table["path"].str.contains("marker=2").to_numpy(dtype=bool)
    assert (ringed == (tied.test.targets == 0)).all()
    assert not free.test.table["path"].str.contains("marker=2").any()
    healthy = np.flatnonzero(tied.test.targets == 1)
    assert np.array_equal(tied.test.images[healthy], free.test.images[healthy])


def test_augmented_siblings_stand_on_both_sides_only_where_leaked() -> None:
    leaked, honest = choices.augment_first(0, 1.0)
    assert persons(leaked.test) <= persons(leaked.train) and not persons(honest.test) & persons(honest.train)
    assert np.array_equal(leaked.test.images, honest.test.images)


def test_balanced_parts_share_films_only_where_leaked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("TRAIN", 60), ("VALID", 40), ("TEST", 40)):
        monkeypatch.setattr(choices, name, count)
    leaked, honest = choices.balance_first(3, 1.0)
    assert not persons(honest.test) & persons(honest.train) and persons(leaked.test) & persons(leaked.train)
    assert [len(trial.train) for trial in (leaked, honest)] == [60, 60]
    assert np.bincount(honest.test.targets).tolist() == [20, 20]


def test_labels_are_flipped_at_the_rate_asked_for() -> None:
    table = pitfalls.draw_patients(2000, 0)
    for share in (0.0, 0.2, 1.0):
        flipped = choices.flip_labels(table, share, np.random.default_rng(0))
        low, high = stats.binom.interval(0.9999, 2000, share) if 0 < share < 1 else (2000 * share, 2000 * share)
        assert low <= (flipped["label"] != table["label"]).sum() <= high


def test_choosing_reads_the_part_it_may_read() -> None:
    curves = pd.DataFrame({"weights": [0, 0, 1, 1], "epoch": [0, 1, 0, 1], "valid": [0.5, 0.9, 0.8, 0.7],
                           "test": [0.6, 0.7, 0.65, 0.95]})
    assert choices.tune_on_test(curves) == (0.95, 0.7)
    assert choices.best_seed(curves) == pytest.approx((0.7, (0.7 + 0.65) / 2))


def test_nothing_is_learnt_of_coins_and_unknown_names_are_told() -> None:
    assert choices.select_first(0, 1.0)[1] == pytest.approx(0.5, abs=0.08)
    with pytest.raises(ValueError, match="moon.*same patient"):
        choices.measure("moon")
    with pytest.raises(ValueError, match="forest.*network, logistic"):
        pitfalls.train_and_predict(None, None, [], model="forest")
    row = choices.measure("file facts", model="tree", seed=0)
    assert row["leaked"] > row["honest"] and row["source"] == "phantom"


# ---- numbers about a leak ----


def test_the_difference_is_the_paired_t_interval_of_scipy() -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"leaked": rng.uniform(size=7), "honest": rng.uniform(size=7)})
    found, test = pitfalls.difference(rows), stats.ttest_rel(rows["leaked"], rows["honest"]).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((test.low, test.high))
    assert math.isnan(pitfalls.difference(rows[:1])["low"])
    rows["kind"], rows["model"] = list("aaabbbb"), "m"
    assert pitfalls.summarise(rows, ["kind", "model"]).loc[("b", "m"), "difference"] == pytest.approx(
        (rows["leaked"] - rows["honest"])[3:].mean())


def test_shared_films_are_counted() -> None:
    table = pitfalls.draw_patients(30, 0, films=3, follow_up=1.0)
    assert (pitfalls.shared_films(split_by_patient(table)) == 0).all().all()
    table = table.iloc[:4].assign(split=["train", "test", "test", "test"], person=["a", "a", "b", None],
                                  dup_group=["x", "y", "x", "z"], sha256=list("pqrs"))
    found = pitfalls.shared_films(table)
    assert found["test_films"].to_dict() == {"person": 1, "dup_group": 1, "sha256": 0}


def test_a_rule_finds_what_is_tied_and_nothing_else() -> None:
    table = pitfalls.draw_patients(300, 0, shortcuts={"view": 1.0})
    table["seen"] = table["view"].where(table["view"] == "PA", "bed")
    found = pitfalls.label_rules(table, ("seen", "sex"))["accuracy"]
    assert found["seen"] == 1 and abs(found["sex"] - 0.5) < 0.1
    assert found["(nothing)"] == pytest.approx(table["label"].value_counts(normalize=True).max(), abs=0.05)


# ---- probes ----


def test_a_box_is_the_smallest_around_the_lungs() -> None:
    lungs = np.zeros((2, 10, 10), bool)
    lungs[0, 2, 3] = lungs[0, 6, 8] = lungs[1, 5, 5] = True
    boxes = probes.lung_boxes(lungs)
    assert boxes[0, 2:7, 3:9].all() and boxes[0].sum() == 30 and boxes[1].sum() == 1


def test_found_boxes_hold_the_lungs_and_fall_back_where_there_are_none() -> None:
    table = pitfalls.draw_patients(20, 0)
    images, lungs = pitfalls.draw_films(table).images, pitfalls.draw_lungs(table)
    boxes = probes.found_boxes(images)
    assert boxes.shape == images.shape and boxes.dtype == bool
    held = (boxes & lungs).sum((1, 2)) / lungs.sum((1, 2))
    assert np.median(held) > 0.9 and len(np.unique(boxes.sum((1, 2)))) > 10  # not the same box on all
    flat = np.full((1, 64, 64), 128, np.uint8)
    assert np.array_equal(probes.found_boxes(flat), probes.central_box(flat))


def test_probes_see_only_their_part() -> None:
    films = pitfalls.draw_films(pitfalls.draw_patients(4, 0))
    boxes = probes.central_box(films.images)
    changed = Radiographs.from_arrays(np.where(boxes, films.images, 99), films.table, films.classes)
    inside = Radiographs.from_arrays(np.where(boxes, 99, films.images), films.table, films.classes)
    same = {name for name, probe in probes.PROBES.items() if np.array_equal(probe(films, boxes), probe(changed, boxes))}
    assert same == {"majority class", "file facts", "lungs only"}
    same = {name for name, probe in probes.PROBES.items() if np.array_equal(probe(films, boxes), probe(inside, boxes))}
    assert same == {"majority class", "file facts", "outer ring", "lungs blacked out"}


def test_the_table_finds_a_planted_file_size_and_takes_a_model() -> None:
    films = pitfalls.draw_films(pitfalls.draw_patients(60, 0, shortcuts={"size": 1.0}))
    perfect = Predictions(np.eye(2)[films.targets], films.targets, films.table, films.classes)
    some = {name: probes.PROBES[name] for name in ("majority class", "file facts")}
    found = probes.probe_table(films, probes=some, models={"perfect": perfect}, resamples=50)
    assert found.loc["file facts", "accuracy"] == found.loc["perfect", "accuracy"] == 1
    assert found.loc["majority class", "auroc"] == pytest.approx(0.5, abs=0.1)
    with pytest.raises(ValueError, match="bool"):
        probes.probe_table(films, boxes=np.ones((1, 2, 2), bool))
    with pytest.raises(ValueError, match="site has 1"):
        probes.relabel(films, "site")
    asked = probes.relabel(films, "view")
    assert asked.classes == tuple(sorted(films.table["view"].unique())) and len(asked) == 60


def test_groups_have_their_accuracy_and_wider_corrected_intervals() -> None:
    table = pitfalls.draw_patients(200, 0)
    women = (table["sex"] == "F").to_numpy(dtype=bool)
    said = Predictions(np.eye(2)[np.where(women, 0, 1)], np.zeros(200, int), table, ("covid", "normal"))
    found = probes.subgroups(said, ("sex", "age_band"), resamples=300).set_index("group")
    assert found.loc["F", "accuracy"] == 1 and found.loc["M", "accuracy"] == 0 and found.loc["F", "gap"] == 1
    assert (found["gap_low_all"] <= found["gap_low"]).all() and (found["gap_high_all"] >= found["gap_high"]).all()
    assert found.loc["60 and over", "films"] == (table["age"] >= 60).sum()
    assert list(probes.age_bands(pd.Series([39, 40, 59, 60, None])).fillna("?")) == [
        "under 40", "40 to 59", "40 to 59", "60 and over", "?"]


def test_mends_do_what_they_say() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (3, 64, 64)).astype(np.uint8)
    flat = probes.equalise(images)
    assert all((np.bincount(x.ravel(), minlength=256) == 16).all() for x in flat)
    distinct = np.arange(4096).reshape(1, 64, 64)
    assert np.array_equal(probes.equalise(distinct), probes.equalise(distinct**2))  # no tone curve survives
    box = np.zeros((3, 64, 64), bool)
    box[:, 16:48, 16:48] = True
    assert abs(probes.crop_to_boxes(np.where(box, 7, 200).astype(np.uint8), box) - 7.0).max() == 0
    with pytest.raises(ValueError, match="magic.*lung crop"):
        probes.measure_mend("marker", "magic")


def test_a_gallery_shows_the_surest_mistakes_first() -> None:
    import matplotlib.pyplot as plt

    films = pitfalls.draw_films(pitfalls.draw_patients(5, 0))
    share = np.array([0.6, 0.9, 0.7, 0.8, 0.55])
    wrong = 1 - films.targets
    said = np.stack([np.where(wrong == c, share, 1 - share) for c in range(2)], 1)
    figure = probes.plot_failures(films, Predictions(said, films.targets, films.table, films.classes), 2)
    assert [ax.get_title()[-3:] for ax in figure.axes[:2]] == ["90%", "80%"]
    plt.close(figure)
    with pytest.raises(ValueError, match="no mistake"):
        probes.plot_failures(films, Predictions(1 - said, films.targets, films.table, films.classes))
