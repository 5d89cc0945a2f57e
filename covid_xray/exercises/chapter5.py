"Exercises of chapter 5, metrics: judged against scikit-learn, SciPy and counts by hand, on inputs nobody has seen"
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from covid_xray.exercises import Exercise
from covid_xray.exercises.chapter3 import compare

__all__ = ["EXERCISES"]


def _study(films: int, seed: int, digits: int = 1) -> tuple[np.ndarray, np.ndarray]:
    "Who is sick (unevenly many), and scores between 0 and 1 with ties"
    rng = np.random.default_rng(seed)
    sick = rng.random(films) < 0.3
    sick[:2] = True, False
    return sick, (0.6 * rng.random(films) + 0.35 * sick).round(digits)


def _counts(sick: np.ndarray, called: np.ndarray) -> tuple[int, int, int, int]:
    "True positives, false positives, false negatives, true negatives, by scikit-learn"
    from sklearn.metrics import confusion_matrix

    (tn, fp), (fn, tp) = confusion_matrix(sick, called, labels=[False, True])
    return int(tp), int(fp), int(fn), int(tn)


def _judge_counts(answer: Any) -> str | None:
    "5.1: the four cells of scikit-learn's matrix"
    studies = [_study(30, 1), _study(47, 2), (np.array([True, True]), np.array([0.9, 0.1])), _study(12, 3)]
    cases = [(sick, scores > 0.5) for sick, scores in studies]

    def in_order(order: str) -> Callable:
        return lambda sick, called: [_counts(sick, called)["pfnt".index(letter)] for letter in order]

    return compare(answer, cases, _counts, [
        ("false positives and false negatives are swapped: a false positive is healthy and was called.",
         in_order("pnft")),
        ("all four counts are there, in scikit-learn's order; the true positives come first here.", in_order("tfnp")),
        ("all four counts are there, in another order: true positives, false positives, false negatives, "
         "true negatives.", in_order("ptfn")),
        ("those are shares of all films: counts are wanted.",
         lambda sick, called: np.divide(_counts(sick, called), len(sick))),
        ("those are the margins: how many are sick, how many were called. Combine the two with `&`.",
         lambda sick, called: (sick.sum(), called.sum(), (~called).sum(), (~sick).sum())),
    ], "sick and called, healthy and called, sick and not called, healthy and not called: four sums of `a & b`.")


def _judge_ratios(answer: Any) -> str | None:
    "5.2: scikit-learn's recall and precision, undefined where nothing is divided by nothing"
    def ratio(top: float, bottom: float) -> float:
        return top / bottom if bottom else math.nan

    def right(confusion: np.ndarray, index: int) -> tuple[float, float]:
        from sklearn.metrics import precision_score, recall_score

        truth, said = (np.repeat(axis.ravel(), confusion.ravel()) for axis in np.indices(confusion.shape))
        return tuple(float(score(truth == index, said == index, zero_division=np.nan))
                     for score in (recall_score, precision_score))

    def both(recall: Callable, precision: Callable) -> Callable:
        return lambda c, i: (recall(c, i), precision(c, i))

    def of_row(c: np.ndarray, i: int) -> float:
        return ratio(c[i, i], c[i].sum())

    def of_column(c: np.ndarray, i: int) -> float:
        return ratio(c[i, i], c[:, i].sum())

    ordinary = [(np.array([[20, 3, 1], [4, 60, 6], [2, 9, 41]]), i) for i in range(3)]
    ordinary.append((np.array([[7, 5], [1, 9]]), 1))
    undefined = [(np.array([[0, 4, 2], [0, 9, 1], [0, 3, 5]]), 0), (np.array([[0, 0], [3, 8]]), 0)]
    hint = compare(answer, ordinary, right, [
        ("recall and precision are swapped: a row holds the films of one true class.", both(of_column, of_row)),
        ("that is the accuracy; take the row, and the column, of one class.",
         both(*[lambda c, i: np.trace(c) / c.sum()] * 2)),
        ("divide by the films of the class, and by the films called so, not by all films.",
         both(*[lambda c, i: c[i, i] / c.sum()] * 2)),
        ("the whole row is the bottom, the diagonal cell included.",
         both(lambda c, i: ratio(c[i, i], c[i].sum() - c[i, i]), lambda c, i: ratio(c[i, i], c[:, i].sum() - c[i, i]))),
        ("both were divided by the row; precision looks down the column.", both(of_row, of_row)),
    ], "for [[7, 5], [1, 9]] and class 1: recall 9/10, precision 9/14.")
    return hint or compare(answer, undefined, right, [
        ("right where it is defined. A precision of nothing out of nothing is not 0: return float('nan').",
         both(lambda c, i: np.nan_to_num(of_row(c, i)), lambda c, i: np.nan_to_num(of_column(c, i)))),
        ("right where it is defined. A precision of nothing out of nothing is not 1: return float('nan').",
         both(lambda c, i: np.nan_to_num(of_row(c, i), nan=1), lambda c, i: np.nan_to_num(of_column(c, i), nan=1))),
    ], "right where it is defined; where nobody was called, or nobody has the class, return float('nan').")


