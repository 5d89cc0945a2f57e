"Exercises of chapter 4, training: judged against torch, SciPy and numbers worked by hand, on inputs nobody has seen"
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from covid_xray.exercises import Exercise
from covid_xray.exercises.chapter3 import compare, noise

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EXERCISES"]


def _judge_accuracy(answer: Any) -> str | None:
    "4.1: scikit-learn's accuracy of the class with the largest logit"
    import torch
    from sklearn.metrics import accuracy_score

    def right(logits: Tensor, targets: Tensor) -> float:
        return float(accuracy_score(targets.numpy(), logits.numpy().argmax(1)))

    cases = [(torch.tensor([[2., 1., 0.], [0., -1., -3.], [-2., -9., -1.], [0., 5., 1.]]), torch.tensor([0, 2, 2, 1])),
             (noise(30, 3, seed=1), torch.arange(30) % 3), (noise(40, 2, seed=2) - 5, torch.arange(40) % 2)]
    return compare(answer, cases, right, [
        ("that is how many are right: what share of all films is it?", lambda x, y: right(x, y) * len(y)),
        ("a share lies between 0 and 1: don't multiply by 100.", lambda x, y: 100 * right(x, y)),
        ("that is the share that is wrong.", lambda x, y: 1 - right(x, y)),
        ("that takes the smallest logit of each row.", lambda x, y: right(-x, y)),
        ("one answer a film isn't wanted, but their mean.", lambda x, y: x.argmax(1) == y),
    ], "the class a film is given is the place of the largest logit in its row; compare with the targets and average.")


