"""What a chapter costs to run, kept as a small table, and written where readers look for it (`make course`).

    python tools/minutes.py    # writes the kept minutes into the cards, nbs/index.ipynb and README.md

`run_chapters.py --minutes` measures and keeps: covid_xray/results/minutes.csv, a row a notebook. The sentence in a
chapter's opening card and the column in the table of chapters are made from its `seconds`, time by the clock on the
machine that measured: let it be two cores that do nothing else.
"""
from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from run_chapters import Run

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "nbs"
KEPT = ROOT / "covid_xray" / "results" / "minutes.csv"
COLUMNS = ("notebook", "seconds", "cpu_seconds", "peak_gb", "longest_cell")
CARD = re.compile(r"(\| \*\*Time\*\* \| [^|]*?to read), [^|;]* to run on two cores")


def kept() -> dict[str, dict[str, float]]:
    "Notebook (path below nbs/) -> what was measured"
    if not KEPT.is_file():
        return {}
    with open(KEPT, newline="", encoding="utf-8") as file:
        return {row.pop("notebook"): {name: float(value) for name, value in row.items()}
                for row in csv.DictReader(file)}


def keep(runs: dict[Path, Run]) -> None:
    "Put new measurements beside the older ones; rows of notebooks that are gone go too"
    rows = kept() | {path.relative_to(NOTEBOOKS).as_posix(): measured(run) for path, run in runs.items()
                     if path.is_relative_to(NOTEBOOKS)}
    with open(KEPT, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({"notebook": name} | {column: f"{value:g}" for column, value in row.items()}
                         for name, row in sorted(rows.items()) if (NOTEBOOKS / name).is_file())


def measured(run: Run) -> dict[str, float]:
    return {"seconds": round(run.seconds), "cpu_seconds": round(run.cpu_seconds),
            "peak_gb": round(run.peak_bytes / 1e9, 2), "longest_cell": round(run.longest_cell)}


def sentence(seconds: float) -> str:
    "As a card says it"
    if seconds < 50:
        return "a few seconds" if seconds < 20 else "under a minute"
    minutes = round(seconds / 60)
    return "about a minute" if minutes == 1 else f"about {minutes} minutes"


def number(seconds: float) -> str:
    "As the table of chapters says it"
    return "< 1" if seconds < 50 else str(round(seconds / 60))


def with_minutes(text: str, seconds: float) -> str:
    "A notebook's text with the measured time in its card"
    return CARD.sub(lambda card: f"{card[1]}, {sentence(seconds)} to run on two cores", text)


def write() -> None:
    "Bring cards, table of chapters and README in step with what was kept"
    import readme

    for name, row in kept().items():
        path = NOTEBOOKS / name
        old = path.read_text(encoding="utf-8")
        new = with_minutes(old, row["seconds"])
        assert json.loads(new)["cells"]
        if new != old:
            path.write_text(new, encoding="utf-8", newline="\n")
    readme.write()


if __name__ == "__main__":
    write()
