"""Train the model on real films that ships with the course, and write its card (`make models`, needs COVID_XRAY_DATA).

`nih-pneumonia`: pneumonia against no finding, learnt from NIH films alone. In DarkCovidNet's choice of them every film
without a finding is a small file, most with pneumonia are large ones: size on disk, so texture, gives the label away.
Hence only films no larger than the largest without a finding are learnt from. The backbone stays as ImageNet left it;
a logistic regression on what it says of each film, and of altered copies, is the head: the same every time.
Inside figures are out of fold over persons, outside figures are of the shipped model on films of other hospitals.
"""
from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from covid_xray.augment import Augment  # noqa: E402
from covid_xray.bundle import operating_point, prediction_sets, training_facts  # noqa: E402
from covid_xray.cnn import count_parameters  # noqa: E402
from covid_xray.contrast import preparation  # noqa: E402
from covid_xray.data import Radiographs  # noqa: E402
from covid_xray.intervals import metrics_table_with_intervals  # noqa: E402
from covid_xray.models import Predictions, save_model  # noqa: E402
from covid_xray.probes import age_bands  # noqa: E402
from covid_xray.sources import cache_folder, load_table  # noqa: E402
from covid_xray.splits import patient_folds  # noqa: E402
from covid_xray.transfer import fit_head, head_inputs, pretrained  # noqa: E402

NAME, CLASSES, FOLDS = "nih-pneumonia", ("normal", "pneumonia"), 5
RECIPE = {"model": "timm:tf_efficientnet_lite0@3", "size_px": 224, "fit": "squash", "prepare": ["standardise"],
          "strength": 0.001, "copies": 2, "seed": 0}
AUGMENT = Augment(degrees=10, scale=0.15, shift=0.08, brightness=0.1, contrast=0.3, gamma=0.4, noise=0.03, blur=0.012)
SOURCES = ("darkcovidnet", "cohen", "hannover", "raikokte")
CARD = (ROOT / "tools" / "real_card.md").read_text(encoding="utf-8")  # the words of the card, figures left open


def backbone() -> torch.nn.Module:
    "The trained part, rounded to the half precision it is shipped in"
    return pretrained(RECIPE["model"], len(CLASSES)).half().float().eval()


def films_of(data: Path, source: str) -> Radiographs:
    "All films of a source as the model takes them; every label counts as abnormal but `normal`"
    table = load_table(source, root=data / source)
    if source == "darkcovidnet":  # its COVID-19 films are Cohen's, most of them without a licence
        table = table[table["license"].str.startswith("NIH").fillna(False)].reset_index(drop=True)
    table = table.assign(finding=table["label"], label=table["label"].where(table["label"] == "normal", "pneumonia"))
    return Radiographs(table, RECIPE["size_px"], cache_folder() / "decoded", classes=CLASSES, fit=RECIPE["fit"],
                       prepare=preparation(RECIPE["prepare"]))


