"Explorer of chapter 5: its numbers against scikit-learn and counts by hand, its panel against its text twin"
from __future__ import annotations

import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.metrics as reference
from PIL import Image

from covid_xray.explore import metrics as explorer
from covid_xray.explore import parts

pytest.importorskip("ipywidgets")


@pytest.fixture(scope="module")
def predictions() -> SimpleNamespace:
    rng = np.random.default_rng(4)
    targets = np.arange(90) % 3
    logits = 1.5 * np.eye(3)[targets] + rng.normal(size=(90, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return SimpleNamespace(probabilities=probabilities, targets=targets, table=None, classes=("a", "b", "c"))


def open_panel(box) -> tuple:
    "A panel's picture, its controls by name, and its text"
    picture, column = box.children
    *controls, text = column.children
    return picture, {control.description: control for control in controls}, text


def numbers(line: str) -> list[float]:
    return [float(word.replace(",", "")) for word in re.findall(r"\d[\d,]*\.?\d*", line)]


def test_people_are_counted_by_hand() -> None:
    "90 of 100 sick people found, 90 of 100 healthy ones cleared, 1 in 100 sick: 90 among 1,080 called"
    assert list(explorer.consequences(0.9, 0.9, 0.01).values()) == [90, 10, 990, 8910]
    for settings in ((0.123, 0.777, 0.333), (1, 1, 0.5), (0, 0, 0.01), (1, 0, 1)):
        people = explorer.consequences(*settings)
        assert sum(people.values()) == 10_000 and min(people.values()) >= 0


@pytest.mark.parametrize("label, threshold", [("a", 0.5), ("c", 0.31), (None, 0.0), ("b", 1.0)])
def test_the_twin_says_what_scikit_learn_says(predictions, label: str | None, threshold: float) -> None:
    index = "abc".index(label or "a")
    sick, scores = predictions.targets == index, predictions.probabilities[:, index]
    (cleared, alarms), (missed, found) = reference.confusion_matrix(sick, scores >= threshold, labels=[False, True])
    words = explorer.describe(predictions, label, threshold=threshold, prevalence=0.2).splitlines()
    assert words[0] == f"threshold {threshold:.2f}, prevalence 20%" and f"{label or 'a'} against the rest" in words[1]
    assert numbers(words[2]) == [found, found + missed, alarms, alarms + cleared]
    assert numbers(words[3]) == pytest.approx([found / 30, cleared / 60], abs=6e-4)
    assert numbers(words[4]) == pytest.approx([reference.roc_auc_score(sick, scores)], abs=6e-4)
    assert numbers(words[5])[1:] == [2000, round(2000 * found / 30), 2000 - round(2000 * found / 30)]
    called_sick, called_healthy = round(2000 * found / 30), numbers(words[6])[0]
    assert called_healthy + numbers(words[6])[1] == 8000
    if called_sick + called_healthy:
        assert numbers(words[7])[1] == round(100 * called_sick / (called_sick + called_healthy))
    else:
        assert "nobody" in words[7]


def test_the_simulated_scores_are_risks_and_say_that_they_are_made_up() -> None:
    sick, scores = explorer.simulated_scores(60_000, seed=1)
    for low in (0.1, 0.4, 0.8):
        near = (scores >= low) & (scores < low + 0.1)
        assert sick[near].mean() == pytest.approx(scores[near].mean(), abs=0.03)
    assert "simulated scores" in explorer.describe()
    assert np.array_equal(explorer.simulated_scores()[1], explorer.simulated_scores()[1])


def test_the_panel_follows_both_sliders_and_agrees_with_the_twin(predictions) -> None:
    picture, controls, text = open_panel(explorer.panel(predictions, "b"))
    assert parts.CAPTION in text.value and not any(c.continuous_update for c in controls.values())
    assert explorer.describe(predictions, "b") in text.value
    for name, value in (("threshold", 0.8), ("prevalence", 0.01)):
        before, words = picture.value, text.value
        controls[name].value = value
        assert picture.value != before and text.value != words, name
    assert explorer.describe(predictions, "b", threshold=0.8, prevalence=0.01) in text.value
    controls["threshold"].value, controls["prevalence"].value = 0.5, 0.1
    assert explorer.describe(predictions, "b") in text.value
    assert np.asarray(Image.open(io.BytesIO(picture.value))).shape[2] == 3


@pytest.mark.parametrize("threshold, prevalence", [(0.0, 0.01), (1.0, 0.5), (0.55, 0.3)])
def test_the_static_picture_shows_the_same_numbers(predictions, threshold: float, prevalence: float) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3)
    axes = explorer.plot_threshold(axes.flat, predictions, "a", threshold=threshold, prevalence=prevalence)
    sick, scores = predictions.targets == 0, predictions.probabilities[:, 0]
    cells = reference.confusion_matrix(~sick, scores < threshold, labels=[False, True]).ravel()
    assert [int(text.get_text().split()[0]) for text in axes[1].texts] == cells.tolist()
    square = axes[2].images[0].get_array()
    people = explorer.consequences(cells[0] / 30, cells[3] / 60, prevalence)
    assert [(square == heap).sum() for heap in range(4)] == list(people.values())
    false_rate, true_rate, _ = reference.roc_curve(sick, scores, drop_intermediate=False)
    assert np.allclose(axes[3].lines[0].get_xydata(), np.column_stack([false_rate, true_rate]))
    assert np.allclose(axes[3].lines[1].get_xydata(), [[cells[2] / 60, cells[0] / 30]])
    plt.close(figure)


def test_bad_arguments_are_named(predictions) -> None:
    with pytest.raises(ValueError, match="'d' is unknown: choose a, b, c"):
        explorer.describe(predictions, "d")
    with pytest.raises(ValueError, match="threshold=1.5.*0 to 1"):
        explorer.describe(threshold=1.5)
    with pytest.raises(ValueError, match="prevalence=-1"):
        explorer.describe(prevalence=-1)
    with pytest.raises(ValueError, match="six"):
        explorer.plot_threshold([None])
    alone = SimpleNamespace(**vars(predictions) | {"targets": np.zeros(90, int)})
    with pytest.raises(ValueError, match="films of a .*one kind only"):
        explorer.panel(alone)
