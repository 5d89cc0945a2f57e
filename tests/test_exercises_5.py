"""The checks of chapter 5 are checked: right answers written in different ways pass, plausible mistakes fail, each with
the hint that belongs to it, and a stub counts as not started.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as reference

from judged import AnswersAreJudged

from covid_xray import exercises, intervals, metrics
from covid_xray.exercises import chapter5

NAN = float("nan")
ALL_CHAPTERS = exercises._CHAPTERS


def counts_by_sums(sick: np.ndarray, called: np.ndarray) -> tuple:
    return (sick & called).sum(), (~sick & called).sum(), (sick & ~called).sum(), (~sick & ~called).sum()


def counts_one_by_one(sick: np.ndarray, called: np.ndarray) -> list[int]:
    heaps = {(True, True): 0, (False, True): 0, (True, False): 0, (False, False): 0}
    for pair in zip(sick.tolist(), called.tolist()):
        heaps[pair] += 1
    return list(heaps.values())


def ratios_by_hand(confusion: np.ndarray, index: int, nothing: float = NAN) -> tuple[float, float]:
    right, row, column = confusion[index, index], confusion[index].sum(), confusion[:, index].sum()
    return right / row if row else nothing, right / column if column else nothing


def ratios_by_the_library(confusion: np.ndarray, index: int) -> tuple[float, float]:
    return metrics.recall(confusion)[index], metrics.precision(confusion)[index]


def hundred_called(sensitivity: float, specificity: float, prevalence: float) -> float:
    called_sick, called_healthy = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    return 100 * called_sick / (called_sick + called_healthy)


def hundred_called_by_odds(sensitivity: float, specificity: float, prevalence: float) -> float:
    odds = prevalence / (1 - prevalence) * sensitivity / (1 - specificity)
    return 100 * odds / (1 + odds)


def area_by_pairs(sick: np.ndarray, scores: np.ndarray, tie: float = 0.5) -> float:
    return np.mean([(a > b) + tie * (a == b) for a in scores[sick] for b in scores[~sick]])


def area_by_ranks(sick: np.ndarray, scores: np.ndarray) -> float:
    ranks = pd.Series(scores).rank().to_numpy()
    n = sick.sum()
    return (ranks[sick].sum() - n * (n + 1) / 2) / (n * (len(sick) - n))


def threshold_by_sorting(sick: np.ndarray, scores: np.ndarray, sensitivity: float, start: int = 0) -> float:
    return sorted(scores[sick], reverse=True)[max(math.ceil(sensitivity * sick.sum()) - 1 + start, 0)]


def threshold_by_trying(sick: np.ndarray, scores: np.ndarray, sensitivity: float) -> float:
    return max(t for t in scores if (scores[sick] >= t).mean() >= sensitivity)


def error_by_bins(sure: np.ndarray, right: np.ndarray, bins: int, power: float = 1, weigh: bool = True) -> float:
    total, used = 0.0, 0
    for b in range(bins):
        inside = (sure >= b / bins) & ((sure < (b + 1) / bins) | (b == bins - 1))
        if inside.any():
            gap = abs(sure[inside].mean() - right[inside].mean())**power
            total, used = total + gap * (inside.mean() if weigh else 1), used + 1
    return total if weigh else total / used


def error_by_pandas(sure: np.ndarray, right: np.ndarray, bins: int) -> float:
    films = pd.DataFrame({"gap": sure - right, "bin": np.minimum(sure * bins, bins - 1).astype(int)})
    return films.groupby("bin").gap.sum().abs().sum() / len(films)


def signed_error(sure: np.ndarray, right: np.ndarray, bins: int) -> float:
    films = pd.DataFrame({"gap": sure - right, "bin": np.minimum(sure * bins, bins - 1).astype(int)})
    return films.groupby("bin").gap.sum().sum() / len(films)


def wilson_by_roots(found: int, of: int) -> np.ndarray:
    z2, share = 1.959963985**2, found / of  # (s - p)^2 n = z^2 p (1 - p) as a polynomial in p
    roots = np.sort(np.roots([of + z2, -(2 * of * share + z2), of * share**2]).real)
    return roots.clip(0, 1)


def wald(found: int, of: int, clip: bool = False, root: bool = True) -> tuple[float, float]:
    share = found / of
    half = 1.959963985 * math.sqrt(share * (1 - share) / (of if root else 1))
    return tuple(np.clip([share - half, share + half], 0, 1)) if clip else (share - half, share + half)


def people_by_choice(person: np.ndarray, seed: int) -> np.ndarray:
    names = np.unique(person)
    drawn = np.random.default_rng(seed).choice(names, len(names))
    return np.concatenate([np.flatnonzero(person == name) for name in drawn])


def people_by_counts(person: np.ndarray, seed: int) -> np.ndarray:
    numbers, names = pd.factorize(person)
    times = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)))
    return np.repeat(np.arange(len(person)), times[numbers])


def draw_some(names: Callable = np.unique, many: Callable = len, replace: bool = True, seeded: bool = True) -> Callable:
    "People drawn with one mistake or another"
    def draw(person: np.ndarray, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed if seeded else 7)
        drawn = rng.choice(names(person), many(np.unique(person)), replace=replace)
        return np.concatenate([np.flatnonzero(person == name) for name in drawn])

    return draw


RIGHT = {
    "5.1": [counts_by_sums, counts_one_by_one],
    "5.2": [ratios_by_hand, ratios_by_the_library],
    "5.3": [hundred_called, hundred_called_by_odds, lambda *a: 100 * metrics.predictive_values(*a)[0]],
    "5.4": [area_by_pairs, area_by_ranks, metrics.auroc],
    "5.5": [threshold_by_sorting, threshold_by_trying],
    "5.6": [error_by_bins, error_by_pandas],
    "5.7": [wilson_by_roots, intervals.wilson],
    "5.8": [people_by_choice, people_by_counts],
}

WRONG: dict[str, list[tuple[Any, str]]] = {  # a mistake, and words of its hint
    "5.1": [(lambda sick, called: counts_by_sums(called, sick), "swapped"),
            (lambda sick, called: reference.confusion_matrix(sick, called, labels=[False, True]).ravel(), "come first"),
            (lambda sick, called: np.array(counts_by_sums(sick, called))[[0, 3, 1, 2]], "another order"),
            (lambda sick, called: np.divide(counts_by_sums(sick, called), len(sick)), "shares"),
            (lambda sick, called: (sick.sum(), called.sum(), (~called).sum(), (~sick).sum()), "margins"),
            (lambda sick, called: (1, 2, 3, 4), "four sums"), ((8, 2, 1, 19), "without brackets")],
    "5.2": [(lambda c, i: ratios_by_hand(c, i)[::-1], "swapped"),
            (lambda c, i: ratios_by_hand(c, i, nothing=0), "is not 0"),
            (lambda c, i: ratios_by_hand(c, i, nothing=1), "is not 1"),
            (lambda c, i: (np.trace(c) / c.sum(),) * 2, "accuracy"),
            (lambda c, i: (c[i, i] / c.sum(),) * 2, "not by all films"),
            (lambda c, i: (ratios_by_hand(c, i)[0],) * 2, "down the column"),
            (lambda c, i: None, "return"), (lambda c, i: (0.5, 0.5), "9/14")],
    "5.3": [(lambda s, c, p: hundred_called(s, c, p) / 100, "share"), (lambda s, c, p: 100 * s, "sensitivity"),
            (lambda s, c, p: 100 * s / (s + 1 - c), "half the people"),
            (lambda s, c, p: 100 * s * p / (s * p + c * (1 - p)), "the healthy who are called"),
            (lambda s, c, p: 100 * metrics.predictive_values(s, c, p)[1], "cleared"),
            (lambda s, c, p: 100 - hundred_called(s, c, p), "those who are healthy"),
            (lambda s, c, p: 100 * s * p, "in all"), (lambda s, c, p: 100 * s * p / (s * p + 1 - c), "come from"),
            (lambda s, c, p: 50.0, "1,080")],
    "5.4": [(lambda sick, s: area_by_pairs(sick, s, tie=0), "not nothing"),
            (lambda sick, s: area_by_pairs(sick, s, tie=1), "not one"),
            (lambda sick, s: area_by_pairs(~sick, s), "healthy film scores higher"),
            (lambda sick, s: area_by_pairs(sick, s) * sick.sum() * (~sick).sum(), "divide by the number"),
            (lambda sick, s: ((s > 0.5) == sick).mean(), "accuracy"), (lambda sick, s: 0.9, "8.5 of 9")],
    "5.5": [(lambda sick, s, w: s.min(), "lowest"),
            (lambda sick, s, w: sorted(s, reverse=True)[math.ceil(w * len(s)) - 1], "sick only"),
            (lambda sick, s, w: sorted(s[sick])[::-1][min(math.ceil(w * sick.sum()), sick.sum() - 1)], "too many"),
            (lambda sick, s, w: sorted(s[sick])[::-1][math.floor(w * sick.sum()) - 1], "round the number"),
            (lambda sick, s, w: np.quantile(s[sick], 1 - w), "quantile"),
            (lambda sick, s, w: sorted(s[sick])[math.ceil(w * sick.sum()) - 1], "other end"),
            (lambda sick, s, w: 0.5, "the ninth")],
    "5.6": [(lambda *a: error_by_bins(*a, weigh=False), "weigh"), (signed_error, "cancel"),
            (lambda *a: -signed_error(*a), "cancel"),
            (lambda sure, right, bins: abs(sure.mean() - right.mean()), "all films at once"),
            (lambda *a: error_by_bins(*a, power=2), "squared"),
            (lambda sure, right, bins: abs(sure - right).mean(), "a single film"),
            (lambda sure, right, bins: error_by_bins(sure[sure < 1], right[sure < 1], bins) * (sure < 1).mean(),
             "last bin"), (lambda *a: 0.1, "two films each")],
    "5.7": [(wald, "no width"), (lambda x, n: wald(x, n, clip=True), "cutting off"),
            (lambda x, n: wald(x, n, root=False), "divide by n"),
            (lambda x, n: intervals.wilson(x, n, level=0.9), "z = 1.96"),
            (lambda x, n: intervals.wilson(x, n)[::-1], "first low"),
            (lambda x, n: [100 * end for end in intervals.wilson(x, n)], "per cent"),
            (lambda x, n: (0.0, 1.0), "0.957")],
    "5.8": [(lambda person, seed: np.random.default_rng(seed).integers(len(person), size=len(person)), "draw people"),
            (lambda person, seed: np.unique(people_by_choice(person, seed)), "nobody came twice"),
            (draw_some(replace=False), "everyone came once"), (draw_some(seeded=False), "another seed"),
            (draw_some(many=lambda names: 25), "as many as there are"), (draw_some(names=list), "stands once"),
            (lambda person, seed: people_by_choice(person, None), "the same seed"),
            (lambda person, seed: None, "return"),
            (lambda person, seed: people_by_choice(person, seed) + 1, "numbered 0"), (3, "without brackets")],
}


class TestChapter5(AnswersAreJudged):
    chapters, right, wrong = {5: chapter5}, RIGHT, WRONG


def test_progress_counts_the_chapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exercises, "_CHAPTERS", ALL_CHAPTERS)
    assert exercises.progress().loc[5, "of"] == len(chapter5.EXERCISES)
