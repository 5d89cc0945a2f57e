"""The quiz bank: 134 questions on chapters 1 to 9, each option with a word on why it is right or wrong.

`quiz(chapter)` is a panel for the notebook and needs no network, `quiz_text(chapter)` the same as text. `to_json` and
`to_moodle_xml` carry the questions to a class's own system. The questions themselves are in quiz.json beside this file.
"""
from __future__ import annotations

import html
import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from covid_xray.explore.parts import CAPTION, import_ipywidgets

if TYPE_CHECKING:
    from ipywidgets import VBox

__all__ = ["Option", "Question", "questions", "quiz", "quiz_text", "to_json", "to_moodle_xml"]

_BANK = Path(__file__).with_name("quiz.json")
_LETTERS = "abcd"


@dataclass(frozen=True)
class Option:
    "One answer to choose"

    text: str
    right: bool
    feedback: str  # why it is right or wrong


@dataclass(frozen=True)
class Question:
    "One question with three or four options, of which exactly one is right"

    id: str  # chapter and number, "4-07"
    chapter: int  # 1 to 9
    difficulty: int  # 1 easy to 3 hard
    question: str
    options: tuple[Option, ...]


def questions(
    chapter: int | None = None,  # 1 to 9; all chapters where none is given
) -> list[Question]:  # in the order of the course
    "The questions of one chapter, or all; raises ValueError for a chapter without questions"
    rows = json.loads(_BANK.read_text(encoding="utf-8"))
    bank = [Question(**{**row, "options": tuple(Option(**option) for option in row["options"])}) for row in rows]
    chapters = sorted({question.chapter for question in bank})
    if chapter is not None and chapter not in chapters:
        raise ValueError(f"there is no quiz on chapter {chapter!r}: there is one on {', '.join(map(str, chapters))}")
    return [question for question in bank if chapter in (None, question.chapter)]


# ---- in the notebook ----


def quiz(
    chapter: int,  # 1 to 9
) -> VBox:  # a question with its options, what is to be said of the one chosen, the score, and two buttons
    """The quiz of a chapter as a panel, a question at a time; feedback comes with the click, the first click counts.

    Raises ValueError for a chapter without questions, and ModuleNotFoundError where ipywidgets is missing.
    """
    widgets = import_ipywidgets()
    bank = questions(chapter)
    first: dict[str, bool] = {}  # question -> whether the first choice was right
    score, shown = widgets.HTML(), widgets.VBox()
    back, onward = widgets.Button(description="Previous"), widgets.Button(description="Next")
    position = 0

    def tell_score() -> None:
        score.value = f"<b>{_score(sum(first.values()), len(first), len(bank))}</b>"

    def page(number: int, question: Question) -> VBox:
        heading = f"<b>{number} of {len(bank)}</b> (difficulty {question.difficulty} of 3)<br>"
        choices = widgets.RadioButtons(
            options=[(option.text, index) for index, option in enumerate(question.options)],
            value=None,
            layout=widgets.Layout(width="max-content"),  # a line an option: wrapped lines would lie on each other
        )
        feedback = widgets.HTML()

        def judge(change: dict) -> None:
            option = question.options[change["new"]]
            first.setdefault(question.id, option.right)
            feedback.value = html.escape(_verdict(option), quote=False)
            tell_score()

        choices.observe(judge, "value")
        return widgets.VBox([widgets.HTML(heading + html.escape(question.question, quote=False)), choices, feedback])

    pages = [page(number, question) for number, question in enumerate(bank, 1)]

    def turn_to(new: int) -> None:
        nonlocal position
        position = new
        shown.children = [pages[position]]
        back.disabled, onward.disabled = position == 0, position == len(pages) - 1

    back.on_click(lambda _: turn_to(position - 1))
    onward.on_click(lambda _: turn_to(position + 1))
    turn_to(0)
    tell_score()
    return widgets.VBox([shown, widgets.HBox([back, onward]), score, widgets.HTML(f"<small>{CAPTION}</small>")])


