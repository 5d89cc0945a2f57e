"""JupyterLab in a real browser: the first chapter, opened and run as a reader does."""
from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import browsing

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = "01_data.ipynb"


@pytest.fixture
def lab(tmp_path: Path):
    "A JupyterLab of its own on a copy of the first chapter; gives its address and the copy"
    chapter = tmp_path / "work" / CHAPTER
    chapter.parent.mkdir()
    shutil.copy(ROOT / "nbs" / CHAPTER, chapter)  # the server saves what it opens: never the tracked file
    with browsing.lab(chapter, tmp_path) as address:
        yield address, chapter


def test_first_chapter_runs_in_the_browser(lab, browser) -> None:
    address, chapter = lab
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    browsing.run_all_cells(page, address)
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    figures = page.locator(".jp-Notebook .jp-OutputArea-output img").count()
    page.close()
    cells = [c for c in json.loads(chapter.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    errors = [o for c in cells for o in c["outputs"] if o["output_type"] == "error"]
    assert not errors, "\n".join(errors[0]["traceback"])
    assert all(c["execution_count"] for c in cells if "".join(c["source"]).strip()), "not every cell was run"
    assert figures > 0, "no figure in the page"


def test_the_printed_address_opens_the_first_chapter(tmp_path: Path) -> None:
    "In a container, over ssh: the address to copy leads to the chapter, not to an empty JupyterLab"
    command = [sys.executable, "tools/lab.py", "--no-browser", "--port", str(browsing.free_port())]
    lab = subprocess.Popen(command, cwd=ROOT, env=browsing.environment(tmp_path), stderr=subprocess.PIPE, text=True,
                           start_new_session=True)
    try:
        printed = next(line for line in lab.stderr if "?token=" in line)
    finally:
        os.killpg(lab.pid, signal.SIGKILL)
        lab.communicate()
    assert f"/lab/tree/nbs/{CHAPTER}?token=" in printed


def test_a_taken_port_is_told_in_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        command = [sys.executable, "tools/lab.py", "--no-browser", "--port", str(port)]
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1 and f"port {port} is taken" in answer.stderr
