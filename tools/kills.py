"""Kill what writes files, at any moment, and see that nothing half-written is read as whole and a rerun ends the same.

    python tools/kills.py [--kills 40] [--only download cache ...] [--seed 0] [--out FILE.csv]    # `make kills`

Every job runs in a forked process (torch is imported once) and gets SIGKILL: half of the times at a random moment, half
of them just before a random file operation (open, rename, remove, ...), which time alone would rarely hit. Then a
reader looks at what is left, the job is run again (and killed again, up to three times in a row), and in the end its
files are compared with those of a run that nobody killed. Columns: `kills` that met a process at work; `lost`: kills
after which something was gone that had been finished (a whole file; a training's epoch before the last one); `wrong`:
half of something was read as whole, or the rerun ended otherwise. Ends with 1 where anything was lost or wrong. Needs
os.fork, so not on Windows.
"""
from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import logging
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors import safe_open
from torch import nn

from covid_xray import download, export, training
from covid_xray.cnn import create_model
from covid_xray.data import Radiographs
from covid_xray.deploy import Predictor
from covid_xray.models import load_model, save_model
from covid_xray.records import record_table
from covid_xray.run import train_run
from covid_xray.sources import SOURCES

KEPT = Path(__file__).resolve().parent.parent / "covid_xray" / "results" / "kills.csv"
CLASSES = ("covid", "normal", "pneumonia")
EPOCHS = 4
MODEL = dict(model="plain", in_channels=1, classes=list(CLASSES), size_px=32, fit="squash")
FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.copyfile")
_told = mmap.mmap(-1, 8)  # shared with the forked processes: epochs done


@dataclass
class Job:
    "What is killed"
    run: Callable[[Path], None]  # does the work in a folder, or goes on with it
    read: Callable[[Path], dict[str, str]]  # everything that a reader takes for whole there: name -> digest
    lost: Callable[[Path, dict[str, str], dict[str, str]], int] = lambda folder, before, after: 0
    share: float = 1.0  # of the kills


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def squares(n: int, seed: int) -> Radiographs:
    "Films that are told apart by a bright square"
    rng, targets = np.random.default_rng(seed), np.arange(n) % 3
    images = rng.integers(0, 60, (n, 32, 32), dtype=np.uint8)
    images[targets == 0, 8:24, 2:12] += 120
    images[targets == 2, 8:24, 20:30] += 120
    table = record_table({"path": [f"{seed}-{i}.png" for i in range(n)], "label": np.array(CLASSES)[targets]})
    return Radiographs.from_arrays(images, table)


def film_folder(root: Path, n: int) -> Path:
    "Class folders of small films"
    films = squares(n, 7)
    for i, (label, image) in enumerate(zip(films.table["label"], films.images)):
        (root / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((160, 160)).save(root / label / f"{i:03d}.png")
    return root


# ---- the jobs ----


def download_job(scratch: Path) -> Job:
    "Twelve files from a server of our own"
    served, known = scratch / "served", SOURCES["hannover"]
    rows = []
    for number in range(12):
        content, path = os.urandom(150_000), f"png/film {number}.png"
        place = served / known.address / known.commit / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        rows.append(dict(file=f"images/film {number}.png", repository=known.address, commit=known.commit, path=path,
                         sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)))
    download.manifest, base = lambda name: pd.DataFrame(rows), serve(served)

    def read(folder: Path) -> dict[str, str]:
        found = folder.glob("images/film*.png")
        return {path.name: f"{digest(path.read_bytes())} {path.stat().st_ino}" for path in found}

    def lost(folder: Path, before: dict[str, str], after: dict[str, str]) -> int:
        "Files that were whole and have been fetched again"
        return sum(after.get(name) != value for name, value in before.items())

    return Job(lambda folder: download.download("hannover", folder, progress=False, address=base) and None, read, lost)


