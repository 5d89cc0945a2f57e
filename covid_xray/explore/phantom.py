"""Explorers of the appendix on the phantom hospital: turn any setting of one film, or any dial of the whole hospital.

In a notebook: `from covid_xray.explore.phantom import panel; panel()`, whose text twin is `describe(**settings)`, and
`hospital_panel()`, whose text twin is `describe_hospital(**dials)`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covid_xray.explore.parts import assemble, import_ipywidgets, outlined, png
from covid_xray.phantom import CLASSES, DEFAULT_DIALS, HOSPITALS, MASKS, SHORTCUTS, VIEWS, Film, draw_film
from covid_xray.phantom_patients import check_dials, patient_films

if TYPE_CHECKING:
    from ipywidgets import HBox
    from matplotlib.axes import Axes

__all__ = ["describe", "describe_hospital", "hospital_panel", "make_film", "panel", "plot_film"]

CAPTION = "Simulated for teaching. Not a patient, not a medical device."
START = {"finding": "covid", "severity": 0.6, "patient": 3, "sex": "F", "age": 50}


def make_film(
    **settings: Any,  # any field of `phantom.Film`; the rest as in `START`
) -> Film:  # the film with these settings
    """Make a film's settings, and say which names exist where one is unknown (ValueError)."""
    known = [f.name for f in fields(Film)]
    if unknown := sorted(set(settings) - set(known)):
        raise ValueError(f"unknown setting {', '.join(unknown)}: there are {', '.join(known)}")
    return Film(**{**START, **settings})


def describe(
    size_px: int = 256,  # side of the film in pixels
    **settings: Any,  # any field of `phantom.Film`
) -> str:  # what the panel shows, in words and numbers
    """The explorer's text twin: what the film shows and how large each known thing on it is."""
    return _words(make_film(**settings), *draw_film(make_film(**settings), size_px))


def _words(film: Film, image: np.ndarray, masks: dict[str, np.ndarray]) -> str:
    "The numbers under the picture"
    lungs, lesions = masks["lungs"], masks["lesions"]
    healthy = lungs & ~lesions
    lines = [
        f"{film.finding}, severity {film.severity:.2f}, {film.sex} {film.age} years, {film.view}, {film.hospital}",
        f"lungs {lungs.mean():.1%} of the film, mean grey {image[healthy].mean():.0f} where healthy",
        f"file {'1024 px square' if film.size == 0 else 'of another size'}, not part of the picture",
        f"heart {masks['heart'].any(0).sum() / max(masks['body'].any(0).sum(), 1):.0%} of the body's width",
    ]
    if lesions.any():
        lines.append(f"disease {lesions.sum() / lungs.sum():.0%} of the lungs, mean grey {image[lesions].mean():.0f}")
    planted = [f"{name} {mask.mean():.1%}" for name, mask in masks.items() if name in MASKS[4:] and mask.any()]
    return "\n".join([*lines, "planted: " + (", ".join(planted) or "nothing")])


def plot_film(
    ax: Axes,  # where to draw
    outline: str = "lesions",  # mask to outline, "" for none
    size_px: int = 256,  # side of the film in pixels
    **settings: Any,  # any field of `phantom.Film`
) -> Axes:  # the same
    """Draw the film as the panel shows it, for pages without widgets."""
    image, masks = draw_film(make_film(**settings), size_px)
    ax.imshow(outlined(image, _chosen(masks, outline)))
    ax.set(xlabel="pixel", ylabel="pixel")
    return ax


def _chosen(masks: dict[str, np.ndarray], outline: str) -> dict[str, np.ndarray]:
    "The one mask to outline, in the colour of lesions whatever it is"
    return {"lesions": masks[outline]} if outline in masks else {}


def panel(
    size_px: int = 256,  # side of the film in pixels
    **settings: Any,  # any field of `phantom.Film` to start from
) -> HBox:  # picture, numbers and a control for every setting
    """Show one simulated film with a control for each setting; it is drawn again at each move.

    Raises ModuleNotFoundError naming the extra to install where ipywidgets is missing.
    """
    widgets = import_ipywidgets()
    controls, outline = _controls(widgets, make_film(**settings))
    picture = widgets.Image(format="png", width=2 * size_px)
    text = widgets.HTML()

    def redraw(_=None) -> None:
        film = make_film(**{name: control.value for name, control in controls.items()})
        image, masks = draw_film(film, size_px)
        picture.value = png(outlined(image, _chosen(masks, outline.value)))
        text.value = f"<pre>{_words(film, image, masks)}</pre><small>{CAPTION}</small>"

    for control in (*controls.values(), outline):
        control.observe(redraw, "value")
    redraw()
    return widgets.HBox([picture, widgets.VBox([*controls.values(), outline, text])])


