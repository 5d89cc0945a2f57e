"""The web app: what it says held against predictor and arithmetic, and the whole used by several people at once."""
from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import app as tool
import browsing
import load_test
from covid_xray import phantom
from covid_xray.deploy import Predictor
from covid_xray.exchange import Problem
from covid_xray.explore import app
from covid_xray.run import DISCLAIMER

pytest.importorskip("ipywidgets")

NAME = "Schmidt^Adelheid"


def as_file(image: np.ndarray, kind: str) -> bytes:
    if kind == "DICOM":
        return with_a_name(load_test.as_dicom(image))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def with_a_name(content: bytes) -> bytes:
    from pydicom import dcmread

    dataset = dcmread(io.BytesIO(content))
    dataset.PatientName, dataset.PatientID = NAME, "4711"
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    "A single small film goes no faster on several"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def films() -> dict[str, bytes]:
    images = phantom.simulate(30, size_px=256, seed=21, follow_up=0)
    rows = [list(images.table["label"]).index(label) for label in phantom.CLASSES]
    return {kind: as_file(images.images[row], kind) for kind, row in zip(("PNG", "JPEG", "DICOM"), rows)}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load("phantom")


# ---- what it says ----


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "DICOM"])
def test_the_words_are_the_predictor_s(films, predictor, kind: str) -> None:
    expected = predictor.predict(films[kind], prevalence=0.02)
    words = app.describe(films[kind], prevalence=0.02)
    for name, value in expected.probabilities.items():
        assert f"{name} {value:.1%}" in words
    assert f"Called {expected.decision}." in words and expected.uncertainty in words and words.endswith(DISCLAIMER)
    point = expected.operating_point
    assert f'is right {point["positive_predictive_value"]:.0%} of the times' in words
    assert f'"not {point["label"]}" {point["negative_predictive_value"]:.1%}' in words


def test_frequencies_worked_by_hand() -> None:
    "Of 1,000 with 100 sick: 80 found of them, 90 others called; 80 of 170 right; 810 of 830 right"
    share = {"low": 0.0, "high": 1.0, "persons": 9}
    point = {"label": "flu", "threshold": 0.4, "sensitivity": {"value": 0.8, **share},
             "specificity": {"value": 0.9, **share}}
    words = " ".join(app._point_sentences(point, 0.4, 0.1))
    assert "Where 100 of 1,000 people have it, it calls 80 of them rightly and 90 others wrongly" in words
    assert '"flu" is right 47% of the times' in words and '"not flu" 97.6% of the times' in words


def test_another_threshold_decides_anew_and_promises_nothing(films, predictor) -> None:
    chance = predictor.predict(films["PNG"]).probabilities["covid"]
    assert 0.02 < chance
    below, above = (app.describe(films["PNG"], threshold=at) for at in (chance - 0.01, min(1.0, chance + 1e-5)))
    assert "Called covid." in below and "Called covid." not in above
    assert "never measured" in below and "Operating point" not in below


def test_what_is_no_film_is_not_judged(predictor) -> None:
    words = app.describe(app.examples()[app.NO_FILM])
    assert words.startswith("Not judged") and "colour" in words and "%" not in words.split("unusual")[0]
    result = app.look(predictor, app.examples()[app.NO_FILM])
    assert "without a heatmap" in app.report(result, 0.5, 0.05)


@pytest.mark.parametrize("content, told", [
    (b"hello", "no PNG, JPEG or DICOM file"),
    (b"", "empty"),
    (bytes(app.MAX_BYTES + 1), "40 MB are the most"),
    (b"\x89PNG\r\n\x1a\n" + bytes(200), "can't be read"),
])
def test_what_can_t_be_read_gets_a_sentence(predictor, content: bytes, told: str) -> None:
    with pytest.raises(Problem, match=told):
        app.look(predictor, content)


def test_a_report_holds_all_that_is_said_and_nobody_s_name(films, predictor) -> None:
    result = app.look(predictor, films["DICOM"])
    page = app.report(result, 0.3, 0.05, "runs/of Adelheid/model")
    plain = re.sub(r"<[^>]+>", "", page).replace("&quot;", '"')
    assert all(line in plain for line in app.sentences(result, 0.3, 0.05))
    assert page.count(DISCLAIMER) == 2 and "Adelheid" not in page and "4711" not in page and "runs" not in page
    picture = base64.b64decode(re.search(r"base64,([^\"]+)", page)[1])
    assert Image.open(io.BytesIO(picture)).size == result.image.shape[::-1]
    assert len(re.search(r'alt="([^"]+)"', page)[1].split()) >= 8


def test_the_alternative_text_says_where_the_map_is_highest(predictor, films) -> None:
    result = app.look(predictor, films["PNG"])
    result.heatmap = np.zeros((90, 90), np.float32)
    result.heatmap[80, 5] = 1
    assert "lower left" in app._alt(result, 0.5) and "switched off" in app._alt(result, 0)


def test_uploads_of_either_ipywidgets() -> None:
    seven = {"film.png": {"metadata": {"name": "film.png"}, "content": b"x"}}
    eight = ({"name": "film.png", "content": memoryview(b"x")},)
    assert app.uploaded(seven) == app.uploaded(eight) == b"x"
    assert app.uploaded({}) is app.uploaded(()) is None
    widget = SimpleNamespace(value=seven, data=[b"x"], metadata=[{}], _counter=1)
    app._forget(widget)
    assert (widget.data, widget.metadata, widget._counter) == ([], [], 0)


