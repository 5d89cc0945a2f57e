"""Measure what chapters claim with other patients and other weights, so that a range rests on more than one run.

    python tools/claims.py [--seeds 0 1 2 3 4] [NOTEBOOK ...]    # `make claims`: chapters 4, 4a, 4c and 9

A notebook is run once a seed, in a fresh kernel, as a reader runs it, but with another teaching set and other starting
weights (seed 0 is the chapter as it stands). What each `claim` was given is kept in covid_xray/results/claims.csv. A
seed is run again where the phantom's version or a claim's sentence has changed; after other changes delete the file.
"""
from __future__ import annotations

import argparse
import ast
import json
import sys
import tempfile
from pathlib import Path

import nbformat
import pandas as pd

import run_chapters

sys.path.insert(0, str(run_chapters.ROOT))
from covid_xray import phantom  # noqa: E402

KEPT = run_chapters.ROOT / "covid_xray" / "results" / "claims.csv"
CHAPTERS = ("04_training.ipynb", "04a_learning_rate.ipynb", "04c_scale.ipynb", "09_admission.ipynb",
            "09_deployment.ipynb", "09a_export.ipynb", "09d_monitoring.ipynb", "09e_cards.ipynb")
OTHER_SEED = '''
import json, torch
import covid_xray.course, covid_xray.phantom
_set, _table, _simulate = torch.manual_seed, covid_xray.phantom.teaching_table, covid_xray.phantom.simulate

def _claim(value, low, high, *, says):
    with open({notes!r}, "a", encoding="utf-8") as file:
        file.write(json.dumps(dict(says=says, value=float(value))) + "\\n")

covid_xray.course.claim = _claim
if {seed}:
    torch.manual_seed = lambda seed: _set(int(seed) + 1_000_003 * {seed})
    covid_xray.phantom.teaching_table = lambda seed=0, **options: _table(seed + 1000 * {seed}, **options)
    covid_xray.phantom.simulate = lambda *n, seed=0, **options: _simulate(*n, seed=seed + 1000 * {seed}, **options)
'''


def code_of(path: Path) -> list[str]:
    "The code cells of a notebook"
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def claims_of(path: Path) -> dict[str, tuple[float, float]]:
    "What a notebook claims: the sentence and its range, where both bounds are written as numbers"
    found = {}
    for source in code_of(path):
        if "%" in source.partition("claim(")[0]:  # the set-up cell has a line for IPython
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "claim":
                says = next(word.value for word in node.keywords if word.arg == "says")
                found[ast.literal_eval(says)] = tuple(ast.literal_eval(bound) for bound in node.args[1:3])
    return found


def measure(path: Path, seed: int) -> list[dict]:
    "Run a notebook with a seed, as far as its last claim, and note what the claims were given"
    with tempfile.TemporaryDirectory() as folder:
        notes, copy = Path(folder) / "claims.jsonl", Path(folder) / path.name
        notebook = nbformat.read(path, 4)
        first = nbformat.v4.new_code_cell(OTHER_SEED.format(notes=str(notes), seed=seed))
        last = max(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code" and "claim(" in cell.source)
        notebook.cells = [first, *notebook.cells[: last + 1]]
        nbformat.write(notebook, copy)
        run = run_chapters.execute(copy)
        if run.error:
            sys.exit(f"{path.name}, seed {seed}: {run.error}")
        return [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]


def kept() -> pd.DataFrame:
    "A row for each notebook, seed and claim"
    columns = ["notebook", "version", "seed", "says", "value"]
    return pd.read_csv(KEPT, dtype={"version": str}) if KEPT.is_file() else pd.DataFrame(columns=columns)


def rows_of(table: pd.DataFrame, path: Path, seed: int) -> pd.DataFrame:
    return table[(table["notebook"] == path.name) & (table["seed"] == seed)]


def is_stale(rows: pd.DataFrame, path: Path) -> bool:
    "Whether the rows of one seed are of another simulator or of other claims"
    return set(rows["version"]) != {str(phantom.VERSION)} or set(rows["says"]) != set(claims_of(path))


def run(path: Path, seeds: list[int]) -> None:
    "Measure the seeds that are missing or stale"
    for seed in seeds:
        if len(rows := rows_of(kept(), path, seed)) and not is_stale(rows, path):
            continue
        notes = pd.DataFrame(measure(path, seed))
        notes["value"] = notes["value"].map(lambda value: float(f"{value:.4g}"))
        table = kept()  # again: another process may have written meanwhile
        notes = notes.assign(notebook=path.name, version=phantom.VERSION, seed=seed)[table.columns]
        table = pd.concat([table.drop(rows_of(table, path, seed).index), notes])
        table.sort_values(["notebook", "seed"], kind="stable").to_csv(KEPT, index=False, lineterminator="\n")
        print(f"{path.name}, seed {seed}: {len(notes)} claims", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    options = parser.parse_args()
    for path in options.notebooks or [run_chapters.NOTEBOOKS / name for name in CHAPTERS]:
        run(path.resolve(), options.seeds)
    table = kept()
    print(table.groupby(["notebook", "says"], sort=False)["value"].agg(["count", "min", "max"]).to_string())


if __name__ == "__main__":
    main()
