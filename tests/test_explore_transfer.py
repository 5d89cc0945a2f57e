"""Explorer of chapter 8: the twin against sums by hand, a panel that answers, errors that name names."""
from __future__ import annotations

from importlib import resources
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

import browsing
from browsing import PICTURE, PICTURE_BYTES, open_panel
from test_explorers import open_in_voila
from covid_xray.explore import parts, transfer

pytest.importorskip("ipywidgets")


@pytest.mark.parametrize(("films", "file", "column"), [("simulated", "curves", "auroc"),
                                                       ("real, another hospital", "real", "outside")])
def test_the_twin_says_what_the_table_and_student_say(films: str, file: str, column: str) -> None:
    rows = pd.read_csv(str(resources.files("covid_xray") / "results" / f"transfer_{file}.csv"))
    count = int(rows["patients"].max())
    words = transfer.describe(films, count)
    for start, values in rows[rows["patients"] == count].groupby("start")[column]:
        low, high = stats.ttest_1samp(values, 0).confidence_interval()
        assert f"{start}: AUROC {values.mean():.3f} ({low:.3f} to {high:.3f})" in words
    assert words.startswith(f"{films} films, {count} patients, 5 draws")


def test_the_panel_agrees_with_the_twin_at_every_setting() -> None:
    picture, controls, text = open_panel(transfer.panel())
    assert list(controls) == ["patients", "films"]
    for films in transfer.FILMS:
        controls["films"].value = films
        known = set(transfer.load_curves(films)["patients"])
        for count in controls["patients"].options:
            before = picture.value
            controls["patients"].value = count
            nearest = next(n for n in known if transfer.describe(films, int(n)) in text.value)
            assert nearest == count or count not in known
            assert picture.value and before and parts.CAPTION in text.value


def test_the_static_picture_holds_the_means() -> None:
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    transfer.plot_curves(ax, "simulated", 30)
    means = transfer.load_curves("simulated").groupby(["start", "patients"])["auroc"].mean()
    drawn = {line.get_label(): line for line in ax.get_legend_handles_labels()[0]}
    for start, bars in drawn.items():
        assert list(bars.lines[0].get_ydata()) == pytest.approx(means[start].tolist())
    plt.close(figure)


def test_what_is_unknown_is_named() -> None:
    with pytest.raises(ValueError, match="moon.*simulated"):
        transfer.describe("moon")
    with pytest.raises(ValueError, match="31 patients: choose one of 10"):
        transfer.describe("simulated", 31)


# ---- in a browser ----


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return browsing.panel_notebook("transfer", tmp_path)


def check_choice(page) -> None:
    "Choose other films: numbers and picture become theirs"
    picture = page.locator(PICTURE).first
    picture.wait_for(timeout=90_000)
    before = picture.evaluate(PICTURE_BYTES)
    assert transfer.describe() in page.locator("pre", has_text="simulated films, 100").first.inner_text()
    page.locator(".widget-dropdown select").first.select_option("real, another hospital")
    numbers = page.locator("pre", has_text="real, another hospital films").first
    numbers.wait_for(timeout=30_000)
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
