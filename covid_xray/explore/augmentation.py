"""Explorer of chapter 2: bend and light one radiograph, see the matrix, and what becomes of the finding.

In a notebook: `from covid_xray.explore.augmentation import panel; panel()`. Its text twin is `describe(degrees=10)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from covid_xray import phantom
from covid_xray.augment import affine_matrices, bend_batch, share_in_frame
from covid_xray.explore.parts import OUTLINES, assemble, import_ipywidgets, outlined

if TYPE_CHECKING:
    from ipywidgets import HBox
    from matplotlib.axes import Axes

__all__ = ["RANGES", "Change", "change_film", "describe", "find_matrix", "panel", "plot_change", "share_kept"]

RANGES = {  # dial -> smallest, largest, step
    "degrees": (-180, 180, 1), "scale": (0.5, 2, 0.05), "right": (-1, 1, 0.02), "down": (-1, 1, 0.02),
    "brightness": (-1, 1, 0.02), "contrast": (0, 3, 0.05), "gamma": (0.2, 4, 0.05),
}


@dataclass(frozen=True)
class Change:
    "What is done to a film, as `augment.Augment` does it; raises ValueError for a dial out of `RANGES`"

    degrees: float = 0.0  # turn clockwise as seen on screen
    scale: float = 1.0  # 2 doubles the size
    right: float = 0.0  # shift to the right, in parts of the film's side
    down: float = 0.0  # shift downwards, in parts of the film's side
    brightness: float = 0.0  # added, in parts of the full range
    contrast: float = 1.0  # stretch around the middle grey
    gamma: float = 1.0  # exponent: below 1 lifts the dark parts

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            low, high, _ = RANGES[name]
            if not low <= value <= high:
                raise ValueError(f"{name}={value} is out of range: {low} to {high}")


def _change(dials: Mapping[str, float]) -> Change:
    "The dials as a `Change`; raises ValueError naming the dials there are for an unknown one"
    if unknown := sorted(set(dials) - set(RANGES)):
        raise ValueError(f"unknown dial {', '.join(unknown)}: there are {', '.join(RANGES)}")
    return Change(**dials)


def find_matrix(
    **dials: float,  # fields of `Change`
) -> np.ndarray:  # float32 [2, 3], from places of the new film to places of the old one
    "The matrix of a turn, scale and shift. Raises ValueError for an unknown dial or one out of range"
    change = _change(dials)
    # the library counts shifts in halves of the side, because places run from -1 to 1
    amounts = (change.degrees, change.scale, 2 * change.right, 2 * change.down)
    return affine_matrices(*(torch.tensor([float(amount)]) for amount in amounts))[0].numpy()


def change_film(
    image: np.ndarray,  # uint8 [H, W]
    **dials: float,  # fields of `Change`
) -> np.ndarray:  # uint8 [H, W]
    "Bend a film, then its greys: gamma, contrast, brightness, in the order of `augment.Augment`"
    change = _change(dials)
    bent = _bend(image / 255, find_matrix(**dials)).clip(0, 1) ** change.gamma
    return np.round(((bent - 0.5) * change.contrast + 0.5 + change.brightness).clip(0, 1) * 255).astype(np.uint8)


def _bend(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    "One film or mask through the library's sampler: float [H, W]"
    return bend_batch(torch.tensor(image, dtype=torch.float32)[None, None], torch.tensor(matrix)[None])[0, 0].numpy()


def share_kept(
    mask: np.ndarray,  # bool [H, W], something on the film
    matrix: np.ndarray,  # float [2, 3], see `find_matrix`
) -> float:  # 0 to 1; NaN for an empty mask
    "Share of the mask's pixels that are still on the new film; growing or shrinking alone loses nothing"
    return float(share_in_frame(torch.tensor(mask)[None, None], torch.tensor(matrix)[None])[0])


def _subject(image: np.ndarray | None, masks: Mapping[str, np.ndarray] | None) -> tuple[np.ndarray, dict]:
    "The film to change and its masks; by default a phantom with disease"
    if image is None:
        films = phantom.simulate(1, size_px=192, seed=5, prevalence={"covid": 1, "normal": 0, "pneumonia": 0})
        image, masks = films.images[0], {name: films.masks[name][0] for name in OUTLINES}
    if image.dtype != np.uint8 or image.ndim != 2:
        raise ValueError(f"the film is {image.dtype} {image.shape}; uint8 [H, W] is needed")
    masks = {name: np.asarray(mask, bool) for name, mask in (masks or {}).items() if name in OUTLINES}
    for name, mask in masks.items():
        if mask.shape != image.shape:
            raise ValueError(f"mask {name!r} is {mask.shape} for a film of {image.shape}: both need the same shape")
    return image, masks


def describe(
    image: np.ndarray | None = None,  # uint8 [H, W]; None takes a phantom with COVID-19
    masks: Mapping[str, np.ndarray] | None = None,  # "lungs" and "lesions" -> bool [H, W], where known
    **dials: float,  # fields of `Change`
) -> str:  # what the panel says
    "The explorer's text twin: the matrix, the grey values, the share of the lesion kept and how it stands out"
    image, masks = _subject(image, masks)
    return _words(image, change_film(image, **dials), masks, find_matrix(**dials))


def _words(image: np.ndarray, changed: np.ndarray, masks: Mapping[str, np.ndarray], matrix: np.ndarray) -> str:
    "The numbers under the picture"
    rows = [" ".join(f"{value + 0.0:7.3f}" for value in row.round(3)) for row in matrix]
    lines = [f"matrix  {rows[0]}", f"        {rows[1]}", f"mean grey {image.mean():.1f} -> {changed.mean():.1f}"]
    lesions = masks.get("lesions")
    if lesions is None or not lesions.any():
        return "\n".join([*lines, "no lesion marked on this film"])
    lines.append(f"lesion {share_kept(lesions, matrix):.1%} still on the film")
    healthy = masks["lungs"] & ~lesions if "lungs" in masks else np.zeros_like(lesions)
    bent = [_bend(mask.astype(float), matrix) > 0.5 for mask in (lesions, healthy)]
    if all(mask.any() for mask in (healthy, *bent)):
        before = image[lesions].mean() - image[healthy].mean()
        after = changed[bent[0]].mean() - changed[bent[1]].mean()
        lines.append(f"lesion lighter than healthy lung by {before:.1f} -> {after:.1f} grey levels")
    return "\n".join(lines)


def _picture(image: np.ndarray, masks: Mapping[str, np.ndarray], dials: Mapping[str, float], outline: str) -> tuple:
    "The film before and after, with the rim of a mask: two of uint8 [H, W, 3]"
    if outline not in ("", *OUTLINES):
        raise ValueError(f"outline={outline!r} is unknown: choose {', '.join(OUTLINES)} or ''")
    chosen = {outline: masks[outline]} if outline in masks else {}
    bent = {name: _bend(mask.astype(float), find_matrix(**dials)) > 0.5 for name, mask in chosen.items()}
    return outlined(image, chosen), outlined(change_film(image, **dials), bent)


def plot_change(
    axes: tuple[Axes, Axes],  # where to draw the film before and after
    image: np.ndarray | None = None,  # uint8 [H, W]; None takes a phantom with COVID-19
    masks: Mapping[str, np.ndarray] | None = None,  # "lungs" and "lesions" -> bool [H, W], where known
    *,
    outline: str = "lesions",  # mask to outline, "" for none
    **dials: float,  # fields of `Change`
) -> tuple[Axes, Axes]:  # the same
    "Draw before and after as the panel shows them, for pages without widgets"
    image, masks = _subject(image, masks)
    for ax, picture, title in zip(axes, _picture(image, masks, dials, outline), ("before", "after")):
        ax.imshow(picture)
        ax.set(xlabel="pixel", ylabel="pixel", title=title)
    return axes


def panel(
    image: np.ndarray | None = None,  # uint8 [H, W]; None takes a phantom with COVID-19
    masks: Mapping[str, np.ndarray] | None = None,  # "lungs" and "lesions" -> bool [H, W], where known
    **dials: float,  # fields of `Change` to start from
) -> HBox:  # before and after, a control for each dial, the matrix and the numbers
    "Bend one radiograph. Raises ModuleNotFoundError naming the extra where ipywidgets is missing"
    widgets = import_ipywidgets()
    image, masks = _subject(image, masks)
    controls: dict[str, Any] = {}
    for name, value in asdict(_change(dials)).items():
        low, high, step = RANGES[name]
        controls[name] = widgets.FloatSlider(value=value, min=low, max=high, step=step)
    choices = [("nothing", ""), *((name, name) for name in masks)]
    controls["outline"] = widgets.Dropdown(options=choices, value="lesions" if "lesions" in masks else "")

    def draw(outline: str, **dials: float) -> tuple[np.ndarray, str]:
        pair = np.hstack(_picture(image, masks, dials, outline))
        return pair, _words(image, change_film(image, **dials), masks, find_matrix(**dials))

    return assemble(controls, draw, 600)