def _judge_downhill(answer: Any) -> str | None:
    "4.2: the gradient by torch's autograd"
    import torch
    import torch.nn.functional as F

    def gradient(weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
        leaf = weights.clone().requires_grad_()
        return torch.autograd.grad(F.mse_loss(x @ leaf, y), leaf)[0]

    def step(factor: Callable = lambda x: 1) -> Callable:
        return lambda w, x, y, rate: w - rate * factor(x) * gradient(w, x, y)

    cases = [(noise(k, seed=n), noise(n, k, seed=n + 1), noise(n, seed=n + 2), rate)
             for n, k, rate in ((4, 2, 0.1), (10, 3, 0.01), (7, 5, 0.5))]
    return compare(answer, cases, step(), [
        ("that goes uphill: subtract the gradient.", step(lambda x: -1)),
        ("the derivative of a square has a factor of 2.", step(lambda x: 0.5)),
        ("the loss is the mean over the films, not the sum.", step(len)),
        ("the loss is the mean over the films, and the derivative of a square has a factor of 2.",
         step(lambda x: len(x) / 2)),
        ("where does the learning rate come in?", lambda w, x, y, rate: w - gradient(w, x, y)),
        ("that is the gradient; what are the weights after the step?", lambda w, x, y, rate: gradient(w, x, y)),
        ("that is the change alone: add it to the weights.", lambda w, x, y, rate: -rate * gradient(w, x, y)),
    ], "the gradient is 2 / n * x.T @ (x @ weights - y); by autograd, ask for it of weights.requires_grad_().")


def _stopping(losses: Sequence[float], patience: int) -> tuple[int, int]:
    "(epoch kept, last epoch trained), both from 0"
    stop = next((epoch for epoch in range(len(losses))
                 if epoch - int(np.argmin(losses[:epoch + 1])) >= patience), len(losses) - 1)
    return int(np.argmin(losses[:stop + 1])), stop


def _rising(losses: Sequence[float], patience: int) -> tuple[int, int]:
    "The mistake of counting how often in a row the loss rose from one epoch to the next"
    in_row = 0
    for epoch in range(1, len(losses)):
        in_row = in_row + 1 if losses[epoch] >= losses[epoch - 1] else 0
        if in_row >= patience:
            return int(np.argmin(losses[:epoch + 1])), epoch
    return int(np.argmin(losses)), len(losses) - 1


def _judge_early_stopping(answer: Any) -> str | None:
    "4.3: what `fit` does, with ties, a late better epoch that is never reached, and runs that never stop early"
    cases = [([1.1, 0.9, 0.8, 0.85, 0.9, 0.7], 2), ([1.1, 0.9, 0.8, 0.85, 0.9, 0.7], 3), ([1.0, 0.9, 0.8], 1),
             ([0.9, 0.7, 0.7, 0.8, 0.9], 3), ([0.9, 0.7, 0.7, 0.6, 0.65], 2), ([1.0, 0.6, 0.9, 0.8, 0.75, 0.7], 3),
             ([0.5], 1), ([1.0, 0.5, 0.7, 0.8, 0.7, 0.6, 0.55], 2),
             ([1.0, 0.9, 1.2, 1.1, 0.8, 0.9, 0.85, 0.84], 3)]

    def last_of_ties(losses: Sequence[float], patience: int) -> tuple[int, int]:
        stop = _stopping(losses, patience)[1]
        return max(e for e in range(stop + 1) if losses[e] == min(losses[:stop + 1])), stop

    return compare(answer, cases, _stopping, [
        ("an epoch that is never reached can't be kept: look only at epochs up to the stop.",
         lambda x, p: (int(np.argmin(x)), _stopping(x, p)[1])),
        ("you stop an epoch too late: with a patience of 2, the second epoch without a better loss is the last.",
         lambda x, p: _stopping(x, p + 1)),
        ("you compare with the epoch before; compare with the best so far.", _rising),
        ("epochs are counted from 0.", lambda x, p: tuple(e + 1 for e in _stopping(x, p))),
        ("first the epoch to keep, then the last one trained.", lambda x, p: _stopping(x, p)[::-1]),
        ("that is how many epochs are trained; which is the last one, from 0?",
         lambda x, p: (_stopping(x, p)[0], _stopping(x, p)[1] + 1)),
        ("an equal loss isn't better: keep the first.", last_of_ties),
        ("the weights of the best epoch are kept, not those of the last.", lambda x, p: (_stopping(x, p)[1],) * 2),
        ("patience makes it stop before the end.", lambda x, p: (int(np.argmin(x)), len(x) - 1)),
    ], "by hand: losses 1.1, 0.9, 0.8, 0.85, 0.9, 0.7 with a patience of 2 keep epoch 2 and end with epoch 4.")


def _judge_batches(answer: Any) -> str | None:
    "4.4: what must hold for the batches of every epoch, whatever the order"
    if not callable(answer):
        return "hand over the function itself: its name, without brackets."

    def ask(*arguments: int) -> list[list[int]]:
        return [np.asarray(batch).astype(int).tolist() for batch in answer(*arguments)]

    for n, size in ((60, 6), (100, 32), (33, 32), (5, 8)):
        given = ask(n, size, 0, 0)
        seen = sorted(film for batch in given for film in batch)
        if [] in given or any(len(batch) > size for batch in given):
            return f"{n} films: a batch has at least one film and at most batch_size."
        if len(seen) < n and len(seen) == n // size * size:
            return f"{n} films in batches of {size}: the last, smaller batch counts too."
        if sorted(set(seen)) != seen:
            return f"{n} films: some are seen twice in one epoch; draw without replacement."
        if seen != list(range(n)):
            return f"{n} films: each number from 0 to {n - 1} must turn up once."
        if len(given) != -(-n // size):
            return f"{n} films in batches of {size}: {-(-n // size)} batches would do."
    return _judge_order(ask)


def _judge_order(ask: Callable[[int, int, int, int], list[list[int]]]) -> str | None:
    "4.4: random, the same for the same seed and epoch, another for another"
    first = ask(60, 6, 0, 0)
    if [film for batch in first for film in batch] == list(range(60)):
        return "the films are still in their old order: shuffle."
    if all(max(batch) - min(batch) == 5 for batch in first):
        return "neighbours always share a batch: shuffle the films, not the batches."
    if ask(60, 6, 0, 0) != first:
        return "the same seed and epoch must give the same order again: make a generator from them."
    if ask(60, 6, 0, 1) == first:
        return "each epoch needs an order of its own."
    if ask(60, 6, 1, 0) == first:
        return "another seed must give another order."
    if ask(60, 6, 0, 1) == ask(60, 6, 1, 0):
        return "seed 0 in epoch 1 has the order of seed 1 in epoch 0: don't add them up, give the generator both."
    return None


def _judge_cross_entropy(answer: Any) -> str | None:
    "4.5: against F.cross_entropy, with logits that overflow"
    import torch
    import torch.nn.functional as F

    by_hand = (torch.tensor([[2., 1., 0.]]), torch.tensor([1]))
    modest = [by_hand, (noise(8, 3, seed=1), torch.arange(8) % 3), (3 * noise(5, 4, seed=2), torch.arange(5) % 4)]
    huge = [(torch.tensor([[1000., 0., -1000.], [0., 200., 100.]]), torch.tensor([1, 2])),
            (torch.tensor([[5000., 4999., 0.], [-5000., -4999., -5001.]]), torch.tensor([0, 1]))]
    mistakes = [
        ("cross-entropy is minus the logarithm.", lambda x, y: -F.cross_entropy(x, y)),
        ("that is the sum over the films: take the mean.", lambda x, y: F.cross_entropy(x, y, reduction="sum")),
        ("one loss a film isn't wanted, but their mean.", lambda x, y: F.cross_entropy(x, y, reduction="none")),
        ("the softmax is missing: logits aren't probabilities.", F.nll_loss),
        ("that is the probability of the truth: where is the logarithm?",
         lambda x, y: x.softmax(1)[torch.arange(len(y)), y].mean()),
        ("take the logarithm first, and the mean of the logarithms.",
         lambda x, y: -x.softmax(1)[torch.arange(len(y)), y].mean().log()),
        ("natural logarithms are wanted.", lambda x, y: F.cross_entropy(x, y) / math.log(2)),
        ("softmax over the classes: dimension 1.", lambda x, y: F.nll_loss(x.log_softmax(0), y)),
    ]
    hint = compare(answer, modest, F.cross_entropy, mistakes,
                   "log-softmax of each row, its entry at the target, times -1, and the mean over the films.")
    return hint or compare(answer, huge, F.cross_entropy, [], (
        "right for modest logits, but with logits of 1000 the exponential overflows or the logarithm meets a 0: "
        "subtract each row's largest logit first, and never take the logarithm of a quotient: "
        "log(e^a / sum) = a - log(sum)."))


def _judge_warm_up(answer: Any) -> str | None:
    "4.6: a rising line, then half a cosine; as numbers: 1/4, 2/4, 3/4, 1 | 1, 0.854, 0.5, 0.146, 0 for 4 of 9 steps"

    def schedule(up: Callable = lambda share, n: share, down: Callable = lambda t: (1 + math.cos(math.pi * t)) / 2):
        return lambda step, steps, warm, peak: peak * (
            up((step + 1) / warm, warm) if step < warm else down((step - warm) / (steps - 1 - warm)))

    runs = [(9, 4, 1.0), (20, 5, 3e-3), (50, 1, 0.1)]
    cases = [(step, *run) for run in runs for step in range(run[0])]

    return compare(answer, cases, _rate, [
        ("the first step has no rate at all: count from 1, (step + 1) / warm.", schedule(up=lambda x, n: x - 1 / n)),
        ("that falls in a straight line: half a cosine is wanted.", schedule(down=lambda t: 1 - t)),
        ("(1 + cos) lies between 0 and 2: halve it.", schedule(down=lambda t: 1 + math.cos(math.pi * t))),
        ("the cosine alone goes below zero: (1 + cos) / 2.", schedule(down=lambda t: math.cos(math.pi * t))),
        ("that is a whole cosine, down and up again: half of one, so pi and not 2 pi.",
         schedule(down=lambda t: (1 + math.cos(2 * math.pi * t)) / 2)),
        ("the cosine must begin when the warm-up ends: share = (step - warm) / (steps - 1 - warm).",
         lambda i, n, w, peak: peak * ((i + 1) / w if i < w else (1 + math.cos(math.pi * i / (n - 1))) / 2)),
        ("the last step must reach 0: the share is (step - warm) / (steps - 1 - warm).",
         lambda i, n, w, peak: peak * ((i + 1) / w if i < w else (1 + math.cos(math.pi * (i - w) / (n - w))) / 2)),
        ("the warm-up is missing.", lambda i, n, w, peak: peak * (1 + math.cos(math.pi * i / (n - 1))) / 2),
        ("multiply by the peak.", lambda i, n, w, peak: schedule()(i, n, w, 1)),
    ], "for 9 steps, 4 of them warm-up, and a peak of 1: 0.25, 0.5, 0.75, 1, then 1, 0.854, 0.5, 0.146, 0.")


def _rate(step: int, steps: int, warm: int, peak: float) -> float:
    "A straight line, then half a cosine as the square of a quarter: (1 + cos 2a) / 2 = cos(a)^2"
    if step < warm:
        return peak * (step + 1) / warm
    return peak * math.cos(math.pi / 2 * (step - warm) / (steps - 1 - warm))**2


def _judge_interval(answer: Any) -> str | None:
    "4.7: SciPy's interval of Student's t"
    from scipy import stats

    def interval(correction: int = 1, root: bool = True, quantile: float | None = None, both: bool = True) -> Callable:
        def of(values: Sequence[float]) -> tuple[float, float]:
            n, mean = len(values), float(np.mean(values))
            t = quantile or stats.t.ppf(0.975 if both else 0.95, n - 1)
            half = t * np.std(values, ddof=correction) / (math.sqrt(n) if root else 1)
            return mean - half, mean + half

        return of

    def right(values: Sequence[float]) -> tuple[float, float]:
        return stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))

    cases = [([0.62, 0.70, 0.66, 0.58, 0.74],), ([0.8, 0.9],), ([1.0, 1.1, 0.9, 1.3, 1.25, 0.7, 1.0, 0.95],)]
    return compare(answer, cases, right, [
        ("with so few runs the normal distribution's 1.96 is too narrow: Student's t with n - 1 degrees of freedom.",
         interval(quantile=stats.norm.ppf(0.975))),
        ("with so few runs 1.96 is too narrow: Student's t with n - 1 degrees of freedom.", interval(quantile=1.96)),
        ("that is the spread of single runs: the mean of n runs spreads less, by the root of n.", interval(root=False)),
        ("divide the squares by n - 1 (ddof=1): the mean was estimated from the same runs.", interval(correction=0)),
        ("2.5 % on either side: the quantile at 0.975.", interval(both=False)),
        ("that is the smallest and the largest run.", lambda values: (min(values), max(values))),
        ("the mean and the half-width were given; (low, high) is wanted.",
         lambda values: (np.mean(values), right(values)[1] - np.mean(values))),
        ("first low, then high.", lambda values: right(values)[::-1]),
    ], "mean -+ t * s / sqrt(n), with s from n - 1 and t = scipy.stats.t.ppf(0.975, n - 1).")


