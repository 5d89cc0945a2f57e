"""Editions of the course: the same source for learners, students, the instructor and nbgrader, safe to make again.

nbgrader's rules are written out here from its documentation; `make nbgrader-check` asks nbgrader itself.
"""
from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest

from covid_xray.course import EDITIONS, copy_course
from covid_xray.exercises import exercises, handout

CHECK = re.compile(r'check\("(\w+\.\d+)"')


@pytest.fixture(scope="module")
def editions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    "A folder for each edition"
    folder = tmp_path_factory.mktemp("editions")
    for edition in EDITIONS:
        assert copy_course(folder / edition, edition)["kept"] == []
    return {edition: folder / edition for edition in EDITIONS}


def notebooks(folder: Path) -> dict[str, dict]:
    return {path.relative_to(folder).as_posix(): json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(folder.rglob("*.ipynb"))}


def code(notebook: dict) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def exercised(folder: Path) -> dict[str, str]:
    "Name of each exercise of the chapters (not of the solutions) -> its cell"
    cells = [source for name, notebook in notebooks(folder).items() if not name.startswith("solutions/")
             for source in code(notebook)]
    return {found[1]: source for source in cells if (found := CHECK.search(source))}


@pytest.mark.parametrize("edition", EDITIONS)
def test_a_second_time_changes_nothing(edition: str, editions: dict[str, Path]) -> None:
    before = {path: path.read_bytes() for path in editions[edition].rglob("*") if path.is_file()}
    result = copy_course(editions[edition], edition)
    assert result["copied"] == result["kept"] == [] and result["unchanged"]
    assert before == {path: path.read_bytes() for path in editions[edition].rglob("*") if path.is_file()}


@pytest.mark.parametrize("edition", EDITIONS)
def test_changed_files_stay_and_lost_ones_come_back(edition: str, tmp_path: Path) -> None:
    changed, lost = copy_course(tmp_path, edition)["copied"][:2]
    (tmp_path / changed).write_text("mine")
    (tmp_path / lost).unlink()
    result = copy_course(tmp_path, edition)
    assert result["kept"] == [changed] and result["copied"] == [lost]
    assert (tmp_path / changed).read_text() == "mine"


def test_editions_are_not_mixed(editions: dict[str, Path], tmp_path: Path) -> None:
    "Solutions must not stay behind in a folder that becomes the students'"
    with pytest.raises(ValueError, match="learner edition"):
        copy_course(editions["learner"], "student")
    with pytest.raises(ValueError, match="studnt.*learner, student, instructor, nbgrader"):
        copy_course(tmp_path / "x", "studnt")
    assert not (tmp_path / "x").exists()


def test_an_older_folder_is_a_learners(tmp_path: Path) -> None:
    "Its record names no edition"
    copy_course(tmp_path)
    record = json.loads((tmp_path / ".course.json").read_text())
    (tmp_path / ".course.json").write_text(json.dumps({k: v for k, v in record.items() if k != "edition"}))
    assert copy_course(tmp_path)["copied"] == []
    with pytest.raises(ValueError, match="learner edition"):
        copy_course(tmp_path, "instructor")


def test_who_gets_which_notebooks(editions: dict[str, Path]) -> None:
    names = {edition: set(notebooks(folder)) for edition, folder in editions.items()}
    folders = {edition: {name.rpartition("/")[0] for name in some} for edition, some in names.items()}
    assert folders["learner"] == folders["instructor"] == {"", "guides", "solutions", "instructor"}
    assert folders["student"] == {"", "guides"}
    assert names["student"] < names["learner"] == names["instructor"]
    for edition in EDITIONS:
        for notebook in notebooks(editions[edition]).values():
            assert not any(cell.get("outputs") for cell in notebook["cells"])


def test_students_have_stubs_and_no_way_to_the_solutions(editions: dict[str, Path]) -> None:
    cells = exercised(editions["student"])
    assert set(cells) == set(exercises())
    assert all(source.count("raise NotImplementedError") == 1 for source in cells.values())
    for name, notebook in notebooks(editions["student"]).items():
        assert not re.search(r"\]\([./]*(solutions|instructor)/", json.dumps(notebook)), name
    assert "Your teacher has the solutions." in json.dumps(notebooks(editions["student"])["01_data.ipynb"])


def run(sources: list[str]) -> dict[str, Exception | None]:
    "Run cells as a kernel would, going on after an error; gives the error of each cell"
    names: dict = {}
    errors = {}
    for source in sources:
        try:
            exec(source, names)
            errors[source] = None
        except Exception as error:
            errors[source] = error
    return errors


def test_the_instructors_chapters_are_right(
    editions: dict[str, Path], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    "Each exercise filled in, below its own stub's first lines, and judged right"
    monkeypatch.setenv("COVID_XRAY_CACHE", str(tmp_path))
    stubs, filled = exercised(editions["student"]), exercised(editions["instructor"])
    assert set(filled) == set(exercises())
    for name, source in filled.items():
        head = stubs[name].partition("def ")[2].partition("    raise NotImplementedError")[0]
        assert head in source and "NotImplementedError" not in source, name
    for notebook in notebooks(editions["instructor"]).values():
        run([source for source in code(notebook) if CHECK.search(source) and "assert check" not in source])
    said = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in said if line.endswith(": right.")) == sorted(exercises())


