"""Every notebook twice: against the library, and exactly as a reader sees it.

Against the library: nbdev's own in-process shell runs it, exported cells replaced by an import of the names they
define, so that the modules are what runs and what coverage measures. As shown: a fresh kernel, nothing replaced (the
runner of `make course`). The first finds an import that a module lacks, the second a cell that leans on another
notebook.
"""
from __future__ import annotations

import ast
import random
from pathlib import Path

import numpy as np
import pytest
from execnb.shell import CaptureShell
from fastcore.xtras import working_directory
from nbdev.config import get_config
from nbdev.process import NBProcessor

import run_chapters

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = get_config(path=ROOT)
NOTEBOOKS = run_chapters.chapters()
EXPORTS = {"export", "exports", "exporti"}
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / "nbs").as_posix())


def imported_instead(source: str, module: str) -> str:
    "An exported cell's own imports, and an import of what it defines from the library"
    lines, names = [], []
    for node in ast.parse(source).body:
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"  # imports, never run
        if for_types or isinstance(node, (ast.Import, ast.ImportFrom)):
            lines.append(ast.unparse(node))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            raise ValueError(f"line {node.lineno} of an exported cell neither imports nor defines: it runs at import")
    if names:
        lines.append(f"from covid_xray.{module} import {', '.join(dict.fromkeys(names))}")
    return "\n".join(lines)


@pytest.fixture
def nothing_left_behind(monkeypatch: pytest.MonkeyPatch):
    "Global state as before, since all notebooks share this process"
    import matplotlib
    import matplotlib.pyplot as plt
    import torch

    monkeypatch.setenv("IN_TEST", "1")
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    np_state, py_state, torch_state = np.random.get_state(), random.getstate(), torch.get_rng_state()
    with matplotlib.rc_context():
        yield
    plt.close("all")
    np.random.set_state(np_state)
    random.setstate(py_state)
    torch.set_rng_state(torch_state)
    assert torch.get_default_dtype() is torch.float32, "the notebook changed torch's default dtype"
    assert torch.is_grad_enabled(), "the notebook left gradients switched off"
    assert torch.are_deterministic_algorithms_enabled() == deterministic, "the notebook changed deterministic mode"
    torch.set_num_threads(threads)


@every_notebook
def test_against_the_library(path: Path, nothing_left_behind) -> None:
    notebook = NBProcessor(path, process=True).nb
    directives = [getattr(cell, "directives_", None) or {} for cell in notebook.cells]
    module = next((d["default_exp"][0] for d in directives if "default_exp" in d), None)
    skipped = set()
    for cell, found in zip(notebook.cells, directives):
        if cell.cell_type != "code" or found.get("eval:", [""])[0].lower() == "false":
            skipped.add(id(cell))
        elif module and EXPORTS & found.keys():
            cell.source = imported_instead(cell.source, module)
    shell = CaptureShell(path)
    with working_directory(path.parent):
        shell.run_all(notebook, exc_stop=False, preproc=lambda cell: id(cell) in skipped or shell.exc)
    if shell.exc:
        pytest.fail(shell.prettytb(fname=path), pytrace=False)


@every_notebook
def test_as_shown(path: Path) -> None:
    run = run_chapters.execute(path, {"IN_TEST": "1"})
    if run.error:
        pytest.fail(f"{path.name}: {run.error}", pytrace=False)
    assert run.peak_bytes < 2e9, f"{path.name} took {run.peak_bytes / 1e9:.1f} GB of memory; a chapter has 2"


def test_a_failing_chapter_is_told(tmp_path: Path) -> None:
    "The runner sees an error, names it, and memory is measured"
    import nbformat

    sources = ["block = b'x' * 200_000_000", "import time; time.sleep(0.5)", "raise ValueError('told')"]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    path = tmp_path / "broken.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    run = run_chapters.execute(path)
    assert "ValueError: told" in run.error
    assert 0.2e9 < run.peak_bytes < 2e9 and run.cpu_seconds > 0.1
