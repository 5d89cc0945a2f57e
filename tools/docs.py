"""Build the docs site into _docs/: `make docs`.

    python tools/docs.py [--offline] [--out FOLDER]

nbdev prepares the notebooks (signatures, tables of parameters, links), then Quarto renders them where it is on PATH;
otherwise, and with --offline, smalldocs does, from the same _quarto.yml. Neither asks the network for anything.
"""
from __future__ import annotations

import argparse
import fnmatch
import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import glossary_links
import nbdev_filter
import reference
import run_chapters
import twins
import yaml
from latex2mathml.converter import convert
from nbdev.config import get_config
from nbdev.quarto import refresh_quarto_yml

ROOT = Path(__file__).resolve().parent.parent
PREPARED = ROOT / "_proc"
NAMES = {"fig": "Figure", "tbl": "Table", "eq": "Equation", "lst": "Listing"}
PARTS = {  # first pattern that fits -> part of the sidebar, in its order
    "index.ipynb": "Home", "0[1-9]*": "Chapters", "app.ipynb": "Chapters", "00*": "Behind chapter 1: the films",
    "guides/*": "Guides", "instructor/*": "For teachers", "solutions/*": "Solutions",
    "10*": "Appendix: the phantom hospital",
}
REMOTE = re.compile(r"@import url\(https:[^)]*\);?")  # fonts that a theme would fetch from elsewhere
CONTRAST = {"#2780e3": "#1a66b8", "39,128,227": "26,102,184", "39, 128, 227": "26, 102, 184"}  # of the theme's blue


def stay_here(notebook: dict) -> dict:
    "nbdev sends `../01_data.ipynb` of a guide to GitHub, to a place where nothing is: it is a page of this site"
    away = re.compile(rf"\]\({re.escape(get_config().git_url)}/blob/[\w-]+/(?!nbs/)([\w/-]+\.ipynb)")
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = away.sub(r"](../\1", "".join(cell["source"]))
    return notebook


def take_along(path: str) -> dict:
    "A cell with the two ways to have a notebook for oneself"
    place = get_config().git_url.removeprefix("https://github.com/").strip("/")
    colab = f"https://colab.research.google.com/github/{place}/blob/main/{path}"
    download = f"https://raw.githubusercontent.com/{place}/main/{path}"
    links = f"[Open in Colab]({colab}) · [Download this notebook]({download})"
    return {"cell_type": "markdown", "id": "take-along", "metadata": {}, "source": links}