def _controls(widgets, film: Film) -> tuple[dict, object]:
    "One control for each setting of a film, and the choice of outline"
    wide = {"style": {"description_width": "7em"}}
    controls = {
        "finding": widgets.Dropdown(options=CLASSES),
        "severity": widgets.FloatSlider(min=0, max=1, step=0.05),
        "patient": widgets.IntSlider(min=0, max=200),
        "film": widgets.IntSlider(min=0, max=200),
        "seed": widgets.IntSlider(min=0, max=20),
        "sex": widgets.Dropdown(options=("F", "M")),
        "age": widgets.IntSlider(min=20, max=88),
        "view": widgets.Dropdown(options=VIEWS),
        "hospital": widgets.Dropdown(options=HOSPITALS),
        "marker": widgets.IntSlider(min=0, max=2),
        "text": widgets.IntSlider(min=0, max=2),
        "border": widgets.IntSlider(min=0, max=1),
        "wires": widgets.IntSlider(min=0, max=1),
        "tube": widgets.IntSlider(min=0, max=1),
        "curve": widgets.IntSlider(min=0, max=1),
        "size": widgets.IntSlider(min=0, max=1),
        "copy": widgets.IntSlider(min=0, max=1),
    }
    for name, control in controls.items():
        control.value, control.description = getattr(film, name), name
        control.style = wide["style"]
    outline = widgets.Dropdown(
        options=[("nothing", ""), *((name, name) for name in MASKS)],
        value="lesions",
        description="outline",
        style=wide["style"],
    )
    return controls, outline


N_PATIENTS = 100  # whom the hospital's numbers count


def describe_hospital(
    **dials: Any,  # as in `phantom.simulate`: prevalence, shortcuts and the rest
) -> str:  # who comes to the hospital and what their films carry, by label
    """The hospital explorer's text twin: a table of the first hundred patients' films, nothing drawn.

    Raises ValueError naming a dial that is out of range or unknown.
    """
    return _table(_films(dials))


def _films(dials: dict[str, Any]) -> list[Film]:
    "All films of the first hundred patients"
    if unknown := sorted(set(dials) - set(DEFAULT_DIALS)):
        raise ValueError(f"unknown dial {', '.join(unknown)}: there are {', '.join(DEFAULT_DIALS)}")
    checked = check_dials(**{**DEFAULT_DIALS, **dials})
    return [film for patient in range(N_PATIENTS) for film in patient_films(patient, checked)]


def _table(films: list[Film]) -> str:
    "Per label: films, patients, and the share of films with each thing"
    rows = pd.DataFrame([vars(film) for film in films])
    by_label = rows.assign(AP=rows["view"] != "PA", large_file=rows["size"]).groupby("finding")
    counts = pd.DataFrame({"patients": by_label["patient"].nunique(), "films": by_label.size()}).T
    shares = by_label[["marker", "text", "border", "wires", "tube", "curve", "AP", "large_file", "copy"]]
    percent = (100 * shares.agg(lambda column: (column > 0).mean())).round().astype(int).T
    means = by_label[["age", "severity"]].mean().round(2).T.rename(lambda name: f"mean {name}")
    shown = pd.concat([counts, percent.rename(lambda name: f"{name} %"), means]).reindex(columns=list(CLASSES))
    return shown.map(lambda value: "" if pd.isna(value) else f"{value:g}").to_string()


def hospital_panel(
    size_px: int = 256,  # side of the film in pixels
) -> HBox:  # one film of the hospital, a control for every dial, and the numbers by label
    """Show the phantom hospital with a slider for each dial: who comes, and what gives the label away.

    Raises ModuleNotFoundError naming the extra to install where ipywidgets is missing.
    """
    widgets = import_ipywidgets()

    def share(value: float = 0.0) -> Any:
        return widgets.FloatSlider(value=value, min=0, max=1, step=0.05)

    controls = {
        "patient": widgets.IntSlider(value=3, min=0, max=N_PATIENTS - 1),
        "seed": widgets.IntSlider(min=0, max=20),
        "covid": share(0.3),
        "pneumonia": share(0.3),
        "severity": widgets.FloatRangeSlider(value=DEFAULT_DIALS["severity"], min=0, max=1, step=0.05),
        "follow_up_films": share(DEFAULT_DIALS["follow_up"]),
        "clutter": share(),
        "hospital": widgets.Dropdown(options=HOSPITALS),
        "tied_to": widgets.Dropdown(options=CLASSES),
        **{name: share() for name in SHORTCUTS},
    }
    return assemble(controls, lambda **values: _draw_hospital(size_px, **values), 2 * size_px)


def _draw_hospital(
    size_px: int, patient: int, covid: float, pneumonia: float, follow_up_films: float, **rest: Any
) -> tuple[np.ndarray, str]:
    "The last film of one patient with its disease outlined, and the table by label"
    pneumonia = min(pneumonia, 1 - covid)  # shares add up to 1, whatever the sliders say
    prevalence = {"covid": covid, "pneumonia": pneumonia, "normal": 1 - covid - pneumonia}
    shortcuts = {name: rest.pop(name) for name in SHORTCUTS}
    films = _films({**rest, "prevalence": prevalence, "follow_up": follow_up_films, "shortcuts": shortcuts})
    film = [film for film in films if film.patient == patient][-1]
    image, masks = draw_film(film, size_px)
    words = f"patient {patient}: {film.finding}, {film.view}, {film.sex} {film.age}, film {film.film % 4 + 1}"
    return outlined(image, _chosen(masks, "lesions")), f"{words}\n\n{_table(films)}"
