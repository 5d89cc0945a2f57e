"""Which lines of the library do tests and notebooks run? `make coverage` (half an hour on two free cores).

    python tools/line_coverage.py [--again] [-- PYTEST ARGUMENTS]

coverage.py counts lines in the tests' process, in the notebooks run against the library, and in what these start (the
command line, the service). Tests in a browser are left out, since what they reach has twins that are tested without.
The parts run one after the other and are kept in `.coverage.parts/`, so that a run that was stopped goes on where it
stopped; `--again` begins anew. What came out goes to covid_xray/results/coverage.csv, a row a module, worst first.
"""
from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

import run_chapters

ROOT = Path(__file__).resolve().parent.parent
PARTS = ROOT / ".coverage.parts"
TABLE = ROOT / "covid_xray" / "results" / "coverage.csv"
BROWSER = "jupyterlab voila a_visit several_users on_a_phone in_the_browser".split()
NO_LIBRARY = "docs house lab wheel instructor glossary_links upkeep notebooks real_chapters".split()  # read files only
AIM = 0.95


def parts() -> dict[str, list[str]]:
    "Name of each part -> pytest's arguments: a part a test file, then a part a notebook"
    files = [p for p in sorted((ROOT / "tests").glob("test_*.py")) if p.stem.removeprefix("test_") not in NO_LIBRARY]
    found = {p.stem: [str(p), "-k", " and ".join(f"not {word}" for word in BROWSER)] for p in files}
    for path in run_chapters.chapters():
        name = path.relative_to(run_chapters.NOTEBOOKS).as_posix()
        node = f"{ROOT / 'tests' / 'test_notebooks.py'}::test_against_the_library[{name}]"
        found[name.replace("/", "-").removesuffix(".ipynb")] = [node]
    return found


def coverage(*words: str, part: str = "whole") -> int:
    "coverage.py on a part's own data file"
    env = {**os.environ, "COVERAGE_FILE": str(PARTS / part / ".coverage"), "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", "coverage", *words], cwd=ROOT, env=env).returncode


def measure(part: str, arguments: list[str]) -> bool:
    "Run a part unless it was; whether its tests passed"
    folder = PARTS / part
    if (folder / "passed").is_file():
        return True
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    done = coverage("run", "-m", "pytest", "-q", *arguments, part=part)
    if done in (0, 5):  # 5: every test of the file needs a browser
        (folder / "passed").touch()
    return done in (0, 5)


def table() -> pd.DataFrame:
    "A row a module from all parts together: lines that can run, lines that ran, their share"
    (PARTS / "whole").mkdir(exist_ok=True)
    coverage("combine", "--keep", "--quiet", *(str(p.parent) for p in sorted(PARTS.glob("*/passed"))))
    coverage("json", "--quiet", "-o", str(PARTS / "whole.json"))
    files = json.loads((PARTS / "whole.json").read_text(encoding="utf-8"))["files"]
    rows = [{"module": Path(name).as_posix(), "lines": (counts := facts["summary"])["num_statements"],
             "run": counts["covered_lines"]} for name, facts in files.items() if facts["summary"]["num_statements"]]
    found = pd.DataFrame(rows)
    found.loc[len(found)] = ["all", found["lines"].sum(), found["run"].sum()]
    return found.assign(share=(found["run"] / found["lines"]).round(4)).sort_values("share")


def main() -> int:
    parser = argparse.ArgumentParser(description="Lines of the library that tests and notebooks run")
    parser.add_argument("--again", action="store_true", help="forget the parts that were measured")
    parser.add_argument("arguments", nargs="*", help="more arguments for pytest, after --")
    options = parser.parse_args()
    if options.again:
        shutil.rmtree(PARTS, ignore_errors=True)
    failed = [part for part, words in parts().items() if not measure(part, [*words, *options.arguments])]
    found = table()
    found.to_csv(TABLE, index=False, lineterminator="\n")
    print(found.to_string(index=False))
    if failed:
        print(f"tests failed in {', '.join(failed)}: their lines are not counted", file=sys.stderr)
    return int(bool(failed) or found.set_index("module").loc["all", "share"] < AIM)


if __name__ == "__main__":
    sys.exit(main())
