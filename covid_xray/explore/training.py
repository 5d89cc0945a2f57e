"""Explorer of chapter 4: choose a learning rate and watch the loss, epoch by epoch, for five seeds.

Nothing is trained when the slider moves: the curves are those of `make sweeps` (tools/sweeps.py). In a notebook:
`from covid_xray.explore.training import panel; panel()`. Its text twin is `describe(learning_rate=1e-3)`.
"""

from __future__ import annotations

import io
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covid_xray.explore.parts import assemble, import_ipywidgets

if TYPE_CHECKING:
    from ipywidgets import HBox
    from matplotlib.axes import Axes

__all__ = ["LOSSES", "describe", "draw_curves", "load_curves", "panel", "plot_curves"]

LOSSES = {"training": "train_loss", "validation": "valid_loss"}
GUESSING = float(np.log(3))  # cross-entropy of giving each of three classes a third


def load_curves() -> pd.DataFrame:  # one row a rate, seed and epoch: learning_rate, seed, epoch, train_loss, valid_loss
    "The stored trainings, one curve a learning rate and seed"
    return pd.read_csv(str(resources.files("covid_xray") / "results" / "sweep_learning_rates.csv"))


def _chosen(curves: pd.DataFrame, learning_rate: float, loss: str) -> pd.DataFrame:
    "Epochs down, seeds across; raises ValueError for a rate that was not trained, or a loss that is none"
    if loss not in LOSSES:
        raise ValueError(f"loss={loss!r} is unknown: choose one of {', '.join(LOSSES)}")
    rows = curves[np.isclose(curves["learning_rate"], learning_rate, rtol=1e-6)]
    if rows.empty:
        rates = ", ".join(f"{rate:g}" for rate in sorted(curves["learning_rate"].unique()))
        raise ValueError(f"nothing was trained with a learning rate of {learning_rate:g}: choose one of {rates}")
    return rows.pivot(index="epoch", columns="seed", values=LOSSES[loss])


def describe(
    learning_rate: float = 1e-3,  # one of the stored rates
    loss: str = "validation",  # "training" or "validation"
    curves: pd.DataFrame | None = None,  # as from `load_curves`; None: the stored ones
) -> str:  # what the panel says
    "The explorer's text twin: the loss after each epoch, mean and range of the seeds. Raises ValueError"
    chosen = _chosen(load_curves() if curves is None else curves, learning_rate, loss)
    lines = [f"learning rate {learning_rate:g}, {loss} loss, {chosen.shape[1]} seeds"]
    lines += [f"epoch {epoch + 1}: mean {row.mean():.3f} ({row.min():.3f} to {row.max():.3f})"
              for epoch, row in chosen.iterrows()]
    return "\n".join([*lines, f"guessing a third each: {GUESSING:.3f}"])


def plot_curves(
    ax: Axes,  # where to draw
    learning_rate: float = 1e-3,  # one of the stored rates
    loss: str = "validation",  # "training" or "validation"
    curves: pd.DataFrame | None = None,  # as from `load_curves`; None: the stored ones
) -> Axes:  # the same
    "Loss against epochs: seeds as faint lines, their mean as a thick one, guessing dotted. Raises ValueError"
    chosen = _chosen(load_curves() if curves is None else curves, learning_rate, loss)
    epochs = chosen.index + 1
    ax.plot(epochs, chosen, color="grey", linewidth=0.8, linestyle="-", alpha=0.7)
    ax.plot(epochs, chosen.mean(axis=1), color="#0072B2", linewidth=2.5, linestyle="-", label="mean of the seeds")
    ax.axhline(GUESSING, color="black", linewidth=1, linestyle=":", label="guessing a third each")
    ax.set(xlabel="epoch", ylabel=f"{loss} loss (nats)", ylim=(0, 3), title=f"learning rate {learning_rate:g}")
    ax.legend(loc="lower left")
    return ax


def draw_curves(
    learning_rate: float = 1e-3,  # one of the stored rates
    loss: str = "validation",  # "training" or "validation"
    curves: pd.DataFrame | None = None,  # as from `load_curves`; None: the stored ones
) -> np.ndarray:  # uint8 [H, W, 3]
    "The picture of the panel; losses above 3 leave the frame"
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(6, 3.6), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    plot_curves(figure.subplots(), learning_rate, loss, curves)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))


def panel(
    learning_rate: float = 1e-3,  # where to start, one of the stored rates
    loss: str = "validation",  # "training" or "validation"
    curves: pd.DataFrame | None = None,  # as from `load_curves`; None: the stored ones
) -> HBox:  # the curves; beside them rate, choice of loss, and the numbers
    "Drag the learning rate. Raises ValueError, and ModuleNotFoundError naming the extra where ipywidgets is missing"
    widgets = import_ipywidgets()
    curves = load_curves() if curves is None else curves
    _chosen(curves, learning_rate, loss)
    rates = sorted(curves["learning_rate"].unique())
    start = min(rates, key=lambda rate: abs(np.log(rate / learning_rate)))
    controls = {
        "learning_rate": widgets.SelectionSlider(options=[(f"{rate:g}", rate) for rate in rates], value=start),
        "loss": widgets.Dropdown(options=list(LOSSES), value=loss),
    }
    return assemble(
        controls, lambda **at: (draw_curves(**at, curves=curves), describe(**at, curves=curves)), 540
    )
