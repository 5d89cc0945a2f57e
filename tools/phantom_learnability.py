"""How hard is the course's default set? Trains on it and writes covid_xray/results/phantom_learnability.csv.

    python tools/phantom_learnability.py [--seeds 5] [--epochs 12] [--out FILE]

One row a seed (of patients, weights and order): AUROC, mean of the three classes against the rest, of
1. a linear model on pixels: 128 px films as 32 by 32 means, logistic regression, its strength chosen on the
   validation part
2. the course's plain network at 128 px, as `fit` trains it without augmentation, on the 400 training patients,
each on the 100 test patients, the network also on the 100 patients of the second hospital.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).parents[1]))
from covid_xray import phantom  # noqa: E402
from covid_xray.cnn import create_model  # noqa: E402
from covid_xray.data import Radiographs  # noqa: E402
from covid_xray.models import predict  # noqa: E402
from covid_xray.training import fit  # noqa: E402

SIZE_PX, MODEL = 128, "plain"
STRENGTHS = (1e-4, 1e-3, 1e-2)  # scikit-learn's C
RESULTS = Path(__file__).parents[1] / "covid_xray" / "results" / "phantom_learnability.csv"


def auroc(targets: np.ndarray, probabilities: np.ndarray) -> float:
    "Mean of the three classes, each against the rest"
    return float(roc_auc_score(targets, probabilities, multi_class="ovr"))


def small(films: Radiographs) -> np.ndarray:
    "Means over four by four pixels, one row a film"
    return films.images.reshape(len(films), 32, 4, 32, 4).mean((2, 4)).reshape(len(films), -1)


def linear_auroc(train: Radiographs, valid: Radiographs, test: Radiographs) -> float:
    "Test AUROC of the linear model that is best on the validation part"

    def score(model: Pipeline, films: Radiographs) -> float:
        return auroc(films.targets, model.predict_proba(small(films)))

    models = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=400)) for c in STRENGTHS]
    best = max((model.fit(small(train), train.targets) for model in models), key=lambda model: score(model, valid))
    return score(best, test)


def row(seed: int, epochs: int) -> dict:
    "Both models on one default set"
    films = Radiographs(phantom.teaching_table(seed), SIZE_PX, progress=False)
    train, valid, test, outside = (films.part(name) for name in ("train", "valid", "test", "outside"))
    torch.manual_seed(seed)
    model = create_model(MODEL)
    fit(model, train, valid, epochs=epochs, seed=seed, progress=False)
    network = [auroc(p.targets, p.probabilities) for p in (predict(model, test), predict(model, outside))]
    return {
        "seed": seed,
        "model": MODEL,
        "epochs": epochs,
        "size_px": SIZE_PX,
        "linear_test": round(linear_auroc(train, valid, test), 3),
        "network_test": round(network[0], 3),
        "network_outside": round(network[1], 3),
        "version": phantom.VERSION,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        rows.append(row(seed, options.epochs))
        print(rows[-1], flush=True)
        pd.DataFrame(rows).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
