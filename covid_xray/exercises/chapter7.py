"Exercises of chapter 7, pitfalls: judged against scikit-learn and sums over all cases, on inputs nobody has seen"
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from covid_xray.exercises import Exercise
from covid_xray.exercises.chapter3 import compare

__all__ = ["EXERCISES"]


def _judge_count(answer: Any) -> str | None:
    "7.1: test films of persons who are in train or valid"
    def known(persons: Sequence, parts: Sequence, sides: Sequence = ("train", "valid")) -> set:
        return {p for p, part in zip(persons, parts) if part in sides and p is not None}

    def right(persons: Sequence, parts: Sequence) -> int:
        return sum(part == "test" and p in known(persons, parts) for p, part in zip(persons, parts))

    rng = np.random.default_rng(71)
    many = [None if p == 0 else f"p{p}" for p in rng.integers(0, 15, 40)]
    cases = [(["a", "a", "b", "c", "c", "c"], ["train", "test", "test", "valid", "test", "test"]),
             ([None, None, "a", "b"], ["train", "test", "test", "valid"]),
             (many, rng.choice(["train", "valid", "test"], 40).tolist()),
             (["a", "b", "a"], ["test", "test", "test"])]
    return compare(answer, cases, right, [
        ("those are the persons: how many of their films are in the test part?",
         lambda p, s: len(known(p, s) & known(p, s, ("test",)))),
        ("a patient of the validation part is known, too: it chose the epoch.",
         lambda p, s: sum(part == "test" and x in known(p, s, ("train",)) for x, part in zip(p, s))),
        ("`None` is nobody: two unknown persons need not be the same.",
         lambda p, s: sum(part == "test" and x in {*known(p, s), *(y for y, t in zip(p, s) if t != "test")}
                          for x, part in zip(p, s))),
        ("those are films of training and validation; count the test films.",
         lambda p, s: sum(part != "test" and x in known(p, s, ("test",)) for x, part in zip(p, s))),
        ("all films of such persons were counted; only those of the test part are asked for.",
         lambda p, s: sum(x in known(p, s) & known(p, s, ("test",)) for x in p)),
    ], "persons a, a, b, c, c, c in train, test, test, valid, test, test: three test films show known faces.")


def _rule(train_values: Sequence, train_labels: Sequence, *, unseen: str = "most frequent",
          first: bool = True) -> Callable[[Any], Any]:
    "The rule of 7.2 as a function, with one mistake or another"
    def usual(labels: Sequence) -> Any:
        counts = Counter(labels)
        ties = sorted(label for label in counts if counts[label] == max(counts.values()))
        return ties[0] if first else ties[-1]

    learnt = {v: usual([y for x, y in zip(train_values, train_labels) if x == v]) for v in set(train_values)}
    fallback = usual(train_labels) if unseen == "most frequent" else None
    return lambda value: learnt.get(value, fallback)


def _judge_rule(answer: Any) -> str | None:
    "7.2: the rule by counting"
    def score(**mistake: Any) -> Callable:
        def of(a: Sequence, y: Sequence, b: Sequence, z: Sequence) -> float:
            rule = _rule(a, y, **mistake)
            return float(np.mean([rule(value) == label for value, label in zip(b, z)]))

        return of

    right = score()
    rng = np.random.default_rng(72)
    drawn = [rng.choice(list(letters), n).tolist() 
             for letters, n in (("uvw", 30), ("ab", 30), ("uvwx", 25), ("ab", 25))]
    cases = [(["l", "l", "r", "r", "r"], ["n", "n", "c", "c", "n"], ["l", "r", "r", "x"], ["n", "c", "n", "n"]),
             (["u", "u", "v"], ["b", "a", "b"], ["u", "u", "v", "z"], ["a", "b", "b", "b"]),
             (["u", "u", "u", "v", "v"], list("aaabb"), ["v", "u", "v"], list("bab")), tuple(drawn)]
    return compare(answer, cases, right, [
        ("that is the rule on the films it was learnt from.", lambda a, y, b, z: right(a, y, a, y)),
        ("the rule was learnt on the test films themselves.", lambda a, y, b, z: right(b, z, b, z)),
        ("a value never seen gets the most frequent label of all training films; it isn't simply wrong.",
         score(unseen="wrong")),
        ("among equally frequent labels, the first in alphabetical order.", score(first=False)),
        ("that is how many are right: what share is it?", lambda a, y, b, z: right(a, y, b, z) * len(z)),
        ("that is the majority alone: the values aren't used.",
         lambda a, y, b, z: right(["same"] * len(y), y, ["same"] * len(z), z)),
        ("a share lies between 0 and 1: don't multiply by 100.", lambda a, y, b, z: 100 * right(a, y, b, z)),
    ], "for each value count the training labels; the largest count is what the rule says of test films with it.")


