"""The exercises of chapter 2, augmentation: matrices, whole batches, repeatable chance, labels that stay true."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from covid_xray.exercises import Exercise
from covid_xray.exercises.judging import hint_for, matches

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EXERCISES"]

NOTHING = "your function gives back None: end it with `return`"
CHANGED = "your function changed the films it was given: work on a copy (images.clone())"


def _films(*shape: int, seed: int = 3) -> Tensor:
    "Random films, grey values between 0.2 and 0.9"
    import torch

    return torch.from_numpy(np.random.default_rng(seed).uniform(0.2, 0.9, shape).astype(np.float32))


def _matrix(value: Any) -> np.ndarray | str:  # [2, 3], or a hint
    "A matrix of two rows and three columns, whatever it is kept in; one film's batch [1, 2, 3] will do"
    got = np.asarray(value, dtype=float)
    got = got[0] if got.shape == (1, 2, 3) else got
    return got if got.shape == (2, 3) else f"the shape is {got.shape}: two rows (x and y) and three columns are needed"


def judge_flip(flip_matrix: Callable) -> str | None:
    "2.1: [[-1, 0, 0], [0, 1, 0]]"
    result = flip_matrix()
    if result is None:
        return NOTHING
    if isinstance(got := _matrix(result), str):
        return got
    if matches(got, [[-1, 0, 0], [0, 1, 0]]):
        return None
    return hint_for(got, {
        "that leaves everything where it is": [[1, 0, 0], [0, 1, 0]],
        "that turns the film upside down: left and right belong to x, the first row": [[1, 0, 0], [0, -1, 0]],
        "that is a turn by 180 degrees: y must stay as it is": [[-1, 0, 0], [0, -1, 0]],
        "that swaps x and y, a flip about the diagonal": [[0, 1, 0], [1, 0, 0]],
        "x runs from -1 to 1 with 0 in the middle: no shift is needed": [[-1, 0, 1], [0, 1, 0]],
    }, "for a place (x, y) of the new film look at (-x, y) of the old one")


def judge_brighten(brighten: Callable) -> str | None:
    "2.2: one amount a film; the first batch has as many films as columns, so that wrong broadcasting shows"
    import torch

    cases = [((4, 1, 4, 4), (0.2, -0.1, 0.05, -0.4)), ((2, 1, 5, 6), (-0.3, 0.3)), ((1, 1, 3, 2), (0.0,))]
    for shape, amounts in cases:
        images, dials = _films(*shape), torch.tensor(amounts)
        given = images.clone()
        got = brighten(given, dials.clone())
        if got is None:
            return NOTHING
        if not torch.equal(given, images):
            return CHANGED
        if np.shape(got) != shape:
            return f"the shape is {tuple(np.shape(got))}: it stays {shape}; make the amounts [B, 1, 1, 1]"
        lifted = images + dials.view(-1, 1, 1, 1)
        if not matches(got, lifted.clamp(0, 1)):
            columns = images + dials if shape[3] == len(amounts) else images
            return hint_for(got, {
                "some values leave 0..1: clamp at the end": lifted,
                "each column got an amount of its own, not each film: make the amounts [B, 1, 1, 1]":
                    columns.clamp(0, 1),
                "each column got an amount of its own, not each film: make the amounts [B, 1, 1, 1]; then clamp":
                    columns,
                "all films got the first amount: each has its own": (images + dials[0]).clamp(0, 1),
                "you multiply: brightness adds": (images * (1 + dials.view(-1, 1, 1, 1))).clamp(0, 1),
            }, "to each film its own amount, then nothing below 0 or above 1")
    return None


def judge_turn(turn_matrix: Callable) -> str | None:
    "2.3: clockwise as seen on screen, y pointing down"
    for degrees in (30.0, -90.0, 0.0, 137.0):
        result = turn_matrix(degrees)
        if result is None:
            return NOTHING
        if isinstance(got := _matrix(result), str):
            return got
        if not matches(got, _turn(math.radians(degrees)), 1e-4):
            return hint_for(got, {
                "that turns anticlockwise: the matrix says where to *look*, so it turns back": _turn(
                    -math.radians(degrees)),
                "sine and cosine take radians: math.radians(degrees)": _turn(degrees),
                "sine and cosine take radians (math.radians), and the sign of the sines is the other one":
                    _turn(-degrees),
            }, "cosines on the diagonal, sines of opposite signs beside them, no shift", 1e-4)
    return None


def _turn(radians: float) -> list[list[float]]:
    cosine, sine = math.cos(radians), math.sin(radians)
    return [[cosine, sine, 0], [-sine, cosine, 0]]


def judge_zoom(zoom_matrix: Callable) -> str | None:
    "2.4: first scaled, then shifted: the place p of the new film shows (p - shift) / scale of the old one"
    for scale, right, down in [(2.0, 0.5, -0.25), (0.8, -0.2, 0.1), (1.0, 0.3, 0.0)]:
        result = zoom_matrix(scale, right, down)
        if result is None:
            return NOTHING
        if isinstance(got := _matrix(result), str):
            return got
        inverse, shift = 1 / scale, np.array([right, down])
        if matches(got, _zoom(inverse, -shift / scale)):
            continue
        general = "a place p of the new film shows (p - shift) / scale of the old one: write that for x and for y"
        return hint_for(got, {
            "to make the film larger, look at a smaller part: 1 / scale on the diagonal": _zoom(scale, -shift / scale),
            "1 / scale on the diagonal, and the shift divided by scale too": _zoom(scale, -shift),
            "the matrix says where to look: turn both round, 1 / scale on the diagonal and -shift / scale beside it":
                _zoom(scale, shift),
            "the film moves the other way: to shift it to the right, look further left": _zoom(inverse, shift / scale),
            "the film moves the other way, and the shift must be divided by scale": _zoom(inverse, shift),
            "the shift too must be divided by scale: undo the shift first, then the scale": _zoom(inverse, -shift),
            "right belongs to x, the first row, and down to y": _zoom(inverse, -shift[::-1] / scale),
        }, general)
    return None


def _zoom(diagonal: float, shift: np.ndarray) -> list[list[float]]:
    return [[diagonal, 0, shift[0]], [0, diagonal, shift[1]]]


def _draw(generator: Any) -> tuple[float, ...] | None:
    "Four numbers from a generator of numpy or torch; None where it is neither"
    import torch

    if isinstance(generator, torch.Generator):
        return tuple(torch.rand(4, generator=generator).tolist())
    if isinstance(generator, (np.random.Generator, np.random.RandomState)):
        return tuple(generator.uniform(size=4).tolist())
    return None


def judge_generator(film_generator: Callable) -> str | None:
    "2.5: a generator of its own for each (seed, epoch, film)"
    alone = film_generator(0, 1, 2)
    if alone is None:
        return NOTHING
    expected = _draw(alone)
    if expected is None:
        return f"a generator is needed, np.random.default_rng(...); a {type(alone).__name__} came"
    if _draw(film_generator(0, 1, 2)) != expected:
        return "the same seed, epoch and film gave other numbers: the generator must be made from these three"
    held, _ = film_generator(0, 1, 2), film_generator(0, 1, 3)
    if _draw(held) != expected:
        return "all films share one generator: make a new one for each call"
    for name, other in [("seed", (5, 1, 2)), ("epoch", (0, 5, 2)), ("film", (0, 1, 5))]:
        if _draw(film_generator(*other)) == expected:
            return f"another {name} gave the same numbers: the {name} must go into the generator"
    triples = [*product(range(3), range(4), (0, 1, 2, 3, 10, 100, 1000, 10_000)), (0, 0, 20_000), (0, 0, 30_000)]
    if len({_draw(film_generator(*triple)) for triple in triples}) < len(triples):
        return "two films meet in one number (epoch 1, film 2 and epoch 2, film 1, say): give the generator all three"
    return None


def _lesions() -> list[tuple[Tensor, Tensor]]:
    "Masks before and after bending: lost in part, moved, grown, none there"
    import torch

    before, after = torch.zeros(5, 1, 8, 8), torch.zeros(5, 1, 8, 8)
    before[0, 0, :2, :4], after[0, 0, :1, :4] = 1, 1
    before[1, 0, 4:6, :2], after[1, 0, 2:4, 4:6] = 1, 1
    before[2, 0, 3:5, 3:5], after[2, 0, 2:6, 2:6] = 1, 1
    before[3, 0, 0, :], after[3, 0, 0, :2] = 1, 0.5
    return [(before[:4], after[:4]), (before, after), (before[[3]], after[[3]])]


def judge_kept(share_kept: Callable) -> str | None:
    "2.6: the share of each lesion that is still on the film"
    import torch

    for before, after in _lesions():
        result = share_kept(before.clone(), after.clone())
        if result is None:
            return NOTHING
        area, left = before.sum((1, 2, 3)), after.sum((1, 2, 3))
        exact = torch.where(area > 0, left / area.clamp(min=1e-9), 1.0)
        got = np.asarray(result, dtype=float)
        if got.shape != (len(before),) and got.size == 1:
            return "one number for the whole batch came: sum over the axes 1, 2 and 3 only, each film has its own share"
        if got.shape != (len(before),):
            return f"the shape is {got.shape}: one number a film, ({len(before)},), is needed"
        if np.isnan(got).any():
            return "a film without a lesion gives 0 / 0: nothing is there to lose, so its share is 1"
        if not matches(got, exact.clamp(max=1)):
            stayed = (before * after).sum((1, 2, 3)) / area.clamp(min=1e-9)
            return hint_for(got, {
                "a lesion that has grown is kept whole, not four times: at most 1": exact,
                "a film without a lesion has nothing to lose: its share is 1, not 0":
                    (left / area.clamp(min=1e-9)).clamp(max=1),
                "you count what stayed in its place: a lesion may move, as long as it is on the film":
                    torch.where(area > 0, stayed, 1.0).clamp(max=1),
                "that is the share that is lost": 1 - exact.clamp(max=1),
                "the other way round: what is left, divided by what was there":
                    (area / left.clamp(min=1e-9)).clamp(max=1),
            }, "for each film the sum of the mask after, divided by the sum before, and at most 1")
    return None


def _blackened(images: Tensor, top: Sequence[int], left: Sequence[int], side: int) -> Tensor:
    "Each film with a black square at its own place, by looking at each pixel"
    rows, columns = np.arange(images.shape[2])[:, None], np.arange(images.shape[3])[None, :]
    result = images.clone()
    for film, first, start in zip(result, top, left):
        film[:, (rows >= first) & (rows < first + side) & (columns >= start) & (columns < start + side)] = 0
    return result


def judge_cutout(cutout: Callable) -> str | None:
    "2.7: a black square a film, cut off at the rim"
    import torch

    cases = [((3, 1, 8, 10), (1, 4, 0), (6, 2, 3), 3), ((2, 1, 6, 6), (4, 2), (5, 0), 4),
             ((3, 1, 7, 5), (-2, 3, 1), (1, -1, 2), 3)]
    for shape, top, left, side in cases:
        images, tops, lefts = _films(*shape), torch.tensor(top), torch.tensor(left)
        given = images.clone()
        got = cutout(given, tops.clone(), lefts.clone(), side)
        if got is None:
            return NOTHING
        if not torch.equal(given, images):
            return CHANGED
        if not matches(got, _blackened(images, top, left, side)):
            count = len(top)
            whole = [[start if start >= 0 else 10_000 for start in corner] for corner in (top, left)]
            return hint_for(got, {
                "that is the film as it was": images,
                "all films have the square of the first: each has its own place": _blackened(
                    images, top[:1] * count, left[:1] * count, side),
                "top counts rows, left counts columns: they have changed places": _blackened(images, left, top, side),
                "the square is one pixel too large: rows top to top + side - 1": _blackened(
                    images, top, left, side + 1),
                "a square that begins outside the film is cut off at the rim; a negative index counts from the far "
                "end: use max(top, 0)": _blackened(images, *whole, side),
                "top and left are the square's corner, not its middle": _blackened(
                    images, [t - side // 2 for t in top], [s - side // 2 for s in left], side),
            }, "0 where top <= row < top + side and left <= column < left + side, all else as it was")
    return None


def judge_mixup(mixup: Callable) -> str | None:
    "2.8: films and labels mixed by the same shares"
    import torch

    cases = [((4, 1, 3, 5), (0, 2, 1, 1), (1, 0, 3, 2), 0.7, 3), ((3, 1, 4, 4), (1, 0, 3), (2, 0, 1), 0.25, 4),
             ((2, 1, 2, 2), (0, 1), (1, 0), 1.0, 2)]
    for shape, labels, order, share, classes in cases:
        images, targets, partner = _films(*shape), torch.tensor(labels), torch.tensor(order)
        given = images.clone()
        result = mixup(given, targets.clone(), partner.clone(), share, classes)
        if result is None:
            return NOTHING
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            return "give back two things: the mixed films and the mixed labels"
        if not torch.equal(given, images):
            return CHANGED
        own = torch.eye(classes)[targets]
        other, rest = own[partner], 1 - share
        if not matches(result[0], share * images + rest * images[partner]):
            return hint_for(result[0], {
                "the films are not mixed yet": images,
                "the shares of the films have changed places: `share` belongs to the film itself":
                    rest * images + share * images[partner],
                "the two shares of a film must sum to 1": share * images + images[partner],
            }, "films: share times the film plus (1 - share) times its partner, images[partner]")
        if np.shape(result[1]) != (len(labels), classes):
            return (f"the labels have shape {tuple(np.shape(result[1]))}: one row a film and one column a class, "
                    f"({len(labels)}, {classes}), since 70 % of one class cannot be said by a whole number")
        if not matches(result[1], share * own + rest * other):
            return hint_for(result[1], {
                "the films are mixed, their labels are not": own,
                "those are the labels of the partners alone": other,
                "the shares of the labels have changed places: `share` belongs to the film itself":
                    rest * own + share * other,
                "a row must sum to 1: weigh the two labels with share and 1 - share": own + other,
            }, "labels: share at the film's own class plus (1 - share) at its partner's class")
    return None


EXERCISES: tuple[Exercise, ...] = (
    Exercise("2.1", "The flip as a matrix", judge_flip),
    Exercise("2.2", "Light, film by film", judge_brighten),
    Exercise("2.3", "A turn", judge_turn),
    Exercise("2.4", "Scale and shift at once", judge_zoom),
    Exercise("2.5", "A generator a film", judge_generator),
    Exercise("2.6", "Is the finding still there?", judge_kept),
    Exercise("2.7", "Cutout", judge_cutout),
    Exercise("2.8", "Mixup", judge_mixup),
)