def serve(folder: Path) -> str:
    "Serve a folder from a process of its own, which ends with this one; its address"
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            "Say nothing"

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    server.handle_error = lambda *_: None  # those who are killed hang up
    parent = os.getpid()
    if os.fork() == 0:
        server.timeout = 1
        while os.getppid() == parent:
            server.handle_request()
        os._exit(0)
    server.socket.close()
    return f"http://127.0.0.1:{server.server_port}"


def cache_job(scratch: Path) -> Job:
    "Decoded films, one of them broken"
    root = film_folder(scratch / "films", 60)
    (root / "covid" / "broken.png").write_bytes(b"\x89PNG broken")
    paths = sorted(str(path) for path in root.rglob("*.png"))
    table = record_table({"path": paths, "label": [Path(path).parent.name for path in paths]})

    def run(folder: Path) -> None:
        films = Radiographs(table, 96, folder / "cache", progress=False)
        (folder / "seen").write_text(digest(films.images.tobytes()) + " ".join(films.skipped["path"]), encoding="utf-8")

    def read(folder: Path) -> dict[str, str]:
        found = {path.suffix: digest(path.read_bytes()) for path in (folder / "cache").glob("[!.]*")}
        return found | ({"seen": (folder / "seen").read_text("utf-8")} if (folder / "seen").is_file() else {})

    return Job(run, read)


class Heavy(nn.Module):
    "A small network with a large weight that nothing asks for, so that most of the time goes into writing"

    def __init__(self) -> None:
        super().__init__()
        self.small, self.weight = create_model("plain"), nn.Parameter(torch.zeros(2_000_000))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.small(images)


def told(targets: np.ndarray, probabilities: np.ndarray) -> float:
    "A metric that counts: one more epoch is trained and validated"
    _told[0] += 1
    return 0.0


def train(folder: Path, make: Callable[[], nn.Module], patience: int | None) -> None:
    "Train, or go on where a checkpoint is"
    torch.manual_seed(3)
    model, resume = make(), (folder / "checkpoint.safetensors").is_file()
    _told[0] = epochs_on_disk(folder)
    training.fit(model, squares(36, 0), squares(18, 1), epochs=EPOCHS, batch_size=12, learning_rate=3e-3, out=folder,
                 patience=patience, metrics={"told": told}, resume=resume, progress=False)
    save_model(folder, model, MODEL)


def epochs_on_disk(folder: Path) -> int:
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        return 0
    with safe_open(path, framework="pt") as file:
        return len(json.loads(file.metadata()["checkpoint"])["history"]["rows"])


def read_training(folder: Path) -> dict[str, str]:
    "Log (without seconds), model and checkpoint, by epoch"
    found = {}
    if (folder / "log.csv").is_file():
        log = pd.read_csv(folder / "log.csv").drop(columns="seconds")
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()] if (
            folder / "log.jsonl").is_file() else []
        found |= {f"log {row.epoch}": str(tuple(row)[1:]) for row in log.itertuples()}
        found |= {f"line {row['epoch']}": str(row["valid_loss"]) for row in lines}
    if (folder / "settings.json").is_file():
        found["settings"] = digest((folder / "settings.json").read_bytes())
    if (folder / "model.safetensors").is_file():
        found["weights"] = digest((folder / "model.safetensors").read_bytes())
    if (folder / "checkpoint.safetensors").is_file():
        with safe_open(folder / "checkpoint.safetensors", framework="pt") as file:
            content = b"".join(file.get_tensor(name).numpy().tobytes() for name in sorted(file.keys()))
        found[f"checkpoint {epochs_on_disk(folder)}"] = digest(content)
    return found


def epochs_lost(folder: Path, before: dict[str, str], after: dict[str, str]) -> int:
    "Whether more is gone than the epoch that was at work"
    return int(_told[0] - epochs_on_disk(folder) > 1)