def _adam(gradients: Sequence[Tensor], rate: float, *, correct: bool = True, sign: int = 1, inside: bool = False,
          betas: tuple[float, float] = (0.9, 0.999), square: bool = True, root: bool = True) -> Tensor:
    "The weights after each step, with one mistake or another"
    import torch

    weights, m, v, path = torch.zeros(4), torch.zeros(4), torch.zeros(4), []
    for t, g in enumerate(gradients, 1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * (g * g if square else g)
        a, b = (m / (1 - betas[0]**t), v / (1 - betas[1]**t)) if correct else (m, v)
        below = (b + 1e-8).sqrt() if inside else (b.sqrt() if root else b) + 1e-8
        weights = weights - sign * rate * a / below
        path.append(weights)
    return torch.stack(path)


def _adam_by_torch(gradients: Sequence[Tensor], rate: float) -> Tensor:
    "The weights after each step of torch.optim.Adam"
    import torch

    weights, path = torch.zeros(4), []
    optimiser = torch.optim.Adam([weights], lr=rate)
    for gradient in gradients:
        weights.grad = gradient.clone()
        optimiser.step()
        path.append(weights.clone())
    return torch.stack(path)


def _judge_adam(answer: Any) -> str | None:
    "4.8: several steps in a row, with large and with tiny gradients, against torch.optim.Adam"
    import torch

    if not callable(answer):
        return "hand over the function itself: its name, without brackets."
    gradients = [noise(4, seed=i) * torch.tensor([1., 100., 1e-3, 1e-5]) for i in range(6)]

    def walk(gradients: Sequence[Tensor], rate: float) -> Tensor:
        weights, m, v, path = torch.zeros(4), torch.zeros(4), torch.zeros(4), []
        for t, gradient in enumerate(gradients, 1):
            weights, m, v = answer(weights, gradient, m, v, t, rate)
            path.append(torch.as_tensor(weights).detach().clone())
        return torch.stack(path)

    def with_(**mistake: Any) -> Callable:
        return lambda gradients, rate: _adam(gradients, rate, **mistake)

    return compare(walk, [(gradients, 0.01), (gradients[::-1], 0.5)], _adam_by_torch, [
        ("the bias correction is missing: m / (1 - 0.9**t) and v / (1 - 0.999**t).", with_(correct=False)),
        ("that goes uphill: subtract.", with_(sign=-1)),
        ("the 1e-8 is added after the square root.", with_(inside=True)),
        ("0.9 belongs to m, 0.999 to v.", with_(betas=(0.999, 0.9))),
        ("v is the running mean of the squares of the gradient.", with_(square=False)),
        ("divide by the square root of v.", with_(root=False)),
        ("each m is nine parts the old m and one part the gradient: 0.9 * m + 0.1 * gradient.",
         with_(betas=(0.1, 0.001))),
    ], "update m and v first, correct copies of them for their start at 0 (hand back the uncorrected), "
       "then subtract rate * m / (sqrt(v) + 1e-8).")


EXERCISES = (
    Exercise("4.1", "accuracy from logits", _judge_accuracy),
    Exercise("4.2", "one step downhill", _judge_downhill),
    Exercise("4.3", "when to stop, and what to keep", _judge_early_stopping),
    Exercise("4.4", "each film once an epoch", _judge_batches),
    Exercise("4.5", "cross-entropy that never overflows", _judge_cross_entropy),
    Exercise("4.6", "warm up, then a cosine", _judge_warm_up),
    Exercise("4.7", "the same training five times", _judge_interval),
    Exercise("4.8", "one step of Adam", _judge_adam),
)
