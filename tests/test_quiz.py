"""The quiz bank: well-formed, fair, and the same wherever it is carried."""
from __future__ import annotations

import collections
import configparser
import html
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from covid_xray.exercises.quiz import questions, quiz, quiz_text, to_json, to_moodle_xml

ROOT = Path(__file__).resolve().parent.parent
BANK = json.loads((ROOT / "covid_xray" / "exercises" / "quiz.json").read_text(encoding="utf-8"))


def place_of_right(row: dict) -> int:
    return [option["right"] for option in row["options"]].index(True)


# ---- the bank ----


def test_fields_are_as_agreed() -> None:
    for row in BANK:
        assert row.keys() == {"id", "chapter", "difficulty", "question", "options"}, row["id"]
        assert re.fullmatch(rf"{row['chapter']}-\d\d", row["id"])
        assert row["chapter"] in range(1, 10) and row["difficulty"] in (1, 2, 3), row["id"]
        assert row["question"].endswith(("?", ".")) and len(row["question"].split()) >= 4, row["id"]
        assert len(row["options"]) in (3, 4), row["id"]
        for option in row["options"]:
            assert option.keys() == {"text", "right", "feedback"} and isinstance(option["right"], bool), row["id"]


def test_there_are_enough_for_each_chapter_and_level() -> None:
    assert len(BANK) >= 100
    assert min(collections.Counter(row["chapter"] for row in BANK).values()) >= 14
    levels = collections.Counter((row["chapter"], row["difficulty"]) for row in BANK)
    assert all(levels[chapter, difficulty] >= 2 for chapter in range(1, 10) for difficulty in (1, 2, 3))


def test_exactly_one_option_is_right() -> None:
    assert [row["id"] for row in BANK if sum(option["right"] for option in row["options"]) != 1] == []


def test_ids_and_questions_are_unique() -> None:
    for field in ("id", "question"):
        assert len({row[field].casefold() for row in BANK}) == len(BANK)


def test_options_are_distinct_and_each_is_told_why() -> None:
    for row in BANK:
        assert len({option["text"].casefold() for option in row["options"]}) == len(row["options"]), row["id"]
        assert len({option["feedback"].casefold() for option in row["options"]}) == len(row["options"]), row["id"]
        for option in row["options"]:
            assert len(option["feedback"].split()) >= 5 and option["feedback"].endswith("."), (row["id"], option)


def test_the_right_answer_is_not_given_away_by_its_place_or_length() -> None:
    "Whoever always takes the same place, or the longest option, must fail"
    places = collections.Counter(place_of_right(row) for row in BANK)
    assert max(places.values()) < 0.45 * len(BANK) and {0, 1, 2} <= set(places)
    longest = [max(row["options"], key=lambda option: len(option["text"]))["right"] for row in BANK]
    assert sum(longest) < 0.5 * len(BANK)


