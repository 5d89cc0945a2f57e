"Exercises of chapter 1b, contrast and crop: judged against NumPy, SciPy and sums by hand, on films nobody has seen"
from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from covid_xray.exercises import Exercise
from covid_xray.exercises.chapter3 import compare

__all__ = ["EXERCISES"]


def _films() -> list[np.ndarray]:
    "Small films: six pixels, one that is nearly all black, one of many greys, one that is flat"
    rng = np.random.default_rng(11)
    dark = rng.poisson(2, (12, 15)).astype(np.uint8)
    dark[0, 0] = 201
    return [np.array([[10, 10, 11], [12, 200, 11]], np.uint8), dark,
            rng.integers(3, 250, (20, 11)).astype(np.uint8), np.full((4, 5), 77, np.uint8)]


def _judge_count(answer: Any) -> str | None:
    "1b.1: NumPy's own histogram with a bin for each grey value"
    def right(image: np.ndarray) -> np.ndarray:
        return np.histogram(image, bins=np.arange(257))[0]

    return compare(answer, [(film,) for film in _films()], right, [
        ("256 numbers are wanted, also for greys that no pixel has (minlength=256).",
         lambda x: np.bincount(x.ravel())),
        ("that counts only greys that occur: the place of a number must be its grey value.",
         lambda x: np.unique(x, return_counts=True)[1]),
        ("numbers of pixels are wanted, not shares.", lambda x: right(x) / x.size),
        ("that is the cumulative histogram; leave out the cumsum.", lambda x: right(x).cumsum()),
        ("256 bins between the smallest and the largest grey aren't one bin a grey value: give range=(0, 256).",
         lambda x: np.histogram(x, 256)[0]),
        ("255 bins of 256 greys put two of them together.", lambda x: np.histogram(x, 255, (0, 255))[0]),
    ], "np.bincount counts whole numbers; it wants a flat array and a minlength.")


def _judge_window(answer: Any) -> str | None:
    "1b.2: np.interp between the two greys, rounded"
    def right(image: np.ndarray, low: float, high: float) -> np.ndarray:
        return np.round(np.interp(image, [low, high], [0, 255]))

    def line(image: np.ndarray, low: float, high: float) -> np.ndarray:
        return (image.astype(float) - low) / (high - low)

    def wrapped(image: np.ndarray, low: float, high: float) -> np.ndarray:
        return np.round(line(image, low, high) * 255).astype(np.int64).astype(np.uint8)

    films = _films()
    cases = [(films[0], 10, 13), (films[1], 1, 5), (films[2], 40, 200), (films[2], 100, 101)]
    return compare(answer, cases, right, [
        ("greys below `low` or above `high` have wrapped around: clip to 0..1 before you convert to uint8.", wrapped),
        ("greys outside the window must become 0 and 255: clip.",
         lambda x, a, b: np.round(line(x, a, b) * 255)),
        ("the result runs from 0 to 255, not from 0 to 1.", lambda x, a, b: line(x, a, b).clip(0, 1)),
        ("round before you convert: uint8 cuts off what is behind the point.",
         lambda x, a, b: np.floor(line(x, a, b).clip(0, 1) * 255)),
        ("a difference of uint8 numbers can't be negative and wraps around: convert to float first.",
         lambda x, a, b: np.round(((x - np.uint8(a)) / (b - a)).clip(0, 1) * 255)),
        ("that only clips: stretch what is left to 0..255.", lambda x, a, b: x.clip(a, b)),
        ("white is at `high`, not at the largest grey of the film.",
         lambda x, a, b: np.round(np.interp(x, [a, max(int(x.max()), a + 1)], [0, 255]))),
    ], "(grey - low) / (high - low), clipped to 0..1, times 255, rounded.")


def _equalised(image: np.ndarray, kind: str = "max", subtract: bool = True) -> np.ndarray:
    "Ranks instead of histograms: the share of pixels as dark or darker, the darkest grey at 0"
    up_to = rankdata(image, kind).reshape(image.shape)
    darkest = up_to.min() if subtract else 0.0
    return up_to * 0 + image if darkest == image.size else (up_to - darkest) / (image.size - darkest) * 255


