"""Checks of explanations that need no truth: curves worked out slowly, likeness against scipy, layers one by one."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from covid_xray.cnn import PlainCNN
from covid_xray.sanity import (blurred, border_share, map_likeness, perturbation_curve, randomised_layers,
                               removal_order, road_curve, smoothly_filled)


class Weighted(nn.Module):
    "Logit of class 0 is a weighted sum of the pixels, of class 1 it is 0"

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.from_numpy(weights).float())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logit = (images[:, 0] * self.weights).sum((1, 2))
        return torch.stack([logit, torch.zeros_like(logit)], 1)


def slow_blur(image: np.ndarray, size: int) -> np.ndarray:
    "Two passes of the mean over a window cut off at the rim"
    reach = size // 2
    for _ in range(2):
        result = np.empty_like(image)
        for i, j in np.ndindex(image.shape):
            result[i, j] = image[max(0, i - reach):i + reach + 1, max(0, j - reach):j + reach + 1].mean()
        image = result
    return image


def test_blur_is_the_mean_over_the_window() -> None:
    image = np.random.default_rng(0).random((9, 9))
    ours = blurred(torch.from_numpy(image)[None, None], size=5)[0, 0].numpy()
    np.testing.assert_allclose(ours, slow_blur(image, 5), rtol=1e-12)


@pytest.mark.parametrize("kind", ["deletion", "insertion"])
def test_curve_follows_a_sum_worked_out_slowly(kind: str) -> None:
    rng = np.random.default_rng(1)
    weights, image, heat = rng.normal(size=(6, 6)), rng.random((6, 6)), rng.random((6, 6))
    nothing = slow_blur(image, 33)
    start, end = (image, nothing) if kind == "deletion" else (nothing, image)
    expected = []
    for moved in range(0, 37, 9):
        mixed = start.copy().ravel()
        first = np.argsort(-heat.ravel())[:moved]
        mixed[first] = end.ravel()[first]
        expected.append(1 / (1 + np.exp(-(mixed.reshape(6, 6) * weights).sum())))
    ours = perturbation_curve(Weighted(weights), torch.from_numpy(image)[None, None].float(), heat[None],
                              torch.tensor([0]), kind=kind, steps=4)
    np.testing.assert_allclose(ours[0], expected, rtol=1e-4)


def test_the_two_curves_meet_where_they_must() -> None:
    rng = np.random.default_rng(2)
    images, heat = torch.rand(3, 1, 16, 16), rng.random((3, 16, 16))
    model, targets = Weighted(rng.normal(size=(16, 16))), torch.tensor([0, 1, 0])
    deletion = perturbation_curve(model, images, heat, targets, steps=5)
    insertion = perturbation_curve(model, images, heat, targets, kind="insertion", steps=5)
    np.testing.assert_allclose(deletion[:, 0], insertion[:, -1], rtol=1e-5)
    np.testing.assert_allclose(deletion[:, -1], insertion[:, 0], rtol=1e-5)


def blobs(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    "Smooth random heatmaps, so that what is removed hangs together"
    coarse = torch.rand(shape[0], 1, 5, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=shape[1:], mode="bicubic")[:, 0].numpy()


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_filling_is_that_of_pytorch_grad_cam(share: float) -> None:
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    rng = np.random.default_rng(4)
    for heat in (blobs((1, 20, 31))[0], rng.random((20, 31))):
        image, removed = rng.random((20, 31)), heat > np.quantile(heat, 1 - share)
        theirs = road.NoisyLinearImputer(noise=0)(torch.from_numpy(image)[None].float(),
                                                 torch.from_numpy(~removed).float())
        np.testing.assert_allclose(smoothly_filled(image, removed), theirs[0].numpy(), atol=1e-6)


def test_filling_worked_by_hand() -> None:
    nine = np.arange(9.0).reshape(3, 3) ** 2
    middle = np.zeros((3, 3), bool)
    middle[1, 1] = True
    # beside: 1, 9, 25, 49 by 1/6 each; across: 0, 4, 36, 64 by 1/12 each
    assert smoothly_filled(nine, middle)[1, 1] == pytest.approx(84 / 6 + 104 / 12)
    corner = np.zeros((3, 3), bool)
    corner[0, 0] = True  # two beside, 1 and 9, and one across, 16: weights 2 : 2 : 1
    assert smoothly_filled(nine, corner)[0, 0] == pytest.approx((2 * 1 + 2 * 9 + 16) / 5)
    np.testing.assert_array_equal(smoothly_filled(nine, ~np.ones((3, 3), bool)), nine)


def test_road_is_that_of_pytorch_grad_cam() -> None:
    "Their most-relevant-first metric, without noise, at the same shares of pixels"
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    metric = pytest.importorskip("pytorch_grad_cam.metrics.perturbation_confidence")
    rng = np.random.default_rng(5)
    model, images, heat = Weighted(rng.normal(size=(20, 20))), torch.rand(3, 1, 20, 20), blobs((3, 20, 20), 1)
    shares, says = (0.1, 0.5, 0.9), [lambda logits: logits.softmax(-1)[0]] * 3
    for sign in (1, -1):
        ours = road_curve(model, images, sign * heat, torch.tensor([0, 0, 0]), shares=shares, noise=0)
        for k, share in enumerate(shares):
            kind = metric.RemoveMostRelevantFirst(100 * (1 - share), road.NoisyLinearImputer(noise=0))
            theirs = metric.PerturbationConfidenceMetric(kind)(images, sign * heat, says, model, return_diff=False)
            np.testing.assert_allclose(ours[:, k], theirs, atol=1e-4)


def test_road_noise_lies_only_on_what_was_filled() -> None:
    seen = []

    class Watched(Weighted):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return super().forward(images)
    images, heat = torch.rand(1, 1, 12, 12), blobs((1, 12, 12))
    model = Watched(np.ones((12, 12)))
    for noise, seed in ((0, 0), (0.1, 0), (0.1, 0), (0.1, 1)):
        road_curve(model, images, heat, torch.tensor([0]), shares=(0.5,), noise=noise, seed=seed)
    smooth, first, again, other = seen
    kept = torch.from_numpy(heat <= np.sort(heat.ravel())[71])[:, None]
    assert torch.equal(smooth[kept], images[kept]) and torch.equal(first[kept], images[kept])
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert 0.05 < float((first - smooth)[~kept].std()) < 0.15


def test_order_of_an_empty_map_is_random_and_repeatable() -> None:
    empty = np.zeros((2, 8, 8), np.float32)
    first, again, other = (removal_order(empty, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert all(sorted(row.tolist()) == list(range(64)) for row in first)


def test_model_is_left_as_it_was() -> None:
    model = PlainCNN(1, 3).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    perturbation_curve(model, torch.rand(2, 1, 32, 32), np.zeros((2, 32, 32)), torch.tensor([0, 1]), steps=2)
    list(randomised_layers(model))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_layers_become_random_from_the_output_back() -> None:
    torch.manual_seed(0)
    model = PlainCNN(1, 3)
    weights = {name: value.clone() for name, value in model.named_parameters() if value.ndim > 1}
    changed_so_far = 0
    for number, (name, broken) in enumerate(randomised_layers(model), 1):
        now = dict(broken.named_parameters())
        changed = [key for key, value in weights.items() if not torch.equal(value, now[key])]
        assert len(changed) == number and f"{name}.weight" in changed
        assert changed == list(weights)[-number:]
        changed_so_far = number
    assert changed_so_far == len(weights)


def test_likeness_is_spearmans_rank_correlation() -> None:
    rng = np.random.default_rng(3)
    first = rng.integers(0, 9, (5, 12, 12)).astype(np.float32)  # many ties
    second = first + rng.integers(0, 5, first.shape)
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second)]
    np.testing.assert_allclose(map_likeness(first, second), expected, rtol=1e-10)
    assert np.isnan(map_likeness(np.ones((1, 4, 4)), rng.random((1, 4, 4)))).all()


def test_border_of_a_uniform_map_is_its_area() -> None:
    maps = np.ones((2, 10, 20), np.float32)
    np.testing.assert_allclose(border_share(maps, 2), 1 - 6 * 16 / 200)
    maps[1] = 0
    assert np.isnan(border_share(maps, 2)[1])


@pytest.mark.parametrize("call, words", [
    (lambda: perturbation_curve(PlainCNN(1, 2), torch.rand(1, 1, 32, 32), np.zeros((1, 32, 32)), torch.tensor([0]),
                                kind="erase"), "kind='erase'"),
    (lambda: perturbation_curve(PlainCNN(1, 2), torch.rand(1, 1, 32, 32), np.zeros((1, 16, 16)), torch.tensor([0])),
     "do not fit"),
    (lambda: road_curve(PlainCNN(1, 2), torch.rand(1, 1, 32, 32), np.zeros((1, 16, 16)), torch.tensor([0])),
     "do not fit"),
    (lambda: road_curve(PlainCNN(1, 2), torch.rand(1, 1, 32, 32), np.zeros((1, 32, 32)), torch.tensor([0]),
                        shares=(0.5, 1)), "below 1"),
    (lambda: smoothly_filled(np.zeros((4, 4)), np.ones((4, 4), bool)), "at least one pixel kept"),
    (lambda: map_likeness(np.zeros((1, 4, 4)), np.zeros((2, 4, 4))), "same films"),
    (lambda: border_share(np.zeros((1, 8, 8)), 4), "width=4"),
])
def test_bad_input_is_told(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
