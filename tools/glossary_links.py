"""On each page of the docs site, turn the first use of a glossary term into a link whose tooltip explains it.

The chapters stay as they are: `add_links` changes the notebooks on their way into the site. What is code, formula,
link, heading or HTML is left alone. A word that means something else elsewhere (a *kernel* runs notebooks, too) is
linked only where the text sets it in bold, as it does where it explains it.
"""
from __future__ import annotations

import functools
import html
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GLOSSARY = ROOT / "nbs" / "guides" / "glossary.ipynb"
ENTRY = re.compile(r'^<a id="([\w-]+)"></a>\*\*(.+?)\*\*: (.+) \(\[[^\]]+\]\([^)]+\)\)$', re.MULTILINE)
EVERYDAY = set(
    "accuracy activation Adam batch cache channel class counterfactual duplicate enrichment fold gamma gradient "
    "hook initialisation intervention kernel label leak lesion occlusion padding parameter person phantom placement "
    "pneumonia power precision recall scatter seed sensitivity shortcut split stratified stride threshold validation "
    "window".split()
)
LEFT_ALONE = r"""```.*?```|`[^`\n]*`|!?\[[^\]]*\]\([^)]*\)|<[^>]+>|\$\$.*?\$\$|\$[^$\n]+\$|^\#.*?$|https?://\S+"""
WITHOUT = ("glossary", "bibliography", "index")


@functools.cache
def terms() -> dict[str, tuple[str, str]]:
    "Term as the glossary spells it -> its anchor and explanation"
    cells = json.loads(GLOSSARY.read_text(encoding="utf-8"))["cells"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells)
    return {term: (anchor, re.sub(r"[`$*]", "", words)) for anchor, term, words in ENTRY.findall(text)}


def spelling(term: str) -> str:
    "A term as a pattern: either case of the first letter, unless it has capitals; with or without a plural s"
    plain = term == term.lower()
    first = f"[{term[0]}{term[0].upper()}]" if plain else re.escape(term[0])
    words = (first + re.escape(term[1:])).replace(r"\ ", r"\s+").replace("'", "['’]")
    return words + ("s?" if plain else "")


@functools.cache
def pattern() -> re.Pattern:
    "What is left alone, or a term: longer ones first, so that `batch normalisation` is not a `batch`"
    longest = sorted(terms(), key=len, reverse=True)
    plain = "|".join(spelling(term) for term in longest if term not in EVERYDAY)
    bold = "|".join(spelling(term) for term in longest if term in EVERYDAY)
    term = rf"(?<![\w-])(?P<plain>{plain})(?![\w-])|(?<=\*\*)(?P<bold>{bold})(?=\*\*)"
    return re.compile(f"(?P<alone>{LEFT_ALONE})|{term}", re.DOTALL | re.MULTILINE)


@functools.cache
def named(words: str) -> str:
    "The term that was found, as the glossary spells it"
    return next(term for term in sorted(terms(), key=len, reverse=True) if re.fullmatch(spelling(term), words))


def add_links(notebook: dict, page: Path) -> dict:
    "Link the first use of each term in a notebook; `page` is its path below nbs/"
    if page.stem in WITHOUT:
        return notebook
    seen: set[str] = set()
    way = "../" * (len(page.parts) - 1) + "guides/glossary.html"

    def link(found: re.Match) -> str:
        if found["alone"] is not None or named(found[0]) in seen:
            return found[0]
        seen.add(named(found[0]))
        anchor, explanation = terms()[named(found[0])]
        return f'<a class="term" href="{way}#{anchor}" title="{html.escape(explanation)}">{found[0]}</a>'

    for cell in notebook["cells"][1:]:  # the first holds title and description
        if cell["cell_type"] == "markdown":
            cell["source"] = pattern().sub(link, "".join(cell["source"]))
    return notebook