def training_job(scratch: Path) -> Job:
    return Job(partial(train, make=partial(create_model, "plain"), patience=None), read_training, epochs_lost)


def early_job(scratch: Path) -> Job:
    "One that stops before its last epoch"
    def hopeless() -> nn.Module:
        model = create_model("plain")
        for parameter in model.parameters():
            parameter.register_hook(torch.neg)  # uphill, so that no epoch is better than the first
        return model
    return Job(partial(train, make=hopeless, patience=1), read_training, epochs_lost)


def checkpoint_job(scratch: Path) -> Job:
    return Job(partial(train, make=Heavy, patience=None), read_training, epochs_lost)


def model_job(scratch: Path) -> Job:
    "A model saved over another one"
    torch.manual_seed(1)
    old, new = create_model("plain"), create_model("plain")

    def run(folder: Path) -> None:
        if not (folder / "settings.json").is_file():
            save_model(folder, old, MODEL)
        save_model(folder, new, MODEL)

    def read(folder: Path) -> dict[str, str]:
        try:
            model, _ = load_model(folder)
        except (FileNotFoundError, ValueError):  # none yet; or the weights are new and the settings old: refused
            return {}
        return {"model": "old" if digest(flat(model)) == digest(flat(old)) else digest(flat(model))}

    return Job(run, read)


def flat(model: nn.Module) -> bytes:
    "All weights, one after the other"
    return b"".join(value.numpy().tobytes() for value in model.state_dict().values())


def export_job(scratch: Path) -> Job:
    "An exported model; the export itself is done once, its writing is what is killed"
    predictor = Predictor.load("phantom")
    logging.disable(logging.WARNING)
    kept = []
    plain = torch.onnx.export
    torch.onnx.export = lambda *given, **options: kept.append(plain(*given, **options)) or kept[0]
    export.export_onnx(predictor, scratch / "once.onnx")
    torch.onnx.export = lambda *given, **options: kept[0]
    return Job(lambda folder: export.export_onnx(predictor, folder / "model.onnx") and None,
               lambda folder: {path.name: digest(path.read_bytes()) for path in folder.glob("[!.]*")})


def run_job(scratch: Path) -> Job:
    "A whole `covid-xray train`: cache, training, model, reports, figures"
    root = film_folder(scratch / "run films", 90)
    os.environ["COVID_XRAY_CACHE"] = str(scratch / "run cache")

    def run(folder: Path) -> None:
        train_run(folder, source=str(root), model="plain", size_px=32, epochs=2, progress=False,
                  resume=(folder / "films.csv").is_file())

    def read(folder: Path) -> dict[str, str]:
        files = [path for path in folder.rglob("[!.]*") if path.is_file() and path.suffix != ".jsonl"
                 and path.name != "checkpoint.safetensors"]
        return {str(path.relative_to(folder)): digest(timeless(path)) for path in files}

    return Job(run, read, share=0.2)


def timeless(path: Path) -> bytes:
    "A file's content without the seconds that were needed, and without what a later save of the same model adds"
    if path.name == "log.csv":
        return pd.read_csv(path).drop(columns="seconds").iloc[:1].to_csv().encode()
    if path.name == "settings.json":
        return json.dumps(json.loads(path.read_text("utf-8"))["weights_sha256"]).encode()
    return b"" if path.name == "curves.png" else path.read_bytes()


JOBS = dict(download=download_job, cache=cache_job, training=training_job, early=early_job, checkpoint=checkpoint_job,
            model=model_job, export=export_job, run=run_job)


# ---- killing ----