def test_an_upload_is_shown_and_forgotten(films) -> None:
    made = app._App("phantom")
    made.box()
    entry = {"name": "f", "type": "", "size": 1, "last_modified": datetime(2020, 3, 1)}
    made.upload.value = ({**entry, "content": films["PNG"]},)
    assert made.upload.value == () and "Called" in made.words.value and "<img" in made.film.value
    before = made.words.value
    made.upload.value = ({**entry, "content": b"hello"},)
    assert "no PNG" in made.told.value and made.words.value == before
    assert "still the film before" in made.told.value  # else its answer looks like the new file's
    assert not any(isinstance(value, bytes) for value in vars(made).values())


# ---- in a browser ----


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    "The app as `make app` serves it, with every file that it may write below one folder"
    folder, port = tmp_path_factory.mktemp("app"), browsing.free_port()
    (folder / "tmp").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"TMPDIR": str(folder / "tmp"), **tool.ENVIRONMENT}.items():
            patch.setenv(name, value)
        command = [*tool.command(port, "127.0.0.1", 1), "--no-browser"]
        with browsing.server(command, f"http://127.0.0.1:{port}/static/none", folder):
            yield f"http://127.0.0.1:{port}/", folder


def open_app(browser, address: str, width: int = 1280):
    "A page of its own, loaded until the first film is there; Voila can lose a reply, so it may try again"
    from playwright.sync_api import TimeoutError

    page = browser.new_page(viewport={"width": width, "height": 900})
    for attempts_left in (2, 1, 0):
        page.goto(address, wait_until="commit", timeout=90_000)
        try:
            page.locator(".cx img").first.wait_for(timeout=60_000)
            return page
        except TimeoutError:
            if not attempts_left:
                raise


def upload(page, name: str, content: bytes | Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload a film").click()
    file = str(content) if isinstance(content, Path) else {"name": name, "mimeType": "image/png", "buffer": content}
    chooser.value.set_files(file)


def says(page, content: bytes) -> None:
    "Until the page shows what the text twin says of this film"
    lines = app.describe(content).splitlines()
    numbers = [line.rpartition(" ")[2] for line in lines if re.fullmatch(r"\w+ [\d.]+%", line)]
    for line in [*numbers, *lines[len(numbers):-1]]:
        page.locator(".cx", has_text=line).first.wait_for(timeout=30_000)
    shown = page.locator(".cx td:last-child").all_inner_texts()
    assert shown == numbers


def told(page, words: str) -> None:
    page.locator(".cx-told", has_text=words).wait_for(timeout=30_000)


def test_a_visit(browser, served, films, tmp_path: Path) -> None:
    address, folder = served
    page = open_app(browser, address)
    says(page, app.examples()["simulated: covid"])
    page.get_by_role("button", name="simulated: normal").click()
    says(page, app.examples()["simulated: normal"])
    for kind, content in films.items():
        upload(page, f"{NAME}.png", content)
        says(page, content)
    check_what_is_no_film(page, films, tmp_path)
    says(page, films["DICOM"])
    check_sliders_and_report(page, films["DICOM"])
    assert NAME not in page.content() and "4711" not in page.content()
    page.close()


def check_what_is_no_film(page, films, tmp_path: Path) -> None:
    "Each gets its sentence, and the film before stays"
    upload(page, "film.png", b"hello")
    told(page, "no PNG, JPEG or DICOM")
    upload(page, "film.png", films["PNG"][:3000])
    told(page, "can't be read")
    large = tmp_path / "large.dcm"
    large.write_bytes(bytes(app.MAX_BYTES + 20_000_000))  # more than Playwright passes on by itself
    upload(page, "large.dcm", large)
    told(page, "40 MB are the most")


def check_sliders_and_report(page, content: bytes) -> None:
    "Prevalence changes what an answer means, the threshold what is known of it; the report says both"
    result = app.look(Predictor.load("phantom"), content)
    own = round(result.operating_point["threshold"], 2)
    handles = page.locator(".noUi-handle")
    handles.nth(2).focus()
    page.keyboard.press("ArrowRight")
    expected = app.sentences(result, result.operating_point["threshold"], 10 ** (np.log10(0.05) + 0.1))[-1]
    page.locator(".cx", has_text=expected).first.wait_for(timeout=30_000)
    handles.nth(1).focus()
    page.keyboard.press("ArrowRight")
    page.locator(".cx", has_text=f"From {own + 0.01:.2f} on it is called").first.wait_for(timeout=30_000)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download this as a report").click()
    saved = Path(download.value.path()).read_text(encoding="utf-8")
    assert download.value.suggested_filename == "covid_xray_report.html"
    assert f"From {own + 0.01:.2f} on it is called" in saved and DISCLAIMER in saved and NAME not in saved


def test_several_users_at_once_and_nothing_kept(browser, served, films) -> None:
    address, folder = served
    pages = [open_app(browser, address) for _ in films]
    for page, content in zip(pages, films.values()):
        upload(page, "film", content)
    for page, content in zip(pages, films.values()):
        says(page, content)
    pages[0].get_by_role("button", name="simulated: pneumonia").click()
    says(pages[0], app.examples()["simulated: pneumonia"])
    says(pages[1], films["JPEG"])
    written = [path for path in folder.rglob("*") if path.is_file()]
    pieces = [NAME.encode(), *(content[-4000:-3000] for content in films.values())]
    assert written and not [path for path in written for piece in pieces if piece in path.read_bytes()]
    for page in pages:
        page.close()


def test_on_a_phone(browser, served) -> None:
    page = open_app(browser, served[0], width=360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    boxes = [element.bounding_box() for element in page.locator(".cx, button, .widget-slider").all()]
    assert all(box["x"] + box["width"] <= 361 for box in boxes if box)
    page.close()
