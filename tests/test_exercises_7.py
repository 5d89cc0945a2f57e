"""The checks of chapter 7 are checked: right answers written in different ways pass, plausible mistakes fail, each with
the hint that belongs to it, and a stub counts as not started.
"""
from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from judged import AnswersAreJudged

from covid_xray.exercises import chapter7


def count_by_pandas(persons: list, parts: list) -> int:
    table = pd.DataFrame({"person": persons, "part": parts}).dropna()
    learnt = table.loc[table["part"] != "test", "person"]
    return int((table["part"].eq("test") & table["person"].isin(learnt)).sum())


def count_by_loop(persons: list, parts: list, sides: tuple = ("train", "valid"), unknown: bool = False) -> int:
    count = 0
    for i, part in enumerate(parts):
        if part == "test" and (persons[i] is not None or unknown):
            count += any(parts[j] in sides and persons[j] == persons[i] for j in range(len(parts)))
    return count


def rule_by_pandas(a: list, y: list, b: list, z: list) -> float:
    train = pd.DataFrame({"value": a, "label": y})
    rule = train.groupby("value")["label"].agg(lambda labels: labels.mode()[0])
    said = pd.Series(b).map(rule).fillna(train["label"].mode()[0])
    return (said == pd.Series(z)).mean()


def rule_by_hand(a: list, y: list, b: list, z: list, unseen: Any = "usual", choose: Any = min) -> float:
    def usual(labels: list) -> str:
        counts = Counter(labels)
        return choose(label for label in counts if counts[label] == max(counts.values()))

    seen = defaultdict(list)
    for value, label in zip(a, y):
        seen[value].append(label)
    said = [usual(seen[v]) if v in seen else usual(y) if unseen == "usual" else unseen for v in b]
    return sum(s == t for s, t in zip(said, z)) / len(z)


def scale_by_hand(train: np.ndarray, test: np.ndarray, ddof: int = 0) -> np.ndarray:
    spread = np.std(train, axis=0, ddof=ddof)
    spread[np.ptp(train, axis=0) == 0] = 1
    return (test - np.mean(train, axis=0)) / spread


def untie_by_pandas(sources: list, labels: list) -> np.ndarray:
    table = pd.DataFrame({"s": sources, "y": labels})
    share = {column: table[column].map(table[column].value_counts(normalize=True)) for column in "sy"}
    together = table.groupby(["s", "y"])["s"].transform("size") / len(table)
    return (share["s"] * share["y"] / together).to_numpy().copy()


def untie_by_loop(sources: list, labels: list) -> list[float]:
    n, both = len(labels), list(zip(sources, labels))
    return [sources.count(s) * labels.count(y) / n / both.count((s, y)) for s, y in both]


def rim_by_slices(images: np.ndarray, rim: int, value: int = 0) -> np.ndarray:
    result = images.copy()
    result[:, rim:-rim, rim:-rim] = value
    return result


def rim_by_padding(images: np.ndarray, rim: int) -> np.ndarray:
    inner = np.ones((images.shape[1] - 2 * rim, images.shape[2] - 2 * rim), bool)
    return images * ~np.pad(inner, rim)


def rim_in_place(images: np.ndarray, rim: int) -> np.ndarray:
    images[:, rim:-rim, rim:-rim] = 0
    return images


RIGHT: dict[str, list] = {
    "7.1": [count_by_pandas, count_by_loop],
    "7.2": [rule_by_pandas, rule_by_hand],
    "7.3": [scale_by_hand, lambda a, b: StandardScaler().fit(a).transform(b)],
    "7.4": [lambda v, t: t[np.unravel_index(np.argmax(v), v.shape)],
            lambda v, t: t.flatten()[v.flatten().tolist().index(v.max())]],
    "7.5": [lambda a, r, n: a * (1 - r) + (1 - a) * r / (n - 1),
            lambda a, r, n: np.dot(np.r_[a, np.full(n - 1, (1 - a) / (n - 1))],
                                   np.r_[1 - r, np.full(n - 1, r / (n - 1))])],
    "7.6": [untie_by_pandas, untie_by_loop],
    "7.7": [lambda k, a: (1 - (1 - a)**k, a / k), lambda k, a: [-np.expm1(k * np.log1p(-a)), a / k]],
    "7.8": [rim_by_slices, rim_by_padding],
}

