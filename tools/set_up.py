"""Put the set-up cell, pinned to this version, into every notebook that needs covid_xray (part of `make export`).

    python tools/set_up.py [--check]    # --check changes nothing and ends with 1 where a chapter has another cell

Where covid_xray is there already (a checkout, Binder, a second run) the cell does nothing. In Colab, in Kaggle or in
any kernel without it, it installs the release that the chapter belongs to. Its comment says what to run first, since a
kernel that has just been restarted knows nothing that could say it.
"""
from __future__ import annotations

import json
import re
import sys
from configparser import ConfigParser
from pathlib import Path

import run_chapters

ROOT = Path(__file__).resolve().parent.parent
IS_SET_UP = re.compile(r'#\| include: false\n.*%pip install -q "covid_xray\[course\][^"]*"\s*', re.DOTALL)
NEEDS_IT = re.compile(r"^\s*(from|import) covid_xray\b", re.MULTILINE)


def text() -> str:
    "The cell, pinned to this version"
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return (
        "#| include: false\n# Restarted, or starting in the middle? First: Run > Run All Above Selected Cell "
        "(Colab: Runtime > Run before)\nfrom importlib.util import find_spec\nif find_spec('covid_xray') is None:\n"
        f"    %pip install -q \"covid_xray[course]=={parser['DEFAULT']['version']}\""
    )


def renewed(notebook: dict) -> dict:
    "The notebook with its set-up cell as it must be: before all other code where it has none and needs covid_xray"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    there = [cell for cell in code if IS_SET_UP.fullmatch("".join(cell["source"]))]
    if not there and any(NEEDS_IT.search("".join(cell["source"])) for cell in code):
        there = [{"cell_type": "code", "execution_count": None, "id": "set-up", "metadata": {}, "outputs": []}]
        notebook["cells"].insert(notebook["cells"].index(code[0]), there[0])
    for cell in there:
        cell["source"] = text().splitlines(True)
    return notebook


def main() -> int:
    stale = []
    for path in run_chapters.chapters():
        before = path.read_text(encoding="utf-8")
        after = json.dumps(renewed(json.loads(before)), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        if json.loads(before) != json.loads(after):
            stale.append(path)
            if "--check" not in sys.argv[1:]:
                path.write_text(after, encoding="utf-8", newline="\n")
    for path in stale:
        print(f"set-up cell of {path.relative_to(ROOT)}: {'another' if '--check' in sys.argv[1:] else 'renewed'}")
    return int(bool(stale) and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
