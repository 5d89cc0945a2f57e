"""The leak lab on many seeds: every pitfall leaked and honest, probes and mends, into covid_xray/results.

    python tools/leaks.py [--seeds 5] [--only leaks curves probes mends real] [--root FOLDER] [--out FOLDER]

leaks.csv        a row for each pitfall, model, strength and seed (`covid_xray.choices.measure`)
leak_curves.csv  networks that differ by their seed alone, epoch by epoch (`training_curves`), behind pitfalls 7 and 8
probes.csv       cheap models on films with and without planted shortcuts (`covid_xray.probes.probe_table`)
probes_mends.csv what helps against a shortcut, judged at a hospital that is not in training (`measure_mend`)
probes_real.csv  the same probes on DarkCovidNet's films, and weak models split by film and by patient; only with
                 --root, the folder that holds darkcovidnet/

What is there already is kept, row by row, as long as the simulator's version is the same: an interrupted run goes on.
About 10 minutes of one core.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import KFold, cross_val_predict

sys.path.insert(0, str(Path(__file__).parents[1]))
from covid_xray import choices, phantom, pitfalls, probes  # noqa: E402
from covid_xray.data import Radiographs  # noqa: E402
from covid_xray.sources import load_table  # noqa: E402
from covid_xray.splits import patient_groups  # noqa: E402

RESULTS = Path(__file__).parents[1] / "covid_xray" / "results"
WORLDS = {"nothing": None, "marker": {"marker": 1.0}, "size": {"size": 1.0}}
PROBED = 400  # films, one a patient


def complete(path: Path, keys: list[tuple], names: list[str], make: Callable[..., list[dict]]) -> None:
    "Make the rows that are missing, and write the table after each; rows of another simulator version are dropped"
    table = pd.read_csv(path, dtype={"version": str}) if path.is_file() else pd.DataFrame(columns=[*names, "version"])
    table = table[table["version"] == phantom.VERSION]
    done = set(table[names].itertuples(index=False, name=None))
    for key in (key for key in keys if key not in done):
        started = time.process_time()
        rows = pd.DataFrame(make(*key)).assign(version=phantom.VERSION)
        rows["cpu_seconds"] = round(time.process_time() - started, 1)
        table = rows if table.empty else pd.concat([table, rows], ignore_index=True)
        table.to_csv(path, index=False)
        print(path.name, *key, f"{time.process_time() - started:.1f} s", flush=True)


def leaks(path: Path, seeds: range) -> None:
    "Every pitfall; seeds outside, so that films are drawn once a seed"
    keys = [(name, model, strength, seed) for seed in seeds for name, pitfall in choices.PITFALLS.items()
            for model, strength in itertools.product(pitfall.models, pitfall.strengths)]
    complete(path, keys, ["pitfall", "model", "strength", "seed"], lambda name, model, strength, seed:
             [choices.measure(name, model=model, strength=strength, seed=seed)])


def curves(path: Path, seeds: range) -> None:
    "The trainings behind pitfalls 7 and 8"
    complete(path, [(seed,) for seed in seeds], ["seed"],
             lambda seed: choices.training_curves(seed).round(4).to_dict("records"))


def named_rows(table: pd.DataFrame, **names: object) -> list[dict]:
    "The rows of a probe table under the names of what was probed"
    return [{**names, "probe": probe, **row} for probe, row in table.round(4).to_dict("index").items()]


def probe(path: Path, seeds: range) -> None:
    "Probes on films with one shortcut each, and with none"
    def make(world: str, seed: int) -> list[dict]:
        table = pitfalls.draw_patients(PROBED, seed, shortcuts=WORLDS[world])
        boxes = probes.lung_boxes(pitfalls.draw_lungs(table))
        found = probes.probe_table(pitfalls.draw_films(table), boxes=boxes, seed=seed, resamples=200)
        return named_rows(found, shortcut=world, seed=seed)

    complete(path, list(itertools.product(WORLDS, seeds)), ["shortcut", "seed"], make)


def mends(path: Path, seeds: range) -> None:
    "Every mend against every shortcut"
    keys = [(shortcut, mend, seed) for seed in seeds for shortcut in probes.MENDED for mend in probes.MENDS]
    complete(path, keys, ["shortcut", "mend", "seed"], lambda *key: [probes.measure_mend(*key)])


def real(path: Path, seeds: range, root: Path) -> None:
    "Probes on DarkCovidNet's films, patient-wise, and weak models with folds by film and by patient"
    films = Radiographs(load_table("darkcovidnet", root), pitfalls.SIZE_PX, progress=False)
    thumbs, groups = pitfalls.thumbnails(films.images), patient_groups(films.table)

    def split(kind: str, model: str, seed: int) -> list[dict]:
        rng = np.random.default_rng(seed)
        units = groups if kind == "by patient" else np.arange(len(films))
        names = rng.permutation(np.unique(units))
        part = {name: fold for fold, held in enumerate(KFold(5).split(names)) for name in names[held[1]]}
        fold = np.array([part[unit] for unit in units])
        places = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(5)]
        said = cross_val_predict(pitfalls.LEARNERS[model](), thumbs, films.targets, cv=places)
        return [{"question": f"split {kind}", "seed": seed, "probe": model, "films": len(films),
                 "persons": len(np.unique(groups)), "accuracy": round(float((said == films.targets).mean()), 4)}]

    def make(question: str, model: str, seed: int) -> list[dict]:
        if question.startswith("split"):
            return split(question.removeprefix("split "), model, seed)
        asked = films if question.startswith("label") else within_nih(films)
        boxes, seen = None, probes.PROBES
        if question.endswith("box found"):
            boxes, seen = probes.found_boxes(asked.images), {name: seen[name] for name in seen if "lungs" in name}
        found = probes.probe_table(asked, boxes=boxes, probes=seen, seed=seed, resamples=500)
        return named_rows(found, question=question, seed=seed)

    asked = ("label", "pneumonia against normal, NIH alone")
    keys = [(question + box, "probes", 0) for box in ("", ", box found") for question in asked]
    keys += [(f"split {kind}", model, seed) for seed in seeds for kind in ("by film", "by patient")
             for model in pitfalls.LEARNERS]
    table = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["question", "probe", "seed"])
    done = {(row.question, row.probe if row.question.startswith("split") else "probes", row.seed)
            for row in table.itertuples()}
    rows = [pd.DataFrame(make(*key)) for key in keys if key not in done]
    pd.concat([table, *rows] if len(table) else rows, ignore_index=True).to_csv(path, index=False)


def within_nih(films: Radiographs) -> Radiographs:
    "The films of one archive: no finding against pneumonia"
    kept = films.select(np.flatnonzero(films.table["label"] != "covid"))
    return Radiographs.from_arrays(kept.images, kept.table, ("normal", "pneumonia"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"leaks": (leaks, "leaks"), "curves": (curves, "leak_curves"), "probes": (probe, "probes"),
             "mends": (mends, "probes_mends")}
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=["curves", "leaks", "mends", "probes"], choices=[*parts, "real"])
    parser.add_argument("--root", type=Path, help="folder that holds darkcovidnet/, for the part 'real'")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.only:
        if name == "real":
            real(options.out / "probes_real.csv", range(options.seeds), options.root)
        else:
            part, table = parts[name]
            part(options.out / f"{table}.csv", range(options.seeds))


if __name__ == "__main__":
    main()
