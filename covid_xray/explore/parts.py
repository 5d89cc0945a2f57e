"""What the explorers of the chapters share: pictures as PNG, outlines, and a panel put together from its controls."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ipywidgets import HBox

__all__ = ["CAPTION", "OUTLINES", "assemble", "import_ipywidgets", "outlined", "png"]

CAPTION = "For teaching and research. Not a medical device."
OUTLINES = {"lungs": (86, 180, 233), "lesions": (230, 159, 0)}  # sky blue and orange of Okabe and Ito, safe for all


def import_ipywidgets() -> ModuleType:  # ipywidgets
    "Import ipywidgets when a panel is asked for; raises ModuleNotFoundError naming the extra where it is missing"
    try:
        import ipywidgets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('the explorers need ipywidgets: pip install "covid_xray[course]"') from error
    return ipywidgets


def png(
    image: np.ndarray,  # uint8 [H, W] or [H, W, 3]
) -> bytes:  # a PNG file
    "An image as the bytes of a PNG file"
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def outlined(
    image: np.ndarray,  # uint8 [H, W]
    masks: Mapping[str, np.ndarray],  # name in `OUTLINES` -> bool [H, W]
) -> np.ndarray:  # uint8 [H, W, 3]
    "A film in colour with the rim of each mask drawn on it, lungs blue, lesions orange"
    colour = np.repeat(image[:, :, None], 3, 2)
    for name, mask in masks.items():
        inner = mask.copy()
        for axis in (0, 1):
            inner &= np.roll(mask, 1, axis) & np.roll(mask, -1, axis)
        colour[mask & ~inner] = OUTLINES[name]
    return colour


def assemble(
    controls: Mapping[str, Any],  # name of an argument of `draw` -> the widget that sets it
    draw: Callable[..., tuple[np.ndarray, str]],  # picture uint8 [H, W] or [H, W, 3], and the numbers as text
    width_px: int,  # width of the picture on the page
) -> HBox:  # the picture; beside it the controls, and the numbers below them
    """Put a panel together: whatever control is moved, the picture and the numbers are made again on release.

    A ValueError of `draw` (no film fits, a file can't be read) is shown in place of the numbers, over a black picture.
    """
    widgets = import_ipywidgets()
    picture, text = widgets.Image(format="png", width=width_px), widgets.HTML()

    def redraw(_: Any = None) -> None:
        try:
            image, words = draw(**{name: control.value for name, control in controls.items()})
        except ValueError as error:
            image, words = np.zeros((64, 64), np.uint8), str(error)
        picture.value = png(image)
        text.value = f"<pre>{html.escape(words, quote=False)}</pre><small>{CAPTION}</small>"

    for name, control in controls.items():
        control.description, control.style = name.replace("_", " "), {"description_width": "7em"}
        if control.has_trait("continuous_update"):
            control.continuous_update = False  # draw once the handle is let go, not at every step of the way
        control.observe(redraw, "value")
    redraw()
    return widgets.HBox([picture, widgets.VBox([*controls.values(), text])])
