"""The glossary and the bibliography: in order, complete, and true to the chapters they point to."""
from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import pytest

import run_chapters

ROOT = Path(__file__).resolve().parent.parent
GUIDES = ROOT / "nbs" / "guides"
ENTRY = re.compile(r'^<a id="([\w-]+)"></a>\*\*(.+?)\*\*: (.+) \(\[([^\]]+)\]\(([^)]+)\)\)$', re.MULTILINE)


@functools.cache
def prose(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def terms() -> list[tuple[str, str, str, str, str]]:
    "Anchor, term, explanation, name and address of the chapter"
    return ENTRY.findall(prose(GUIDES / "glossary.ipynb"))


# ---- the glossary ----


def test_glossary_has_many_terms_in_order() -> None:
    names = [term.casefold() for _, term, *_ in terms()]
    assert len(names) >= 80
    assert names == sorted(set(names))
    assert prose(GUIDES / "glossary.ipynb").count("<a id=") == len(names), "an entry is not of the agreed form"
    anchors = [anchor for anchor, *_ in terms()]
    assert len(anchors) == len(set(anchors))
    assert f"{len(names)} terms" in prose(GUIDES / "glossary.ipynb")


def test_each_term_stands_under_its_letter() -> None:
    for section in re.split(r"^## ", prose(GUIDES / "glossary.ipynb"), flags=re.MULTILINE)[1:]:
        assert {term[0].upper() for _, term, *_ in ENTRY.findall(section)} == {section[0]}


def test_explanations_are_short_sentences() -> None:
    for _, term, explanation, *_ in terms():
        assert 8 <= len(explanation.split()) <= 60, term
        assert explanation[0].isupper() or explanation[0].isdigit(), term
        assert explanation.endswith("."), term


def test_each_term_is_met_in_its_chapter() -> None:
    for _, term, _, _, address in terms():
        chapter = (GUIDES / address).resolve()
        assert chapter.is_file(), f"{term}: {address}"
        words = re.findall(r"\w+", term.casefold())
        assert any(word in prose(chapter).casefold() for word in words if len(word) > 1), f"{term}: not in {address}"


# ---- the bibliography ----

LINK = re.compile(r"https?://(?:dx\.)?(doi\.org|arxiv\.org)/((?:[^\s()\]>\"'`\\]|\([^\s()]*\))+)", re.IGNORECASE)
PAPER = re.compile(r'^- <a id="([a-z0-9]+)"></a>(.+?) \((\d{4})\)\. \*(.+?)\* (<.+>)\n  (.+)$', re.MULTILINE)


def numbers(text: str) -> list[str]:
    "DOIs and arXiv numbers of all links in a text, without version and in one spelling"
    found = []
    for host, address in LINK.findall(text):
        address = address.rstrip(".,;").casefold()
        number = re.sub(r"^(abs|pdf)/|v\d+$|\.pdf$", "", address) if host.casefold() == "arxiv.org" else address
        found.append(number)
    return found


def test_numbers_are_read_from_links() -> None:
    text = "[a](https://doi.org/10.1016/S0734-189X(87)80186-X), <https://arxiv.org/abs/1706.04599v2>. "
    text += "http://dx.doi.org/10.1/x;"
    assert numbers(text) == ["10.1016/s0734-189x(87)80186-x", "1706.04599", "10.1/x"]


def test_bibliography_is_well_formed() -> None:
    text = prose(GUIDES / "bibliography.ipynb")
    papers = PAPER.findall(text)
    assert len(papers) >= 50 and f"{len(papers)} papers" in text
    assert text.count("<a id=") == len(papers), "an entry is not of the agreed form"
    keys, titles = [paper[0] for paper in papers], [paper[3].casefold() for paper in papers]
    assert len(keys) == len(set(keys)) and len(titles) == len(set(titles))
    for key, _, year, _, links, why in papers:
        assert 1900 < int(year) < 2030, key
        assert numbers(links), key
        assert 4 <= len(why.split()) <= 40 and why.endswith("."), key


def test_numbers_are_well_formed_and_unique() -> None:
    found = numbers(prose(GUIDES / "bibliography.ipynb"))
    assert len(found) == len(set(found))
    wrong = [n for n in found if not re.fullmatch(r"10\.\d{4,9}/\S+|\d{4}\.\d{4,5}", n)]
    assert not wrong


def test_arxiv_numbers_fit_their_year() -> None:
    "An arXiv number opens with year and month; a paper may be shown at a meeting just before, or printed later"
    for key, _, year, _, links, _ in PAPER.findall(prose(GUIDES / "bibliography.ipynb")):
        for number in numbers(links):
            if not number.startswith("10."):
                assert -1 <= int(year) - (2000 + int(number[:2])) <= 3 and 1 <= int(number[2:4]) <= 12, key


@pytest.mark.parametrize("path", run_chapters.chapters(), ids=lambda p: p.stem)
def test_what_a_chapter_cites_is_in_the_bibliography(path: Path) -> None:
    absent = set(numbers(prose(path))) - set(numbers(prose(GUIDES / "bibliography.ipynb")))
    assert not absent, f"add to nbs/guides/bibliography.ipynb: {sorted(absent)}"
