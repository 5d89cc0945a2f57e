"Explorer of chapter 6: scores worked another way, its panel against its text twin, and both in a real browser"
from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import auc, precision_recall_curve
from torch import nn

import browsing
from covid_xray import phantom
from covid_xray.explore import gradcam as explorer
from covid_xray.explore import parts
from covid_xray.gradcam import explain

pytest.importorskip("ipywidgets")

PICTURE = "img.widget-image"
PICTURE_BYTES = "async e => Array.from(new Uint8Array(await (await fetch(e.src)).arrayBuffer()))"
FAULTS = ("Traceback", "Error displaying widget", "Error creating widget", "Error rendering", "JavaScript error")


class Small(nn.Module):
    "Two layers with maps and a linear head, random weights"

    def __init__(self, seed: int):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            first = nn.Sequential(nn.Conv2d(1, 6, 5, stride=4, padding=2), nn.ReLU())
            second = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU())
            self.features = nn.Sequential(nn.Identity(), first, second)
            self.head = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).mean((2, 3)))


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    return {"one": Small(1), "other": Small(2)}


def open_panel(box) -> tuple:
    "A panel's picture, its controls by name, and its text"
    picture, column = box.children
    *controls, text = column.children
    return picture, {control.description: control for control in controls}, text


def row(words: str, block: str, name: str) -> list[float]:
    "The numbers of a row of the text, below the head of a block"
    line = next(line for line in words.split(block)[1].splitlines() if line.startswith(name))
    return [float(word) for word in re.findall(r"-?\d+\.\d+|nan", line)]


# ---- numbers ----


def test_scores_are_those_worked_another_way(models) -> None:
    films = explorer._films(explorer.RINGED)
    images = torch.from_numpy(films.images[:, None] / np.float32(255))
    maps = explain(models["one"], images, 0, method="layercam", layer="features.1").maps
    words = explorer.describe(models, film=3, marker=explorer.RINGED, class_asked="covid", method="layercam",
                              layer="features.1")
    lesion, map = films.masks["lesions"][3], maps[3].astype(float)
    precision, recall, _ = precision_recall_curve(lesion.ravel(), map.ravel())
    average = -np.sum(np.diff(recall) * precision[:-1])
    assert auc(recall, precision) == pytest.approx(average, abs=0.02)
    top = np.unravel_index(map.argmax(), map.shape)
    expected = [float(lesion[top]), map[lesion].mean() / map.mean(), average]
    assert row(words, "this film", "map") == pytest.approx(expected, abs=0.0051)
    share = map[films.masks["marker"][3]].sum() / map.sum()
    assert f"{share:.1%} of the map on the marker" in words
    assert f"{map[lesion].sum() / map.sum():.1%} of the map on the lesions" in words


def test_the_second_block_holds_the_means(models) -> None:
    table = explorer.score_table(models, network="other")
    words = explorer.describe(models, network="other")
    for name, scores in table.items():
        means = [np.nanmean(values) for values in scores.values()]
        assert row(words, f"all {explorer.FILMS} films", name) == pytest.approx(means, abs=0.0051)
        assert all(len(values) == explorer.FILMS for values in scores.values())


def test_the_prediction_and_the_score_are_the_network_s(models) -> None:
    films = explorer._films("none")
    with torch.no_grad():
        logits = models["other"](torch.from_numpy(films.images[2:3, None] / np.float32(255)))[0]
    words = explorer.describe(models, network="other", film=2, class_asked="normal")
    shown = ", ".join(f"{name} {p:.0%}" for name, p in zip(phantom.CLASSES, logits.softmax(0).tolist()))
    assert f"other says {shown}" in words and f"gradcam of normal at features, score {logits[1]:+.2f}" in words


def test_a_constant_floor_is_what_other_films_teach(models) -> None:
    others = phantom.simulate(explorer.OTHERS, size_px=128, seed=32, prevalence={"covid": 0.5, "pneumonia": 0.5})
    lesions = explorer._films("none").masks["lesions"]
    row_, column = np.unravel_index(others.masks["lesions"].mean(0).argmax(), (128, 128))
    floors = explorer.score_table(models)
    assert np.array_equal(floors["best constant pixel"]["pointing"], lesions[:, row_, column])
    assert floors["random"]["enrichment"] == pytest.approx(np.ones(explorer.FILMS), abs=0.15)
    assert list(floors) == ["map", "random", "centre", "best constant pixel", "mean mask"]


@pytest.mark.parametrize("marker", ["L", explorer.RINGED])
def test_only_the_marker_differs(marker: str) -> None:
    without, with_ = explorer._films("none"), explorer._films(marker)
    assert not without.masks["marker"].any() and with_.masks["marker"].any((1, 2)).all()
    assert np.array_equal(without.masks["lesions"], with_.masks["lesions"])
    changed = without.images != with_.images
    assert changed.any((1, 2)).all() and changed.mean() < 0.1


def test_an_empty_map_says_why_and_has_no_energy(models) -> None:
    silent = Small(3)
    nn.init.zeros_(silent.head.weight)
    words = explorer.describe({"silent": silent})
    assert "all zero: the score does not move" in words and "nan" in words.split("all 16")[0]
    explorer.panel({"silent": silent})


