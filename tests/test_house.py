"""The house rules: what can be checked by reading the files, and what `import covid_xray` may cost."""
from __future__ import annotations

import ast
import configparser
import functools
import json
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import readme
import run_chapters
import set_up

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "covid_xray"
NOTEBOOKS = run_chapters.chapters()
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT / "nbs").as_posix())


@functools.cache
def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def is_exported(cell: dict) -> bool:
    return bool(re.search(r"^#\|\s*exporti?s?\b", source(cell), re.MULTILINE))


def is_unseen(cell: dict) -> bool:
    return bool(re.search(r"^#\|\s*(hide\b|include:\s*false|default_exp)", source(cell), re.MULTILINE))


def module_of(path: Path) -> str | None:
    "The module that a notebook exports"
    found = (re.search(r"^#\|\s*default_exp\s+(\w+)", source(c), re.MULTILINE) for c in cells(path))
    return next((match[1] for match in found if match), None)


def staircase() -> list[str]:
    "Modules in the order of their notebooks, the appendix (the simulator, which any module may use) first"
    names = [name for path in NOTEBOOKS if (name := module_of(path))]
    return [name for name in names if name in APPENDIX] + [name for name in names if name not in APPENDIX]


APPENDIX = {name for path in NOTEBOOKS if path.name.startswith("10") and (name := module_of(path))}
LIBRARY = [PACKAGE / f"{name}.py" for name in staircase()]
BY_HAND = [p for p in sorted(PACKAGE.rglob("*.py")) if p not in LIBRARY and p.name != "_modidx.py"]
every_module = pytest.mark.parametrize("path", LIBRARY, ids=lambda p: p.stem)
BESIDE = [ROOT / "setup.py", *sorted((ROOT / "tools").glob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]
every_python_file = pytest.mark.parametrize(
    "path", LIBRARY + BY_HAND + BESIDE, ids=lambda p: p.relative_to(ROOT).as_posix()
)


def settings() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def is_made(parts: tuple[str, ...]) -> bool:
    "Whether a path belongs to what is built or cached"
    hidden = parts[0].startswith(".") and parts[0] not in (".ci", ".github")
    return hidden or bool({"__pycache__", "_docs", "_proc", "build"} & set(parts))


def text_files() -> list[Path]:
    "Every text file that a user's checkout has"
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        paths = [ROOT / line for line in listed.stdout.splitlines()]
    else:  # an unpacked archive
        paths = [p for p in ROOT.rglob("*") if not is_made(p.relative_to(ROOT).parts)]
    kinds = {".py", ".ipynb", ".md", ".ini", ".toml", ".yml", ".yaml", ".csv", ".json", ".in", ".txt", ".mplstyle", ""}
    return [p for p in paths if p.is_file() and p.suffix in kinds and p != Path(__file__).resolve()]


# ---- files and settings ----


def test_top_level_is_whole() -> None:
    names = "nbs covid_xray tests settings.ini setup.py _quarto.yml README.md Makefile LICENSE LICENSE-TEXT"
    names += " CHANGELOG.md CONTRIBUTING.md .ci/run .github/workflows"
    absent = [name for name in names.split() if not (ROOT / name).exists()]
    assert not absent
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
    assert (ROOT / "nbs/_quarto.yml").read_text() == (ROOT / "_quarto.yml").read_text()


def test_version_stands_in_one_place() -> None:
    import covid_xray

    assert covid_xray.__version__ == settings()["version"]
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == settings()["version"]


def test_extras_are_those_of_the_design() -> None:
    found = {key.removesuffix("_requirements") for key in settings() if key.endswith("_requirements")}
    assert found == {"course", "lab", "dicom", "onnx", "pretrained", "serve", "docs", "dev"}
    core = settings()["requirements"]
    assert "nbdev" not in core and "fastcore" not in core


def test_extras_named_in_errors_exist() -> None:
    "An error that says `pip install \"covid_xray[x]\"` must name a real extra"
    extras = {key.removesuffix("_requirements") for key in settings() if key.endswith("_requirements")}
    for path in text_files():
        for named in re.findall(r"covid_xray\[([a-z,]+)\]", path.read_text(encoding="utf-8")):
            assert set(named.split(",")) <= extras, f"{path.name} names the extra {named}"


def test_no_machine_paths() -> None:
    pattern = re.compile(r"(?<![\w.~/-])/(?:work/(?:main|shared)|root|tmp/w|home/\w+)/\S*|\.\./shared\b(?!/data)")
    found = {p.relative_to(ROOT).as_posix(): pattern.search(p.read_text(encoding="utf-8")) for p in text_files()}
    assert not {name: match[0] for name, match in found.items() if match}


def test_readme_in_step_with_index() -> None:
    "README.md is made from the notebook, and the notebook's table of chapters from the chapters"
    assert readme.INDEX.read_text(encoding="utf-8") == readme.index_text(), "run make export"
    assert (ROOT / "README.md").read_text(encoding="utf-8") == readme.readme_text(), "run make export"


def test_readme_links_resolve() -> None:
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text)
    absent = [t for t in targets if not (ROOT / t).exists()]
    assert targets and not absent


