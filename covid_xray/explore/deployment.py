"""Explorer of chapter 9: choose a film or something else, bend it, and see what the predictor says of it.

In a notebook: `from covid_xray.explore.deployment import panel; panel()`. Its text twin is
`describe("covid film", turn=90)`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from covid_xray import phantom
from covid_xray.admission import MONSTERS
from covid_xray.data import resize
from covid_xray.deploy import Predictor
from covid_xray.explore.parts import assemble, import_ipywidgets

if TYPE_CHECKING:
    from ipywidgets import HBox
    from matplotlib.axes import Axes

__all__ = ["PICTURES", "bend", "describe", "panel", "plot_picture"]

FILMS = {f"{label} film": {label: 1.0} for label in ("covid", "normal", "pneumonia")}
PICTURES = (*FILMS, *MONSTERS)
TURNS = (0, 90, 180, 270)


@functools.cache
def _predictor() -> Predictor:
    return Predictor.load("phantom")


@functools.lru_cache(maxsize=64)
def _drawn(picture: str, number: int) -> np.ndarray:
    "A picture before it is bent"
    if picture in FILMS:
        return phantom.simulate(number + 1, size_px=256, seed=9, prevalence=FILMS[picture], follow_up=0).images[number]
    return resize(MONSTERS[picture](np.random.default_rng(number)), 256)


def bend(
    picture: str = "covid film",  # one of `PICTURES`
    number: int = 0,  # which of them, 0 and up
    *,
    exposure: float = 1.0,  # greys to the power of 1 / exposure: above 1 brighter, below darker
    turn: int = 0,  # degrees to the left: 0, 90, 180 or 270
    crop: float = 1.0,  # share of each side that is kept, in the middle
    inverted: bool = False,  # black and white exchanged
) -> np.ndarray:  # uint8 [H, W]
    "A picture, spoilt as one likes. Raises ValueError naming what there is"
    if picture not in PICTURES:
        raise ValueError(f"no picture is called {picture!r}: there are {', '.join(PICTURES)}")
    if turn not in TURNS or not 0.1 <= crop <= 1 or exposure <= 0:
        raise ValueError(f"turn {turn} must be 0, 90, 180 or 270, crop {crop} 0.1 to 1, exposure {exposure} above 0")
    image = np.round(255 * (_drawn(picture, number) / 255) ** (1 / exposure)).astype(np.uint8)
    kept = max(32, round(crop * 256))
    start = (256 - kept) // 2
    image = np.rot90(image[start:start + kept, start:start + kept], turn // 90)
    return np.ascontiguousarray(255 - image if inverted else image)


def describe(
    picture: str = "covid film",  # see `bend`
    number: int = 0,  # see `bend`
    *,
    prevalence: float = 0.1,  # of COVID-19 where the film was taken, 0..1
    **bent: object,  # exposure, turn, crop, inverted: see `bend`
) -> str:  # what the panel says
    "The explorer's text twin: decision, probabilities, predictive values and flags of one picture"
    return _words(bend(picture, number, **bent), prevalence)


def _words(image: np.ndarray, prevalence: float) -> str:
    "The predictor's lines, wrapped"
    import textwrap

    lines = _predictor().predict(image, prevalence=prevalence).lines()
    return "\n".join(part for line in lines for part in textwrap.wrap(line, 56))


def plot_picture(
    ax: Axes,  # where to draw
    picture: str = "covid film",  # see `bend`
    number: int = 0,  # see `bend`
    **bent: object,  # exposure, turn, crop, inverted: see `bend`
) -> Axes:  # the same
    "Draw one bent picture with the predictor's word above it, for pages without widgets"
    image = bend(picture, number, **bent)
    ax.imshow(image, cmap="gray", vmin=0, vmax=255)
    result = _predictor().predict(image)
    ax.set(xticks=[], yticks=[], title=f"refused: {result.flags[0].name}" if result.refused else result.decision)
    return ax


def panel(
    picture: str = "covid film",  # to begin with
) -> HBox:  # picture, controls, words
    """Send the predictor whatever you like. Raises ValueError for an unknown picture, ModuleNotFoundError naming the
    extra where ipywidgets is missing.
    """
    widgets = import_ipywidgets()
    if picture not in PICTURES:
        raise ValueError(f"no picture is called {picture!r}: there are {', '.join(PICTURES)}")
    controls = {
        "picture": widgets.Dropdown(options=PICTURES, value=picture), "number": widgets.IntSlider(0, 0, 9),
        "exposure": widgets.FloatSlider(1.0, min=0.3, max=3.0, step=0.1),
        "turn": widgets.Dropdown(options=TURNS), "crop": widgets.FloatSlider(1.0, min=0.25, max=1.0, step=0.05),
        "inverted": widgets.Checkbox(False), "prevalence": widgets.FloatSlider(0.1, min=0.01, max=0.9, step=0.01),
    }

    def draw(prevalence: float, **bent: object) -> tuple[np.ndarray, str]:
        image = bend(**bent)
        return image, _words(image, prevalence)

    return assemble(controls, draw, 340)
