"""Films from a hospital never seen: a ladder of training recipes, judged by leaving archives of origin out.

    python tools/outside.py --data FOLDER

Every rung is one linear layer on a frozen network (tools/backbone.py) that tells abnormal films (COVID-19 or another
pneumonia) from normal ones. What changes from rung to rung is which films it learns from and what it is allowed to
compare. Whoever stands in the tested archives, or in a
duplicate group with one of its films, is not learnt from.

outside_scores.csv  what each rung says of each film of each left-out part (log odds, higher is more abnormal)
outside.csv         AUROC with 95 % intervals over persons, and the paired gain over the first rung
outside_networks.csv  networks trained on the same films the usual way (tools/results.py), beside the last rung
"""
from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import backbone
import numpy as np
import pandas as pd
from results import COHEN_AND_HANNOVER, RESULTS, equal_size, joined_table, kept_rows, once_each
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from covid_xray.intervals import draw_weights, weighted_areas
from covid_xray.metrics import auroc
from covid_xray.splits import patient_groups

STRENGTH, RESAMPLES, LARGEST_WEIGHT = 0.003, 2000, 5.0
FREE = 10.0  # scale of the columns that say which source a film is from: large, so that their weights cost nothing


@dataclass(frozen=True)
class Rung:
    "A recipe: which layer is read, which films are learnt from, and what is compared with what"
    layer: str  # of `backbone.LAYERS`
    within_sources: bool = False  # a film is compared with films of its own source only, view and age balanced
    equal_size: bool = False  # NIH films whose file size tells the label are left out
    prepare: str = "standardise"  # of `backbone.PREPARATIONS`


LADDER = {
    "everything together": Rung("last"),
    "within sources": Rung("last", within_sources=True),
    "and equal file size": Rung("last", within_sources=True, equal_size=True),
    "and a middle layer": Rung("middle", within_sources=True, equal_size=True),
    # beside the ladder: the last step without the others, and two usual mends on top
    "middle layer, everything together": Rung("middle"),
    "last rung and lung crop": Rung("middle", within_sources=True, equal_size=True, prepare="lung crop"),
    "last rung and equal greys": Rung("middle", within_sources=True, equal_size=True, prepare="equal greys"),
}
LEFT_OUT = {"Cohen and Hannover": ("cohen", "hannover"), "Cohen": ("cohen",), "Hannover": ("hannover",),
            "raikokte": ("raikokte",), "NIH": ("nih",)}
LAST = "and a middle layer"
NETWORKS = ("residual-128", "darkcovidnet-128")
QUESTIONS = {"covid against normal": ("covid",), "abnormal against normal": ("covid", "pneumonia")}


def independent(label: np.ndarray, strata: np.ndarray) -> np.ndarray:
    "Weights under which label and stratum are independent (Kamiran and Calders 2012, section 5.3), and labels balanced"
    frame = pd.DataFrame({"label": label, "stratum": strata})
    size = frame.groupby("stratum")["label"].transform("size") * frame.groupby("label")["label"].transform("size")
    wanted = size / len(frame) / frame.groupby(["stratum", "label"])["label"].transform("size")
    share = np.where(label, label.mean(), 1 - label.mean())
    return wanted.clip(upper=LARGEST_WEIGHT).to_numpy() / share / 2


def strata(table: pd.DataFrame) -> np.ndarray:
    "View and age band of each film: what goes with the label by accident"
    view = table["view"].astype("string").fillna("unknown").str[:2]
    age = table["age"].astype("Float64").astype(float)
    band = pd.cut(age, [0, 18, 50, 130], right=False, labels=["child", "younger", "older"]).astype("string")
    return (view + " " + band.fillna("unknown")).to_numpy(dtype=str)


def weigh(table: pd.DataFrame, abnormal: np.ndarray) -> np.ndarray:
    "Within each source independent of view and age; a source counts by its rarer label"
    weights = np.zeros(len(table))
    for name in table["archive"].unique():
        own = (table["archive"] == name).to_numpy(dtype=bool)
        rarer = min(abnormal[own].sum(), (~abnormal[own]).sum())
        weights[own] = independent(abnormal[own], strata(table[own])) * 2 * rarer / own.sum()
    return weights


