"""The checks of chapter 6 are checked: right answers written in different ways pass, plausible mistakes fail,
each with the hint that belongs to it, and a stub counts as not started.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from judged import AnswersAreJudged

from covid_xray import exercises
from covid_xray.exercises import chapter6
from covid_xray.gradcam import gradcam_map, hirescam_map
from covid_xray.hooks import take_parts
from covid_xray.scoring import enrichment, pointing_game

ALL_CHAPTERS = exercises._CHAPTERS


def weights_by_loop(slopes: Tensor) -> list[float]:
    return [float(one.sum()) / one.numel() for one in slopes]


def gradcam_by_loops(activations: Tensor, head: Tensor, relu: bool = True) -> Tensor:
    total = torch.zeros(activations.shape[1:])
    for one, slopes in zip(activations, head):
        total += float(slopes.mean()) * one
    return total.clamp(min=0) if relu else total


def gradcam_by_chapter(activations: Tensor, head: Tensor) -> Tensor:
    return gradcam_map(activations[None], head[None])[0].relu()


def pointing_by_sets(map: np.ndarray, mask: np.ndarray) -> float:
    highest = set(np.flatnonzero(map.ravel() == map.max()))
    return len(highest & set(np.flatnonzero(mask.ravel()))) / len(highest)


def enrichment_by_shares(map: np.ndarray, mask: np.ndarray, low: float | None = 0) -> float:
    map = map.clip(low) if low is not None else map
    return (map * mask).sum() / map.sum() / (mask.sum() / mask.size)


def adding_up_by_loops(activations: Tensor, weight: Tensor, target: int) -> Tensor:
    maps, height, width = activations.shape
    return sum(weight[target, k] * activations[k] for k in range(maps)) / (height * width)


def adding_up_by_chapter(activations: Tensor, weight: Tensor, target: int) -> Tensor:
    slopes = (weight[target] / activations[0].numel())[:, None, None].expand_as(activations)
    return hirescam_map(activations[None], slopes[None])[0]


def look(model: nn.Module, name: str, images: Tensor, *, clone: bool = True, remove: bool = True,
         safely: bool = True, silent: bool = False, mode: bool | None = None) -> Tensor | None:
    "A hook with one mistake or another"
    kept = []
    handle = model.get_submodule(name).register_forward_hook(
        lambda module, inputs, output: kept.append(output.detach().clone() if clone else output))
    if mode is not None:
        model.train(mode)
    try:
        with torch.no_grad():
            model(images)
    except RuntimeError:
        if not silent:
            if safely:
                handle.remove()
            raise
    if remove:
        handle.remove()
    return kept[0]


def look_with_context(model: nn.Module, name: str, images: Tensor) -> np.ndarray:
    kept: dict[str, Tensor] = {}

    def keep(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        kept["it"] = output + 0

    with model.get_submodule(name).register_forward_hook(keep):
        model(images)
    return kept["it"].detach().numpy()


def look_into_parts(model: nn.Module, name: str, images: Tensor) -> Tensor:
    "With the hooks notebook's function, for whom the network must end in one score a class"
    return take_parts(model, images, layer=name).activations


def choose(valid: np.ndarray, test: np.ndarray) -> tuple[int, float]:
    best = int(valid.mean(axis=1).argmax())
    return best, float(test[best].mean())


def choose_by_loop(valid: np.ndarray, test: np.ndarray) -> list[float]:
    best, highest = 0, -1.0
    for row, films in enumerate(valid):
        if films.sum() / films.size > highest:
            best, highest = row, films.sum() / films.size
    return [best, test[best].sum() / test[best].size]


def reads(maps: np.ndarray, lesion: np.ndarray, marker: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (maps[:, marker].mean(1) > maps[:, lesion].mean(1)) & (p - q > 0.2)


def reads_by_loop(maps: np.ndarray, lesion: np.ndarray, marker: np.ndarray, p: np.ndarray, q: np.ndarray) -> list[bool]:
    found = []
    for map, with_it, without in zip(maps, p, q):
        on = {name: (map * mask).sum() / mask.sum() for name, mask in (("lesion", lesion), ("marker", marker))}
        found.append(bool(on["marker"] > on["lesion"] and with_it > without + 0.2))
    return found


RIGHT: dict[str, list] = {
    "6.1": [weights_by_loop, lambda g: g.mean(dim=(1, 2)), lambda g: g.flatten(1).numpy().mean(1)],
    "6.2": [gradcam_by_loops, gradcam_by_chapter],
    "6.3": [pointing_by_sets, lambda m, t: pointing_game(m[None], t[None])[0], lambda m, t: t[m == m.max()].mean()],
    "6.4": [enrichment_by_shares, lambda m, t: enrichment(m[None], t[None])[0]],
    "6.5": [adding_up_by_loops, adding_up_by_chapter],
    "6.6": [look, look_with_context, look_into_parts],
    "6.7": [choose, choose_by_loop],
    "6.8": [reads, reads_by_loop, lambda *a: torch.as_tensor(reads(*a))],
}

WRONG: dict[str, list[tuple[Any, str]]] = {
    "6.1": [(lambda g: g.sum((1, 2)), "take their mean"), (lambda g: g.mean(0), "one number for each map"),
            (lambda g: g.mean(), "single mean"), (lambda g: g.mean((1, 2)).relu(), "may be negative"),
            (lambda g: g.relu().mean((1, 2)), "falling slopes"), (lambda g: g.abs().mean((1, 2)), "sign"),
            (lambda g: torch.ones(len(g)), "by hand")],
    "6.2": [(lambda a, h: gradcam_by_loops(a, h, relu=False), "ReLU is missing"),
            (lambda a, h: hirescam_map(a[None], h[None])[0].relu(), "HiResCAM"),
            (lambda a, h: gradcam_by_loops(a, h) / len(a), "not averaged"),
            (lambda a, h: gradcam_by_loops(a, h) * a[0].numel(), "sum of the slopes"),
            (lambda a, h: gradcam_by_loops(a, h.mean((1, 2)).relu()[:, None], relu=False),
             "not to the weights"),
            (lambda a, h: a.sum(0), "weighted sum")],
    "6.3": [(lambda m, t: float(t.ravel()[m.argmax()]), "argmax"),
            (lambda m, t: t[m == m.max()].any(), "not yet a hit"),
            (lambda m, t: t[m == m.max()].all(), "by their share"), (lambda m, t: t[m == m.max()].sum(), "how many"),
            (lambda m, t: t[m == m.max()].sum() / t.sum(), "size of the lesion"), (lambda m, t: t.mean(), "equal to")],
    "6.4": [(lambda m, t: enrichment_by_shares(m, t) * t.mean(), "share of the area"),
            (lambda m, t: enrichment_by_shares(m, t, None), "count as 0"),
            (lambda m, t: enrichment_by_shares(abs(m), t), "not turned round"),
            (lambda m, t: 1 / enrichment_by_shares(m, t), "other way round"),
            (lambda m, t: enrichment_by_shares(m, t) / t.size, "number of pixels"),
            (lambda m, t: m.clip(0)[t].mean() / m.clip(0)[~t].mean(), "whole film"), (lambda m, t: 1.0, "cut off")],
    "6.5": [(lambda a, w, t: adding_up_by_loops(a, w, t) * a[0].numel(), "number of positions"),
            (lambda a, w, t: adding_up_by_loops(a, w, t).relu(), "no ReLU"),
            (lambda a, w, t: a.mean((1, 2)) @ w[t], "not the positions"),
            (lambda a, w, t: adding_up_by_loops(a, w, 0), "first class"),
            (lambda a, w, t: adding_up_by_loops(a, w, t) / len(a), "not their mean"),
            (lambda a, w, t: a.sum(0), "one position add")],
    "6.6": [(lambda *a: look(*a, clone=False), "in place"), (lambda *a: look(*a, remove=False), "still on the network"),
            (lambda *a: look(*a, safely=False), "stays behind"), (lambda *a: look(*a, silent=True), "never heard"),
            (lambda *a: look(*a, mode=False), "evaluation mode"), (lambda model, name, x: model(x), "whole network"),
            (lambda model, name, x: x, "register_forward_hook"), (0.1, "without brackets")],
    "6.7": [(lambda v, t: choose(t, t), "too good"), (lambda v, t: choose(v, v), "on which you chose"),
            (lambda v, t: choose(t, v), "other way round"), (lambda v, t: choose(v, t)[::-1], "first the row"),
            (lambda v, t: (choose(v, t)[0] + 1, choose(v, t)[1]), "from 0"),
            (lambda v, t: (choose(v, t)[0], choose(v, t)[1] * t.shape[1]), "number of hits"),
            (lambda v, t: (0, 0.0), "largest mean")],
    "6.8": [(lambda m, a, b, p, q: m[:, b].mean(1) > m[:, a].mean(1), "map alone"),
            (lambda m, a, b, p, q: p - q > 0.2, "prediction alone"),
            (lambda m, a, b, p, q: (m[:, b].sum(1) > m[:, a].sum(1)) & (p - q > 0.2), "not sums"),
            (lambda m, a, b, p, q: reads(m, a, b, q, p), "a fall is positive"),
            (lambda m, a, b, p, q: reads(m, a, b, p, q) | reads(m, a, b, q, p), "rises"),
            (lambda *a: np.flatnonzero(reads(*a)), "yes or no"), (lambda *a: ~reads(*a), "do not read"),
            (lambda *a: True, "two questions")],
}


class TestChapter6(AnswersAreJudged):
    chapters, right, wrong = {6: chapter6}, RIGHT, WRONG


def test_progress_counts_the_chapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exercises, "_CHAPTERS", ALL_CHAPTERS)
    assert exercises.progress().loc[6, "of"] == len(chapter6.EXERCISES) >= 6


def test_the_numbers_worked_by_hand() -> None:
    "The film of nine pixels, whose answers stand in the chapter"
    activations = torch.tensor([[[2., 5], [0, 2]], [[2, 1], [3, 3]]])
    head = torch.tensor([[[2., 2], [0, 0]], [[0, -2], [0, -2]]])
    assert weights_by_loop(head) == [1, -1]
    assert gradcam_by_loops(activations, head).tolist() == [[0, 4], [0, 0]]
    assert chapter6._pointing(np.array([[1, 3, 3]]), np.array([[1, 0, 1]], bool)) == 0.5
    assert chapter6._enrichment(np.array([[3., 1, -5, 0]]), np.array([[1, 0, 0, 0]], bool)) == 3