def quiz_text(
    chapter: int,  # 1 to 9
    answers: Mapping[str, str] | None = None,  # question -> letter, {"4-01": "b"}; feedback and score are then added
) -> str:  # to be printed
    """The quiz of a chapter as text, for whoever can't use the panel.

    Raises ValueError for a chapter, a question or a letter that there is not.
    """
    bank, answers = questions(chapter), dict(answers or {})
    unknown = set(answers) - {question.id for question in bank}
    if unknown:
        raise ValueError(f"chapter {chapter} has no question {min(unknown)!r}: its questions are {bank[0].id} and on")
    parts, right = [], 0
    for question in bank:
        lines = [f"{question.id} {question.question}"]
        lines += [f"  {letter}) {option.text}" for letter, option in zip(_LETTERS, question.options)]
        if question.id in answers:
            option = _chosen(question, answers[question.id])
            right += option.right
            lines.append(f"  -> {answers[question.id]}: {_verdict(option)}")
        parts.append("\n".join(lines))
    if answers:
        parts.append(_score(right, len(answers), len(bank)))
    return "\n\n".join([*parts, CAPTION])


def _chosen(question: Question, letter: str) -> Option:
    letters = _LETTERS[: len(question.options)]
    if len(letter) != 1 or letter not in letters:
        raise ValueError(f"question {question.id} has the options {', '.join(letters)}, and not {letter!r}")
    return question.options[letters.index(letter)]


def _verdict(option: Option) -> str:
    return f"{'Right.' if option.right else 'Not so.'} {option.feedback}"


def _score(right: int, answered: int, of: int) -> str:
    return f"{right} right of {answered} answered; {of - answered} to go"


# ---- to a class's own system ----


def to_json(
    path: str | Path,  # file to write
) -> Path:  # the file
    "All questions as plain JSON, a list of objects with the fields of `Question`; raises OSError if it can't write"
    path = Path(path)
    text = json.dumps([asdict(question) for question in questions()], indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def to_moodle_xml(
    path: str | Path,  # file to write
) -> Path:  # the file
    """All questions for Moodle (Question bank, Import, Moodle XML format), a category a chapter.

    Moodle shuffles the options. Raises OSError if the file can't be written. The format: https://docs.moodle.org,
    "Moodle XML format".
    """
    root, chapter = ET.Element("quiz"), None
    for question in questions():
        if question.chapter != chapter:
            chapter = question.chapter
            category = ET.SubElement(ET.SubElement(root, "question", type="category"), "category")
            ET.SubElement(category, "text").text = f"$course$/top/covid_xray/Chapter {chapter}"
        root.append(_moodle(question))
    ET.indent(root)
    path = Path(path)
    path.write_bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
    return path


def _moodle(question: Question) -> ET.Element:
    "One multiple-choice question"
    element = ET.Element("question", type="multichoice")
    _text(element, "name", f"covid_xray {question.id}")
    _text(element, "questiontext", html.escape(question.question, quote=False), format="html")
    settings = {"defaultgrade": "1", "penalty": "0.3333333", "hidden": "0", "single": "true", "shuffleanswers": "true"}
    for name, value in {**settings, "answernumbering": "abc"}.items():
        ET.SubElement(element, name).text = value
    for option in question.options:
        fraction = "100" if option.right else "0"
        answer = _text(element, "answer", html.escape(option.text, quote=False), fraction=fraction, format="html")
        _text(answer, "feedback", html.escape(option.feedback, quote=False), format="html")
    _text(ET.SubElement(element, "tags"), "tag", f"difficulty {question.difficulty}")
    return element


def _text(parent: ET.Element, name: str, text: str, **attributes: str) -> ET.Element:
    "An element that holds its words in a `text` element, as Moodle wants it"
    element = ET.SubElement(parent, name, attributes)
    ET.SubElement(element, "text").text = text
    return element
