"""Train and test on real films and keep what was predicted: the numbers of the results page (`make results`).

    python tools/results.py --data FOLDER [--only PATTERN] [--models residual-128 ...] [--folds 0 ...] [--list]

FOLDER holds one folder a source (darkcovidnet, cohen, hannover, raikokte). Every row is an experiment (which films,
cut how) with a model. Each fold is trained once; its predictions stand in covid_xray/results/real/ as a small CSV and
are not computed again, and a fold that was interrupted goes on from its last whole epoch, so the work may be spread
over many sittings. At the end three tables are written from all predictions there are: real.csv (every metric of every
row with its interval, and how many folds it rests on), real_differences.csv (models side by side on the folds that
both have) and real_subgroups.csv (by view, sex and age). No radiograph leaves FOLDER.
"""
from __future__ import annotations

import argparse
import fnmatch
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import backbone  # noqa: E402

from covid_xray.augment import Augment  # noqa: E402
from covid_xray.cnn import create_model  # noqa: E402
from covid_xray.data import Radiographs  # noqa: E402
from covid_xray.intervals import metrics_table_with_intervals, paired_difference  # noqa: E402
from covid_xray.models import Predictions, predict  # noqa: E402
from covid_xray.probes import subgroups  # noqa: E402
from covid_xray.sources import TASKS, cache_folder, load_table, select_task  # noqa: E402
from covid_xray.splits import patient_folds, patient_groups  # noqa: E402
from covid_xray.training import fit  # noqa: E402

RESULTS = ROOT / "covid_xray" / "results"
SOURCES = ("darkcovidnet", "cohen", "hannover", "raikokte")
FOLDS, SEED = 5, 0
COHEN_AND_HANNOVER = "cohen and hannover"


@dataclass(frozen=True)
class Recipe:
    "How a network is trained"
    model: str  # a name of `create_model`, or "lite0" for a linear layer on a frozen pretrained network
    size_px: int
    epochs: int
    learning_rate: float = 2e-3


@dataclass(frozen=True)
class Experiment:
    "Which films are asked what, and how they are cut into folds"
    task: str  # a name of TASKS, or two labels with "-vs-" between
    films: Callable[[pd.DataFrame], pd.DataFrame]  # rows of the joined table
    cut: str  # "image", "patient" or "archive"
    folds: tuple[str, ...] = ()  # only these; empty for all


RECIPES = {
    "residual-128": Recipe("residual", 128, 20),
    "darkcovidnet-128": Recipe("darkcovidnet", 128, 20),
    "darkcovidnet-256": Recipe("darkcovidnet", 256, 100),
    "lite0-224": Recipe("lite0", backbone.SIZE_PX, 0),
}
TOGETHER = {"together": ("residual-128", "lite0-224")}  # the mean of what its members say; nothing is trained
ROWS = (*RECIPES, *TOGETHER)


