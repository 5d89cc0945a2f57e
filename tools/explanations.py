"""What chapter 6 says about explanations, measured over seeds and on real films (`make explanations`).

    python tools/explanations.py [--only checks|real] [--data FOLDER] [--networks lite0 residual]

`checks` needs nothing: the sanity checks of 06d on simulated films, five seeds (of films, weights and shuffled labels),
into covid_xray/results/explanations_checks.csv. `real` needs FOLDER (darkcovidnet, cohen): heatmaps against the NIH's
boxes and the Cohen set's lung masks, into explanations_real.csv; see explanations_real.py. No radiograph and no map
leaves FOLDER.
"""
from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from covid_xray import phantom  # noqa: E402
from covid_xray.cnn import ResidualCNN  # noqa: E402
from covid_xray.data import Radiographs  # noqa: E402
from covid_xray.gradcam import explain  # noqa: E402
from covid_xray.hooks import as_before  # noqa: E402
from covid_xray.models import load_model  # noqa: E402
from covid_xray.phantom_patients import VERSION  # noqa: E402
from covid_xray.sanity import map_likeness, perturbation_curve, randomised_layers, road_curve  # noqa: E402
from covid_xray.scoring import energy_share, enrichment, floor_maps, pointing_game  # noqa: E402
from covid_xray.training import fit  # noqa: E402

RESULTS = ROOT / "covid_xray" / "results"
SEEDS = range(5)
SICK = {"size_px": 64, "severity": (0.6, 0.95)}


def quietly(network: torch.nn.Module, images: torch.Tensor, targets: list[int] | int, **options: object) -> np.ndarray:
    "Maps of broken networks too: an empty one is an answer here"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return explain(network, images, targets, **options).maps


def as_input(films: phantom.Phantoms) -> torch.Tensor:
    return torch.from_numpy(films.images[:, None] / np.float32(255))


def small_network(shuffled: bool, seed: int) -> torch.nn.Module:
    "Chapter 6d's network for pneumonia, on right or on shuffled labels"
    source = phantom.simulate(300, seed=5, prevalence={"pneumonia": 0.5, "normal": 0.5}, **SICK)
    labels = source.table["label"].to_numpy()
    if shuffled:
        labels = np.random.default_rng(seed).permutation(labels)
    table = source.table.assign(label=pd.array(labels, dtype="string"))
    data = Radiographs.from_arrays(source.images, table, classes=("normal", "pneumonia"))
    torch.manual_seed(seed)
    network = ResidualCNN(1, 2, widths=(16, 32, 48))
    fit(network, data.select(np.arange(240)), data.select(np.arange(240, 300)), epochs=12, learning_rate=3e-3,
        seed=seed, progress=False)
    return network


def removals(seed: int) -> dict[str, float]:
    "How far Grad-CAM's order is from the random one, by deletion, insertion and ROAD"
    network, settings = load_model("phantom")
    films = phantom.simulate(40, size_px=settings["size_px"], seed=77 + seed,
                             prevalence={"covid": 0.5, "pneumonia": 0.5}, clutter=0)
    images, targets = as_input(films), torch.from_numpy(films.targets)
    maps = explain(network, images, films.targets.tolist()).maps
    noise = np.random.default_rng(seed).random(maps.shape).astype(np.float32)
    areas = {}
    for name, order in {"map": maps, "random": noise}.items():
        for kind in ("deletion", "insertion"):
            areas[kind, name] = perturbation_curve(network, images, order, targets, kind=kind, steps=10).mean()
        areas["ROAD", name] = road_curve(network, images[:24], order[:24], targets[:24], shares=(0.1, 0.3, 0.5, 0.8),
                                         seed=seed).mean()
    signs = {"deletion": -1, "insertion": 1, "ROAD": -1}
    return {f"{kind}: better than random order by": sign * (areas[kind, "map"] - areas[kind, "random"])
            for kind, sign in signs.items()}


def repeats(seed: int) -> dict[str, float]:
    "Likeness of Grad-CAM after small changes of the film, and after the last layer alone was made random"
    network, settings = load_model("phantom")
    films = phantom.simulate(24, size_px=settings["size_px"], seed=177 + seed,
                             prevalence={"covid": 0.5, "pneumonia": 0.5}, clutter=0)
    images, targets = as_input(films), films.targets.tolist()
    before = quietly(network, images, targets)
    grain = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed)) / 255
    moved = np.roll(quietly(network, torch.roll(images, 2, dims=3), targets), -2, axis=2)
    after = {"one grey level of noise": quietly(network, images + grain, targets), "shifted by two pixels": moved,
             "another film's map": np.roll(before, 1, axis=0),
             "last layer random": quietly(next(randomised_layers(network, seed))[1], images, targets)}
    return {f"likeness: {name}": np.nanmean(map_likeness(before, maps)) for name, maps in after.items()}


