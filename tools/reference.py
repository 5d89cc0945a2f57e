"""Pages of the docs site made from the library itself: the API reference, and cards of models and data sets."""
from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import nbdev_filter
import run_chapters

ROOT = Path(__file__).resolve().parent.parent
SETS = {"darkcovidnet": "DarkCovidNet's 1,125 films", "cohen": "Cohen's collection", "hannover": "Hannover",
        "raikokte": "raikokte's films of children"}
HAND_MADE = {"reference/course.ipynb": ("The course's own tools", ["course", "exercises.judging", "exercises.quiz"])}
DEFAULT_EXP = re.compile(r"^#\|\s*default_exp\s+(\w+)", re.MULTILINE)


def modules() -> dict[str, tuple[str, list[str]]]:
    "Page -> its title, and the modules of that chapter in reading order"
    pages: dict[str, tuple[str, list[str]]] = {}
    for path in run_chapters.chapters():
        text = path.read_text(encoding="utf-8").replace('\\n"', "\n").replace('"#', "#").replace("    #|", "#|")
        module = DEFAULT_EXP.search(text)
        if module and path.parent == run_chapters.NOTEBOOKS:
            chapter = int(re.match(r"\d+", path.name)[0])
            title = f"Chapter {chapter}" if chapter < 10 else "The phantom hospital"
            pages.setdefault(f"reference/chapter_{chapter:02}.ipynb", (title, []))[1].append(module[1])
    return {**pages, **HAND_MADE}


def markdown_page(*parts: str) -> dict:
    "A notebook of words only"
    base = {"cell_type": "markdown", "metadata": {}}
    cells = [{**base, "id": f"cell{i}", "source": part} for i, part in enumerate(parts)]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def front(title: str, about: str) -> str:
    return f"---\ntitle: {title!r}\ndescription: {about!r}\n---"


def summary(thing: object) -> str:
    "The first sentence of its own words"
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def public(module: object) -> list[str]:
    "Functions and classes that a module offers, in the order of its text"
    own = [name for name in module.__all__ if getattr(getattr(module, name), "__module__", "") == module.__name__]
    offered = [name for name in own if callable(getattr(module, name))]
    return sorted(offered, key=lambda name: nbdev_filter.line_of(f"{module.__name__}.{name}", _file(module)) or 0)


def _file(module: object) -> str:
    return module.__name__.replace(".", "/") + ".py"


def entry(module: object, name: str) -> str:
    "One function or class: heading, signature with the words beside each parameter, what it says, where it stands"
    from fastcore.docments import DocmentTbl
    from nbdev.config import get_config
    from nbdev.showdoc import BasicMarkdownRenderer, show_doc

    thing, settings = getattr(module, name), get_config()
    shown = show_doc(thing, renderer=BasicMarkdownRenderer)._repr_markdown_()
    signature = shown[shown.index("```python"):]
    line = nbdev_filter.line_of(f"{module.__name__}.{name}", _file(module))
    place = f"{settings.git_url}/blob/{settings.branch}/{_file(module)}#L{line}"
    anchor = f"{module.__name__.removeprefix('covid_xray.').replace('.', '-')}-{name.lower()}"
    table = DocmentTbl(thing)
    parameters = table._repr_markdown_() if table.has_docment else ""
    return f"### {name} {{#{anchor}}}\n\n[source]({place})\n\n{signature}\n\n{parameters}"


def api_pages() -> dict[str, dict]:
    "One page a chapter, and one that lists everything in a line each"
    pages, listed = {}, []
    for page, (title, names) in modules().items():
        parts = [front(f"API: {title}", "Signatures, parameters and sources")]
        for name in names:
            module = importlib.import_module(f"covid_xray.{name}")
            nbdev_filter.complete_types(module.__name__)
            about = re.sub(r"\s+", " ", (module.__doc__ or "").strip().split("\n\n")[0])
            key, offered = name.replace(".", "-"), public(module)
            parts.append(f"## covid_xray.{name} {{#{key}}}\n\n{about}")
            parts += [entry(module, one) for one in offered]
            rows = [f"| [`{one}`]({Path(page).name}#{key}-{one.lower()}) | {summary(getattr(module, one))} |"
                    for one in offered]
            if rows:
                listed.append("\n".join([f"## {name}", "", "| name | what it does |", "|---|---|", *rows]))
        pages[page] = markdown_page(*parts)
    about = "Everything that `covid_xray` offers, a line each; what a chapter exports is explained in the chapter"
    return {"reference/index.ipynb": markdown_page(front("API reference", about), *listed), **pages}


def card_pages() -> dict[str, dict]:
    "Cards of the shipped models as they ship, and of the data sets as `data_card` makes them from the record tables"
    from covid_xray.cards import data_card
    from covid_xray.sources import load_table, manifest

    cards = {f"cards/model_{p.parent.name}.ipynb": (f"Model: {p.parent.name}", p.read_text(encoding="utf-8"))
             for p in sorted((ROOT / "covid_xray/models").glob("*/README.md"))}
    tables = {"phantom": (load_table("phantom"), "the phantom hospital")}
    tables |= {name: (manifest(name), title) for name, title in SETS.items()}
    for name, (table, title) in tables.items():
        cards[f"cards/data_{name}.ipynb"] = (f"Data: {title}", data_card(table, title))
    pages = {}
    for page, (title, text) in cards.items():
        body = re.sub(r"^---\n.*?\n---\n", "", text, flags=re.DOTALL)
        body = re.sub(r"^# .*\n", "", body.lstrip(), count=1)  # the title stands on the page already
        pages[page] = markdown_page(front(title, "The card as it ships, made from what was measured"), body)
    return pages


def pages() -> dict[str, dict]:
    "All of them, by their place on the site"
    return {**api_pages(), **card_pages()}
