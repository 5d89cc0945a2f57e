"What chapters cost, and what they claim: the small tables, and the places that are made from them, agree"
from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

import claims
import minutes
import run_chapters

CHAPTERS = [path for path in run_chapters.chapters() if path.parent == minutes.NOTEBOOKS and path.stem != "index"]
EARLY = [path.name for path in CHAPTERS if path.name[:2] in ("01", "02", "03", "04")]


def row(name: str) -> dict[str, float]:
    "What was measured of a notebook"
    kept = minutes.kept()
    assert name in kept, f"{name} was not measured: run `make course`, or tools/run_chapters.py --minutes with its path"
    return kept[name]


def test_every_chapter_was_measured() -> None:
    assert all(row(path.name)["seconds"] > 0 for path in CHAPTERS)


def test_cards_say_what_was_measured() -> None:
    for path in CHAPTERS:
        text = path.read_text(encoding="utf-8")
        if "| **Time** |" not in text:
            continue  # a notebook that is read more than run
        assert minutes.CARD.search(text), f"{path.name}: its card needs '... to read, ... to run on two cores'"
        assert minutes.with_minutes(text, row(path.name)["seconds"]) == text, "run tools/minutes.py"


def test_the_table_of_chapters_says_what_was_measured() -> None:
    index = (minutes.NOTEBOOKS / "index.ipynb").read_text(encoding="utf-8")
    rows = {line.split("](")[1].split(")")[0]: line.rstrip(' ",\\n').rstrip("|").split("|")[-1].strip()
            for line in index.splitlines() if ".ipynb) | " in line}
    assert rows == {path.name: minutes.number(row(path.name)["seconds"]) for path in CHAPTERS}


@pytest.mark.parametrize("name", EARLY)
def test_chapters_1_to_4_keep_to_three_minutes_two_gigabytes_and_a_minute_a_cell(name: str) -> None:
    measured = row(name)
    peak = 2.2 if name == "04c_scale.ipynb" else 2  # kernel, torchrun, two ranks: each holds the half GB of PyTorch
    assert measured["seconds"] <= 180 and measured["peak_gb"] < peak and measured["longest_cell"] <= 60


def test_seconds_in_words() -> None:
    said = {3: ("a few seconds", "< 1"), 45: ("under a minute", "< 1"), 62: ("about a minute", "1"),
            170: ("about 3 minutes", "3")}
    assert {seconds: (minutes.sentence(seconds), minutes.number(seconds)) for seconds in said} == said


def test_a_measured_notebook_reaches_table_and_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    "Run, kept, written: the row, the card, and nothing else in the notebook"
    monkeypatch.setattr(minutes, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(minutes, "KEPT", tmp_path / "minutes.csv")
    monkeypatch.setattr("readme.write", lambda: None)
    card = "| **Time** | 8 minutes to read, a century to run on two cores; no GPU |"
    busy = "import time\nstart = time.process_time()\nwhile time.process_time() < start + 0.8: pass\ntime.sleep(0.5)"
    cells = [nbformat.v4.new_markdown_cell(card), nbformat.v4.new_code_cell(busy)]
    path = tmp_path / "01_small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    before = json.loads(path.read_text(encoding="utf-8"))
    run = run_chapters.execute(path)
    assert run.cpu_seconds >= 0.8 and 1.3 <= run.longest_cell <= run.seconds and not run.error
    minutes.keep({path: run})
    minutes.write()
    measured = row("01_small.ipynb")
    assert measured["seconds"] == round(run.seconds) and measured["cpu_seconds"] == round(run.cpu_seconds)
    after = json.loads(path.read_text(encoding="utf-8"))
    said = "".join(after["cells"][0]["source"])
    assert said == card.replace("a century", minutes.sentence(measured["seconds"]))
    after["cells"][0]["source"] = before["cells"][0]["source"]
    assert after == before
    path.unlink()
    minutes.keep({})
    assert minutes.kept() == {}


@pytest.mark.parametrize("name", claims.CHAPTERS)
def test_a_claim_holds_for_five_seeds(name: str) -> None:
    "What was measured with other patients and other weights lies within the range that the text gives"
    said, table = claims.claims_of(run_chapters.NOTEBOOKS / name), claims.kept()
    table = table[(table["notebook"] == name)]
    assert not claims.is_stale(table, run_chapters.NOTEBOOKS / name), "run `make claims`"
    for says, (low, high) in said.items():
        values = table.loc[table["says"] == says].set_index("seed")["value"]
        assert len(values) >= 5 and values.index.is_unique
        assert values.between(low, high).all(), f"{says}: {low} to {high}, measured {values.min()} to {values.max()}"


def test_what_chapter_4_says_of_other_seeds() -> None:
    "The five trainings ended 0.46 to 0.54 above the largest class"
    table = claims.kept()
    gains = table[table["says"].str.contains("largest class")]["value"].round(2)
    assert len(gains) == 5 and gains.min() == 0.46 and gains.max() == 0.54
