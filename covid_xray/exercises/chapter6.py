"Exercises of chapter 6, Grad-CAM: judged against autograd, loops and counts by hand, on inputs nobody has seen"
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from covid_xray.exercises import Exercise
from covid_xray.exercises.chapter3 import compare, noise
from covid_xray.exercises.judging import matches

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["EXERCISES"]


def _judge_weights(answer: Any) -> str | None:
    "6.1: the mean of the slopes of each feature map"
    cases = [(noise(k, h, w, seed=k),) for k, h, w in ((2, 2, 2), (5, 4, 3), (3, 7, 7))]
    return compare(answer, cases, lambda g: g.mean((1, 2)), [
        ("that is the sum of the slopes: take their mean.", lambda g: g.sum((1, 2))),
        ("that is the mean over the feature maps: one number for each map is wanted.", lambda g: g.mean(0)),
        ("that is a single mean over everything.", lambda g: g.mean()),
        ("the weight may be negative: the ReLU comes at the very end.", lambda g: g.mean((1, 2)).relu()),
        ("falling slopes count too, before the mean.", lambda g: g.clamp(min=0).mean((1, 2))),
        ("that is the largest slope.", lambda g: g.amax((1, 2))),
        ("the sign of a slope matters.", lambda g: g.abs().mean((1, 2))),
    ], "by hand: the slopes [[2, 2], [0, 0]] give (2 + 2 + 0 + 0) / 4 = 1. One number a map, shape [K].")


def _judge_gradcam(answer: Any) -> str | None:
    "6.2: Grad-CAM with its ReLU, from a head of torch's own"
    import torch

    def right(activations: Tensor, head: Tensor) -> Tensor:
        leaf = activations.clone().requires_grad_()
        slopes, = torch.autograd.grad((head * leaf).sum(), leaf)
        return torch.einsum("k,khw->hw", slopes.mean((1, 2)), activations).relu()

    def weights(head: Tensor) -> Tensor:
        return head.mean((1, 2), keepdim=True)

    cases = [(noise(k, h, w, seed=k), noise(k, h, w, seed=k + 9)) for k, h, w in ((2, 2, 2), (4, 3, 5))]
    return compare(answer, cases, right, [
        ("the ReLU is missing: only what speaks for the class is shown.", lambda a, h: (weights(h) * a).sum(0)),
        ("the ReLU belongs after the sum, not to each feature map.", lambda a, h: (weights(h) * a).relu().sum(0)),
        ("the ReLU belongs to the map, not to the weights.", lambda a, h: (weights(h).relu() * a).sum(0)),
        ("that is HiResCAM: Grad-CAM averages the slopes of a map first.", lambda a, h: (h * a).sum(0).relu()),
        ("the feature maps are added up, not averaged.", lambda a, h: (weights(h) * a).mean(0).relu()),
        ("that uses the sum of the slopes: take their mean.",
         lambda a, h: (h.sum((1, 2), keepdim=True) * a).sum(0).relu()),
        ("the feature maps are still apart: sum over them.", lambda a, h: (weights(h) * a).relu()),
    ], "the slope of a weighted sum is its weight. Average each map's slopes, multiply, sum over the maps, ReLU.")


def _pointing(map: np.ndarray, mask: np.ndarray) -> float:
    "Count the highest pixels, and those of them on the truth"
    highest = [place for place, value in np.ndenumerate(map) if value == map.max()]
    return sum(bool(mask[place]) for place in highest) / len(highest)