def _judge_hundred_called(answer: Any) -> str | None:
    "5.3: people counted one group at a time, in fractions"
    from fractions import Fraction

    def right(sensitivity: float, specificity: float, prevalence: float) -> float:
        found, cleared, sick = (Fraction(str(x)) for x in (sensitivity, specificity, prevalence))
        called_sick, called_healthy = 10_000 * sick * found, 10_000 * (1 - sick) * (1 - cleared)
        return float(100 * called_sick / (called_sick + called_healthy))

    cases = [(0.9, 0.9, 0.01), (0.8, 0.95, 0.1), (0.99, 0.5, 0.5), (1.0, 0.98, 0.002), (0.6, 0.7, 0.3)]
    return compare(answer, cases, right, [
        ("that is the share: of 100 people.", lambda s, c, p: right(s, c, p) / 100),
        ("that is the sensitivity: of the sick, how many are called. Asked is: of the called, how many are sick.",
         lambda s, c, p: 100 * s),
        ("you took half the people to be sick; weigh both groups with the prevalence.",
         lambda s, c, p: 100 * s / (s + 1 - c)),
        ("the healthy who are called are (1 - specificity) of the healthy.",
         lambda s, c, p: 100 * s * p / (s * p + c * (1 - p))),
        ("that is of 100 people cleared, those who are healthy.",
         lambda s, c, p: 100 * c * (1 - p) / (c * (1 - p) + (1 - s) * p)),
        ("that is of 100 people called, those who are healthy.", lambda s, c, p: 100 - right(s, c, p)),
        ("that is of 100 people in all: divide by those who are called.", lambda s, c, p: 100 * s * p),
        ("the false alarms come from the healthy: (1 - specificity) * (1 - prevalence).",
         lambda s, c, p: 100 * s * p / (s * p + 1 - c)),
    ], "count 10,000 people: 0.9, 0.9 and 0.01 give 90 sick among 1,080 called, 8.33 of 100.")


def _judge_area(answer: Any) -> str | None:
    "5.4: scikit-learn's area, on scores with many ties"
    from sklearn.metrics import roc_auc_score

    def pairs(tie: float, of: Callable = lambda better: better.mean()) -> Callable:
        def area(sick: np.ndarray, scores: np.ndarray) -> float:
            difference = scores[sick][:, None] - scores[~sick]
            return float(of((difference > 0) + tie * (difference == 0)))

        return area

    by_hand = (np.array([True, True, False, True, False, False]), np.array([0.9, 0.8, 0.6, 0.6, 0.4, 0.1]))
    cases = [by_hand, _study(40, 4), _study(25, 5), (np.arange(8) % 3 == 0, np.full(8, 0.5))]
    return compare(answer, cases, lambda sick, scores: float(roc_auc_score(sick, scores)), [
        ("two equal scores count one half, not nothing.", pairs(0)),
        ("two equal scores count one half, not one.", pairs(1)),
        ("that is the chance that the healthy film scores higher.", lambda sick, s: 1 - roc_auc_score(sick, s)),
        ("that is how many pairs are in order: divide by the number of pairs.",
         pairs(0.5, lambda better: better.sum())),
        ("that is the accuracy at one half: no threshold is wanted, compare films with each other.",
         lambda sick, s: np.mean(sick == (s > 0.5))),
        ("divide by the pairs of one sick and one healthy film, not by all pairs of films.",
         lambda sick, s: pairs(0.5, lambda better: better.sum())(sick, s) / len(s)**2),
    ], "each sick film against each healthy one: 1 where it scores higher, one half for a tie, and the mean of these. "
       "By hand: 8.5 of 9 pairs.")


