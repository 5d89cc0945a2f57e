"""The checks of chapter 9 are checked: right answers written in different ways pass, plausible mistakes fail, each with
the hint that belongs to it, and a stub counts as not started.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats

from judged import AnswersAreJudged

from covid_xray.bundle import prediction_sets
from covid_xray.exercises import chapter9
from covid_xray.models import Predictions
from covid_xray.monitoring import bin_counts


def decide_by_sorting(probabilities: dict, label: str, threshold: float) -> str:
    ranked = sorted(probabilities, key=lambda name: -probabilities[name])
    return label if probabilities[label] >= threshold else [name for name in ranked if name != label][0]


def decide_by_loop(probabilities: dict, label: str, threshold: float) -> str:
    if not probabilities[label] < threshold:
        return label
    best = None
    for name, value in probabilities.items():
        if name != label and (best is None or value > probabilities[best]):
            best = name
    return best


def prevalence_by_odds(probability: float, learnt: float, here: float) -> float:
    odds = probability / (1 - probability) * (here / (1 - here)) / (learnt / (1 - learnt))
    return odds / (1 + odds)


def prevalence_by_logs(probability: float, learnt: float, here: float) -> float:
    logit = lambda p: math.log(p / (1 - p))  # noqa: E731
    return 1 / (1 + math.exp(-(logit(probability) + logit(here) - logit(learnt))))


def lowest_by_sorting(true: Any, coverage: float, extra: int = 1, up: Any = math.ceil) -> float:
    falling = sorted(true, reverse=True)
    rank = int(up((len(falling) + extra) * coverage))
    return falling[rank - 1] if rank <= len(falling) else 0.0


def lowest_by_the_library(true: Any, coverage: float) -> float:
    import pandas as pd

    true = np.asarray(true, float)
    said = Predictions(np.column_stack([true, 1 - true]), np.zeros(len(true), int),
                       pd.DataFrame({"person": [f"p{i}" for i in range(len(true))]}), ("a", "b"))
    found = prediction_sets(said, coverage)["lowest"]
    return min((p for p in (*true, 0.0)), key=lambda p: abs(p - found))


def pose_by_numpy(picture: np.ndarray, average: np.ndarray) -> int:
    fits = [np.corrcoef(np.rot90(picture, k).ravel(), average.ravel())[0, 1] for k in range(4)]
    return fits.index(max(fits))


def pose_by_scipy(picture: np.ndarray, average: np.ndarray, sign: int = 1) -> int:
    return int(np.argmax([sign * stats.pearsonr(np.rot90(picture, k).ravel(), average.ravel())[0] for k in range(4)]))


def header_by_struct(content: bytes) -> bool:
    import struct

    if len(content) < 9:
        return False
    (length,) = struct.unpack("<Q", content[:8])
    return 8 + length <= len(content) and content[8] == ord("{")


def header_by_slice(content: bytes) -> bool:
    length = int.from_bytes(content[:8], "little")
    return content[8:9] == b"{" and len(content[8:]) >= length


def drift_by_scipy(values: np.ndarray, deciles: np.ndarray) -> float:
    return float(stats.chisquare(bin_counts(values, deciles)).statistic)


def drift_by_histogram(values: np.ndarray, deciles: np.ndarray) -> float:
    edges = [-np.inf, *deciles[1:-1], np.inf]
    seen = np.histogram(values, edges)[0]
    return float(sum((n - len(values) / 10)**2 for n in seen) / (len(values) / 10))


def fuse_by_bayes(film: float, positive: bool, sensitivity: float, specificity: float) -> float:
    if positive:
        return film * sensitivity / (film * sensitivity + (1 - film) * (1 - specificity))
    return film * (1 - sensitivity) / (film * (1 - sensitivity) + (1 - film) * specificity)


def fuse_by_ratio(film: float, positive: bool, sensitivity: float, specificity: float) -> float:
    ratio = sensitivity / (1 - specificity) if positive else (1 - sensitivity) / specificity
    odds = film / (1 - film) * ratio
    return odds / (1 + odds)


RIGHT: dict[str, list] = {
    "9.1": [decide_by_sorting, decide_by_loop],
    "9.2": [prevalence_by_odds, prevalence_by_logs],
    "9.3": [lowest_by_sorting, lowest_by_the_library],
    "9.4": [pose_by_numpy, pose_by_scipy],
    "9.5": [header_by_struct, header_by_slice],
    "9.6": [drift_by_scipy, drift_by_histogram],
    "9.7": [fuse_by_bayes, fuse_by_ratio],
}

WRONG: dict[str, list[tuple[Any, str]]] = {
    "9.1": [(lambda p, l, t: max(p, key=p.get), "wasn't used"),
            (lambda p, l, t: l if p[l] > t else decide_by_loop(p, l, 2), "(>=)"),
            (lambda p, l, t: l if p[l] >= t else max(p, key=p.get), "is out"),
            (lambda p, l, t: p[l] >= t, "True or False"),
            (lambda p, l, t: l if p[l] >= t else "normal", "doesn't mean"),
            (lambda p, l, t: l, "give covid")],
    "9.2": [(lambda p, a, b: prevalence_by_odds(p, b, a), "changed places"), (lambda p, a, b: p * b / a, "odds"),
            (lambda p, a, b: p * b / (p * b + (1 - p) * (1 - b)), "divide that out"),
            (lambda p, a, b: p, "nothing was changed"), (lambda p, a, b: 0.5, "0.32"),
            (lambda p, a, b: (p * b / a) / (p * b / a + 1 - p), "weighed as well")],
    "9.3": [(lambda p, c: lowest_by_sorting(p, c, 0), "n + 1"),
            (lambda p, c: lowest_by_sorting(p, c, 1, math.floor), "up"),
            (lambda p, c: 1 - lowest_by_sorting(p, c), "1 minus it"), (lambda p, c: np.quantile(p, c), "wrong end"),
            (lambda p, c: np.quantile(p, 1 - c), "interpolates"), (lambda p, c: 0.5, "counted from 1")],
    "9.4": [(lambda x, m: (4 - pose_by_numpy(x, m)) % 4, "turned *back*"),
            (lambda x, m: pose_by_scipy(x, m, -1), "worst"),
            (lambda x, m: int(np.argmin([np.abs(np.rot90(x, k) - m).sum() for k in range(4)])), "by correlation"),
            (lambda x, m: 90 * pose_by_numpy(x, m), "degrees"), (lambda x, m: 0, "return the best k")],
    "9.5": [(lambda c: int.from_bytes(c[:8], "big") <= len(c) - 8 and c[8:9] == b"{", "little-endian"),
            (lambda c: int.from_bytes(c[:8], "little") <= len(c) and c[8:9] == b"{", "len(content) - 8"),
            (lambda c: len(c) > 8 and int.from_bytes(c[:8], "little") <= len(c) - 8, "opens with a brace"),
            (lambda c: c[8:9] == b"{", "believed"), (lambda c: True, "nothing was"),
            (lambda c: False, "everything was")],
    "9.6": [(lambda v, d: stats.chisquare(bin_counts(v, d)).statistic / 10, "take the sum"),
            (lambda v, d: stats.chisquare(bin_counts(v, d)).statistic / len(v), "about counts"),
            (lambda v, d: ((bin_counts(v, d) - len(v) / 10)**2).sum(), "divide by the expected"),
            (lambda v, d: np.abs(bin_counts(v, d) - len(v) / 10).sum() / (len(v) / 10), "square the"),
            (lambda v, d: ((np.histogram(v, d)[0] - len(v) / 10)**2).sum() / (len(v) / 10), "outermost"),
            (lambda v, d: 0.0, "ten counts")],
    "9.7": [(lambda f, r, a, b: fuse_by_bayes(f, True, a, b), "negative result"),
            (lambda f, r, a, b: fuse_by_bayes(f, not r, a, b), "results have changed"),
            (lambda f, r, a, b: (f + (a if r else 1 - a)) / 2, "a mean"),
            (lambda f, r, a, b: fuse_by_bayes(0.5, r, a, b), "left out"),
            (lambda f, r, a, b: f * (a if r else 1 - a), "divide by"),
            (lambda f, r, a, b: fuse_by_bayes(f, r, b, a), "wrong place"), (lambda f, r, a, b: f, "0.65")],
}


class TestChapter9(AnswersAreJudged):
    chapters, right, wrong = {9: chapter9}, RIGHT, WRONG


def test_the_numbers_of_the_text() -> None:
    "0.9 learnt at 0.5 is 0.32 at 0.05; a film of 0.9 with a negative PCR is 0.65"
    assert round(prevalence_by_odds(0.9, 0.5, 0.05), 2) == 0.32
    assert round(fuse_by_bayes(0.9, False, 0.8, 0.99), 2) == 0.65