# ---- the package ----


def test_modules_are_in_sync_with_notebooks(tmp_path: Path) -> None:
    "Exporting again changes nothing"
    for name in ("settings.ini", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    skipped = shutil.ignore_patterns("_proc", ".ipynb_checkpoints", "__pycache__", "_quarto.yml")
    shutil.copytree(ROOT / "nbs", tmp_path / "nbs", ignore=skipped)
    shutil.copytree(PACKAGE, tmp_path / "covid_xray", ignore=skipped)
    command = [sys.executable, "-c", "from nbdev.doclinks import nbdev_export; nbdev_export.__wrapped__()"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    fresh = {p.relative_to(tmp_path): p.read_bytes() for p in (tmp_path / "covid_xray").rglob("*.py")}
    stale = [str(name) for name, content in fresh.items() if not same(ROOT / name, content)]
    assert not stale, "run make export"


def same(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes().replace(b"\r\n", b"\n") == content.replace(b"\r\n", b"\n")


def test_import_is_light() -> None:
    "Neither the package nor the command line imports torch, and nothing of the development tools"
    heavy = "{'torch', 'nbdev', 'fastcore', 'matplotlib.pyplot'} & set(sys.modules)"
    modules = [m for m in ("covid_xray", "covid_xray.cli", "covid_xray.course") if importable(m)]
    for module in modules:
        code = f"import sys, {module}; found = {heavy}; sys.exit(', '.join(found) or 0)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, f"import {module} imports {done.stderr}"
    for module in ("sources", "data", "phantom"):
        code = f"import sys, covid_xray.{module}; sys.exit('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code])
        assert done.returncode == 0, f"import covid_xray.{module} imports torch"


def importable(module: str) -> bool:
    return (PACKAGE / f"{module.rpartition('.')[2]}.py").is_file() or module == "covid_xray"


def test_help_names_every_command() -> None:
    "What it costs is measured by `make bench`"
    done = subprocess.run([sys.executable, "-m", "covid_xray", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in "train evaluate predict explain sources prepare doctor course".split():
        assert name in done.stdout


def imported_modules(path: Path) -> Iterator[str]:
    "Modules of ours that a file imports, wherever in the file"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "covid_xray" if node.level else node.module or ""
            inner = f"{base}.{node.module}" if node.level and node.module else base
            names = [f"{inner}.{alias.name}" for alias in node.names] if inner == "covid_xray" else [inner]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("covid_xray."))


@every_module
def test_a_module_imports_only_earlier_ones(path: Path) -> None:
    earlier = staircase()[: staircase().index(path.stem)]
    allowed = APPENDIX - {path.stem} if path.stem in APPENDIX else {*earlier, "__version__"}
    wrong = set(imported_modules(path)) - allowed
    assert not wrong, f"{path.stem} imports {wrong}; it may import {sorted(allowed)}"


def public_functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    "Public functions, and public methods of public classes"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and (not inner.name.startswith("_") or inner.name == "__init__"):
                    yield f"{node.name}.{inner.name}", inner


def parameters(function: ast.FunctionDef) -> list[ast.arg]:
    a = function.args
    every = [*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg]
    return [arg for arg in every if arg and arg.arg not in ("self", "cls")]


@every_module
def test_public_functions_are_documented(path: Path) -> None:
    "Docstring, types, and for each parameter a comment beside it that says what it is"
    lines, faults = path.read_text(encoding="utf-8").splitlines(), []
    for name, function in public_functions(path):
        if not ast.get_docstring(function) and not name.endswith((".__init__", ".forward")):
            faults.append(f"{name}: no docstring")
        for arg in parameters(function):
            if arg.annotation is None:
                faults.append(f"{name}: {arg.arg} has no type")
            if "#" not in lines[arg.end_lineno - 1]:
                faults.append(f"{name}: {arg.arg} has no comment")
        returns_nothing = isinstance(function.returns, ast.Constant) and function.returns.value is None
        if function.returns is None and not name.endswith(".__init__"):
            faults.append(f"{name}: no return type")
        elif function.returns and not returns_nothing and "#" not in lines[function.returns.end_lineno - 1]:
            faults.append(f"{name}: no comment on what it returns")
    assert not faults, "\n".join(faults)


@every_module
def test_a_module_says_what_it_is_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 350, "give it a second notebook"
    assert "__all__" in text


def code_lines(function: ast.FunctionDef, lines: list[str]) -> int:
    "Lines of a function's body that do something: no docstring, comment or blank line"
    body = function.body[1:] if ast.get_docstring(function) else function.body
    if not body:
        return 0
    inner = (line.strip() for line in lines[body[0].lineno - 1 : body[-1].end_lineno])
    return sum(bool(line) and not line.startswith("#") for line in inner)


def test_functions_are_short() -> None:
    lengths = {}
    for path in LIBRARY:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lengths[f"{path.stem}.{node.name}"] = code_lines(node, text.splitlines())
    long = sorted(((n, name) for name, n in lengths.items() if n >= 25), reverse=True)
    assert statistics.median(lengths.values()) <= 8
    assert len(long) <= 0.1 * len(lengths), long


@every_python_file
def test_lines_are_no_longer_than_120(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path in LIBRARY:  # nbdev's own lines: the names in __all__, and where a cell comes from
        text = re.sub(r"^# %% .*|^__all__ = \[[^]]*\]", lambda m: "\n" * m[0].count("\n"), text, flags=re.MULTILINE)
    assert not [number for number, line in enumerate(text.splitlines(), 1) if len(line) > 120]


@every_python_file
def test_syntax_of_the_oldest_python(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


# ---- the notebooks ----


@every_notebook
def test_notebook_is_clean(path: Path) -> None:
    "What nbdev_clean would leave, and no error, warning or progress bar among the outputs"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
    assert notebook["metadata"].get("language_info", {}).keys() <= {"name"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags"}, cell["id"]
        assert cell.get("execution_count") is None, cell["id"]
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error", cell["id"]
            assert output.get("execution_count") is None, cell["id"]
            assert output.get("name") != "stderr", f"{cell['id']}: {''.join(output['text'])[:200]}"
            assert all(key.startswith("image/") for key in output.get("metadata", {})), cell["id"]


@every_notebook
def test_every_figure_has_alt_text(path: Path) -> None:
    for cell in cells(path):
        for output in cell.get("outputs", []):
            for kind in (k for k in output.get("data", {}) if k.startswith("image/")):
                alt = output["metadata"].get(kind, {}).get("alt", "")
                assert len(alt.split()) >= 8, f"cell {cell['id']}: a figure without alt text of substance"
        for alt in re.findall(r"!\[(.*?)\]\(", source(cell)) if cell["cell_type"] == "markdown" else []:
            assert len(alt.split()) >= 8, f"cell {cell['id']}: a picture without alt text of substance"


@every_notebook
def test_notebook_opens_as_agreed(path: Path) -> None:
    first, *rest = cells(path)
    assert re.fullmatch(r"# [^\n]+\n+> [^\n]+\n*", source(first)), "the first cell: title and description only"
    if module_of(path):
        assert source(rest[0]).strip() == f"#| default_exp {module_of(path)}"
        assert source(rest[1]).strip() == set_up.text(), "run make export"


@every_notebook
def test_cells_are_short(path: Path) -> None:
    "No cell over 25 lines but one exported class, median about 5, at most three code cells without prose between"
    lengths, row = [], 0
    for cell in cells(path):
        if cell["cell_type"] == "markdown":
            row = 0
            continue
        code = source(cell)
        one_class = is_exported(cell) and sum(isinstance(n, ast.ClassDef) for n in ast.parse(code).body) == 1
        count = sum(bool(line.strip()) and not line.startswith("#|") for line in code.splitlines())
        assert one_class or count <= 25 or is_signature_heavy(cell), f"cell {cell['id']} has {count} lines"
        if not is_unseen(cell):
            lengths += [] if is_exported(cell) else [count]
            row += 1
            assert row <= 3, f"cell {cell['id']}: the fourth code cell in a row"
    assert not lengths or statistics.median(lengths) <= 10


def is_signature_heavy(cell: dict) -> bool:
    "One exported function whose body is short: its documented parameters take a line each"
    if not is_exported(cell):
        return False
    body = ast.parse(source(cell)).body
    lines = source(cell).splitlines()
    return len(body) == 1 and isinstance(body[0], ast.FunctionDef) and code_lines(body[0], lines) <= 25


@every_notebook
def test_cells_need_no_development_tools(path: Path) -> None:
    for cell in (c for c in cells(path) if c["cell_type"] == "code"):
        code = source(cell)
        assert not re.search(r"\b(nbdev|fastcore|show_doc)\b", code), f"cell {cell['id']}"
        assert not re.search(r"^#\|\s*(notest|eval:\s*false)", code, re.MULTILINE), f"cell {cell['id']} is not run"
        assert "jet" not in re.findall(r"""["'](\w+)["']""", code), f"cell {cell['id']}: never jet"


@every_notebook
def test_prose_is_of_a_reading_length(path: Path) -> None:
    prose = " ".join(source(c) for c in cells(path) if c["cell_type"] == "markdown")
    words = len(re.findall(r"\w[\w'’-]*", re.sub(r"\$\$.*?\$\$|```.*?```", "", prose, flags=re.DOTALL)))
    is_chapter = path.parent == ROOT / "nbs" and bool(re.match(r"0[1-9]_", path.name))
    assert words <= 4000 or path.stem == "bibliography"  # a list to look things up in
    assert words >= 1000 or not is_chapter, f"{words} words"


def test_citation_and_ready_made_environments() -> None:
    "What GitHub, Binder and VS Code read: well formed, and in step with settings.ini"
    import yaml

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
    assert citation["version"] == settings()["version"] and citation["repository-code"] == settings()["git_url"]
    named = re.findall(r"\.\[([\w,]+)\]", (ROOT / ".binder/requirements.txt").read_text())
    assert named and all(f"{extra}_requirements" in settings() for extra in named[0].split(","))
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    command = container["postCreateCommand"].split()
    assert (ROOT / command[1]).is_file() and "--torch-index" in (ROOT / command[1]).read_text(encoding="utf-8")
