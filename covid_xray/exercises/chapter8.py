"Exercises of chapter 8, transfer: judged against torch, scikit-learn and SciPy on inputs nobody has seen"
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covid_xray.exercises import Exercise
from covid_xray.exercises.chapter3 import compare

__all__ = ["EXERCISES"]


def _judge_fold(answer: Any) -> str | None:
    "8.1: one kernel for the film and one for the plane of ones, read off torch's own convolution"
    import torch
    import torch.nn.functional as F

    def right(weight: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
        side = weight.shape[2]
        w, m, s = (torch.tensor(x, dtype=torch.float64) for x in (weight, mean, std))
        spots = torch.eye(side * side, dtype=torch.float64).view(-1, 1, side, side)  # one pixel lit in each
        black = F.conv2d(((spots * 0 - m.view(1, -1, 1, 1)) / s.view(1, -1, 1, 1)), w)
        lit = F.conv2d(((spots - m.view(1, -1, 1, 1)) / s.view(1, -1, 1, 1)), w)
        film = (lit - black)[:, :, 0, 0].T.reshape(len(w), side, side)
        parts = [F.conv2d((spots * (-m / s).view(1, -1, 1, 1)), w)[:, :, 0, 0].T.reshape(len(w), side, side)]
        return torch.stack([film, *parts], 1).numpy()

    def wrong(scale: bool = True, sign: float = -1.0, mean_of: bool = False, whole: bool = False) -> Callable:
        def of(weight: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
            m, s = (np.asarray(x, float).reshape(1, -1, 1, 1) for x in (mean, std))
            scaled = weight / s if scale else weight
            film, ones = scaled.sum(1), sign * (scaled * m).sum(1)
            if mean_of:
                film, ones = film / weight.shape[1], ones / weight.shape[1]
            if whole:
                ones = np.broadcast_to(ones.sum((1, 2), keepdims=True), ones.shape)
            return np.stack([film, ones], 1)

        return of

    rng = np.random.default_rng(81)
    cases = [(rng.normal(size=(2, 3, 1, 1)), [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
             (rng.normal(size=(4, 3, 3, 3)), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
             (rng.normal(size=(3, 2, 5, 5)), [0.1, 0.7], [2.0, 0.3])]
    return compare(answer, cases, right, [
        ("the kernels must be divided by the standard deviations, too.", wrong(scale=False)),
        ("the mean is subtracted: the plane of ones needs a minus.", wrong(sign=1.0)),
        ("add the colours up; a mean over them is too weak.", wrong(mean_of=True)),
        ("that is a bias, one number a kernel: at the rim only the part under the film is due. One number a place.",
         wrong(whole=True)),
        ("that is the kernel of the film alone; the plane of ones needs one, too.",
         lambda w, m, s: (w / np.asarray(s).reshape(1, -1, 1, 1)).sum(1)),
    ], "w / std, added up over colours; and minus (w / std * mean), added up over colours; side by side.")


def _judge_learning(answer: Any) -> str | None:
    "8.2: the numbers in the last groups"
    cases = [([9, 20, 30, 4], 1), ([9, 20, 30, 4], 2), ([100, 7, 50], 3), ([5, 6], 1)]
    return compare(answer, cases, lambda sizes, n: sum(sizes[len(sizes) - n:]), [
        ("those are the frozen ones.", lambda sizes, n: sum(sizes[:len(sizes) - n])),
        ("the first groups lie at the film; the last ones, at the logits, learn.", lambda sizes, n: sum(sizes[:n])),
        ("those are all: some are frozen.", lambda sizes, n: sum(sizes)),
        ("one group too many.", lambda sizes, n: sum(sizes[max(0, len(sizes) - n - 1):])),
        ("that is the last but so many; `learning` of them learn.", lambda sizes, n: sizes[len(sizes) - n]),
        ("how many numbers, not how many groups.", lambda sizes, n: n),
    ], "sizes 9, 20, 30, 4 and learning=2: 34 numbers learn.")


def _judge_rates(answer: Any) -> str | None:
    "8.3: the rate of each group, from the film to the head"
    def right(groups: int, rate: float, factor: float) -> list[float]:
        rates = [rate]
        for _ in range(groups - 1):
            rates.insert(0, rates[0] * factor)
        return rates

    cases = [(3, 0.01, 0.5), (5, 0.003, 0.4), (8, 1.0, 0.9), (4, 0.02, 0.1)]
    return compare(answer, cases, right, [
        ("the other way round: the head, at the end of the list, is fastest.", lambda n, r, f: right(n, r, f)[::-1]),
        ("the head itself learns at the full rate.", lambda n, r, f: [x * f for x in right(n, r, f)]),
        ("those are shares; multiply by the rate.", lambda n, r, f: [x / r for x in right(n, r, f)]),
        ("each group is slower by a *factor*; the steps aren't equal.",
         lambda n, r, f: [r * (1 - (1 - f) * k) for k in range(n)][::-1]),
        ("divide by the factor and the first layers race ahead.", lambda n, r, f: [r / f**k for k in range(n)][::-1]),
        ("all alike: that is one rate for all.", lambda n, r, f: [r] * n),
    ], "three groups, 0.01 and 0.5: 0.0025, 0.005, 0.01.")


def _judge_separable(answer: Any) -> str | None:
    "8.4: multiply-adds counted by torch's shapes, ordinary and depthwise separable"
    def counted(*layers: tuple[int, int, int, int], size: int) -> int:
        import torch
        from torch import nn

        from covid_xray.cnn import count_multiply_adds

        with torch.random.fork_rng(devices=[]):
            parts = [nn.Conv2d(i, o, k, padding=k // 2, groups=g, bias=False) for i, o, k, g in layers]
        return count_multiply_adds(nn.Sequential(*parts), size, layers[0][0])

    def right(i: int, o: int, kernel: int, size: int) -> tuple[int, int]:
        return (counted((i, o, kernel, 1), size=size),
                counted((i, i, kernel, i), (i, o, 1, 1), size=size))

    cases = [(8, 16, 3, 10), (32, 16, 3, 7), (40, 80, 5, 6), (6, 6, 3, 1)]
    return compare(answer, cases, right, [
        ("those are weights; each is used at every place of the map.",
         lambda i, o, k, s: (i * o * k * k, i * k * k + i * o)),
        ("the second step, 1 x 1 over all channels, is missing.",
         lambda i, o, k, s: (i * o * k * k * s * s, i * k * k * s * s)),
        ("the first step, one kernel a channel, is missing.",
         lambda i, o, k, s: (i * o * k * k * s * s, i * o * s * s)),
        ("in the first step each channel meets only its own kernel.",
         lambda i, o, k, s: (i * o * k * k * s * s, (i * i * k * k + i * o) * s * s)),
        ("a kernel has kernel x kernel places.", lambda i, o, k, s: (i * o * k * s * s, (i * k + i * o) * s * s)),
        ("a map has size x size places.", lambda i, o, k, s: (i * o * k * k * s, (i * k * k + i * o) * s)),
        ("first the ordinary one, then the separable one.", lambda i, o, k, s: right(i, o, k, s)[::-1]),
    ], "ordinary: in * out * kernel² at each place; separable: in * kernel² and then in * out at each place.")


def _judge_norm(answer: Any) -> str | None:
    "8.5: batch normalisation in evaluation, by torch"
    import torch
    import torch.nn.functional as F

    def right(x: np.ndarray, *numbers: np.ndarray) -> np.ndarray:
        given = (torch.from_numpy(part) for part in (x, *numbers))
        return F.batch_norm(*given, training=False, eps=1e-5).numpy()

    def column(values: np.ndarray) -> np.ndarray:
        return values.reshape(1, -1, 1, 1)

    def by_hand(x: np.ndarray, *numbers: np.ndarray) -> np.ndarray:
        mean, spread, gain, offset = map(column, numbers)
        return (x - mean) / spread * gain + offset

    rng = np.random.default_rng(85)
    cases = [(rng.normal(2, 3, (4, c, 5, 6)), rng.normal(size=c), rng.uniform(0.001, 2, c), rng.normal(size=c),
              rng.normal(size=c)) for c in (3, 5)]
    return compare(answer, cases, right, [
        ("mean and variance of the batch were used: that is training; here the stored ones count.",
         lambda x, m, v, g, b: by_hand(x, x.mean((0, 2, 3)), np.sqrt(x.var((0, 2, 3)) + 1e-5), g, b)),
        ("divide by the root of the variance.", lambda x, m, v, g, b: by_hand(x, m, v + 1e-5, g, b)),
        ("1e-5 belongs under the root, added to the variance.", lambda x, m, v, g, b: by_hand(x, m, np.sqrt(v), g, b)),
        ("1e-5 belongs *under* the root.", lambda x, m, v, g, b: by_hand(x, m, np.sqrt(v) + 1e-5, g, b)),
        ("gain and offset come after the division.",
         lambda x, m, v, g, b: by_hand(x, m, np.sqrt(v + 1e-5), np.ones_like(g), np.zeros_like(b))),
        ("the offset is added last, it isn't multiplied.",
         lambda x, m, v, g, b: by_hand(x, m, np.sqrt(v + 1e-5), g, b * g)),
    ], "(x - mean) / sqrt(variance + 1e-5) * gain + offset, each of the four with one number a channel (axis 1).")


def _judge_gain(answer: Any) -> str | None:
    "8.6: the paired interval, by SciPy"
    from scipy import stats

    def right(new: np.ndarray, old: np.ndarray) -> tuple[float, float, float]:
        found = stats.ttest_rel(new, old).confidence_interval(0.95)
        return float(np.mean(new - old)), float(found.low), float(found.high)

    def interval(values: np.ndarray, half: float) -> tuple[float, float, float]:
        return float(values.mean()), float(values.mean() - half), float(values.mean() + half)

    def t(n: int) -> float:
        return float(stats.t.ppf(0.975, n - 1))

    def unpaired(new: np.ndarray, old: np.ndarray) -> tuple[float, float, float]:
        found = stats.ttest_ind(new, old).confidence_interval(0.95)
        return float(new.mean() - old.mean()), float(found.low), float(found.high)

    rng = np.random.default_rng(86)
    cases = []
    for n in (5, 8, 12):
        shared = rng.normal(0.8, 0.05, n)
        cases.append((shared + rng.normal(0.03, 0.01, n), shared + rng.normal(0, 0.01, n)))
    return compare(answer, cases, right, [
        ("the draws are the same for both: take the difference of each draw first, then its mean and interval.",
         unpaired),
        ("that is new minus old turned round.", lambda a, b: interval(b - a, t(len(a)) * stats.sem(b - a))),
        ("with so few draws 1.96 is too small: Student's t, n - 1 degrees of freedom.",
         lambda a, b: interval(a - b, 1.96 * stats.sem(a - b))),
        ("that is the spread of single draws; the mean is surer by the root of n.",
         lambda a, b: interval(a - b, t(len(a)) * np.std(a - b, ddof=1))),
        ("the spread of a sample divides by n - 1 (ddof=1).",
         lambda a, b: interval(a - b, t(len(a)) * np.std(a - b) / len(a)**0.5)),
        ("95 % leave 2.5 % on each side: the 0.975 quantile.",
         lambda a, b: interval(a - b, stats.t.ppf(0.95, len(a) - 1) * stats.sem(a - b))),
        ("three numbers are wanted: mean, low end, high end.", lambda a, b: np.mean(a - b)),
    ], "difference of each draw, its mean, and stats.t.ppf(0.975, n - 1) * sem to either side.")


def _judge_head(answer: Any) -> str | None:
    "8.7: scaling written into the layer: both must give the same logits"
    def right(slopes: np.ndarray, offsets: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
        points = np.vstack([np.zeros(len(mean)), np.eye(len(mean))])
        logits = ((points - mean) / spread) @ slopes.T + offsets  # at the origin, and one step along each axis
        return np.column_stack([(logits[1:] - logits[0]).T, logits[0]])

    def made(weights: Callable, bias: Callable) -> Callable:
        return lambda s, o, m, d: np.column_stack([weights(s, o, m, d), bias(s, o, m, d)])

    rng = np.random.default_rng(87)
    cases = [(rng.normal(size=(c, n)), rng.normal(size=c), rng.normal(size=n), rng.uniform(0.2, 3, n))
             for c, n in ((2, 3), (3, 5))]
    return compare(answer, cases, right, [
        ("the bias must take the mean back: offsets - (slopes / spread) @ mean.",
         made(lambda s, o, m, d: s / d, lambda s, o, m, d: o)),
        ("with a minus: what is subtracted from the input lowers the bias.",
         made(lambda s, o, m, d: s / d, lambda s, o, m, d: o + (s / d) @ m)),
        ("divide the slopes by the spread; multiplying undoes it twice.",
         made(lambda s, o, m, d: s * d, lambda s, o, m, d: o - (s * d) @ m)),
        ("in the bias, too, the slopes are those divided by the spread.",
         made(lambda s, o, m, d: s / d, lambda s, o, m, d: o - s @ m)),
        ("the spread is missing.", made(lambda s, o, m, d: s, lambda s, o, m, d: o - s @ m)),
        ("the bias stands in the last column.",
         lambda s, o, m, d: np.column_stack([o - (s / d) @ m, s / d])),
        ("add the bias as one more column.", lambda s, o, m, d: s / d),
    ], "slopes / spread, and offsets - (slopes / spread) @ mean as the last column.")


def _judge_common(answer: Any) -> str | None:
    "8.8: films whose size occurs on both sides, by trying each"
    def right(sizes: np.ndarray, sick: np.ndarray) -> np.ndarray:
        return np.array([any(t >= s for t in sizes[sick]) and any(t <= s for t in sizes[sick])
                         and any(t >= s for t in sizes[~sick]) and any(t <= s for t in sizes[~sick]) for s in sizes])

    def between(sizes: np.ndarray, low: float, high: float) -> np.ndarray:
        return (sizes >= low) & (sizes <= high)

    rng = np.random.default_rng(88)
    cases = [(np.array([300, 320, 345, 310, 350, 400]), np.array([False, False, False, True, True, True])),
             (rng.normal(350, 30, 40).round(), rng.random(40) < 0.4),
             (np.array([5.0, 9, 7, 8, 6, 2]), np.array([True, True, False, False, True, True]))]
    return compare(answer, cases, right, [
        ("only the upper end was cut: a film smaller than any sick one tells its label, too.",
         lambda s, y: s <= min(s[y].max(), s[~y].max())),
        ("only the lower end was cut.", lambda s, y: s >= max(s[y].min(), s[~y].min())),
        ("the other films are wanted: those whose size occurs on both sides.", lambda s, y: ~right(s, y)),
        ("that is the whole range of the healthy; the sick need not reach so far.",
         lambda s, y: between(s, s[~y].min(), s[~y].max())),
        ("that is the whole range of the sick.", lambda s, y: between(s, s[y].min(), s[y].max())),
        ("the ends themselves belong to it.",
         lambda s, y: (s > max(s[y].min(), s[~y].min())) & (s < min(s[y].max(), s[~y].max()))),
    ], "from the larger of the two smallest to the smaller of the two largest, ends included.")


EXERCISES = (
    Exercise("8.1", "a kernel for the film and one for the ones", _judge_fold),
    Exercise("8.2", "how many numbers learn", _judge_learning),
    Exercise("8.3", "a rate for each depth", _judge_rates),
    Exercise("8.4", "what makes a network light", _judge_separable),
    Exercise("8.5", "normalisation that stands still", _judge_norm),
    Exercise("8.6", "what a start gains", _judge_gain),
    Exercise("8.7", "scaling written into the head", _judge_head),
    Exercise("8.8", "common ground", _judge_common),
)