def from_source(name: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table[table["source"] == name]


def from_nih(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["archive"] == "nih"]


def from_nih_equal_size(table: pd.DataFrame) -> pd.DataFrame:
    return from_nih(table)[equal_size(from_nih(table))]


def once_each(table: pd.DataFrame) -> pd.DataFrame:
    "One film of each duplicate group, from the archive that comes first by name"
    ordered = table.sort_values(["archive", "path"], kind="stable")
    group = ordered["dup_group"].astype("object").where(ordered["dup_group"].notna(), ordered["path"])
    return ordered[~group.duplicated()]


def two_as_one(table: pd.DataFrame) -> pd.DataFrame:
    "The same, with Cohen's and Hannover's films as one archive; it holds every COVID-19 film: these are just abnormal"
    films = once_each(table)
    films = films[films["label"].isin(["covid", "normal", "pneumonia"])]
    return films.assign(archive=films["archive"].replace(dict.fromkeys(["cohen", "hannover"], COHEN_AND_HANNOVER)),
                        label=films["label"].where(films["label"] == "normal", "abnormal"))


EXPERIMENTS = {
    "darkcovidnet by image": Experiment("three-class", from_source("darkcovidnet"), "image"),
    "darkcovidnet by patient": Experiment("three-class", from_source("darkcovidnet"), "patient"),
    "darkcovidnet two classes by image": Experiment("covid-vs-normal", from_source("darkcovidnet"), "image"),
    "darkcovidnet two classes by patient": Experiment("covid-vs-normal", from_source("darkcovidnet"), "patient"),
    "pneumonia within NIH": Experiment("pneumonia-vs-normal", from_nih, "patient"),
    "pneumonia within NIH, files of equal size": Experiment("pneumonia-vs-normal", from_nih_equal_size, "patient"),
    "covid within Cohen": Experiment("covid-vs-pneumonia", from_source("cohen"), "patient"),
    "an archive left out": Experiment("three-class", once_each, "archive"),
    "two archives left out": Experiment("abnormal-vs-normal", two_as_one, "archive", (COHEN_AND_HANNOVER,)),
}


def joined_table(data: Path) -> pd.DataFrame:
    "All films of all sources, with the archive each comes from"
    table = pd.concat([load_table(name, root=data / name) for name in SOURCES], ignore_index=True)
    site, source = table["site"].astype("string").fillna(""), table["source"]
    archive = source.where(source != "darkcovidnet", "cohen")  # its COVID-19 films are Cohen's
    archive = archive.mask(site.str.startswith("NIH"), "nih").mask(site.str.startswith("Hannover"), "hannover")
    copied = (source == "raikokte") & (table["label"] == "covid")  # all of them are copies, most of them Cohen's
    return table.assign(archive=archive.mask(copied, "cohen").astype("string"), row=range(len(table)))


def asked(table: pd.DataFrame, task: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    "The films of a task and its classes"
    if task in TASKS:
        return select_task(table, task)
    classes = tuple(task.split("-vs-"))
    return table[table["label"].isin(classes)].reset_index(drop=True), classes


def folds_of(table: pd.DataFrame, cut: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    "Name, rows to learn from and rows to test on, of each fold"
    table = table.reset_index(drop=True)
    if cut == "image":
        cuts = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(table, table["label"])
        yield from ((str(k), *rows) for k, rows in enumerate(cuts))
        return
    groups = patient_groups(table)
    side = patient_folds(table, FOLDS, SEED)["fold"].astype(str) if cut == "patient" else table["archive"]
    for name in sorted(side.unique()):
        test = (side == name).to_numpy(dtype=bool)
        learn = ~np.isin(groups, groups[test])  # persons and duplicates of the tested archive are not learnt from
        yield name, np.flatnonzero(learn), np.flatnonzero(test)


def with_validation(films: Radiographs, cut: str, seed: int) -> tuple[Radiographs, Radiographs]:
    "A seventh of the films, cut as the test part is, decides which epoch is kept"
    if cut == "image":
        rows = next(StratifiedKFold(7, shuffle=True, random_state=seed).split(films.table, films.targets))
        return films.select(rows[0]), films.select(rows[1])
    fold = patient_folds(films.table, 7, seed)["fold"].to_numpy(dtype=int)
    return films.select(fold != 0), films.select(fold == 0)


def train_fold(films: Radiographs, learn: np.ndarray, test: np.ndarray, recipe: Recipe, cut: str,
               out: Path) -> tuple[Predictions, float]:
    """What a network trained on one fold says of its test films, and the CPU seconds that took.

    An interrupted training goes on from its last whole epoch in `out`; the seconds of the epochs before are then
    taken to be like those of the epochs after.
    """
    train, valid = with_validation(films.select(learn), cut, SEED)
    torch.manual_seed(SEED)
    network = create_model(recipe.model, n_classes=len(films.classes))
    done = len(pd.read_csv(out / "log.csv")) if (out / "checkpoint.safetensors").is_file() else 0
    start = time.process_time()
    history = fit(network, train, valid, epochs=recipe.epochs, learning_rate=recipe.learning_rate, augment=Augment(),
                  seed=SEED, out=out, resume=done > 0, progress=False)
    if history.stopped == "interrupted":
        raise KeyboardInterrupt
    seconds = (time.process_time() - start) * recipe.epochs / max(recipe.epochs - done, 1)
    return predict(network, films.select(test)), seconds


def fit_linear(seen: np.ndarray, table: pd.DataFrame, classes: tuple[str, ...], learn: np.ndarray, test: np.ndarray,
               ) -> tuple[Predictions, float]:
    "A linear layer on what the frozen network's last layer says of the films; nothing is tuned, so no film validates"
    start = time.process_time()
    targets = table["label"].map({name: i for i, name in enumerate(classes)}).to_numpy(np.int64)
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=1000))
    said = linear.fit(seen[learn], targets[learn]).predict_proba(seen[test])
    return (Predictions(said, targets[test], table.iloc[test].reset_index(drop=True), classes),
            time.process_time() - start)


def file_of(experiment: str, model: str, fold: str) -> Path:
    return RESULTS / "real" / f"{experiment.replace(' ', '-')}__{model}__{fold}.csv"


def run(experiment: str, model: str, table: pd.DataFrame, folds: list[str] | None = None) -> None:
    "Train and keep every fold that is not kept yet, or only those named"
    plan, recipe = EXPERIMENTS[experiment], RECIPES[model]
    chosen, classes = asked(plan.films(table), plan.task)
    folds, films = folds or plan.folds, None
    for fold, learn, test in folds_of(chosen, plan.cut):
        path = file_of(experiment, model, fold)
        if path.is_file() or (folds and fold not in folds):
            continue
        if recipe.model == "lite0":
            seen = backbone.frozen_features(table)["last"][chosen["row"]]
            said, seconds = fit_linear(seen, chosen, classes, learn, test)
        else:
            films = films or decoded(chosen, classes, recipe.size_px)
            unfinished = cache_folder() / "results" / path.stem
            said, seconds = train_fold(films, learn, test, recipe, plan.cut, unfinished)
            shutil.rmtree(unfinished)
        keep(said, path, seconds, len(learn))
        print(f"{experiment}, {model}, fold {fold}: accuracy "
              f"{(said.probabilities.argmax(1) == said.targets).mean():.3f}", flush=True)


def decoded(table: pd.DataFrame, classes: tuple[str, ...], size_px: int) -> Radiographs:
    "The films of an experiment; all must be readable"
    films = Radiographs(table, size_px, cache_folder() / "decoded", classes=classes, progress=False)
    assert not len(films.skipped), films.skipped
    return films


def keep(said: Predictions, path: Path, seconds: float, learnt_from: int) -> None:
    "Which film, what is true, what was said; whole or not at all"
    columns = {f"p_{name}": said.probabilities[:, i].round(5) for i, name in enumerate(said.classes)}
    facts = said.table[["source", "sha256", "label"]].assign(learnt_from=learnt_from, cpu_seconds=round(seconds))
    path.parent.mkdir(parents=True, exist_ok=True)
    facts.assign(**columns).to_csv(path.with_suffix(".partial"), index=False)
    path.with_suffix(".partial").replace(path)


def kept(experiment: str, model: str, table: pd.DataFrame) -> tuple[Predictions, pd.DataFrame, int] | None:
    "All kept folds of a row as one: predictions, the kept rows, how many folds"
    plan = EXPERIMENTS[experiment]
    classes = asked(plan.films(table), plan.task)[1]
    rows = kept_rows(experiment, model)
    if rows is None:
        return None
    about = rows.merge(table.drop(columns=["label", "fold"]).drop_duplicates(["source", "sha256"]),
                       on=["source", "sha256"], how="left", validate="many_to_one").reset_index(drop=True)
    probabilities = about[[f"p_{name}" for name in classes]].to_numpy(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    targets = about["label"].map({name: i for i, name in enumerate(classes)}).to_numpy(np.int64)
    return Predictions(probabilities, targets, about, classes), about, about["fold"].nunique()


def kept_rows(experiment: str, model: str) -> pd.DataFrame | None:
    "What was kept of a model, one row a film with its fold; of models together the mean, on folds that all have"
    if model in TOGETHER:
        members = [kept_rows(experiment, member) for member in TOGETHER[model]]
        if any(rows is None for rows in members):
            return None
        per_film = pd.concat(members).groupby(["fold", "source", "sha256", "label", "learnt_from"], sort=False)
        said = per_film.mean().drop(columns="cpu_seconds").assign(cpu_seconds=per_film["cpu_seconds"].sum())
        return said[per_film.size() == len(members)].reset_index()
    files = sorted((RESULTS / "real").glob(file_of(experiment, model, "*").name))
    rows = [pd.read_csv(path).assign(fold=path.stem.rpartition("__")[2]) for path in files]
    return pd.concat(rows, ignore_index=True) if rows else None


def parts_of(plan: Experiment, about: pd.DataFrame) -> dict[str, np.ndarray]:
    "Name -> which rows: all, each archive left out, and NIH films whose file size does not tell the label"
    if plan.cut == "archive":
        return {f"tested on {name}": (about["fold"] == name).to_numpy() for name in sorted(about["fold"].unique())}
    parts = {"all folds": np.ones(len(about), bool)}
    if plan.films is from_nih:
        parts["files of equal size"] = equal_size(about)
    return parts


def equal_size(table: pd.DataFrame) -> np.ndarray:
    """Films whose file size does not tell whether it is an NIH film without a finding.

    DarkCovidNet's 500 films without a finding are all files of up to 348.8 KiB, its pneumonia films of any size.
    """
    return ~((table["archive"] == "nih") & (table["bytes"] > 348.8 * 1024)).to_numpy(dtype=bool)


def of_rows(said: Predictions, chosen: np.ndarray) -> Predictions:
    return Predictions(said.probabilities[chosen], said.targets[chosen], said.table[chosen].reset_index(drop=True),
                       said.classes)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    "Every metric of every row that has been computed, with intervals over persons"
    rows = []
    for experiment, plan in EXPERIMENTS.items():
        for model in ROWS:
            members = TOGETHER.get(model, (model,))
            recipe = RECIPES[members[0]]
            found = kept(experiment, model, table)
            if found is None:
                continue
            said, about, folds = found
            for part, chosen in parts_of(plan, about).items():
                facts = dict(experiment=experiment, part=part, model=model, size_px=recipe.size_px,
                             epochs=recipe.epochs, folds=folds if plan.cut != "archive" else 1,
                             cpu_minutes=round(about[chosen].groupby("fold")["cpu_seconds"].first().sum() / 60, 1),
                             command=f'make results ONLY="{experiment}" MODELS="{" ".join(members)}"')
                rows.append(metrics_table_with_intervals(of_rows(said, chosen), resamples=2000).assign(**facts))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def differences(table: pd.DataFrame) -> pd.DataFrame:
    "Models side by side on the films of the folds that both have: second less first, every metric"
    rows = []
    for experiment, plan in EXPERIMENTS.items():
        found = {model: kept(experiment, model, table) for model in ROWS}
        for first, second in combinations([model for model in ROWS if found[model]], 2):
            (one, about, _), (other, others, _) = found[first], found[second]
            common = set(about["fold"]) & set(others["fold"])
            if not common:
                continue
            one, other = (of_rows(p, p.table["fold"].isin(common).to_numpy()) for p in (one, other))
            for part, chosen in parts_of(plan, one.table).items():
                facts = dict(experiment=experiment, part=part, first_model=first, second_model=second,
                             folds=len(common) if plan.cut != "archive" else 1)
                gap = paired_difference(of_rows(one, chosen), of_rows(other, chosen), resamples=2000)
                rows.append(gap.assign(**facts))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def groups(table: pd.DataFrame) -> pd.DataFrame:
    "Accuracy by view, sex and age of every row that is cut by patient, with the caution for many looks"
    rows = []
    for experiment, plan in EXPERIMENTS.items():
        for model in ROWS:
            found = kept(experiment, model, table) if plan.cut == "patient" else None
            if found is not None:
                said, _, folds = found
                rows.append(subgroups(said).assign(experiment=experiment, model=model, folds=folds))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def main() -> None:
    parser = argparse.ArgumentParser(description="Results on real films", allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder a source")
    parser.add_argument("--only", default="*", help="experiments whose name fits, for example \"darkcovidnet*\"")
    parser.add_argument("--models", nargs="+", default=["residual-128"], choices=list(RECIPES))
    parser.add_argument("--folds", nargs="+", help="only these folds, for example 0")
    parser.add_argument("--list", action="store_true", help="say what there is and stop")
    options = parser.parse_args()
    chosen = [name for name in EXPERIMENTS if fnmatch.fnmatch(name, options.only)]
    if not chosen:
        parser.error(f"no experiment fits {options.only!r}; there are {', '.join(EXPERIMENTS)}")
    if options.list:
        print("\n".join(chosen))
        return
    table = joined_table(options.data)
    for model in options.models:
        for experiment in chosen:
            run(experiment, model, table, options.folds)
    for name, make in (("real", summary), ("real_differences", differences), ("real_subgroups", groups)):
        found = make(table)
        found.to_csv(RESULTS / f"{name}.csv", index=False, float_format="%.4f")
        print(f"{len(found)} rows in {RESULTS / name}.csv")


if __name__ == "__main__":
    main()
