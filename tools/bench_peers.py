"""Speed beside other libraries, as ratios: `make bench-peers` (about 45 minutes).

    python tools/bench_peers.py [--only NAME ...] [--rounds N] [--share 1.0] [--out FOLDER]

fastai, Lightning and kornia stand in `.venv-bench`, made at the first run; PyTorch and all else they borrow from the
running environment, so that every library computes with the same one. Each comparison is a process of its own in which
the ways take turns. `bench.json` keeps every measured second, `bench.csv` the ratios: each is the median of the ratios
of the rounds, with the smallest and the largest. `--share 0.1` takes a tenth of the films, to see whether all works.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from configparser import ConfigParser
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pandas as pd

from bench_turns import middle

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
STORED = ROOT / "covid_xray" / "results"
THREADS = 2

# name -> module, function, its arguments, rounds
COMPARISONS = {
    "augmentation": ("bench_reading", "augmentation", {"batch": 32}, 20),
    "epoch, residual": ("bench_training", "epoch_in_memory", {"model": "residual", "train_films": 900}, 3),
    "epoch, ResNet-18": ("bench_training", "epoch_in_memory", {"model": "torchvision:resnet18", "train_films": 900}, 3),
    "files, 128 px": ("bench_training", "epoch_from_files", {"size_px": 128, "train_films": 900}, 2),
    "files, 224 px": ("bench_training", "epoch_from_files", {"size_px": 224, "train_films": 900}, 2),
    "memory, 224 px": ("bench_training", "memory_from_files", {"size_px": 224, "train_films": 96}, 3),
    "cache": ("bench_reading", "cache_from_files", {"films": 400}, 3),
    "inference, residual": ("bench_reading", "inference", {"model": "residual", "films": 1125}, 3),
    "inference, ResNet-18": ("bench_reading", "inference", {"model": "torchvision:resnet18", "films": 1125}, 3),
}


@dataclass(frozen=True)
class Row:
    "One row of the table: how our time stands to the best of some others"

    what: str
    comparison: str  # in COMPARISONS or ALONE
    ours: str  # the way that is ours
    against: str  # the other way, or how the names of several begin: the best counts; "" for nobody, and seconds
    kind: str  # "at most" ours / theirs, or "at least" theirs / ours; "at most" seconds where against is ""
    aim: float  # what issue and README promise


def rows_of_training() -> list[Row]:
    "Training in memory and from files"
    found = []
    for name in ("residual", "ResNet-18"):
        for ours, aim in (("covid_xray", 1.03), ("covid_xray, augmented", 1.08)):
            what = f"training epoch in memory, {name}{ours.removeprefix('covid_xray')}"
            found.append(Row(what, f"epoch, {name}", ours, "bare loop", "at most", aim))
    for size in ("128 px", "224 px"):
        for ours, aim in (("covid_xray", 1.5), ("covid_xray, first epoch", 1.0)):
            what = f"training epoch from 1024 px files, {size}{ours.removeprefix('covid_xray')}"
            found += [Row(what, f"files, {size}", ours, peer, "at least", aim)
                      for peer in ("ImageFolder", "Lightning", "fastai")]
    return found


def rows_of_inference() -> list[Row]:
    "Looking at films in memory"
    found = []
    for name in ("residual", "ResNet-18"):
        what, fast = f"inference, {name}", "bf16 + channels-last"
        found += [Row(what, what, "covid_xray", "bare forward", "at most", 1.03),
                  Row(what, what, "covid_xray", "fastai", "at least", 1),
                  Row(what, what, "covid_xray", "film by film", "at least", 1),
                  Row(f"{what}, {fast}", what, f"covid_xray, {fast}", "film by film", "at least", 3)]
    return found


ROWS = rows_of_training() + [
    Row("building the cache from 1024 px files", "cache", "covid_xray", "ImageFolder", "at least", 1.8),
    Row("building the cache from 1024 px files", "cache", "covid_xray", "ImageFolder, read as grey", "at least", 1),
    Row("opening the cache again", "cache", "second opening", "", "at most", 0.2),
    Row("augmenting a batch", "augmentation", "covid_xray", "torchvision v2", "at least", 3),
    Row("augmenting a batch", "augmentation", "covid_xray", "kornia", "at least", 1),
    *rows_of_inference(),
    Row("bootstrap of all metrics, 10,000 resamples", "bootstrap", "covid_xray", "scikit-learn", "at least", 100),
    Row("1,000 phantoms at 224 px", "phantoms", "covid_xray", "", "at most", 10),
    Row("import covid_xray", "import", "covid_xray", "", "at most", 0.1),
    Row("covid-xray --help", "help", "covid_xray", "", "at most", 0.5),
    Row("chapter 1 to its first figure", "first figure", "covid_xray", "", "at most", 10),
]


# ---- what needs no other library: rows of tools/bench.py ----


def seconds_of(rows: list[dict], names: tuple[str, ...] = ("covid_xray",)) -> dict:
    "Rows of `bench.py` as one round of each way"
    return {"seconds": {name: {"wall": [row["wall"]], "processor": [row["cpu"]]} for name, row in zip(names, rows)},
            "how": rows[0]["how"]}


def rounds_of(rows: list[dict]) -> dict:
    "Rows of `bench.py` that measured the same, as rounds"
    seconds = {name: [row[column] for row in rows] for name, column in (("wall", "wall"), ("processor", "cpu"))}
    return {"seconds": {"covid_xray": seconds}, "how": rows[0]["how"]}


def alone() -> dict:
    "Name -> measurement that runs here, in the usual environment"
    import bench

    return {"bootstrap": lambda: seconds_of(bench.bootstraps()[:2], ("covid_xray", "scikit-learn loop")),
            "phantoms": lambda: rounds_of([bench.phantoms() for _ in range(9)]),
            "import": lambda: seconds_of([bench.command("import", ["-c", "import covid_xray"])]),
            "help": lambda: seconds_of([bench.command("help", ["-m", "covid_xray", "--help"])]),
            "first figure": lambda: seconds_of([bench.first_figure()])}


# ---- the environment of the others ----


def environment(folder: Path) -> Path:
    "The Python of an environment with the peers of settings.ini, made if it is not there or has others"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted, stamp = " ".join(peers()), folder / ".peers"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    venv.create(folder, with_pip=True, clear=True)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    # Before pip runs: it then finds PyTorch there, and only adds what is absent or of another version
    Path(own, "borrowed.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peers()]
    subprocess.run(command, check=True)
    stamp.write_text(wanted)
    return python


def peers() -> list[str]:
    "What is compared with, from settings.ini"
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]["bench_peers"].split()


def machine() -> dict:
    "Where it was measured"
    versions = {name: metadata.version(name) for name in ("torch", "torchvision", "pillow", "numpy")}
    return {"python": platform.python_version(), "system": platform.system(), "processor": platform.machine(),
            "cores": os.cpu_count(), "threads": THREADS, **versions, "peers": peers()}


# ---- measuring and tabling ----


def measure(name: str, rounds: int | None, share: float) -> dict:
    "Run one comparison in this process"
    import torch

    torch.set_num_threads(THREADS)
    module, function, arguments, usual = COMPARISONS[name]
    arguments = {key: max(32, round(value * share)) if key in ("train_films", "films") else value
                 for key, value in arguments.items()}
    return getattr(__import__(module), function)(**arguments, rounds=rounds or usual)


def measured(name: str, rounds: int | None, share: float, python: Path) -> dict:
    "Run one comparison in a process of the peers' environment"
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder, "one.json")
        command = [python, __file__, "--here", name, "--share", str(share), "--out", kept]
        subprocess.run(command + (["--rounds", str(rounds)] if rounds else []), check=True)
        return json.loads(kept.read_text())


def table_of(raw: dict) -> pd.DataFrame:
    "The rows whose comparisons are measured: seconds, ratio with its range over the rounds, and whether it is met"
    found = [one for row in ROWS if row.comparison in raw for one in [table_row(row, raw[row.comparison])]]
    return pd.DataFrame(found)


def table_row(row: Row, raw: dict) -> dict:
    "One row from its raw seconds"
    wall = {name: way["wall"] for name, way in raw["seconds"].items()}
    ours, other = wall[row.ours], ""
    values, theirs = ours, float("nan")
    if row.against:
        others = [row.against] if row.against in wall else [name for name in wall if name.startswith(row.against)]
        other = min(others, key=lambda name: middle(wall[name]))
        theirs = middle(wall[other])
        values = [a / b if row.kind == "at most" else b / a for a, b in zip(ours, wall[other])]
    value = middle(values)
    met = value <= row.aim if row.kind == "at most" else value >= row.aim
    return {"what": row.what, "against": other, "films": raw.get("films"), "size_px": raw.get("size_px"),
            "rounds": len(ours), "seconds": round(middle(ours), 4),
            "processor": round(middle(raw["seconds"][row.ours]["processor"]), 4), "seconds_against": round(theirs, 4),
            "value": round(value, 3), "low": round(min(values), 3), "high": round(max(values), 3),
            "unit": "ratio" if row.against else "seconds", "kind": row.kind, "aim": row.aim, "met": met}


def store(raw: dict, folder: Path) -> pd.DataFrame:
    "Keep raw seconds and table"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    table = table_of(raw["comparisons"])
    table.astype({"films": "Int64", "size_px": "Int64"}).to_csv(folder / "bench.csv", index=False)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="some comparisons; others stay as they are stored")
    parser.add_argument("--rounds", type=int, help="how often the ways take turns; each comparison has a usual number")
    parser.add_argument("--share", type=float, default=1.0, help="part of the films")
    parser.add_argument("--out", type=Path, default=STORED, help="folder that gets bench.json and bench.csv")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-bench", help="environment of the peers")
    parser.add_argument("--here", choices=COMPARISONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        options.out.write_text(json.dumps(measure(options.here, options.rounds, options.share)))
        return
    here, kept = alone(), options.out / "bench.json"
    unknown = set(options.only or ()) - {*here, *COMPARISONS}
    if unknown:
        parser.error(f"no comparison {sorted(unknown)}: choose from {', '.join([*COMPARISONS, *here])}")
    python = environment(options.venv)
    raw = json.loads(kept.read_text()) if kept.is_file() else {"comparisons": {}}
    for name in options.only or [*COMPARISONS, *here]:
        print(f"{name} ...", flush=True)
        found = here[name]() if name in here else measured(name, options.rounds, options.share, python)
        raw["comparisons"][name] = found | {"date": time.strftime("%Y-%m-%d")}
        table = store({"machine": machine(), **{"comparisons": raw["comparisons"]}}, options.out)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
