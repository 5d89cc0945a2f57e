"""Explorer of chapter 6: one map of one film, its scores against the known lesion, and what one has for nothing.

In a notebook: `from covid_xray.explore.gradcam import panel; panel()`. Its text twin is
`describe(network="phantom-marker", film=3, marker=RINGED)`. The films are simulated, so the lesions are known.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from covid_xray import phantom
from covid_xray.explore.parts import assemble, import_ipywidgets
from covid_xray.gradcam import Explanation, explain, overlay
from covid_xray.hooks import as_before, default_layer
from covid_xray.models import load_model
from covid_xray.phantom_patients import CLASSES, Film
from covid_xray.scoring import energy_share, enrichment, floor_maps, pixel_auprc, pointing_game

if TYPE_CHECKING:
    from ipywidgets import HBox
    from matplotlib.axes import Axes

__all__ = ["FILMS", "MARKERS", "METHODS", "OWN", "RINGED", "SCORES", "SHIPPED", "describe", "panel", "plot_scores",
           "score_table"]

FILMS, OTHERS, SIZE_PX = 16, 60, 128  # films to choose from, other films that the floors know, side in pixels
METHODS = ("gradcam", "gradcam++", "hirescam", "layercam", "eigencam", "saliency")  # one pass each, so quick
RINGED = "R in a ring"  # what the shortcut of the simulator plants; L stands on films of any class
MARKERS = {"none": 0, "L": 1, RINGED: 2}
OWN = "its own"  # ask each film about the disease it has
SCORES = {"pointing": pointing_game, "enrichment": enrichment, "pixel AUPRC": pixel_auprc}
SHIPPED = ("phantom", "phantom-marker")


@dataclass(frozen=True)
class _State:
    "What the controls say"

    network: str
    film: int = 0
    marker: str = "none"
    class_asked: str = OWN
    method: str = "gradcam"
    layer: str = ""

    def check(self, models: Mapping[str, torch.nn.Module]) -> None:
        "Raises ValueError naming what is wrong and what is allowed"
        choices = {"network": models, "marker": MARKERS, "class_asked": (OWN, *CLASSES), "method": METHODS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}: choose of {', '.join(allowed)}")
        if not 0 <= self.film < FILMS:
            raise ValueError(f"film={self.film}: the films are numbered 0 to {FILMS - 1}")


@dataclass(frozen=True)
class _Result:
    "A map of every film, and what it scores"

    films: phantom.Phantoms
    seen: Explanation
    probabilities: np.ndarray  # float [FILMS, classes]
    scores: dict[str, dict[str, np.ndarray]]  # explanation or floor -> score -> float [FILMS]


@functools.cache
def _films(marker: str) -> phantom.Phantoms:
    "Sick films, the same patients and noise with either marker and without"
    films = phantom.simulate(FILMS, size_px=SIZE_PX, seed=31, prevalence={"covid": 0.5, "pneumonia": 0.5}, follow_up=0)
    paths = [replace(Film.from_path(path), marker=MARKERS[marker]).path for path in films.table["path"]]
    images, masks = phantom.render(paths, SIZE_PX), phantom.masks(paths, SIZE_PX)
    return replace(films, images=images, masks=masks, table=films.table.assign(path=paths))


@functools.cache
def _floors() -> dict[str, dict[str, np.ndarray]]:
    "What explanations score that know where lesions of other films lie, but never look at a film"
    others = phantom.simulate(OTHERS, size_px=SIZE_PX, seed=32, prevalence={"covid": 0.5, "pneumonia": 0.5})
    masks = _films("none").masks["lesions"]
    maps = floor_maps(masks, known=others.masks["lesions"])
    del maps["uniform"]  # on average it scores as "random" does
    return {name: {score: function(map, masks) for score, function in SCORES.items()} for name, map in maps.items()}


def _shipped(models: Mapping[str, torch.nn.Module] | None) -> Mapping[str, torch.nn.Module]:
    return {name: load_model(name)[0] for name in SHIPPED} if models is None else models


def _state(models: Mapping[str, torch.nn.Module], settings: Mapping[str, Any]) -> _State:
    "The controls' start, checked; raises ValueError"
    known = _State.__dataclass_fields__
    if unknown := set(settings) - set(known):
        raise ValueError(f"{', '.join(sorted(unknown))} can't be set: choose of {', '.join(known)}")
    state = _State(**{"network": next(iter(models)), **settings})
    state.check(models)
    layer = state.layer or default_layer(models[state.network], torch.zeros(1, 1, SIZE_PX, SIZE_PX))
    return replace(state, layer=layer)


def _examine(models: Mapping[str, torch.nn.Module], state: _State) -> _Result:
    "Explain all films as the controls say, and score the maps"
    films, model = _films(state.marker), models[state.network]
    images = torch.from_numpy(films.images[:, None] / np.float32(255))
    targets = films.targets if state.class_asked == OWN else np.full(FILMS, CLASSES.index(state.class_asked))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an empty map is named in the text instead
        seen = explain(model, images, targets.tolist(), method=state.method, layer=state.layer)
    like = next(model.parameters())
    with as_before(model, like.device) as bare:
        probabilities = bare(images.to(like)).softmax(dim=1).cpu().numpy()
    maps = np.nan_to_num(seen.maps)
    mine = {score: function(maps, films.masks["lesions"]) for score, function in SCORES.items()}
    return _Result(films, seen, probabilities, {"map": mine} | _floors())


def score_table(
    models: Mapping[str, torch.nn.Module] | None = None,  # name -> takes [B, 1, 128, 128]; None: `SHIPPED`
    **settings: Any,  # network, film, marker, class_asked, method, layer
) -> dict[str, dict[str, np.ndarray]]:  # "map" or floor -> score -> float [FILMS]
    "What the map of every film scores, and each floor beside it. Raises ValueError for a setting that is not there"
    models = _shipped(models)
    return _examine(models, _state(models, settings)).scores


def describe(
    models: Mapping[str, torch.nn.Module] | None = None,  # name -> takes [B, 1, 128, 128]; None: `SHIPPED`
    **settings: Any,  # network, film, marker, class_asked, method, layer
) -> str:  # what the panel says
    "The explorer's text twin: prediction, map, scores and floors. Raises ValueError for a setting that is not there"
    models = _shipped(models)
    state = _state(models, settings)
    return _words(state, _examine(models, state))


def _words(state: _State, result: _Result) -> str:
    "The numbers under the picture"
    film, seen = state.film, result.seen
    chances = ", ".join(f"{name} {p:.0%}" for name, p in zip(CLASSES, result.probabilities[film]))
    lines = [
        f"film {film}: {CLASSES[result.films.targets[film]]}, marker: {state.marker}",
        f"{state.network} says {chances}",
        f"{seen.method} of {CLASSES[seen.targets[film]]} at {seen.layer}, score {seen.scores[film]:+.2f}",
    ]
    if film in seen.remarks:
        lines.append(seen.remarks[film])
    lines += ["", *_rows("this film", result.scores, lambda values: values[film])]
    lines += ["", *_rows(f"all {FILMS} films", result.scores, _mean), ""]
    for name in ("lesions", "marker"):
        mask = result.films.masks[name][film]
        if mask.any() and film not in seen.remarks:
            share = energy_share(seen.maps[[film]], mask[None])[0]
            lines.append(f"{share:.1%} of the map on the {name}, {mask.mean():.1%} of the area")
    return "\n".join(lines)


def _mean(values: np.ndarray) -> float:
    "The mean without empty maps, which have no energy"
    return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else float("nan")


def _rows(title: str, scores: dict[str, dict[str, np.ndarray]], pick: Any) -> list[str]:
    "A row for the map and for each floor"
    head = f"{title:<20}" + "".join(f"{score:>13}" for score in SCORES)
    return [head, *(f"{name:<20}" + "".join(f"{pick(values[score]):13.2f}" for score in SCORES)
                    for name, values in scores.items())]


def plot_scores(
    axes: Sequence[Axes],  # five: film, map, pointing game, enrichment, pixel AUPRC
    models: Mapping[str, torch.nn.Module] | None = None,  # name -> takes [B, 1, 128, 128]; None: `SHIPPED`
    **settings: Any,  # network, film, marker, class_asked, method, layer
) -> Sequence[Axes]:  # the same
    "Draw what the panel shows, for pages without widgets. Raises ValueError where there are not five axes"
    if len(axes) != 2 + len(SCORES):
        raise ValueError(f"{len(axes)} axes for film, map and {len(SCORES)} scores: {2 + len(SCORES)} are needed")
    models = _shipped(models)
    state = _state(models, settings)
    _draw(axes, state, _examine(models, state))
    return axes


def _draw(axes: Sequence[Axes], state: _State, result: _Result) -> None:
    "Film and map with the outlines of lesion and marker; a bar a row for the means, a dot for this film"
    image = result.films.images[state.film]
    axes[0].imshow(image, cmap="gray", vmin=0, vmax=255)
    axes[0].set(title=f"film {state.film}: {CLASSES[result.films.targets[state.film]]}", xticks=[], yticks=[])
    overlay(image, result.seen.maps[state.film], axes[1])
    axes[1].set_title(f"{state.network}: {CLASSES[result.seen.targets[state.film]]}")
    for ax in axes[:2]:
        for name, colour, line in (("lesions", "cyan", "--"), ("marker", "yellow", ":")):
            if result.films.masks[name][state.film].any():
                ax.contour(result.films.masks[name][state.film], levels=[0.5], colors=colour, linestyles=line)
    for ax, score in zip(axes[2:], SCORES):
        means = [_mean(values[score]) for values in result.scores.values()]
        ax.barh(range(len(means)), means, color=["0.25"] + ["0.75"] * (len(means) - 1))
        ax.plot([values[score][state.film] for values in result.scores.values()], range(len(means)), "o",
                color="C1", markeredgecolor="black", clip_on=False)
        names = list(result.scores) if score == "pointing" else [""] * len(means)
        ax.set(title=score, yticks=range(len(means)), yticklabels=names, ylim=(len(means) - 0.4, -0.6))
        ax.set_xlabel("times its area" if score == "enrichment" else "0 to 1")
        ax.set_xlim(0, None if score == "enrichment" else 1)


def _picture(state: _State, result: _Result) -> np.ndarray:
    "The five drawings as one picture, without pyplot, so that no figure of the reader's is touched"
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context("covid_xray.course"):
        figure = Figure(figsize=(11, 2.9), dpi=90, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        _draw(figure.subplots(1, 2 + len(SCORES), width_ratios=(3, 3, 2, 2, 2)), state, result)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def _list_layers(model: torch.nn.Module) -> list[str]:
    "The layers between which one would choose, from early to late; the last child is the same as the whole"
    names = [name for name, _ in model.named_modules() if name.startswith("features.") and name.count(".") == 1]
    return [*names[1:-1], "features"]


def panel(
    models: Mapping[str, torch.nn.Module] | None = None,  # name -> takes [B, 1, 128, 128]; None: `SHIPPED`
    **settings: Any,  # where to start: network, film, marker, class_asked, method, layer
) -> HBox:  # picture, choice of network, film, marker, class, method and layer, and the numbers
    "Look at maps and their scores. Raises ValueError, and ModuleNotFoundError where ipywidgets is missing"
    widgets = import_ipywidgets()
    models = _shipped(models)
    start = _state(models, settings)
    layers = list(dict.fromkeys([*_list_layers(models[start.network]), start.layer]))
    choices = {"network": tuple(models), "marker": tuple(MARKERS), "class_asked": (OWN, *CLASSES), "method": METHODS,
               "layer": layers}
    controls: dict[str, Any] = {"film": widgets.IntSlider(value=start.film, min=0, max=FILMS - 1)}
    controls |= {name: widgets.Dropdown(options=some, value=getattr(start, name)) for name, some in choices.items()}

    @functools.cache
    def examine(network: str, marker: str, class_asked: str, method: str, layer: str) -> _Result:
        return _examine(models, _State(network, 0, marker, class_asked, method, layer))

    def draw(**values: Any) -> tuple[np.ndarray, str]:
        state = _State(**values)
        result = examine(**{name: value for name, value in values.items() if name != "film"})
        return _picture(state, result), _words(state, result)

    return assemble(controls, draw, 900)
