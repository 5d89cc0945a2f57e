"""Explorer of chapter 7: choose a pitfall, a model and a strength, and see what the leak is worth.

In a notebook: `from covid_xray.explore.pitfalls import panel; panel()`. Its text twin is
`describe("marker", "network", 1.0)`. It reads stored results, so it answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covid_xray.explore.parts import assemble, import_ipywidgets
from covid_xray.pitfalls import difference, read_results

if TYPE_CHECKING:
    from ipywidgets import HBox
    from matplotlib.axes import Axes

__all__ = ["describe", "find_rows", "panel", "plot_bars"]

SIDES = {"leaked": "0.45", "honest": "0.8"}  # name -> grey of its bar


def find_rows(
    pitfall: str,  # a name in the results
    model: str,  # a model it was measured with
    strength: float,  # a strength it was measured at
    results: pd.DataFrame | None = None,  # as of `read_results`; None takes the shipped ones
) -> pd.DataFrame:  # one row a seed
    "Find one experiment among the stored results. Raises ValueError naming what there is"
    rows = read_results() if results is None else results
    for column, value in {"pitfall": pitfall, "model": model, "strength": strength}.items():
        known = [str(one) for one in rows[column].unique()]
        rows = rows[rows[column] == value]
        if rows.empty:
            raise ValueError(f"no result with {column} {value}: there are {', '.join(known)}")
    return rows.sort_values("seed")


def describe(
    pitfall: str = "marker",  # a name in the results
    model: str = "network",  # a model it was measured with
    strength: float = 1.0,  # a strength it was measured at
    results: pd.DataFrame | None = None,  # see `find_rows`
) -> str:  # what the panel says
    "The explorer's text twin: both accuracies, their difference with its interval, and whether that excludes nothing"
    return _words(find_rows(pitfall, model, strength, results))


def _words(rows: pd.DataFrame) -> str:
    "The numbers under the picture"
    found, first = difference(rows), rows.iloc[0]
    if np.isnan(found["low"]):
        verdict = "one seed says nothing about the spread"
    elif found["low"] > 0:
        verdict = "the leak makes the number too good"
    elif found["high"] < 0:
        verdict = "the leaked number is the lower one"
    else:
        verdict = "no effect is shown: the interval holds 0"
    points = {name: f"{100 * found[name]:.1f}" for name in ("leaked", "honest", "difference", "low", "high")}
    return "\n".join([f"{first['pitfall']}, {first['model']}, strength {first['strength']:g}",
                      f"leaked {points['leaked']} %, honest {points['honest']} %, mean of {found['seeds']:.0f} seeds",
                      f"difference {points['difference']} points ({points['low']} to {points['high']})", verdict])


def plot_bars(
    ax: Axes,  # where to draw
    pitfall: str = "marker",  # a name in the results
    model: str = "network",  # a model it was measured with
    strength: float = 1.0,  # a strength it was measured at
    results: pd.DataFrame | None = None,  # see `find_rows`
) -> Axes:  # the same
    "Draw accuracy leaked and honest as bars, a dot for each seed, for pages without widgets"
    rows = find_rows(pitfall, model, strength, results)
    for place, (name, grey) in enumerate(SIDES.items()):
        ax.barh(place, 100 * rows[name].mean(), color=grey, height=0.6)
        ax.plot(100 * rows[name], [place] * len(rows), "o", color="black", markersize=4)
    ax.set(yticks=[0, 1], yticklabels=list(SIDES), xlim=(0, 100), xlabel="accuracy (%)", title=pitfall)
    ax.invert_yaxis()
    return ax


def _picture(rows: pd.DataFrame) -> np.ndarray:  # uint8 [H, W, 3]
    "The bars as an image, drawn without touching the reader's own figures"
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.2), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    first = rows.iloc[0]
    plot_bars(figure.subplots(), first["pitfall"], first["model"], first["strength"], rows)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def panel(
    pitfall: str = "marker",  # to begin with
    results: pd.DataFrame | None = None,  # see `find_rows`
) -> HBox:  # picture, three choices, numbers
    """Leak whatever the results hold. Raises ValueError for an unknown pitfall, ModuleNotFoundError naming the extra
    where ipywidgets is missing.
    """
    widgets = import_ipywidgets()
    results = read_results() if results is None else results
    names = list(results["pitfall"].unique())
    if pitfall not in names:
        raise ValueError(f"no result for {pitfall!r}: there are {', '.join(names)}")
    controls = {"pitfall": widgets.Dropdown(options=names, value=pitfall), "model": widgets.Dropdown(),
                "strength": widgets.Dropdown()}

    def offer(_: object = None) -> None:
        rows = results[results["pitfall"] == controls["pitfall"].value]
        for name in ("model", "strength"):
            known, before = list(rows[name].unique()), controls[name].value
            controls[name].options = known
            controls[name].value = before if before in known else known[-1 if name == "strength" else 0]

    def draw(pitfall: str, model: str, strength: float) -> tuple[np.ndarray, str]:
        rows = find_rows(pitfall, model, strength, results)
        return _picture(rows), _words(rows)

    offer()
    controls["pitfall"].observe(offer, "value")
    return assemble(controls, draw, 600)
