"Exercises of chapter 9, deployment: judged by hand-worked rules, Bayes and scipy, on inputs nobody has seen"
from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covid_xray.exercises import Exercise
from covid_xray.exercises.chapter3 import compare

__all__ = ["EXERCISES"]


def _judge_decide(answer: Any) -> str | None:
    "9.1: the class of interest from its threshold up, else the best of the others"
    def right(probabilities: dict, label: str, threshold: float) -> float:
        if probabilities[label] >= threshold:
            return _code(label)
        return _code(max((name for name in probabilities if name != label), key=probabilities.get))

    def code(rule: Callable) -> Callable:
        return lambda *a: _code(rule(*a))

    cases = [({"covid": 0.4, "normal": 0.1, "pneumonia": 0.5}, "covid", 0.3),
             ({"covid": 0.45, "normal": 0.3, "pneumonia": 0.25}, "covid", 0.6),
             ({"covid": 0.3, "normal": 0.6, "pneumonia": 0.1}, "covid", 0.3),
             ({"covid": 0.2, "normal": 0.1, "pneumonia": 0.7}, "covid", 0.3),
             ({"normal": 0.35, "pneumonia": 0.65}, "pneumonia", 0.7), ({"a": 0.2, "b": 0.5, "c": 0.3}, "b", 0.55)]
    wrapped = (lambda *a: _code(answer(*a))) if callable(answer) else answer
    return compare(wrapped, cases, right, [
        ("that is the largest probability: the threshold wasn't used.", code(lambda p, l, t: max(p, key=p.get))),
        ("the threshold itself counts as reached (>=).",
         code(lambda p, l, t: l if p[l] > t else max((n for n in p if n != l), key=p.get))),
        ("below its threshold the class of interest is out, even where it is the most probable.",
         code(lambda p, l, t: l if p[l] >= t else max(p, key=p.get))),
        ("a class is wanted, not True or False.", code(lambda p, l, t: p[l] >= t)),
        ("a class of interest below its threshold doesn't mean 'normal'.",
         code(lambda p, l, t: l if p[l] >= t else "normal")),
    ], "covid 0.4, pneumonia 0.5 and a threshold of 0.3 give covid.")


def _code(word: Any) -> float:
    "A word as a number, so that answers can be compared; anything else as it is"
    return float(int.from_bytes(word.encode(), "big") % 1_000_003) if isinstance(word, str) else word


def _judge_prevalence(answer: Any) -> str | None:
    "9.2: Bayes on the odds"
    def right(probability: float, learnt: float, here: float) -> float:
        ill = probability * here / learnt
        return ill / (ill + (1 - probability) * (1 - here) / (1 - learnt))

    cases = [(0.9, 0.5, 0.05), (0.3, 0.3, 0.3), (0.6, 0.3, 0.01), (0.2, 0.1, 0.4)]
    return compare(answer, cases, right, [
        ("the prevalences have changed places.", lambda p, a, b: right(p, b, a)),
        ("odds, not probabilities, are multiplied: the healthy change too.", lambda p, a, b: p * b / a),
        ("the healthy must be weighed as well, by (1 - here) / (1 - learnt).",
         lambda p, a, b: (p * b / a) / (p * b / a + 1 - p)),
        ("the model's probability already holds the prevalence it learnt at: divide that out.",
         lambda p, a, b: p * b / (p * b + (1 - p) * (1 - b))),
        ("those are odds: turn them into a probability.", lambda p, a, b: right(p, a, b) / (1 - right(p, a, b))),
        ("nothing was changed.", lambda p, a, b: p),
    ], "odds * (here / (1 - here)) / (learnt / (1 - learnt)), then odds / (1 + odds). 0.9 from 0.5 to 0.05 gives 0.32.")


