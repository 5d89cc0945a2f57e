"Exercises of chapter 4b, tuning: judged against torch, scikit-learn, SciPy and sums over all cases, on unseen numbers"
from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from covid_xray.exercises import Exercise
from covid_xray.exercises.chapter3 import compare

__all__ = ["EXERCISES"]


def _judge_weights(answer: Any) -> str | None:
    "4b.1: scikit-learn's balanced class weights"
    from sklearn.utils.class_weight import compute_class_weight

    def right(targets: np.ndarray, n_classes: int) -> np.ndarray:
        return compute_class_weight("balanced", classes=np.arange(n_classes), y=targets)

    def counts(targets: np.ndarray, n_classes: int) -> np.ndarray:
        return np.bincount(targets, minlength=n_classes)

    rng = np.random.default_rng(41)
    cases = [(np.array([0] * 5 + [1] * 55 + [2] * 40), 3), (rng.permutation([0, 0, 1, 1, 1, 1, 1, 1]), 2),
             (np.concatenate([np.arange(4), rng.integers(0, 4, 60)]), 4)]
    return compare(answer, cases, right, [
        ("divide by the number of classes, too: then the mean weight of a film is 1.",
         lambda y, c: len(y) / counts(y, c)),
        ("the larger class gets the larger weight now: turn it round.", lambda y, c: counts(y, c) / len(y) * c),
        ("that is one over the count; times the number of films, over the number of classes.",
         lambda y, c: 1 / counts(y, c)),
        ("one weight a class is wanted, not one a film.", lambda y, c: right(y, c)[y]),
        ("weights needn't add up to 1: the mean *over the films* shall be 1.",
         lambda y, c: right(y, c) / right(y, c).sum()),
        ("weights that add up to the number of classes weigh the films 1 on average only where classes are equal.",
         lambda y, c: right(y, c) / right(y, c).mean()),
    ], "films / (classes * films of the class): 5, 55 and 40 of 100 give 6.67, 0.61 and 0.83.")


