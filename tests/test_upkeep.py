"""What keeps the project whole over time: names that tests hold, warnings of what will break, and measured tables."""
from __future__ import annotations

import ast
import json
import re
import warnings
from pathlib import Path

import pytest

import rerun
import run_chapters
import set_up

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "covid_xray" / "results"


@pytest.mark.parametrize("kind", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
def test_a_deprecation_that_our_own_line_causes_is_an_error(kind: type[Warning]) -> None:
    "As pyproject.toml sets it for every test; the same from another package's line passes"
    for module in ("covid_xray", "covid_xray.metrics", "covid_xray.explore.data"):
        with pytest.raises(kind, match="will go"):
            warnings.warn_explicit("this will go", kind, f"{module}.py", 1, module=module, registry={})
    if kind is not FutureWarning:
        with warnings.catch_warnings(record=True) as seen:
            warnings.warn_explicit("theirs", kind, "torch.py", 1, module="torch.nn", registry={})
            warnings.warn_explicit("theirs", kind, "other.py", 1, module="covid_xray_other", registry={})
        assert not seen


def test_the_newest_versions_are_tried_every_week() -> None:
    import yaml

    workflow = yaml.safe_load((ROOT / ".github/workflows/drift.yml").read_text(encoding="utf-8"))
    (when,) = workflow[True]["schedule"]  # YAML 1.1 reads `on` as true
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", when["cron"])
    steps = [step.get("run", "") for step in workflow["jobs"]["newest"]["steps"]]
    assert any("tools/environment.py" in step for step in steps) and steps[-1].endswith("pytest")
    assert "pip-audit --no-deps" in workflow["jobs"]["audit"]["steps"][-1]["run"]
    requirements = (ROOT / "settings.ini").read_text(encoding="utf-8")
    core = re.search(r"^requirements = (.*)$", requirements, re.MULTILINE)[1].split()
    assert not [word for word in core if "==" in word or "<" in word], "a pin or an upper bound hides what is new"


# ---- chapters treated badly ----


def code_of(cell: dict) -> ast.Module:
    "A code cell without what only IPython reads"
    return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", "".join(cell["source"]), flags=re.MULTILINE))


def names(tree: ast.AST, context: type) -> set[str]:
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, context)}


def made_from_itself(cell: dict, known: set[str]) -> list[str]:
    "Statements that make a name of an earlier cell anew from its own old value: a second run gives something else"
    fresh, found = set(), []
    for node in (n for n in code_of(cell).body if isinstance(n, (ast.Assign, ast.AugAssign))):
        targets = set().union(*(names(t, ast.Store) for t in getattr(node, "targets", [getattr(node, "target", node)])))
        loops = [c.target for c in ast.walk(node.value) if isinstance(c, ast.comprehension)]
        inner = set().union(*(names(target, ast.Store) for target in loops))
        read = names(node.value, ast.Load) - inner | (targets if isinstance(node, ast.AugAssign) else set())
        found += [ast.unparse(node)[:60]] if targets & read & known - fresh else []
        fresh |= targets
    return found


def test_a_cell_run_twice_gives_the_same() -> None:
    "No cell makes a name from its own old value, but for what changes nothing the second time"
    harmless = {"table = split_by_patient(table, (0.6, 0.2, 0.2), seed=0)"}  # by the table's persons, which stay
    wrong = []
    for path in run_chapters.chapters():
        known: set[str] = set()
        for cell in (c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"):
            found = set(made_from_itself(cell, known)) - harmless
            wrong += [f"{path.name}, cell {cell['id']}: {statement}" for statement in found]
            known |= names(code_of(cell), ast.Store)
    assert not wrong, "\n".join(wrong)


def test_the_fault_is_seen() -> None:
    lines = ["%matplotlib inline", "a = 1", "a = a + 1", "b += 'more'", "c = [c for c in d]", "d = f(d)"]
    cell = {"source": "\n".join(lines)}
    assert made_from_itself(cell, {"a", "b", "c", "d"}) == ["b += 'more'", "d = f(d)"]
    assert made_from_itself(cell, set()) == []


def test_a_chapter_says_what_to_run_first() -> None:
    "In the one cell that everybody has in sight: a kernel just restarted can't say it"
    assert "Run > Run All Above Selected Cell" in set_up.text()


@pytest.mark.parametrize("path", run_chapters.chapters(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_nothing_runs_before_the_set_up_cell(path: Path) -> None:
    "Each has a link to Colab, where covid_xray is not: the cell that test_wheel.py runs there is the first to run"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    running = [source for source in code if re.sub(r"^\s*#.*", "", source, flags=re.MULTILINE).strip()]
    if any("covid_xray" in source for source in running):
        assert running[0] == set_up.text() and running.count(set_up.text()) == 1, "run make export"


@pytest.mark.parametrize("name", ["05c_decisions", "10c_phantom_shapes"])
def test_a_chapter_runs_twice_in_one_kernel_read_only_and_elsewhere(name: str) -> None:
    "Two quick ones here; `make rerun` does it to every chapter"
    assert rerun.rerun(ROOT / "nbs" / f"{name}.ipynb")[0] == ""


def test_what_a_chapter_must_not_do_is_told(tmp_path: Path) -> None:
    import nbformat

    for source, told in (("open('left.txt', 'w').write('x')", "left.txt"),
                         ("if 'seen' in globals():\n    raise ValueError('twice')\nseen = 1", "ValueError: twice")):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        nbformat.write(notebook, tmp_path / "bad.ipynb")
        fault = rerun.rerun(tmp_path / "bad.ipynb")[0]
        assert told in fault or "Permission" in fault  # who isn't root can't write at all


# ---- every exported name ----


def exported(path: Path) -> set[str]:
    "Functions and classes that a module offers"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lists = [n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    offered = {e.value for value in lists for e in value.elts if isinstance(e, ast.Constant)}
    return {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))} & offered


def named(tree: ast.AST) -> set[str]:
    attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    return names(tree, ast.Load) | attributes


def test_every_exported_name_is_held() -> None:
    """A test or an assertion of a notebook names it, or it stands in tests/data/indirect.txt.

    That list is of names which are held only through others that use them; it should become shorter.
    """
    held = set().union(*(named(ast.parse(p.read_text(encoding="utf-8"))) for p in (ROOT / "tests").rglob("*.py")))
    for path in run_chapters.chapters():
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            asserts = re.search(r"^\s*(assert |claim\()", "".join(cell["source"]), re.MULTILINE)
            if cell["cell_type"] == "code" and asserts:
                held |= named(code_of(cell))
    offered = {f"{path.relative_to(ROOT / 'covid_xray').with_suffix('').as_posix()} {name}"
               for path in (ROOT / "covid_xray").rglob("*.py") for name in exported(path) if name not in held}
    listed = set((ROOT / "tests/data/indirect.txt").read_text(encoding="utf-8").splitlines())
    assert not offered - listed, "no test names these"
    assert not listed - offered, "a test names these now: take them off the list"
