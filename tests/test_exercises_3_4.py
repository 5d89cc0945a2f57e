"""The checks of chapters 3 and 4 are checked: right answers written in different ways pass, plausible mistakes fail,
each with the hint that belongs to it, and a stub counts as not started.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from judged import AnswersAreJudged

from covid_xray.cnn import convolve2d, receptive_field
from covid_xray.exercises import chapter3, chapter4

# ---- chapter 3 ----


def size_by_counting(size: int, kernel: int, padding: int, stride: int) -> int:
    return len(range(0, size + 2 * padding - kernel + 1, stride))


def single_one(down: int, right: int) -> Tensor:
    kernel = torch.zeros(3, 3)
    kernel[1 - down, 1 - right] = 1
    return kernel


def single_one_as_lists(down: int, right: int) -> list[list[int]]:
    return [[int((i, j) == (1 - down, 1 - right)) for j in range(3)] for i in range(3)]


def pool_by_loops(image: Tensor, size: int, start: float | None = None) -> Tensor:
    height, width = image.shape[0] // size, image.shape[1] // size
    result = torch.empty(height, width)
    for i in range(height):
        for j in range(width):
            square = image[i * size:(i + 1) * size, j * size:(j + 1) * size]
            result[i, j] = square.max() if start is None else max(start, float(square.max()))
    return result


def pool_by_shape(image: Tensor, size: int) -> np.ndarray:
    height, width = image.shape[0] // size, image.shape[1] // size
    return image[:height * size, :width * size].numpy().reshape(height, size, width, size).max((1, 3))


def blocks_by_trying(size_px: int, enough: Callable = lambda field, size: field >= size) -> int:
    blocks = 1
    while not enough(receptive_field([(3, 1), (2, 2)] * blocks), size_px):
        blocks += 1
    return blocks


def count_by_formula(channels: list[int], n_classes: int, norm: int = 2, bias: int = 0, deep: bool = True,
                     bias_of_head: int = 1) -> int:
    total = sum((9 * i if deep else 9) * o + (norm + bias) * o for i, o in zip(channels, channels[1:]))
    return total + (channels[-1] + bias_of_head) * n_classes


def count_by_torch(channels: list[int], n_classes: int) -> int:
    with torch.random.fork_rng():
        layers: list[nn.Module] = [nn.Linear(channels[-1], n_classes)]
        for i in range(len(channels) - 1):
            layers += [nn.Conv2d(channels[i], channels[i + 1], (3, 3), bias=False), nn.BatchNorm2d(channels[i + 1])]
    return sum(p.numel() for layer in layers for p in layer.parameters())


def norm_by_hand(x: Tensor, dims: tuple[int, ...] = (0, 2, 3), correction: int = 0, eps: float = 1e-5) -> Tensor:
    return (x - x.mean(dims, keepdim=True)) / (x.var(dims, correction=correction, keepdim=True) + eps).sqrt()


def norm_by_channel(x: Tensor) -> Tensor:
    result = x.clone()
    for c in range(x.shape[1]):
        one = x[:, c].double()
        result[:, c] = (one - one.mean()) / torch.sqrt(((one - one.mean())**2).mean() + 1e-5)
    return result


def unfolded(image: Tensor, kernel: Tensor) -> Tensor:
    return kernel.flatten() @ F.unfold(image[None, None], tuple(kernel.shape))[0]


def by_unfold(image: Tensor, kernel: Tensor) -> Tensor:
    return unfolded(image, kernel).reshape(image.shape[0] - kernel.shape[0] + 1, -1)


def by_windows(image: Tensor, kernel: Tensor) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(image.numpy(), tuple(kernel.shape))
    return windows.reshape(*windows.shape[:2], -1) @ kernel.numpy().ravel()


def layer_by_loops(images: Tensor, kernels: Tensor, padding: int, stride: int) -> Tensor:
    x, (h, w) = F.pad(images, (padding,) * 4), kernels.shape[2:]
    rows = range(0, x.shape[2] - h + 1, stride)
    columns = range(0, x.shape[3] - w + 1, stride)
    result = torch.zeros(len(images), len(kernels), len(rows), len(columns))
    for a, i in enumerate(rows):
        for b, j in enumerate(columns):
            result[:, :, a, b] = (x[:, None, :, i:i + h, j:j + w] * kernels).sum((2, 3, 4))
    return result


def layer_by_unfold(images: Tensor, kernels: Tensor, padding: int, stride: int) -> Tensor:
    h, w = kernels.shape[2:]
    columns = F.unfold(images, (h, w), padding=padding, stride=stride)
    height = (images.shape[2] + 2 * padding - h) // stride + 1
    return (kernels.flatten(1) @ columns).reshape(len(images), len(kernels), height, -1)


def layer_by_convolve2d(images: Tensor, kernels: Tensor, padding: int, stride: int) -> Tensor:
    x = F.pad(images, (padding,) * 4)
    return torch.stack([torch.stack([sum(convolve2d(a, b) for a, b in zip(film, kernel))[::stride, ::stride]
                                     for kernel in kernels]) for film in x])


# ---- chapter 4 ----


def downhill_by_hand(weights: Tensor, x: Tensor, y: Tensor, rate: float, factor: float = 2) -> Tensor:
    return weights - rate * factor / len(x) * x.T @ (x @ weights - y)


def downhill_by_autograd(weights: Tensor, x: Tensor, y: Tensor, rate: float) -> Tensor:
    weights.requires_grad_()
    ((x @ weights - y)**2).mean().backward()
    return weights - rate * weights.grad


def stop_by_counting(losses: list[float], patience: int, better: Callable = lambda new, best: new < best) -> tuple:
    best, kept, waited = float("inf"), -1, 0
    for epoch, loss in enumerate(losses):
        if better(loss, best):
            best, kept, waited = loss, epoch, 0
        else:
            waited += 1
        if waited >= patience:
            break
    return kept, epoch


def stop_by_difference(losses: list[float], patience: int) -> list[int]:
    for epoch in range(len(losses)):
        kept = losses.index(min(losses[:epoch + 1]))
        if epoch - kept == patience:
            return [kept, epoch]
    return [kept, epoch]


def stop_by_rises(losses: list[float], patience: int) -> tuple:
    rises = 0
    for epoch in range(1, len(losses)):
        rises = rises + 1 if losses[epoch] >= losses[epoch - 1] else 0
        if rises == patience:
            return losses.index(min(losses[:epoch + 1])), epoch
    return losses.index(min(losses)), len(losses) - 1


def cut(order: Any, size: int) -> list:
    return [order[i:i + size] for i in range(0, len(order), size)]


def batches_by_numpy(n: int, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    return np.array_split(np.random.default_rng([seed, epoch]).permutation(n), -(-n // size))


def batches_by_torch(n: int, size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1000 * seed + epoch)
    return torch.randperm(n, generator=generator).split(size)


def batches_one_by_one(n: int, size: int, seed: int, epoch: int):
    order = np.random.default_rng((seed, epoch)).permutation(n).tolist()
    while order:
        yield [order.pop() for _ in range(min(size, len(order)))]


def shuffled_batches(n: int, size: int, seed: int, epoch: int) -> list:
    batches = cut(list(range(n)), size)
    np.random.default_rng([seed, epoch]).shuffle(batches)
    return batches


def cross_entropy_by_hand(logits: Tensor, targets: Tensor) -> Tensor:
    below = logits - logits.max(1, keepdim=True).values
    return (below.exp().sum(1).log() - below[torch.arange(len(targets)), targets]).mean()


def cross_entropy_by_numpy(logits: Tensor, targets: Tensor) -> float:
    rows = zip(logits.double().numpy(), targets.tolist())
    return float(np.mean([np.logaddexp.reduce(row) - row[target] for row, target in rows]))


def log_of_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    return -logits.softmax(1).log()[torch.arange(len(targets)), targets].mean()


def naive_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    raised = logits.exp()
    return -(raised / raised.sum(1, keepdim=True))[torch.arange(len(targets)), targets].log().mean()


def warm_up(step: int, steps: int, warm: int, peak: float, first: int = 1, turns: float = 1, half: float = 2) -> float:
    if step < warm:
        return peak * (step + first) / warm
    return peak * (1 + math.cos(turns * math.pi * (step - warm) / (steps - 1 - warm))) / half


def warm_up_by_torch(step: int, steps: int, warm: int, peak: float) -> Tensor:
    down = peak * torch.cos(torch.linspace(0, math.pi / 2, steps - warm))**2  # cos(2a) = 2 cos(a)^2 - 1
    return torch.cat([peak * torch.arange(1, warm + 1) / warm, down])[step]


def interval(values: list[float], ddof: int = 1, t: float | None = None, root: bool = True) -> tuple[float, float]:
    t = t or stats.t.ppf(0.975, len(values) - 1)
    half = t * np.std(values, ddof=ddof) / (len(values)**0.5 if root else 1)
    return np.mean(values) - half, np.mean(values) + half


def interval_by_scipy(values: list[float]) -> Tensor:
    return torch.tensor(stats.t(len(values) - 1, np.mean(values), stats.sem(values)).interval(0.95))


def adam(weights, gradient, m, v, t, rate, correct=True, sign=1, betas=(0.9, 0.999), inside=False, power=2):
    m, v = betas[0] * m + (1 - betas[0]) * gradient, betas[1] * v + (1 - betas[1]) * gradient**power
    a, b = (m / (1 - betas[0]**t), v / (1 - betas[1]**t)) if correct else (m, v)
    return weights - sign * rate * a / ((b + 1e-8).sqrt() if inside else b.sqrt() + 1e-8), m, v


def adam_in_place(weights, gradient, m, v, t, rate):
    m.mul_(0.9).add_(gradient, alpha=0.1)
    v.lerp_(gradient.square(), 0.001)
    weights.addcdiv_(m, (v.sqrt() / math.sqrt(1 - 0.999**t)).add_(1e-8), value=-rate / (1 - 0.9**t))
    return weights, m, v


def adam_that_hands_back_corrected(weights, gradient, m, v, t, rate):
    weights, m, v = adam(weights, gradient, m, v, t, rate)
    return weights, m / (1 - 0.9**t), v / (1 - 0.999**t)


RIGHT = {
    "3.1": [lambda n, k, p, s: (n + 2 * p - k) // s + 1, size_by_counting],
    "3.2": [single_one, single_one_as_lists],
    "3.3": [pool_by_loops, pool_by_shape, lambda x, n: F.max_pool2d(x[None], n)[0]],
    "3.4": [blocks_by_trying, lambda size: math.ceil(math.log2((size - 1) / 3 + 1))],
    "3.5": [count_by_formula, count_by_torch],
    "3.6": [norm_by_hand, norm_by_channel],
    "3.7": [by_unfold, by_windows, convolve2d],
    "3.8": [layer_by_loops, layer_by_unfold, layer_by_convolve2d],
    "4.1": [lambda x, y: (x.argmax(1) == y).float().mean(),
            lambda x, y: sum(int(row.argmax()) == int(t) for row, t in zip(x, y)) / len(y)],
    "4.2": [downhill_by_hand, downhill_by_autograd],
    "4.3": [stop_by_counting, stop_by_difference],
    "4.4": [batches_by_numpy, batches_by_torch, batches_one_by_one],
    "4.5": [cross_entropy_by_hand, cross_entropy_by_numpy, F.cross_entropy],
    "4.6": [warm_up, warm_up_by_torch],
    "4.7": [interval, interval_by_scipy],
    "4.8": [adam, adam_in_place],
}

WRONG: dict[str, list[tuple[Any, str]]] = {  # a mistake, and words of its hint
    "3.1": [(lambda n, k, p, s: (n + p - k) // s + 1, "both sides"),
            (lambda n, k, p, s: (n + 2 * p - k) // s, "one more"),
            (lambda n, k, p, s: n + 2 * p - k + 1, "stride 1 only"),
            (lambda n, k, p, s: (n + 2 * p - k) / s + 1, "round down"),
            (lambda n, k, p, s: (n - k) // s + 1, "padding"),
            (lambda n, k, p, s: n // s, "draw a row"), (63, "without brackets")],
    "3.2": [(lambda down, right: single_one(-down, -right), "wrong way"),
            (lambda down, right: single_one(right, down), "swapped"),
            (lambda down, right: single_one(0, 0), "never moves"),
            (lambda down, right: torch.zeros(3, 3), "nothing but zeros"),
            (lambda down, right: torch.ones(3, 3) / 9, "a single 1"),
            (lambda down, right: torch.ones(1, 1), "3 x 3"), (lambda down, right: None, "return")],
    "3.3": [(lambda x, n: F.avg_pool2d(x[None], n)[0], "mean"),
            (lambda x, n: F.max_pool2d(x[None], n, stride=1)[0], "overlap"),
            (lambda x, n: pool_by_loops(x, n, start=0), "negative"),
            (lambda x, n: F.max_pool2d(x[None], n, ceil_mode=True)[0], "left out"),
            (lambda x, n: x[:len(x) // n * n:n, :x.shape[1] // n * n:n], "corner"),
            (lambda x, n: -pool_by_loops(-x, n), "smallest"), (lambda x, n: x.max(), "each number is")],
    "3.4": [(lambda size: blocks_by_trying(size, lambda field, film: field > film), ">="),
            (lambda size: blocks_by_trying(size + 1) - 1, "first number that does"),
            (lambda size: math.ceil(math.log2(size)), "halved"),
            (lambda size: 1 + 3 * (2**blocks_by_trying(size) - 1), "how many blocks"),
            (lambda size: math.ceil((size - 1) / 2), "without pooling"), (lambda size: 5, "1, 2, 3")],
    "3.5": [(lambda c, n: count_by_formula(c, n, bias=1), "no bias"),
            (lambda c, n: count_by_formula(c, n, norm=0), "where is the batch normalisation"),
            (lambda c, n: count_by_formula(c, n, norm=4), "not trained"),
            (lambda c, n: count_by_formula(c, n, bias_of_head=0), "bias for each class"),
            (lambda c, n: count_by_formula(c, n, deep=False), "as deep as"),
            (lambda c, n: 227, "by hand")],
    "3.6": [(lambda x: norm_by_hand(x, (0, 1, 2, 3)), "don't mix"),
            (lambda x: norm_by_hand(x, (2, 3)), "each film alone"),
            (lambda x: norm_by_hand(x, (0,)), "each pixel"),
            (lambda x: norm_by_hand(x, correction=1), "not by n - 1"),
            (lambda x: norm_by_hand(x, eps=0), "0 / 0"),
            (lambda x: x - x.mean((0, 2, 3), keepdim=True), "divide by the spread"),
            (lambda x: (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5),
             "square root of the variance"),
            (lambda x: torch.zeros_like(x), "average over films")],
    "3.7": [(unfolded, "in one row"), (lambda x, k: unfolded(x, k)[None, None], "dimensions are still there"),
            (lambda x, k: by_unfold(x, k)[None, None], "batch and channels"),
            (lambda x, k: by_unfold(x, k.flip(0, 1)), "flipped"), (lambda x, k: by_unfold(x, k).T, "on its side"),
            (lambda x, k: torch.rand(x.shape[0] - k.shape[0] + 1, x.shape[1] - k.shape[1] + 1), "one column a place"),
            (lambda x, k: k.flatten() @ F.unfold(x, tuple(k.shape)), "IndexError")],
    "3.8": [(lambda x, k, p, s: F.conv2d(x, k, stride=s), "padding is missing"),
            (lambda x, k, p, s: F.conv2d(x, k, padding=p), "stride is missing"),
            (lambda x, k, p, s: layer_by_loops(x, k.flip(2, 3), p, s), "flipped"),
            (lambda x, k, p, s: layer_by_loops(x[:, :1], k[:, :1], p, s), "only one channel"),
            (lambda x, k, p, s: layer_by_loops(x, k, p, s) / x.shape[1], "their mean"),
            (lambda x, k, p, s: layer_by_loops(x, k, p, s) + 1, "at each place")],
    "4.1": [(lambda x, y: (x.argmax(1) == y).sum(), "what share"),
            (lambda x, y: 100 * (x.argmax(1) == y).float().mean(), "100"),
            (lambda x, y: (x.argmax(1) != y).float().mean(), "wrong"),
            (lambda x, y: x.argmax(1) == y, "one answer a film"),
            (lambda x, y: (x.argmin(1) == y).float().mean(), "smallest"),
            (lambda x, y: 0.5, "largest logit"), (lambda x, y: (x.argmax(0) == y).float().mean(), "RuntimeError")],
    "4.2": [(lambda w, x, y, r: downhill_by_hand(w, x, y, -r), "uphill"),
            (lambda w, x, y, r: downhill_by_hand(w, x, y, r, factor=1), "factor of 2"),
            (lambda w, x, y, r: downhill_by_hand(w, x, y, r, factor=2 * len(x)), "not the sum"),
            (lambda w, x, y, r: downhill_by_hand(w, x, y, 1), "learning rate"),
            (lambda w, x, y, r: w - downhill_by_hand(w, x, y, 1), "that is the gradient"),
            (lambda w, x, y, r: w, "x.T")],
    "4.3": [(lambda x, p: (int(np.argmin(x)), stop_by_counting(x, p)[1]), "never reached"),
            (lambda x, p: stop_by_counting(x, p + 1), "too late"), (stop_by_rises, "best so far"),
            (lambda x, p: stop_by_counting(x, p)[::-1], "first the epoch to keep"),
            (lambda x, p: tuple(e + 1 for e in stop_by_counting(x, p)), "from 0"),
            (lambda x, p: (stop_by_counting(x, p)[1],) * 2, "not those of the last"),
            (lambda x, p: (x.index(min(x)), len(x) - 1), "before the end"),
            (lambda x, p: stop_by_counting(x, p, lambda new, best: new <= best), "an equal loss"),
            (lambda x, p: 2, "by hand")],
    "4.4": [(lambda n, size, *_: cut(list(range(n)), size), "old order"),
            (shuffled_batches, "not the batches"),
            (lambda n, size, *_: cut(np.random.default_rng(0).permutation(n), size), "order of its own"),
            (lambda n, size, seed, _: cut(np.random.default_rng(seed).permutation(n), size), "order of its own"),
            (lambda n, size, _, epoch: cut(np.random.default_rng(epoch).permutation(n), size), "another seed"),
            (lambda n, size, seed, epoch: cut(np.random.default_rng(seed + epoch).permutation(n), size), "add them up"),
            (lambda n, size, *_: torch.randperm(n, generator=torch.default_generator).split(size), "the same seed"),
            (lambda n, size, *both: cut(np.random.default_rng(both).integers(0, n, n), size), "without replacement"),
            (lambda n, size, *both: [b for b in batches_by_torch(n, size, *both) if len(b) == size], "last, smaller"),
            (lambda n, size, *both: batches_by_numpy(n, 1, *both), "would do"),
            (lambda n, size, *both: batches_by_numpy(n, n, *both), "at most batch_size"),
            (lambda n, size, *both: [b + 1 for b in batches_by_numpy(n, size, *both)], "must turn up")],
    "4.5": [(naive_cross_entropy, "overflows"), (log_of_softmax, "meets a 0"),
            (lambda x, y: -F.cross_entropy(x, y), "minus the logarithm"),
            (lambda x, y: F.cross_entropy(x, y, reduction="sum"), "take the mean"),
            (lambda x, y: F.cross_entropy(x, y, reduction="none"), "one loss a film"),
            (lambda x, y: F.nll_loss(x, y), "softmax is missing"),
            (lambda x, y: F.nll_loss(x.log_softmax(0), y), "dimension 1"),
            (lambda x, y: F.cross_entropy(x, y) / math.log(2), "natural"),
            (lambda x, y: math.log(3), "log-softmax")],
    "4.6": [(lambda *a: warm_up(*a, first=0), "no rate at all"), (lambda *a: warm_up(*a, turns=2), "a whole cosine"),
            (lambda *a: warm_up(*a, half=1), "halve it"),
            (lambda i, n, w, peak: peak * ((i + 1) / w if i < w else 1 - (i - w) / (n - 1 - w)), "straight line"),
            (lambda i, n, w, peak: warm_up(i, n + 1, w, peak), "reach 0"),
            (lambda i, n, w, peak: warm_up(i, n, w, 1), "multiply by the peak"), (lambda *a: a[-1], "for 9 steps")],
    "4.7": [(lambda x: interval(x, t=1.96), "1.96"), (lambda x: interval(x, root=False), "root of n"),
            (lambda x: interval(x, ddof=0), "ddof=1"), (lambda x: (min(x), max(x)), "smallest and the largest"),
            (lambda x: interval(x, t=stats.t.ppf(0.95, len(x) - 1)), "0.975"),
            (lambda x: (np.mean(x), np.mean(x) - interval(x)[0]), "half-width"),
            (lambda x: interval(x)[::-1], "first low"), (lambda x: (0.0, 1.0), "sqrt(n)")],
    "4.8": [(lambda *a: adam(*a, correct=False), "bias correction"), (lambda *a: adam(*a, sign=-1), "uphill"),
            (lambda *a: adam(*a, inside=True), "after the square root"),
            (lambda *a: adam(*a, betas=(0.999, 0.9)), "belongs to m"),
            (lambda *a: adam(*a, power=1), "squares of the gradient"),
            (lambda w, g, m, v, t, rate: (w - rate * g, m, v), "update m and v"),
            (adam_that_hands_back_corrected, "uncorrected"), (0.1, "without brackets"),
            (lambda w, g, m, v, t, rate: adam(w, g, m, v, t, rate)[0], "ValueError")],
}


class TestChapters3And4(AnswersAreJudged):
    chapters, right, wrong = {3: chapter3, 4: chapter4}, RIGHT, WRONG


def test_the_numbers_worked_by_hand() -> None:
    "The references themselves, where the exercises give numbers"
    assert [1 + 3 * (2**n - 1) for n in range(1, 6)] == [receptive_field([(3, 1), (2, 2)] * n) for n in range(1, 6)]
    assert count_by_formula([1, 16], 3) == 227
    assert size_by_counting(7, 3, 0, 2) == 3
    assert chapter4._stopping([1.1, 0.9, 0.8, 0.85, 0.9, 0.7], 2) == (2, 4)
    by_hand = [0.25, 0.5, 0.75, 1, 1, 0.853553, 0.5, 0.146447, 0]
    assert [chapter4._rate(step, 9, 4, 1.0) for step in range(9)] == pytest.approx(by_hand, abs=1e-6)


def test_the_cosine_is_that_of_torch() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 14)
    for step in range(5, 20):
        assert chapter4._rate(step, 20, 5, 0.3) == pytest.approx(cosine.get_last_lr()[0], abs=1e-9)
        optimiser.step()
        cosine.step()
