"""Exercises of chapter 3, the convolutional network: judged against torch's own layers, on inputs nobody has seen.

torch is imported where it is needed, so that neither `progress` nor the exercises of other chapters wait for it.
"""
from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from covid_xray.exercises import Exercise
from covid_xray.exercises.judging import matches

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EXERCISES", "compare", "noise"]


def noise(
    *shape: int,  # of the tensor
    seed: int = 0,
) -> Tensor:  # float32, standard normal
    "Random numbers that are the same each time, and leave torch's own generator alone"
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def compare(
    answer: Any,  # the learner's function
    cases: Sequence[tuple],  # the arguments of each call
    right: Callable,  # what it should return, from the same arguments
    mistakes: Sequence[tuple[str, Callable]],  # (hint, what a function with that mistake returns)
    general: str,  # the hint where no known mistake fits
) -> str | None:  # None where the answer is right on all cases
    "Call the answer on copies of the arguments; a mistake is recognised where it explains every result"
    if not callable(answer):
        return "hand over the function itself: its name, without brackets."
    # NaN agrees: a mistake that divides by zero is recognised by it
    same = functools.partial(matches, tolerance=1e-6, relative=1e-4, nan_agrees=True)
    given = [answer(*copy.deepcopy(case)) for case in cases]
    if all(same(x, right(*case)) for x, case in zip(given, cases)):
        return None
    if all(x is None for x in given):
        return "your function returns None: is there a `return`?"
    for hint, wrong in mistakes:
        if all(same(x, wrong(*case)) for x, case in zip(given, cases)):
            return hint
    return general


