"""The wheel and the source archive: what is in them, and the main job run from a fresh environment elsewhere.

The environment has covid_xray from the wheel alone; the dependencies (5.5 GB with PyTorch) it borrows from the running
environment through a .pth file, which stands after its own packages.
"""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import covid_xray
import run_chapters
import set_up

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted(path.relative_to(ROOT / "nbs").as_posix() for path in run_chapters.chapters())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    "Wheel and source archive, built from a copy so that the checkout stays as it is"
    folder = tmp_path_factory.mktemp("build")
    skipped = shutil.ignore_patterns(".venv*", ".git", "_docs", "_proc", "__pycache__", "*.egg-info", "build")
    shutil.copytree(ROOT, folder / "project", ignore=skipped)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist")]
    command.append(str(folder / "project"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)  # the wheel is made from the archive
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return {path.suffix: path for path in (folder / "dist").iterdir()}


def test_wheel_holds_what_it_should(built: dict[str, Path]) -> None:
    assert built[".whl"].stat().st_size < 15e6
    with zipfile.ZipFile(built[".whl"]) as wheel:
        names = wheel.namelist()
        for name in CHAPTERS:
            cells = json.loads(wheel.read(f"covid_xray/chapters/{name}"))["cells"]
            assert not any(cell.get("outputs") for cell in cells), name
    shipped = [p.relative_to(ROOT).as_posix() for p in (ROOT / "covid_xray").rglob("*") if is_shipped(p)]
    assert set(shipped) <= set(names)
    assert "covid_xray/course.mplstyle" in names
    licences = [name.rpartition("/")[2] for name in names if "/licenses/" in name]
    assert sorted(licences) == ["LICENSE", "LICENSE-TEXT"]
    strange = [n for n in names if not n.startswith("covid_xray/") and ".dist-info/" not in n]
    pictures = [n for n in names if n.lower().endswith((".png", ".jpg", ".jpeg", ".dcm"))]
    assert not strange and pictures == ["covid_xray/chapters/images/two_networks.png"]  # a simulated film


def test_links_of_the_description_hold_on_a_package_index(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built[".whl"]) as wheel:
        metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        links = re.findall(r"\]\(([^)]+)\)", wheel.read(metadata).decode())
    assert len(links) > 40 and not [link for link in links if not link.startswith(("https://", "#"))]
    assert any(link.endswith("/raw/main/nbs/images/two_networks.png") for link in links)


def is_shipped(path: Path) -> bool:
    return path.is_file() and not {"__pycache__", "chapters"} & set(path.parts) and path.name != ".gitignore"


def test_a_build_elsewhere_gives_the_same_bytes(built: dict[str, Path], tmp_path: Path) -> None:
    "Another folder, other times and rights, another hash seed; and the wheel straight from the files, not the archive"
    skipped = shutil.ignore_patterns(".venv*", ".git", "_docs", "_proc", "__pycache__", "*.egg-info", "build")
    project = tmp_path / "another" / "folder"
    shutil.copytree(ROOT, project, ignore=skipped)
    for path in project.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (1.6e9, 1.6e9))
    command = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--wheel", str(project)]
    options = {"umask": 0o077} if os.name == "posix" else {}
    env = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run(command, check=True, capture_output=True, timeout=300, env=env, **options)
    for path in (project / "dist").iterdir():
        assert path.read_bytes() == built[path.suffix].read_bytes(), path.name
    assert len(list((project / "dist").iterdir())) == 2


def test_source_archive_is_whole(built: dict[str, Path]) -> None:
    with tarfile.open(built[".gz"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"nbs/{name}" for name in CHAPTERS} <= names
    assert {"settings.ini", "setup.py", "README.md", "LICENSE", "LICENSE-TEXT", "tests/test_wheel.py"} <= names


@pytest.fixture(scope="module")
def elsewhere(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory):
    "A function that runs a command as a `pip install` user would, in a folder of their own"
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home / "venv", with_pip=False)
    scripts = home / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "IN_TEST")}
    subprocess.run([*install, str(built[".whl"])], check=True, capture_output=True, env=env)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip())
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(*command: str, code: int = 0) -> str:
        words = [str(scripts / command[0]), *command[1:]]
        done = subprocess.run(words, cwd=home, env=env, capture_output=True, text=True, timeout=900)
        assert done.returncode == code, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    where = run("python", "-c", "import covid_xray; print(covid_xray.__file__)").strip()
    assert Path(where).resolve().is_relative_to(own.resolve()), "the package must come from the wheel"
    run.home = home
    return run


