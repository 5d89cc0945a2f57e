"""Train what the chapter on tuning compares, over and over, and keep the results as small tables (`make sweeps`).

    python tools/sweeps.py [--only NAME] [--jobs N] [--folder covid_xray/results]

Five sweeps, each a file `sweep_<name>.csv`: learning_rates, remedies, imbalance, search, seeds. A row carries all its
settings, the phantom's version, the seed and the CPU seconds. A job whose rows are there with the same settings is not
computed again, so an interrupted sweep goes on where it was; rows of other settings or versions are dropped.
"""
from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[1]))
from covid_xray import phantom  # noqa: E402
from covid_xray.augment import Augment  # noqa: E402
from covid_xray.cnn import PlainCNN  # noqa: E402
from covid_xray.data import Radiographs  # noqa: E402
from covid_xray.intervals import metrics_table_with_intervals  # noqa: E402
from covid_xray.models import predict  # noqa: E402
from covid_xray.training import fit, one_cycle  # noqa: E402
from covid_xray.tuning import adjust_prior, class_weights, oversample, search  # noqa: E402

RESULTS = Path(__file__).parents[1] / "covid_xray" / "results"
CACHE = Path(tempfile.gettempdir()) / "covid_xray_sweeps"
SEEDS = range(5)
SIZE_PX = 48
COMMON = {"size_px": SIZE_PX, "version": phantom.VERSION}
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
RARE = {"covid": 0.05, "normal": 0.55, "pneumonia": 0.40}
REMEDIES = {
    "nothing": {},
    "augmentation": {"augment": True},
    "weight decay": {"weight_decay": 1.0},
    "dropout": {"dropout": 0.5},
    "all three": {"augment": True, "weight_decay": 1.0, "dropout": 0.5},
    "more patients": {"patients": 180, "epochs": 3},  # three times the films, about as many steps
}


def auroc(targets: np.ndarray, probabilities: np.ndarray) -> float:
    "Mean of the three classes, each against the rest"
    return float(roc_auc_score(targets, probabilities, multi_class="ovr"))


