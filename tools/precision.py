"""Whole trainings in plain fp32 and with `fit(precision="auto")`: time, and whether the result is the same.

    python tools/precision.py [--seeds 0 1 2 3 4] [--epochs 12]

The residual network at 128 px on the default phantoms, batches of 16, the ways in turns, seed by seed (of weights,
order and augmentation). One way has the layout and the optimiser that "auto" takes, and full precision: it tells
what half precision changes from what any other rounding changes. Writes covid_xray/results/precision.csv, a row a
seed and way: what was taken, seconds of the whole call (the race included, validation included), validation loss and
macro AUROC on the test patients.
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from covid_xray.arithmetic import Arithmetic  # noqa: E402
from covid_xray.augment import Augment  # noqa: E402
from covid_xray.cnn import create_model  # noqa: E402
from covid_xray.data import Radiographs  # noqa: E402
from covid_xray.models import predict  # noqa: E402
from covid_xray.sources import cache_folder, load_table  # noqa: E402
from covid_xray.training import fit  # noqa: E402

RESULTS = ROOT / "covid_xray" / "results" / "precision.csv"


def train(films: Radiographs, seed: int, epochs: int, precision: str) -> dict:
    "One whole training"
    torch.manual_seed(seed)
    model, started = create_model("residual"), time.perf_counter()
    history = fit(model, films.part("train"), films.part("valid"), epochs=epochs, batch_size=16, learning_rate=2e-3,
                  augment=Augment(), seed=seed, precision=precision, progress=False)
    seconds, said = time.perf_counter() - started, predict(model, films.part("test"))
    area = roc_auc_score(said.targets, said.probabilities, multi_class="ovr")
    return {"seed": seed, "precision": precision, "chosen": str(Arithmetic(**history.arithmetic["chosen"])),
            "seconds": round(seconds, 1), "valid_loss": round(history.best_loss, 4), "test_auroc": round(area, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    films = Radiographs(load_table("phantom"), 128, cache_folder() / "decoded", progress=False)
    train(films, 0, 1, "fp32")  # the first training of a process also loads libraries
    rows = []
    for seed in options.seeds:
        for precision in ("fp32", "fp32 + channels-last + fused", "auto"):
            rows.append(train(films, seed, options.epochs, precision))
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(RESULTS, index=False)


if __name__ == "__main__":
    main()
