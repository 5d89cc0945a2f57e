"""The teaching kit: what it says of the chapters is true, what it points to is there, and the plans add up."""
from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import pytest

import run_chapters
import teaching
from covid_xray.exercises import exercises

ROOT = Path(__file__).resolve().parent.parent
KIT = ROOT / "nbs" / "instructor"
NOTES = sorted(KIT.glob("0[1-9]*.ipynb"))
PLANS = KIT / "00_plans.ipynb"
LINK = re.compile(r"([Tt]he figure in )?\[([^\]]+)\]\(\.\./([\w/]+\.ipynb)(?:#([^)]+))?\)")
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w])")
EXERCISE = re.compile(r"(?<![\w.])\d\.\d(?![\d%])(?! %)")
every_note = pytest.mark.parametrize("path", NOTES, ids=lambda path: path.stem)


@functools.cache
def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def text(cell: dict) -> str:
    return "".join(cell["source"])


def prose(path: Path) -> str:
    return "\n\n".join(text(cell) for cell in cells(path) if cell["cell_type"] == "markdown")


def anchor(heading: str) -> str:
    "As Quarto names it"
    plain = re.sub(r"[^\w\s.-]", "", re.sub(r"[`*]", "", heading).lower())
    return "-".join(re.sub(r"^[^a-z]+", "", plain).split())


@functools.cache
def sections(path: Path) -> dict[str, tuple[str, bool]]:
    "Heading -> all text of the section with its printed outputs, and whether it shows a figure"
    found, heading = {}, ""
    for cell in cells(path):
        if cell["cell_type"] == "code":
            outputs = cell["outputs"]
            printed = "".join("".join(o.get("text", o.get("data", {}).get("text/plain", ""))) for o in outputs)
            words, figure = found.get(heading, ("", False))
            figure |= any("image/png" in o.get("data", {}) for o in outputs)
            found[heading] = (f"{words}\n{text(cell)}\n{printed}", figure)
            continue
        first, *rest = re.split(r"^##+ (.+)$", text(cell), flags=re.MULTILINE)
        words, figure = found.get(heading, ("", False))
        found[heading] = (f"{words}\n{first}", figure)
        for heading, words in zip(rest[::2], rest[1::2]):
            heading = heading.strip()
            found[heading] = (words, False)
    return found


def items(path: Path) -> list[str]:
    "Misconceptions and questions, one string each"
    listed = [text(cell) for cell in cells(path) if re.match("### (Misconceptions|Questions)", text(cell))]
    return [item for block in listed for item in re.split(r"^(?:\d\.|-) ", block, flags=re.MULTILINE)[1:]]


def chapters_of(path: Path) -> dict[str, list[str]]:
    "Chapter, such as 4a -> its four cells: goals and minutes, misconceptions, questions, rubric"
    found: dict[str, list[str]] = {}
    for cell in cells(path):
        heading = re.match(r"## (\d[a-z]?) ", text(cell)) or re.match(r"### \w+, chapter (\d[a-z]?)\n", text(cell))
        if heading:
            found.setdefault(heading[1], []).append(text(cell))
    return found


# ---- what the notes point to ----