def _judge_pointing(answer: Any) -> str | None:
    "6.3: ties counted by their share"
    maps = [[[0, 3, 1], [2, 3, 0]], [[5, 1, 1], [0, 5, 5]], [[-2, -1, -4], [-3, -6, -5]], [[1, 1, 1], [1, 1, 1]],
            [[4, 4, 0], [4, 4, 0]], [[0, 0, 9], [0, 0, 0]]]
    masks = [[[0, 1, 1], [0, 0, 0]], [[1, 0, 0], [0, 1, 0]], [[0, 1, 0], [1, 0, 0]], [[1, 0, 0], [0, 0, 0]],
             [[0, 1, 1], [1, 1, 1]], [[1, 1, 0], [1, 1, 1]]]
    cases = [(np.array(map, float), np.array(mask, bool)) for map, mask in zip(maps, masks)]
    return compare(answer, cases, _pointing, [
        ("where several pixels tie, argmax takes the first: count all of them.",
         lambda m, t: t.flat[m.argmax()]),
        ("one of several highest pixels on the lesion is not yet a hit: count its share.",
         lambda m, t: (t & (m == m.max())).any()),
        ("some of the highest pixels on the lesion count by their share.", lambda m, t: t[m == m.max()].all()),
        ("that is how many highest pixels lie on the lesion: what share of them?", lambda m, t: t[m == m.max()].sum()),
        ("divide by the number of highest pixels, not by the size of the lesion.",
         lambda m, t: t[m == m.max()].sum() / t.sum()),
        ("that is the share of the highest pixels that miss.", lambda m, t: 1 - _pointing(m, t)),
    ], "find all pixels equal to the map's maximum; what share of them lies on the mask? An even map gives the area.")


def _enrichment(map: np.ndarray, mask: np.ndarray) -> float:
    "The mean inside over the mean everywhere, which is the same"
    positive = np.where(map > 0, map, 0)
    return float(positive[mask].mean() / positive.mean())


def _judge_enrichment(answer: Any) -> str | None:
    "6.4: the share of the energy over the share of the area"
    rng = np.random.default_rng(0)
    cases = [(rng.normal(size=(h, w)), rng.random((h, w)) < 0.3) for h, w in ((6, 6), (5, 9), (12, 4))]

    def energy(map: np.ndarray, mask: np.ndarray) -> float:
        return _enrichment(map, mask) * mask.mean()

    return compare(answer, cases, _enrichment, [
        ("that is the share of the map on the lesion: divide by the lesion's share of the area.", energy),
        ("divide by the lesion's share of the film, not by its number of pixels.", lambda m, t: energy(m, t) / t.sum()),
        ("negative parts of the map count as 0.", lambda m, t: m[t].mean() / m.mean()),
        ("negative parts are cut off, not turned round.", lambda m, t: _enrichment(abs(m), t)),
        ("the other way round: the map's share over the area's.", lambda m, t: 1 / _enrichment(m, t)),
        ("compare with the whole film, not with the rest of it.",
         lambda m, t: m.clip(0)[t].mean() / m.clip(0)[~t].mean()),
        ("that is the sum on the lesion over its area: divide by the map's total, too.",
         lambda m, t: m.clip(0)[t].sum() / t.mean()),
    ], "cut off what is negative; share of the total inside the mask, over the mask's share of the pixels.")


def _judge_adding_up(answer: Any) -> str | None:
    "6.5: HiResCAM of a head of average pool and linear layer, by autograd"
    import torch
    import torch.nn.functional as F

    def right(activations: Tensor, weight: Tensor, target: int) -> Tensor:
        leaf = activations.clone().requires_grad_()
        score = F.linear(F.adaptive_avg_pool2d(leaf[None], 1).flatten(1), weight)[0, target]
        return (torch.autograd.grad(score, leaf)[0] * activations).sum(0)

    def given(a: Tensor, weight: Tensor, target: int) -> Tensor:
        return (weight[target][:, None, None] * a).sum(0)

    cases = [(noise(k, h, w, seed=k).relu(), noise(3, k, seed=k + 5), target)
             for k, h, w, target in ((2, 2, 2, 0), (4, 3, 5, 2), (6, 4, 4, 1))]
    return compare(answer, cases, right, [
        ("the average pool divides by the number of positions: so does each slope.", given),
        ("no ReLU: what speaks against the class is part of the sum.", lambda a, w, t: right(a, w, t).relu()),
        ("add up the feature maps, not the positions.", lambda a, w, t: right(a, w, t).sum()),
        ("that is the score itself: how much of it came from each position?",
         lambda a, w, t: (w[t] * a.mean((1, 2))).sum()),
        ("the sum over the feature maps, not their mean.", lambda a, w, t: right(a, w, t) / len(a)),
        ("only the row of the target counts.", lambda a, w, t: sum(right(a, w, i) for i in range(len(w)))),
        ("that is the first class, whatever was asked for.", lambda a, w, t: right(a, w, 0)),
        ("the feature maps are still apart: sum over them.",
         lambda a, w, t: w[t][:, None, None] * a / a[0].numel()),
    ], "score = sum over k of weight[target, k] * mean of map k. Write the mean as a sum over positions: "
       "what does one position add?")


