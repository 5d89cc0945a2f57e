"""What tests/test_scale.py starts in several processes.

    python -m torch.distributed.run ... tests/processes.py JOB FOLDER

Each process writes what it did to FOLDER/JOB-<world>-<rank>.json. Also imported, to do the same in one process.
"""
from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from covid_xray.augment import Augment
from covid_xray.cnn import create_model
from covid_xray.data import Radiographs
from covid_xray.models import predict
from covid_xray.records import record_table
from covid_xray.training import fit

CLASSES = ("covid", "normal", "pneumonia")
OPTIONS = dict(epochs=3, batch_size=16, learning_rate=3e-3, augment=Augment(), progress=False)


def squares(n: int, seed: int = 0) -> Radiographs:
    "Films that a network can learn in seconds: a bright square left, nowhere, or right"
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % 3
    images = rng.integers(0, 60, (n, 32, 32), dtype=np.uint8)
    images[targets == 0, 8:24, 2:12] += 120
    images[targets == 2, 8:24, 20:30] += 120
    table = record_table({"path": [f"{seed}-{i}.png" for i in range(n)], "label": np.array(CLASSES)[targets]})
    return Radiographs.from_arrays(images, table)


class Watched(Radiographs):
    "Notes which films are asked for"

    @classmethod
    def of(cls, films: Radiographs) -> Watched:
        watched = cls.from_arrays(films.images, films.table)
        watched.seen = []
        return watched

    def batch(self, indices):
        self.seen += np.asarray(indices).tolist()
        return super().batch(indices)


def network(name: str) -> nn.Module:
    "Without dropout, whose noise belongs to a process and not to a film"
    torch.manual_seed(0)
    model = create_model(name)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return model


def train(name: str, **options) -> dict:
    "One training, and what was seen in it; then the answers of all processes on 31 films"
    films, valid, test = Watched.of(squares(61, 0)), Watched.of(squares(31, 1)), Watched.of(squares(31, 2))
    model = network(name)
    history = fit(model, films, valid, **OPTIONS | options)
    said = predict(model, test, together=True)
    return dict(rows=history.rows, seen=films.seen, validated=valid.seen, tested=test.seen,
                probabilities=said.probabilities.tolist(), targets=said.targets.tolist(),
                weights=[float(p.double().sum()) for p in model.state_dict().values()])


def decode(folder: Path) -> dict:
    "Which files this process decodes when all open the same cache"
    import covid_xray.data

    plain, decoded = covid_xray.data._decode_film, []
    covid_xray.data._decode_film = lambda path, *rest: decoded.append(path) or plain(path, *rest)
    paths = sorted(map(str, (folder / "films").glob("*.png")))
    table = record_table({"path": paths, "label": ["normal"] * len(paths)})
    films = Radiographs(table, 32, cache=folder / "cache", progress=False)
    covid_xray.data._decode_film = plain
    return dict(decoded=decoded, sums=films.images.sum((1, 2)).tolist(), skipped=films.skipped["path"].tolist())


class Killed(Augment):
    "An augmentation in which process 1 dies in the third epoch, as of a power cut"
    left = 2 * 4 + 2  # batches

    def __call__(self, images, generators):
        self.left -= 1
        if self.left == 0 and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(images, generators)

    def __repr__(self) -> str:
        return repr(Augment())


def job(name: str, folder: Path) -> dict:
    "One of the jobs"
    if name == "killed":
        return train("residual-group", epochs=4, augment=Killed(), out=folder / "killed")
    return dict(group=train("residual-group"), batch=train("residual"), **decode(folder),
                resumed=train("residual-group", epochs=4, out=folder / "broken", resume=True))


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    done = job(sys.argv[1], Path(sys.argv[2]))
    assert torch.distributed.get_world_size() == world and torch.distributed.get_rank() == rank
    (Path(sys.argv[2]) / f"{sys.argv[1]}-{world}-{rank}.json").write_text(json.dumps(done), encoding="utf-8")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