@pytest.mark.parametrize(
    "question, right",
    [
        ("1-07", lambda: 1300 > 1000 + 400 / 2 and "white"),
        ("3-05", lambda: str((7 - 3) // 2 + 1)),
        ("3-03", lambda: str(16 * 3 * 3)),
        ("5-02", lambda: str(round(100 * 0.01 * 0.9 / (0.01 * 0.9 + 0.99 * 0.1)))),
        ("5-04", lambda: f"{100 * 500 // 625} %"),
        ("7-10", lambda: f"{100 * (0.9 * 0.8 + 0.1 * 0.2):.0f} %"),
        ("7-13", lambda: f"{100 * (1 - 0.95**20):.0f} %"),
        ("8-12", lambda: f"{3 * 3 * 32 + 32 * 64:,}"),
        ("9-05", lambda: f"{1 / (1 + 0.1 / 0.9 * 0.95 / 0.05):.2f}"),
        ("9-11", lambda: f"{0.9 * 0.2 / (0.9 * 0.2 + 0.1 * 0.99):.2f}"),
    ],
)
def test_answers_that_can_be_computed_are_those_computed(question: str, right) -> None:
    row = next(row for row in BANK if row["id"] == question)
    assert right() in row["options"][place_of_right(row)]["text"]


# ---- in the notebook ----


def test_questions_of_a_chapter() -> None:
    assert {question.chapter for question in questions(3)} == {3}
    assert len(questions()) == len(BANK)
    with pytest.raises(ValueError, match="no quiz on chapter 12"):
        questions(12)


def test_panel_answers_a_click() -> None:
    pytest.importorskip("ipywidgets")
    panel = quiz(2)
    shown, buttons, score, _ = panel.children
    back, onward = buttons.children
    assert score.value == "<b>0 right of 0 answered; 15 to go</b>" and back.disabled
    heading, choices, feedback = shown.children[0].children
    question = questions(2)[0]
    right = [option.right for option in question.options].index(True)
    assert html.escape(question.question, quote=False) in heading.value and choices.value is None
    choices.value = right
    assert feedback.value.startswith("Right.") and question.options[right].feedback in html.unescape(feedback.value)
    assert score.value == "<b>1 right of 1 answered; 14 to go</b>"
    choices.value = (right + 1) % 3
    assert feedback.value.startswith("Not so.")
    assert score.value.startswith("<b>1 right of 1"), "the first click counts"
    onward.click()
    _, choices, feedback = shown.children[0].children
    right = [option.right for option in questions(2)[1].options].index(True)
    choices.value = (right + 1) % 3
    choices.value = right
    assert feedback.value.startswith("Right.") and score.value.startswith("<b>1 right of 2 answered")
    back.click()
    assert shown.children[0].children[1].value is not None, "what was chosen is still there"
    for _ in range(14):
        onward.click()
    assert onward.disabled and "15 of 15" in shown.children[0].children[0].value


def test_text_twin_asks_and_judges() -> None:
    bank = questions(5)
    blank = quiz_text(5)
    assert all(question.question in blank and question.id in blank for question in bank)
    assert not any(option.feedback in blank for question in bank for option in question.options)
    right = {q.id: "abcd"[[o.right for o in q.options].index(True)] for q in bank}
    assert f"{len(bank)} right of {len(bank)} answered; 0 to go" in quiz_text(5, right)
    wrong = {bank[0].id: "abc".replace(right[bank[0].id], "")[0]}
    assert f"0 right of 1 answered; {len(bank) - 1} to go" in quiz_text(5, wrong) and "Not so." in quiz_text(5, wrong)
    with pytest.raises(ValueError, match="has the options a, b, c"):
        quiz_text(5, {bank[0].id: "x"})
    with pytest.raises(ValueError, match="has no question '4-01'"):
        quiz_text(5, {"4-01": "a"})


# ---- carried elsewhere ----


def test_json_holds_the_bank(tmp_path: Path) -> None:
    path = to_json(tmp_path / "quiz.json")
    assert json.loads(path.read_text(encoding="utf-8")) == BANK


def test_moodle_xml_holds_the_bank(tmp_path: Path) -> None:
    root = ET.parse(to_moodle_xml(tmp_path / "quiz.xml")).getroot()
    assert root.tag == "quiz"
    categories = [q.findtext("category/text") for q in root.iter("question") if q.get("type") == "category"]
    assert categories == [f"$course$/top/covid_xray/Chapter {chapter}" for chapter in range(1, 10)]
    found = [question for question in root.iter("question") if question.get("type") == "multichoice"]
    assert len(found) == len(BANK)
    for element, row in zip(found, BANK):
        assert element.findtext("name/text") == f"covid_xray {row['id']}"
        assert html.unescape(element.findtext("questiontext/text")) == row["question"]
        assert element.findtext("single") == "true" and element.findtext("shuffleanswers") == "true"
        options = [
            {
                "text": html.unescape(answer.findtext("text")),
                "right": answer.get("fraction") == "100",
                "feedback": html.unescape(answer.findtext("feedback/text")),
            }
            for answer in element.iter("answer")
        ]
        assert options == row["options"]
        assert sum(float(answer.get("fraction")) for answer in element.iter("answer")) == 100


def test_moodle_xml_escapes_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    "Moodle reads the words as HTML inside XML"
    bank = [{**BANK[0], "question": "Is 1 < 2 & 3 > 2?"}]
    (tmp_path / "bank.json").write_text(json.dumps(bank), encoding="utf-8")
    monkeypatch.setattr("covid_xray.exercises.quiz._BANK", tmp_path / "bank.json")
    text = to_moodle_xml(tmp_path / "quiz.xml").read_text(encoding="utf-8")
    assert "1 &amp;lt; 2 &amp;amp; 3 &amp;gt; 2" in text


def test_the_bank_is_shipped() -> None:
    parser = configparser.ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    assert "exercises/*.json" in parser["DEFAULT"]["package_data"].split()