class _Failure(RuntimeError):
    "What the network of exercise 6.6 raises"


def _networks() -> tuple[nn.Sequential, nn.Sequential]:
    "A network whose ReLU works in place on what layer 0 put out, and one that fails after it"
    import torch
    from torch import nn

    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise _Failure("this network fails on purpose: does your hook go away all the same?")

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        sound = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 2, 3), nn.Flatten())
    return sound, nn.Sequential(sound[0], Fails())


def _hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def _judge_hook(answer: Any) -> str | None:
    "6.6: layers are called one by one for the truth; afterwards nothing may be left, also after an error"
    import torch

    if not callable(answer):
        return "hand over the function itself: its name, without brackets."
    model, failing = _networks()
    images = noise(2, 1, 8, 8)
    for name, place in (("2", 2), ("0", 0)):
        with torch.no_grad():
            expected = images
            for layer in model[:place + 1]:
                expected = layer(expected.clone())
            through = model(images)
        got = answer(model, name, images.clone())
        if hint := _wrong_output(got, expected, through):
            return hint
        if _hooks(model):
            return "your hook is still on the network: keep the handle that registering gives, and call remove()."
        if not model.training:
            return "the network came in training mode and left in evaluation mode: leave it as it was."
    try:
        answer(failing, "0", images.clone())
    except _Failure:
        left = _hooks(failing)
        return "when the network raises an error, your hook stays behind: try ... finally." if left else None
    return "the network raised an error and the caller never heard of it: let it through (finally, not except)."


def _wrong_output(got: Any, expected: Tensor, through: Tensor) -> str | None:
    "6.6: what is wrong with what came of the layer"
    if matches(got, expected):
        return None
    if got is None:
        return "your function returns None: is there a `return`?"
    if matches(got, through):
        return "that is what the whole network puts out: keep the output inside the hook."
    if matches(got, expected.relu()):
        return "the ReLU behind the layer works in place and changed what you kept: keep a copy (clone)."
    return "register_forward_hook on model.get_submodule(name); the hook gets (module, inputs, output): keep output."


def _judge_layer_choice(answer: Any) -> str | None:
    "6.7: chosen on the validation films, quoted on the test films"
    rng = np.random.default_rng(1)
    cases = [((rng.random((layers, 20)) < rate).astype(float), (rng.random((layers, 30)) < rate[::-1]).astype(float))
             for layers, rate in ((3, np.array([[0.2], [0.5], [0.8]])), (4, np.array([[0.9], [0.3], [0.6], [0.1]])),
                                  (2, np.array([[0.4], [0.8]])))]

    def quoted(choose: Callable, quote: Callable) -> Callable:
        return lambda valid, test: (choose(valid, test), quote(valid, test)[choose(valid, test)])

    def best(valid: np.ndarray, test: np.ndarray) -> int:
        return int(np.argmax([np.sum(films) / len(films) for films in valid]))

    def test_means(valid: np.ndarray, test: np.ndarray) -> np.ndarray:
        return test.mean(1)

    def swapped(valid: np.ndarray, test: np.ndarray) -> int:
        return best(test, valid)

    return compare(answer, cases, quoted(best, test_means), [
        ("you chose on the test films, so their score is too good: choose on the validation films.",
         quoted(swapped, test_means)),
        ("you quote the score on the films on which you chose, which is too good: quote that of the test films.",
         quoted(best, lambda v, t: v.mean(1))),
        ("that chooses on the test films and quotes the validation films: the other way round.",
         quoted(swapped, lambda v, t: v.mean(1))),
        ("that is the best score on the test films, whichever layer has it.",
         lambda v, t: (best(v, t), t.mean(1).max())),
        ("rows are counted from 0.", lambda v, t: (best(v, t) + 1, t.mean(1)[best(v, t)])),
        ("first the row, then its score.", lambda v, t: quoted(best, test_means)(v, t)[::-1]),
        ("that is the number of hits: what share of the test films?", quoted(best, lambda v, t: t.sum(1))),
        ("test films helped to choose: they may not.",
         quoted(lambda v, t: int(np.hstack([v, t]).mean(1).argmax()), test_means)),
    ], "the row with the largest mean over the validation films, and that row's mean over the test films.")


