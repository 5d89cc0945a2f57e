"""Explorer of the appendix on the phantom hospital: turn any setting of one simulated film and see what it does.

In a notebook: `from covid_xray.explore.phantom import panel; panel()`. Its text twin is `describe(**settings)`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from covid_xray.explore.parts import import_ipywidgets, outlined, png
from covid_xray.phantom import CLASSES, HOSPITALS, MASKS, VIEWS, Film, draw_film

if TYPE_CHECKING:
    from ipywidgets import HBox
    from matplotlib.axes import Axes

__all__ = ["describe", "make_film", "panel", "plot_film"]

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
