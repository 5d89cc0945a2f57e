"""Compute what chapter 8 compares and keep it as small tables (`make sweeps`; real films with COVID_XRAY_DATA).

    python tools/transfer.py [--only curves|compare|real] [--folder covid_xray/results]

transfer_curves.csv: AUROC on simulated patients never seen, by where the network began and how many it learnt from.
transfer_compare.csv: six architectures on the same three folds, each film seen equally often, within a small budget
of patients and epochs and within a larger one.
transfer_real.csv: the curves on real films, normal against pneumonia of NIH (files of equal size), tested on the fold
left out and on raikokte. No picture and no row of a single film is kept. Rows that are there are not computed again.
"""
from __future__ import annotations

import argparse
import functools
import os
from pathlib import Path

import numpy as np
import torch

import sweeps
from sweeps import run_sweep

from covid_xray import phantom
from covid_xray.comparison import CONTENDERS, STARTS, STRENGTH, UNTOUCHED, contend, draw_persons, mean_auroc
from covid_xray.contrast import preparation
from covid_xray.data import Radiographs
from covid_xray.models import Predictions, predict
from covid_xray.sources import cache_folder, load_table
from covid_xray.splits import patient_folds
from covid_xray.transfer import fit_head, head_inputs

SEEDS, SIZE_PX = range(5), 96
PATIENTS, REAL_PERSONS, REAL_PX = (10, 30, 100, 300), (50, 150, 300), 96
BUDGETS = ((90, 4), (400, 10))  # patients, of whom two thirds are learnt from; epochs
COMMON = {"size_px": SIZE_PX, "version": phantom.VERSION}


@functools.cache
def simulated() -> Radiographs:
    "The course's default set"
    return Radiographs(phantom.teaching_table(0), SIZE_PX, sweeps.CACHE, progress=False)


def run_curve(job: dict) -> list[dict]:
    "One training on some of the patients, asked about the test part"
    train = draw_persons(simulated().part("train"), job["patients"], job["seed"])
    network = STARTS[job["start"]](train, job["seed"])
    return [{"films": len(train), "auroc": mean_auroc(predict(network, simulated().part("test")))}]


@functools.cache
def in_folds(patients: int) -> Radiographs:
    "Films of some patients of the training part, dealt into three folds"
    films = draw_persons(simulated().part("train"), patients, 0)
    films.table = patient_folds(films.table, 3, 0)
    return films


def run_compare(job: dict) -> list[dict]:
    "One architecture on one fold, within one budget"
    films = in_folds(job["patients"])
    held_out = (films.table["fold"] == job["fold"]).to_numpy(bool)
    found = contend(job["contender"], films.select(~held_out), films.select(held_out), epochs=job["epochs"],
                    seed=job["fold"])
    return [{"minutes": found.pop("cpu_seconds") / 60, **found}]


@functools.cache
def real(source: str, data: str) -> Radiographs:
    "Normal and pneumonia films of NIH up to the size of the largest normal file, or of raikokte"
    table = load_table(source, root=Path(data) / source, classes=("normal", "pneumonia"))
    if source == "darkcovidnet":
        table = table[table["bytes"] <= table.loc[table["label"] == "normal", "bytes"].max()].reset_index(drop=True)
        table = patient_folds(table, 5, 0)
    return Radiographs(table, REAL_PX, cache_folder() / "decoded", classes=("normal", "pneumonia"), progress=False,
                       prepare=preparation(["standardise"]))


@functools.cache
def seen_by(start: str, data: str) -> tuple[torch.nn.Module, dict[str, np.ndarray]]:
    "An untouched network, and what its head is given of each film of both sources"
    network = UNTOUCHED[start](2)
    return network, {name: head_inputs(network, real(name, data)) for name in ("darkcovidnet", "raikokte")}


def says(network: torch.nn.Module, inputs: np.ndarray, films: Radiographs) -> Predictions:
    "What the head says of films whose inputs are known"
    head = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        probabilities = head(torch.from_numpy(inputs)).softmax(1).numpy()
    return Predictions(probabilities, films.targets, films.table, films.classes)


def run_real(job: dict) -> list[dict]:
    "One training on some persons of four folds of NIH, asked about the fifth and about raikokte"
    data = os.environ["COVID_XRAY_DATA"]
    films, outside = (real(name, data) for name in ("darkcovidnet", "raikokte"))
    held_out = (films.table["fold"] == job["seed"]).to_numpy(bool)
    train = draw_persons(films.select(~held_out), job["patients"], job["seed"])
    if job["start"] in UNTOUCHED:  # the same as STARTS, but each film goes through the network once for all jobs
        network, inputs = seen_by(job["start"], data)
        learnt = films.table["path"].isin(train.table["path"]).to_numpy(bool)
        fit_head(network, inputs["darkcovidnet"][learnt], films.targets[learnt], strength=STRENGTH)
        asked = {"inside": says(network, inputs["darkcovidnet"][held_out], films.select(held_out)),
                 "outside": says(network, inputs["raikokte"], outside)}
    else:
        network = STARTS[job["start"]](train, job["seed"])
        asked = {"inside": predict(network, films.select(held_out)), "outside": predict(network, outside)}
    return [{"films": len(train), **{name: mean_auroc(said) for name, said in asked.items()}}]


def jobs() -> dict:
    "All jobs of each table"
    curves = [COMMON | {"start": start, "patients": n, "seed": seed}
              for start in ("photographs", "random weights") for n in PATIENTS for seed in SEEDS]
    compare = [COMMON | {"patients": patients, "epochs": epochs, "contender": name, "fold": fold}
               for patients, epochs in BUDGETS for name in CONTENDERS for fold in range(3)]
    real_films = [{"size_px": REAL_PX, "start": start, "patients": n, "seed": seed}
                  for start in STARTS for n in REAL_PERSONS for seed in SEEDS
                  if start != "random weights" or n == max(REAL_PERSONS)]
    return {"curves": (run_curve, curves), "compare": (run_compare, compare), "real": (run_real, real_films)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(jobs()), help="one table")
    parser.add_argument("--folder", type=Path, default=sweeps.RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, (run, todo) in jobs().items():
        if options.only not in (None, name):
            continue
        if name == "real" and not os.environ.get("COVID_XRAY_DATA"):
            print("transfer_real: skipped, it needs real films: set COVID_XRAY_DATA")
            continue
        run_sweep(options.folder / f"transfer_{name}.csv", run, todo)


if __name__ == "__main__":
    main()
