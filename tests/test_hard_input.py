"""Monsters through every public entry: the right answer, or an error of ours that says what is wrong and what to do."""
from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import monsters
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from covid_xray.data import Radiographs, UnreadableFilm, read_radiograph
from covid_xray.deploy import Predictor
from covid_xray.exchange import Limits, Problem
from covid_xray.guards import read_file
from covid_xray.records import table_from_csv
from covid_xray.sources import load_table
from covid_xray.splits import split_by_patient

PICTURES = monsters.pictures()
REFUSED = [name for name, (_, expected) in PICTURES.items() if isinstance(expected, str)]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="names, links and permissions of Linux")


def film(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (64, 64), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    "A folder of two classes"
    for i, label in enumerate(("covid", "normal") * 2):
        (tmp_path / label).mkdir(exist_ok=True)
        Image.fromarray(film(i)).save(tmp_path / label / f"{i}.png")
    return tmp_path


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load("phantom")


# ---- pictures ----


@pytest.mark.parametrize("name", PICTURES)
def test_a_monster_is_read_or_refused_with_its_path_and_reason(name: str, tmp_path: Path) -> None:
    content, expected = PICTURES[name]
    path = tmp_path / "film.jpg"  # whatever it is: content is believed, endings are not
    path.write_bytes(content)
    if not isinstance(expected, str):
        assert read_radiograph(path).shape == expected
        return
    with pytest.raises(UnreadableFilm, match=expected) as caught:
        read_radiograph(path)
    assert caught.value.path == str(path)


def test_what_is_read_is_the_film() -> None:
    "Interlaced, with a profile, with alpha, in 16 bits: the same greys"
    plain = monsters.GREY
    stretched = np.round((plain.astype(float) - plain.min()) * 255 / (plain.max() - plain.min()))
    for name in ("interlaced", "ICC profile", "grey with alpha"):
        assert np.array_equal(read_radiograph(PICTURES[name][0]), plain), name
    for name in ("16 bits", "16 bits, TIFF"):
        assert np.abs(read_radiograph(PICTURES[name][0]) - stretched).max() <= 1, name
    turned = read_radiograph(PICTURES["turned by EXIF"][0])
    assert np.abs(turned.astype(int) - np.rot90(plain, -1)).mean() < 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_cut_at_every_kilobyte_it_is_refused(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (150, 150), dtype=np.uint8)
    whole = monsters.saved(noise, kind)
    for length in range(0, len(whole) - 64, 1024):
        with pytest.raises(UnreadableFilm):
            read_radiograph(whole[:length])


def test_collections_and_predictors_set_monsters_aside_and_go_on(tmp_path: Path, predictor: Predictor) -> None:
    for i, (content, _) in enumerate(PICTURES.values()):
        (tmp_path / f"{i:02d}.png").write_bytes(content)
    paths = sorted(map(str, tmp_path.glob("*.png")))
    films = Radiographs(pd.DataFrame({"path": paths, "label": "covid"}), 32, progress=False)
    told = dict(zip(films.skipped["path"], films.skipped["reason"]))
    results = predictor.predict(paths)
    for path, (name, (_, expected)), result in zip(paths, PICTURES.items(), results):
        unreadable = [flag.why for flag in result.flags if flag.name == "unreadable"]
        assert (path in told) == bool(unreadable) == isinstance(expected, str), name
        if unreadable:
            assert expected in told[path] and expected in unreadable[0] and result.refused, name


@pytest.mark.parametrize("name", REFUSED)
def test_the_app_answers_with_a_sentence(name: str, predictor: Predictor) -> None:
    pytest.importorskip("ipywidgets")
    from covid_xray.explore.app import look

    with pytest.raises(Problem) as caught:
        look(predictor, PICTURES[name][0])
    assert 400 <= caught.value.status < 500 and len(str(caught.value)) > 10


def test_the_service_answers_each_monster_and_stays_up(predictor: Predictor) -> None:
    pytest.importorskip("fastapi")
    import requests

    from covid_xray.service import create_app, running

    with running(create_app(predictor, limits=Limits())) as address:
        for name in REFUSED:
            answer = requests.post(f"{address}/predict", data=PICTURES[name][0], timeout=30)
            assert 400 <= answer.status_code < 500 and "Traceback" not in answer.text and answer.json()["detail"], name
        assert requests.get(f"{address}/health", timeout=30).json()["in_hand"] == 0


# ---- names, links, permissions ----


@on_linux
def test_every_name_is_read_written_and_found_again(folder: Path) -> None:
    for i, name in enumerate(monsters.NAMES):
        Image.fromarray(film(10 + i)).save(folder / "covid" / name, "PNG")
    table = load_table(folder)
    found = {Path(path).name for path in table["path"]}
    assert found >= set(monsters.NAMES) - {"..png"}  # a leading dot hides a file
    table.to_csv(folder / "table.csv", index=False)
    again = load_table(folder / "table.csv")
    assert list(again["path"]) == list(table["path"])
    assert len(Radiographs(again, 32, folder / "cache", progress=False)) == len(table)


@on_linux
def test_what_is_no_film_is_counted_and_the_rest_goes_on(folder: Path) -> None:
    os.mkfifo(folder / "covid" / "pipe.png")
    os.symlink("loop.png", folder / "covid" / "loop.png")
    os.symlink("gone.png", folder / "covid" / "gone.png")
    os.symlink(folder, folder / "covid" / "round")
    with open(os.path.join(os.fsencode(folder), b"covid", monsters.LATIN), "wb") as file:
        file.write(b"x")
    table = load_table(folder)
    assert len(table) == 4
    assert table.attrs["left_out"] == {"broken links, pipes and the like": 3, "names that are not UTF-8": 1}


@on_linux
def test_pipes_devices_and_loops_are_never_waited_for(tmp_path: Path, predictor: Predictor) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.symlink("loop", tmp_path / "loop")
    for path, reason in ((tmp_path / "pipe", "pipe"), (Path("/dev/zero"), "pipe"), (tmp_path, "folder"),
                         (tmp_path / "loop", "symbolic")):
        with pytest.raises(UnreadableFilm, match=reason):
            read_radiograph(path)
        assert predictor.predict(path).refused
    with pytest.raises(ValueError, match="neither a folder nor a file"):
        load_table(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe"):
        read_file(tmp_path / "pipe")


@on_linux
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to become somebody else")
def test_what_may_not_be_opened_is_counted(folder: Path) -> None:
    "As nobody: root may open everything"
    import tempfile

    for parent in [folder, *folder.parents]:
        if parent != Path(tempfile.gettempdir()) and str(parent).startswith(tempfile.gettempdir()):
            os.chmod(parent, 0o755)
    os.chmod(folder / "covid" / "0.png", 0)
    os.mkdir(folder / "closed", 0)
    reader = folder / "reader.py"
    reader.write_text("import os, sys; sys.path[:0] = sys.argv[2].split(os.pathsep); import covid_xray.sources as s\n"
                      "os.setuid(65534); table = s.load_table(sys.argv[1]); print(len(table), table.attrs['left_out'])")
    done = subprocess.run([sys.executable, reader, folder, os.pathsep.join(p for p in sys.path if p)],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 ") and "files that can't be opened\": 1" in done.stdout
    assert "folders that can't be opened\": 1" in done.stdout


@pytest.mark.parametrize("source", ["a" * 5000, "a\0b", "~nobody-of-this-name/x", "", " ", "phantom:1", "http://x"])
def test_sources_that_are_none(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if not source:
        assert len(load_table(source)) > 0  # nothing said: the phantom hospital
        return
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load_table(source)
    assert len(str(caught.value)) > 30


# ---- tables ----


@pytest.mark.parametrize("name", monsters.TABLES)
def test_a_table_is_read_right_or_refused_by_place(name: str, tmp_path: Path) -> None:
    text, expected = monsters.TABLES[name]
    for i in range(3):
        Image.fromarray(film(i)).save(tmp_path / f"{i}.png")
    (tmp_path / "t.csv").write_bytes(text.format("0.png", "1.png", "2.png").encode())
    if isinstance(expected, list):
        table = table_from_csv(tmp_path / "t.csv")
        assert table["label"].tolist() == expected
        assert [Path(path).name for path in table["path"]] == [f"{i}.png" for i in range(len(expected))]
        return
    with pytest.raises(ValueError, match=expected):
        table_from_csv(tmp_path / "t.csv")


def test_a_patient_in_two_labels_stays_in_one_part() -> None:
    rows = [{"path": f"phantom:{i}", "label": ("covid", "normal")[i % 2], "patient": f"P{i // 2}"} for i in range(60)]
    from covid_xray.records import record_table

    parts = split_by_patient(record_table(rows))
    assert (parts.groupby("patient")["split"].nunique() == 1).all()


def test_collections_say_what_they_need() -> None:
    table = pd.DataFrame({"path": ["a.png"], "label": ["covid"]})
    for change, reason in ((dict(table=table.drop(columns="label")), "column label"), (dict(size_px=0), "size_px=0"),
                           (dict(size_px=10**6), "4096"), (dict(classes=("covid", "covid")), "different"),
                           (dict(classes=("../covid",)), "slashes"), (dict(table=table.head(0)), "none of the 0")):
        with pytest.raises(ValueError, match=reason):
            Radiographs(**{"table": table, "size_px": 32, "progress": False, **change})


# ---- the command line ----


def command(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "covid_xray", *map(str, words)], capture_output=True, text=True,
                          timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})


@on_linux
def test_the_command_line_names_each_monster(folder: Path) -> None:
    names = {name: folder / f"{i}.png" for i, name in enumerate(REFUSED)}
    for name, path in names.items():
        path.write_bytes(PICTURES[name][0])
    odd = folder / "a\nline\x1b[31m.png"
    odd.write_bytes(b"x")
    done = command("predict", "phantom", *names.values(), odd)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "\x1b" not in done.stdout + done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("set aside: ")]
    assert len(told) == len(names) + 1 and any("a\\nline\\x1b[31m.png" in line for line in told)
    done = command("prepare", folder, "--out", folder / "out", "--size", 32, "--classes", "covid")
    assert done.returncode == 0, done.stderr
    (folder / "t.csv").write_text("path,label\ncovid/0.png,covid\n")
    for words in (("train", "--source", folder / "t.csv", "--out", folder / "run"),
                  ("prepare", folder / "absent.csv", "--out", folder / "out2")):
        done = command(*words)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert [line for line in done.stderr.splitlines() if line.startswith("covid-xray: ")], done.stderr


def test_nothing_of_a_monster_reaches_the_log(predictor: Predictor, caplog: pytest.LogCaptureFixture) -> None:
    "What decoders say may quote a name"
    pytest.importorskip("ipywidgets")
    from covid_xray.dicom import film_as_dicom, to_bytes
    from covid_xray.explore.app import look

    content = to_bytes(film_as_dicom(monsters.GREY, PatientName="Doe^Jane", PatientID="4711"))
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for length in range(200, len(content), 300):
            try:
                look(predictor, content[:length])
            except Problem as problem:
                assert "Doe" not in str(problem) and "4711" not in str(problem)
    words = caplog.text + " ".join(str(warning.message) for warning in said)
    assert "Doe" not in words and "4711" not in words
