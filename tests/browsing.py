"""Help for tests that drive a browser: a JupyterLab or Voila of its own on one notebook, nothing of the user's."""
from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

KERNEL_IS_IDLE = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
PICTURE = "img.widget-image"
PICTURE_BYTES = "async e => Array.from(new Uint8Array(await (await fetch(e.src)).arrayBuffer()))"


def open_panel(box) -> tuple:
    "An explorer's picture, its controls by name, and its text"
    picture, column = box.children
    *controls, text = column.children
    return picture, {control.description: control for control in controls}, text


def panel_notebook(explorer: str, folder: Path) -> Path:
    "A notebook that opens the panel of a module of covid_xray.explore, as its chapter does"
    code = f"from covid_xray.explore import {explorer} as explorer\nexplorer.panel()"
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None, "source": code}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = folder / "work" / "panel.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps({"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_up(url: str, server: subprocess.Popen, log: Path, seconds: int = 90) -> None:
    "Until the server answers, with its log where it does not"
    for _ in range(seconds * 5):
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.2)
    pytest.fail("the server did not start:\n" + log.read_text()[-2000:], pytrace=False)


def environment(folder: Path) -> dict[str, str]:
    "Settings, data and run-time files of Jupyter in a folder of the test's own"
    settings = folder / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')  # all cells stand in the page
    config = folder / "config" / "labconfig"
    config.mkdir(parents=True)
    quiet = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (config / "page_config.json").write_text(json.dumps(quiet))
    folders = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}
    env = {**os.environ, **{f"JUPYTER_{key}": str(folder / value) for key, value in folders.items()}}
    env.pop("MPLBACKEND", None)  # a kernel's own: figures appear in the notebook
    env["JUPYTERLAB_SETTINGS_DIR"] = str(folder / "settings")
    env["JUPYTERLAB_WORKSPACES_DIR"] = str(folder / "spaces")
    return env


@contextlib.contextmanager
def server(command: list[str], address: str, folder: Path) -> Iterator[None]:
    "A running server, ended with the block"
    log = folder / "server.log"
    with open(log, "w") as out:
        process = subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=out, stderr=out)
        try:
            wait_until_up(address, process, log)
            yield
        finally:
            process.terminate()
            process.wait(20)


@contextlib.contextmanager
def lab(notebook: Path, folder: Path) -> Iterator[str]:
    "A JupyterLab on the folder of a notebook; gives the address that opens it. The server saves what it opens: a copy!"
    port, token = free_port(), secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    command += [f"--ServerApp.root_dir={notebook.parent}", "--LabApp.expose_app_in_browser=True"]
    with server(command, f"http://127.0.0.1:{port}/api", folder):
        yield f"http://127.0.0.1:{port}/lab/tree/{notebook.name}?token={token}&reset"


@contextlib.contextmanager
def voila(notebook: Path, folder: Path) -> Iterator[str]:
    "A Voila that shows one notebook; gives its address"
    port = free_port()
    command = [sys.executable, "-m", "voila", str(notebook), "--no-browser", "--Voila.ip=127.0.0.1", f"--port={port}"]
    # with a kernel in store the page never waits for one; without, it now and then hangs
    command += ["--preheat_kernel=True", "--pool_size=1"]
    with server(command, f"http://127.0.0.1:{port}/static/none", folder):
        yield f"http://127.0.0.1:{port}/"


def run_all_cells(page, address: str) -> None:
    "Open a notebook in JupyterLab and run it; comes back after the last cell, or the first error"
    page.goto(address, wait_until="commit")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=90_000)
    page.wait_for_function(KERNEL_IS_IDLE, timeout=90_000)
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