def _judge_threshold(answer: Any) -> str | None:
    "5.5: every score tried, from the highest down"
    def first(candidates: np.ndarray, enough: Callable) -> float:
        return float(next((t for t in candidates if enough(t)), candidates[-1]))

    def right(sick: np.ndarray, scores: np.ndarray, wanted: float) -> float:
        return first(np.unique(scores)[::-1], lambda t: (scores[sick] >= t).mean() >= wanted)

    def of_the_sick(position: Callable) -> Callable:
        return lambda sick, s, w: np.sort(s[sick])[::-1][position(sick.sum(), w)]

    cases = [(*_study(60, 6, digits=3), 0.9), (*_study(80, 7, digits=3), 0.7), (*_study(50, 8), 0.85),
             (*_study(33, 9, digits=3), 1.0), (*_study(71, 10, digits=3), 0.45)]
    return compare(answer, cases, right, [
        ("that is the lowest threshold that finds enough: every threshold below does. The highest is wanted.",
         lambda sick, s, w: s.min()),
        ("take the score of a sick film: the sensitivity looks at the sick only.",
         lambda sick, s, w: np.sort(s)[::-1][math.ceil(w * len(s)) - 1]),
        ("one film too many: count from 0.", of_the_sick(lambda n, w: min(math.ceil(w * n), n - 1))),
        ("that finds too few: round the number of films up.", of_the_sick(lambda n, w: max(math.floor(w * n) - 1, 0))),
        ("a quantile between two scores finds too few; go on to a score that is there.",
         lambda sick, s, w: np.quantile(s[sick], 1 - w)),
        ("that is the other end: so large a share lies BELOW it.",
         lambda sick, s, w: np.sort(s[sick])[math.ceil(w * sick.sum()) - 1]),
        ("that clears the share of the healthy (a specificity).",
         lambda sick, s, w: first(np.unique(s), lambda t: (s[~sick] < t).mean() >= w)),
    ], "sort the scores of the sick, highest first; with 10 sick films and 0.85, the ninth is the threshold.")


def _error(sure: np.ndarray, right: np.ndarray, bins: int, gap: Callable = np.abs, weigh: bool = True) -> float:
    "Gaps of the bins that hold films, weighed by films or not"
    place = np.minimum((np.asarray(sure) * bins).astype(int), bins - 1)
    rows = [(sure[place == b].mean() - right[place == b].mean(), (place == b).sum()) for b in np.unique(place)]
    gaps, films = map(np.array, zip(*rows))
    return float(np.average(gap(gaps), weights=films if weigh else None))


def _judge_calibration(answer: Any) -> str | None:
    "5.6: the gap of each bin; also a film with a probability of exactly 1, and bins that nobody is in"
    def films(count: int, seed: int, power: float = 2) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        sure = rng.uniform(0.34, 0.99, count)
        right = rng.random(count) < sure**power  # too sure, or with a power below 1 not sure enough
        return np.append(sure, 1.0), np.append(right, False)

    by_hand = (np.array([0.75, 0.75, 0.95, 1.0]), np.array([True, False, True, True]), 10)
    cases = [by_hand, (*films(50, 1), 10), (*films(200, 2), 15), (*films(9, 3), 5), (*films(90, 4, power=0.3), 10)]

    def lost(sure: np.ndarray, right: np.ndarray, bins: int) -> float:
        "The mistake of a bin of its own for a probability of 1, lost at the end"
        inner = sure < 1
        return _error(sure[inner], right[inner], bins) * inner.mean()

    return compare(answer, cases, _error, [
        ("weigh each bin by its number of films.", lambda s, r, b: _error(s, r, b, weigh=False)),
        ("gaps above and below cancel: take each bin's gap without its sign.",
         lambda s, r, b: _error(s, r, b, gap=lambda x: x)),
        ("gaps above and below cancel: take each bin's gap without its sign.",
         lambda s, r, b: _error(s, r, b, gap=lambda x: -x)),
        ("that is the gap over all films at once: take it bin by bin.", lambda s, r, b: abs(s.mean() - r.mean())),
        ("the gaps are not squared.", lambda s, r, b: _error(s, r, b, gap=np.square)),
        ("a probability of exactly 1 belongs to the last bin.", lost),
        ("compare means of a bin; a single film is either right or wrong.", lambda s, r, b: np.abs(s - r).mean()),
    ], "by hand: bin 0.7 to 0.8 has sure 0.75 and right 0.5, bin 0.9 to 1 sure 0.975 and right 1; two films each.")