def _judge_output_size(answer: Any) -> str | None:
    "3.1: the side of the picture that F.conv2d really gives"
    import torch
    import torch.nn.functional as F

    def right(size: int, kernel: int, padding: int, stride: int) -> int:
        image, weights = torch.zeros(1, 1, size, size), torch.zeros(1, 1, kernel, kernel)
        return F.conv2d(image, weights, None, stride, padding).shape[-1]

    cases = [(128, 3, 1, 1), (128, 3, 1, 2), (7, 3, 0, 2), (8, 3, 0, 2), (28, 5, 2, 3), (5, 5, 0, 1), (33, 7, 3, 4)]
    return compare(answer, cases, right, [
        ("padding adds its rim on both sides: twice.", lambda n, k, p, s: (n + p - k) // s + 1),
        ("count the places, not the steps between them: one more.", lambda n, k, p, s: (n + 2 * p - k) // s),
        ("that is right for stride 1 only.", lambda n, k, p, s: n + 2 * p - k + 1),
        ("a place where the kernel sticks out isn't visited: round down.",
         lambda n, k, p, s: math.ceil((n + 2 * p - k) / s) + 1),
        ("half a pixel isn't possible: round down before you add 1.", lambda n, k, p, s: (n + 2 * p - k) / s + 1),
        ("where does the padding come in?", lambda n, k, p, s: (n - k) // s + 1),
    ], "draw a row of 7 pixels and slide a kernel of 3 over it in steps of 2: it fits at 3 places.")


def _moved(picture: Tensor, down: int, right: int) -> Tensor:
    "A picture moved by whole pixels, zeros following"
    import torch

    result, (height, width) = torch.zeros_like(picture), picture.shape
    result[max(down, 0):height + min(down, 0), max(right, 0):width + min(right, 0)] = picture[
        max(-down, 0):height + min(-down, 0), max(-right, 0):width + min(-right, 0)]
    return result


def _judge_shift_kernel(answer: Any) -> str | None:
    "3.2: the kernel is used on a picture, and the picture must have moved"
    import torch
    import torch.nn.functional as F

    picture = noise(7, 9)
    shapes = []

    def used(down: int, right: int) -> Tensor | None:
        kernel = answer(down, right)
        if kernel is None:
            return None
        kernel = torch.as_tensor(kernel).detach().float()
        shapes.append(tuple(kernel.shape))
        return F.conv2d(picture[None, None], kernel[None, None], padding=1)[0, 0] if kernel.ndim == 2 else kernel

    cases = [(0, 0), (0, 1), (1, 0), (-1, 0), (0, -1), (1, 1), (1, -1)]
    hint = compare(used if callable(answer) else answer, cases, lambda d, r: _moved(picture, d, r), [
        ("it moves the picture the wrong way: a 1 on the left of the kernel fetches the left neighbour, "
         "and so moves the picture to the right.", lambda d, r: _moved(picture, -d, -r)),
        ("rows and columns are swapped: the first index of a kernel goes down.", lambda d, r: _moved(picture, r, d)),
        ("it never moves the picture: the place of the 1 must depend on `down` and `right`.", lambda d, r: picture),
        ("the result is nothing but zeros: one entry must be 1.", lambda d, r: torch.zeros_like(picture)),
    ], "each new pixel is one old pixel, untouched: the kernel is a single 1 among zeros. Where does it stand?")
    return "the kernel must be 3 x 3." if hint and set(shapes) - {(3, 3)} else hint


def _judge_max_pool(answer: Any) -> str | None:
    "3.3: against F.max_pool2d and numbers worked by hand, negative ones and odd sizes among them"
    import torch
    import torch.nn.functional as F

    def pool(function: Callable, **options: Any) -> Callable:
        return lambda image, size: function(image[None, None], size, **options)[0, 0]

    def largest(image: Tensor, size: int) -> Tensor:
        return pool(F.max_pool2d)(image, size)

    by_hand = torch.tensor([[1., 2., 0., 4.], [3., 0., 9., 1.]])
    cases = [(by_hand, 2), (-1 - noise(6, 9, seed=1).abs(), 3), (noise(8, 4, seed=2), 2), (noise(7, 9, seed=3), 2)]
    return compare(answer, cases, largest, [
        ("that is the mean of each square: keep the largest.", pool(F.avg_pool2d)),
        ("your squares overlap: step by `size`.", pool(F.max_pool2d, stride=1)),
        ("negative pictures come out as zeros: don't compare with a 0 that isn't in the picture.",
         lambda image, size: largest(image, size).clamp(min=0)),
        ("rows and columns that don't fill a square are left out, as in torch.", pool(F.max_pool2d, ceil_mode=True)),
        ("that is the corner of each square, not the largest.",
         lambda image, size: image[:image.shape[0] // size * size:size, :image.shape[1] // size * size:size]),
        ("that is the smallest.", lambda image, size: -largest(-image, size)),
    ], "each number is the largest of one size x size square; a picture [H, W] becomes [H // size, W // size].")


def _judge_blocks_needed(answer: Any) -> str | None:
    "3.4: n blocks of convolution (3, stride 1) and pooling (2, stride 2) see 1 + 3 (2^n - 1) pixels: 4, 10, 22, 46, 94"
    sees = [1 + 3 * (2**n - 1) for n in range(16)]

    def right(size_px: int) -> int:
        return next(n for n, field in enumerate(sees) if field >= size_px)

    cases = [(size,) for size in (4, 5, 10, 11, 94, 95, 224, 512, 1024)]
    return compare(answer, cases, right, [
        ("that many don't see the whole film yet: take the first number that does.",
         lambda size: max(n for n, field in enumerate(sees) if field <= size)),
        ("a field of exactly the film's side is enough: >=, not >.",
         lambda size: next(n for n, field in enumerate(sees) if field > size)),
        ("that is how often the film can be halved; the receptive field grows a little faster: use `receptive_field`.",
         lambda size: math.ceil(math.log2(size))),
        ("that is the receptive field; how many blocks does it take?", lambda size: sees[right(size)]),
        ("without pooling it would take that many: each block has a layer (2, 2) too.",
         lambda size: math.ceil((size - 1) / 2)),
    ], "try receptive_field([(3, 1), (2, 2)] * blocks) with blocks = 1, 2, 3, ... until it reaches the film's side.")


def _judge_count(answer: Any) -> str | None:
    "3.5: the network is built with torch, and its parameters counted"
    import torch
    from torch import nn

    def right(channels: Sequence[int], n_classes: int) -> int:
        with torch.device("meta"):  # shapes without numbers: quick, and no random numbers are drawn
            blocks = [nn.Sequential(nn.Conv2d(i, o, 3, bias=False), nn.BatchNorm2d(o))
                      for i, o in zip(channels, channels[1:])]
            network = nn.Sequential(*blocks, nn.Linear(channels[-1], n_classes))
        return sum(p.numel() for p in network.parameters())

    def differing(change: Callable) -> Callable:
        return lambda channels, n_classes: right(channels, n_classes) + change(channels, n_classes)

    cases = [([1, 16], 3), ([1, 16, 32], 3), ([3, 8, 8, 20], 2), ([1, 16, 32, 64, 128], 10)]
    return compare(answer, cases, right, [
        ("these convolutions have no bias: batch normalisation brings its own.", differing(lambda c, n: sum(c[1:]))),
        ("where is the batch normalisation? A scale and a shift for each channel.",
         differing(lambda c, n: -2 * sum(c[1:]))),
        ("the running mean and spread of batch normalisation are kept, but not trained: 2 a channel, not 4.",
         differing(lambda c, n: 2 * sum(c[1:]))),
        ("batch normalisation has two numbers a channel: a scale and a shift.", differing(lambda c, n: -sum(c[1:]))),
        ("the fully connected layer has a bias for each class.", differing(lambda c, n: -n)),
        ("a kernel is as deep as its input: 9 numbers for each channel that comes in.",
         differing(lambda c, n: sum(9 * o - 9 * i * o for i, o in zip(c, c[1:])))),
        ("a 3 x 3 kernel has 9 numbers.", differing(lambda c, n: -8 * sum(i * o for i, o in zip(c, c[1:])))),
        ("the input isn't normalised here: no normalisation for the first number.", differing(lambda c, n: 2 * c[0])),
    ], "by hand for [1, 16] and 3 classes: 9 * 1 * 16 + 2 * 16 + (16 + 1) * 3 = 227.")


def _judge_batch_norm(answer: Any) -> str | None:
    "3.6: against F.batch_norm in training mode; a channel without any spread, and one with hardly any, are among them"
    import torch
    import torch.nn.functional as F

    def by(dims: tuple[int, ...], unbiased: bool = False, root: bool = True, eps: float = 1e-5) -> Callable:
        def normalise(x: Tensor) -> Tensor:
            variance = x.var(dims, correction=int(unbiased), keepdim=True) + eps
            return (x - x.mean(dims, keepdim=True)) / (variance.sqrt() if root else variance)

        return normalise

    flat, faint = noise(3, 2, 2, 2, seed=5), noise(2, 3, 3, 2, seed=6)
    flat[:, 0], faint[:, 1] = 0.5, faint[:, 1] * 0.004
    cases = [(5 + 3 * noise(2, 3, 2, 2),), (noise(4, 2, 3, 5, seed=1) * torch.tensor([1., 9.])[:, None, None],),
             (flat,), (faint,)]
    return compare(answer, cases, lambda x: F.batch_norm(x, None, None, training=True), [
        ("each channel has a mean of its own: don't mix the channels.", by((0, 1, 2, 3))),
        ("that treats each film alone: the mean goes over the films of the batch too.", by((2, 3))),
        ("that is a mean for each pixel: it goes over height and width too.", by((0,))),
        ("that normalises over the channels of each film: which dimensions should be averaged?", by((1, 2, 3))),
        ("divide by the square root of the variance.", by((0, 2, 3), root=False)),
        ("torch divides the squares by n here, not by n - 1: correction=0.", by((0, 2, 3), unbiased=True)),
        ("a channel without any spread gives 0 / 0: add 1e-5 to the variance.", by((0, 2, 3), eps=0)),
        ("1e-5 is added to the variance, before the square root.",
         lambda x: (x - x.mean((0, 2, 3), keepdim=True)) / (x.std((0, 2, 3), correction=0, keepdim=True) + 1e-5)),
        ("only the mean was taken away: divide by the spread.", lambda x: x - x.mean((0, 2, 3), keepdim=True)),
    ], "average over films, height and width; subtract; divide by the root of (variance + 1e-5); keep the shape.")


def _judge_convolve_by_matrix(answer: Any) -> str | None:
    "3.7: against F.conv2d, on pictures and kernels that are not square"
    import torch.nn.functional as F

    def right(image: Tensor, kernel: Tensor) -> Tensor:
        return F.conv2d(image[None, None], kernel[None, None])[0, 0]

    cases = [(noise(*of_image, seed=i), noise(*of_kernel, seed=i + 9)) for i, (of_image, of_kernel) in
             enumerate([((5, 5), (3, 3)), ((6, 9), (2, 4)), ((12, 7), (5, 1)), ((4, 3), (4, 3))])]
    return compare(answer, cases, right, [
        ("the numbers are right, but lie in one row: give them the shape [H - h + 1, W - w + 1].",
         lambda x, k: right(x, k).flatten()),
        ("the numbers are right, but F.unfold's dimensions are still there: [H - h + 1, W - w + 1] is wanted.",
         lambda x, k: right(x, k).reshape(1, 1, -1)),
        ("the numbers are right; leave out the dimensions of batch and channels.",
         lambda x, k: right(x, k)[None, None]),
        ("the numbers are right, but in the wrong shape: how many places are there in each direction?",
         lambda x, k: right(x, k).reshape(x.shape[1] - k.shape[1] + 1, -1)),
        ("your kernel is flipped: deep learning's convolution doesn't.", lambda x, k: right(x, k.flip(0, 1))),
        ("the picture lies on its side: rows first.", lambda x, k: right(x, k).T),
    ], "F.unfold(image[None, None], kernel.shape) has one column a place: kernel.flatten() times it, then reshape.")


def _judge_convolution_layer(answer: Any) -> str | None:
    "3.8: against F.conv2d, with several films, channels, kernels, paddings and strides"
    import torch.nn.functional as F

    def like(padding: Callable = lambda p: p, stride: Callable = lambda s: s) -> Callable:
        return lambda x, k, p, s: F.conv2d(x, k, None, stride(s), padding(p))

    shapes = [((2, 3, 7, 6), (4, 3, 3, 3), 1, 1), ((1, 1, 8, 8), (2, 1, 3, 3), 0, 2),
              ((2, 2, 9, 7), (3, 2, 5, 2), 2, 3)]
    cases = [(noise(*x, seed=i), noise(*k, seed=i + 5), p, s) for i, (x, k, p, s) in enumerate(shapes)]
    right = like()
    return compare(answer, cases, right, [
        ("the padding is missing: F.pad(images, (padding,) * 4) first.", like(padding=lambda p: 0)),
        ("the stride is missing.", like(stride=lambda s: 1)),
        ("your kernels are flipped: deep learning's convolution doesn't.",
         lambda x, k, p, s: right(x, k.flip(2, 3), p, s)),
        ("only one channel is looked at: a kernel adds up over all channels.",
         lambda x, k, p, s: right(x[:, :1], k[:, :1], p, s)),
        ("add up over the channels; that is their mean.", lambda x, k, p, s: right(x, k, p, s) / x.shape[1]),
        ("pad with zeros, not with the pixels at the rim.",
         lambda x, k, p, s: right(F.pad(x, (p,) * 4, mode="replicate"), k, 0, s)),
    ], "at each place, multiply the piece of the films [B, 1, in, h, w] with the kernels [out, in, h, w] and add up "
       "over the last three; the places are 0, stride, 2 stride, ... of the padded film.")


EXERCISES = (
    Exercise("3.1", "how large is the result", _judge_output_size),
    Exercise("3.2", "a kernel that moves a picture", _judge_shift_kernel),
    Exercise("3.3", "pooling by hand", _judge_max_pool),
    Exercise("3.4", "how deep to see a whole film", _judge_blocks_needed),
    Exercise("3.5", "where the parameters sit", _judge_count),
    Exercise("3.6", "batch normalisation by hand", _judge_batch_norm),
    Exercise("3.7", "convolution as a matrix product", _judge_convolve_by_matrix),
    Exercise("3.8", "a whole convolutional layer", _judge_convolution_layer),
)
