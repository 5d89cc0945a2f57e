"""Links to the glossary on the docs site: the first use on a page, nothing that is code, and the right sense."""
from __future__ import annotations

import json
import re
from pathlib import Path

import glossary_links
import run_chapters

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r'<a class="term" href="([^"]*)#([\w-]+)" title="[^"]+">([^<]+)</a>')


def linked(*texts: str, page: str = "03_cnn.ipynb") -> list[str]:
    cells = [{"cell_type": "markdown", "source": text} for text in ("# Softmax\n\n> About softmax", *texts)]
    return [cell["source"] for cell in glossary_links.add_links({"cells": cells}, Path(page))["cells"]]


def words(*texts: str, **options: str) -> list[str]:
    return [found[2] for text in linked(*texts, **options) for found in LINK.findall(text)]


def test_first_use_only() -> None:
    assert words("Softmax first, softmax later.", "And softmax again.") == ["Softmax"]
    assert linked("no term of ours")[0] == "# Softmax\n\n> About softmax", "title and description stay as they are"


def test_what_is_no_prose_is_left_alone() -> None:
    for text in ("`softmax`", "```python\nsoftmax(x)\n```", "[softmax](x.ipynb)", "## Softmax", "$softmax$",
                 '<a id="softmax"></a>', "$$softmax$$", "![softmax](x.png)", "https://x.org/softmax"):
        assert linked(text)[1] == text


def test_whole_words_longest_first() -> None:
    assert words("A batch normalisation, a log\nloss, logits, cross-entropy-like, softmaxed") == [
        "batch normalisation", "log\nloss", "logits"]
    assert words("auroc AUROC") == ["AUROC"], "a term in capitals is not an everyday word"


def test_everyday_words_where_they_are_explained() -> None:
    "A running kernel is another thing than the **kernel** of a convolution"
    assert words("The panel needs a running kernel.", "A matrix of 3 x 3, a **kernel**.") == ["kernel"]
    assert glossary_links.EVERYDAY <= set(glossary_links.terms()), "a word that the glossary does not have"


def test_links_lead_to_their_entry_from_any_page() -> None:
    glossary = (ROOT / "nbs" / "guides" / "glossary.ipynb").read_text(encoding="utf-8")
    for page, way in {"03_cnn.ipynb": "", "solutions/03_cnn.ipynb": "../"}.items():
        ((target, anchor, _),) = LINK.findall(linked("softmax", page=page)[1])
        assert target == f"{way}guides/glossary.html" and f'<a id=\\"{anchor}\\"></a>' in glossary
    assert words("softmax", page="guides/glossary.ipynb") == []


def test_every_chapter_has_some_and_only_links_are_added() -> None:
    for path in run_chapters.chapters():
        page = path.relative_to(ROOT / "nbs")
        before, after = json.loads(path.read_text(encoding="utf-8")), json.loads(path.read_text(encoding="utf-8"))
        glossary_links.add_links(after, page)
        texts = [["".join(c["source"]) for c in notebook["cells"]] for notebook in (before, after)]
        anchors = [anchor for text in texts[1] for _, anchor, _ in LINK.findall(text)]
        assert len(anchors) == len(set(anchors)), page
        assert [LINK.sub(r"\3", text) for text in texts[1]] == texts[0], page
        if re.match(r"0[1-7]_", page.name) and page.parent == Path("."):
            assert len(anchors) >= 2, page
