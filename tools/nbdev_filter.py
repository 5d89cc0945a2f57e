"""Prepare notebooks for the docs site: nbdev's processors, source shown, alternative text kept.

Used by tools/docs.py, and as Quarto's `ipynb-filters` entry for a plain `quarto render`: nbdev's own filter stopped
working there in nbdev 2.3, since its processors need the notebook's path, which Quarto does not pass. Quarto runs a
filter in the notebook's folder, so the notebook is found by the ids of its cells.
"""
from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).resolve().parent.parent / "nbs"
RELATIVE = re.compile(r"\]\((\.\./[^)#]*)")
EXPORT = re.compile(r"^(#\|\s*)export\s*$", re.MULTILINE)
SHOWN = '#| code-fold: show\n#| code-summary: "Exported source"'  # as nbdev writes it over an exported cell
FOLDED = '#| code-fold: true\n#| code-summary: "Imports"'
IMAGES = ("image/png", "image/jpeg", "image/svg+xml")


def repository_link(folder: Path, settings: Any, link: re.Match) -> str:
    "A link out of nbs/, to the file in the repository; one to another notebook stays as it is"
    target = (folder / link[1]).resolve()
    if target.is_relative_to(NOTEBOOKS):
        return link[0]
    return f"]({settings.git_url}/blob/{settings.branch}/{target.relative_to(NOTEBOOKS.parent).as_posix()}"


def complete_types(name: str) -> None:
    "Carry out a module's `if TYPE_CHECKING:` imports: the tables of parameters show those types"
    module = importlib.import_module(name)
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            exec(compile(ast.Module(node.body, []), module.__file__, "exec"), vars(module))


def line_of(symbol: str, file: str | None) -> int | None:
    "The line on which a function begins: nbdev looks for `auroc` as `covid_xray.metrics.auroc` and links to `#LNone`"
    if not file:
        return None
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    names = symbol.removeprefix(f"{module.__name__}.").split(".")
    found = functools.reduce(lambda thing, name: getattr(thing, name, None), names, module)
    found = getattr(found, "fget", None) or getattr(found, "func", None) or found  # behind a property
    try:
        return inspect.getsourcelines(inspect.unwrap(found))[1]
    except (TypeError, OSError):  # a value, not a function or class
        return None


def process(path: Path) -> dict:
    "One notebook as the site shows it"
    os.environ["IN_TEST"] = "1"  # nbdev's word for: someone else runs these cells
    from execnb.nbio import nb2dict, read_nb
    from nbdev import doclinks
    from nbdev.config import get_config
    from nbdev.processors import FilterDefaults, exec_show_docs

    doclinks._lineno = line_of
    notebook, settings = read_nb(path), get_config()
    module = re.search(r"^#\|\s*default_exp\s+(\w+)", "\n".join(c.source for c in notebook.cells), re.MULTILINE)

    class DocumentedFromModule(exec_show_docs):
        "nbdev runs a notebook's exports and imports for its tables; here they come from the module, and no cell is run"

        def begin(self) -> None:
            super().begin()
            if module:
                complete_types(f"covid_xray.{module[1]}")
                self.k.run(f"from covid_xray.{module[1]} import *")

        def __call__(self, cell: dict) -> None:
            if getattr(cell, "has_sd", False):
                self.k.cell(cell)
                if self.k.exc:
                    raise RuntimeError(f"{path.name}: {cell.source} failed; run make export first") from self.k.exc

        def end(self) -> None:
            "No state of widgets in the page"

    class Processors(FilterDefaults):
        def base_procs(self) -> list:
            return [DocumentedFromModule if p is exec_show_docs else p for p in super().base_procs()]

    with contextlib.redirect_stdout(io.StringIO()):
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.source = EXPORT.sub(r"\1exports", cell.source)  # a course shows the code that it teaches
            elif cell.cell_type == "markdown":  # a file of the repository is no page of the site
                cell.source = RELATIVE.sub(functools.partial(repository_link, path.parent, settings), cell.source)
        Processors()(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code" and SHOWN in cell.source and only_imports(cell.source):
            cell.source = cell.source.replace(SHOWN, FOLDED)
    return nb2dict(notebook)


def only_imports(source: str) -> bool:
    "Whether a cell brings names in and does nothing else: a reader of the page may open it, and needn't read it"
    def brings_in(node: ast.stmt) -> bool:
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for_nbdev = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_all_"
        return for_types or for_nbdev or isinstance(node, (ast.Import, ast.ImportFrom))

    return all(map(brings_in, ast.parse(source).body))


def image_alt(output: dict) -> str:
    "The alternative text in an output's metadata; nothing where it is no image"
    kinds = [kind for kind in IMAGES if kind in output.get("data", {})]
    return output.get("metadata", {}).get(kinds[0], {}).get("alt", "") if kinds else ""


def keep_alt_text(notebook: dict) -> dict:
    "Hand the alternative text of each output on as `#| fig-alt`, which is what Quarto reads"
    for cell in notebook["cells"]:
        texts = [image_alt(output).replace("'", "’") for output in cell.get("outputs", [])]
        source = "".join(cell["source"])
        if any(texts) and "fig-alt:" not in source:
            images = [text for text in texts if text]
            value = images[0] if len(images) == 1 else texts  # a list goes by the number of the output
            cell["source"] = f"#| fig-alt: {json.dumps(value, ensure_ascii=False)}\n{source}"
    return notebook


def same_notebook(content: dict) -> Path | None:
    "The file that Quarto has handed over"
    ids = [cell.get("id") for cell in content["cells"]]
    for path in sorted(Path.cwd().glob("*.ipynb")):
        if [cell.get("id") for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]] == ids:
            return path
    return None


def main() -> None:
    content = json.load(sys.stdin)
    path = None if "_proc" in Path.cwd().parts else same_notebook(content)  # under _proc/ they are processed already
    json.dump(keep_alt_text(process(path) if path else content), sys.stdout)


if __name__ == "__main__":
    main()