def fork(job: Job, folder: Path, operation: int = 0, count: bool = False) -> tuple[int, int]:
    "Start the job in a process, which may kill itself at a file operation; its number, and a pipe that says it began"
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    code, seen = 1, [0]

    def audit(event: str, arguments: tuple) -> None:
        if event in FILE_EVENTS:
            seen[0] += 1
            if seen[0] == operation:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        warnings.simplefilter("ignore")
        sys.addaudithook(audit)
        os.write(writing, b".")
        job.run(folder)
        if count:
            os.write(writing, str(seen[0]).encode())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def whole_run(job: Job, folder: Path) -> tuple[float, int]:
    "Let the job end; how long it took, and how many file operations. Raises RuntimeError where it fails"
    child, reading = fork(job, folder, count=True)
    os.read(reading, 1)
    began = time.perf_counter()
    operations = os.read(reading, 20)
    _, status = os.waitpid(child, 0)
    os.close(reading)
    if status:
        raise RuntimeError(f"the job failed in {folder}, with status {status}")
    return time.perf_counter() - began, int(operations)


def kill_once(job: Job, folder: Path, chance: random.Random, seconds: float, operations: int) -> bool:
    "Start the job and kill it; whether it was still at work"
    by_moment = chance.random() < 0.5
    child, reading = fork(job, folder, 0 if by_moment else chance.randint(1, operations))
    os.read(reading, 1)
    if by_moment:
        time.sleep(chance.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(reading)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"the job failed in {folder}")
    return os.WIFSIGNALED(status)


def half_read(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    "Names whose content is neither absent nor what it should be"
    def content(value: str) -> str:
        return value.split()[0] if value else value
    known = {name: content(value) for name, value in expected.items()}
    return [name for name, value in found.items()
            if name in known and content(value) not in (known[name], "old") and not name.startswith("checkpoint")]


def torture(name: str, kills: int, chance: random.Random, scratch: Path) -> dict[str, object]:
    "Kill one job so many times; a row of the table"
    job = JOBS[name](scratch)
    (scratch / "whole").mkdir()
    seconds, operations = whole_run(job, scratch / "whole")
    expected = job.read(scratch / "whole")
    row, kills = dict(what=name, kills=0, lost=0, wrong=0), max(1, round(kills * job.share))
    for trial in range(20 * kills):
        if row["kills"] >= kills:
            break
        folder = scratch / f"trial {trial}"
        folder.mkdir()
        for _ in range(chance.randint(1, 3)):
            _told[0] = 0
            if kill_once(job, folder, chance, seconds, operations):
                row["kills"] += 1
            before = job.read(folder)
            row["wrong"] += report(name, "half read", half_read(before, expected))
            row["lost"] += job.lost(folder, before, before)
        try:
            whole_run(job, folder)
            after = job.read(folder)
            row["lost"] += job.lost(folder, before, after)
            same = half_read(after, expected) + sorted(set(expected) ^ set(after))
            row["wrong"] += report(name, "ended otherwise", same)
        except RuntimeError as error:
            row["wrong"] += report(name, "no rerun", [str(error)])
        shutil.rmtree(folder, ignore_errors=True)
    return row


def report(job: str, what: str, names: list[str]) -> int:
    "Say what went wrong; 1 if anything did"
    if names:
        print(f"{job}: {what}: {', '.join(names)}", file=sys.stderr)
    return int(bool(names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40, help="of each job")
    parser.add_argument("--only", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a CSV file; rows of other jobs stay")
    given = parser.parse_args()
    torch.set_num_threads(1)  # a process that was forked from one with several threads may hang
    importlib.import_module("accelerate")  # once, not in every child
    chance, rows = random.Random(given.seed), []
    for name in given.only:
        with tempfile.TemporaryDirectory() as scratch:
            rows.append(torture(name, given.kills, chance, Path(scratch)))
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    if given.out:
        kept = pd.read_csv(given.out) if given.out.is_file() else table.head(0)
        both = pd.concat([kept[~kept["what"].isin(given.only)], table])
        both.sort_values("what", key=lambda names: names.map(list(JOBS).index)).to_csv(given.out, index=False)
    sys.exit(int(table[["lost", "wrong"]].to_numpy().sum() > 0))


if __name__ == "__main__":
    main()