def altered(films: Radiographs, copy: int) -> Radiographs:
    "The films turned, shifted, bent in brightness, blurred and made noisy; every second copy mirrored, too"
    parts = []
    for rows in np.array_split(np.arange(len(films)), max(1, len(films) // 64)):
        images = films.batch(rows)[0]
        generators = [np.random.default_rng([RECIPE["seed"], copy, int(row)]) for row in rows]
        parts.append((AUGMENT(images.flip(3) if copy % 2 else images, generators) * 255).round().byte()[:, 0].numpy())
    return Radiographs.from_arrays(np.concatenate(parts), films.table, CLASSES)


def inputs_of(name: str, films: Radiographs, network: torch.nn.Module, work: Path) -> np.ndarray:
    "What the head is given, computed once and kept in the folder of the work"
    path = work / f"{name}.npy"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        print(f"{NAME}: {name}, {len(films)} films", flush=True)
        np.save(path.with_suffix(".partial.npy"), head_inputs(network, films))
        path.with_suffix(".partial.npy").replace(path)
    return np.load(path)


def balanced(targets: np.ndarray) -> np.ndarray:
    "Weights that make both classes count alike"
    return len(targets) / (2 * np.bincount(targets)[targets])


def fit_on(network: torch.nn.Module, inputs: list[np.ndarray], targets: np.ndarray, rows: np.ndarray) -> None:
    "Fit the head to some films and their copies"
    stacked, repeated = np.concatenate([some[rows] for some in inputs]), np.tile(targets[rows], len(inputs))
    fit_head(network, stacked, repeated, RECIPE["strength"] / len(inputs), balanced(repeated))


def scores(network: torch.nn.Module, inputs: np.ndarray) -> np.ndarray:
    "Logit of pneumonia minus logit of normal, before calibration"
    head = [m for m in network.modules() if isinstance(m, torch.nn.Linear)][-1]
    with torch.no_grad():
        logits = head(torch.from_numpy(inputs))
    return (logits[:, 1] - logits[:, 0]).numpy().astype(float)


def predictions(score: np.ndarray, films: Radiographs, rows: np.ndarray | None = None) -> Predictions:
    "Scores as probabilities of some films"
    rows = np.arange(len(films)) if rows is None else np.flatnonzero(rows)
    sick = 1 / (1 + np.exp(-score[rows]))
    table = films.table.iloc[rows].reset_index(drop=True)
    return Predictions(np.column_stack([1 - sick, sick]), films.targets[rows], table, CLASSES)


def out_of_fold(
    network: torch.nn.Module, inputs: list[np.ndarray], films: Radiographs, usable: np.ndarray
) -> np.ndarray:
    "Each film's score by a head that has seen nobody of its fold"
    fold = patient_folds(films.table, FOLDS, RECIPE["seed"])["fold"].to_numpy(int)
    score = np.zeros(len(films))
    for k in range(FOLDS):
        fit_on(network, inputs, films.targets, usable & (fold != k))
        score[fold == k] = scores(network, inputs[0][fold == k])
    return score


def calibration(score: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    "Slope and offset that make out-of-fold scores log odds, both classes counting alike (Platt 1999)"
    fitted = LogisticRegression(C=1e6).fit(score[:, None], targets, balanced(targets))
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def calibrate_head(network: torch.nn.Module, slope: float, offset: float) -> None:
    "Write the calibration into the last layer"
    head = [m for m in network.modules() if isinstance(m, torch.nn.Linear)][-1]
    with torch.no_grad():
        head.weight.mul_(slope)
        head.bias.mul_(slope).add_(torch.tensor([-offset / 2, offset / 2]))


def row(what: str, said: Predictions) -> dict:
    "AUROC of abnormal against normal with its interval over persons"
    table = metrics_table_with_intervals(said, resamples=2000).set_index(["metric", "label"])
    found = table.loc[("auroc", "pneumonia")]
    return {"films": what, "n": len(said.targets), "normal": int((said.targets == 0).sum()),
            "persons": int(found["persons"]), "auroc": found["value"], "low": found["low"], "high": found["high"]}


def inside_rows(score: np.ndarray, films: Radiographs, usable: np.ndarray) -> list[dict]:
    "Out-of-fold figures: films of equal size, all films, and groups of patients"
    table = films.table.assign(age_band=age_bands(films.table["age"]))
    rows = [row("NIH, files of equal size", predictions(score, films, usable)),
            row("NIH, all files (size tells)", predictions(score, films))]
    for column in ("view", "sex", "age_band"):
        for value in sorted(table[column].dropna().unique()):
            chosen = usable & (table[column] == value).fillna(False).to_numpy(bool)
            rows.append(row(f"NIH, equal size, {column.replace('_', ' ')} {value}", predictions(score, films, chosen)))
    return rows


def outside_rows(score: Mapping[str, np.ndarray], films: Mapping[str, Radiographs]) -> list[dict]:
    "Films of other hospitals, each finding against the normal films of the same source"
    rows = []
    for source in ("cohen", "raikokte"):
        finding = films[source].table["finding"]
        for sick in ("covid", "pneumonia"):
            chosen = finding.isin([sick, "normal"]).to_numpy(bool)
            rows.append(row(f"{source}, {sick} against normal", predictions(score[source], films[source], chosen)))
        rows.append(row(f"{source}, all", predictions(score[source], films[source])))
    return rows


def grey_histogram(films: Radiographs) -> np.ndarray:
    "Share of pixels in 32 steps of grey: a probe that sees no place"
    return np.stack([np.bincount(image.ravel() // 8, minlength=32) / image.size for image in films.images])


def probe_rows(films: Mapping[str, Radiographs], usable: np.ndarray) -> list[dict]:
    "What file size and greys alone achieve on the same films"
    nih = films["darkcovidnet"]
    size = nih.table["bytes"].astype(float).to_numpy()
    fold, greys = patient_folds(nih.table, FOLDS, RECIPE["seed"])["fold"].to_numpy(int), grey_histogram(nih)
    probe = LogisticRegression(C=10, max_iter=1000, class_weight="balanced")
    score = np.zeros(len(nih))
    for k in range(FOLDS):
        score[fold == k] = probe.fit(greys[usable & (fold != k)], nih.targets[usable & (fold != k)]).decision_function(
            greys[fold == k])
    probe.fit(greys[usable], nih.targets[usable])
    rows = [row("file size, NIH, all files", predictions(size / 1e5, nih)),
            row("file size, NIH, equal size", predictions(size / 1e5, nih, usable)),
            row("greys, NIH, equal size", predictions(score, nih, usable))]
    return rows + [row(f"greys, {source}, all", predictions(probe.decision_function(grey_histogram(films[source])),
                                                            films[source])) for source in ("cohen", "raikokte")]


def trap_rows(network: torch.nn.Module, inputs: list[np.ndarray], films: Mapping[str, Radiographs],
              others: Mapping[str, np.ndarray]) -> list[dict]:
    "The same recipe learnt from all 1,000 NIH films, size and all: what a careless model would have shown"
    nih, everyone = films["darkcovidnet"], np.ones(len(films["darkcovidnet"]), bool)
    rows = [row("learnt from all files: NIH, all files", predictions(out_of_fold(network, inputs, nih, everyone), nih))]
    fit_on(network, inputs, nih.targets, everyone)
    for source in ("cohen", "raikokte"):
        said = predictions(scores(network, others[source]), films[source])
        rows.append(row(f"learnt from all files: {source}, all", said))
    return rows


def covid_trial(inputs: Mapping[str, np.ndarray], films: Mapping[str, Radiographs]) -> dict[str, float]:
    "COVID-19 of Hannover against NIH, asked on Cohen (nobody of Hannover): does it beat greys? It must, to be kept"
    known, asked = [films["darkcovidnet"], films["hannover"]], films["cohen"]
    new = ~asked.table["person"].isin(set(known[1].table["person"].dropna())).to_numpy(bool)
    new &= ~asked.table["dup_group"].isin(set(known[1].table["dup_group"].dropna())).to_numpy(bool)
    sick = (asked.table["finding"] == "covid").to_numpy(bool)
    labels, results = np.repeat([0, 1], [len(some) for some in known]), {}
    for name, given in (("network", inputs), ("greys", {key: grey_histogram(some) for key, some in films.items()})):
        learnt = np.concatenate([given["darkcovidnet"], given["hannover"]])
        probe = LogisticRegression(C=0.01 if name == "network" else 10, max_iter=2000, class_weight="balanced")
        spread = learnt.std(0) + 1e-6
        probe.fit((learnt - learnt.mean(0)) / spread, labels)
        score = probe.decision_function((given["cohen"] - learnt.mean(0)) / spread)
        results[name] = float(roc_auc_score(sick[new], score[new]))
    return results


def facts(films: Radiographs, usable: np.ndarray) -> dict:
    "Counts for settings and card"
    learnt = films.table[usable]
    return {"films": int(usable.sum()), "persons": int(learnt["person"].nunique()),
            **{name: int((learnt["label"] == name).sum()) for name in CLASSES},
            "largest_bytes": int(learnt["bytes"].max()), "left_out": int((~usable).sum()),
            "views": {str(k): int(v) for k, v in learnt["view"].value_counts().items()},
            "under_18": int((learnt["age"] < 18).sum()), "license": sorted(learnt["license"].unique())}


def is_finished(folder: Path) -> bool:
    "Whether a model of this recipe is there already"
    if not (folder / "settings.json").is_file():
        return False
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    return all(settings.get(key) == value for key, value in {**RECIPE, "augment": repr(AUGMENT)}.items())


def make(data: Path, folder: Path, work: Path) -> None:
    "Train the model, or go on with it, and write weights, settings, metrics and card"
    started, network = time.process_time(), backbone()
    films = {source: films_of(data, source) for source in SOURCES}
    nih = films["darkcovidnet"]
    sizes = nih.table["bytes"].to_numpy(int)
    usable = sizes <= sizes[nih.targets == 0].max()
    inputs = {source: inputs_of(source, some, network, work) for source, some in films.items()}
    copies = [inputs_of(f"copy-{k}", altered(nih, k), network, work) for k in range(RECIPE["copies"])]
    learnt = [inputs["darkcovidnet"], *copies]
    score = out_of_fold(network, learnt, nih, usable)
    careless = trap_rows(network, learnt, films, inputs)
    slope, offset = calibration(score[usable], nih.targets[usable])
    fit_on(network, learnt, nih.targets, usable)
    calibrate_head(network, slope, offset)
    network = network.half()
    outside = {source: scores(network.float(), inputs[source]) for source in SOURCES}
    rows = {"inside": inside_rows(slope * score + offset, nih, usable), "outside": outside_rows(outside, films),
            "probe": probe_rows(films, usable), "careless": careless}
    table = pd.concat([pd.DataFrame(some).assign(part=part) for part, some in rows.items()], ignore_index=True)
    trial = covid_trial(inputs, films)
    recall = float((outside["hannover"] > 0).mean())
    settings = {"name": NAME, "in_channels": 1, "classes": list(CLASSES), **RECIPE, "augment": repr(AUGMENT),
                "source": "NIH ChestX-ray14, DarkCovidNet's choice", "parameters": count_parameters(network),
                "calibration": [slope, offset], "learnt": facts(nih, usable), "covid_trial": trial,
                "hannover_called_abnormal": recall}
    inside = predictions(slope * score + offset, nih, usable)  # nobody's own head: out of fold
    settings |= {"temperature": 1.0, "operating_point": operating_point(inside, "pneumonia"),
                 "prediction_sets": prediction_sets(inside), "facts": training_facts(nih.select(usable), inside)}
    save_model(folder, network.half(), settings)
    table.to_csv(folder / "metrics.csv", index=False, float_format="%.4f")
    (folder / "README.md").write_text(card(settings, table), encoding="utf-8")
    print(f"{NAME}: {time.process_time() - started:.0f} s of CPU")


def as_rows(table: pd.DataFrame) -> str:
    "Rows of the card's tables"
    lines = ["| films | n (normal) | persons | AUROC | 95 % interval |", "|---|---|---|---|---|"]
    return "\n".join(lines + [f"| {r.films} | {r.n} ({r.normal}) | {r.persons} | {r.auroc:.3f} | "
                              f"{r.low:.3f} to {r.high:.3f} |" for r in table.itertuples()])


def card(settings: dict, table: pd.DataFrame) -> str:
    "The model card, made of what was measured"
    parts = {part: as_rows(table[table["part"] == part]) for part in ("inside", "outside", "probe", "careless")}
    learnt = settings["learnt"]
    return CARD.format(**settings, **{f"n_{key}": value for key, value in learnt.items()}, **parts,
                       views=", ".join(f"{n} {view}" for view, n in learnt["views"].items()),
                       kib=learnt["largest_bytes"] / 1024, trial_network=settings["covid_trial"]["network"],
                       trial_greys=settings["covid_trial"]["greys"], recall=settings["hannover_called_abnormal"],
                       all_files=table.loc[table["films"] == "file size, NIH, all files", "auroc"].item())
