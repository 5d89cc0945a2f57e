"""What the chapters themselves need: claims held by assertions, figures with alt text, and a copy of the chapters."""
from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EDITIONS", "chapters_folder", "claim", "copy_course", "show"]

EDITIONS = {  # of the course, and what each is for
    "learner": "everything, the exercises as stubs",
    "student": "chapters and guides, without the solutions",
    "instructor": "everything, every exercise filled in",
    "nbgrader": "assignments that nbgrader hands out and grades",
}


def claim(
    value: float,  # what this run measured
    low: float,  # lowest value for which the sentence still holds
    high: float,  # highest value for which the sentence still holds
    *,
    says: str,  # the sentence of the text, in short
) -> None:
    """Hold a sentence of the text against what this run measured.

    Raises AssertionError under test (`IN_TEST` set) on the embedded data. For a reader with another source, machine
    or version it prints the difference and goes on.
    """
    if low <= value <= high:
        return
    message = f"The text says: {says} ({low:.4g} to {high:.4g}); you got {value:.4g}."
    if os.environ.get("IN_TEST") and os.environ.get("COVID_XRAY_SOURCE", "phantom") == "phantom":
        raise AssertionError(message)
    print(message)


def show(
    figure: Figure,  # the figure to display; it is closed afterwards
    alt: str,  # what is seen and what it means, for readers who do not see it
) -> None:
    """Display a figure in the notebook with its alternative text in the output's metadata.

    Raises ValueError where the text is too short to say anything.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    if len(alt.split()) < 8:
        raise ValueError(f"alt text of {len(alt.split())} words: describe what is seen and what it means")
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def chapters_folder() -> Path:  # the folder that holds the chapters as installed
    """Find the chapters: inside an installed wheel, or in `nbs/` of a checkout.

    Raises FileNotFoundError where neither is there.
    """
    package = Path(__file__).parent
    for folder in (package / "chapters", package.parent / "nbs"):
        if (folder / "01_data.ipynb").is_file():
            return folder
    raise FileNotFoundError("no chapters in this installation: pip install --force-reinstall covid_xray")


def _as_met(notebook: dict) -> bytes:
    "The notebook as a learner first meets it: every output removed"
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode()


def _edition(edition: str) -> dict[str, bytes]:
    "Name and content of each notebook of an edition, and of the pictures that they show"
    from covid_xray.exercises import handout

    source, hidden = chapters_folder(), {"_proc", ".ipynb_checkpoints"}
    paths = sorted(p for p in source.rglob("*.ipynb") if not hidden & set(p.parts))
    found = {p.relative_to(source).as_posix(): json.loads(p.read_text(encoding="utf-8")) for p in paths}
    exercised = {name.rpartition("/")[2]: found[name] for name in found if name.startswith("solutions/")}
    if edition == "nbgrader":
        numbers = {name: name.partition("_")[0].lstrip("0") for name in exercised}  # 01b_contrast.ipynb: 1b
        found = {f"source/chapter{n}/exercises.ipynb": handout.assignment(found[name], exercised[name], n)
                 for name, n in numbers.items()}
    elif edition == "instructor":
        found |= {name: handout.with_solutions(found[name], exercised[name]) for name in exercised}
    elif edition == "student":
        found = {name: handout.for_students(notebook) for name, notebook in found.items()
                 if not name.startswith(("instructor/", "solutions/"))}
    pictures = {} if edition == "nbgrader" else {
        p.relative_to(source).as_posix(): p.read_bytes() for p in source.rglob("*.png") if not hidden & set(p.parts)}
    return {name: _as_met(notebook) for name, notebook in found.items()} | pictures


def copy_course(
    folder: str | Path,  # where the chapters go; made if it is not there
    edition: str = "learner",  # one of EDITIONS
) -> dict[str, list[str]]:  # names of the notebooks under "copied", "unchanged" and "kept" (changed by you, left alone)
    """Copy the chapters into a folder of the reader's own, and never overwrite a changed file.

    A file `.course.json` remembers what was copied, so that a chapter you have not touched is brought up to date by
    a newer version while one that you have changed stays as you left it.

    Raises ValueError for an unknown edition, and where the folder holds another edition.
    """
    if edition not in EDITIONS:
        raise ValueError(f"there is no edition {edition!r}: choose one of {', '.join(EDITIONS)}")
    folder = Path(folder)
    record_path = folder / ".course.json"
    record = json.loads(record_path.read_text(encoding="utf-8")) if record_path.is_file() else {}
    present_edition = record.setdefault("edition", "learner" if record else edition)
    if present_edition != edition:
        raise ValueError(f"{folder} holds the {present_edition} edition: put the {edition} edition into another folder")
    result: dict[str, list[str]] = {"copied": [], "unchanged": [], "kept": []}
    for name, content in _edition(edition).items():
        target = folder / name
        present = hashlib.sha256(target.read_bytes()).hexdigest() if target.is_file() else None
        fresh = hashlib.sha256(content).hexdigest()
        if present == fresh:
            result["unchanged"].append(name)
        elif present is None or present == record.get(name):
            _replace(target, content)
            result["copied"].append(name)
        else:
            result["kept"].append(name)
            continue
        record[name] = fresh
    _replace(record_path, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
    return result


def _replace(path: Path, content: bytes) -> None:
    "Write a file whole or not at all"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    shutil.move(partial, path)
