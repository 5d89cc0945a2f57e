"""How hard is the course's default set? Trains on it and writes covid_xray/results/phantom_learnability.csv.

    python tools/phantom_learnability.py [--seeds 5] [--epochs 12] [--out FILE]

One row a seed (of patients, weights and order): AUROC, mean of the three classes against the rest, of
1. a linear model on pixels: 128 px films as 32 by 32 means, logistic regression, its strength chosen on the
   validation part
2. the plain network of chapter 3 at 128 px, as `fit` trains it in 12 epochs without augmentation, on the 400 training
   patients
3. the residual network by the course's usual recipe (20 epochs with augmentation: that of `make models`), on the same
each on the 100 test patients, the networks also on the 100 patients of the second hospital.
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
from covid_xray.augment import Augment  # noqa: E402
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


def network_aurocs(model: str, films: Radiographs, seed: int, **recipe) -> list[float]:
    "Of a network trained on the training part: on the test part and at the second hospital"
    torch.manual_seed(seed)
    network = create_model(model)
    fit(network, films.part("train"), films.part("valid"), seed=seed, progress=False, **recipe)
    said = [predict(network, films.part(name)) for name in ("test", "outside")]
    return [round(auroc(p.targets, p.probabilities), 3) for p in said]


def row(seed: int, epochs: int) -> dict:
    "All three models on one default set"
    films = Radiographs(phantom.teaching_table(seed), SIZE_PX, progress=False)
    plain = network_aurocs(MODEL, films, seed, epochs=epochs)
    usual = network_aurocs("residual", films, seed, epochs=20, learning_rate=2e-3, augment=Augment())
    linear = linear_auroc(*(films.part(name) for name in ("train", "valid", "test")))
    return {
        "seed": seed,
        "model": MODEL,
        "epochs": epochs,
        "size_px": SIZE_PX,
        "linear_test": round(linear, 3),
        "network_test": plain[0],
        "network_outside": plain[1],
        "version": phantom.VERSION,
        "residual_test": usual[0],
        "residual_outside": usual[1],
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
