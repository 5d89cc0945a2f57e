"""Minutes in the teaching kit, made from the chapters' own cards and exercises (part of `make export`).

    python tools/teaching.py [--check]    # --check changes nothing and ends with 1 where something is out of step

In nbs/instructor/ the sentence "**Minutes.** ..." of each chapter, the minutes of the rows of the plans and the
sentences that add them up are made here; everything else there is written by hand.
"""
from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import run_chapters
from covid_xray.exercises import exercises

ROOT = Path(__file__).resolve().parent.parent
KIT = ROOT / "nbs" / "instructor"
PLANS = KIT / "00_plans.ipynb"
AN_EXERCISE, A_DISCUSSION, UNNAMED = 8, 15, 45  # minutes: what we reckon with; the last where a card names none
SENTENCE = re.compile(r"\*\*Minutes\.\*\*.*?\btogether\s\d+\.", re.DOTALL)
CARD = re.compile(r"(\d+) (?:minutes )?to (?:read|work through)")
ADDED_UP = re.compile(r"\d+\s+hours\s+\d+\s+minutes")


def text(cell: dict) -> str:
    return "".join(cell["source"])


def notebooks(chapter: str) -> list[Path]:
    "A chapter's notebooks that name their minutes; chapters 8 and 9 have parts without notes of their own"
    own = re.compile(rf"0{chapter}[a-z]?_" if chapter in "89" else f"0{chapter}_")
    pages = [path for path in run_chapters.chapters() if path.parent == ROOT / "nbs" and own.match(path.name)]
    return [path for path in pages if reading(path) is not None]


def reading(notebook: Path) -> int | None:
    "Minutes to read, as the card of a notebook says"
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    cards = [text(cell) for cell in cells[:6] if "**You will be able to**" in text(cell)]
    found = CARD.search(cards[0]) if cards else None
    return int(found[1]) if found else None


def parts(chapter: str) -> dict[str, int]:
    "Minutes of a chapter, by what they are spent on, and the number of its exercises"
    pages = notebooks(chapter)
    count = sum(name.startswith(f"{chapter}.") for name in exercises())
    return {"reading": sum(map(reading, pages)) or UNNAMED, "named": bool(pages), "exercises": AN_EXERCISE * count,
            "discussion": A_DISCUSSION, "count": count}


def whole(chapter: str) -> int:
    "All minutes of a chapter"
    found = parts(chapter)
    return found["reading"] + found["exercises"] + found["discussion"]


def sentence(chapter: str) -> str:
    "As the notes say it"
    found = parts(chapter)
    reading_time = f"Reading {found['reading']}" + ("" if found["named"] else " (our estimate; no card names it)")
    work = f"exercises {found['exercises']} ({found['count']} of {AN_EXERCISE} minutes each), "
    rest = f"discussion {found['discussion']}: together {whole(chapter)}."
    return f"**Minutes.** {reading_time}, {work if found['count'] else ''}{rest}"


def row(line: str) -> str:
    "A row of a plan with its minutes made anew: | day | chapters | minutes | ... |"
    cells = line.strip("| ").split(" | ")
    named = re.findall(r"(?<![\w.])(\d[a-d]?) \[", cells[1]) if len(cells) > 3 else []
    if named and re.fullmatch(r"\d+", cells[2]):
        cells[2] = str(sum(map(whole, named)))
    return "| " + " | ".join(cells) + " |"


def renewed(path: Path) -> str:
    "A notebook of the kit as it must be"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        words = text(cell)
        chapter = re.match(r"## (\d[a-z]?) ", words)
        if chapter:
            words = SENTENCE.sub(lambda _: sentence(chapter[1]), words)
        elif path == PLANS:
            lines = [row(line) if line.startswith("| ") else line for line in words.split("\n")]
            total = sum(int(line.split(" | ")[2]) for line in lines if re.match(r"\|( [^|]+\|){2} \d+ \|", line))
            words = "\n".join(lines)
            if "are chapters" in words:
                words = ADDED_UP.sub(f"{total // 60} hours {total % 60} minutes", words)
        cell["source"] = words.splitlines(True)
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> int:
    stale = [path for path in sorted(KIT.glob("*.ipynb")) if path.read_text(encoding="utf-8") != renewed(path)]
    for path in stale:
        if "--check" in sys.argv[1:]:
            print(f"{path.relative_to(ROOT)} is out of step: run make export", file=sys.stderr)
        else:
            path.write_text(renewed(path), encoding="utf-8", newline="\n")
    return int(bool(stale) and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
