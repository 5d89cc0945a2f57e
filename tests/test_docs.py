"""The docs site, built without Quarto: every page there, every picture described, every internal link resolves."""
from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import nbdev_filter
import run_chapters
import twins

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = run_chapters.chapters()


class Page(HTMLParser):
    "What a page links to, holds and shows"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.images: list[dict] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag == "img":
            self.images.append(found)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "The site, built in a copy of the project so that no file of the checkout changes"
    project = tmp_path_factory.mktemp("docs") / "project"
    skipped = shutil.ignore_patterns(".venv*", ".git", "_docs", "_proc", "__pycache__", ".ipynb_*", "build", "runs")
    shutil.copytree(ROOT, project, symlinks=True, ignore=skipped)
    command = [sys.executable, "tools/docs.py", "--offline"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return project / "_docs"


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if "site_libs" not in path.parts}


def page_name(notebook: Path) -> str:
    "nbdev drops the number: 03_cnn.ipynb becomes cnn.html"
    return re.sub(r"^\d+[a-z]?_", "", notebook.stem) + ".html"


def test_every_page_is_there(site: Path, pages: dict[Path, Page]) -> None:
    expected = {(site / n.relative_to(ROOT / "nbs")).with_name(page_name(n)) for n in NOTEBOOKS}
    assert expected <= set(pages)