def twin(seed: int) -> dict[str, float]:
    "Where the marker reader's maps lie, at two layers, and what the honest network's maps have in the lungs"
    same = {"size_px": 128, "seed": 78 + 100 * seed, "prevalence": {"covid": 1.0}}
    films = phantom.simulate(80, shortcuts={"marker": 1.0}, **same)
    images, reader = as_input(films), load_model("phantom-marker")[0]
    found = {"honest: share in the lungs": np.nanmean(
        energy_share(quietly(load_model("phantom")[0], images, 0), films.masks["lungs"]))}
    for layer, method in (("features", "gradcam"), ("features.2", "hirescam")):
        maps = quietly(reader, images, 0, layer=layer, method=method)
        for place in ("marker", "lesions"):
            found[f"marker reader, {layer}: share on the {place}"] = np.nanmean(energy_share(maps, films.masks[place]))
            found[f"marker reader, {layer}: enrichment on the {place}"] = np.nanmean(
                enrichment(maps, films.masks[place]))
    plain = phantom.simulate(80, **same)
    for name in ("phantom", "phantom-marker"):
        with as_before(load_model(name)[0]) as network:
            fall = network(images).softmax(1)[:, 0] - network(as_input(plain)).softmax(1)[:, 0]
        found[f"{name}: fall without the marker"] = float(fall.abs().mean() if name == "phantom" else fall.mean())
    return found


def labels(seed: int, kept: dict[int, np.ndarray]) -> dict[str, float]:
    "Pointing of networks that learnt from right and from shuffled labels; likeness to the next seed's maps"
    sick = phantom.simulate(120, seed=6, prevalence={"pneumonia": 1.0}, **SICK)
    images, lesions = as_input(sick), sick.masks["lesions"]
    for number in (seed, seed + 1):
        if number not in kept:
            kept[number] = quietly(small_network(False, number), images, 1)
    shuffled = quietly(small_network(True, seed), images, 1)
    best = floor_maps(lesions)["best constant pixel"]
    return {"right labels: pointing": pointing_game(kept[seed], lesions).mean(),
            "shuffled labels: pointing": pointing_game(shuffled, lesions).mean(),
            "best constant pixel: pointing": pointing_game(best, lesions).mean(),
            "two trainings, same film": np.nanmean(map_likeness(kept[seed], kept[seed + 1])),
            "two trainings, two films": np.nanmean(map_likeness(kept[seed], np.roll(kept[seed + 1], 1, axis=0)))}


def checks() -> None:
    "Every check of 06d, one row a seed and quantity"
    rows, kept = [], {}
    for seed in SEEDS:
        for check in (twin, repeats, removals, lambda number: labels(number, kept)):
            start = time.process_time()
            found = check(seed)
            seconds = round(time.process_time() - start, 1)
            rows += [(VERSION, seed, what, value, seconds) for what, value in found.items()]
        print(f"seed {seed} done", flush=True)
    table = pd.DataFrame(rows, columns=["version", "seed", "what", "value", "cpu_seconds"])
    table.to_csv(RESULTS / "explanations_checks.csv", index=False, float_format="%.4f")


def main() -> None:
    parser = argparse.ArgumentParser(description="What chapter 6 says about explanations")
    parser.add_argument("--only", choices=("checks", "real"), help="one half only")
    parser.add_argument("--data", type=Path, help="folder with darkcovidnet/ and cohen/, for the half on real films")
    parser.add_argument("--networks", nargs="+", default=["lite0"], choices=("lite0", "residual"),
                        help="networks for real films; a network's rows replace its former ones")
    options = parser.parse_args()
    if options.only == "real" and not options.data:
        parser.error("real films are needed: name their folder with --data")
    if options.only != "real":
        checks()
    if options.only != "checks" and options.data:
        from explanations_real import real
        found, path = real(options.data, options.networks), RESULTS / "explanations_real.csv"
        if path.is_file():
            before = pd.read_csv(path)
            found = pd.concat([before[~before["network"].isin(options.networks)], found], ignore_index=True)
        found.to_csv(path, index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