def _judge_wilson(answer: Any) -> str | None:
    "5.7: SciPy's interval of a share"
    from scipy.stats import beta, binomtest, norm

    def right(found: int, of: int, level: float = 0.95) -> tuple[float, float]:
        interval = binomtest(found, of).proportion_ci(level, method="wilson")
        return interval.low, interval.high

    def simple(found: int, of: int, root: bool = True) -> tuple[float, float]:
        share = found / of
        half = norm.ppf(0.975) * math.sqrt(share * (1 - share)) / (math.sqrt(of) if root else 1)
        return share - half, share + half

    def clipped(found: int, of: int) -> np.ndarray:
        return np.clip(simple(found, of), 0, 1)

    def agresti(found: int, of: int) -> tuple[float, float]:
        "The mistake of widening around Wilson's middle with the plain formula"
        z = norm.ppf(0.975)
        total = of + z**2
        middle = (found + z**2 / 2) / total
        half = z * math.sqrt(middle * (1 - middle) / total)
        return middle - half, middle + half

    cases = [(21, 24), (22, 24), (0, 10), (12, 12), (5, 9), (300, 1000)]
    return compare(answer, cases, right, [
        ("share plus or minus 1.96 standard errors leaves 0 to 1, and has no width when all are found: solve "
         "(share - p)^2 = z^2 p (1 - p) / n for p.", simple),
        ("cutting off at 0 and 1 doesn't mend it: 12 of 12 has no width. Solve (share - p)^2 = z^2 p (1 - p) / n "
         "for p.", clipped),
        ("that is the spread of single films: divide by n under the root.", lambda x, n: simple(x, n, root=False)),
        ("2.5 % on either side: z = 1.96.", lambda x, n: right(x, n, 0.90)),
        ("first low, then high.", lambda x, n: right(x, n)[::-1]),
        ("in per cent? Shares from 0 to 1 are wanted.", lambda x, n: np.multiply(right(x, n), 100)),
        ("nearly: that is Agresti and Coull's short cut. Wilson's half-width has z^2 / (4 n^2) under the root.",
         agresti),
        ("that is the exact interval of Clopper and Pearson; Wilson's solves a quadratic.",
         lambda x, n: (beta.ppf(0.025, x, n - x + 1) if x else 0.0, beta.ppf(0.975, x + 1, n - x) if x < n else 1.0)),
    ], "21 of 24 gives 0.690 to 0.957. With s = 21/24: middle (s + z^2/2n) / (1 + z^2/n), half-width "
       "z sqrt(s(1 - s)/n + z^2/4n^2) / (1 + z^2/n).")


def _judge_resample(answer: Any) -> str | None:
    "5.8: what must hold for one resample, whoever is drawn"
    if not callable(answer):
        return "hand over the function itself: its name, without brackets."
    person = np.repeat(["p3", "p1", "p2", "p7", "p5", "p4", "p9", "p8"], [1, 4, 2, 7, 1, 3, 5, 2])
    person = person[np.random.default_rng(0).permutation(len(person))]

    def draw(seed: int) -> np.ndarray:
        rows = answer(person.copy(), seed)
        return np.bincount(np.asarray(list(rows)).astype(int), minlength=len(person))

    if answer(person.copy(), 0) is None:
        return "your function returns None: is there a `return`?"
    resamples = [draw(seed) for seed in range(30)]
    if any(len(times) > len(person) for times in resamples):
        return f"the films are numbered 0 to {len(person) - 1}: return row numbers."
    if not all(np.array_equal(draw(seed), times) for seed, times in enumerate(resamples)):
        return "the same seed must draw the same people: make a generator from it."
    return _judge_people(person, resamples)


def _judge_people(person: np.ndarray, resamples: list[np.ndarray]) -> str | None:
    "5.8: whole people, as many as there are, with replacement, each as likely as the next"
    names, films = np.unique(person, return_counts=True)
    if any(len(set(times[person == name])) > 1 for times in resamples for name in names):
        return "films of one person were drawn differently often: draw people, then take all their films."
    drawn = np.array([[times[person == name][0] for name in names] for times in resamples])
    if (drawn == 1).all():
        return "everyone came once: draw with replacement."
    if drawn.max() == 1:
        return "nobody came twice: draw with replacement, and take a person's films as often as they were drawn."
    if (drawn == drawn[0]).all():
        return "another seed must draw other people."
    if (drawn.sum(axis=1) != len(names)).any():
        return f"{len(names)} people must be drawn out of {len(names)}: as many as there are, not as many as films."
    often = drawn.mean(axis=0)
    if often[films.argmax()] > 2 and often[films.argmin()] < 0.7:
        return "people with many films come too often: draw from a list in which everyone stands once (np.unique)."
    return None


EXERCISES = (
    Exercise("5.1", "four counts", _judge_counts),
    Exercise("5.2", "recall and precision of one class", _judge_ratios),
    Exercise("5.3", "of 100 people called positive", _judge_hundred_called),
    Exercise("5.4", "area under the ROC curve, by pairs", _judge_area),
    Exercise("5.5", "the threshold that finds enough", _judge_threshold),
    Exercise("5.6", "calibration error", _judge_calibration),
    Exercise("5.7", "Wilson's interval", _judge_wilson),
    Exercise("5.8", "draw people, not films", _judge_resample),
)
