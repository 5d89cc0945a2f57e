"""Explorer of chapter 3: look into any layer of a network while it looks at a film.

In a notebook: `from covid_xray.explore.cnn import panel; panel(model, images)`. Its text twin is
`describe(model, images, layer="features.1", film=0)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from covid_xray import phantom
from covid_xray.cnn import create_model
from covid_xray.data import resize
from covid_xray.explore.parts import assemble, import_ipywidgets
from covid_xray.hooks import as_before, bare_model, find_layer

if TYPE_CHECKING:
    from ipywidgets import HBox
    from matplotlib.axes import Axes

__all__ = ["TILES", "describe", "draw_maps", "find_maps", "list_layers", "panel", "plot_maps"]

TILES = 16  # maps shown at once, four by four


def _subject(model: torch.nn.Module | None, images: np.ndarray | None) -> tuple[torch.nn.Module, np.ndarray]:
    "The network and the films; by default the plain network before any training, and six phantoms"
    if model is None:
        with torch.random.fork_rng(devices=[]):  # the reader's own random numbers stay as they are
            torch.manual_seed(0)
            model = create_model("plain")
    model = bare_model(model)
    images = phantom.simulate(6, size_px=128, seed=0).images if images is None else images
    if images.dtype != np.uint8 or images.ndim != 3 or not len(images):
        raise ValueError(f"images are {images.dtype} {images.shape}; uint8 [N, H, W] with a film or more is needed")
    return model, images


def _run(model: torch.nn.Module, image: np.ndarray, names: list[str]) -> dict[str, Any]:
    "Show the network one film and keep what the named layers put out"
    kept: dict[str, Any] = {}

    def keep(name: str) -> Callable:
        def hook(module: torch.nn.Module, inputs: tuple, output: Any) -> None:
            # a copy: a ReLU that works in place would change it afterwards
            kept[name] = output.detach().clone() if isinstance(output, torch.Tensor) else output
        return hook

    weights = next(model.parameters())
    batch = torch.tensor(image[None, None]).to(weights) / 255
    with as_before(model, weights.device) as bare:
        handles = [bare.get_submodule(name).register_forward_hook(keep(name)) for name in names]
        try:
            bare(batch)
        finally:
            for handle in handles:
                handle.remove()
    return kept


def list_layers(
    model: torch.nn.Module | None = None,  # takes [B, 1, H, W] in 0..1; None: the plain network, untrained
    images: np.ndarray | None = None,  # uint8 [N, H, W]; None: six phantoms
) -> dict[str, tuple[int, int, int]]:  # name as in `model.named_modules()` -> maps, height, width
    "The layers that put out maps, in the order in which they finish. Raises ValueError where there is none"
    model, images = _subject(model, images)
    outputs = _run(model, images[0], [name for name, _ in model.named_modules() if name])
    shapes = {n: tuple(o.shape[1:]) for n, o in outputs.items() if isinstance(o, torch.Tensor) and o.ndim == 4}
    if not shapes:
        raise ValueError(f"no layer of this {type(model).__name__} puts out maps [channels, height, width]")
    return shapes


def _start(layers: dict[str, tuple[int, int, int]]) -> str:
    "The first layer with several maps, where looking begins to be worth while"
    return next((name for name, (count, _, _) in layers.items() if count > 1), next(iter(layers)))


def find_maps(
    model: torch.nn.Module | None = None,  # takes [B, 1, H, W] in 0..1; None: the plain network, untrained
    images: np.ndarray | None = None,  # uint8 [N, H, W]; None: six phantoms
    layer: str | None = None,  # name as in `model.named_modules()`; None: the first with several maps
    film: int = 0,  # which of the films, from 0 on
) -> np.ndarray:  # float32 [maps, height, width]
    """What a layer puts out for a film, the network in evaluation mode and left as it was.

    Raises ValueError for an unknown layer (with the nearest names), one without maps, and a film that is not there.
    """
    model, images = _subject(model, images)
    if not 0 <= film < len(images):
        raise ValueError(f"film={film}: the films are numbered 0 to {len(images) - 1}")
    name = find_layer(model, layer or _start(list_layers(model, images)))
    output = _run(model, images[film], [name]).get(name)
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        came = f"gives {tuple(output.shape)}" if isinstance(output, torch.Tensor) else "gives no tensor"
        raise ValueError(f"layer {layer!r} {came}; maps need [films, channels, height, width]: see list_layers")
    return output[0].float().cpu().numpy()


def describe(
    model: torch.nn.Module | None = None,  # takes [B, 1, H, W] in 0..1; None: the plain network, untrained
    images: np.ndarray | None = None,  # uint8 [N, H, W]; None: six phantoms
    layer: str | None = None,  # name as in `model.named_modules()`; None: the first with several maps
    film: int = 0,  # which of the films, from 0 on
) -> str:  # what the panel says
    "The explorer's text twin: shape, mean, share of zeros, and how many maps are silent"
    model, images = _subject(model, images)
    layer = layer or _start(list_layers(model, images))
    return _words(model, layer, film, find_maps(model, images, layer, film))


def _words(model: torch.nn.Module, layer: str, film: int, maps: np.ndarray) -> str:
    "The numbers under the picture"
    count, height, width = maps.shape
    return "\n".join([
        f"film {film}, layer {layer} ({type(model.get_submodule(layer)).__name__})",
        f"{count} maps of {height} x {width}: {maps.size:,} numbers",
        f"mean {maps.mean():.3f}, smallest {maps.min():.3f}, largest {maps.max():.3f}",
        f"{(maps == 0).mean():.1%} zeros, {int((maps == 0).all((1, 2)).sum())} maps silent",
    ])


def draw_maps(
    maps: np.ndarray,  # float [maps, height, width]
    first: int = 0,  # number of the first map shown
    tile_px: int = 128,  # side of a map on the sheet, in pixels
) -> np.ndarray:  # uint8 [H, W, 3], four rows of four
    "Up to `TILES` maps on one sheet, all on the layer's own scale, dark blue smallest to yellow largest (cividis)"
    from matplotlib import colormaps

    if not 0 <= first < len(maps):
        raise ValueError(f"first={first}: the maps of this layer are numbered 0 to {len(maps) - 1}")
    low, high = float(maps.min()), float(maps.max())
    sheet = np.full((4 * (tile_px + 2), 4 * (tile_px + 2), 3), 255, np.uint8)
    for place, one in enumerate(maps[first : first + TILES]):
        colours = colormaps["cividis"]((one - low) / (high - low or 1), bytes=True)[:, :, :3]
        top, left = (tile_px + 2) * (place // 4), (tile_px + 2) * (place % 4)
        sheet[top : top + tile_px, left : left + tile_px] = _square(colours, tile_px)
    return sheet


def _square(colours: np.ndarray, side_px: int) -> np.ndarray:
    "A map of any shape in a white square, by repeating or leaving out pixels: no value shown that is not there"
    longest = max(colours.shape[:2])
    rows, columns = (np.arange(side_px * side // longest) * longest // side_px for side in colours.shape[:2])
    tile = np.full((side_px, side_px, 3), 255, np.uint8)
    tile[: len(rows), : len(columns)] = colours[rows[:, None], columns]
    return tile


def plot_maps(
    axes: Sequence[Axes],  # where to draw: the film, then a sheet of maps for each layer
    model: torch.nn.Module | None = None,  # takes [B, 1, H, W] in 0..1; None: the plain network, untrained
    images: np.ndarray | None = None,  # uint8 [N, H, W]; None: six phantoms
    layers: Sequence[str] = (),  # names as in `model.named_modules()`; none: the first with several maps
    film: int = 0,  # which of the films, from 0 on
) -> Sequence[Axes]:  # the same
    "Draw film and maps as the panel shows them, for pages without widgets; raises ValueError"
    model, images = _subject(model, images)
    layers = layers or [_start(list_layers(model, images))]
    if len(axes) != len(layers) + 1:
        raise ValueError(f"{len(axes)} axes for a film and {len(layers)} layers: {len(layers) + 1} are needed")
    sheets = [find_maps(model, images, layer, film) for layer in layers]
    axes[0].imshow(images[film], cmap="gray", vmin=0, vmax=255)
    axes[0].set(title=f"film {film}", xlabel="pixel", ylabel="pixel")
    for ax, layer, maps in zip(axes[1:], layers, sheets):
        ax.imshow(draw_maps(maps))
        ax.set_title(f"{layer}: {min(TILES, len(maps))} of {len(maps)} maps")
        ax.axis("off")
    return axes


def panel(
    model: torch.nn.Module | None = None,  # takes [B, 1, H, W] in 0..1; None: the plain network, untrained
    images: np.ndarray | None = None,  # uint8 [N, H, W]; None: six phantoms
    layer: str | None = None,  # where to start; None: the first with several maps
    film: int = 0,  # which film to start with, from 0 on
) -> HBox:  # film and maps, choice of layer, film and maps, and the numbers
    "Look into a network. Raises ModuleNotFoundError naming the extra where ipywidgets is missing"
    widgets = import_ipywidgets()
    model, images = _subject(model, images)
    layers = list_layers(model, images)
    if layer is not None and layer not in layers:
        raise ValueError(f"layer {layer!r} has no maps: choose of {', '.join(layers)}")
    options = [(f"{name}: {count} x {height} x {width}", name) for name, (count, height, width) in layers.items()]
    last = max(count for count, _, _ in layers.values()) - 1
    controls = {
        "layer": widgets.Dropdown(options=options, value=layer or _start(layers)),
        "film": widgets.IntSlider(value=film, min=0, max=len(images) - 1),
        "first_map": widgets.IntSlider(value=0, min=0, max=max(last - last % TILES, 0), step=TILES),
    }

    def draw(layer: str, film: int, first_map: int) -> tuple[np.ndarray, str]:
        maps = find_maps(model, images, layer, film)
        first = min(first_map, (len(maps) - 1) // TILES * TILES)
        sheet = draw_maps(maps, first)
        shown = f"\nmaps {first} to {min(first + TILES, len(maps)) - 1} shown"
        beside = np.repeat(resize(images[film], len(sheet))[:, :, None], 3, 2)
        return np.hstack([beside, sheet]), _words(model, layer, film, maps) + shown

    return assemble(controls, draw, 780)
