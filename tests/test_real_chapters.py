"""The chapters that a learner may run on real films, unedited: only the environment says where films come from.

They run on a subset, a folder with a few films of each class, so that each takes seconds.
"""
from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

import run_chapters

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ("01_data", "02_augmentation", "03_cnn", "04_training")
FILMS_A_CLASS = 30


@pytest.fixture(scope="module")
def subset(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    "A root as COVID_XRAY_ROOT takes it, with the first films of every class of the DarkCovidNet set"
    root = tmp_path_factory.mktemp("real") / "darkcovidnet"
    folders = sorted(path for path in (real_data / "darkcovidnet").iterdir() if path.is_dir())
    for folder in folders:
        (root / folder.name).mkdir(parents=True)
        for film in sorted(path for path in folder.iterdir() if path.is_file())[:FILMS_A_CLASS]:
            shutil.copy(film, root / folder.name)
    return root


def test_the_subset_is_read_as_the_open_set(subset: Path) -> None:
    "Films keep what the manifest knows of them; those that are not there are left out and counted"
    from covid_xray.sources import load_table, manifest

    table, known = load_table("darkcovidnet", subset), manifest("darkcovidnet")
    assert table["label"].value_counts().to_dict() == dict.fromkeys(table.attrs["classes"], FILMS_A_CLASS)
    assert table.attrs["left_out"] == {"listed, not there": len(known) - len(table)}
    stems = known["file"].map(lambda file: Path(file).with_suffix("").as_posix())
    persons = pd.Series(known["person"].array, stems)
    found = table["path"].map(lambda path: Path(path).relative_to(subset).with_suffix("").as_posix())
    assert persons[found].tolist() == table["person"].tolist()


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_runs_on_real_films(name: str, subset: Path) -> None:
    env = {"COVID_XRAY_SOURCE": "darkcovidnet", "COVID_XRAY_ROOT": str(subset)}
    run = run_chapters.execute(ROOT / "nbs" / f"{name}.ipynb", env)
    assert not run.error, run.error
    outputs = [output for cell in run.notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    if name == "01_data":
        printed = "".join("".join(output.get("text", "")) for output in outputs)
        assert f"{3 * FILMS_A_CLASS} films in" in printed