def fit(rung: Rung, seen: np.ndarray, table: pd.DataFrame) -> tuple[StandardScaler, np.ndarray]:
    "Scaling and weights of one linear layer; a free intercept a source takes up what sources differ by"
    abnormal = (table["label"] != "normal").to_numpy(dtype=bool)
    scale = StandardScaler().fit(seen)
    x = 10 * scale.transform(seen) / np.sqrt(seen.shape[1])
    archive = table["archive"].to_numpy(dtype=str) if rung.within_sources else np.full(len(table), "all")
    own = FREE * (archive[:, None] == np.unique(archive))
    weights = weigh(table, abnormal) if rung.within_sources else np.ones(len(table))
    linear = LogisticRegression(C=STRENGTH, max_iter=1000, fit_intercept=False)
    linear.fit(np.c_[x, own], abnormal, sample_weight=weights)
    return scale, 10 * linear.coef_[0, :seen.shape[1]] / np.sqrt(seen.shape[1])


def learnt_from(table: pd.DataFrame, test: np.ndarray, rung: Rung) -> np.ndarray:
    "Rows a rung may learn from when the test rows are left out"
    groups = patient_groups(table)
    learn = ~np.isin(groups, groups[test])
    if rung.equal_size:
        learn &= equal_size(table)
    if rung.within_sources:  # a source with one label has nothing to compare
        labels = (table["label"] != "normal")[learn].groupby(table["archive"][learn]).nunique()
        learn &= table["archive"].map(labels).fillna(0).to_numpy() == 2
    return learn


def scores(table: pd.DataFrame, features: dict[tuple[str, str], np.ndarray]) -> pd.DataFrame:
    "What every rung says of every film that it has not learnt from, one row a film and left-out part"
    rows = []
    for left_out, archives in LEFT_OUT.items():
        test = table["archive"].isin(archives).to_numpy(dtype=bool)
        said = table.loc[test, ["archive", "source", "sha256", "label"]].assign(left_out=left_out)
        for name, rung in LADDER.items():
            learn = learnt_from(table, test, rung)
            if table["label"][learn].eq("normal").any():
                seen = features[rung.prepare, rung.layer]
                scale, weights = fit(rung, seen[learn], table[learn])
                said[name] = (scale.transform(seen[test]) @ weights).round(4)
                said[f"films behind: {name}"] = int(learn.sum())
        rows.append(said)
    return pd.concat(rows, ignore_index=True)


def judged(said: pd.DataFrame, person: np.ndarray) -> list[dict[str, object]]:
    "AUROC of each rung on some films, and its gain over the first rung on the same resamples of persons"
    rows, (first, *_) = [], LADDER
    positive, number = (said["label"] != "normal").to_numpy(dtype=bool), pd.factorize(person)[0]
    weights = draw_weights(number.max() + 1, RESAMPLES, np.random.default_rng(0))
    spread = {name: weighted_areas(positive, said[name].to_numpy(), number, weights)[0] for name in LADDER}
    for name in LADDER:
        low, high, gain_low, gain_high = np.nanquantile([spread[name], spread[name] - spread[first]],
                                                        [0.025, 0.975], axis=1).T.ravel()
        area = auroc(positive, said[name].to_numpy())
        rows.append({"recipe": name, "auroc": area, "low": low, "high": high,
                     "gain": area - auroc(positive, said[first].to_numpy()), "gain_low": gain_low,
                     "gain_high": gain_high, "abnormal": int(positive.sum()), "normal": int((~positive).sum()),
                     "abnormal_persons": len(set(number[positive])), "normal_persons": len(set(number[~positive])),
                     "films_behind": int(said[f"films behind: {name}"].iloc[0])})
    return rows


