"""Run tests with the oldest versions that settings.ini declares, in an environment of their own: `make oldest-check`.

    python tools/oldest.py [--venv FOLDER] [--python 3.11] [--newest] [--install-only] [-- PYTEST ARGUMENTS]

uv resolves every direct requirement of the library, its extra `course` and the development tools to its lower bound,
and what these need in turn as usual. PyTorch 2.4 for NVIDIA GPUs takes 6 GB of disk. `--newest` takes the newest
versions instead, for another Python. Tests run are those of the library and of chapters 0 to 3, unless named.
"""
from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import venv
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNUSED = ("jupyterlab", "playwright", "smalldocs", "latex2mathml")  # for the browser and the docs site
LIBRARY = "augment cnn contrast data download metrics scoring sanity sources splits training tuning phantom".split()
TESTS = [f"tests/test_{name}.py" for name in LIBRARY] + ["tests/test_notebooks.py"]
CHAPTERS = "not notebooks or 00 or 01_data or 01b or 02_aug or 03_cnn"


def requirements(extra: str = "") -> list[str]:
    "What the library or an extra asks for, extras within extras taken apart"
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    found: list[str] = []
    for word in parser["DEFAULT"][f"{extra}_requirements" if extra else "requirements"].split():
        inner = re.fullmatch(r"covid_xray\[(.+)\]", word)
        found += [r for name in inner[1].split(",") for r in requirements(name)] if inner else [word]
    return found


def install(folder: Path, python: str, newest: bool) -> Path:
    "An environment with the versions wanted; gives its Python"
    base = folder / "uv"
    if not base.exists():
        venv.create(base, with_pip=True)
        subprocess.run([base / "bin" / "python", "-m", "pip", "install", "--quiet", "uv"], check=True)
    uv, inner = base / "bin" / "uv", folder / "venv"
    if not inner.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", python, inner], check=True)
    wanted = dict.fromkeys(requirements() + requirements("dev"))
    wanted = [word for word in wanted if not word.startswith(UNUSED)]
    how = "highest" if newest else "lowest-direct"
    command = [uv, "pip", "install", "--quiet", "--python", inner / "bin" / "python", "--resolution", how, *wanted]
    subprocess.run(command, check=True)
    return inner / "bin" / "python"


def main() -> int:
    parser = argparse.ArgumentParser(description="Test with the oldest declared versions")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-oldest", help="folder of the environments")
    parser.add_argument("--python", default=f"{sys.version_info[0]}.{sys.version_info[1]}", help="version or path")
    parser.add_argument("--newest", action="store_true", help="newest versions instead of oldest")
    parser.add_argument("--install-only", action="store_true", help="run no test")
    parser.add_argument("tests", nargs="*", help="pytest's arguments, after --; the library and chapters 0 to 3")
    options = parser.parse_args()
    python = install(options.venv.resolve(), options.python, options.newest)
    if options.install_only:
        return 0
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    tests = options.tests or [*TESTS, "-k", CHAPTERS]
    return subprocess.run([python, "-m", "pytest", "-q", *tests], cwd=ROOT, env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
