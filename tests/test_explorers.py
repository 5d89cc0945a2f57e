"""The explorers in a real browser: opened in JupyterLab and in Voila, a slider moved, the consequence seen."""
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import browsing
from covid_xray.explore import augmentation, cnn, data, metrics, parts, training
from covid_xray.explore import phantom as explorer

ROOT = Path(__file__).resolve().parent.parent
PICTURE, HANDLE = "img.widget-image", ".widget-slider .noUi-handle"
PICTURE_BYTES = "async e => Array.from(new Uint8Array(await (await fetch(e.src)).arrayBuffer()))"
FAULTS = ("Traceback", "Error displaying widget", "Error creating widget", "Error rendering", "JavaScript error")


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    "The chapter's cells about its explorer, as they are, and the imports before them"
    chapter = json.loads((ROOT / "nbs" / "10_phantom.ipynb").read_text(encoding="utf-8"))
    cells = [c for c in chapter["cells"] if c["cell_type"] == "code" and "#| export" not in "".join(c["source"])]
    about = [c for c in cells if any(word in "".join(c["source"]) for word in ("explorer", "plt.style.use"))]
    copy = tmp_path / "work" / "explorer.ipynb"
    copy.parent.mkdir()
    blank = [{**cell, "outputs": [], "execution_count": None} for cell in about]
    copy.write_text(json.dumps({**chapter, "cells": blank}), encoding="utf-8")
    return copy


@pytest.fixture
def page(browser) -> Iterator:
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    yield page
    page.close()


def check_severity_slider(page) -> None:
    "Five steps to the right: severity goes from 0.60 to 0.85, in the numbers and in the picture"
    picture, handle = page.locator(PICTURE).first, page.locator(HANDLE).first
    handle.wait_for(timeout=60_000)
    assert bytes(picture.evaluate(PICTURE_BYTES)).startswith(b"\x89PNG")
    assert explorer.describe(severity=0.6) in page.locator("pre", has_text="lungs").first.inner_text()
    before = picture.evaluate(PICTURE_BYTES)
    handle.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    numbers = page.locator("pre", has_text="severity 0.85").first
    numbers.wait_for(timeout=30_000)
    assert explorer.describe(severity=0.85) in numbers.inner_text()
    page.wait_for_timeout(500)  # the picture travels beside the numbers
    assert picture.evaluate(PICTURE_BYTES) != before
    text = page.locator("body").inner_text()
    assert explorer.CAPTION in text
    assert not [fault for fault in FAULTS if fault in text]


def check_hospital_slider(page) -> None:
    "The second panel of the page: its first slider, one step on, shows the next patient"
    of_the_film = sum(control.has_trait("min") for control in explorer.panel(size_px=32).children[1].children)
    page.locator(PICTURE).nth(1).wait_for(timeout=30_000)
    before = page.locator(PICTURE).nth(1).evaluate(PICTURE_BYTES)
    page.locator(HANDLE).nth(of_the_film).focus()
    page.keyboard.press("ArrowRight")
    page.locator("pre", has_text="patient 4:").first.wait_for(timeout=30_000)
    assert "marker %" in page.locator("pre", has_text="patient 4:").first.inner_text()
    page.wait_for_timeout(500)
    assert page.locator(PICTURE).nth(1).evaluate(PICTURE_BYTES) != before


def test_phantom_explorer_in_jupyterlab(notebook: Path, page, tmp_path: Path) -> None:
    with browsing.lab(notebook, tmp_path) as address:
        browsing.run_all_cells(page, address)
        page.locator(PICTURE).first.wait_for(timeout=90_000)
        check_severity_slider(page)
        check_hospital_slider(page)


def open_in_voila(page, address: str, pictures: int = 1) -> None:
    "Until that many pictures stand in the page"
    from playwright.sync_api import TimeoutError

    for attempts_left in (2, 1, 0):  # Voila can lose a cell's reply; loading again gives a new kernel
        page.goto(address, wait_until="commit", timeout=90_000)
        try:
            page.locator(PICTURE).nth(pictures - 1).wait_for(timeout=60_000)
            return
        except TimeoutError:
            if not attempts_left:
                raise


def test_phantom_explorer_in_voila(notebook: Path, page, tmp_path: Path) -> None:
    with browsing.voila(notebook, tmp_path) as address:
        open_in_voila(page, address)
        check_severity_slider(page)
        check_hospital_slider(page)


# ---- chapters 1 to 5: their panels in one notebook, so that one server opens them all ----

MOVES = [  # explorer, slider, steps to the right, what the numbers say before and after, by the text twin
    (data, "number", 2, data.describe, {"number": 1}, {"number": 3}),
    (augmentation, "degrees", 4, augmentation.describe, {}, {"degrees": 4}),
    (cnn, "film", 3, cnn.describe, {}, {"film": 3}),
    (metrics, "threshold", 5, metrics.describe, {}, {"threshold": 0.55}),
    (training, "learning rate", 2, training.describe, {"learning_rate": 1e-3}, {"learning_rate": 1e-2}),
]


@pytest.fixture
def panels(tmp_path: Path) -> Path:
    "A notebook that opens each panel as a chapter does"
    names = [explorer.__name__.rpartition(".")[2] for explorer, *_ in MOVES]
    lines = [f"from covid_xray.explore import {name} as explorer\nexplorer.panel()" for name in names]
    cells = [{"cell_type": "code", "id": name, "metadata": {}, "outputs": [], "execution_count": None, "source": line}
             for name, line in zip(names, lines)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = tmp_path / "work" / "panels.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    return path


def check_panels(page) -> None:
    "Move one slider of each panel: the numbers become the twin's for the new value, and the picture another"
    for place, (_, name, steps, twin, before, after) in enumerate(MOVES):
        picture = page.locator(PICTURE).nth(place)
        panel = page.locator(".widget-hbox", has=page.locator(PICTURE)).nth(place)
        handle = panel.locator(".widget-slider", has_text=name).locator(".noUi-handle").first
        handle.wait_for(timeout=60_000)
        first_bytes = picture.evaluate(PICTURE_BYTES)
        assert bytes(first_bytes).startswith(b"\x89PNG")
        assert twin(**before) in panel.locator("pre").inner_text()
        handle.focus()
        for _ in range(steps):
            page.keyboard.press("ArrowRight")
        panel.locator("pre", has_text=twin(**after).splitlines()[0]).wait_for(timeout=30_000)
        assert twin(**after) in panel.locator("pre").inner_text()
        page.wait_for_timeout(500)  # the picture travels beside the numbers
        assert picture.evaluate(PICTURE_BYTES) != first_bytes
        assert parts.CAPTION in panel.inner_text()
    text = page.locator("body").inner_text()
    assert not [fault for fault in FAULTS if fault in text]


def test_panels_of_the_chapters_in_jupyterlab(panels: Path, page, tmp_path: Path) -> None:
    with browsing.lab(panels, tmp_path) as address:
        browsing.run_all_cells(page, address)
        page.locator(PICTURE).nth(len(MOVES) - 1).wait_for(timeout=90_000)
        check_panels(page)


def test_panels_of_the_chapters_in_voila(panels: Path, page, tmp_path: Path) -> None:
    with browsing.voila(panels, tmp_path) as address:
        open_in_voila(page, address, len(MOVES))
        check_panels(page)