def _judge_sets(answer: Any) -> str | None:
    "9.3: the order statistic of split conformal prediction"
    def right(true: Sequence[float], coverage: float) -> float:
        surprise = sorted(1 - np.asarray(true, float))
        rank = int(np.ceil((len(surprise) + 1) * coverage))
        return 1 - surprise[rank - 1] if rank <= len(surprise) else 0.0

    def at(rank: Callable[[int, float], int]) -> Callable:
        return lambda p, c: 1 - sorted(1 - np.asarray(p, float))[min(len(p), max(1, rank(len(p), c))) - 1]

    rng = np.random.default_rng(93)
    cases = [([0.9, 0.8, 0.2, 0.95, 0.6, 0.7, 0.99, 0.5, 0.85], 0.8), (rng.random(40), 0.9), (rng.random(25), 0.7),
             ([0.9, 0.5, 0.7], 0.9), (rng.random(12), 0.6)]
    return compare(answer, cases, right, [
        ("the correction is missing: (n + 1) * coverage, for the new film is one of the n + 1.",
         at(lambda n, c: int(np.ceil(n * c)))),
        ("round the rank up, not down.", at(lambda n, c: int(np.floor((n + 1) * c)))),
        ("that is the limit on the surprise: the lowest probability is 1 minus it.", lambda p, c: 1 - right(p, c)),
        ("the wrong end: a share `coverage` of the true classes must lie at or above it.",
         lambda p, c: np.quantile(np.asarray(p, float), c)),
        ("with so few films no limit is safe: then every class is named, from 0 on.",
         lambda p, c: right(p, c) or min(p)),
        ("np.quantile interpolates; take the value at the rank.",
         lambda p, c: np.quantile(np.asarray(p, float), 1 - c)),
    ], "sort 1 - p; take the one at rank ceil((n + 1) * coverage), counted from 1; return 1 minus it.")


def _judge_pose(answer: Any) -> str | None:
    "9.4: quarter turns to the left that bring a picture back, by correlation with the average"
    def right(picture: np.ndarray, average: np.ndarray) -> int:
        return int(np.argmax([np.corrcoef(np.rot90(picture, k).ravel(), average.ravel())[0, 1] for k in range(4)]))

    rng = np.random.default_rng(94)
    average = rng.normal(size=(8, 8))
    cases = [(np.rot90(average, k) * s + rng.normal(0, 0.3, (8, 8)) + o, average)
             for k, s, o in ((0, 1, 0), (1, 5, 100), (2, 0.5, -3), (3, 40, 9), (1, 0.1, 0))]
    return compare(answer, cases, right, [
        ("that is how far it was turned; how far must it be turned *back*?", lambda x, m: (4 - right(x, m)) % 4),
        ("to the left, as np.rot90 turns.", lambda x, m: int(np.argmax(
            [np.corrcoef(np.rot90(x, -k).ravel(), m.ravel())[0, 1] for k in range(4)]))),
        ("a brighter or harder film is still the same: compare by correlation, not by difference.",
         lambda x, m: int(np.argmin([np.abs(np.rot90(x, k) - m).sum() for k in range(4)]))),
        ("products depend on brightness: take the means away first (np.corrcoef does).",
         lambda x, m: int(np.argmax([(np.rot90(x, k) * (m - m.min())).sum() for k in range(4)]))),
        ("the best fit, not the worst.", lambda x, m: int(np.argmin(
            [np.corrcoef(np.rot90(x, k).ravel(), m.ravel())[0, 1] for k in range(4)]))),
        ("quarter turns are wanted, not degrees.", lambda x, m: 90 * right(x, m)),
    ], "for k in 0, 1, 2, 3: np.corrcoef(np.rot90(picture, k).ravel(), average.ravel())[0, 1]; return the best k.")


def _file(header: bytes, body: int, declared: int | None = None) -> bytes:
    "A safetensors file by its parts, perhaps with a lie in its first eight bytes"
    return struct.pack("<Q", len(header) if declared is None else declared) + header + bytes(body)


def _judge_header(answer: Any) -> str | None:
    "9.5: sound only if the declared header fits into the file and opens with a brace"
    text = json.dumps({"w": {"dtype": "F32", "shape": [300], "data_offsets": [0, 1200]}}).encode()
    files = [_file(text, 1200), _file(text, 1200, 2**60), _file(text, 0, len(text) + 1), b"\x80\x04pickle" * 30,
             b"abc", _file(text, 0), _file(b" " + text, 50), b"", _file(b"[1]" + text, 9)]

    def right(content: bytes) -> bool:
        return len(content) > 8 and int.from_bytes(content[:8], "little") <= len(content) - 8 and content[8:9] == b"{"

    return compare(answer, [(one,) for one in files], right, [
        ("the eight bytes are little-endian: the smallest first.", lambda c: len(c) > 8 and int.from_bytes(
            c[:8], "big") <= len(c) - 8 and c[8:9] == b"{"),
        ("the header starts after eight bytes: it may be at most len(content) - 8 long.", lambda c: len(c) > 8
         and int.from_bytes(c[:8], "little") <= len(c) and c[8:9] == b"{"),
        ("a length that fits isn't enough: a header opens with a brace.", lambda c: len(c) > 8
         and int.from_bytes(c[:8], "little") <= len(c) - 8),
        ("the declared length was believed: compare it with the file.", lambda c: len(c) > 8 and c[8:9] == b"{"),
        ("nothing was refused.", lambda c: True), ("everything was refused.", lambda c: False),
        ("a header that fills the rest of the file exactly is sound (<=).", lambda c: len(c) > 8 and int.from_bytes(
            c[:8], "little") < len(c) - 8 and c[8:9] == b"{"),
    ], "int.from_bytes(content[:8], 'little') against len(content) - 8, and content[8:9] == b'{'.")