def _reads_marker(maps: Sequence, lesion: np.ndarray, marker: np.ndarray, with_it: Sequence, without: Sequence,
                  *, density: Callable = np.mean, both: Callable = np.logical_and, sign: int = 1) -> np.ndarray:
    "A network at a time: the map on the marker, and the fall of the prediction"
    sits = [density(map[marker]) > density(map[lesion]) for map in maps]
    falls = [sign * (p - q) > 0.2 for p, q in zip(with_it, without)]
    return both(sits, falls)


def _judge_marker(answer: Any) -> str | None:
    "6.8: five networks, among them one that only looks and one that only moves"
    rng = np.random.default_rng(2)

    def case(densities: Sequence[tuple[float, float]], with_it: list[float], without: list[float]) -> tuple:
        lesion, marker = np.zeros((2, 12, 12), bool)
        lesion[5:10, 2:8], marker[0:2, 9:11] = True, True
        maps = 0.05 * rng.random((len(densities), 12, 12))
        for map, (on_lesion, on_marker) in zip(maps, densities):
            map[lesion] += on_lesion
            map[marker] += on_marker
        return maps, lesion, marker, np.array(with_it), np.array(without)

    cases = [case([(0.2, 0.9), (0.9, 0.1), (0.2, 0.9), (0.9, 0.1), (0.1, 0.9)],
                  [0.95, 0.9, 0.9, 0.95, 0.2], [0.1, 0.88, 0.85, 0.3, 0.9]),
             case([(0.1, 4.0), (0.5, 0.6), (0.7, 0.2)], [0.99, 0.8, 0.6], [0.05, 0.4, 0.9])]

    def mistaken(**mistake: Any) -> Callable:
        return lambda *arguments: _reads_marker(*arguments, **mistake)

    return compare(answer, cases, _reads_marker, [
        ("you trust the map alone: one of the networks looks at the marker and doesn't need it.",
         mistaken(both=lambda sits, falls: sits)),
        ("you ask the prediction alone: one of the networks moves, but its map is on the lesion; look at both.",
         mistaken(both=lambda sits, falls: falls)),
        ("both must hold, not one of them.", mistaken(both=np.logical_or)),
        ("the lesion is larger than the marker: compare means over their pixels, not sums.", mistaken(density=np.sum)),
        ("a prediction that rises without the marker is no diagnosis taken back.",
         lambda m, a, b, p, q: _reads_marker(m, a, b, p, q) | _reads_marker(m, a, b, p, q, sign=-1)),
        ("with the marker less without it: a fall is positive.", mistaken(sign=-1)),
        ("that says which networks do not read it.", lambda *arguments: ~_reads_marker(*arguments)),
        ("one yes or no for each network is wanted, not their numbers.",
         lambda *arguments: np.flatnonzero(_reads_marker(*arguments))),
    ], "two questions a network: is the map's mean on the marker above its mean on the lesion, and does the "
       "probability fall by more than 0.2 when the marker goes?")


EXERCISES = (
    Exercise("6.1", "one weight a feature map", _judge_weights),
    Exercise("6.2", "Grad-CAM of one film", _judge_gradcam),
    Exercise("6.3", "pointing, with ties", _judge_pointing),
    Exercise("6.4", "enrichment", _judge_enrichment),
    Exercise("6.5", "a map that adds up to the score", _judge_adding_up),
    Exercise("6.6", "a hook that leaves no trace", _judge_hook),
    Exercise("6.7", "choose on some films, quote on others", _judge_layer_choice),
    Exercise("6.8", "which network reads the marker?", _judge_marker),
)
