"""Treat chapters badly: each one twice in the same kernel, in a read-only folder that is not its own (`make rerun`).

    python tools/rerun.py [NOTEBOOK ...]

A chapter passes where both runs end without an error and nothing was written beside it, so that a copy opened from a
read-only share or from Downloads works like the one in `nbs/`. Prints a line a chapter, keeps the table in
covid_xray/results/rerun.csv when every chapter was run, and ends with 1 where one failed.
"""
from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
import pandas as pd

import run_chapters

TABLE = run_chapters.ROOT / "covid_xray" / "results" / "rerun.csv"


def doubled(path: Path) -> nbformat.NotebookNode:
    "A chapter with all its cells a second time"
    notebook = nbformat.read(path, 4)
    again = [nbformat.NotebookNode({**cell, "id": f"{cell['id']}-2"}) for cell in notebook.cells]
    notebook.cells = notebook.cells + again
    return notebook


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rerun(path: Path) -> tuple[str, float]:
    "What went wrong, or nothing; and the seconds of both runs"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "somewhere else"
        folder.mkdir()
        nbformat.write(doubled(path), folder / path.name)
        if (path.parent / "images").is_dir():
            shutil.copytree(path.parent / "images", folder / "images")
        before = contents(folder)
        folder.chmod(0o555)  # root may write all the same: what is there afterwards tells
        try:
            run = run_chapters.execute(folder / path.name)
        finally:
            folder.chmod(0o755)
        written = sorted(set(contents(folder)) - set(before))
        if run.error:
            return run.error, run.seconds
        return f"wrote {', '.join(written)} beside itself" if written else "", run.seconds


def main() -> int:
    parser = argparse.ArgumentParser(description="Run chapters twice, elsewhere, read-only")
    parser.add_argument("notebooks", nargs="*", type=Path, help="notebooks to run; all of nbs/ where none is named")
    named = parser.parse_args().notebooks
    rows = []
    for path in [p.resolve() for p in named] or run_chapters.chapters():
        wrong, seconds = rerun(path)
        name = path.relative_to(run_chapters.NOTEBOOKS).as_posix()
        rows.append({"notebook": name, "twice_seconds": round(seconds), "fault": wrong.strip().split("\n")[-1]})
        print(f"{name}: {wrong or 'well'} ({seconds:.0f} s)", flush=True)
    if not named:
        pd.DataFrame(rows).to_csv(TABLE, index=False, lineterminator="\n")
    return int(any(row["fault"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
