"""The checks of chapters 1b and 4b are checked: right answers written in different ways pass, plausible mistakes fail,
each with the hint that belongs to it, and a stub counts as not started.
"""
from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import comb, log

import numpy as np
import pytest
from scipy import stats

from judged import AnswersAreJudged

from covid_xray import contrast, exercises, tuning
from covid_xray.exercises import chapter1b, chapter4b

ALL_CHAPTERS = exercises._CHAPTERS


def count_by_loop(image: np.ndarray) -> list[int]:
    found = Counter(image.ravel().tolist())
    return [found[grey] for grey in range(256)]


def window(image: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.round(255 * np.clip((image.astype(float) - low) / (high - low), 0, 1)).astype(np.uint8)


def window_by_table(image: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.array([round(255 * min(max((grey - low) / (high - low), 0), 1)) for grey in range(256)])[image]


def equalise_by_counting(image: np.ndarray) -> np.ndarray:
    result, lowest = image.copy(), (image == image.min()).sum()
    for grey in np.unique(image):
        if lowest < image.size:
            result[image == grey] = round(255 * ((image <= grey).sum() - lowest) / (image.size - lowest))
    return result


def same_by_unique(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((np.unique(a, return_inverse=True)[1] == np.unique(b, return_inverse=True)[1]).all())


def same_by_pairs(a: np.ndarray, b: np.ndarray) -> bool:
    return all((x < y) == (u < v) and (x == y) == (u == v)
               for (x, u), (y, v) in combinations(zip(a.ravel(), b.ravel()), 2))


def clip(counts: np.ndarray, limit: float) -> np.ndarray:
    over = np.maximum(counts - limit, 0)
    return counts - over + over.mean()


def clip_by_loop(counts: np.ndarray, limit: float) -> list[float]:
    over = sum(max(count - limit, 0) for count in counts)
    return [min(count, limit) + over / len(counts) for count in counts]


def mix_by_loop(n_pixels: int, values: np.ndarray) -> list[float]:
    result, tile = [], n_pixels / len(values)
    for pixel in range(n_pixels):
        place = min(max((pixel - tile / 2) / tile, 0), len(values) - 1)
        before = min(int(place), len(values) - 2)
        result.append(values[before] * (before + 1 - place) + values[before + 1] * (place - before))
    return result


def mix(n_pixels: int, values: np.ndarray) -> np.ndarray:
    return np.interp(np.arange(n_pixels) / (n_pixels / len(values)) - 0.5, np.arange(len(values)), values)


def box(mask: np.ndarray, margin: int) -> tuple[int, ...]:
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    return (max(rows.min() - margin, 0), min(rows.max() + 1 + margin, height),
            max(columns.min() - margin, 0), min(columns.max() + 1 + margin, width))


def box_by_any(mask: np.ndarray, margin: int) -> list[int]:
    edges = []
    for axis in (1, 0):
        full = np.flatnonzero(mask.any(axis=axis))
        edges += [max(0, full[0] - margin), min(mask.shape[1 - axis], full[-1] + margin + 1)]
    return edges


def weights_by_loop(targets: np.ndarray, n_classes: int) -> list[float]:
    return [len(targets) / n_classes / sum(t == c for t in targets) for c in range(n_classes)]


def loss(p: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    return np.average(-np.log(p[np.arange(len(y)), y]), weights=w[y])


def loss_by_loop(p: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    return -sum(w[t] * log(row[t]) for row, t in zip(p, y)) / sum(w[t] for t in y)


def prior(p: np.ndarray, there: float, here: float) -> np.ndarray:
    return p * here / there / (p * here / there + (1 - p) * (1 - here) / (1 - there))


def paired(without: list, with_it: list, factor: float | None = None, ddof: int = 1) -> tuple[float, float]:
    change = np.subtract(with_it, without)
    factor = stats.t.ppf(0.975, len(change) - 1) if factor is None else factor
    return change.mean(), factor * change.std(ddof=ddof) / len(change) ** 0.5


def unpaired(without: list, with_it: list) -> tuple[float, float]:
    found = stats.ttest_ind(with_it, without).confidence_interval()
    return (found.low + found.high) / 2, (found.high - found.low) / 2


def best_by_weights(scores: list, tests: list, k: int) -> tuple[float, float]:
    "The i-th of n in order is the best of k where the other k - 1 lie below it"
    n, order = len(scores), np.argsort(scores)
    share = [comb(i, k - 1) / comb(n, k) for i in range(n)]
    return np.dot(share, np.array(scores)[order]), np.dot(share, np.array(tests)[order])


def best_by_loop(scores: list, tests: list, k: int) -> tuple[float, float]:
    pairs = [max(chosen) for chosen in combinations(list(zip(scores, tests)), k)]
    return sum(pair[0] for pair in pairs) / len(pairs), sum(pair[1] for pair in pairs) / len(pairs)


def share_by_rounds(said: np.ndarray, there: float, rounds: int = 3000) -> float:
    share = there
    for _ in range(rounds):
        share = prior(said, there, share).mean()
    return share


def share_by_trying(said: np.ndarray, there: float) -> float:
    shares = np.linspace(0.0005, 0.9995, 4000)
    return shares[np.argmin([abs(prior(said, there, share).mean() - share) for share in shares])]


RIGHT: dict[str, list] = {
    "1b.1": [count_by_loop, lambda x: np.bincount(x.ravel(), minlength=256), contrast.histogram],
    "1b.2": [window, window_by_table],
    "1b.3": [equalise_by_counting, contrast.equalise],
    "1b.4": [same_by_unique, same_by_pairs],
    "1b.5": [clip, clip_by_loop],
    "1b.6": [mix, mix_by_loop],
    "1b.7": [box, box_by_any],
    "4b.1": [weights_by_loop, tuning.class_weights],
    "4b.2": [loss, loss_by_loop],
    "4b.3": [prior, lambda p, a, b: tuning.adjust_prior(np.stack([p, 1 - p], 1), [a, 1 - a], [b, 1 - b])[:, 0]],
    "4b.4": [paired, lambda a, b: (np.mean(b) - np.mean(a), paired(a, b)[1])],
    "4b.5": [best_by_loop, best_by_weights],
    "4b.6": [share_by_rounds, chapter4b._maximum],
}

WRONG: dict[str, list] = {
    "1b.1": [(lambda x: np.bincount(x.ravel()), "minlength"), (lambda x: np.unique(x, return_counts=True)[1], "occur"),
             (lambda x: np.bincount(x.ravel(), minlength=256) / x.size, "not shares"),
             (lambda x: np.bincount(x.ravel(), minlength=256).cumsum(), "leave out the cumsum"),
             (lambda x: np.histogram(x, 256)[0], "range=(0, 256)"), (lambda x: np.zeros(256), "wants a flat array")],
    "1b.2": [(lambda x, a, b: (255 * (x.astype(float) - a) / (b - a)).round(), "must become 0 and 255"),
             (lambda x, a, b: np.clip((x.astype(float) - a) / (b - a), 0, 1), "not from 0 to 1"),
             (lambda x, a, b: (255 * ((x.astype(float) - a) / (b - a)).clip(0, 1)).astype(np.uint8), "cuts off"),
             (lambda x, a, b: np.clip(x, a, b), "that only clips"),
             (lambda x, a, b: (255 * ((x - np.uint8(a)) / (b - a)).clip(0, 1)).round(), "convert to float first"),
             (lambda x, a, b: x, "clipped to 0..1")],
    "1b.3": [(lambda x: np.round(contrast.histogram(x).cumsum()[x] / x.size * 255), "must become 0"),
             (lambda x: contrast.equalise(x) / 255, "cumulate"), (lambda x: x, "cumulate"),
             (lambda x: (x.astype(float) - x.min()) / max(np.ptp(x), 1) * 255 // 1, "divide by what is left"),
             (lambda x: np.round((x.astype(float) - x.min()) / max(np.ptp(x), 1) * 255), "straight line"),
             (lambda x: equalise_by_counting(x) if np.ptp(x) else x * 0, "flat film")],
    "1b.4": [(lambda a, b: np.array_equal(a, b), "may differ"),
             (lambda a, b: same_by_unique(a, b) or same_by_unique(a, -b), "changed places"),
             (lambda a, b: same_by_unique(np.sort(a.ravel()), np.sort(b.ravel())), "the same *pixels*"),
             (lambda a, b: bool(np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99999), "straight line"),
             (lambda a, b: True, "below its own")],
    "1b.5": [(lambda c, k: np.minimum(c, k), "no pixel may be lost"),
             (lambda c, k: np.minimum(c, k) + np.maximum(c - k, 0).sum(), "divide by their number"),
             (lambda c, k: np.minimum(c, k) + c[c > k].sum() / len(c), "above the limit"),
             (lambda c, k: np.minimum(c + np.maximum(c - k, 0).mean(), k), "after cutting"),
             (lambda c, k: np.minimum(c, k) + np.maximum(c - k, 0).sum() // len(c), "fractions"),
             (lambda c, k: c, "1.5, 5.5")],
    "1b.6": [(lambda n, v: v[np.arange(n) // (n // len(v))], "seams"),
             (lambda n, v: np.interp(np.arange(n) / (n / len(v)), np.arange(len(v)), v), "half a tile"),
             (lambda n, v: np.interp(np.linspace(0, len(v) - 1, n), np.arange(len(v)), v), "middle to middle"),
             (lambda n, v: np.full(n, v.mean()), "np.interp does it")],
    "1b.7": [(lambda m, k: (box(m, k)[0], box(m, 0)[1], box(m, k)[2], box(m, 0)[3]), "both sides"),
             (lambda m, k: box(m, 0), "where is the margin"), (lambda m, k: np.roll(box(m, k), 2), "rows first"),
             (lambda m, k: [box(m, k)[i] for i in (0, 2, 1, 3)], "in order"),
             (lambda m, k: (np.nonzero(m)[0].min() - k, np.nonzero(m)[0].max() + 1 + k,
                            np.nonzero(m)[1].min() - k, np.nonzero(m)[1].max() + 1 + k), "must not leave"),
             (lambda m, k: (0, *m.shape, 0), "within the film")],
    "4b.1": [(lambda y, c: len(y) / np.bincount(y), "number of classes, too"),
             (lambda y, c: 1 / np.bincount(y), "one over"),
             (lambda y, c: np.bincount(y) / len(y) * c, "turn it round"),
             (lambda y, c: tuning.class_weights(y, c)[y], "one a film"),
             (lambda y, c: tuning.class_weights(y, c) / tuning.class_weights(y, c).sum(), "add up to 1"),
             (lambda y, c: np.ones(c), "6.67")],
    "4b.2": [(lambda p, y, w: (w[y] * -np.log(p[np.arange(len(y)), y])).mean(), "not by their number"),
             (lambda p, y, w: -np.log(p[np.arange(len(y)), y]).mean(), "don't appear"),
             (lambda p, y, w: loss(p, y, w) * w[y].sum(), "that is the sum"),
             (lambda p, y, w: loss(p, y, w) * w[y].sum() / w.sum(), "classes' weights"),
             (lambda p, y, w: -loss(p, y, w), "minus the logarithm"), (lambda p, y, w: 1.0, "np.average")],
    "4b.3": [(lambda p, a, b: p * b / a, "divide by the sum"), (lambda p, a, b: prior(p, b, a), "changed places"),
             (lambda p, a, b: 1 - prior(p, a, b), "the sick are asked"),
             (lambda p, a, b: p * b / a / (p * b / a + 1 - p), "the healthy change"),
             (lambda p, a, b: p, "0.6")],
    "4b.4": [(unpaired, "are pairs"), (lambda a, b: paired(a, b, 1.96), "Student's t"),
             (lambda a, b: paired(b, a), "minus without"), (lambda a, b: paired(a, b, ddof=0), "n - 1 in the"),
             (lambda a, b: paired(a, b, stats.t.ppf(0.95, len(a) - 1)), "each* side"),
             (lambda a, b: np.array([-1, 1]) * paired(a, b)[1] + paired(a, b)[0], "not the ends"),
             (lambda a, b: (0, 0), "over the root")],
    "4b.5": [(lambda s, t, k: (best_by_loop(s, t, k)[0], best_by_loop(t, s, k)[0]), "isn't known"),
             (lambda s, t, k: (max(s), t[s.index(max(s))]), "only k of them"),
             (lambda s, t, k: (np.mean(s), np.mean(t)), "mean of the trials"),
             (lambda s, t, k: best_by_loop(t, s, k)[::-1], "chooses on the test part"),
             (lambda s, t, k: (max(s[:k]), t[s.index(max(s[:k]))]), "first k trials"),
             (lambda s, t, k: (0, 0), "itertools")],
    "4b.6": [(lambda p, a: p.mean(), "before any adjusting"), (lambda p, a: share_by_rounds(p, a, 2), "one round"),
             (lambda p, a: (p > 0.5).mean(), "threshold"), (lambda p, a: a, "old share"),
             (lambda p, a: 1 - share_by_rounds(p, a), "healthy"), (0.3, "without brackets"),
             (lambda p, a: 0.123, "*original*")],
}


class TestChapters1bAnd4b(AnswersAreJudged):
    chapters, right, wrong = {"1b": chapter1b, "4b": chapter4b}, RIGHT, WRONG


def test_they_count_for_their_chapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exercises, "_CHAPTERS", ALL_CHAPTERS)
    of = exercises.progress()["of"]
    assert of[1] == 8 + len(chapter1b.EXERCISES) and of[4] == 8 + len(chapter4b.EXERCISES)


def test_the_numbers_of_the_text() -> None:
    "Those that the exercises give as worked examples"
    assert clip(np.array([0, 10, 2, 0]), 4).tolist() == [1.5, 5.5, 3.5, 1.5]
    assert mix_by_loop(8, np.array([10.0, 20.0])) == [10, 10, 10, 12.5, 15, 17.5, 20, 20]
    assert best_by_loop([0.6, 0.8, 0.7], [0.65, 0.7, 0.72], 2) == pytest.approx((0.76667, 0.70667), abs=1e-4)
    assert prior(np.array([0.2]), 0.1, 0.4) == pytest.approx([0.6])