def _judge_weighted_loss(answer: Any) -> str | None:
    "4b.2: torch's cross-entropy with weights"
    def right(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
        import torch
        import torch.nn.functional as F

        log_p, y, w = torch.tensor(np.log(probabilities)), torch.tensor(targets), torch.tensor(weights)
        return float(F.nll_loss(log_p, y, weight=w))

    def costs(p: np.ndarray, y: np.ndarray) -> np.ndarray:
        return -np.log(p[np.arange(len(y)), y])

    rng = np.random.default_rng(42)
    cases = [(rng.dirichlet(np.ones(c), n), rng.integers(0, c, n), rng.uniform(0.2, 5, c))
             for n, c in ((4, 2), (30, 3), (50, 4))]
    return compare(answer, cases, right, [
        ("divide by the sum of the films' weights, not by their number.",
         lambda p, y, w: float((w[y] * costs(p, y)).mean())),
        ("the weights don't appear.", lambda p, y, w: float(costs(p, y).mean())),
        ("that is the sum; divide by the sum of the films' weights.",
         lambda p, y, w: float((w[y] * costs(p, y)).sum())),
        ("divide by the weights of the *films*, not by the sum of the classes' weights.",
         lambda p, y, w: float((w[y] * costs(p, y)).sum() / w.sum())),
        ("a cost is minus the logarithm.", lambda p, y, w: -right(p, y, w)),
        ("weigh the cost, not the probability inside the logarithm.",
         lambda p, y, w: float(-np.log(w[y] * p[np.arange(len(y)), y]).sum() / w[y].sum())),
    ], "a film's cost is -log of the probability of its true class; average with weights[targets] (np.average).")


def _judge_prior(answer: Any) -> str | None:
    "4b.3: Bayes' rule with likelihoods that are known"
    def right(said: np.ndarray, there: float, here: float) -> np.ndarray:
        sick, healthy = said / there, (1 - said) / (1 - there)  # likelihoods, up to a common factor
        return sick * here / (sick * here + healthy * (1 - here))

    rng = np.random.default_rng(43)
    cases = [(np.array([0.2, 0.5, 0.9]), 0.1, 0.4), (rng.uniform(0.01, 0.99, 9), 0.5, 0.05),
             (rng.uniform(0, 1, 9), 0.3, 0.3)]
    return compare(answer, cases, right, [
        ("the healthy change their share, too: their odds are multiplied by (1 - here) / (1 - there).",
         lambda p, a, b: p * b / a / (p * b / a + 1 - p)),
        ("that isn't a probability any more: divide by the sum for sick and healthy.", lambda p, a, b: p * b / a),
        ("old and new share have changed places.", lambda p, a, b: right(p, b, a)),
        ("that is of the healthy; the sick are asked for.", lambda p, a, b: 1 - right(p, a, b)),
        ("those are odds: p = odds / (1 + odds).", lambda p, a, b: right(p, a, b) / (1 - right(p, a, b))),
        ("adding the difference of the shares can leave 0..1: multiply the odds.", lambda p, a, b: p + b - a),
    ], "by hand: 0.2 where 10 % are sick; where 40 % are, 0.2 x 4 to 0.8 x 2/3, that is 0.8 to 0.533, so 0.6.")


def _judge_paired(answer: Any) -> str | None:
    "4b.4: SciPy's interval of the mean of the differences"
    from scipy import stats

    def interval(values: np.ndarray, alpha: float = 0.95) -> tuple[float, float]:
        half = stats.t.ppf((1 + alpha) / 2, len(values) - 1) * stats.sem(values)
        return float(values.mean()), float(half)

    def right(without: Sequence[float], with_it: Sequence[float]) -> tuple[float, float]:
        test = stats.ttest_rel(with_it, without).confidence_interval(0.95)
        return (test.low + test.high) / 2, (test.high - test.low) / 2

    def apart(without: Sequence[float], with_it: Sequence[float]) -> tuple[float, float]:
        test = stats.ttest_ind(with_it, without).confidence_interval(0.95)
        return (test.low + test.high) / 2, (test.high - test.low) / 2

    def differences(without: Sequence[float], with_it: Sequence[float]) -> np.ndarray:
        return np.subtract(with_it, without)

    rng = np.random.default_rng(44)
    luck = rng.normal(0.6, 0.1, 5)
    cases = [((luck + rng.normal(0, 0.02, 5)).tolist(), (luck + rng.normal(0.05, 0.02, 5)).tolist()),
             ([0.5, 0.7, 0.6], [0.55, 0.72, 0.69]), (rng.normal(size=8).tolist(), rng.normal(size=8).tolist())]
    return compare(answer, cases, right, [
        ("the runs are pairs: take the difference seed by seed first, then its spread.", apart),
        ("with so few runs the factor is Student's t, not 1.96.",
         lambda a, b: (differences(a, b).mean(), 1.96 * stats.sem(differences(a, b)))),
        ("the spread of a mean is the spread of the runs over the root of their number.",
         lambda a, b: (differences(a, b).mean(),
                       stats.t.ppf(0.975, len(a) - 1) * np.std(differences(a, b), ddof=1))),
        ("with the remedy minus without it: a gain is positive.", lambda a, b: (-right(a, b)[0], right(a, b)[1])),
        ("95 % leaves 2.5 % on *each* side: stats.t.ppf(0.975, n - 1).",
         lambda a, b: interval(differences(a, b), 0.90)),
        ("n - 1 degrees of freedom, for five runs 4.",
         lambda a, b: (differences(a, b).mean(), stats.t.ppf(0.975, len(a)) * stats.sem(differences(a, b)))),
        ("divide by n - 1 in the standard deviation (ddof=1).",
         lambda a, b: (differences(a, b).mean(),
                       stats.t.ppf(0.975, len(a) - 1) * np.std(differences(a, b)) / np.sqrt(len(a)))),
        ("two numbers: the mean, and *half* the width of the interval.",
         lambda a, b: (right(a, b)[0], 2 * right(a, b)[1])),
        ("two numbers: the mean and half the width, not the ends.",
         lambda a, b: (right(a, b)[0] - right(a, b)[1], sum(right(a, b)))),
    ], "differences, their mean, and t times their standard deviation (ddof=1) over the root of their number.")


def _best_of(scores: Sequence[float], tests: Sequence[float], k: int) -> tuple[float, float]:
    "Mean over all choices of k trials: the best validation score and the test score of the same trial"
    places = [max(chosen, key=lambda i: scores[i]) for chosen in combinations(range(len(scores)), k)]
    return float(np.mean([scores[i] for i in places])), float(np.mean([tests[i] for i in places]))


def _judge_best_of(answer: Any) -> str | None:
    "4b.5: by going through all choices"
    rng = np.random.default_rng(45)
    cases = [([0.6, 0.8, 0.7], [0.65, 0.7, 0.72], 2)]
    cases += [(rng.permutation(40)[:n] / 40, rng.uniform(size=n), k) for n, k in ((6, 1), (7, 3), (9, 4), (5, 5))]
    cases = [(list(scores), list(tests), k) for scores, tests, k in cases]

    def with_again(scores: Sequence[float], tests: Sequence[float], k: int) -> tuple[float, float]:
        order, n = np.argsort(scores), len(scores)
        share = (np.arange(1, n + 1) / n) ** k - (np.arange(n) / n) ** k
        return float(share @ np.array(scores)[order]), float(share @ np.array(tests)[order])

    return compare(answer, cases, _best_of, [
        ("the best test score isn't known to whoever chooses: take the test score of the trial chosen.",
         lambda s, t, k: (_best_of(s, t, k)[0], _best_of(t, t, k)[0])),
        ("a trial is run once: draw without putting back (combinations).", with_again),
        ("that chooses among all trials; what if only k of them had been run?",
         lambda s, t, k: (max(s), t[int(np.argmax(s))])),
        ("that is the mean of the trials, not of the best of k.", lambda s, t, k: (np.mean(s), np.mean(t))),
        ("that chooses on the test part.", lambda s, t, k: _best_of(t, s, k)[::-1]),
        ("those are the first k trials: average over all choices of k.",
         lambda s, t, k: (max(s[:k]), t[int(np.argmax(s[:k]))])),
        ("first the validation score, then the test score.", lambda s, t, k: _best_of(s, t, k)[::-1]),
    ], "itertools.combinations(range(n), k); in each, the place of the best validation score; average both scores.")


def _share(said: np.ndarray, there: float, rounds: int = 100_000) -> float:
    "The share at which adjusted probabilities agree with it (Saerens 2002, section 2.2)"
    share = there
    for _ in range(rounds):
        sick, healthy = said * share / there, (1 - said) * (1 - share) / (1 - there)
        new = float((sick / (sick + healthy)).mean())
        if abs(new - share) < 1e-9:
            return new
        share = new
    return share


def _maximum(said: np.ndarray, there: float) -> float:
    "The same by another way: the share that makes the films likeliest"
    from scipy.optimize import minimize_scalar

    def cost(share: float) -> float:
        return -np.log(said / there * share + (1 - said) / (1 - there) * (1 - share)).sum()

    return float(minimize_scalar(cost, bounds=(1e-9, 1 - 1e-9), method="bounded", options={"xatol": 1e-9}).x)


def _judge_share(answer: Any) -> str | None:
    "4b.6: the share of greatest likelihood, within 0.001"
    if not callable(answer):
        return "hand over the function itself: its name, without brackets."
    rng, cases = np.random.default_rng(46), []
    for there, here in ((0.3, 0.3), (0.1, 0.6), (0.5, 0.1)):
        sick = rng.random(400) < here
        x = rng.normal(sick * 2.5, 1)
        odds = np.exp(2.5 * x - 2.5**2 / 2) * there / (1 - there)
        cases.append((odds / (1 + odds), there))

    def rounded(function: Callable) -> Callable:
        return lambda said, there: round(float(function(said, there)), 3)

    def near(said: np.ndarray, there: float) -> float:
        "What came, put onto the right value where it is within 0.001 of it"
        got, right = float(answer(said, there)), _maximum(said, there)
        return rounded(_maximum)(said, there) if abs(got - right) <= 1e-3 else round(got, 3)

    return compare(near, cases, rounded(_maximum), [
        ("that is the mean before any adjusting: it is drawn towards the old share.", rounded(lambda p, a: p.mean())),
        ("that is one round: go on until nothing changes.", rounded(lambda p, a: _share(p, a, 2))),
        ("that counts films above 0.5, and the threshold still belongs to the old share.",
         rounded(lambda p, a: (p > 0.5).mean())),
        ("that is the old share.", rounded(lambda p, a: a)),
        ("that is the share of the healthy.", rounded(lambda p, a: 1 - _maximum(p, a))),
    ], "adjust the *original* probabilities from the old share to the present one, take their mean, and repeat.")


EXERCISES = (
    Exercise("4b.1", "class weights", _judge_weights),
    Exercise("4b.2", "a loss with weights", _judge_weighted_loss),
    Exercise("4b.3", "another prevalence", _judge_prior),
    Exercise("4b.4", "with and without, in pairs", _judge_paired),
    Exercise("4b.5", "the best of k trials", _judge_best_of),
    Exercise("4b.6", "how common is it here?", _judge_share),
)