def _judge_equalise(answer: Any) -> str | None:
    "1b.3: from ranks, without any histogram"
    def right(image: np.ndarray) -> np.ndarray:
        return np.round(_equalised(image))

    return compare(answer, [(film,) for film in _films()], right, [
        ("the darkest pixels must become 0: subtract their number, above and below the line.",
         lambda x: np.round(_equalised(x, subtract=False))),
        ("subtract the number of the darkest pixels below the line, too.",
         lambda x: np.round((rankdata(x, "max") - (x == x.min()).sum()).reshape(x.shape) / x.size * 255)),
        ("that stretches greys in a straight line; equalisation replaces each by a share of pixels.",
         lambda x: np.round((x - float(x.min())) / max(np.ptp(x), 1) * 255)),
        ("a share runs from 0 to 1: times 255.", lambda x: _equalised(x) / 255),
        ("round to whole greys.", _equalised),
        ("a flat film has no other grey to go to: hand it back as it is.",
         lambda x: right(x) if np.ptp(x) else np.full(x.shape, np.nan)),
        ("a flat film has no other grey to go to: hand it back as it is.",
         lambda x: right(x) if np.ptp(x) else np.zeros(x.shape)),
    ], "cumulate the histogram, subtract the count of the darkest grey, divide by what is left, times 255, round.")


