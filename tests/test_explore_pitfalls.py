"""Explorer of chapter 7: the twin against sums by hand, a panel that answers, errors that name names."""
from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import browsing
from browsing import PICTURE, PICTURE_BYTES, open_panel
from test_explorers import open_in_voila
from covid_xray.explore import parts, pitfalls

pytest.importorskip("ipywidgets")


@pytest.fixture
def results() -> pd.DataFrame:
    rows = [("leak", "network", s, seed, 0.8 + s / 10 + seed / 100, 0.6) for s in (0.5, 1.0) for seed in range(3)]
    rows += [("leak", "logistic", 1.0, seed, 0.7 - seed / 10, 0.6 + seed / 100) for seed in range(3)]
    rows += [("other", "tree", 1.0, seed, 0.5 + seed / 100, 0.6) for seed in range(3)]
    rows += [("one", "tree", 1.0, 0, 0.9, 0.5)]
    return pd.DataFrame(rows, columns=["pitfall", "model", "strength", "seed", "leaked", "honest"])


def test_the_twin_says_what_hand_and_student_say(results: pd.DataFrame) -> None:
    "Differences 0.30, 0.31, 0.32: mean 31 points, half-width 4.303 x 1 / sqrt(3) = 2.5"
    words = pitfalls.describe("leak", "network", 1.0, results)
    assert "leaked 91.0 %, honest 60.0 %, mean of 3 seeds" in words
    assert "difference 31.0 points (28.5 to 33.5)" in words and "too good" in words
    assert "no effect is shown" in pitfalls.describe("leak", "logistic", 1.0, results)
    assert "the lower one" in pitfalls.describe("other", "tree", 1.0, results)
    assert "one seed" in pitfalls.describe("one", "tree", 1.0, results)


def test_the_panel_agrees_with_the_twin_and_offers_only_what_there_is(results: pd.DataFrame) -> None:
    picture, controls, text = open_panel(pitfalls.panel("leak", results))
    assert list(controls) == ["pitfall", "model", "strength"]
    assert pitfalls.describe("leak", "network", 1.0, results) in text.value and parts.CAPTION in text.value
    before = picture.value
    controls["strength"].value = 0.5
    assert pitfalls.describe("leak", "network", 0.5, results) in text.value and picture.value != before
    controls["pitfall"].value = "other"
    assert controls["model"].options == ("tree",) and controls["strength"].options == (1.0,)
    assert pitfalls.describe("other", "tree", 1.0, results) in text.value
    assert np.asarray(Image.open(io.BytesIO(picture.value))).shape == (220, 600, 3)
    controls["pitfall"].value = "leak"
    assert set(controls["model"].options) == {"network", "logistic"}


def test_every_stored_experiment_can_be_shown() -> None:
    _, controls, text = open_panel(pitfalls.panel())
    for name in controls["pitfall"].options:
        controls["pitfall"].value = name
        for model in controls["model"].options:
            controls["model"].value = model
            assert text.value.startswith(f"<pre>{name}, {controls['model'].value}")


def test_the_static_picture_has_the_means_as_bars(results: pd.DataFrame) -> None:
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    bars = pitfalls.plot_bars(ax, "leak", "network", 1.0, results).patches
    assert [bar.get_width() for bar in bars] == pytest.approx([91, 60])
    plt.close(figure)


def test_what_is_unknown_is_named(results: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="moon.*leak, other"):
        pitfalls.panel("moon", results)
    with pytest.raises(ValueError, match="model forest.*network, logistic"):
        pitfalls.describe("leak", "forest", 1.0, results)
    with pytest.raises(ValueError, match="strength 0.7.*0.5, 1.0"):
        pitfalls.describe("leak", "network", 0.7, results)


# ---- in a browser ----


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return browsing.panel_notebook("pitfalls", tmp_path)


def check_choice(page) -> None:
    "Choose another pitfall: numbers and picture become those of its strongest form"
    picture = page.locator(PICTURE).first
    picture.wait_for(timeout=90_000)
    before = picture.evaluate(PICTURE_BYTES)
    assert pitfalls.describe() in page.locator("pre", has_text="marker, network").first.inner_text()
    page.locator(".widget-dropdown select").first.select_option("sources")
    numbers = page.locator("pre", has_text="sources, network").first
    numbers.wait_for(timeout=30_000)
    assert pitfalls.describe("sources") in numbers.inner_text()
    page.wait_for_timeout(500)  # the picture travels beside the numbers
    assert picture.evaluate(PICTURE_BYTES) != before
    text = page.locator("body").inner_text()
    assert parts.CAPTION in text and "Traceback" not in text and "Error" not in text


def test_the_panel_in_jupyterlab(notebook: Path, page, tmp_path: Path) -> None:
    with browsing.lab(notebook, tmp_path) as address:
        browsing.run_all_cells(page, address)
        check_choice(page)


def test_the_panel_in_voila(notebook: Path, page, tmp_path: Path) -> None:
    with browsing.voila(notebook, tmp_path) as address:
        open_in_voila(page, address)
        check_choice(page)
