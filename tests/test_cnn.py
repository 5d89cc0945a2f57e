"""The networks of chapter 3 against torch's own counters, published numbers and worked ones."""
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from covid_xray.cnn import MODELS, convolve2d, count_multiply_adds, count_parameters, create_model, receptive_field


@pytest.mark.parametrize(("in_channels", "n_classes", "published"), [(3, 3, 1_167_586), (3, 2, 1_164_434)])
def test_darkcovidnet_has_the_published_number_of_parameters(in_channels: int, n_classes: int, published: int) -> None:
    "Ozturk et al. 2020, doi 10.1016/j.compbiomed.2020.103792: three classes and two"
    model = create_model("darkcovidnet", in_channels, n_classes)
    assert count_parameters(model) == published
    assert sum(isinstance(layer, nn.Conv2d) for layer in model.modules()) == 17


def test_darkcovidnet_is_unchanged_by_its_pooling_at_the_published_size() -> None:
    model = create_model("darkcovidnet", 3).eval()
    with torch.no_grad():
        maps = model.features(torch.rand(1, 3, 256, 256))
        assert maps.shape == (1, 3, 13, 13)
        assert torch.equal(model.head[0](maps), maps)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("size_px", "in_channels", "n_classes"), [(64, 1, 3), (90, 3, 2)])
def test_every_model_takes_films_of_any_size(name: str, size_px: int, in_channels: int, n_classes: int) -> None:
    logits = create_model(name, in_channels, n_classes)(torch.rand(2, in_channels, size_px, size_px))
    assert logits.shape == (2, n_classes)
    logits.sum().backward()


@pytest.mark.parametrize("name", MODELS)
def test_multiply_adds_are_half_of_the_operations_that_torch_counts(name: str) -> None:
    model = create_model(name, in_channels=3).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.rand(1, 3, 96, 96))
    assert 2 * count_multiply_adds(model, 96, in_channels=3) == counter.get_total_flops()


def test_counting_leaves_the_model_as_it_was() -> None:
    model = create_model("residual").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_multiply_adds(model, 64)
    assert model.training and not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_multiply_adds_worked_by_hand() -> None:
    grouped = nn.Conv2d(4, 6, 3, stride=2, groups=2)  # 6 kernels of 2 x 3 x 3, at 4 x 4 places
    assert count_multiply_adds(nn.Sequential(grouped, nn.Flatten(), nn.Linear(96, 5)), 9, 4) == 6 * 18 * 16 + 480


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 4), (7, 6)])
def test_convolution_is_that_of_torch(shape: tuple[int, int]) -> None:
    image, kernel = torch.rand(7, 6), torch.rand(shape)
    assert torch.allclose(convolve2d(image, kernel), F.conv2d(image[None, None], kernel[None, None])[0, 0], atol=1e-5)


@pytest.mark.parametrize("layers", [[(3, 1)], [(3, 1), (2, 2)] * 3, [(5, 2), (3, 1), (1, 1), (3, 2), (2, 1)]])
def test_the_receptive_field_is_what_gradients_reach(layers: list[tuple[int, int]]) -> None:
    pixels = torch.zeros(96, requires_grad=True)
    row = pixels[None, None]
    for kernel_size, stride in layers:
        row = F.conv1d(row, torch.ones(1, 1, kernel_size), stride=stride)
    row[0, 0, row.shape[2] // 2].backward()
    assert int((pixels.grad > 0).sum()) == receptive_field(layers)


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(ValueError, match="choose one of plain, residual, darkcovidnet"):
        create_model("plane")
    with pytest.raises(ValueError, match="does not fit"):
        convolve2d(torch.ones(2, 2), torch.ones(3, 3))