def _judge_same(answer: Any) -> str | None:
    "1b.4: same ranks, ties included"
    def right(a: np.ndarray, b: np.ndarray) -> bool:
        return bool(np.array_equal(rankdata(a, "dense"), rankdata(b, "dense")))

    rng = np.random.default_rng(14)
    film = rng.integers(0, 40, (8, 8))
    bent = (film**2 // 8 + 3 * film + 5).astype(int)
    merged, parted = bent.copy(), bent.copy()
    merged[merged == merged.max()] = np.unique(merged)[-2]  # two greys have become one
    parted[np.unravel_index(np.argmax(parted == np.median(parted)), parted.shape)] += 1
    turned = np.rot90(film).copy()
    cases = [(film, bent), (film, merged), (merged, film), (film, 250 - film), (film, turned), (film, film + 7),
             (film, parted)]
    return compare(answer, cases, right, [
        ("two greys that have become one can't be told apart any more: the films are not the same afterwards.",
         lambda a, b: bool((np.sign(np.subtract.outer(a, a)) * np.sign(np.subtract.outer(b, b)) >= 0).all())),
        ("an inverted film has its ranks in reverse: dark and light have changed places.",
         lambda a, b: right(a, b) or right(a, -b)),
        ("the greys themselves may differ; their order may not.", lambda a, b: bool(np.array_equal(a, b))),
        ("equal histograms aren't enough: the same *pixels* must have the same rank.",
         lambda a, b: right(np.sort(a, None), np.sort(b, None))),
        ("a straight line isn't needed: any bend that keeps the order leaves the ranks as they are.",
         lambda a, b: bool(np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99999)),
    ], "give every pixel the number of different greys below its own, in both films, and compare.")


def _judge_clip(answer: Any) -> str | None:
    "1b.5: no pixel is lost, no count is above the limit and its share"
    def right(counts: np.ndarray, limit: float) -> np.ndarray:
        return np.minimum(counts, limit) + (counts - limit).clip(0).sum() / len(counts)

    rng = np.random.default_rng(15)
    cases = [(np.array([0, 10, 2, 0]), 4), (rng.poisson(3, 256) * rng.integers(0, 9, 256), 12), (np.arange(8), 99),
             (np.array([100, 0, 0, 0, 0]), 1)]
    return compare(answer, cases, right, [
        ("what is cut off must be shared out: no pixel may be lost.", lambda c, k: np.minimum(c, k)),
        ("*all* greys get an equal share, also those that were cut.",
         lambda c, k: np.where(c > k, k, c + (c - k).clip(0).sum() / max((c <= k).sum(), 1))),
        ("what is shared out is what lies above the limit, not the whole count.",
         lambda c, k: np.minimum(c, k) + c[c > k].sum() / len(c)),
        ("share it out after cutting, not before.",
         lambda c, k: np.minimum(c + (c - k).clip(0).sum() / len(c), k)),
        ("whole pixels aren't needed: shares may be fractions, else some are lost.",
         lambda c, k: np.minimum(c, k) + int((c - k).clip(0).sum()) // len(c)),
        ("each grey gets an equal *share* of what was cut off: divide by their number.",
         lambda c, k: np.minimum(c, k) + (c - k).clip(0).sum()),
    ], "by hand: 0, 10, 2, 0 with a limit of 4 loses 6; a quarter of it is 1.5 for each: 1.5, 5.5, 3.5, 1.5.")


def _judge_mix(answer: Any) -> str | None:
    "1b.6: np.interp between the middles of the tiles"
    def right(n_pixels: int, values: np.ndarray) -> np.ndarray:
        return np.interp(places(n_pixels, values), np.arange(len(values)), values)

    def places(n_pixels: int, values: np.ndarray) -> np.ndarray:
        return np.arange(n_pixels) / (n_pixels / len(values)) - 0.5

    def without_end(n_pixels: int, values: np.ndarray) -> np.ndarray:
        place = places(n_pixels, values)
        before = np.floor(place).astype(int).clip(0, len(values) - 2)
        return values[before] + (place - before) * (values[before + 1] - values[before])

    rng = np.random.default_rng(16)
    cases = [(8, np.array([10., 20.])), (24, rng.uniform(0, 255, 3)), (40, rng.uniform(0, 255, 8))]
    return compare(answer, cases, right, [
        ("that gives each pixel the value of its own tile: there you see the seams.",
         lambda n, v: np.repeat(v, n // len(v))),
        ("the middle of a tile has its value, not its first pixel: subtract half a tile.",
         lambda n, v: np.interp(places(n, v) + 0.5, np.arange(len(v)), v)),
        ("outside the first and the last middle there is one tile only: take its value, don't go on with the slope.",
         without_end),
        ("from end to end isn't from middle to middle.",
         lambda n, v: np.interp(np.arange(n) / (n - 1) * (len(v) - 1), np.arange(len(v)), v)),
        ("that takes the nearest tile; mix the two nearest by how near they are.",
         lambda n, v: v[np.round(places(n, v)).astype(int).clip(0, len(v) - 1)]),
        ("the weights have changed places: the nearer tile counts more.",
         lambda n, v: v[np.floor(places(n, v)).astype(int).clip(0, len(v) - 1)]
         + v[np.ceil(places(n, v)).astype(int).clip(0, len(v) - 1)] - right(n, v)),
    ], "by hand: 8 pixels, values 10 and 20: 10, 10, 10, 12.5, 15, 17.5, 20, 20. np.interp does it in one call.")


def _judge_crop(answer: Any) -> str | None:
    "1b.7: by scipy.ndimage.find_objects"
    from scipy.ndimage import find_objects

    def box(mask: np.ndarray, margin: int, clip: bool = True, end: int = 0) -> list[int]:
        found = find_objects(mask.astype(int))[0]
        edges = [(side.start - margin, side.stop + margin + end) for side in found]
        limits = [(max(a, 0), min(b, n)) if clip else (a, b) for (a, b), n in zip(edges, mask.shape)]
        return [edge for pair in limits for edge in pair]

    masks = [np.zeros((12, 20), bool) for _ in range(4)]
    masks[0][3:7, 4:9] = True
    masks[1][2:10, 2:5] = masks[1][4:11, 12:18] = True  # two lungs
    masks[2][0:5, 15:20] = True
    masks[3][6, 9] = True
    cases = [(mask, margin) for mask in masks for margin in (0, 1, 3)]
    return compare(answer, cases, box, [
        ("the ends are those of a slice: one behind the last pixel.", lambda m, k: box(m, k, end=-1)),
        ("the box must not leave the film: a negative start means something else to a slice.",
         lambda m, k: box(m, k, clip=False)),
        ("rows first: top, bottom, left, right.", lambda m, k: [*box(m, k)[2:], *box(m, k)[:2]]),
        ("where is the margin?", lambda m, k: box(m, 0)),
        ("the margin goes to both sides.",
         lambda m, k: [box(m, k)[0], box(m, 0)[1], box(m, k)[2], box(m, 0)[3]]),
        ("in order: top, bottom, left, right.", lambda m, k: [box(m, k)[i] for i in (0, 2, 1, 3)]),
    ], "np.nonzero(mask) gives rows and columns; smallest minus margin, largest plus 1 plus margin, within the film.")


EXERCISES = (
    Exercise("1b.1", "counting greys", _judge_count),
    Exercise("1b.2", "a window by hand", _judge_window),
    Exercise("1b.3", "equalisation", _judge_equalise),
    Exercise("1b.4", "what equalisation can't see", _judge_same),
    Exercise("1b.5", "a histogram with a limit", _judge_clip),
    Exercise("1b.6", "no seams", _judge_mix),
    Exercise("1b.7", "a box with a margin", _judge_crop),
)