def test_an_exercise_without_solution_is_told() -> None:
    stub = {"cell_type": "code", "source": 'def f(x):\n    raise NotImplementedError\n\ncheck("1.1", f);'}
    imports = {"cell_type": "code", "source": "from covid_xray.exercises import check"}
    with pytest.raises(ValueError, match="exercise 1.1 has no solution"):
        handout.with_solutions({"cells": [stub]}, {"cells": [imports]})


def test_helpers_of_a_solution_go_with_it() -> None:
    source = 'def f(x):\n    "twice"\n    raise NotImplementedError\n\ncheck("1.1", f);'
    stub = {"cell_type": "code", "metadata": {}, "source": source}
    solution = 'def two():\n    return 2\n\ndef f(x):\n    return two() * x\n\nassert check("1.1", f)'
    imports = {"cell_type": "code", "source": "from covid_xray.exercises import check"}
    solutions = {"cells": [imports, {"cell_type": "code", "source": solution}]}
    names: dict = {}
    filled = "".join(handout.with_solutions({"cells": [stub]}, solutions)["cells"][0]["source"])
    exec(filled.partition("check(\"1.1\"")[0], names)
    assert names["f"](4) == 8 and names["f"].__doc__ == "twice"
    chapter = {"cells": [{"cell_type": "markdown", "source": "**1.1 Twice.** x"}, stub], "metadata": {}}
    (answer,) = [cell for cell in handout.assignment(chapter, solutions, "1")["cells"]
                 if cell["metadata"]["nbgrader"]["solution"]]
    assert as_handed_out("".join(answer["source"])) == (
        'def f(x):\n    "twice"\n    # YOUR CODE HERE\n    raise NotImplementedError()')


# ---- nbgrader ----


def as_handed_out(source: str) -> str:
    "What nbgrader makes of an answer cell: its own stub in place of each solution region, as far indented"
    kept, inside = [], False
    for line in source.splitlines():
        if line.strip() == "### BEGIN SOLUTION":
            assert not inside, "nbgrader takes no region within a region"
            inside, indent = True, line[: len(line) - len(line.lstrip())]
            kept += [indent + "# YOUR CODE HERE", indent + "raise NotImplementedError()"]
        elif line.strip() == "### END SOLUTION":
            inside = False
        elif not inside:
            kept.append(line)
    assert not inside, "nbgrader wants every region closed"
    return "\n".join(kept)


def graded(notebook: dict, *, solved: bool) -> tuple[float, float]:
    "Points and the most there are, by running the cells and looking at the locked checks"
    sources = [("".join(cell["source"]), cell["metadata"]["nbgrader"]) for cell in notebook["cells"]
               if cell["cell_type"] == "code"]
    cells = [(source if solved else as_handed_out(source), about) for source, about in sources]
    errors = run([source for source, _ in cells])
    checks = [(source, about["points"]) for source, about in cells if about["grade"]]
    return sum(points for source, points in checks if errors[source] is None), sum(points for _, points in checks)


def test_assignments_are_as_nbgrader_wants_them(editions: dict[str, Path]) -> None:
    "https://nbgrader.readthedocs.io, metadata of cells, schema 3"
    found = notebooks(editions["nbgrader"])
    assert set(found) == {f"source/chapter{chapter}/exercises.ipynb"
                          for chapter in {name.partition(".")[0] for name in exercises()}}
    for name, notebook in found.items():
        nbformat.validate(nbformat.from_dict(notebook))
        about = [cell["metadata"]["nbgrader"] for cell in notebook["cells"]]
        assert len({facts["grade_id"] for facts in about}) == len(about), name
        for cell, facts in zip(notebook["cells"], about):
            assert facts["schema_version"] == 3 and facts["cell_type"] == cell["cell_type"] and facts["task"] is False
            assert re.fullmatch(r"[A-Za-z0-9_-]+", facts["grade_id"])
            assert {key: type(facts[key]) for key in ("grade", "solution", "locked")} == dict.fromkeys(
                ("grade", "solution", "locked"), bool)
            assert not (facts["grade"] and facts["solution"]), "an answer graded by hand: there is none here"
            assert facts["locked"] is not facts["solution"], "what students write is open, the rest is locked"
            assert ("points" in facts) == facts["grade"] and facts.get("points", 1) > 0
            assert "outputs" not in cell or cell["outputs"] == []


def test_the_reference_gets_all_points_and_an_empty_paper_none(
    editions: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COVID_XRAY_CACHE", str(tmp_path))
    points = 0
    for name, notebook in notebooks(editions["nbgrader"]).items():
        reached, most = graded(notebook, solved=True)
        assert reached == most > 0, name
        assert graded(notebook, solved=False) == (0, most), name
        points += most
    assert points == len(exercises())


def test_tasks_can_be_read_alone(editions: dict[str, Path]) -> None:
    "Each task stands before its answer, with no link to a notebook that is not there"
    for notebook in notebooks(editions["nbgrader"]).values():
        kinds = [cell["metadata"]["nbgrader"]["grade_id"] for cell in notebook["cells"]]
        assert [kind.partition("-")[0] for kind in kinds[2:]] == ["task", "answer", "check"] * ((len(kinds) - 2) // 3)
        words = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
        assert all(len(text.split()) >= 10 and ".ipynb" not in text for text in words)
