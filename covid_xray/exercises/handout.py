"""Chapters for a class, made from the one source: for students without solutions, for the instructor with them filled
in, and as assignments that nbgrader collects and grades.

All functions take and return notebooks as read from JSON, and change nothing that they were given.
"""
from __future__ import annotations

import ast
import copy
import re
import textwrap

__all__ = ["assignment", "for_students", "with_solutions"]

_CHECK = re.compile(r"""\bcheck\(\s*["'](\d+[a-z]?\.\d+)["']""")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\.ipynb[^)]*\)")
_TEACHERS = re.compile(r"\[([^\]]+)\]\((?:\.\./)?(?:solutions|instructor)/[^)]*\)")
_NOT_WRITTEN = re.compile(r"^ *raise NotImplementedError.*\n?", re.MULTILINE)
_SOLUTIONS = re.compile(
    r"The \[solutions\]\(solutions/\w+\.ipynb\) are there when you want to compare\.".replace(" ", r"\s+"))
_INDENT = "    "
_BEGIN, _END = "### BEGIN SOLUTION\n", "### END SOLUTION\n"  # nbgrader's own words


def for_students(
    chapter: dict,  # a notebook of the course
) -> dict:  # the notebook, links to solutions and to teachers' notes turned into plain words
    "A notebook for a class whose teacher keeps the solutions"
    result = copy.deepcopy(chapter)
    for cell in result["cells"]:
        if cell["cell_type"] == "markdown":
            text = _SOLUTIONS.sub("Your teacher has the solutions.", _text(cell))
            _put(cell, _TEACHERS.sub(r"\1", text))
    return result


def with_solutions(
    chapter: dict,  # a chapter's notebook, with stubs
    solutions: dict,  # the notebook of its solutions
) -> dict:  # the chapter, each stub filled in
    "A chapter as the instructor has it; raises ValueError where an exercise has no solution"
    result, answers = copy.deepcopy(chapter), _checked(solutions)
    imports = _imports(solutions)
    for name, cell in _checked(result).items():
        _put(cell, imports + _filled(name, cell, answers) + f"\n{_call(cell)}\n")
        imports = ""  # the first exercise brings them for all
    return result


def assignment(
    chapter: dict,  # a chapter's notebook, with stubs
    solutions: dict,  # the notebook of its solutions
    number: str,  # of the chapter, such as 1b
) -> dict:  # a notebook for the folder `source/` of an nbgrader course: one point an exercise
    """The exercises of a chapter as an assignment of nbgrader (cell metadata, schema 3).

    `nbgrader generate_assignment` takes out what stands between the solution marks. Raises ValueError where an
    exercise has no solution.
    """
    answers, tasks = _checked(solutions), _tasks(chapter)
    what = f"# Chapter {number}: exercises\n\nFill in the functions. Each right one is a point."
    cells = [_cell("markdown", f"title-{number}", what), _cell("code", f"imports-{number}", _imports(solutions))]
    for name, stub in _checked(chapter).items():
        mark = name.replace(".", "-")
        cells += [
            _cell("markdown", f"task-{mark}", tasks[name]),
            _cell("code", f"answer-{mark}", _filled(name, stub, answers, _BEGIN, _END), solution=True, locked=False),
            _cell("code", f"check-{mark}", f"assert {_call(stub).rstrip(';')}", grade=True, points=1),
        ]
    return {"cells": cells, "metadata": chapter["metadata"], "nbformat": 4, "nbformat_minor": 5}


def _text(cell: dict) -> str:
    return "".join(cell["source"])


def _put(cell: dict, text: str) -> None:
    cell["source"] = text.rstrip("\n").splitlines(True)


def _cell(kind: str, name: str, text: str, **facts: bool | int) -> dict:
    "A cell with nbgrader's metadata: locked, worth nothing and without solution unless `facts` say otherwise"
    about = {"schema_version": 3, "grade_id": name, "cell_type": kind, "grade": False, "solution": False,
             "locked": True, "task": False, **facts}
    cell = {"cell_type": kind, "id": name, "metadata": {"nbgrader": about}}
    _put(cell, text)
    return {**cell, "outputs": [], "execution_count": None} if kind == "code" else cell


def _checked(notebook: dict) -> dict[str, dict]:
    "Name of each exercise -> the cell that ends in its check"
    cells = [(_CHECK.search(_text(cell)), cell) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return {found[1]: cell for found, cell in cells if found}


def _call(cell: dict) -> str:
    "The call of `check` as it stands in a cell"
    return next(line for line in _text(cell).splitlines() if _CHECK.search(line)).strip()


def _imports(solutions: dict) -> str:
    "What the solutions import"
    texts = [_text(cell) for cell in solutions["cells"] if cell["cell_type"] == "code"]
    return next(text for text in texts if "from covid_xray.exercises import check" in text).rstrip("\n") + "\n\n"


def _filled(name: str, stub: dict, answers: dict[str, dict], before: str = "", after: str = "") -> str:
    "A stub's own first lines, then the body of its solution between two marks; helpers of a solution move inside"
    if name not in answers:
        raise ValueError(f"exercise {name} has no solution in the notebook of solutions")
    head, found = _NOT_WRITTEN.split(_text(stub))[0], _text(answers[name])
    head = head.replace("from covid_xray.exercises import check\n", "").lstrip("\n")
    wanted = re.findall(r"^def (\w+)", head, re.MULTILINE)[-1]
    function = next(node for node in ast.parse(found).body if getattr(node, "name", None) == wanted)
    lines, body = found.splitlines(True), function.body[bool(ast.get_docstring(function)):]
    helpers = textwrap.indent("".join(lines[: function.lineno - 1]), _INDENT)
    inner = "".join(lines[body[0].lineno - 1 : function.end_lineno]).rstrip("\n") + "\n"
    return head + textwrap.indent(before, _INDENT) + helpers + inner + textwrap.indent(after, _INDENT)


def _tasks(chapter: dict) -> dict[str, str]:
    "Name of each exercise -> its task; links to other notebooks become plain words, since those are elsewhere"
    found = {}
    for cell in chapter["cells"]:
        text = _LINK.sub(r"\1", _text(cell)) if cell["cell_type"] == "markdown" else ""
        for part in re.split(r"^(?=\*\*\d+[a-z]?\.\d+ )", text, flags=re.MULTILINE)[1:]:
            found[re.match(r"\*\*(\d+[a-z]?\.\d+) ", part)[1]] = part
    return found
