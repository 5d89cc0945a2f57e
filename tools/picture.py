"""Draw the picture of the home page and README, nbs/images/two_networks.png: one simulated film, two networks.

    python tools/picture.py [--out FILE]

Both networks ship with the course. Each stands with the heatmap of its answer, beside what is known about the film.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import torch
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from covid_xray import phantom  # noqa: E402
from covid_xray.gradcam import explain, overlay  # noqa: E402
from covid_xray.models import load_model  # noqa: E402

SHOWN_PX, PATIENT = 384, 35  # a patient with disease in both lungs, which both networks call COVID-19
TITLES = ("a simulated film", "what is known:\ndisease (dashed), side marker (dotted)",
          "a network trained honestly\nsays COVID-19: {0:.0%}",
          "its twin, trained where every\nCOVID-19 film had a marker: {1:.0%}")


def draw(path: Path) -> None:
    film = phantom.simulate(PATIENT + 1, seed=11, prevalence={"covid": 1.0}, shortcuts={"marker": 1.0}, severity=0.8)
    where = [film.table["path"].iloc[PATIENT]]
    image, known = phantom.render(where, SHOWN_PX)[0], phantom.masks(where, SHOWN_PX)
    seen = torch.from_numpy(film.images[[PATIENT]]).unsqueeze(1).float() / 255
    maps, sure = [], []
    for name in ("phantom", "phantom-marker"):
        network, settings = load_model(name)
        maps.append(F.interpolate(torch.from_numpy(explain(network, seen, 0).maps)[None], SHOWN_PX, mode="bilinear"))
        with torch.inference_mode():
            sure.append(network(seen).softmax(1)[0, settings["classes"].index("covid")].item())
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.5))
    axes[0].imshow(image)
    axes[1].imshow(image)
    axes[1].contour(known["lesions"][0], [0.5], colors="#56B4E9", linestyles="--")
    axes[1].contour(known["marker"][0], [0.5], colors="#E69F00", linestyles=":")
    for ax, heatmap in zip(axes[2:], maps):
        overlay(image, heatmap[0, 0].numpy(), ax)
    for ax, title in zip(axes, TITLES):
        ax.set(xticks=[], yticks=[], title=title.format(*sure))
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description="The picture of the home page")
    parser.add_argument("--out", type=Path, default=ROOT / "nbs/images/two_networks.png")
    plt.style.use("covid_xray.course")
    draw(parser.parse_args().out)


if __name__ == "__main__":
    main()