def log_loss(targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> float:
    "Cross-entropy in nats, each class with its weight"
    of_truth = probabilities[np.arange(len(targets)), targets]
    weights = np.ones(probabilities.shape[1]) if weights is None else weights
    return float(np.average(-np.log(np.clip(of_truth, 1e-12, 1)), weights=weights[targets]))


def parts(films_seed: int, patients: int) -> tuple[Radiographs, Radiographs, Radiographs]:
    "The first patients of a default set's training part, and its validation and test part"
    films = Radiographs(phantom.teaching_table(films_seed), SIZE_PX, CACHE, progress=False)
    train = films.part("train")
    chosen = train.table["patient"].isin(train.table["patient"].unique()[:patients])
    return train.select(chosen.to_numpy(dtype=bool)), films.part("valid"), films.part("test")


def network(seed: int, dropout: float = 0.3) -> PlainCNN:
    "A fresh plain network"
    torch.manual_seed(seed)
    return PlainCNN(1, 3, dropout=dropout)


def run_learning_rate(job: dict) -> list[dict]:
    "One row an epoch; a training that ended in numbers that are none leaves one row without losses"
    train, valid, _ = parts(job["seed"], job["patients"])
    options = {name: job[name] for name in ("epochs", "learning_rate", "seed")}
    try:
        history = fit(network(job["seed"]), train, valid, progress=False, **options)
    except FloatingPointError:
        return [{"epoch": 0, "train_loss": np.nan, "valid_loss": np.nan}]
    return history.table[["epoch", "train_loss", "valid_loss"]].to_dict("records")


def run_remedy(job: dict) -> list[dict]:
    "One row an epoch, losses in evaluation mode; test figures at the last epoch and at the one with the best weights"
    train, valid, test = parts(job["seed"], job["patients"])
    model, tested = network(job["seed"], job["dropout"]), {}

    def test_now(place: str) -> None:
        said = predict(model, test)
        tested[place] = {"test_loss": log_loss(said.targets, said.probabilities),
                         "test_auroc": auroc(said.targets, said.probabilities)}

    def fitted_loss(*_: np.ndarray) -> float:
        said = predict(model, train)
        test_now("last")
        return log_loss(said.targets, said.probabilities)

    history = fit(model, train, valid, epochs=job["epochs"], learning_rate=job["learning_rate"], batch_size=16,
                  weight_decay=job["weight_decay"], augment=Augment() if job["augment"] else None, seed=job["seed"],
                  metrics={"fitted_loss": fitted_loss, "valid_auroc": auroc}, progress=False)
    test_now("best")
    rows = history.table[["epoch", "fitted_loss", "valid_loss", "valid_auroc"]].to_dict("records")
    rows[-1] |= {f"last_{name}": value for name, value in tested["last"].items()}
    rows[history.best_epoch] |= {f"best_{name}": value for name, value in tested["best"].items()}
    return rows


def fit_weighted(model: PlainCNN, train: Radiographs, valid: Radiographs, job: dict) -> None:
    "The loop at its plainest with a weight for each class; keeps the epoch with the best weighted validation loss"
    weights = torch.tensor(class_weights(train.targets), dtype=torch.float32)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    rng, best = np.random.default_rng(job["seed"]), (np.inf, model.state_dict())
    batches = -(-len(train) // 32)
    for epoch in range(job["epochs"]):
        model.train()
        for number, rows in enumerate(np.array_split(rng.permutation(len(train)), batches)):
            images, targets = train.batch(rows)
            rate = one_cycle(epoch * batches + number, job["epochs"] * batches + 1, job["learning_rate"])
            optimiser.param_groups[0]["lr"] = rate
            optimiser.zero_grad()
            F.cross_entropy(model(images), targets, weight=weights).backward()
            optimiser.step()
        said = predict(model, valid)
        loss = log_loss(said.targets, said.probabilities, weights.numpy())
        if loss < best[0]:
            best = loss, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(best[1])


def describe_rare(targets: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict:
    "COVID against the rest at a threshold, and how its probabilities fit its share"
    sick, called = targets == 0, probabilities[:, 0] > threshold
    return {"threshold": threshold, "auroc": roc_auc_score(sick, probabilities[:, 0]),
            "recall": called[sick].mean(), "specificity": (~called[~sick]).mean(),
            "mean_probability": probabilities[:, 0].mean(), "share": sick.mean(),
            "log_loss": log_loss(targets, probabilities)}


def run_imbalance(job: dict) -> list[dict]:
    "Three trainings on films with little COVID, and what can be done with their probabilities afterwards"
    def films(n: int, place: int, prevalence: dict) -> Radiographs:
        made = phantom.simulate(n, size_px=SIZE_PX, seed=1000 + 10 * job["seed"] + place, prevalence=prevalence)
        return Radiographs.from_arrays(made.images, made.table)

    train, valid, rare = films(job["films"], 0, RARE), films(job["films"] // 2, 1, RARE), films(300, 2, RARE)
    common = films(100, 3, phantom.PREVALENCE)
    options = {name: job[name] for name in ("epochs", "learning_rate", "seed")}
    plain, weighted, repeated = (network(job["seed"]) for _ in range(3))
    fit(plain, train, valid, progress=False, **options)
    fit_weighted(weighted, train, valid, job)
    # validation films are repeated too, so that the epoch kept is the best one for the same aim
    often = [part.select(oversample(part.targets, job["seed"])) for part in (train, valid)]
    fit(repeated, *often, progress=False, **options | {"epochs": job["epochs"] // 2})  # an epoch has twice the films
    shares, even = np.bincount(train.targets) / len(train), np.full(3, 1 / 3)
    rows = []
    for name, test in (("rare", rare), ("common", common)):
        p, w, o = (predict(model, test).probabilities.astype(float) for model in (plain, weighted, repeated))
        there = np.bincount(test.targets) / len(test)
        said = {"plain": (p, 0.5), "class weights": (w, 0.5), "oversampling": (o, 0.5),
                "threshold moved": (p, float(shares[0])), "made even": (adjust_prior(p, shares, even), 0.5),
                "oversampling, put back": (adjust_prior(o, even, shares), 0.5),
                "told the new shares": (adjust_prior(p, shares, there), 0.5)}
        rows += [{"test": name, "method": method, **describe_rare(test.targets, *given)}
                 for method, given in said.items()]
    return rows


def run_search(job: dict) -> list[dict]:
    "One row a trial: settings, validation score, and the test score that the search never sees"
    train, valid, test = parts(job["seed"], job["patients"])
    test_scores = []

    def objective(trial) -> float:
        model = network(job["seed"], trial.suggest_float("dropout", 0.0, 0.6))
        fit(model, train, valid, epochs=job["epochs"], seed=job["seed"], progress=False,
            learning_rate=trial.suggest_float("learning_rate", 1e-4, 3e-2, log=True),
            weight_decay=trial.suggest_float("weight_decay", 1e-3, 1.0, log=True),
            batch_size=trial.suggest_categorical("batch_size", [16, 32, 64]))
        said, asked = predict(model, test), predict(model, valid)
        test_scores.append(auroc(said.targets, said.probabilities))
        return auroc(asked.targets, asked.probabilities)

    table = search(objective, job["trials"], seed=job["seed"]).rename(columns={"cpu_seconds": "trial_seconds"})
    return table.assign(test_score=test_scores).to_dict("records")


def run_seed(job: dict) -> list[dict]:
    "Test accuracy and AUROC of one training, each with its interval over patients"
    train, valid, test = parts(0, job["patients"])
    model = network(job["seed"])
    fit(model, train, valid, epochs=job["epochs"], learning_rate=job["learning_rate"], seed=job["seed"], progress=False)
    table = metrics_table_with_intervals(predict(model, test), resamples=1000).set_index(["metric", "label"])
    return [{f"{metric}{end}": table.loc[(metric, label), column]
             for metric, label in (("accuracy", "overall"), ("auroc", "macro"))
             for column, end in (("value", ""), ("low", "_low"), ("high", "_high"))}]


def jobs() -> dict[str, tuple[Callable[[dict], list[dict]], list[dict]]]:
    "All jobs of each sweep: the function and the settings that make a job's key"
    plain = {"augment": False, "weight_decay": 0.0, "dropout": 0.0, "patients": 60, "epochs": 10}
    return {
        "learning_rates": (run_learning_rate, [
            COMMON | {"patients": 200, "epochs": 6, "learning_rate": rate, "seed": seed}
            for seed in SEEDS for rate in RATES]),
        "seeds": (run_seed, [
            COMMON | {"patients": 200, "epochs": 6, "learning_rate": 3e-3, "seed": seed} for seed in range(10)]),
        "remedies": (run_remedy, [
            COMMON | {"remedy": name} | plain | {"learning_rate": 3e-3} | changed | {"seed": seed}
            for seed in SEEDS for name, changed in REMEDIES.items()]),
        "search": (run_search, [
            COMMON | {"patients": 150, "epochs": 6, "trials": 5, "seed": seed} for seed in SEEDS]),
        "imbalance": (run_imbalance, [
            COMMON | {"films": 300, "epochs": 8, "learning_rate": 3e-3, "seed": seed} for seed in SEEDS]),
    }


def rows_of(table: pd.DataFrame, job: dict) -> pd.DataFrame:
    "The rows of a job, none where a setting differs or is missing"
    if not set(job) <= set(table.columns):
        return table.iloc[:0]
    same = [np.isclose(table[name], value, rtol=1e-9, atol=0) if isinstance(value, float) else table[name] == value
            for name, value in job.items()]
    return table[np.logical_and.reduce(same)]


def run_sweep(path: Path, run: Callable[[dict], list[dict]], todo: list[dict]) -> None:
    "Compute what is missing, and write the table anew after each job"
    read = {"version": str, "remedy": str}
    old = pd.read_csv(path, dtype=read) if path.is_file() else pd.DataFrame()
    kept = {number: rows for number, job in enumerate(todo) if len(rows := rows_of(old, job))}
    for number, job in enumerate(todo):
        if number in kept:
            continue
        started = time.process_time()
        rows = pd.DataFrame(run(job)).round(4)
        spent = round(time.process_time() - started, 1)
        kept[number] = pd.DataFrame([job] * len(rows)).join(rows).assign(cpu_seconds=spent)
        partial = path.with_suffix(".partial")
        pd.concat([kept[place] for place in sorted(kept)]).to_csv(partial, index=False)
        os.replace(partial, path)
        print(f"{path.stem}: job {number + 1} of {len(todo)}, {spent} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(jobs()), help="one sweep")
    parser.add_argument("--jobs", type=int, help="only the first jobs of each sweep, for a trial")
    parser.add_argument("--folder", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, (run, todo) in jobs().items():
        if options.only in (None, name):
            run_sweep(options.folder / f"sweep_{name}.csv", run, todo[: options.jobs])


if __name__ == "__main__":
    main()
