"""Train the small models that ship with the course, and write their cards (`make models`).

    python tools/make_models.py [NAME ...] [--out covid_xray/models] [--work runs/models]

`phantom` learns from the course's default set. `phantom-marker`, its twin, learns by the same recipe from the same
patients, but there a marker L or R stands on every COVID-19 film and on no other: chapters 6 and 7 show what that does.
`nih-pneumonia` learns from real films (tools/real_model.py); without COVID_XRAY_DATA it is skipped, in one line.
Safe to interrupt: a run in `--work` goes on where it stopped, and a finished model is not trained again.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import pandas as pd
import torch

import real_model

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from covid_xray import phantom  # noqa: E402
from covid_xray.augment import Augment  # noqa: E402
from covid_xray.bundle import bundle_settings  # noqa: E402
from covid_xray.cnn import count_parameters, create_model  # noqa: E402
from covid_xray.data import Radiographs  # noqa: E402
from covid_xray.intervals import metrics_table_with_intervals  # noqa: E402
from covid_xray.models import predict, save_model  # noqa: E402
from covid_xray.phantom_patients import VERSION  # noqa: E402
from covid_xray.records import CLASSES  # noqa: E402
from covid_xray.training import fit  # noqa: E402

SHORTCUTS = {"phantom": None, "phantom-marker": {"marker": 1.0}}
RECIPE = {"epochs": 20, "batch_size": 32, "learning_rate": 2e-3, "seed": 0}
ARCHITECTURE, SIZE_PX, SEED = "residual", 128, 0

CARD = """---
license: apache-2.0
library_name: covid_xray
tags: [chest-x-ray, simulated, teaching]
---
# {name}

**Research and teaching only. Not a medical device, not for diagnosis.** It has never seen a radiograph of a real
person: it learnt from *simulated* films (`covid_xray.phantom`, version {version}) and says nothing about patients.

{story}

- Network: `create_model("{model}")`, {parameters:,} parameters, films of {size_px} by {size_px} pixels, classes
  {classes}.
- Recipe: AdamW, one cycle up to {learning_rate}, {epochs} epochs of batches of {batch_size}, weights of the epoch with
  the lowest validation loss (epoch {best_epoch}), augmented by `{augment}`,
  seed {seed}. Trained by `make models`.
- Trained on {train_films} films of {train_patients} simulated patients, seed {data_seed}.

Measured on patients it has not seen, with 95 % intervals over patients:

{results}
"""
STORY = {
    "phantom": "The honest one: markers, text, borders, wires and tubes stand on films of any class alike.",
    "phantom-marker": """**Made wrong on purpose.** In its training set a side marker stood on every COVID-19 film
and on no other, so reading the marker was enough. It is here to show that a wrong model can
score well. "South" is a hospital without that habit; "north, honest" is the same hospital without it.""",
}


def parts(name: str) -> dict[str, Radiographs]:
    "Training, validation and test films of a model; its test films are also drawn without the shortcut"
    films = Radiographs(phantom.teaching_table(SEED, shortcuts=SHORTCUTS[name]), SIZE_PX, progress=False)
    found = {"train": films.part("train"), "valid": films.part("valid"), "north": films.part("test"),
             "south": films.part("outside")}
    if SHORTCUTS[name]:
        table = phantom.teaching_table(SEED)
        found["north, honest"] = Radiographs(table[table["split"] == "test"], SIZE_PX, progress=False)
    return found


def results(network: torch.nn.Module, films: dict[str, Radiographs]) -> pd.DataFrame:
    "Accuracy and AUROC of every part that was not trained on"
    tables = []
    for part in (p for p in films if p not in ("train", "valid")):
        table = metrics_table_with_intervals(predict(network, films[part]), resamples=2000)
        shown = table["metric"].isin(("accuracy", "auroc", "recall"))
        tables.append(table[shown].assign(part=part))
    return pd.concat(tables, ignore_index=True)


def make(name: str, folder: Path, work: Path) -> None:
    "Train one model, or go on with it, and write weights, settings, metrics and card"
    started, films = time.process_time(), parts(name)
    torch.manual_seed(RECIPE["seed"])
    network = create_model(ARCHITECTURE)
    resume = (work / "checkpoint.safetensors").is_file()
    history = fit(network, films["train"], films["valid"], **RECIPE, augment=Augment(), out=work, resume=resume)
    if history.stopped == "interrupted":
        sys.exit(f"interrupted: run it again to go on with {name}")
    settings = dict(name=name, model=ARCHITECTURE, in_channels=1, classes=list(CLASSES), size_px=SIZE_PX, fit="squash",
                    source="phantom", phantom_version=VERSION, shortcuts=SHORTCUTS[name] or {}, data_seed=SEED,
                    **RECIPE, augment=repr(Augment()), best_epoch=history.best_epoch + 1,
                    parameters=count_parameters(network),
                    **bundle_settings(films["train"], predict(network, films["valid"])))
    save_model(folder, network, settings)
    table = results(network, films)
    table.to_csv(folder / "metrics.csv", index=False, float_format="%.4f")
    (folder / "README.md").write_text(card(settings, films["train"], table), encoding="utf-8")
    print(f"{name}: {time.process_time() - started:.0f} s of CPU")


def card(settings: dict, train: Radiographs, table: pd.DataFrame) -> str:
    "The model card, made of what was measured"
    rows = ["| films | metric | class | value | 95 % interval |", "|---|---|---|---|---|"]
    rows += [f"| {r.part} ({r.films}) | {r.metric} | {r.label} | {r.value:.3f} | {r.low:.3f} to {r.high:.3f} |"
             for r in table.itertuples()]
    facts = settings | {"classes": ", ".join(settings["classes"])}
    return CARD.format(**facts, version=settings["phantom_version"], story=STORY[settings["name"]],
                       train_films=len(train), train_patients=train.table["patient"].nunique(), results="\n".join(rows))


def is_finished(folder: Path) -> bool:
    "Whether a model of this simulator and recipe is there already"
    if not (folder / "settings.json").is_file():
        return False
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    wanted = {"phantom_version": VERSION, "model": ARCHITECTURE, "size_px": SIZE_PX, "data_seed": SEED, **RECIPE}
    return all(settings.get(key) == value for key, value in wanted.items())


def make_real(folder: Path, work: Path) -> None:
    "Train the model on real films where they are"
    data = os.environ.get("COVID_XRAY_DATA", "")
    if real_model.is_finished(folder):
        print(f"{real_model.NAME}: finished already; delete {folder} to train it again")
    elif not data or not (Path(data) / "darkcovidnet").is_dir():
        print(f"{real_model.NAME}: skipped, it needs real films: set COVID_XRAY_DATA to the folder that holds them")
    else:
        real_model.make(Path(data), folder, work)


def main() -> None:
    known = [*SHORTCUTS, real_model.NAME]
    parser = argparse.ArgumentParser(description="Train the models that ship with the course")
    parser.add_argument("names", nargs="*", default=known, metavar="NAME", help=", ".join(known))
    parser.add_argument("--out", type=Path, default=ROOT / "covid_xray" / "models", help="folder of the models")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "models", help="folder of logs and checkpoints")
    options = parser.parse_args()
    if unknown := set(options.names) - set(known):
        parser.error(f"no model is called {', '.join(sorted(unknown))}: choose from {', '.join(known)}")
    for name in options.names:
        if name == real_model.NAME:
            make_real(options.out / name, options.work / name)
        elif is_finished(options.out / name):
            print(f"{name}: finished already; delete {options.out / name} to train it again")
        else:
            make(name, options.out / name, options.work / name)


if __name__ == "__main__":
    main()