def test_the_main_job_from_the_wheel(elsewhere) -> None:
    "Train on embedded data, then predict and explain, as a user of the command line does"
    import numpy as np
    from PIL import Image

    from covid_xray import phantom

    elsewhere("covid-xray", "train", "--epochs", "1", "--size", "64", "--model", "plain", "--out", "run")
    run = elsewhere.home / "run"
    files = {path.relative_to(run).as_posix() for path in run.rglob("*")}
    assert {"model.safetensors", "settings.json"} <= files
    assert any(name.startswith("log") for name in files)
    for kind in ("predictions", "metrics"):
        assert any(name.startswith(kind) and name.endswith(".csv") for name in files), kind
    assert any(name.startswith("metrics") and name.endswith(".md") for name in files)
    for figure in ("curves", "confusion", "roc", "gradcam"):
        assert any(figure in name and name.endswith(".png") for name in files), figure

    film = phantom.simulate(1, size_px=280, seed=5).images[0]  # the gate refuses what is no chest
    Image.fromarray(film).save(elsewhere.home / "film.png")
    answer = json.loads(elsewhere("covid-xray", "predict", "run", "film.png", "--json"))
    probabilities = answer["films"][0]["probabilities"]
    assert set(probabilities) == {"covid", "normal", "pneumonia"} and abs(sum(probabilities.values()) - 1) < 1e-4
    assert "not a medical device" in answer["disclaimer"].lower()
    elsewhere("covid-xray", "explain", "run", "film.png", "--out", "explained")
    assert list((elsewhere.home / "explained").glob("*.png"))

    ramp = np.tile(np.linspace(0, 255, 300, dtype=np.uint8), (280, 1))
    Image.fromarray(ramp).save(elsewhere.home / "ramp.png")
    refused = json.loads(elsewhere("covid-xray", "predict", "run", "ramp.png", "--json"))["films"][0]
    assert refused["refused"] and refused["probabilities"] is None


def test_an_error_is_one_line(elsewhere) -> None:
    told = elsewhere("covid-xray", "predict", "no-such-run", "film.png", code=1)
    assert told.count("\n") == 1 and "no-such-run" in told and "Traceback" not in told


def test_course_is_copied_out_of_the_wheel(elsewhere) -> None:
    "Every chapter once; a changed one is kept, the others are left as they are"
    elsewhere("covid-xray", "course", "mine")
    mine = elsewhere.home / "mine"
    assert sorted(p.relative_to(mine).as_posix() for p in mine.rglob("*.ipynb")) == CHAPTERS
    changed = mine / "01_data.ipynb"
    changed.write_text(changed.read_text(encoding="utf-8").replace('"cells"', '"cells" '), encoding="utf-8")
    before = changed.read_bytes()
    told = elsewhere("covid-xray", "course", "mine")
    assert changed.read_bytes() == before
    assert "0 notebooks copied" in told and "kept your changed 01_data.ipynb" in told


def test_the_instructors_edition_is_in_the_wheel(elsewhere) -> None:
    elsewhere("covid-xray", "course", "class", "--edition", "instructor")
    folder = elsewhere.home / "class"
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.ipynb")) == CHAPTERS


@pytest.fixture(scope="module")
def colab(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory):
    """A Python as a Colab notebook meets it: PyTorch, ipywidgets and `google.colab` are there, covid_xray is not.

    pip finds the release, here in a folder. What covid_xray needs is lent, so that nothing is downloaded.
    """
    home = tmp_path_factory.mktemp("colab")
    venv.create(home / "venv", with_pip=False, symlinks=os.name == "posix")
    python = home / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip())
    lent = home / "lent"
    lent.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "covid_xray" not in path.name and path.suffix != ".pth":
            (lent / path.name).symlink_to(path, target_is_directory=path.is_dir())
    (own / "lent.pth").write_text(f"{lent}\n")
    (own / "google" / "colab").mkdir(parents=True)
    (own / "google" / "colab" / "__init__.py").touch()
    (own / "run_notebook.py").write_text(RUN_NOTEBOOK)
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "IN_TEST")}
    env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(built[".whl"].parent), "PIP_CONFIG_FILE": os.devnull}

    def run(notebook: dict) -> list[dict]:
        (home / "chapter.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
        command = [python, "-m", "run_notebook", "chapter.ipynb"]
        done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads((home / "chapter.ipynb").read_text(encoding="utf-8"))["cells"]

    run.own = own
    return run


RUN_NOTEBOOK = """import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, timeout=300, store_widget_state=False).execute()
nbformat.write(notebook, sys.argv[1])
"""


def test_first_chapter_in_colab(colab) -> None:
    "The set-up cell installs this very release from nothing; a second time it has nothing to do, and starts no pip"
    assert not list(colab.own.glob("covid_xray*"))
    chapter = set_up.renewed(json.loads((ROOT / "nbs" / "01_data.ipynb").read_text(encoding="utf-8")))
    cells = colab(chapter)
    assert sum(bool(cell.get("outputs")) for cell in cells) > 20
    assert (colab.own / f"covid_xray-{covid_xray.__version__}.dist-info").is_dir()
    assert (colab.own / "covid_xray" / "cli.py").is_file()
    stamp = "import time; start = time.perf_counter()"
    again = [stamp, set_up.text(), "print(time.perf_counter() - start)"]
    code = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = colab({**chapter, "cells": [{**code, "id": f"cell{i}", "source": s} for i, s in enumerate(again)]})
    assert cells[1]["outputs"] == [] and float(cells[2]["outputs"][0]["text"][0]) < 1
