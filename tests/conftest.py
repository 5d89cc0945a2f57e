"""What every test stands on: only the test's own folders are touched, and what is absent is skipped in one line.

COVID_XRAY_DATA          folder with real radiographs, as `real_data` below describes it
COVID_XRAY_REQUIRE_ALL=1 what is absent makes a test fail instead of skip (set by .ci/run)
CHROMIUM                 a Chromium or Chrome that is not on PATH
"""
from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM_FLAGS = (
    "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
).split() + ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # a page that asks a CDN gets an error at once


def absent(what: str) -> NoReturn:
    "Skip, or fail where everything is required"
    if os.environ.get("COVID_XRAY_REQUIRE_ALL") == "1":
        pytest.fail(f"{what} (and COVID_XRAY_REQUIRE_ALL=1)", pytrace=False)
    pytest.skip(what)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    "Browser tests last: Playwright keeps an event loop running, which notebooks run in this process do not bear"
    items.sort(key=lambda item: "browser" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory):
    "Embedded data, an empty cache, no windows: whatever the user's own settings are"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("COVID_XRAY_SOURCE", "COVID_XRAY_ROOT"):
            patch.delenv(name, raising=False)
        patch.setenv("COVID_XRAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MPLBACKEND", "agg")
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    "Folder with real radiographs: manifest.csv, one folder a source, originals/"
    folder = os.environ.get("COVID_XRAY_DATA")
    if not folder:
        absent("COVID_XRAY_DATA is not set: no real radiographs here")
    if not (Path(folder) / "manifest.csv").is_file():
        absent(f"COVID_XRAY_DATA={folder} holds no manifest.csv")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def chromium() -> str:
    "Path of a Chromium or Chrome"
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next((path for name in names if (path := shutil.which(name))), None)
    if not found:
        absent("no Chromium on PATH (or name one in CHROMIUM)")
    return found


@pytest.fixture(scope="session")
def browser(chromium: str):
    "One headless browser for the whole session"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS, chromium_sandbox=False)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    "A page of its own for one test"
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    yield page
    page.close()
