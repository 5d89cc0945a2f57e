"""Changes of whole batches, held against scipy, torchvision and numbers worked by hand."""
from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from covid_xray.augment import (
    Augment, affine_matrices, blur_batch, cutout_batch, mixup_batch, places_to_look, share_in_frame, speckle,
)


def random_films(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random(shape, np.float32))


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng([1, film]) for film in range(count)]


def test_places_are_those_of_affine_grid() -> None:
    matrices = affine_matrices(*torch.from_numpy(np.random.default_rng(2).uniform(0.5, 1.5, (4, 6))).float())
    wanted = F.affine_grid(matrices, [6, 1, 31, 20], align_corners=False)
    assert torch.allclose(places_to_look(matrices, 31, 20), wanted, atol=1e-6)


def test_noise_is_normal_and_each_film_s_own() -> None:
    stats = pytest.importorskip("scipy.stats")
    noise = speckle(torch.Size([5, 1, 60, 70]), generators(5))
    assert stats.kstest(noise.numpy().ravel(), "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(noise.flatten(1).numpy()) - np.eye(5)).max() < 0.06  # films are not alike
    alone = speckle(torch.Size([1, 1, 60, 70]), generators(5)[3:4])  # whoever stands beside it
    assert torch.equal(alone[0], noise[3])


def test_each_film_gets_scipy_s_blur_of_its_own() -> None:
    filters = pytest.importorskip("scipy.ndimage")
    images, sigmas = random_films(4, 2, 40, 33), [0.0, 0.7, 2.0, 4.3]
    blurred = blur_batch(images, torch.tensor(sigmas))
    for film, got, sigma in zip(images.numpy(), blurred.numpy(), sigmas):
        wanted = [filters.gaussian_filter(channel, sigma, mode="nearest", truncate=4.0) for channel in film]
        assert np.abs(got - wanted).max() < 1e-5


def test_a_square_of_the_mean_is_covered_and_nothing_else() -> None:
    images = random_films(40, 1, 30, 50)
    given = images.clone()
    cut = cutout_batch(images, generators(40), 0.4)
    assert torch.equal(images, given)
    areas = set()
    for film, after in zip(images[:, 0], cut[:, 0]):
        rows, columns = np.nonzero((film != after).numpy())
        box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        assert torch.allclose(after[box], film.mean()) and after[box].numel() == len(rows)
        assert max(after[box].shape) <= 12
        areas.add(len(rows))
    assert max(areas) == 144 and min(areas) < 144  # whole squares, and some cut off at the rim


def test_films_and_labels_are_mixed_by_the_same_share() -> None:
    images, targets = torch.eye(3)[:, None, None, :], torch.tensor([2, 0, 1])  # film i is lit at column i only
    mixed, soft = mixup_batch(images, targets, generators(3), alpha=1.0, n_classes=4)
    assert torch.allclose(soft.sum(1), torch.ones(3)) and (soft[:, 3] == 0).all()
    for film in range(3):
        own, other = soft[film, targets[film]], soft[film, targets[film - 1]]
        assert own > 0 and other > 0
        assert torch.isclose(mixed[film, 0, 0, film], own) and torch.isclose(mixed[film, 0, 0, film - 1], other)


def test_shares_follow_the_beta_distribution() -> None:
    "Mean 1/2 and variance 1 / (4 (2 alpha + 1))"
    images, targets = torch.zeros(4000, 1, 1, 1), torch.arange(4000) % 2
    _, soft = mixup_batch(images, targets, generators(4000), alpha=0.4, n_classes=2)
    own = soft[torch.arange(4000), targets]
    assert float(own.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(own.var()) == pytest.approx(1 / (4 * 1.8), abs=0.01)


def test_the_loss_of_a_mixed_label_is_the_mixed_loss() -> None:
    logits, targets = random_films(5, 3), torch.tensor([0, 1, 2, 1, 0])
    _, soft = mixup_batch(torch.zeros(5, 1, 1, 1), targets, generators(5), alpha=1.0)
    share = (soft[:, :2] * F.one_hot(targets, 3)[:, :2]).sum(1)
    share = torch.where(targets == 2, soft[:, 2], share)
    share[0] = 0.5  # film 0 and the one before it, film 4, are of one class: any share gives the same loss
    apart = [F.cross_entropy(logits, t, reduction="none") for t in (targets, targets.roll(1))]
    together = F.cross_entropy(logits, soft, reduction="none")
    assert torch.allclose(together, share * apart[0] + (1 - share) * apart[1], atol=1e-6)


def test_shares_in_frame_are_those_of_a_square() -> None:
    masks = torch.zeros(5, 1, 20, 20)
    masks[:4, :, 5:15, 5:15] = 1
    zero = torch.zeros(5)
    right = torch.tensor([0.0, 1.0, 2.0, 0.0, 0.0])  # in halves of the width: 10 and 20 of 20 columns
    scale = torch.tensor([1.0, 1.0, 1.0, 4.0, 1.0])
    kept = share_in_frame(masks, affine_matrices(zero, scale, right, zero))
    assert kept[:4].tolist() == pytest.approx([1.0, 0.5, 0.0, 0.36])  # four times as large: 6 of 10 rows and columns
    assert kept[4].isnan()
    turned = affine_matrices(zero + 137, scale * 0 + 1, zero, zero)
    assert share_in_frame(masks.bool(), turned)[:4].tolist() == [1.0] * 4


def test_dials_that_are_off_change_nothing_of_the_others() -> None:
    "Blur and cutout draw their chance after all else, so switching one on leaves turn, light and noise as they were"
    images = random_films(6, 1, 32, 32)
    plain = Augment()(images, generators(6))
    covered = Augment(cutout=0.3)(images, generators(6))
    same = (plain == covered).float().mean()
    assert 0.85 < same < 1
    assert torch.equal(plain, Augment(cutout=0.0, blur=0.0)(images, generators(6)))
    assert "blur=0.0, cutout=0.0" in repr(Augment())


@pytest.mark.parametrize("dials", [{"blur": -0.1}, {"cutout": 1.0}, {"blur": 1.0}])
def test_dials_out_of_range_are_named(dials: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(dials))}=.*out of range"):
        Augment(**dials)
