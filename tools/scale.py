"""Does a large collection fit? 21,165 files in the Radiography layout: tabled, decoded, trained on and evaluated.

    python tools/scale.py [--images 1000 5000 21165] [--size 224] [--folder FOLDER]    # `make scale`; Linux

The files are made first: 300 different simulated films of 299 x 299 pixels, the size of the Radiography set's, each
written under many names with its number in a text chunk, so that no two files are alike: each is read and decoded, and
nothing on the way looks at whether pixels were met before. Smaller sets are hard links to the first files of each
class. Every size is measured in a process of its own, stage by stage: seconds by the clock and of the processor, and
the peak of resident memory. `model_mb` is what torch, the network and one step on a batch of noise need before any film
is there; `of_it_mapped_files_mb` are pages of files, which the system takes back whenever it needs them. The network is
the residual one at a half to a third of its widths, for its time is not the question. Kept in
covid_xray/results/scale.csv.
"""
from __future__ import annotations

import argparse
import io
import json
import os
import re
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
KEPT = ROOT / "covid_xray" / "results" / "scale.csv"
LAYOUT = {"COVID": ("covid", 3616), "Normal": ("normal", 10192), "Viral Pneumonia": ("pneumonia", 1345),
          "Lung_Opacity": ("pneumonia", 6012)}  # folder -> what is drawn for it, how many files of the real set
WHOLE, DISTINCT, SIDE_PX = 21165, 300, 299


def counts(n: int) -> dict[str, int]:
    "How many of n files stand in which folder, in the proportions of the real set"
    edges = np.round(np.cumsum([0, *(count for _, count in LAYOUT.values())]) * n / WHOLE).astype(int)
    return dict(zip(LAYOUT, np.diff(edges).tolist()))


def as_png(image: np.ndarray) -> bytes:
    "A film as the bytes of a PNG file"
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def numbered(png: bytes, number: int) -> bytes:
    "The same picture in a file of its own: its number stands in a text chunk before the last one (12 bytes, IEND)"
    body = b"tEXt" + f"number\0{number}".encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:-12] + chunk + png[-12:]


def make_files(root: Path, n: int) -> None:
    "The whole set, once; a file that says so is written last"
    from covid_xray import phantom

    if (root / "whole").is_file():
        return
    drawn = phantom.simulate(DISTINCT, size_px=SIDE_PX, seed=2021)
    films = [as_png(image) for image in drawn.images]
    lungs = [as_png(255 * mask.astype(np.uint8)) for mask in drawn.masks["lungs"]]
    for folder, count in counts(n).items():
        of_label = np.flatnonzero((drawn.table["label"] == LAYOUT[folder][0]).to_numpy(dtype=bool))
        for kind, pictures in (("images", films), ("masks", lungs)):
            (root / folder / kind).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                content = numbered(pictures[of_label[i % len(of_label)]], i)
                (root / folder / kind / f"{folder}-{i + 1}.png").write_bytes(content)
    (root / "whole").write_text(json.dumps(counts(n)), encoding="utf-8")


def link_files(whole: Path, root: Path, n: int) -> None:
    "A smaller set: hard links to the first files of each class"
    for folder, count in counts(n).items():
        for kind in ("images", "masks"):
            (root / folder / kind).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                name = f"{folder}/{kind}/{folder}-{i + 1}.png"
                if not (root / name).exists():
                    os.link(whole / name, root / name)


def memory(what: str) -> float:
    "MB of this process: VmHWM (peak), VmRSS or RssFile (mapped files), as Linux counts them"
    return int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6


class Stages:
    "What was measured so far"

    def __init__(self, n: int):
        self.n, self.rows, self.model_mb = n, [], 0.0

    def run(self, name: str, films: int | None, action: Callable):
        "Do it, and keep what it took"
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        wall, cpu = time.perf_counter(), time.process_time()
        result = action()
        self.rows.append(dict(
            images=self.n, stage=name, films=films or self.n, seconds=round(time.perf_counter() - wall, 2),
            cpu_seconds=round(time.process_time() - cpu, 2), peak_mb=round(memory("VmHWM")),
            of_it_mapped_files_mb=round(memory("RssFile")), model_mb=round(self.model_mb)))
        return result


