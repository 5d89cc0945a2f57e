"""Explorer of chapter 9: bending by hand, a panel that agrees with its twin, in the browser, too."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import browsing
from browsing import open_panel
from test_explorers import open_in_voila
from covid_xray.explore import deployment, parts

pytest.importorskip("ipywidgets")


def squeezed(text: str) -> str:
    return " ".join(text.replace("&gt;", ">").split())


def test_bending_by_hand() -> None:
    film = deployment.bend("normal film", 1)
    assert film.shape == (256, 256)
    assert np.array_equal(deployment.bend("normal film", 1, inverted=True), 255 - film)
    assert np.array_equal(deployment.bend("normal film", 1, turn=90), np.rot90(film))
    assert np.array_equal(deployment.bend("normal film", 1, crop=0.5), film[64:192, 64:192])
    assert deployment.bend("normal film", 1, exposure=2).mean() > film.mean() + 20


def test_the_twin_says_what_is_wrong() -> None:
    assert deployment.describe("covid film").startswith("covid, called from 0.30 up (")
    assert "positive predictive value" in deployment.describe("covid film", prevalence=0.02)
    assert "refuse: turned" in deployment.describe("covid film", turn=180)
    assert "refuse: inverted" in deployment.describe("covid film", inverted=True)
    assert deployment.describe("CT slice").startswith("refused")


def test_prevalence_moves_the_predictive_value() -> None:
    def value(prevalence: float) -> float:
        words = squeezed(deployment.describe("covid film", prevalence=prevalence))
        return float(words.split("positive predictive value ")[1].split()[0])

    assert value(0.02) < value(0.1) < value(0.5)


def test_the_panel_agrees_with_the_twin() -> None:
    picture, controls, text = open_panel(deployment.panel())
    assert list(controls) == ["picture", "number", "exposure", "turn", "crop", "inverted", "prevalence"]
    assert squeezed(deployment.describe()) in squeezed(text.value) and parts.CAPTION in text.value
    before = picture.value
    controls["turn"].value = 180
    assert "turned" in text.value and picture.value != before
    controls["turn"].value = 0
    controls["picture"].value = "noise"
    assert squeezed(deployment.describe("noise")) in squeezed(text.value)


def test_what_is_unknown_is_named() -> None:
    with pytest.raises(ValueError, match="moon.*covid film"):
        deployment.panel("moon")
    with pytest.raises(ValueError, match="turn 45"):
        deployment.bend(turn=45)


# ---- in a browser ----


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return browsing.panel_notebook("deployment", tmp_path)


def check_choice(page) -> None:
    "Choose noise in place of a film: it is refused"
    page.locator("img.widget-image").first.wait_for(timeout=90_000)
    assert "predictive value" in page.locator("pre", has_text="called from").first.inner_text()
    page.locator(".widget-dropdown select").first.select_option("noise")
    page.locator("pre", has_text="refused").first.wait_for(timeout=30_000)
    text = page.locator("body").inner_text()
    assert parts.CAPTION in text and "Traceback" not in text


def test_the_panel_in_jupyterlab(notebook: Path, page, tmp_path: Path) -> None:
    with browsing.lab(notebook, tmp_path) as address:
        browsing.run_all_cells(page, address)
        check_choice(page)


def test_the_panel_in_voila(notebook: Path, page, tmp_path: Path) -> None:
    with browsing.voila(notebook, tmp_path) as address:
        open_in_voila(page, address)
        check_choice(page)