WRONG: dict[str, list[tuple[Any, str]]] = {
    "7.1": [(lambda p, s: len({x for x, t in zip(p, s) if t == "test" and x}
                              & {x for x, t in zip(p, s) if t != "test"}), "those are the persons"),
            (lambda p, s: count_by_loop(p, s, ("train",)), "validation part is known"),
            (lambda p, s: count_by_loop(p, s, unknown=True), "is nobody"),
            (lambda p, s: count_by_loop(p, ["test" if t != "test" else "train" for t in s]), "count the test films"),
            (lambda p, s: 0, "three test films")],
    "7.2": [(lambda a, y, b, z: rule_by_hand(a, y, a, y), "learnt from"),
            (lambda a, y, b, z: rule_by_hand(b, z, b, z), "test films themselves"),
            (lambda *a: rule_by_hand(*a, unseen="?"), "isn't simply wrong"),
            (lambda *a: rule_by_hand(*a, choose=max), "alphabetical"),
            (lambda *a: 100 * rule_by_hand(*a), "100"), (lambda *a: rule_by_hand(*a) * len(a[3]), "what share"),
            (lambda a, y, b, z: rule_by_hand([0] * len(y), y, [0] * len(z), z), "aren't used"),
            (lambda *a: 0.5, "largest count")],
    "7.3": [(lambda a, b: scale_by_hand(b, b), "nobody has them"),
            (lambda a, b: scale_by_hand(np.vstack([a, b]), b), "leaked"),
            (lambda a, b: scale_by_hand(a, a), "training films were scaled"),
            (lambda a, b: b - a.mean(0), "spread, too"),
            (lambda a, b: (b - a.mean()) / a.std(), "axis=0"), (lambda a, b: scale_by_hand(a, b, 1), "n - 1"),
            (lambda a, b: b, "in place of")],
    "7.4": [(lambda v, t: t.max(), "has chosen"), (lambda v, t: v.max(), "too good itself"),
            (lambda v, t: t[np.arange(len(v)), v.argmax(1)].max(), "then the best"),
            (lambda v, t: t[np.arange(len(v)), v.argmax(1)].mean(), "one network"),
            (lambda v, t: t[v[:, -1].argmax(), -1], "last one"), (lambda v, t: 0.7, "at that place")],
    "7.5": [(lambda a, r, n: 1 - r, "ceiling"), (lambda a, r, n: a * (1 - r), "almost"),
            (lambda a, r, n: a * (1 - r) + (1 - a) * r, "same class"), (lambda a, r, n: a - r, "subtracted"),
            (lambda a, r, n: a * (1 - r) + (1 - a) * r / n, "not n_classes"), (lambda a, r, n: a, "true accuracy")],
    "7.6": [(lambda s, y: 1 / untie_by_pandas(s, y), "upside down"),
            (lambda s, y: [len(y) / list(zip(s, y)).count(pair) for pair in zip(s, y)], "lost their shares"),
            (lambda s, y: [len(y) / y.count(label) for label in y], "labels alone"),
            (lambda s, y: untie_by_pandas(s, y) * len(y), "average 1"), (lambda s, y: np.ones(len(y)), "for each film"),
            (lambda s, y: [y.count(b) / list(zip(s, y)).count((a, b)) for a, b in zip(s, y)], "source is missing")],
    "7.7": [(lambda k, a: ((1 - a)**k, a / k), "nothing is found"), (lambda k, a: (k * a, a / k), "add up"),
            (lambda k, a: (1 - (1 - a)**k, 1 - (1 - a)**(1 / k)), "Sidak"), (lambda k, a: (a**k, a / k), "all raise"),
            (lambda k, a: (1 - (1 - a)**k, a * k), "divides"), (lambda k, a: 1 - (1 - a)**k, "two numbers"),
            (lambda k, a: (a, a), "20 groups")],
    "7.8": [(rim_in_place, "have changed"), (lambda x, r: x - rim_by_slices(x, r), "other way round"),
            (lambda x, r: rim_by_slices(x, r + 1), "too wide"), (lambda x, r: rim_by_slices(x, r, 255), "not white"),
            (lambda x, r: x[:, r:-r, r:-r], "not cut out"), (lambda x, r: x, "copy the films")],
}


class TestChapter7(AnswersAreJudged):
    chapters, right, wrong = {7: chapter7}, RIGHT, WRONG


def test_the_numbers_of_the_text() -> None:
    "0.73 for 3 classes, by drawing 200,000 films; 64 % for twenty looks"
    rng = random.Random(0)
    hits = 0
    for _ in range(200_000):
        said = 0 if rng.random() < 0.9 else rng.choice([1, 2])
        label = 0 if rng.random() >= 0.2 else rng.choice([1, 2])
        hits += said == label
    assert hits / 200_000 == pytest.approx(0.73, abs=0.004)
    assert 1 - 0.95**20 == pytest.approx(0.64, abs=0.002)
