"""What is installed here, what is missing, and what to do about it: the `covid-xray doctor` command."""
from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Finding", "examine"]

_CORE = ("torch", "torchvision", "numpy", "pandas", "pillow", "matplotlib", "scikit-learn", "accelerate", "safetensors",
         "pooch", "typer")
_EXTRAS = {"course": ("ipywidgets", "captum"), "lab": ("jupyterlab",), "dicom": ("pydicom",),
           "onnx": ("onnxruntime",), "pretrained": ("timm",), "serve": ("fastapi", "uvicorn", "voila")}


@dataclass(frozen=True)
class Finding:
    "One line of the examination"

    state: str  # "ok", "note" (works, but you may want more) or "problem" (something will fail)
    what: str  # what was found
    remedy: str = ""  # what to do about it


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> Finding:
    found = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    if sys.version_info < (3, 10):
        return Finding("problem", found, "install Python 3.10 or newer")
    return Finding("ok", found)


def _packages() -> list[Finding]:
    findings = []
    for package in _CORE:
        version = _version(package)
        findings.append(Finding("ok", f"{package} {version}") if version else
                        Finding("problem", f"{package} is missing", "pip install --upgrade covid_xray"))
    for extra, packages in _EXTRAS.items():
        missing = [package for package in packages if _version(package) is None]
        findings.append(Finding("note", f"extra '{extra}' is not installed ({', '.join(missing)})",
                                f'only if you need it: pip install "covid_xray[{extra}]"') if missing else
                        Finding("ok", f"extra '{extra}': " + ", ".join(f"{p} {_version(p)}" for p in packages)))
    return findings


def _device() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("problem", "no PyTorch, so nothing can be trained", "pip install torch torchvision")
    import torch

    if torch.cuda.is_available():
        return Finding("ok", f"GPU: {torch.cuda.get_device_name(0)}")
    if torch.backends.mps.is_available():
        return Finding("ok", "GPU: Apple (mps)")
    return Finding("ok", f"CPU, {os.cpu_count()} cores, no GPU: every chapter runs, in minutes")


def _disk(folder: Path) -> Finding:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free / 1e9
    found = f"cache folder {folder}, {free:.1f} GB free"
    if not os.access(there, os.W_OK):
        return Finding("problem", f"{found}, but it can't be written to", "set COVID_XRAY_CACHE to a folder of yours")
    return Finding("note", found, "less than 2 GB: free some before training") if free < 2 else Finding("ok", found)


def _sources() -> list[Finding]:
    import contextlib
    import warnings

    from covid_xray.sources import SOURCES, load_table, set_folder

    findings = [Finding("ok", "source phantom: embedded, always there")]
    for name, source in SOURCES.items():
        if name == "phantom" or source.way == "own":
            continue
        films = 0
        with warnings.catch_warnings(), contextlib.suppress(FileNotFoundError, ValueError, OSError):
            warnings.simplefilter("ignore")
            films = len(load_table(name, classes=None))
        found = f"source {name}: {films} of {source.images} films in {set_folder(name)}"
        findings.append(Finding("ok", found) if films else
                        Finding("note", found, f"only if you want it: covid-xray download {name}"))
    return findings


def examine() -> list[Finding]:  # in the order to be read
    "Look at Python, packages, device, disk, settings and sources; changes nothing and needs no network"
    from covid_xray.sources import cache_folder

    settings = [Finding("ok", f"{name}={os.environ[name]}") for name in
                ("COVID_XRAY_SOURCE", "COVID_XRAY_ROOT", "COVID_XRAY_CACHE") if os.environ.get(name)]
    return [_python(), *_packages(), _device(), _disk(cache_folder()), *settings, *_sources()]