def prepare() -> None:
    "Notebooks with nbdev's processors applied, and Quarto's settings, in _proc/"
    os.chdir(ROOT)  # nbdev finds settings.ini from the working folder
    get_config()
    refresh_quarto_yml()
    shutil.rmtree(PREPARED, ignore_errors=True)
    for path in run_chapters.chapters():
        target = PREPARED / path.relative_to(ROOT / "nbs")
        target.parent.mkdir(parents=True, exist_ok=True)
        notebook = stay_here(nbdev_filter.process(path))
        notebook = glossary_links.add_links(notebook, path.relative_to(ROOT / "nbs"))
        notebook = twins.add_twins(notebook, path.relative_to(ROOT / "nbs").as_posix())
        notebook["cells"].insert(1, take_along(path.relative_to(ROOT).as_posix()))
        target.write_text(json.dumps(notebook), encoding="utf-8")
    made = reference.pages()
    for name, notebook in made.items():
        (PREPARED / name).parent.mkdir(exist_ok=True)
        (PREPARED / name).write_text(json.dumps(notebook), encoding="utf-8")
    shutil.copyfile(ROOT / "nbs/nbdev.yml", PREPARED / "nbdev.yml")
    shutil.copytree(ROOT / "nbs/images", PREPARED / "images")
    settings = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))
    settings["website"]["sidebar"]["contents"] = [*sidebar(), *sidebar_of_made(made)]
    settings["project"]["render"] += sorted({f"/{Path(name).parent}/*.ipynb" for name in made})
    own = [(ROOT / "tools" / name).read_text(encoding="utf-8") for name in ("site.css", "site.js")]
    header = "<style>{}</style><script>{}</script>".format(*own)
    settings["format"]["html"]["include-in-header"].append({"text": header})
    (PREPARED / "_quarto.yml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def sidebar() -> list[dict]:
    "Every notebook by its part of the course, with its number: a pattern in _quarto.yml could give the titles only"
    parts: dict[str, list[dict]] = {name: [] for name in PARTS.values()}
    for path in run_chapters.chapters():
        name = path.relative_to(ROOT / "nbs").as_posix()
        part = next(part for pattern, part in PARTS.items() if fnmatch.fnmatchcase(name, pattern))
        first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
        title = "".join(first).splitlines()[0].removeprefix("# ")
        number = re.match(r"0?(\d+[a-z]?)_", name)
        parts[part].append({"text": f"{number[1]} {title}" if number else title, "href": name})
    return [{"section": part, "contents": pages} for part, pages in parts.items() if pages and part != "Home"]


def sidebar_of_made(pages: dict[str, dict]) -> list[dict]:
    "Cards and API reference, after everything that is read in order"
    parts: dict[str, list[dict]] = {"Model and data cards": [], "API reference": []}
    for name, notebook in pages.items():
        title = re.search(r"^title: ['\"](.*)['\"]$", notebook["cells"][0]["source"], re.MULTILINE)[1]
        parts["Model and data cards" if name.startswith("cards/") else "API reference"].append(
            {"text": title, "href": name}
        )
    return [{"section": part, "contents": contents} for part, contents in parts.items()]


# ---- what smalldocs lacks: cross-references, equations without a CDN, alternative text ----


def labels(sources: list[str]) -> dict[str, str]:
    "Figure 1, Table 1, Equation 1, ... by their Quarto labels"
    found: dict[str, str] = {}
    counts = dict.fromkeys(NAMES, 0)
    for source in sources:
        for label, kind in re.findall(r"(?:^#\|\s*label:\s*|\{#)((fig|tbl|eq|lst)-[\w-]+)", source, re.MULTILINE):
            counts[kind] += 1
            found.setdefault(label, f"{NAMES[kind]} {counts[kind]}")
    return found


def markdown(source: str, names: dict[str, str]) -> str:
    "References as links and formulas as MathML; code is left alone"

    def reference(match: re.Match) -> str:
        return f"[{names[match[1]]}](#{match[1]})" if match[1] in names else match[0]

    def equation(match: re.Match) -> str:
        number = f"<small>({names[match[2]].split()[-1]})</small>" if match[2] else ""
        formula = convert(match[1].strip(), display="block")
        return f'\n<div id="{match[2] or ""}" style="text-align:center">{formula}{number}</div>\n'

    parts = re.split(r"(```.*?```|`[^`\n]*`)", source, flags=re.DOTALL)
    for i in range(0, len(parts), 2):
        text = re.sub(r"\$\$(.+?)\$\$(?:\s*\{#(eq-[\w-]+)\})?", equation, parts[i], flags=re.DOTALL)
        text = re.sub(r"(?<![\\$\w])\$(?!\s)([^$\n]+?)(?<!\s)\$(?![\d$])", lambda m: convert(m[1]), text)
        parts[i] = re.sub(r"(?<!\w)@((?:fig|tbl|eq|lst)-[\w-]+)", reference, text)
    return "".join(parts)


def output(content: dict) -> dict:
    "An image with its alternative text"
    data = content.get("data", {})
    alt = nbdev_filter.image_alt(content)
    if alt and "image/png" in data:
        picture = "".join(data["image/png"]).strip()
        image = f'<img class="img-fluid" alt="{html.escape(alt)}" src="data:image/png;base64,{picture}">'
        return {**content, "data": {"text/html": image}}
    return content


def complete(notebook: dict) -> str | None:
    "Change a prepared notebook for smalldocs; gives the name of its page where that is not the notebook's"
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    names = labels(sources)
    for cell, source in zip(notebook["cells"], sources):
        if cell["cell_type"] == "markdown":
            source = re.sub(r"\]\(\.\./([\w/-]+)\.ipynb", r"](../\1.html", markdown(source, names))
        elif cell["cell_type"] == "code":
            label = re.search(r"^#\|\s*label:\s*(\S+)", source, re.MULTILINE)
            if label and label[1] in names:
                caption = re.compile(r"""^(#\|\s*(?:fig|tbl)-cap:\s*)["']?(.*?)["']?$""", re.MULTILINE)
                source = caption.sub(lambda m: m[1] + json.dumps(f"{names[label[1]]}: {m[2]}"), source)
            cell["outputs"] = [output(o) for o in cell.get("outputs", [])]
        cell["source"] = source.splitlines(True)
    page = re.search(r"^output-file:\s*(\S+)\.html", sources[0], re.MULTILINE)
    return page and page[1]


def render_offline() -> None:
    "smalldocs, and pages named as Quarto names them"
    pages: dict[str, str] = {}
    for path in sorted(PREPARED.rglob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        name = complete(notebook)
        path.write_text(json.dumps(notebook), encoding="utf-8")
        if name and name != path.stem:
            pages[f"{path.stem}.html"] = f"{name}.html"
    subprocess.run([sys.executable, "-m", "smalldocs.cli", "render", str(PREPARED), "--quiet"], check=True)
    site = PREPARED / "_docs"
    written = [p for p in site.rglob("*") if p.suffix in (".html", ".json", ".xml") and "site_libs" not in p.parts]
    for path in written:
        text = path.read_text(encoding="utf-8")
        for old, new in pages.items():
            text = re.sub(rf"(?<![\w-]){re.escape(old)}", new, text)
        path.write_text(text, encoding="utf-8")
        if path.name in pages:
            path.rename(path.with_name(pages[path.name]))
    repair(site)


def repair(site: Path) -> None:
    "What smalldocs's pages lack for readers with a keyboard, a screen reader or weak eyes, or without a network"
    for sheet in (site / "site_libs" / "themes").glob("*.css"):
        text = REMOTE.sub("", sheet.read_text(encoding="utf-8"))
        for weak, strong in CONTRAST.items():
            text = text.replace(weak, strong)
        text += ".navbar[data-bs-theme=dark]{--bs-navbar-color:#fff!important}"
        sheet.write_text(text, encoding="utf-8")
    for page in (path for path in site.rglob("*.html") if "site_libs" not in path.parts):
        text = page.read_text(encoding="utf-8")
        text = re.sub(r'(<i class="bi [^"]*") role="img">', r'\1 aria-hidden="true">', text)
        page.write_text(re.sub(r"<pre(?![^>]*tabindex)", '<pre tabindex="0"', text), encoding="utf-8")


def render_with_quarto() -> None:
    "Quarto, with this environment's Python for its notebook filter"
    env = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    subprocess.run([shutil.which("quarto"), "render", "--no-cache"], cwd=PREPARED, env=env, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the docs site")
    parser.add_argument("--offline", action="store_true", help="without Quarto, even where it is installed")
    parser.add_argument("--out", type=Path, default=ROOT / "_docs", help="folder of the site")
    options = parser.parse_args()
    target = options.out.resolve()
    with_quarto = not options.offline and shutil.which("quarto")
    print(f"docs: rendering with {'Quarto' if with_quarto else 'smalldocs (no Quarto asked for or found)'}")
    prepare()
    try:
        render_with_quarto() if with_quarto else render_offline()
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(PREPARED / "_docs", target)
    except subprocess.CalledProcessError as failure:
        print(f"docs: {Path(failure.cmd[0]).name} failed, its own words are above", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(PREPARED, ignore_errors=True)
    print(f"docs: {target / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