def warm_up(size_px: int) -> tuple:
    "The network, and one step with it on noise; afterwards the process is as large as torch makes it"
    import torch

    from covid_xray.cnn import ResidualCNN
    from covid_xray.training import fit, predict  # noqa: F401  what they import belongs to it, too

    torch.manual_seed(0)
    model = ResidualCNN(1, len(LAYOUT), widths=(8, 12, 16, 24, 32))
    optimiser = torch.optim.AdamW(model.parameters(), lr=0)
    model(torch.rand(32, 1, size_px, size_px)).sum().backward()
    optimiser.step()
    optimiser.zero_grad()
    return model, memory("VmHWM")


def measure(n: int, root: Path, cache: Path, size_px: int) -> list[dict]:
    "Every stage at one size, in this process"
    from covid_xray import Radiographs, load_table
    from covid_xray.metrics import auroc
    from covid_xray.splits import ensure_split
    from covid_xray.training import fit, predict

    stages = Stages(n)
    model, stages.model_mb = warm_up(size_px)
    table = stages.run("table", n, lambda: ensure_split(load_table("radiography", root, classes=None)))
    assert len(table) == n, f"{len(table)} films in the table, {n} files"
    names = sorted(table["label"].unique())

    def opened():
        return Radiographs(table, size_px, cache=cache, classes=names, progress=False)

    films = stages.run("build cache", n, opened)
    assert len(films) == n and not len(films.skipped)
    films = stages.run("open cache", n, opened)
    train, valid, test = (films.part(part) for part in ("train", "valid", "test"))
    stages.run("train", len(train) + len(valid),
               lambda: fit(model, train, valid, epochs=1, learning_rate=3e-3, progress=False))
    said = stages.run("evaluate", len(test), lambda: predict(model, test))
    assert len(said.probabilities) == len(test)
    ranks = [auroc(said.targets == i, said.probabilities[:, i]) for i in range(len(names))]
    print(f"{n} images, AUROC of each class after one epoch: {np.round(ranks, 2).tolist()}", flush=True)
    return stages.rows


def measured_apart(n: int, folder: Path, size_px: int) -> list[dict]:
    "`measure` in a fresh process, with an empty cache"
    root, cache = folder / str(n) / "radiography", folder / f"cache-{n}"
    if n < WHOLE:
        link_files(folder / str(WHOLE) / "radiography", root, n)
    for old in cache.glob("*"):
        old.unlink()
    command = [sys.executable, __file__, "--measure", str(n), "--folder", str(folder), "--size", str(size_px)]
    subprocess.run(command, check=True)
    return json.loads((folder / f"{n}.json").read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 5000, WHOLE])
    parser.add_argument("--size", type=int, default=224, help="side of the decoded films, pixels")
    parser.add_argument("--folder", type=Path, default=Path("build/scale"), help="gets 2.5 GB of files")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    if asked.measure:
        n = asked.measure
        rows = measure(n, folder / str(n) / "radiography", folder / f"cache-{n}", asked.size)
        (folder / f"{n}.json").write_text(json.dumps(rows), encoding="utf-8")
        return
    make_files(folder / str(WHOLE) / "radiography", WHOLE)
    rows = [row for n in asked.images for row in measured_apart(n, folder, asked.size)]
    table = pd.DataFrame(rows)
    if KEPT.is_file():  # sizes that were not asked for stay as they are
        old = pd.read_csv(KEPT)
        table = pd.concat([old[~old["images"].isin(asked.images)], table]).sort_values("images", kind="stable")
    table.to_csv(KEPT, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