def test_every_picture_is_described(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for image in page.images:
            if not image["src"].startswith("data:image/svg"):  # icons of the theme
                assert len((image.get("alt") or "").split()) >= 8, f"{path.name}: {image['src'][:60]}"
    figures = sum(
        "image/png" in output.get("data", {})
        for notebook in NOTEBOOKS
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
    )
    assert sum(len(page.images) for page in pages.values()) >= 0.9 * figures  # hidden cells show none


def test_internal_links_resolve(site: Path, pages: dict[Path, Page]) -> None:
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link == "#":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or not target.is_relative_to(site):
                broken.append(f"{path.name}: {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                broken.append(f"{path.name}: {link} (no such anchor)")
    assert not broken


def test_links_into_the_repository_exist(pages: dict[Path, Page]) -> None:
    "Files of the repository, as the hosting site shows them; a page of the site is no such file"
    told = [link for page in pages.values() for link in page.links if "/blob/main/" in link]
    files = {link: unquote(urlsplit(link).path.partition("/blob/main/")[2]) for link in told}
    assert files and not [link for link, name in files.items() if not (ROOT / name).is_file()]


def test_terms_lead_to_the_glossary(pages: dict[Path, Page]) -> None:
    "That they resolve is tested with all links; each page links an entry at most once"
    for path, page in pages.items():
        anchors = [link.partition("#")[2] for link in page.links if "glossary.html#" in link]
        assert len(anchors) == len(set(anchors)) or "guides" in path.parts, path.name
    assert sum("glossary.html#" in link for page in pages.values() for link in page.links) > 150


def test_nothing_of_the_machine_is_in_the_pages(site: Path, pages: dict[Path, Page]) -> None:
    for path in pages:
        assert str(site.parent) not in path.read_text(encoding="utf-8")


def test_the_library_is_documented(pages: dict[Path, Page]) -> None:
    "The page of a chapter shows the source that it exports, and its signatures"
    text = next(path for path in pages if path.name == "cnn.html").read_text(encoding="utf-8")
    assert "Exported source" in text and "create_model" in text


def test_every_source_link_names_its_line(pages: dict[Path, Page]) -> None:
    "The line in a link is where the function that stands beside it begins"
    links = {link for page in pages.values() for link in page.links if "/blob/main/covid_xray/" in link and "#" in link}
    assert len(links) > 300
    for link in links:
        place, _, line = link.partition("/blob/main/")[2].partition("#L")
        text = (ROOT / place).read_text(encoding="utf-8").splitlines()[int(line) - 1]
        assert re.match(r"\s*(def|class|async def|@)\b|\s*@", text), (link, text)


def test_the_reference_lists_what_the_library_offers(site: Path) -> None:
    "Everything in `__all__` that is a function or class, with its parameters, on some page"
    listed = (site / "reference" / "index.html").read_text(encoding="utf-8")
    for module in ("metrics", "training", "deploy", "phantom"):
        found = importlib.import_module(f"covid_xray.{module}")
        own = [n for n in found.__all__ if getattr(getattr(found, n), "__module__", "") == found.__name__]
        own = [name for name in own if callable(getattr(found, name))]
        assert own and [name for name in own if f"#{module}-{name.lower()}" not in listed] == []
    page = (site / "reference" / "chapter_05.html").read_text(encoding="utf-8")
    assert "true class of each film, int [N]" in page and "<strong>Returns</strong>" in page


def test_models_and_data_sets_have_their_cards(site: Path) -> None:
    for folder in (ROOT / "covid_xray" / "models").iterdir():
        assert "Not a medical device" in (site / "cards" / f"model_{folder.name}.html").read_text(encoding="utf-8")
    card = (site / "cards" / "data_darkcovidnet.html").read_text(encoding="utf-8")
    assert "1125 films" in card and "By label" in card


def test_each_chapter_with_a_panel_has_a_twin(site: Path) -> None:
    "Several places, no two alike, each with its numbers; together they stay small"
    sizes = []
    for name in twins.TWINS:
        text = (site / page_name(Path(name))).read_text(encoding="utf-8")
        found = re.findall(r'<div class="twin".*?<script type="application/json">(.*?)</script>', text, re.DOTALL)
        assert len(found) == 1, name
        places = json.loads(found[0])
        assert len(places) >= 6 and len({place["src"] for place in places}) >= len(places) - 1, name
        assert all(len(place["words"].split()) >= 5 and place["value"] in place["alt"] for place in places), name
        sizes.append(len(found[0]))
    assert len(sizes) == 10 and max(sizes) < 500_000 and sum(sizes) < 2_000_000
    assert twins.NOT_LIVE in (site / "app.html").read_text(encoding="utf-8"), "a panel without a twin says so"


def test_pages_are_found_by_their_number(site: Path) -> None:
    "The sidebar of any page: parts in reading order, chapters numbered, nothing under a part twice"
    text = (site / "cnn.html").read_text(encoding="utf-8")
    sidebar = re.sub(r"<[^>]+>|\s+", " ", re.search(r'<nav id="quarto-sidebar".*?</nav>', text, re.DOTALL)[0])
    entries = " ".join(sidebar.split())
    parts = ["Chapters", "1 Data: from a film", "3 The convolutional network", "4a The learning rate",
             "Behind chapter 1", "0b Fetching", "Guides", "Glossary", "Solutions", "Appendix", "10b Phantom physics"]
    assert sorted(parts, key=entries.index) == parts
    assert entries.count("Solutions to chapter 1") == 1


def test_cells_that_only_import_are_folded() -> None:
    assert nbdev_filter.only_imports("from a import b\n_all_ = ['b']\nif TYPE_CHECKING:\n    import c")
    assert not nbdev_filter.only_imports("import a\nx = a.b()")
    assert not nbdev_filter.only_imports("if fast:\n    import a")


def test_alt_text_reaches_quarto() -> None:
    "One image: a string. Several outputs: a list by the number of the output, as Quarto counts"
    alt = {"image/png": {"alt": "a film's edge"}}
    image = {"output_type": "display_data", "data": {"image/png": "x"}, "metadata": alt}
    words = {"output_type": "stream", "name": "stdout", "text": "x"}
    single = nbdev_filter.keep_alt_text({"cells": [{"source": "plot()", "outputs": [words, image]}]})
    assert single["cells"][0]["source"] == '#| fig-alt: "a film’s edge"\nplot()'
    several = nbdev_filter.keep_alt_text({"cells": [{"source": "plot()", "outputs": [words, image, image]}]})
    assert several["cells"][0]["source"].splitlines()[0] == '#| fig-alt: ["", "a film’s edge", "a film’s edge"]'


def test_links_between_notebooks_stay_on_the_site(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        left = [link for link in page.links if re.search(r"github\.com/.+/blob/main/(?!nbs/).*\.ipynb", link)]
        assert not left, f"{path.name}: {left[:3]}"


def test_every_notebook_can_be_taken_along(site: Path, pages: dict[Path, Page]) -> None:
    for notebook in NOTEBOOKS:
        place = notebook.relative_to(ROOT).as_posix()
        links = pages[(site / notebook.relative_to(ROOT / "nbs")).with_name(page_name(notebook))].links
        ways = [link for link in links if link.endswith(f"/main/{place}")]
        hosts = {urlsplit(link).netloc for link in ways}
        assert hosts >= {"colab.research.google.com", "raw.githubusercontent.com"}, place


# ---- in a browser ----

ACCESSIBLE = ("index", "app", "models", "guides/own_films", "guides/troubleshooting", "solutions/data",
              "metrics", "reference/chapter_05", "cards/model_phantom")  # of each kind
SERIOUS = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        "Say nothing"


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    "The site behind a small server, as a reader meets it"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def page(browser) -> Iterator:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    yield page
    page.close()


def test_pages_fit_every_screen_and_complain_of_nothing(page, address: str, site: Path, pages: dict) -> None:
    "No error in the console, nothing asked of another server, no sideways scroll on phone, tablet and desktop"
    faults: list[str] = []
    page.on("console", lambda message: message.type == "error" and faults.append(f"{page.url}: {message.text}"))
    page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))
    page.on("request", lambda request: request.url.startswith((address, "data:")) or faults.append(request.url))
    page.route("**/favicon.ico", lambda route: route.fulfill(status=204))  # browsers ask for one unasked
    for path in pages:
        page.goto(f"{address}/{path.relative_to(site).as_posix()}", wait_until="load")
        for width in (360, 768, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                faults.append(f"{path.name}: {wide} px on a screen of {width}")
    assert not faults, "\n".join(faults[:20])


@pytest.mark.parametrize("name", ACCESSIBLE)
def test_axe_finds_nothing_serious(page, address: str, name: str) -> None:
    axe = pytest.importorskip("axe_playwright_python")
    page.goto(f"{address}/{name}.html", wait_until="load")
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = [fault for fault in page.evaluate(SERIOUS) if fault["impact"] in ("serious", "critical")]
    assert not found, [(fault["id"], len(fault["nodes"]), fault["nodes"][0]["html"][:200]) for fault in found]


def test_search_finds_a_known_term(page, address: str) -> None:
    page.goto(f"{address}/index.html", wait_until="load")
    page.locator("#quarto-search input").fill("dextrocardia")
    page.locator(".smalldocs-search-results a[href*='glossary']").first.wait_for(timeout=30_000)


def test_a_page_leads_on_and_its_code_can_be_copied(page, address: str) -> None:
    page.goto(f"{address}/models.html", wait_until="load")
    assert page.locator(".nav-page-previous a").count() == page.locator(".nav-page-next a").count() == 1
    assert page.locator(".code-copy-button").count() == page.locator("pre.code-with-copy").count() > 3
    following = page.locator(".nav-page-next a").inner_text().strip()
    page.locator(".nav-page-next a").click()
    assert following in page.locator("h1").first.inner_text()


def test_a_twin_moves_by_keyboard(page, address: str) -> None:
    "Picture, numbers, and what a screen reader says follow the arrow keys"
    page.goto(f"{address}/metrics.html", wait_until="load")
    twin = page.locator(".twin")
    slider, picture, words = twin.locator("input"), twin.locator("img"), twin.locator("pre")
    before = picture.get_attribute("src"), words.inner_text()
    assert "threshold 0.45" in before[1]
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert "threshold 0.55" in words.inner_text() and picture.get_attribute("src") != before[0]
    assert slider.get_attribute("aria-valuetext") == twin.locator("output").inner_text() == "0.55"
    assert "0.55" in picture.get_attribute("alt")
    page.keyboard.press("ArrowLeft")
    assert (picture.get_attribute("src"), words.inner_text()) == before


def test_a_figure_opens_large_and_closes(page, address: str) -> None:
    "By its button or a click; Escape closes, and the keyboard is back where it was"
    page.goto(f"{address}/metrics.html", wait_until="load")
    figure, button = page.locator("main img").first, page.locator("main button.enlarge").first
    small = figure.bounding_box()["width"]
    button.focus()
    page.keyboard.press("Enter")
    large = page.locator("dialog.enlarged img")
    assert large.get_attribute("alt") == figure.get_attribute("alt") and large.bounding_box()["width"] > 1.1 * small
    page.keyboard.press("Escape")
    assert not page.locator("dialog.enlarged").is_visible()
    assert page.evaluate("document.activeElement.className") == "enlarge"
    figure.click()
    page.locator("dialog.enlarged button").click()
    assert not page.locator("dialog.enlarged").is_visible()


def test_dark_mode_is_kept(page, address: str) -> None:
    page.goto(f"{address}/metrics.html", wait_until="load")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.locator(".quarto-color-scheme-toggle").first.click()
    assert page.evaluate(background) != light
    page.goto(f"{address}/cnn.html", wait_until="load")
    assert page.evaluate(background) != light, "the choice goes along to the next page"
