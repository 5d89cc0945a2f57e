"""Write the table of chapters in nbs/index.ipynb, README.md from that notebook (nbdev_readme needs Quarto), and the
version in CITATION.cff.

    python tools/readme.py [--check]    # --check changes nothing and ends with 1 where one is out of step
"""
from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import minutes
import run_chapters

ROOT = Path(__file__).resolve().parent.parent
INDEX = ROOT / "nbs" / "index.ipynb"
CITATION = ROOT / "CITATION.cff"
NOTE = "<!-- Made from nbs/index.ipynb by tools/readme.py (make export): change the notebook, not this file. -->"


def chapter_row(path: Path, seconds: float | None) -> str:
    "A chapter's number, title, description and module, as its notebook gives them, and what it takes to run"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    title, description = re.match(r"# (?:\d+\w? )?([^\n]+)\n+> ([^\n]+)", "".join(cells[0]["source"])).groups()
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    module = re.search(r"^#\|\s*default_exp\s+(\w+)", code, re.MULTILINE)
    number = re.match(r"0?(\d+[a-z]?)_", path.name)
    link = f"[{title}]({path.relative_to(INDEX.parent).as_posix()})"
    named = f"`{module[1]}`" if module else ""
    taken = "" if seconds is None else minutes.number(seconds)
    return f"| {number[1] if number else ''} | {link} | {description.rstrip('.')} | {named} | {taken} |"


def with_chapters(notebook: dict) -> dict:
    "The notebook with its table of chapters made anew"
    rows, kept = ["| | chapter | what it is about | module | minutes |", "|---|---|---|---|---|"], minutes.kept()
    rows += [chapter_row(path, kept.get(path.name, {}).get("seconds"))
             for path in run_chapters.chapters() if path != INDEX and path.parent == INDEX.parent]
    cell = next(c for c in notebook["cells"] if "".join(c["source"]).startswith("## Chapters"))
    before, _, after = re.split(r"((?:^\|.*\n?)+)", "".join(cell["source"]), maxsplit=1, flags=re.MULTILINE)
    cell["source"] = (before + "\n".join(rows) + ("\n" + after if after else "")).splitlines(True)
    return notebook


def index_text() -> str:
    "nbs/index.ipynb as it must be"
    notebook = with_chapters(json.loads(INDEX.read_text(encoding="utf-8")))
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def output_text(cell: dict) -> str:
    "What a cell printed, as a block of text"
    texts = ["".join(o["text"]) for o in cell["outputs"] if o["output_type"] == "stream" and o["name"] == "stdout"]
    texts += ["".join(o["data"]["text/plain"]) for o in cell["outputs"] if "text/plain" in o.get("data", {})]
    return "".join(f"\n```\n{text.rstrip()}\n```\n" for text in texts)


def cell_text(cell: dict, first: bool) -> str:
    "One cell as Markdown; cells hidden from the docs are hidden here too"
    source = "".join(cell["source"]).strip()
    if cell["cell_type"] == "markdown":
        if first:  # nbdev's front matter: the description is a plain paragraph here
            return re.sub(r"^> ", "", source, flags=re.MULTILINE) + "\n"
        return links(source) + "\n"
    if re.search(r"^#\|\s*(hide|include:\s*false|default_exp)", source, re.MULTILINE):
        return ""
    code = re.sub(r"^#\|.*\n", "", source, flags=re.MULTILINE)
    return f"```python\n{code}\n```\n{output_text(cell)}"


def links(markdown: str) -> str:
    "A link to a chapter, a picture or a file holds from the top folder, not from nbs/"
    to_chapter = re.sub(r"\]\((?!https?:|#|\.\./|mailto:)([^)]+\.(?:ipynb|png))", r"](nbs/\1", markdown)
    return to_chapter.replace("](../", "](")


def readme_text() -> str:
    "README.md as it must be"
    notebook = json.loads(index_text())
    parts = [cell_text(cell, index == 0) for index, cell in enumerate(notebook["cells"])]
    title, *rest = [part for part in parts if part]
    return "\n".join([title, NOTE + "\n", *rest])


def citation_text() -> str:
    "CITATION.cff with the version of settings.ini"
    version = re.search(r"^version = (\S+)", (ROOT / "settings.ini").read_text(encoding="utf-8"), re.MULTILINE)[1]
    return re.sub(r"(?m)^version: .*", f"version: {version}", CITATION.read_text(encoding="utf-8"))


def stale() -> dict[Path, str]:
    "What must be written anew, and how"
    wanted = {INDEX: index_text(), ROOT / "README.md": readme_text(), CITATION: citation_text()}
    return {path: text for path, text in wanted.items()
            if not path.is_file() or path.read_text(encoding="utf-8") != text}


def write() -> None:
    for path, text in stale().items():
        path.write_text(text, encoding="utf-8", newline="\n")


def main() -> int:
    if "--check" not in sys.argv[1:]:
        write()
        return 0
    for path in stale():
        print(f"{path.name} is out of step: run make export", file=sys.stderr)
    return int(bool(stale()))


if __name__ == "__main__":
    sys.exit(main())
