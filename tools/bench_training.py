"""Training beside other libraries: the same network, films, batches, optimiser and augmentation (`make bench-peers`).

Every way trains one epoch with AdamW on shuffled batches and looks once at the validation films. What the peers are not
made for is not held against them: they get our batch augmentation and a loader that reads grey files as grey.
"""
from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from bench_deployment import write_films
from bench_turns import Ways, added_mb, take_turns
from covid_xray import phantom
from covid_xray.augment import Augment
from covid_xray.cnn import create_model
from covid_xray.data import Radiographs
from covid_xray.training import fit

BATCH, RATE = 32, 1e-3
DIFFERENT = 100  # simulated films that differ; more are made by repeating them, which costs a network just as much


def films_in_memory(count: int, size_px: int) -> Radiographs:
    "Simulated films, repeated up to the number wanted"
    once = phantom.simulate(min(count, DIFFERENT), size_px=size_px, seed=0)
    rows = np.arange(count) % len(once.images)
    return Radiographs.from_arrays(once.images[rows], once.table.iloc[rows])


def tensors_of(films: Radiographs) -> tuple[torch.Tensor, torch.Tensor]:
    "All films as one batch in memory"
    return films.batch(np.arange(len(films)))


def augment_batch(augment: Augment, images: torch.Tensor) -> torch.Tensor:
    "Our augmentation as anybody's step on a batch"
    return augment(images, [np.random.default_rng(k) for k in range(len(images))])


def bare_loop(model: nn.Module, train: tuple, valid: tuple) -> None:
    "The least that an epoch can be: tensors in memory, no augmentation, no log"
    optimiser = torch.optim.AdamW(model.parameters(), RATE)
    model.train()
    for rows in torch.randperm(len(train[0])).split(BATCH):
        F.cross_entropy(model(train[0][rows]), train[1][rows]).backward()
        optimiser.step()
        optimiser.zero_grad()
    model.eval()
    with torch.inference_mode():
        for rows in torch.arange(len(valid[0])).split(2 * BATCH):
            model(valid[0][rows])


def epoch_in_memory(model: str, train_films: int, rounds: int, size_px: int = 224) -> dict:
    "Our `fit`, with and without augmentation, against the bare loop"
    films, network = films_in_memory(train_films + train_films // 4, size_px), create_model(model)
    train, valid = films.select(np.arange(train_films)), films.select(np.arange(train_films, len(films)))
    tensors, held_out = tensors_of(train), tensors_of(valid)
    ours = dict(epochs=1, batch_size=BATCH, learning_rate=RATE, progress=False)
    ways = {"covid_xray": lambda: fit(network, train, valid, **ours),
            "covid_xray, augmented": lambda: fit(network, train, valid, augment=Augment(), **ours),
            "bare loop": lambda: bare_loop(network, tensors, held_out)}
    few = films.select(np.arange(min(2 * BATCH, len(films))))  # what is made once: kernels chosen, libraries loaded
    fit(network, few, few, augment=Augment(), **ours)
    bare_loop(network, tensors_of(few), tensors_of(few))
    return {"films": len(films), "size_px": size_px, "seconds": take_turns(ways, rounds, warm_up=False)}


# ---- from files of original size ----


def write_folders(folder: Path, train_films: int, valid_films: int) -> pd.DataFrame:
    "PNG files of 1024 px in train/ and valid/, a folder for each class; gives their record table"
    once, labels = write_films(folder), phantom.teaching_table()["label"]
    rows = []
    for k in range(train_films + valid_films):
        part, label = ("train" if k < train_films else "valid"), labels.iloc[k % len(once)]
        path = folder / part / label / f"{k:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(once[k % len(once)], path)
        rows.append((str(path), label, part))
    return pd.DataFrame(rows, columns=["path", "label", "split"], dtype="string")


def read_grey(path: str) -> Image.Image:
    "torchvision's own loader makes three channels of one"
    return Image.open(path).convert("L")


def folder_loaders(folder: Path, size_px: int, workers: int) -> tuple:
    "torchvision's ImageFolder for both parts, as its documentation does it"
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    steps = v2.Compose([v2.Resize((size_px, size_px)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    parts = [ImageFolder(str(folder / part), steps, loader=read_grey) for part in ("train", "valid")]
    kept = dict(num_workers=workers, persistent_workers=workers > 0)  # from the second epoch on they need not start
    return DataLoader(parts[0], BATCH, shuffle=True, **kept), DataLoader(parts[1], 2 * BATCH, **kept)


def plain_epoch(model: nn.Module, train, valid) -> None:
    "A loop as PyTorch's tutorial writes it"
    optimiser = torch.optim.AdamW(model.parameters(), RATE)
    model.train()
    for images, targets in train:
        F.cross_entropy(model(augment_batch(Augment(), images)), targets).backward()
        optimiser.step()
        optimiser.zero_grad()
    model.eval()
    with torch.inference_mode():
        for images, targets in valid:
            F.cross_entropy(model(images), targets)


def lightning_epoch(model: nn.Module, train, valid) -> None:
    "Lightning's Trainer, without its logger, bar and checkpoints"
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def training_step(self, batch: tuple, _: int) -> torch.Tensor:
            return F.cross_entropy(self.network(augment_batch(Augment(), batch[0])), batch[1])

        def validation_step(self, batch: tuple, _: int) -> None:
            F.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), RATE)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False,
                                enable_checkpointing=False, enable_model_summary=False, num_sanity_val_steps=0)
    trainer.fit(Module(), train, valid)


def fastai_learner(model: nn.Module, folder: Path, size_px: int, workers: int):
    "fastai's Learner on the same folders, read as grey pictures"
    from fastai.callback.core import Callback
    from fastai.callback.progress import ProgressCallback  # noqa: F401 (gives learners their `no_bar`)
    from fastai.data.block import CategoryBlock, DataBlock
    from fastai.data.transforms import GrandparentSplitter, get_image_files, parent_label
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper
    from fastai.vision.augment import Resize
    from fastai.vision.core import PILImageBW
    from fastai.vision.data import ImageBlock

    class Batch(Callback):
        def before_batch(self) -> None:
            if self.training:
                self.learn.xb = (augment_batch(Augment(), self.x.as_subclass(torch.Tensor)),)

    block = DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_items=get_image_files,
                      splitter=GrandparentSplitter(), get_y=parent_label, item_tfms=Resize(size_px, method="squish"))
    loaders = block.dataloaders(folder, bs=BATCH, num_workers=workers)

    def adamw(parameters, lr: float) -> OptimWrapper:
        return OptimWrapper(parameters, torch.optim.AdamW, lr=lr)

    return Learner(loaders, model, nn.CrossEntropyLoss(), opt_func=adamw, lr=RATE, cbs=Batch())