def _judge_scale(answer: Any) -> str | None:
    "7.3: scikit-learn's StandardScaler, fitted on the training films"
    from sklearn.preprocessing import StandardScaler

    def right(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        return StandardScaler().fit(train).transform(test)

    rng = np.random.default_rng(73)
    flat = rng.normal(5, 2, (30, 4))
    flat[:, 2] = 7.0
    cases = [(rng.normal(3, 2, (20, 3)), rng.normal(8, 1, (10, 3))), (flat, rng.normal(0, 9, (6, 4)))]
    return compare(answer, cases, right, [
        ("mean and spread of the test films were used: at the time of training nobody has them.",
         lambda a, b: right(b, b)),
        ("mean and spread of both parts together: the test films have leaked.",
         lambda a, b: right(np.concatenate([a, b]), b)),
        ("the training films were scaled; the test films are asked for.", lambda a, b: right(a, a)),
        ("divide by the spread, too.", lambda a, b: b - a.mean(0)),
        ("each column has its own mean and spread (axis=0).", lambda a, b: (b - a.mean()) / a.std()),
        ("a column that doesn't vary has spread 0: divide it by 1.",
         lambda a, b: (b - a.mean(0)) / np.where(a.std(0) == 0, np.nan, a.std(0))),
        ("np.std divides by n, not by n - 1.",
         lambda a, b: (b - a.mean(0)) / np.where(a.std(0) == 0, 1, a.std(0, ddof=1))),
    ], "(test - train.mean(axis=0)) / train.std(axis=0), with 1 in place of a spread of 0.")


def _judge_honest(answer: Any) -> str | None:
    "7.4: the test accuracy at the place of the best validation accuracy"
    def right(valid: np.ndarray, test: np.ndarray) -> float:
        return float(test.ravel()[valid.ravel().argmax()])

    rng = np.random.default_rng(74)
    cases = [(np.array([[0.6, 0.8, 0.7], [0.5, 0.75, 0.8]]), np.array([[0.65, 0.7, 0.9], [0.6, 0.72, 0.74]])),
             (rng.uniform(0.5, 0.9, (4, 6)), rng.uniform(0.5, 0.9, (4, 6))),
             (rng.uniform(0.5, 0.9, (6, 3)), rng.uniform(0.5, 0.9, (6, 3)))]
    return compare(answer, cases, right, [
        ("that is the best test accuracy: the test part has chosen.", lambda v, t: t.max()),
        ("that is the validation accuracy, which did the choosing and is too good itself.", lambda v, t: v.max()),
        ("each network was stopped rightly, but then the best was taken by the test part.",
         lambda v, t: max(t[i, v[i].argmax()] for i in range(len(v)))),
        ("that is the mean over the networks; one network is to be chosen, by the validation part.",
         lambda v, t: np.mean([t[i, v[i].argmax()] for i in range(len(v))])),
        ("choose the epoch, too: the last one isn't always the best.", lambda v, t: t[v[:, -1].argmax(), -1]),
        ("that is the mean of all.", lambda v, t: t.mean()),
    ], "find where `valid` is largest, over networks and epochs together, and read `test` at that place.")


def _judge_noise(answer: Any) -> str | None:
    "7.5: by summing over all pairs of what the model says and what the label became"
    def right(accuracy: float, noise: float, n: int) -> float:
        says = [accuracy, *[(1 - accuracy) / (n - 1)] * (n - 1)]
        became = [1 - noise, *[noise / (n - 1)] * (n - 1)]
        return sum(p * q for (i, p), (j, q) in product(enumerate(says), enumerate(became)) if i == j)

    cases = [(0.9, 0.2, 3), (1.0, 0.3, 2), (0.8, 0.1, 2), (0.5, 0.4, 4), (0.7, 0.0, 3)]
    return compare(answer, cases, right, [
        ("that is the ceiling of a perfect model; this one errs, too.", lambda a, r, n: 1 - r),
        ("almost: a wrong answer may meet a wrong label and count as right.", lambda a, r, n: a * (1 - r)),
        ("a wrong answer hits a wrong label only where both fell on the same class: divide by n_classes - 1.",
         lambda a, r, n: a * (1 - r) + (1 - a) * r),
        ("the wrong classes are n_classes - 1, not n_classes.", lambda a, r, n: a * (1 - r) + (1 - a) * r / n),
        ("noise isn't simply subtracted.", lambda a, r, n: a - r),
        ("that is the true accuracy: the wrong labels change what is measured.", lambda a, r, n: a),
    ], "right and label right: accuracy * (1 - noise); both wrong, and on the same class: the rest.")


def _judge_untie(answer: Any) -> str | None:
    "7.6: the weights of Kamiran and Calders, by counting"
    def weights(kind: str = "right") -> Callable:
        def of(sources: Sequence, labels: Sequence) -> list[float]:
            n, pairs = len(labels), Counter(zip(sources, labels))
            a, b = Counter(sources), Counter(labels)
            found = {"right": lambda s, y: a[s] * b[y] / (n * pairs[s, y]), "pair": lambda s, y: n / pairs[s, y],
                     "inverse": lambda s, y: n * pairs[s, y] / (a[s] * b[y]), "label": lambda s, y: n / b[y],
                     "counts": lambda s, y: a[s] * b[y] / pairs[s, y], "source": lambda s, y: n / a[s],
                     "within": lambda s, y: b[y] / pairs[s, y]}[kind]
            return [found(s, y) for s, y in zip(sources, labels)]

        return of

    rng = np.random.default_rng(76)
    cases = [(list("nnnnsssss"), list("hhhcccchh")), (list("nnns"), list("hhcc")),
             (rng.choice(list("xyz"), 60).tolist(), rng.choice(list("hc"), 60).tolist())]
    return compare(answer, cases, weights(), [
        ("upside down: frequent pairs must weigh less.", weights("inverse")),
        ("pairs are even now, but sources and labels lost their shares.", weights("pair")),
        ("that balances the labels alone; source and label are tied as before.", weights("label")),
        ("that balances the sources alone.", weights("source")),
        ("those are counts; with shares the weights of all films average 1.", weights("counts")),
        ("the share of the source is missing.", weights("within")),
        ("one weight a film is wanted, in the films' order.", lambda s, y: sorted(set(weights()(s, y)))),
    ], "count(source) * count(label) / (n * count(of both)), for each film.")


def _judge_looking(answer: Any) -> str | None:
    "7.7: one minus the chance that all keep silent"
    def right(groups: int, level: float) -> tuple[float, float]:
        return float(1 - np.prod([1 - level] * groups)), level / groups

    cases = [(1, 0.05), (8, 0.05), (20, 0.01), (3, 0.1)]
    return compare(answer, cases, right, [
        ("that is the chance that nothing is found.", lambda k, a: ((1 - a)**k, a / k)),
        ("chances don't add up (20 groups would give 100 %): 1 minus the chance of silence in all.",
         lambda k, a: (k * a, a / k)),
        ("that is the chance that all raise an alarm.", lambda k, a: (a**k, a / k)),
        ("Bonferroni divides the level by the number of groups.", lambda k, a: (right(k, a)[0], a * k)),
        ("that level is Sidak's; Bonferroni's is simpler and a little stricter.",
         lambda k, a: (right(k, a)[0], 1 - (1 - a)**(1 / k))),
        ("first the chance, then the level.", lambda k, a: right(k, a)[::-1]),
        ("two numbers are wanted: the chance, and the level for each group.", lambda k, a: right(k, a)[0]),
    ], "20 groups at 5 %: 1 - 0.95**20 = 0.64, and 0.0025 for each.")


def _judge_rim(answer: Any) -> str | None:
    "7.8: kept where a step of `rim` pixels leads off the film"
    def right(images: np.ndarray, rim: int) -> np.ndarray:
        n, high, wide = images.shape
        place = np.stack(np.meshgrid(np.arange(high), np.arange(wide), indexing="ij"))
        far = np.minimum(place, np.array([high - 1, wide - 1])[:, None, None] - place).min(0)
        return np.where(far < rim, images, 0)

    def middle(images: np.ndarray, rim: int) -> np.ndarray:
        return images - right(images, rim)

    rng = np.random.default_rng(78)
    cases = [(rng.integers(1, 255, shape).astype(np.uint8), rim) for shape, rim in (((2, 9, 9), 2), ((3, 12, 10), 3),
                                                                                    ((1, 8, 8), 1))]
    if callable(answer):
        films = cases[0][0].copy()
        answer(films, 2)
        if not np.array_equal(films, cases[0][0]):
            return "the films that you were given have changed: work on a copy."
    return compare(answer, cases, right, [
        ("the other way round: the rim stays, the middle goes.", middle),
        ("the rim is a pixel too narrow.", lambda x, r: right(x, r - 1)),
        ("the rim is a pixel too wide.", lambda x, r: right(x, r + 1)),
        ("the middle is black, 0, not white.", lambda x, r: np.where(right(x, r) > 0, x, 255)),
        ("rows and columns both have a rim.", lambda x, r: np.where((np.arange(x.shape[1]) < r)[None, :, None]
         | (np.arange(x.shape[1]) >= x.shape[1] - r)[None, :, None], x, 0)),
        ("the middle is blackened, not cut out.", lambda x, r: x[:, r:-r, r:-r]),
    ], "copy the films, then set [:, rim:-rim, rim:-rim] to 0.")


EXERCISES = (
    Exercise("7.1", "known faces", _judge_count),
    Exercise("7.2", "a rule that reads one thing", _judge_rule),
    Exercise("7.3", "scale without peeking", _judge_scale),
    Exercise("7.4", "the number that may be printed", _judge_honest),
    Exercise("7.5", "what wrong labels do to a good model", _judge_noise),
    Exercise("7.6", "untie by weights", _judge_untie),
    Exercise("7.7", "how often one looks", _judge_looking),
    Exercise("7.8", "only the rim", _judge_rim),
)
