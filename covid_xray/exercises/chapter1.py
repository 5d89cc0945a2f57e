"""The exercises of chapter 1, data: from the pixels of one film to an honest split."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from covid_xray.exercises import Exercise
from covid_xray.exercises.judging import hint_for, matches

__all__ = ["EXERCISES"]

NOTHING = "your function gives back None: end it with `return`"
CHANGED = "your function changed the film it was given: work on a new array"


def _films(low: int, high: int) -> list[np.ndarray]:
    "Small random films of several shapes; neither black nor white stands in them where low > 0 and high < 255"
    rng = np.random.default_rng(11)
    return [rng.integers(low, high, shape).astype(np.uint8) for shape in [(5, 7), (8, 8), (3, 11)]]


def _kind(value: Any) -> str:
    "The dtype of an array or tensor, without torch's prefix; empty for anything else"
    return str(getattr(value, "dtype", "")).removeprefix("torch.")


def judge_batch(to_batch: Callable) -> str | None:
    "1.1: the input contract, float32 [1, 1, H, W] in 0..1"
    for film in [*_films(20, 200), np.full((4, 6), 255, np.uint8)]:
        given = film.copy()
        batch, values = to_batch(given), film.astype(float)
        if batch is None:
            return NOTHING
        if not np.array_equal(given, film):
            return CHANGED
        got = np.asarray(batch, dtype=float)
        if got.shape != (1, 1, *film.shape):
            return f"the shape is {got.shape}: a batch has four axes: films, channels, height, width"
        if not matches(got[0, 0], values / 255):
            spread = max(float(np.ptp(values)), 1.0)
            return hint_for(got[0, 0], {
                "the values still reach up to 255: divide by 255": values,
                "you divide by this film's own largest value: then a dark film looks like a light one; divide by 255":
                    values / values.max(),
                "you stretch each film to its own range: then brightness means nothing; divide by 255":
                    (values - values.min()) / spread,
                "whole-number division leaves 0: use / instead of //": values // 255,
            }, "each grey value divided by 255, in its own place")
        if _kind(batch) != "float32":
            return f"the numbers are {_kind(batch) or type(batch).__name__}: a batch is an array or tensor of float32"
    return None


def judge_negative(negative: Callable) -> str | None:
    "1.2: MONOCHROME1 to MONOCHROME2"
    for film in [*_films(30, 180), np.arange(256, dtype=np.uint8).reshape(16, 16)]:
        given = film.copy()
        got = negative(given)
        if got is None:
            return NOTHING
        if not np.array_equal(given, film):
            return CHANGED
        if not matches(got, 255 - film.astype(int)):
            return hint_for(got, {
                "that is the film as it was": film,
                "black must become 255, not this film's own largest value: subtract from 255":
                    film.max() - film.astype(int),
                "a negative of uint8 wraps around: -1 becomes 255, but -0 stays 0; subtract from 255": -film,
                "grey values are never below 0: subtract from 255": -film.astype(int),
                "you turned the picture round, not its greys": film[::-1, ::-1],
            }, "black (0) becomes white (255), white becomes black, and all between in a straight line")
        if _kind(got) != "uint8":
            return f"the greys are right, but the dtype is {_kind(got) or type(got).__name__}: give back uint8"
    return None


def _hospital_tables() -> list[pd.DataFrame]:
    "Tables in which films, persons, and patient numbers differ in count"
    rows = [("covid", "1", "a"), ("covid", "1", "a"), ("covid", "1", "b"), ("normal", "2", "c"), ("normal", "2", "c"),
            ("normal", "2", "c"), ("normal", "1", "a"), ("pneumonia", "3", "d"), ("pneumonia", "1", "e"),
            ("pneumonia", "1", "f"), ("pneumonia", "3", "d")]
    table = pd.DataFrame(rows, columns=["label", "patient", "person"]).astype("string")
    other = table.assign(label=table["label"].replace({"covid": "oedema", "pneumonia": "effusion"}))
    return [table, other.iloc[::-1].reset_index(drop=True), table.iloc[[0, 3, 4, 7, 8, 9]]]


def judge_patients(patients_per_class: Callable) -> str | None:
    "1.3: persons, not films"
    for table in _hospital_tables():
        pairs = list(zip(table["label"], table["person"]))
        labels = sorted(set(table["label"]))
        found = patients_per_class(table.copy())
        if found is None:
            return NOTHING
        found = found.squeeze(axis=1) if isinstance(found, pd.DataFrame) else found
        if not isinstance(found, (dict, pd.Series)):
            return f"give back a dict or a Series from label to count; a {type(found).__name__} came"
        found = {str(label): float(count) for label, count in dict(found).items()}
        if sorted(found) != labels:
            return f"the labels of this table are {labels}; your answer has {sorted(found)}"
        got, once = [found[label] for label in labels], table.drop_duplicates("person")
        if not matches(got, [len({person for name, person in pairs if name == label}) for label in labels]):
            return hint_for(got, {
                "you count films: somebody with three films counts once": [
                    sum(name == label for name, _ in pairs) for label in labels],
                "you count `patient`: two hospitals both have a number 1; `person` tells them apart": [
                    table.loc[table["label"] == label, "patient"].nunique() for label in labels],
                "somebody with films in two classes counts in both: don't drop persons before grouping": [
                    (once["label"] == label).sum() for label in labels],
                "that is the number of persons in the whole table: group by label first": [
                    table["person"].nunique()] * len(labels),
            }, "for each label, how many different values of `person` its films have")
    return None


def judge_window(window: Callable) -> str | None:
    "1.4: a DICOM window; the formula of DICOM PS3.3 C.11.2.1.2 and the one without its half steps both pass"
    rng = np.random.default_rng(4)
    for centre, width in [(2000, 1000), (1500, 2400), (30000, 8000)]:
        values = rng.integers(0, 4 * centre // 2, (12, 9)).astype(np.uint16)
        values[0, :3] = [0, centre, 2 * centre + 5000]
        given, exact = values.copy(), values.astype(float)
        got = window(given, centre, width)
        if got is None:
            return NOTHING
        if not np.array_equal(given, values):
            return CHANGED
        shown = np.asarray(got, dtype=float)
        if shown.shape != values.shape:
            return f"the shape is {shown.shape}: it stays {values.shape}"
        if not matches(shown, _windowed(exact, centre - width / 2, width), 1.3):
            black, white = exact < centre - width / 2 - 1, exact > centre + width / 2 + 1
            doubled, late = _windowed(exact, centre - width, 2 * width), _windowed(exact, centre, width)
            own = _windowed(exact, exact.min(), np.ptp(exact))
            general = "0 at centre - width / 2, 255 at centre + width / 2, a straight line between"
            if (shown[black] > 1).any() or (shown[white] < 254).any():
                general = ("beyond the window must be 0 below and 255 above: turn to float first (unsigned numbers "
                           "have no negatives), clip, and only then make uint8")
            return hint_for(shown, {
                "the width is the whole window: half of it lies on each side of the centre": doubled,
                "the centre is the middle of the window, not its lower end": late,
                "you stretch from the film's own darkest to its lightest value: the window must decide": own,
                "0 to 1 is not yet a grey value: multiply by 255": _windowed(exact, centre - width / 2, width) / 255,
            }, general, 1.3 if shown.max() > 1 else 0.01)
        if _kind(got) != "uint8":
            return f"the greys are right, but the dtype is {_kind(got) or type(got).__name__}: give back uint8"
    return None


def _windowed(values: np.ndarray, low: float, width: float) -> np.ndarray:
    return np.clip((values - low) / width, 0, 1) * 255


def judge_leak(leaked_share: Callable) -> str | None:
    "1.5: the share of test films whose person is in training"
    for train, test in [("aabcce", "aaadb"), ("xxyyyz", "uvw"), ("pqr", "qqqp"), ("kklm", "nnnnnnk")]:
        result = leaked_share(pd.Series(list(train), dtype="string"), pd.Series(list(test), dtype="string"))
        if result is None:
            return NOTHING
        both, leaked = set(train) & set(test), sum(person in train for person in test)
        if not matches(result, leaked / len(test)):
            return hint_for(result, {
                "that is the number of films: divide by the number of test films": leaked,
                "a share lies between 0 and 1: that is in per cent": 100 * leaked / len(test),
                "you count persons: somebody with three test films spoils three films": len(both) / len(set(test)),
                "that is the share of the training films: ask it of the test films":
                    sum(person in test for person in train) / len(train),
                "you divide by all films: divide by the number of test films": leaked / (len(train) + len(test)),
                "that is the share that is clean: the others are the leak": 1 - leaked / len(test),
            }, "of all test films, the share whose person has a film in training")
    return None


def judge_file_rule(guess: Callable) -> str | None:
    "1.6: above 90 % on DarkCovidNet's 1,125 films from three facts of the file"
    from covid_xray.sources import CLASSES, manifest

    facts = manifest("darkcovidnet")
    told = [guess(int(row.width), int(row.height), int(row.bytes)) for row in facts.itertuples()]
    if any(name is None for name in told):
        return "for some films your rule gives back None: let it end with a guess for all others"
    if strange := {str(name) for name in told} - set(CLASSES):
        return f"{sorted(strange)[0]!r} is no label: the labels are {', '.join(CLASSES)}"
    right, label = np.array([str(name) for name in told]) == facts["label"].to_numpy(dtype=str), facts["label"]
    by_class = {name: float(right[(label == name).to_numpy(dtype=bool)].mean()) for name in CLASSES}
    if right.mean() > 0.9:
        return None
    said = f"{right.mean():.1%} of the films are right; "
    if by_class["covid"] < 0.99:
        return said + "begin with COVID-19: no such file is 1024 x 1024, and all others are"
    if max(by_class["normal"], by_class["pneumonia"]) > 0.99 and min(by_class["normal"], by_class["pneumonia"]) < 0.01:
        return said + "all square films get one label: compare the `bytes` of the other two (1 KiB is 1,024 bytes)"
    if by_class["normal"] < 0.5 and by_class["pneumonia"] < 0.5:
        return said + "the other two are the wrong way round: which has the larger files?"
    return said + "move the limit: where do the file sizes of normal films end, sharply?"


def judge_equalise(equalise: Callable) -> str | None:
    "1.7: histogram equalisation; the form that sends the darkest value to 0 (as OpenCV has it) passes too"
    rng = np.random.default_rng(2)
    dark = np.clip(rng.gamma(4, 12, (40, 50)), 5, 190).astype(np.uint8)
    framed = np.pad(rng.integers(60, 200, (30, 30)), 6).astype(np.uint8)
    for film in (dark, framed, np.repeat(np.array([[10, 20], [20, 200]], np.uint8), 8, axis=0)):
        given = film.copy()
        got = equalise(given)
        if got is None:
            return NOTHING
        if not np.array_equal(given, film):
            return CHANGED
        share = np.array([(film <= grey).mean() for grey in range(256)])
        first = share[film.min()]
        if not (matches(got, 255 * share[film], 1) or matches(got, 255 * (share[film] - first) / (1 - first), 1)):
            low, high = float(film.min()), float(film.max())
            own_bins = np.histogram(film, 256)[0].cumsum() / film.size
            counts = np.bincount(film.ravel(), minlength=256).cumsum()
            return hint_for(got, {
                "that is the film as it was": film,
                "that stretches the range: equalising bends it, by how many pixels each grey value has":
                    (film - low) / (high - low) * 255,
                "a share lies between 0 and 1: multiply by 255 before you make uint8": share[film].astype(int),
                "these are counts, cut to 8 bits: divide by the number of pixels first": counts[film].astype(np.uint8),
                "light and dark have changed places: count the pixels that are as dark or darker":
                    255 * (1 - share[film]),
                "your bins span the film's own range: count with np.bincount(..., minlength=256) or range=(0, 256)":
                    255 * own_bins[film],
            }, "each grey value becomes 255 times the share of pixels that are as dark or darker", 1)
        if _kind(got) != "uint8":
            return f"the greys are right, but the dtype is {_kind(got) or type(got).__name__}: give back uint8"
    return None


def judge_deal(deal_patients: Callable) -> str | None:
    "1.8: whole persons, in the wanted share, by the seed"
    rng = np.random.default_rng(6)
    names = np.array([f"person {number}" for number in range(150)])
    persons = pd.Series(rng.permutation(np.repeat(names, rng.integers(1, 6, 150))), dtype="string")
    sides = {}
    for fraction, seed in [(0.7, 0), (0.7, 1), (0.7, 2), (0.3, 3)]:
        first, again = (deal_patients(persons.copy(), fraction, seed) for _ in range(2))
        if first is None:
            return NOTHING
        side = np.asarray(first)
        if side.shape != (len(persons),) or not np.isin(side, [0, 1]).all():
            return f"give back one True or False a film, {len(persons)} of them; the shape is {side.shape}"
        side = side.astype(float)
        if pd.Series(side).groupby(persons.to_numpy(dtype=str)).nunique().max() > 1:
            return "somebody stands on both sides: draw for each person, then give all films of that person the same"
        share = float(pd.Series(side).groupby(persons.to_numpy(dtype=str)).first().mean())
        if abs(share - fraction) > 0.12:
            mirrored = abs(1 - share - fraction) <= 0.12
            return ("True means training: you have it the other way round" if mirrored
                    else f"{share:.0%} of the persons are in training, {fraction:.0%} are wanted")
        if not matches(again, side):
            return "the same seed gave two different splits: draw from np.random.default_rng(seed)"
        sides[fraction, seed] = side
    if matches(sides[0.7, 0], sides[0.7, 1]) or matches(sides[0.7, 1], sides[0.7, 2]):
        return "two seeds gave the same split: let the seed decide who goes where"
    return None


EXERCISES: tuple[Exercise, ...] = (
    Exercise("1.1", "A film as a batch", judge_batch),
    Exercise("1.2", "From negative to positive", judge_negative),
    Exercise("1.3", "Patients, not films", judge_patients),
    Exercise("1.4", "A window on 16 bits", judge_window),
    Exercise("1.5", "How much leaks", judge_leak),
    Exercise("1.6", "A diagnosis without pixels", judge_file_rule),
    Exercise("1.7", "Equalise a histogram", judge_equalise),
    Exercise("1.8", "Deal the patients", judge_deal),
)
