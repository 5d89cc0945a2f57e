"""Explorer of chapter 8: choose how many patients there are to learn from, and see where each start gets.

Nothing is trained when the slider moves: the curves are those of `make sweeps` (tools/transfer.py). In a notebook:
`from covid_xray.explore.transfer import panel; panel()`. Its text twin is `describe(films="simulated", patients=30)`.
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

__all__ = ["FILMS", "describe", "draw_curves", "load_curves", "panel", "plot_curves"]

FILMS = {"simulated": ("curves", "auroc"), "real, same hospital": ("real", "inside"),
         "real, another hospital": ("real", "outside")}  # name -> stored table and its column
STYLES = {"photographs": ("#0072B2", "o-"), "random weights": ("#D55E00", "s--"), "phantoms": ("#009E73", "^:")}


def load_curves(
    films: str = "simulated",  # one of FILMS
) -> pd.DataFrame:  # one row a training: start, patients, seed, auroc
    "The stored trainings; raises ValueError for films that there are not"
    if films not in FILMS:
        raise ValueError(f"films={films!r} is unknown: choose one of {', '.join(FILMS)}")
    table, column = FILMS[films]
    rows = pd.read_csv(str(resources.files("covid_xray") / "results" / f"transfer_{table}.csv"))
    return rows.rename(columns={column: "auroc"})[["start", "patients", "seed", "auroc"]]


def _intervals(films: str) -> pd.DataFrame:  # index (start, patients): mean, low, high, runs
    "Mean of the draws and its 95 % interval by Student's t"
    from covid_xray.comparison import mean_with_interval

    groups = load_curves(films).groupby(["start", "patients"])["auroc"]
    return pd.DataFrame({key: (*mean_with_interval(rows), len(rows)) for key, rows in groups},
                        index=["mean", "low", "high", "runs"]).T


def _nearest(table: pd.DataFrame, patients: int) -> int:
    "The stored number of patients; raises ValueError where there is no such one"
    known = sorted({int(count) for _, count in table.index})
    if patients not in known:
        raise ValueError(f"nothing was trained with {patients} patients: choose one of {', '.join(map(str, known))}")
    return patients


def describe(
    films: str = "simulated",  # one of FILMS
    patients: int = 100,  # a stored number
) -> str:  # what the panel says
    "The explorer's text twin: AUROC of each start, mean and 95 % interval of the draws. Raises ValueError"
    table = _intervals(films)
    chosen = table.xs(_nearest(table, patients), level=1).sort_values("mean", ascending=False)
    lines = [f"{films} films, {patients} patients, {int(chosen['runs'].iloc[0])} draws"]
    lines += [f"{start}: AUROC {row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
              for start, row in chosen.iterrows()]
    if len(chosen) > 1:
        lines += [f"{chosen.index[0]} ahead by {chosen['mean'].iloc[0] - chosen['mean'].iloc[1]:.3f}"]
    return "\n".join(lines)


def plot_curves(
    ax: Axes,  # where to draw
    films: str = "simulated",  # one of FILMS
    patients: int = 100,  # a stored number, marked
) -> Axes:  # the same
    "AUROC against patients, one line a start with 95 % intervals, the chosen number marked. Raises ValueError"
    table = _intervals(films)
    ax.axvline(_nearest(table, patients), color="0.8", linewidth=6, zorder=0)
    for start, rows in table.groupby(level=0):
        rows, (colour, style) = rows.droplevel(0), STYLES[start]
        ends = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
        ax.errorbar(rows.index, rows["mean"], yerr=ends, fmt=style, color=colour, capsize=3, label=start)
    ax.axhline(0.5, color="black", linewidth=1, linestyle=":")
    counts = sorted({int(count) for _, count in table.index})
    ax.set(xscale="log", xticks=counts, xticklabels=counts, xlabel="patients learnt from", ylabel="AUROC",
           ylim=(0.2, 1), title=f"{films} films")
    ax.minorticks_off()
    ax.legend(loc="lower right")
    return ax


def draw_curves(
    films: str = "simulated",  # one of FILMS
    patients: int = 100,  # a stored number, marked
) -> np.ndarray:  # uint8 [H, W, 3]
    "The picture of the panel"
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(6, 3.6), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    plot_curves(figure.subplots(), films, patients)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))


def panel(
    films: str = "simulated",  # one of FILMS
    patients: int = 100,  # where to start
) -> HBox:  # the curves; beside them the number of patients, the choice of films, and the numbers
    "Slide the patients. Raises ValueError, and ModuleNotFoundError naming the extra where ipywidgets is missing"
    widgets = import_ipywidgets()
    describe(films, patients)
    counts = {name: sorted({int(count) for count in load_curves(name)["patients"]}) for name in FILMS}
    every = sorted(set().union(*counts.values()))

    def draw(patients: int, films: str) -> tuple[np.ndarray, str]:
        nearest = min(counts[films], key=lambda count: abs(np.log(count / patients)))
        return draw_curves(films, nearest), describe(films, nearest)

    controls = {"patients": widgets.SelectionSlider(options=every, value=patients),
                "films": widgets.Dropdown(options=list(FILMS), value=films)}
    return assemble(controls, draw, 540)
