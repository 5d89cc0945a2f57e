"""How real is the phantom? Measures it against real radiographs and writes covid_xray/results/phantom_realism.csv.

    COVID_XRAY_DATA=<folder with manifest.csv> python tools/phantom_realism.py [--films 800] [--epochs 12] [--seeds 3]

1. Distances between phantoms and real films without a finding: brightness (lung, mediastinum, abdomen, corners),
   gradients, and the power spectrum in octaves.
2. Transfer: a small network trained on phantoms only reads real films (normal against pneumonia, normal against
   COVID-19), and the reverse. AUROC with 95 % intervals from 1,000 bootstraps over patients. Chance is 0.5.
   Half of the real patients, the tuning half, may be looked at while the simulator is changed; the other half is
   held out, and the figure to quote is the one on it. The split is by patient and fixed.
No real film, nor a picture of one, is written anywhere.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from covid_xray import phantom  # noqa: E402

SIZE_PX = 64
RESULTS = Path(__file__).parents[1] / "covid_xray" / "results" / "phantom_realism.csv"


def real_films(folder: Path) -> tuple[np.ndarray, pd.DataFrame]:
    "DarkCovidNet's adult films at the working size, and their rows"
    table = pd.read_csv(folder / "manifest.csv")
    table = table[(table["source"] == "darkcovidnet") & ~(table["age"] < 18)].reset_index(drop=True)
    images = [
        np.array(Image.open(folder / f).convert("L").resize((SIZE_PX, SIZE_PX), Image.LANCZOS)) for f in table["file"]
    ]
    return np.stack(images), table


def phantom_films(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    "Phantoms of both hospitals, with clutter on films of any label"
    parts = [
        phantom.simulate(n // 2, size_px=SIZE_PX, seed=seed + k, hospital=hospital, clutter=0.2, follow_up=0.0)
        for k, hospital in enumerate(phantom.HOSPITALS)
    ]
    return np.concatenate([p.images for p in parts]), np.concatenate([p.table["label"].to_numpy() for p in parts])


def brightness(images: np.ndarray) -> dict[str, float]:
    "Mean grey value of places that hold the same organ on nearly every film"
    s = SIZE_PX
    boxes = {
        "lungs": (0.3, 0.55, 0.22, 0.36),
        "upper mediastinum": (0.15, 0.45, 0.47, 0.53),
        "abdomen": (0.88, 1.0, 0.3, 0.7),
        "lower corner": (0.8, 1.0, 0.0, 0.08),
        "shoulder": (0.08, 0.2, 0.06, 0.2),
    }
    return {
        name: float(images[:, int(a * s) : int(b * s), int(c * s) : int(d * s)].mean())
        for name, (a, b, c, d) in boxes.items()
    }


def gradients(images: np.ndarray) -> dict[str, float]:
    "Quantiles of the gradient's size, grey levels a pixel"
    down, across = np.gradient(images.astype(np.float32), axis=(1, 2))
    q = np.quantile(np.hypot(down, across), [0.5, 0.9, 0.99])
    return {f"gradient {name}": float(v) for name, v in zip(("median", "90 %", "99 %"), q)}


def spectrum(images: np.ndarray) -> dict[str, float]:
    "log10 of the mean power in octaves of cycles a film"
    x = images.astype(np.float32) - images.mean((1, 2), keepdims=True)
    window = np.hanning(SIZE_PX)
    power = np.abs(np.fft.fft2(x * window[:, None] * window)) ** 2
    f = np.fft.fftfreq(SIZE_PX) * SIZE_PX
    radius = np.hypot(f[:, None], f[None, :])
    bands = {f"power {a}-{2 * a} cycles": (radius >= a) & (radius < 2 * a) for a in (1, 2, 4, 8, 16, 32)}
    return {name: float(np.log10(power[:, band].mean())) for name, band in bands.items()}


def even_out(images: np.ndarray) -> torch.Tensor:
    "Rank grey values within each film, so that no network can live on the processing curve alone"
    flat = images.reshape(len(images), -1)
    ranks = np.empty_like(flat, dtype=np.float32)
    for k, film in enumerate(flat):
        cumulative = np.cumsum(np.bincount(film, minlength=256))
        ranks[k] = (cumulative / cumulative[-1])[film]
    return torch.tensor(ranks.reshape(-1, 1, SIZE_PX, SIZE_PX) * 2 - 1)


def train(x: torch.Tensor, y: np.ndarray, epochs: int, seed: int) -> nn.Module:
    "A small network: four convolution blocks, random shift and scale of position and contrast"
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for i, o in ((1, 16), (16, 32), (32, 64), (64, 96)):
        layers += [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(96, 2))
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.02)
    steps = -(-len(x) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps * epochs)
    targets = torch.tensor(y)
    weight = torch.tensor([1 / max((y == c).sum(), 1) for c in (0, 1)], dtype=torch.float32)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(32):
            scale = 1 + 0.12 * torch.randn(len(rows), 2)
            zero = torch.zeros(len(rows))
            move = torch.stack(
                [
                    torch.stack([scale[:, 0], zero, 0.08 * torch.randn(len(rows))], 1),
                    torch.stack([zero, scale[:, 1], 0.08 * torch.randn(len(rows))], 1),
                ],
                1,
            )
            grid = nn.functional.affine_grid(move, (len(rows), 1, SIZE_PX, SIZE_PX), align_corners=False)
            xb = nn.functional.grid_sample(x[rows], grid, align_corners=False, padding_mode="border")
            xb = xb + 0.1 * torch.randn(len(rows), 1, 1, 1) + 0.08 * torch.randn_like(xb)
            loss = nn.functional.cross_entropy(net(xb), targets[rows], weight=weight)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return net.eval()


def score(net: nn.Module, x: torch.Tensor) -> np.ndarray:
    "Probability of disease for each film"
    with torch.no_grad():
        return torch.cat([net(xb).softmax(1)[:, 1] for xb in x.split(64)]).numpy()


def auroc(y: np.ndarray, p: np.ndarray, people: np.ndarray) -> tuple[float, float, float]:
    "AUROC with its 95 % interval over people"
    rng = np.random.default_rng(0)
    groups = list(pd.Series(np.arange(len(y))).groupby(people).indices.values())
    draws = []
    for _ in range(1000):
        rows = np.concatenate([groups[k] for k in rng.integers(0, len(groups), len(groups))])
        if 0 < y[rows].sum() < len(rows):
            draws.append(roc_auc_score(y[rows], p[rows]))
    return (float(roc_auc_score(y, p)), *np.quantile(draws, [0.025, 0.975]).tolist())


def in_tuning_half(people: pd.Series) -> np.ndarray:
    "Whether each film's patient is in the half that the simulator was tuned on"
    everyone = np.array(sorted(people.unique()))
    np.random.default_rng(0).shuffle(everyone)
    return people.isin(everyone[: len(everyone) // 2]).to_numpy()


def mean_score(x: torch.Tensor, y: np.ndarray, unseen: torch.Tensor, options: argparse.Namespace) -> np.ndarray:
    "Probability of disease for each unseen film, mean over trainings"
    return np.mean([score(train(x, y, options.epochs, seed), unseen) for seed in range(options.seeds)], 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=800)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--no-write", action="store_true", help="only print")
    options = parser.parse_args()
    if "COVID_XRAY_DATA" not in os.environ:
        sys.exit("Set COVID_XRAY_DATA to the folder that holds manifest.csv and darkcovidnet/.")
    real, table = real_films(Path(os.environ["COVID_XRAY_DATA"]))
    fake, labels = phantom_films(options.films, 1000)
    rows = []
    pair = real[(table["label"] == "normal").to_numpy()], fake[labels == "normal"]
    for measure in (brightness, gradients, spectrum):
        of_real, of_fake = measure(pair[0]), measure(pair[1])
        rows += [{"measure": name, "real": of_real[name], "phantom": of_fake[name]} for name in of_real]
    x_real, x_fake = even_out(real), even_out(fake)
    for disease in ("pneumonia", "covid"):
        keep_real, keep_fake = np.array(table["label"].isin(["normal", disease])), np.isin(labels, ["normal", disease])
        y_real, y_fake = (
            (table["label"] == disease).to_numpy()[keep_real].astype(np.int64, copy=True),
            (labels == disease)[keep_fake].astype(np.int64),
        )
        people, tuning = table["person_id"].to_numpy()[keep_real], in_tuning_half(table["person_id"])[keep_real]
        forth = mean_score(x_fake[keep_fake], y_fake, x_real[keep_real], options)
        back = mean_score(x_real[keep_real], y_real, x_fake[keep_fake], options)
        for way, y, p, who in (
            ("phantom to real (tuning half)", y_real[tuning], forth[tuning], people[tuning]),
            ("phantom to real (held-out half)", y_real[~tuning], forth[~tuning], people[~tuning]),
            ("real to phantom", y_fake, back, np.arange(len(y_fake))),
        ):
            value, low, high = auroc(y, p, who)
            name = f"AUROC {way}, normal against {disease}"
            rows.append({"measure": name, "value": value, "low": low, "high": high, "films": len(y),
                         "phantoms": options.films, "trainings": options.seeds})
            print(rows[-1], flush=True)
    result = pd.DataFrame(rows).round(4).assign(version=phantom.VERSION)
    print(result.to_string())
    if not options.no_write:
        RESULTS.parent.mkdir(exist_ok=True)
        pd.concat([result, earlier_runs(options.films)]).to_csv(RESULTS, index=False)


def earlier_runs(films: int) -> pd.DataFrame:
    "Transfer rows of this simulator version with another number of phantoms: kept, so that no run is picked"
    if not RESULTS.is_file():
        return pd.DataFrame()
    old = pd.read_csv(RESULTS, dtype={"version": str})
    return old[(old["version"] == phantom.VERSION) & old["value"].notna() & (old["phantoms"] != films)]


if __name__ == "__main__":
    main()
