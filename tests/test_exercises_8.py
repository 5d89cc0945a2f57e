"""The checks of chapter 8 are checked: right answers written in different ways pass, plausible mistakes fail, each with
the hint that belongs to it, and a stub counts as not started.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from judged import AnswersAreJudged

from covid_xray.exercises import chapter8
from covid_xray.transfer import fold_normalisation


def fold(weight: np.ndarray, mean: Sequence[float], std: Sequence[float], sign: float = -1,
         divide: bool = True) -> np.ndarray:
    result = np.zeros((weight.shape[0], 2, *weight.shape[2:]))
    for c in range(weight.shape[1]):
        part = weight[:, c] / std[c] if divide else weight[:, c]
        result[:, 0] += part
        result[:, 1] += sign * part * mean[c]
    return result


def as_bias(weight: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    result = fold(weight, mean, std)
    result[:, 1] = result[:, 1].sum((1, 2), keepdims=True)
    return result


def rates(groups: int, rate: float, factor: float) -> list[float]:
    return [rate * factor**depth for depth in range(groups - 1, -1, -1)]


def costs(i: int, o: int, k: int, s: int) -> tuple[int, int]:
    return s * s * i * o * k * k, s * s * i * (k * k + o)


def normalise(x: np.ndarray, m: np.ndarray, v: np.ndarray, g: np.ndarray, b: np.ndarray,
              root: Any = None) -> np.ndarray:
    spread = np.sqrt(v + 1e-5) if root is None else root(v)
    return np.stack([(x[:, c] - m[c]) / spread[c] * g[c] + b[c] for c in range(x.shape[1])], 1)


def by_layer(x: np.ndarray, m: np.ndarray, v: np.ndarray, g: np.ndarray, b: np.ndarray, train: bool = False) -> Any:
    layer = torch.nn.BatchNorm2d(len(m)).double().train(train)
    for name, value in (("running_mean", m), ("running_var", v), ("weight", g), ("bias", b)):
        getattr(layer, name).data.copy_(torch.from_numpy(value))
    return layer(torch.from_numpy(x))


def gain(new: np.ndarray, old: np.ndarray, factor: float | None = None, ddof: int = 1,
         root: bool = True) -> list[float]:
    d, n = new - old, len(new)
    factor = stats.t.ppf(0.975, n - 1) if factor is None else factor
    half = factor * np.std(d, ddof=ddof) / (n**0.5 if root else 1)
    return [d.mean(), d.mean() - half, d.mean() + half]


def head(s: np.ndarray, o: np.ndarray, m: np.ndarray, d: np.ndarray) -> np.ndarray:
    weights = np.einsum("cn,n->cn", s, 1 / d)
    return np.concatenate([weights, (o - weights.dot(m))[:, None]], axis=1)


def common(sizes: np.ndarray, sick: np.ndarray) -> np.ndarray:
    low, high = max(sizes[sick].min(), sizes[~sick].min()), min(sizes[sick].max(), sizes[~sick].max())
    return (sizes >= low) & (sizes <= high)


RIGHT: dict[str, list] = {
    "8.1": [fold, lambda w, m, s: fold_normalisation(torch.from_numpy(w), m, s)],
    "8.2": [lambda sizes, n: sum(sizes[-n:]), lambda sizes, n: sum(sizes) - sum(sizes[:len(sizes) - n])],
    "8.3": [rates, lambda n, r, f: r * f ** np.arange(n)[::-1]],
    "8.4": [costs, lambda i, o, k, s: [i * o * k**2 * s**2, i * k**2 * s**2 + i * o * s**2]],
    "8.5": [normalise, by_layer],
    "8.6": [gain, lambda a, b: (np.mean(a - b), *stats.t.interval(0.95, len(a) - 1, np.mean(a - b), stats.sem(a - b)))],
    "8.7": [head, lambda s, o, m, d: np.c_[s / d, o - (s / d * m).sum(1)]],
    "8.8": [common, lambda s, y: [max(min(s[y]), min(s[~y])) <= t <= min(max(s[y]), max(s[~y])) for t in s]],
}

WRONG: dict[str, list[tuple[Any, str]]] = {
    "8.1": [(lambda w, m, s: fold(w, m, s, divide=False), "standard deviations"),
            (lambda w, m, s: fold(w, m, s, sign=1), "needs a minus"), (as_bias, "that is a bias"),
            (lambda w, m, s: fold(w, m, s) / w.shape[1], "too weak"), (lambda w, m, s: fold(w, m, s)[:, 0], "alone"),
            (lambda w, m, s: np.zeros((len(w), 2, *w.shape[2:])), "side by side")],
    "8.2": [(lambda z, n: sum(z[:-n]), "frozen"), (lambda z, n: sum(z[:n]), "first groups"),
            (lambda z, n: sum(z), "all"),
            (lambda z, n: sum(z[max(0, len(z) - n - 1):]), "too many"), (lambda z, n: n, "how many numbers"),
            (lambda z, n: z[-n], "last but"), (lambda z, n: 0, "34")],
    "8.3": [(lambda n, r, f: rates(n, r, f)[::-1], "other way round"),
            (lambda n, r, f: rates(n, r * f, f), "full rate"),
            (lambda n, r, f: rates(n, 1, f), "shares"), (lambda n, r, f: rates(n, r, 1 / f), "race ahead"),
            (lambda n, r, f: [r] * n, "all alike"), (lambda n, r, f: np.zeros(n), "0.0025")],
    "8.4": [(lambda i, o, k, s: (i * o * k * k, i * (k * k + o)), "every place"),
            (lambda i, o, k, s: costs(i, o, k, s)[::-1], "first the ordinary"),
            (lambda i, o, k, s: (costs(i, o, k, s)[0], i * k * k * s * s), "second step"),
            (lambda i, o, k, s: (costs(i, o, k, s)[0], i * o * s * s), "first step, one"),
            (lambda i, o, k, s: (costs(i, o, k, s)[0], (i * i * k * k + i * o) * s * s), "its own kernel"),
            (lambda i, o, k, s: (1, 1), "at each place")],
    "8.5": [(lambda *a: by_layer(*a, train=True), "that is training"),
            (lambda *a: normalise(*a, lambda v: v + 1e-5), "root"),
            (lambda *a: normalise(*a, lambda v: np.sqrt(v) + 1e-5), "under"),
            (lambda *a: normalise(*a, np.sqrt), "1e-5"),
            (lambda x, m, v, g, b: normalise(x, m, v, g * 0 + 1, b * 0), "after the division"),
            (lambda x, *a: x, "axis 1")],
    "8.6": [(lambda a, b: gain(a, b, 1.96), "1.96"), (lambda a, b: gain(b, a), "turned round"),
            (lambda a, b: gain(a, b, root=False), "single draws"), (lambda a, b: gain(a, b, ddof=0), "n - 1"),
            (lambda a, b: gain(a, b, stats.t.ppf(0.95, len(a) - 1)), "0.975"),
            (lambda a, b: np.mean(a - b), "three numbers"),
            (lambda a, b: [0, 0, 0], "of each draw")],
    "8.7": [(lambda s, o, m, d: np.c_[s / d, o], "take the mean back"),
            (lambda s, o, m, d: np.c_[s, o - s @ m], "is missing"),
            (lambda s, o, m, d: np.c_[s / d, o + (s / d) @ m], "with a minus"),
            (lambda s, o, m, d: s / d, "one more column"),
            (lambda s, o, m, d: np.c_[s / d, o - s @ m], "in the bias, too"),
            (lambda s, o, m, d: np.c_[s * 0, o], "last column")],
    "8.8": [(lambda s, y: s <= min(s[y].max(), s[~y].max()), "upper end"), (lambda s, y: ~common(s, y), "other films"),
            (lambda s, y: s >= max(s[y].min(), s[~y].min()), "lower end"),
            (lambda s, y: (s >= s[~y].min()) & (s <= s[~y].max()), "of the healthy"),
            (lambda s, y: (s >= s[y].min()) & (s <= s[y].max()), "of the sick"), (lambda s, y: s > 0, "ends included")],
}


class TestChapter8(AnswersAreJudged):
    chapters, right, wrong = {8: chapter8}, RIGHT, WRONG


def test_the_head_of_exercise_7_is_scikit_learn_s() -> None:
    "Slopes on scaled inputs, written into one layer, give the decisions of the pipeline"
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, [1, 5, 0.2], (60, 3)), np.arange(60) % 3
    scaler = StandardScaler().fit(x)
    model = LogisticRegression().fit(scaler.transform(x), y)
    layer = head(model.coef_, model.intercept_, scaler.mean_, scaler.scale_)
    assert np.allclose(x @ layer[:, :-1].T + layer[:, -1], model.decision_function(scaler.transform(x)))