def summary(said: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    "Every question to every left-out part; NIH also on films of equal size"
    about = said.merge(table.assign(group=patient_groups(table)), on=["source", "sha256"], suffixes=("", "_"))
    rows = []
    for left_out in LEFT_OUT:
        for question, labels in QUESTIONS.items():
            asked = (about["left_out"] == left_out) & about["label"].isin([*labels, "normal"])
            parts = {"all films": asked.to_numpy(dtype=bool)}
            if left_out == "NIH":
                parts["files of equal size"] = parts["all films"] & equal_size(about)
            for part, chosen in parts.items():
                some = about[chosen]
                if some["label"].nunique() > 1:
                    rows += [{"left_out": left_out, "question": question, "part": part} | row
                             for row in judged(some, some["group"].to_numpy())]
    return pd.DataFrame(rows)


def said_by_network(model: str, left_out: str) -> pd.DataFrame | None:
    "How much more abnormal than normal a network of three classes calls each film of a left-out part (log odds)"
    both = left_out == "Cohen and Hannover"
    rows = kept_rows("two archives left out" if both else "an archive left out", model)
    rows = None if rows is None else rows[rows["fold"] == (COHEN_AND_HANNOVER if both else left_out.lower())]
    if rows is None or rows.empty:
        return None
    normal = rows["p_normal"].clip(1e-6, 1 - 1e-6)
    return rows[["source", "sha256"]].assign(network=np.log((1 - normal) / normal))


def beside_networks(said: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    "AUROC of networks trained the usual way, and how far the last rung is above each on the same persons"
    about, rows = said.merge(table.assign(group=patient_groups(table)), on=["source", "sha256"], suffixes=("", "_")), []
    for left_out in LEFT_OUT:
        for question, labels in QUESTIONS.items():
            asked = about[(about["left_out"] == left_out) & about["label"].isin([*labels, "normal"])]
            for model in NETWORKS:
                network = said_by_network(model, left_out)
                if network is None or asked["label"].nunique() < 2:
                    continue
                films = asked.merge(network, on=["source", "sha256"], validate="one_to_one")
                assert len(films) == len(asked), "the network has seen other films"
                parts = {"all films": np.ones(len(films), bool)}
                if left_out == "NIH":
                    parts["files of equal size"] = equal_size(films)
                rows += [{"left_out": left_out, "question": question, "part": part, "model": model}
                         | compared(films[chosen]) for part, chosen in parts.items()]
    return pd.DataFrame(rows)


def compared(films: pd.DataFrame) -> dict[str, float]:
    "AUROC of a network and the paired gain of the last rung over it, with 95 % intervals over persons"
    positive, number = (films["label"] != "normal").to_numpy(dtype=bool), pd.factorize(films["group"])[0]
    weights = draw_weights(number.max() + 1, RESAMPLES, np.random.default_rng(0))
    network, last = films["network"].to_numpy(), films[LAST].to_numpy()
    spread = [weighted_areas(positive, said, number, weights)[0] for said in (network, last)]
    ends = np.nanquantile([spread[0], spread[1] - spread[0]], [0.025, 0.975], axis=1).T
    areas = [auroc(positive, said) for said in (network, last)]
    return {"auroc": areas[0], "low": ends[0][0], "high": ends[0][1], "last_rung": areas[1],
            "gain": areas[1] - areas[0], "gain_low": ends[1][0], "gain_high": ends[1][1],
            "abnormal_persons": films["group"][positive].nunique(),
            "normal_persons": films["group"][~positive].nunique()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Recipes for films of an unseen hospital", allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder a source")
    table = joined_table(parser.parse_args().data)
    rows = once_each(table)["row"].to_numpy()
    features = {(prepare, layer): seen[rows] for prepare in {rung.prepare for rung in LADDER.values()}
                for layer, seen in backbone.frozen_features(table, prepare).items()}
    table = table.iloc[rows].reset_index(drop=True)
    said = scores(table, features)
    found = summary(said, table)
    beside_networks(said, table).to_csv(RESULTS / "outside_networks.csv", index=False, float_format="%.4f")
    said["sha256"] = said["sha256"].str[:16]
    said.drop(columns=[c for c in said if c.startswith("films behind")]).to_csv(
        RESULTS / "outside_scores.csv", index=False)
    found.to_csv(RESULTS / "outside.csv", index=False, float_format="%.4f")
    print(found[["left_out", "question", "part", "recipe", "auroc", "low", "high", "gain", "gain_low", "gain_high"]]
          .round(3).to_string(index=False))


if __name__ == "__main__":
    main()
