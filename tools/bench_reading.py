"""What stands around training, beside other libraries: cache, augmentation, inference (`make bench-peers`)"""
from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from bench_training import augment_batch, films_in_memory, read_grey, write_folders
from bench_turns import take_turns
from covid_xray.arithmetic import Arithmetic
from covid_xray.augment import Augment
from covid_xray.cnn import create_model
from covid_xray.data import Radiographs
from covid_xray.models import predict


def cache_from_files(films: int, rounds: int, size_px: int = 224) -> dict:
    "Building and opening the decoded cache against one pass of ImageFolder with Pillow"
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    resize = v2.Resize((size_px, size_px))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        table = write_folders(folder, films, 0)
        plain = ImageFolder(str(folder / "train"), resize)
        grey = ImageFolder(str(folder / "train"), resize, loader=read_grey)

        def build() -> None:
            with tempfile.TemporaryDirectory(dir=folder) as cache:
                Radiographs(table, size_px, cache, progress=False)

        def reopen() -> None:
            Radiographs(table, size_px, folder / "cache", progress=False)

        reopen()  # builds it, and brings all files into memory once for everybody
        ways = {"covid_xray": build, "second opening": reopen,
                "ImageFolder": lambda: [plain[k] for k in range(len(plain))],
                "ImageFolder, read as grey": lambda: [grey[k] for k in range(len(grey))]}
        return {"films": films, "size_px": size_px, "seconds": take_turns(ways, rounds, warm_up=False)}


def augmentation(batch: int, rounds: int, size_px: int = 224) -> dict:
    "Turn, scale, shift, brightness, contrast, gamma and noise on one batch, with our usual dials"
    from kornia import augmentation as kornia
    from torchvision.transforms import v2

    dials, images = Augment(), tensors_in_memory(batch, size_px)
    low, high = 1 - dials.contrast, 1 + dials.contrast
    light, bend = (1 - dials.brightness, 1 + dials.brightness), (1 - dials.gamma, 1 + dials.gamma)
    place = dict(degrees=dials.degrees, translate=(dials.shift, dials.shift), scale=(1 - dials.scale, 1 + dials.scale))
    each = v2.Compose([
        v2.RandomAffine(**place, interpolation=v2.InterpolationMode.BILINEAR),
        v2.ColorJitter(brightness=light, contrast=(low, high)),
        v2.Lambda(lambda image: v2.functional.adjust_gamma(image, float(np.random.uniform(*bend)))),
        v2.GaussianNoise(sigma=dials.noise)])
    whole = torch.nn.Sequential(
        kornia.RandomAffine(**place, p=1.0), kornia.RandomBrightness(light, p=1.0),
        kornia.RandomContrast((low, high), p=1.0), kornia.RandomGamma(bend, p=1.0),
        kornia.RandomGaussianNoise(std=dials.noise, p=1.0))
    ways = {"covid_xray": lambda: augment_batch(dials, images),
            "torchvision v2, film by film": lambda: torch.stack([each(image) for image in images]),
            "kornia": lambda: whole(images)}
    return {"films": batch, "size_px": size_px, "seconds": take_turns(ways, rounds)}


def tensors_in_memory(count: int, size_px: int) -> torch.Tensor:
    "Simulated films as a network takes them"
    return films_in_memory(count, size_px).batch(np.arange(count))[0]


def inference(model: str, films: int, rounds: int, size_px: int = 224, batch: int = 64) -> dict:
    "Probabilities of cached films: ours in two precisions, the network alone, film by film, and fastai's `get_preds`"
    from fastai.callback.progress import ProgressCallback  # noqa: F401 (gives learners their `no_bar`)
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner

    cached, network = films_in_memory(films, size_px), create_model(model).eval()
    images, targets = cached.batch(np.arange(films))
    loader = DataLoader(list(zip(images, targets)), bs=batch)
    learner = Learner(DataLoaders(loader, loader), network, torch.nn.CrossEntropyLoss())

    def bare(size: int) -> None:
        with torch.inference_mode():
            torch.cat([network(part).softmax(1) for part in images.split(size)])

    def fastai() -> None:
        with learner.no_bar(), learner.no_logging():
            learner.get_preds(dl=loader)

    fast = Arithmetic.named("bf16 + channels-last")
    ways = {"covid_xray": lambda: predict(network, cached, batch), "bare forward": lambda: bare(batch),
            f"covid_xray, {fast}": lambda: predict(network, cached, batch, arithmetic=fast),
            "film by film": lambda: bare(1), "fastai get_preds": fastai}
    return {"films": films, "size_px": size_px, "seconds": take_turns(ways, rounds)}
