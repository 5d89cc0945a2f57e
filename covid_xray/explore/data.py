"""Explorer of chapter 1: browse the films of a record table, choose the window, outline what is known to be there.

In a notebook: `from covid_xray.explore.data import panel; panel(table)`. Its text twin is `describe(table, ...)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covid_xray import phantom
from covid_xray.data import read_radiograph, resize
from covid_xray.explore.parts import OUTLINES, assemble, import_ipywidgets, outlined

if TYPE_CHECKING:
    from ipywidgets import HBox
    from matplotlib.axes import Axes

__all__ = ["PLACES", "apply_window", "choose_films", "describe", "panel", "plot_film"]

PLACES = {  # part of the film to look at -> its upper left corner, in halves of the side; None for all of it
    "whole film": None,
    "middle": (0.5, 0.5),
    "upper left": (0, 0),
    "upper right": (0, 1),
    "lower left": (1, 0),
    "lower right": (1, 1),
}


def choose_films(
    table: pd.DataFrame | None = None,  # a record table; None takes the phantom hospital's
    *,
    label: str = "",  # only this label; "" for any
    view: str = "",  # only this view; "" for any
    part: str = "",  # only this part of the split; "" for any
) -> pd.DataFrame:  # the rows that fit, in the table's order
    "Filter a record table. Raises ValueError for a value that no film has, and where no film fits all filters"
    table = phantom.teaching_table() if table is None else table
    if missing := sorted({"path", "label"} - set(table.columns)):
        raise ValueError(f"the table has no column {' and '.join(missing)}: a record table is needed")
    fits, wanted = np.ones(len(table), bool), {"label": label, "view": view, "split": part}
    for column, value in wanted.items():
        if not value:
            continue
        known = _values(table, column)
        if value not in known:
            raise ValueError(f"no film has {column} {value!r}: there are {', '.join(known) or 'no known values'}")
        fits &= (table[column] == value).fillna(False).to_numpy(dtype=bool)
    if not fits.any():
        asked = ", ".join(f"{column} {value}" for column, value in wanted.items() if value)
        raise ValueError(f"no film has all of {asked or 'nothing'}: take a filter away")
    return table[fits]


def _values(table: pd.DataFrame, column: str) -> list[str]:
    "The known values of a column"
    return sorted(table[column].dropna().unique()) if column in table else []


def apply_window(
    image: np.ndarray,  # uint8 [H, W]
    centre: float,  # grey value in the middle of the window
    width: float,  # grey values spread from black to white, above 0
) -> np.ndarray:  # uint8 [H, W]
    "Spread a window of grey values over black to white (DICOM PS3.3 C.11.2.1.3.2, LINEAR_EXACT); raises ValueError"
    if width <= 0:
        raise ValueError(f"width={width}: a window is wider than nothing")
    return np.round(((image - np.float64(centre)) / width + 0.5).clip(0, 1) * 255).astype(np.uint8)


def _film(rows: pd.DataFrame, number: int, size_px: int) -> tuple[pd.Series, np.ndarray, dict[str, np.ndarray]]:
    "One row, its film, and the masks of what is known to be on it (phantoms only)"
    if not 1 <= number <= len(rows):
        raise ValueError(f"number={number}: the films that fit are numbered 1 to {len(rows)}")
    row = rows.iloc[number - 1]
    if str(row["path"]).startswith("phantom:"):
        image, masks = phantom.draw_film(phantom.Film.from_path(row["path"]), size_px)
        return row, image, {name: masks[name] for name in OUTLINES}
    try:
        return row, resize(read_radiograph(row["path"]), size_px, "pad"), {}
    except FileNotFoundError as error:
        raise ValueError(f"{row['path']}: no such file") from error


def describe(
    table: pd.DataFrame | None = None,  # a record table; None takes the phantom hospital's
    number: int = 1,  # which of the films that fit, from 1 on
    *,
    centre: float = 127.5,  # middle of the window, grey value
    width: float = 255,  # width of the window, grey values
    size_px: int = 256,  # side of the film in pixels
    **filters: str,  # label, view, part: see `choose_films`
) -> str:  # what the panel says
    "The explorer's text twin: whose film it is, how grey what is on it, and what the window cuts off"
    rows = choose_films(table, **filters)
    row, image, masks = _film(rows, number, size_px)
    return _words(row, image, masks, f"film {number} of {len(rows)}", centre, width)


def _words(row: pd.Series, image: np.ndarray, masks: dict, place: str, centre: float, width: float) -> str:
    "The numbers under the picture"
    known = {column: row[column] for column in row.index if not pd.isna(row[column])}
    age = f"{known['age']:.0f} years" if "age" in known else "age unknown"
    person = f"patient {known.get('patient', 'unknown')}, {known.get('sex', 'sex unknown')}, {age}"
    taken = f"view {known.get('view', 'unknown')}, part {known.get('split', 'not dealt')}"
    grey = f"mean grey {image.mean():.1f} on the whole film"
    for name in (name for name, mask in masks.items() if mask.any()):
        grey += f", {image[masks[name]].mean():.1f} in the {name}"
    low, high = centre - width / 2, centre + width / 2
    cut = f"window {low:g} to {high:g}: {(image <= low).mean():.1%} black, {(image >= high).mean():.1%} white"
    return "\n".join([f"{place}: {row['label']}", person, taken, grey if masks else f"{grey}, lungs not marked", cut])


def _picture(
    image: np.ndarray, masks: dict, centre: float, width: float, look: str, outline: Sequence[str]
) -> np.ndarray:
    "The film through the window, rims drawn, cut to the place looked at: uint8 [h, w, 3]"
    if look not in PLACES:
        raise ValueError(f"look={look!r} is unknown: choose {', '.join(PLACES)}")
    if wrong := sorted(set(outline) - set(OUTLINES)):
        raise ValueError(f"outline {', '.join(wrong)} is unknown: choose of {', '.join(OUTLINES)}")
    drawn = outlined(apply_window(image, centre, width), {name: masks[name] for name in outline if name in masks})
    if PLACES[look] is None:
        return drawn
    half = len(image) // 2
    top, left = (int(corner * half) for corner in PLACES[look])
    return drawn[top : top + half, left : left + half]


def plot_film(
    ax: Axes,  # where to draw
    table: pd.DataFrame | None = None,  # a record table; None takes the phantom hospital's
    number: int = 1,  # which of the films that fit, from 1 on
    *,
    centre: float = 127.5,  # middle of the window, grey value
    width: float = 255,  # width of the window, grey values
    look: str = "whole film",  # one of `PLACES`
    outline: Sequence[str] = tuple(OUTLINES),  # masks to outline where known
    size_px: int = 256,  # side of the film in pixels
    **filters: str,  # label, view, part: see `choose_films`
) -> Axes:  # the same
    "Draw a film as the panel shows it, for pages without widgets"
    row, image, masks = _film(choose_films(table, **filters), number, size_px)
    ax.imshow(_picture(image, masks, centre, width, look, outline))
    ax.set(xlabel="pixel", ylabel="pixel", title=str(row["label"]))
    return ax


def panel(
    table: pd.DataFrame | None = None,  # a record table; None takes the phantom hospital's
    size_px: int = 256,  # side of the film in pixels
) -> HBox:  # picture, filters, window, outlines, numbers
    "Browse the films of a table. Raises ModuleNotFoundError naming the extra where ipywidgets is missing"
    widgets = import_ipywidgets()
    table = choose_films(table)
    any_of = {c: [("any", ""), *((v, v) for v in _values(table, c))] for c in ("label", "view", "split")}
    controls = {
        "label": widgets.Dropdown(options=any_of["label"]),
        "view": widgets.Dropdown(options=any_of["view"]),
        "part": widgets.Dropdown(options=any_of["split"]),
        "number": widgets.IntSlider(value=1, min=1, max=len(table)),
        "centre": widgets.FloatSlider(value=127.5, min=0, max=255, step=2.5),
        "width": widgets.FloatSlider(value=255, min=5, max=255, step=5),
        "look": widgets.Dropdown(options=list(PLACES)),
        "lungs": widgets.Checkbox(value=False),
        "lesions": widgets.Checkbox(value=False),
    }
    filters = {name: controls[name] for name in ("label", "view", "part")}

    def draw(number: int, centre: float, width: float, look: str, lungs: bool, lesions: bool, **chosen: Any) -> tuple:
        rows = choose_films(table, **chosen)
        number = min(number, len(rows))
        row, image, masks = _film(rows, number, size_px)
        outline = [name for name, wanted in (("lungs", lungs), ("lesions", lesions)) if wanted]
        words = _words(row, image, masks, f"film {number} of {len(rows)}", centre, width)
        return _picture(image, masks, centre, width, look, outline), words

    def count(_: Any = None) -> None:
        try:
            films = len(choose_films(table, **{name: control.value for name, control in filters.items()}))
        except ValueError:  # no film fits: the panel says so in place of the numbers
            films = 1
        controls["number"].max = films

    for control in filters.values():
        control.observe(count, "value")
    return assemble(controls, draw, 2 * size_px)
