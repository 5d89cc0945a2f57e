"""Explorer of chapter 5: drag the threshold and see the matrix, the curves, and what it means for 10,000 patients.

In a notebook: `from covid_xray.explore.metrics import panel; panel()` or `panel(predictions, "covid")`. Its text twin
is `describe(threshold=0.5, prevalence=0.1)`. Without predictions of your own it shows simulated scores, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from covid_xray import metrics
from covid_xray.explore.parts import assemble, import_ipywidgets

if TYPE_CHECKING:
    from ipywidgets import HBox
    from matplotlib.axes import Axes

    from covid_xray.training import Predictions

__all__ = ["PEOPLE", "consequences", "describe", "panel", "plot_threshold", "simulated_scores"]

PEOPLE = 10_000  # a square of 100 by 100
# sick and called, sick and missed, healthy and called, healthy and cleared: apart in grey as in colour
COLOURS = {"sick, called": "#0072B2", "sick, missed": "#000000", "healthy, called": "#E69F00",
           "healthy, cleared": "#E8E8E8"}


def simulated_scores(
    films: int = 600,  # how many, a third of them sick
    seed: int = 0,  # the same seed gives the same scores
) -> tuple[np.ndarray, np.ndarray]:  # sick, bool [N]; probability of being sick, float [N], 0 to 1
    "Scores of a made-up reader: sick films lie 1.8 standard deviations above healthy ones, read by Bayes' rule"
    rng, distance = np.random.default_rng(seed), 1.8
    sick = np.arange(films) % 3 == 0
    seen = rng.normal(size=films) + distance * sick
    return sick, 1 / (1 + 2 * np.exp(distance**2 / 2 - distance * seen))


def _subject(predictions: Predictions | None, label: str | None) -> tuple[np.ndarray, np.ndarray, str]:
    "Who is sick, the scores, and where both come from"
    if predictions is None:
        sick, scores = simulated_scores()
        return sick, scores, "simulated scores (seed 0), no model and no film"
    targets, probabilities = metrics.checked(predictions)
    names = list(predictions.classes)
    label = names[0] if label is None else label
    if label not in names:
        raise ValueError(f"label {label!r} is unknown: choose {', '.join(map(str, names))}")
    sick = targets == names.index(label)
    if sick.all() or not sick.any():
        raise ValueError(f"films of {label} and films of other classes are needed: this part has one kind only")
    return sick, probabilities[:, names.index(label)], f"{label} against the rest, {len(sick)} films"


def consequences(
    sensitivity: float,  # 0 to 1
    specificity: float,  # 0 to 1
    prevalence: float,  # share of sick people, 0 to 1
) -> dict[str, int]:  # people of 10,000 in each of the four heaps, named as in `COLOURS`; they sum to 10,000
    "What a threshold does to 10,000 people, rounded to whole people"
    sick = round(PEOPLE * prevalence)
    found, alarmed = round(sick * sensitivity), round((PEOPLE - sick) * (1 - specificity))
    return dict(zip(COLOURS, (found, sick - found, alarmed, PEOPLE - sick - alarmed)))


def _read(sick: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[np.ndarray, float, float]:
    "The matrix (row = truth, healthy first), sensitivity and specificity"
    matrix = metrics.confusion_matrix(sick, scores >= threshold, 2)
    return matrix, float(metrics.recall(matrix)[1]), float(metrics.specificity(matrix)[1])


def _checked(threshold: float, prevalence: float) -> None:
    for name, value in {"threshold": threshold, "prevalence": prevalence}.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value} must lie in 0 to 1")


def _of_hundred(part: int, whole: int) -> str:
    "How many of 100, in words; people in whole numbers where that says enough"
    if not whole:
        return "nobody is in this group"
    share = 100 * part / whole
    return f"{share:.0f} are sick" if share >= 1 or not part else "fewer than 1 is sick"


def describe(
    predictions: Predictions | None = None,  # None: simulated scores
    label: str | None = None,  # the class that counts as sick; None: the first
    *,
    threshold: float = 0.5,  # a film is called positive from this probability up, 0 to 1
    prevalence: float = 0.1,  # share of sick people where the model is used, 0 to 1
) -> str:  # what the panel says
    "The explorer's text twin: four counts, the curves' areas, and the consequences for 10,000 people"
    return _words(*_subject(predictions, label), threshold, prevalence)


def _words(sick: np.ndarray, scores: np.ndarray, origin: str, threshold: float, prevalence: float) -> str:
    "The numbers under the picture"
    _checked(threshold, prevalence)
    ((cleared, alarms), (missed, found)), sensitivity, specificity = _read(sick, scores, threshold)
    people = consequences(sensitivity, specificity, prevalence)
    sick_called, sick_missed, healthy_called, healthy_cleared = people.values()
    return "\n".join([
        f"threshold {threshold:.2f}, prevalence {prevalence:.0%}",
        origin,
        f"measured: {found} of {found + missed} sick called, {alarms} of {alarms + cleared} healthy called",
        f"sensitivity {sensitivity:.3f}, specificity {specificity:.3f}",
        f"whatever the threshold: AUROC {metrics.auroc(sick, scores):.3f}",
        f"of {PEOPLE:,} people {sick_called + sick_missed:,} are sick: {sick_called:,} called, {sick_missed:,} missed",
        f"{healthy_called:,} healthy people are called, {healthy_cleared:,} cleared",
        f"of 100 people called positive, {_of_hundred(sick_called, sick_called + healthy_called)}",
        f"of 100 people cleared, {_of_hundred(sick_missed, sick_missed + healthy_cleared)}",
    ])


def plot_threshold(
    axes: Sequence[Axes],  # six: scores, matrix, 10,000 people, ROC, precision-recall, predictive value
    predictions: Predictions | None = None,  # None: simulated scores
    label: str | None = None,  # the class that counts as sick; None: the first
    *,
    threshold: float = 0.5,  # a film is called positive from this probability up, 0 to 1
    prevalence: float = 0.1,  # share of sick people where the model is used, 0 to 1
) -> Sequence[Axes]:  # the same
    "Draw what the panel shows, for pages without widgets. Raises ValueError where there are not six axes"
    if len(axes) != 6:
        raise ValueError(f"{len(axes)} axes for six drawings: hand over plt.subplots(2, 3)[1].flat")
    _checked(threshold, prevalence)
    sick, scores, _ = _subject(predictions, label)
    matrix, sensitivity, specificity = _read(sick, scores, threshold)
    _draw_scores(axes[0], sick, scores, threshold)
    _draw_matrix(axes[1], matrix)
    _draw_people(axes[2], consequences(sensitivity, specificity, prevalence))
    _draw_curves(axes[3], axes[4], sick, scores, sensitivity, specificity, prevalence)
    _draw_value(axes[5], sensitivity, specificity, prevalence)
    return axes


def _draw_scores(ax: Axes, sick: np.ndarray, scores: np.ndarray, threshold: float) -> None:
    for chosen, name, line in ((~sick, "healthy", "--"), (sick, "sick", "-")):
        weights = np.full(chosen.sum(), 100 / chosen.sum())
        ax.hist(scores[chosen], np.linspace(0, 1, 21), weights=weights, histtype="step", linestyle=line, label=name)
    ax.axvline(threshold, color="black")
    ax.set(title="scores, and the threshold", xlabel="probability of being sick", ylabel="films of the kind (%)")
    ax.legend()


def _draw_matrix(ax: Axes, matrix: np.ndarray) -> None:
    counts = matrix[::-1, ::-1]  # the sick and the called first, as one reads
    shares = counts / counts.sum(axis=1, keepdims=True)
    ax.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        ax.text(column, row, f"{counts[row, column]}\n{share:.0%}", ha="center", va="center",
                color="black" if share > 0.5 else "white")
    ax.set(title="what was measured", xticks=[0, 1], xticklabels=["called", "cleared"], yticks=[0, 1],
           yticklabels=["sick", "healthy"])


def _draw_people(ax: Axes, people: dict[str, int]) -> None:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    square = np.repeat(np.arange(4), list(people.values())).reshape(100, 100)
    ax.imshow(square, cmap=ListedColormap(list(COLOURS.values())), vmin=0, vmax=3, interpolation="nearest")
    handles = [Patch(color=COLOURS[name], label=f"{name} {count:,}") for name, count in people.items()]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")
    ax.set(title=f"{PEOPLE:,} people, one dot each", xticks=[], yticks=[])


def _draw_curves(roc: Axes, pr: Axes, sick: np.ndarray, scores: np.ndarray, sensitivity: float, specificity: float,
                 prevalence: float) -> None:
    "ROC, and precision against recall as they would be at the chosen prevalence"
    false_rate, true_rate, _ = metrics.roc_curve(sick, scores)
    roc.plot(false_rate, true_rate)
    roc.plot(1 - specificity, sensitivity, "o", color="black", clip_on=False)
    roc.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    roc.set(title="ROC: prevalence has no part in it", xlabel="1 - specificity", ylabel="sensitivity")
    pr.plot(true_rate, metrics.predictive_values(true_rate, 1 - false_rate, prevalence)[0])
    pr.plot(sensitivity, metrics.predictive_values(sensitivity, specificity, prevalence)[0], "o", color="black")
    pr.set(title=f"precision at a prevalence of {prevalence:.0%}", xlabel="recall (sensitivity)", ylabel="precision",
           xlim=(0, 1.02), ylim=(0, 1.02))


def _draw_value(ax: Axes, sensitivity: float, specificity: float, prevalence: float) -> None:
    along = np.linspace(0.01, 0.5, 99)
    ax.plot(100 * along, 100 * metrics.predictive_values(sensitivity, specificity, along)[0])
    ax.plot(100 * prevalence, 100 * metrics.predictive_values(sensitivity, specificity, prevalence)[0], "o",
            color="black")
    ax.set(title="of 100 people called, sick are", xlabel="prevalence (%)", ylabel="people", ylim=(0, 102))


def panel(
    predictions: Predictions | None = None,  # None: simulated scores, and the panel says so
    label: str | None = None,  # the class that counts as sick; None: the first
) -> HBox:  # picture, threshold, prevalence, numbers
    "Drag a threshold. Raises ValueError on unsound predictions, ModuleNotFoundError where ipywidgets is missing"
    widgets = import_ipywidgets()
    sick, scores, origin = _subject(predictions, label)
    controls = {
        "threshold": widgets.FloatSlider(value=0.5, min=0, max=1, step=0.01),
        "prevalence": widgets.FloatSlider(value=0.1, min=0.01, max=0.5, step=0.01, readout_format=".0%"),
    }

    def draw(threshold: float, prevalence: float) -> tuple[np.ndarray, str]:
        threshold, prevalence = round(threshold, 2), round(prevalence, 2)
        words = _words(sick, scores, origin, threshold, prevalence)
        return _picture(predictions, label, threshold, prevalence), words

    return assemble(controls, draw, 900)


def _picture(predictions: Predictions | None, label: str | None, threshold: float, prevalence: float) -> np.ndarray:
    "The six drawings as one picture, without pyplot, so that no figure of the reader's is touched"
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context("covid_xray.course"):
        figure = Figure(figsize=(11, 6.2), dpi=90, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots(2, 3)
        plot_threshold(axes.flat, predictions, label, threshold=threshold, prevalence=prevalence)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