def fastai_epoch(learner) -> None:
    "One epoch, without bar and table"
    with learner.no_bar(), learner.no_logging():
        learner.fit(1)


def ways_from_files(folder: Path, table: pd.DataFrame, size_px: int) -> Ways:
    "An epoch in every library; ours both with its cache still to be built and with it there"
    network, ours = create_model("residual"), dict(epochs=1, batch_size=BATCH, learning_rate=RATE, progress=False)

    def epoch(cache: Path) -> None:
        films = Radiographs(table, size_px, cache, progress=False)
        fit(network, films.part("train"), films.part("valid"), augment=Augment(), **ours)

    def first() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            epoch(Path(cache))

    ways: Ways = {"covid_xray": lambda: epoch(folder / "cache"), "covid_xray, first epoch": first}
    for workers in (0, 1, 2):
        name = f"{workers} worker{'s' * (workers != 1)}"
        loaders, learner = folder_loaders(folder, size_px, workers), fastai_learner(network, folder, size_px, workers)
        ways |= {f"ImageFolder, {name}": lambda loaders=loaders: plain_epoch(network, *loaders),
                 f"Lightning, {name}": lambda loaders=loaders: lightning_epoch(network, *loaders),
                 f"fastai, {name}": lambda learner=learner: fastai_epoch(learner)}
    return ways


def epoch_from_files(size_px: int, train_films: int, rounds: int) -> dict:
    "Our `fit` on a cache against fastai, Lightning and a plain loop, all from PNG files of 1024 px"
    warnings.filterwarnings("ignore", module="lightning")
    with tempfile.TemporaryDirectory() as place:
        table = write_folders(Path(place), train_films, train_films // 4)
        seconds = take_turns(ways_from_files(Path(place), table, size_px), rounds)
    return {"films": len(table), "size_px": size_px, "seconds": seconds}


def memory_from_files(size_px: int, train_films: int, rounds: int) -> dict:
    "What one such epoch adds to a fresh process that has everything loaded, workers included"
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        table = write_folders(Path(place), train_films, train_films // 4)
        table.to_csv(Path(place, "table.csv"), index=False)
        Radiographs(table, size_px, Path(place, "cache"), progress=False)
        for _ in range(rounds):
            for name in ("covid_xray, first epoch", "covid_xray", "ImageFolder, 0 workers", "ImageFolder, 2 workers",
                         "Lightning, 0 workers", "fastai, 0 workers"):
                command = [sys.executable, __file__, place, str(size_px), name]
                said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found.setdefault(name, []).append(float(said.split()[-1]))
    return {"films": len(table), "size_px": size_px, "memory_mb": found}


if __name__ == "__main__":  # one way in a process of its own, for `memory_from_files`
    place, size, wanted = sys.argv[1:]
    films = pd.read_csv(Path(place, "table.csv"), dtype="string")
    torch.set_num_threads(2)
    print(added_mb(ways_from_files(Path(place), films, int(size))[wanted]))