def test_the_default_networks_are_the_shipped_ones() -> None:
    "The marker moves the twin's predictions and leaves those of the honest one"
    models, moved = explorer._shipped(None), {}
    for network in explorer.SHIPPED:
        without, with_ = (explorer._examine(models, explorer._state(models, {"network": network, "marker": marker}))
                          .probabilities[:, 0] for marker in ("none", explorer.RINGED))
        moved[network] = (with_ - without).mean()
    assert abs(moved["phantom"]) < 0.1 and moved["phantom-marker"] > 0.2


# ---- panel ----


def test_every_control_changes_picture_and_numbers_and_back(models) -> None:
    picture, controls, text = open_panel(explorer.panel(models))
    assert list(controls) == ["film", "network", "marker", "class asked", "method", "layer"]
    assert not controls["film"].continuous_update
    for name, control in controls.items():
        before, old = (picture.value, text.value), control.value
        control.value = {"film": 5, "marker": "L", "network": "other", "class asked": "normal",
                         "method": "layercam", "layer": "features.1"}[name]
        assert picture.value != before[0] and text.value != before[1], name
        control.value = old
        assert (picture.value, text.value) == before, name
    assert parts.CAPTION in text.value


def test_the_panel_agrees_with_the_twin_and_the_static_picture(models) -> None:
    import matplotlib.pyplot as plt

    settings = {"network": "other", "film": 4, "marker": "L", "class_asked": "covid", "method": "saliency"}
    picture, _, text = open_panel(explorer.panel(models, **settings))
    assert explorer.describe(models, **settings) in text.value
    assert np.asarray(Image.open(io.BytesIO(picture.value))).shape[2] == 3
    figure, axes = plt.subplots(1, 5)
    _, map, *bars = explorer.plot_scores(axes, models, **settings)
    assert map.get_title().startswith("other: covid")
    table = explorer.score_table(models, **settings)
    for ax, score in zip(bars, explorer.SCORES):
        assert [bar.get_width() for bar in ax.patches] == pytest.approx([v[score].mean() for v in table.values()])
        assert list(ax.lines[0].get_xdata()) == pytest.approx([v[score][4] for v in table.values()])
    plt.close(figure)


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"film": 16}, "film=16.*0 to 15"),
        ({"network": "two"}, "two.*one, other"),
        ({"class_asked": "flu"}, "flu.*covid, normal, pneumonia"),
        ({"marker": True}, "True.*none, L, R in a ring"),
        ({"method": "gradcan"}, "gradcan.*gradcam"),
        ({"layer": "feature.1"}, "feature.1.*features.1"),
        ({"colour": "red"}, "colour.*network, film"),
    ],
)
def test_bad_settings_are_named(models, settings: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        explorer.describe(models, **settings)
    with pytest.raises(ValueError, match="2 axes.*5 are needed"):
        explorer.plot_scores([None, None], models)


# ---- browser ----


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    "A notebook that opens the panel as the chapter does"
    cell = {"cell_type": "code", "id": "panel", "metadata": {}, "outputs": [], "execution_count": None,
            "source": "from covid_xray.explore import gradcam as explorer\nexplorer.panel()"}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = tmp_path / "work" / "panel.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps({"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    return path


@pytest.fixture
def page(browser) -> Iterator:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    yield page
    page.close()


def check_panel(page) -> None:
    "Another film, then the twin, then a marker: the numbers become the text twin's, and the picture another"
    picture, text = page.locator(PICTURE).first, page.locator("pre", has_text="enrichment").first
    assert explorer.describe() in text.inner_text()
    handle = page.locator(".widget-slider", has_text="film").locator(".noUi-handle").first
    network, marker = (page.locator(".widget-dropdown select").nth(place) for place in (0, 1))
    settings: dict = {"film": 2}
    moves = [
        ({}, lambda: [handle.focus(), *(page.keyboard.press("ArrowRight") for _ in range(2))]),
        ({"network": "phantom-marker"}, lambda: network.select_option("phantom-marker")),
        ({"marker": explorer.RINGED}, lambda: marker.select_option(explorer.RINGED)),
    ]
    for change, move in moves:
        before, settings = picture.evaluate(PICTURE_BYTES), settings | change
        move()
        words = explorer.describe(**settings).splitlines()
        page.locator("pre", has_text=words[0]).filter(has_text=words[1]).first.wait_for(timeout=30_000)
        assert "\n".join(words) in text.inner_text()
        page.wait_for_timeout(500)  # the picture travels beside the numbers
        assert picture.evaluate(PICTURE_BYTES) != before
    shown = page.locator("body").inner_text()
    assert parts.CAPTION in shown and not [fault for fault in FAULTS if fault in shown]


def test_the_panel_in_jupyterlab(notebook: Path, page, tmp_path: Path) -> None:
    with browsing.lab(notebook, tmp_path) as address:
        browsing.run_all_cells(page, address)
        page.locator(PICTURE).first.wait_for(timeout=90_000)
        check_panel(page)


def test_the_panel_in_voila(notebook: Path, page, tmp_path: Path) -> None:
    from playwright.sync_api import TimeoutError

    with browsing.voila(notebook, tmp_path) as address:
        for attempts_left in (2, 1, 0):  # Voila can lose a cell's reply; loading again gives a new kernel
            page.goto(address, wait_until="commit", timeout=90_000)
            try:
                page.locator(PICTURE).first.wait_for(timeout=60_000)
                break
            except TimeoutError:
                if not attempts_left:
                    raise
        check_panel(page)