@pytest.mark.parametrize("path", sorted(KIT.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_section_and_figure_named_exists(path: Path) -> None:
    for figure, words, target, place in LINK.findall(prose(path)):
        chapter = ROOT / "nbs" / target
        assert chapter.is_file(), target
        if not place:
            continue
        wanted = next((heading for heading in sections(chapter) if anchor(heading) == place), None)
        assert wanted, f"{target} has no section {place}"
        assert " ".join(words.split()) == wanted, f"the section is called {wanted!r}"
        assert not figure or sections(chapter)[wanted][1], f"{target}, {wanted}: no figure there"


@pytest.mark.parametrize("path", sorted(KIT.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_exercise_named_exists(path: Path) -> None:
    plain = LINK.sub("", prose(path))
    named = {n for words in re.findall(r"[Ee]xercises? ([\d., and]+)|\(((?:\d\.\d(?:, )?)+)\)", plain)
             for n in EXERCISE.findall(" ".join(words))}
    assert named <= set(exercises()), named - set(exercises())


@every_note
def test_numbers_are_those_of_the_chapter(path: Path) -> None:
    "Every number of two digits or with a point, in a misconception or question, stands in a section that it links to"
    for item in items(path):
        linked = [sections(ROOT / "nbs" / target) for _, _, target, place in LINK.findall(item) if place]
        names = [place for _, _, _, place in LINK.findall(item) if place]
        there = {n.strip(",") for found, place in zip(linked, names) for heading, (words, _) in found.items()
                 if anchor(heading) == place for n in NUMBER.findall(f"{heading} {words}")}
        said = LINK.sub("", re.sub(r"[Ee]xercises? [\d., and]+|[Cc]hapter \w+", "", item))
        numbers = {n.strip(",") for n in NUMBER.findall(said) if len(n.strip(",")) > 1}
        assert numbers <= there, f"not in what is linked: {sorted(numbers - there)}: {item[:80]}"


def test_every_chapter_has_its_notes() -> None:
    wanted = "1 1b 2 3 4 4a 4b 4c 5 5b 5c 6 6c 6d 7 7a 7b 8 9".split()
    assert [chapter for path in NOTES for chapter in chapters_of(path)] == wanted


@every_note
def test_notes_are_complete(path: Path) -> None:
    for chapter, (about, mistakes, questions, rubric) in chapters_of(path).items():
        assert "**Goals.**" in about and "**Minutes.**" in about, chapter
        assert len(re.findall(r'^\d\. \*\*"', mistakes, re.MULTILINE)) == 3, chapter
        answers = " ".join(questions.split()).count("*A good answer:*")
        assert answers == len(re.findall("^- ", questions, re.MULTILINE)) >= 3, chapter
        rows = [line for line in rubric.splitlines() if line.startswith("| **")]
        assert len(rows) >= 2 and all(row.count(" | ") == 3 for row in rows), chapter
    for item in items(path):
        assert LINK.search(item), f"points nowhere: {item[:80]}"


@pytest.mark.parametrize("path", sorted(KIT.glob("*.ipynb")), ids=lambda path: path.stem)
def test_minutes_are_in_step_with_the_chapters(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == teaching.renewed(path), "run make export"


@every_note
def test_minutes_are_the_cards_and_add_up(path: Path) -> None:
    for chapter, (about, *_) in chapters_of(path).items():
        said = " ".join(re.search(r"\*\*Minutes\.\*\* (.+)", about, re.DOTALL)[1].split())
        parts = {what: int(minutes) for what, minutes in re.findall(r"(Reading|exercises|discussion) (\d+)", said)}
        assert sum(parts.values()) == int(re.search(r"together (\d+)\.", said)[1]), chapter
        count = sum(name.startswith(f"{chapter}.") for name in exercises())
        assert parts.get("exercises", 0) == 8 * count, chapter
        pages = (ROOT / "nbs").glob(f"0{chapter}{'*' if chapter in '89' else ''}_*.ipynb")  # 8 and 9 have parts
        cards = [re.search(r"(\d+) (?:minutes )?to (?:read|work through)", prose(page)[:2500]) for page in pages]
        assert not any(cards) or parts["Reading"] == sum(int(card[1]) for card in cards if card), chapter


# ---- the plans ----


def tables() -> dict[str, list[list[str]]]:
    "Heading of each plan -> rows of its table"
    found = {}
    for cell in cells(PLANS):
        heading = re.match(r"## (.+)", text(cell))
        rows = [line.strip("| ").split(" | ") for line in text(cell).splitlines() if line.startswith("| ")]
        if heading and rows:
            found[heading[1]] = rows[1:]
    return found


def test_a_day_runs_by_the_clock() -> None:
    "Each row begins when the one before has ended"
    rows = tables()["One day"]
    clock = [int(h) * 60 + int(m) for h, m in (row[0].split(":") for row in rows)]
    lengths = [int(row[1]) for row in rows]
    assert clock[1:] == [start + length for start, length in zip(clock, lengths)][:-1]
    work = sum(length for row, length in zip(rows, lengths) if not row[2].startswith(("Break", "Lunch")))
    assert f"{work // 60} hours {work % 60} minutes of work" in prose(PLANS)


@pytest.mark.parametrize("plan", ["One week", "One term"])
def test_plans_give_each_chapter_its_minutes(plan: str) -> None:
    "A row's minutes are those of the notes for the chapters that it names; every chapter has its place"
    whole = {chapter: int(re.search(r"together\s(\d+)\.", about)[1])
             for path in NOTES for chapter, (about, *_) in chapters_of(path).items()}
    named = []
    for row in tables()[plan]:
        chapters = re.findall(r"(?<![\w.])(\d[a-d]?) \[", row[1])
        named += chapters
        assert int(row[2]) == sum(whole[chapter] for chapter in chapters), row
    assert sorted(named) == sorted(whole)
    total = sum(int(row[2]) for row in tables()[plan])
    assert f"{total // 60} hours {total % 60} minutes" in prose(PLANS)


def test_the_kit_is_of_the_course() -> None:
    "In the runner's list of notebooks, and so tested, rendered and shipped as all others"
    assert set(KIT.glob("*.ipynb")) <= set(run_chapters.chapters())