def _judge_drift(answer: Any) -> str | None:
    "9.6: counts between deciles, and Pearson's statistic against equal counts"
    def counts(values: Sequence[float], deciles: Sequence[float]) -> np.ndarray:
        return np.array([sum(sum(v >= edge for edge in deciles[1:-1]) == k for v in values) for k in range(10)])

    def right(values: Sequence[float], deciles: Sequence[float]) -> float:
        expected = len(values) / 10
        return float(((counts(values, deciles) - expected)**2 / expected).sum())

    rng = np.random.default_rng(96)
    edges = np.quantile(rng.normal(size=500), np.linspace(0, 1, 11))
    cases = [(rng.normal(size=80), edges), (rng.normal(1, 1, 60), edges), (np.array([-99.0, 99, *edges[1:-1]]), edges)]
    return compare(answer, cases, right, [
        ("films beyond the ends belong to the outermost bins: none may be lost.", lambda v, d: float(
            ((np.histogram(v, d)[0] - len(v) / 10)**2 / (len(v) / 10)).sum())),
        ("divide each square by what was expected, not by what came.", lambda v, d: float(
            ((counts(v, d) - len(v) / 10)**2 / np.maximum(counts(v, d), 1)).sum())),
        ("square the differences.", lambda v, d: float(np.abs(counts(v, d) - len(v) / 10).sum() / (len(v) / 10))),
        ("divide by the expected counts.", lambda v, d: float(((counts(v, d) - len(v) / 10)**2).sum())),
        ("that is the mean over the bins: take the sum.", lambda v, d: right(v, d) / 10),
        ("those are shares; the statistic is about counts.", lambda v, d: right(v, d) / len(v)),
    ], "ten counts (outer edges at minus and plus infinity), expected len(values) / 10 each, sum of square / expected.")


def _judge_fuse(answer: Any) -> str | None:
    "9.7: a likelihood ratio on the odds"
    def right(film: float, positive: bool, sensitivity: float, specificity: float) -> float:
        ill, well = (sensitivity, 1 - specificity) if positive else (1 - sensitivity, specificity)
        return film * ill / (film * ill + (1 - film) * well)

    cases = [(0.9, False, 0.8, 0.99), (0.1, True, 0.8, 0.99), (0.5, True, 0.7, 0.9), (0.02, False, 0.95, 0.6)]
    return compare(answer, cases, right, [
        ("that takes a negative result for a positive one.", lambda f, r, a, b: right(f, True, a, b)),
        ("results have changed places.", lambda f, r, a, b: right(f, not r, a, b)),
        ("a mean isn't Bayes: two weak signs that agree make a strong one.",
         lambda f, r, a, b: (f + (a if r else 1 - a)) / 2),
        ("the film is the prior: it may not be left out.", lambda f, r, a, b: right(0.5, r, a, b)),
        ("divide by the chance of this result, ill or not.", lambda f, r, a, b: f * (a if r else 1 - a)),
        ("sensitivity is about the ill, specificity about the others: one of them is in the wrong place.",
         lambda f, r, a, b: right(f, r, b, a)),
    ], "ill: film * P(result | ill); well: (1 - film) * P(result | well); return ill / (ill + well). 0.9 with a "
       "negative PCR: 0.65.")


EXERCISES = (
    Exercise("9.1", "a decision at the operating point", _judge_decide),
    Exercise("9.2", "another prevalence", _judge_prevalence),
    Exercise("9.3", "from which probability a class is named", _judge_sets),
    Exercise("9.4", "turn it back", _judge_pose),
    Exercise("9.5", "a header that lies", _judge_header),
    Exercise("9.6", "ten bins", _judge_drift),
    Exercise("9.7", "film and PCR", _judge_fuse),
)
