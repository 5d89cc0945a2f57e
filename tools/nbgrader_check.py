"""Hand out and grade every assignment with nbgrader itself, in an environment of its own: `make nbgrader-check`.

    python tools/nbgrader_check.py [--venv FOLDER] [--chapters 1 2 ...]

Three students hand in: `reference` all solutions, `half` every second one, `empty` the assignment as it was given. Ends
with 1 unless nbgrader gives the first all points, the second half of them and the third none. The environment has
nbgrader from PyPI; covid_xray, PyTorch and the rest it borrows from the running one through a .pth file.
"""
from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

from covid_xray.course import copy_course

ROOT = Path(__file__).resolve().parent.parent
WANTED = "nbgrader==0.9.6"
NOTEBOOK = "exercises.ipynb"


def environment(folder: Path) -> Path:
    "The scripts of an environment with nbgrader, made if it is not there"
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    if not (scripts / "nbgrader").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([scripts / "python", "-m", "pip", "install", "--quiet", WANTED], check=True)
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own = subprocess.run([scripts / "python", "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
        Path(own, "borrowed.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
    return scripts


def hand_in(course: Path, chapter: str) -> None:
    "The three submissions of one chapter"
    folders = (course / kind / chapter for kind in ("source", "release"))
    solved, given = (json.loads((folder / NOTEBOOK).read_text("utf-8")) for folder in folders)
    half = json.loads(json.dumps(given))
    answers = [i for i, cell in enumerate(half["cells"]) if cell["metadata"]["nbgrader"]["solution"]]
    for i in answers[::2]:
        half["cells"][i]["source"] = solved["cells"][i]["source"]
    for student, notebook in {"reference": solved, "half": half, "empty": given}.items():
        target = course / "submitted" / student / chapter / NOTEBOOK
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(notebook), encoding="utf-8")


def run(scripts: Path, course: Path, *words: str) -> None:
    "An nbgrader command in the course's folder; its own words only where it fails"
    path = os.pathsep.join([str(scripts), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "JUPYTER_PREFER_ENV_PATH": "1", "COVID_XRAY_CACHE": str(course / "cache")}
    env.pop("PYTHONPATH", None)
    done = subprocess.run([scripts / "nbgrader", *words], cwd=course, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"nbgrader {' '.join(words)} failed:\n{done.stderr[-4000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Grade every assignment with nbgrader")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-nbgrader", help="folder of nbgrader's environment")
    parser.add_argument("--chapters", type=int, nargs="*", help="numbers; all where none is given")
    options = parser.parse_args()
    scripts, course = environment(options.venv.resolve()), Path(tempfile.mkdtemp())
    copy_course(course, "nbgrader")
    chapters = sorted(path.name for path in (course / "source").iterdir())
    if options.chapters:
        chapters = [f"chapter{number}" for number in options.chapters]
    for chapter in chapters:
        run(scripts, course, "generate_assignment", chapter)
        hand_in(course, chapter)
        run(scripts, course, "autograde", chapter)
    run(scripts, course, "export", "--to", "grades.csv")
    rows = list(csv.DictReader((course / "grades.csv").read_text("utf-8").splitlines()))
    share = {"reference": 1.0, "half": 0.5, "empty": 0.0}
    failed = []
    print(f"{'assignment':<12}{'student':<12}{'points':>7}{'of':>5}")
    for row in sorted(rows, key=lambda row: (int(re.sub(r"\D", "", row["assignment"])), -share[row["student_id"]])):
        points, most = float(row["raw_score"]), float(row["max_score"])
        print(f"{row['assignment']:<12}{row['student_id']:<12}{points:>7.0f}{most:>5.0f}")
        failed += [row] if most == 0 or points != round(share[row["student_id"]] * most) else []
    shutil.rmtree(course)
    print(f"{len(rows) - len(failed)} of {len(rows)} as they must be")
    return int(bool(failed) or len(rows) != len(share) * len(chapters))


if __name__ == "__main__":
    sys.exit(main())
