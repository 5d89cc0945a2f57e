"""Killed, out of room, shut out: nothing half-written is ever read as whole, and a rerun ends the same."""
from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import SafetensorError

from covid_xray import cache, models, training
from covid_xray.cache import check_writable, open_or_build, whole_file
from covid_xray.training import fit

ROOT = Path(__file__).resolve().parent.parent
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows forks no process")
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")


@needs_fork
def test_ten_kills_lose_nothing(tmp_path):
    "`make kills` does hundreds; two of each kind here"
    command = [sys.executable, str(ROOT / "tools/kills.py"), "--kills", "2", "--out", str(tmp_path / "kills.csv"),
               "--only", "download", "cache", "training", "checkpoint", "export"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    table = pd.read_csv(tmp_path / "kills.csv")
    assert len(table) == 5 and table["kills"].sum() >= 10 and not table[["lost", "wrong"]].any(axis=None)


def test_the_kept_counts_are_at_least_two_hundred_and_none_wrong():
    table = pd.read_csv(ROOT / "covid_xray/results/kills.csv")
    assert table["kills"].sum() >= 200 and not table[["lost", "wrong"]].any(axis=None)
    assert {"download", "cache", "training", "export"} <= set(table["what"])


@needs_fork
@pytest.mark.parametrize("careful", [False, True])
def test_the_killer_finds_a_writer_that_takes_no_care(careful, tmp_path):
    "Killed before it opens its file a second time, to write the other half"
    import kills

    def run(folder: Path) -> None:
        if careful:
            with whole_file(folder / "page") as partly:
                write(partly)
        else:
            write(folder / "page")

    def write(path: Path) -> None:
        for half in ("first half, ", "second half"):
            with open(path, "a", encoding="utf-8") as file:
                file.write(half)

    job = kills.Job(run, lambda folder: {path.name: kills.digest(path.read_bytes()) for path in folder.glob("[!.]*")})
    expected = {"page": kills.digest(b"first half, second half")}
    child, _ = kills.fork(job, tmp_path, operation=2)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == 9
    assert kills.half_read(job.read(tmp_path), expected) == ([] if careful else ["page"])
    if careful:
        kills.whole_run(job, tmp_path)
        assert job.read(tmp_path) == expected


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "page.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "page.txt") as partly:
        partly.write_text("ne")
        1 / 0
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
    with whole_file(tmp_path / "page.txt") as partly:
        assert partly.suffix == ".txt" and partly.parent == tmp_path and partly.name.startswith(".")
        partly.write_text("new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["new"]


def test_what_a_killed_process_left_is_swept_a_day_later(tmp_path):
    old, young, own = (tmp_path / name for name in (".partial-0123abcd-a", ".partial-0123abce-a", ".partial-of-mine"))
    for path in (old, young, own):
        path.write_text("half")
    for path in (old, own):
        os.utime(path, (time.time() - 90_000,) * 2)
    with whole_file(tmp_path / "page") as partly:
        partly.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, own.name, "page"]


def test_an_error_about_another_file_keeps_its_words(tmp_path):
    with pytest.raises(PermissionError, match="^.Errno 13. Permission denied: '/films/1.png'$"):
        with whole_file(tmp_path / "page"):
            raise PermissionError(errno.EACCES, "Permission denied", "/films/1.png")


# A full disk: the operating system's own error, from the device that is always full
# (safetensors writes elsewhere and renames, so there it is its own error as it was seen on a small disk)


@pytest.fixture
def full(monkeypatch):
    "Call with the path of a file: from then on whoever writes it writes to a full disk"
    def fill(path: Path) -> None:
        if path.suffix == ".safetensors":
            for module in (models, training):
                monkeypatch.setattr(module, "save_file", refuse)
        else:
            monkeypatch.setattr(cache.secrets, "token_hex", lambda count: "z" * 8)
            (path.parent / f".partial-{'z' * 8}-{path.name}").symlink_to("/dev/full")

    def refuse(tensors, path, **options):
        "What safetensors does on a disk of one megabyte that is to hold four"
        Path(path).write_bytes(bytes(1000))
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    return fill


def small(seed: int = 0):
    from test_training import network, squares

    return network(seed), squares(30), squares(30, 1)


class Filling:
    "No augmentation, to the checkpoint's eyes too; but the disk is full once there is a checkpoint"

    def __init__(self, path: Path, full):
        self.path, self.full = path, full

    def __repr__(self) -> str:
        return "None"

    def __call__(self, images, generators):
        if self.path.is_file():
            self.full(self.path)
        return images


@needs_full
def test_a_full_disk_in_training_keeps_the_last_checkpoint(full, monkeypatch, tmp_path):
    options = dict(epochs=3, batch_size=16, learning_rate=3e-3, progress=False)
    whole, train, valid = small()
    expected = fit(whole, train, valid, **options)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(OSError, match="the disk is full: checkpoint.safetensors was not written") as caught:
        fit(small()[0], train, valid, augment=Filling(path, full), out=tmp_path, **options)
    assert caught.value.errno == errno.ENOSPC and not list(tmp_path.glob(".partial*"))
    assert len(pd.read_csv(tmp_path / "log.csv")) == 1
    monkeypatch.undo()
    resumed = small(9)[0]
    second = fit(resumed, train, valid, out=tmp_path, resume=True, **options)
    assert second.table["valid_loss"].tolist() == expected.table["valid_loss"].tolist()
    assert all(torch.equal(a, b) for a, b in zip(resumed.state_dict().values(), whole.state_dict().values()))


@needs_full
@pytest.mark.parametrize("name", ["model.safetensors", "settings.json"])
def test_a_full_disk_leaves_the_old_model_as_it_was(name, full, tmp_path):
    from covid_xray.cnn import create_model
    from covid_xray.models import load_model, save_model

    settings = dict(model="plain", in_channels=1, classes=["a", "b", "c"], size_px=32, fit="squash")
    save_model(tmp_path, create_model("plain"), settings)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    full(tmp_path / name)
    with pytest.raises(OSError, match="the disk is full: .* was not written") as caught:
        save_model(tmp_path, create_model("plain"), settings)
    assert caught.value.filename == str(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before and load_model(tmp_path)


SMALL_DISK = """
import sys
from pathlib import Path
import numpy as np
from covid_xray.cache import check_writable, open_or_build
disk = Path(sys.argv[1])

def fill(store):
    store[:] = 7
    return {}

def told(attempt):
    try:
        attempt()
        print("no error")
    except OSError as error:
        print(type(error).__name__, error.strerror)

values, _ = open_or_build(disk, "small", (4, 100, 100), fill)
if sys.argv[2] == "full":
    told(lambda: open_or_build(disk, "large", (400, 100, 100), fill))
    (disk / "ballast").write_bytes(bytes(900_000))
    told(lambda: open_or_build(disk, "other", (12, 100, 100), fill))
else:
    import subprocess
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    told(lambda: open_or_build(disk, "other", (4, 100, 100), fill))
    told(lambda: check_writable(disk / "run"))
again, _ = open_or_build(disk, "small", (4, 100, 100), fill)
print(int(again.sum()), sorted(path.name for path in disk.iterdir() if path.name != "ballast"))
"""


@pytest.mark.parametrize("state", ["full", "read-only"])
def test_a_cache_on_a_disk_that_is_full_or_read_only(state, tmp_path):
    "A disk of one megabyte. Unless its room is taken first, filling a mapped file there ends Python with SIGBUS"
    mount = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3" "$1" "$4"'
    try:
        done = subprocess.run(["unshare", "-rm", "sh", "-c", mount, "sh", tmp_path, sys.executable, SMALL_DISK, state],
                              capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    except FileNotFoundError:
        pytest.skip("no unshare: a disk of its own can't be made here")
    if "unshare" in done.stderr or "mount" in done.stderr and not done.stdout:
        pytest.skip(f"a disk of its own can't be made here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    first, second, kept = done.stdout.splitlines()
    expected = "OSError the disk is full" if state == "full" else "PermissionError a file can't be written here"
    assert first.startswith(expected) and second.startswith(expected), done.stdout
    assert "COVID_XRAY_CACHE" in first and kept == "280000 ['small.json', 'small.npy']"


def test_room_is_asked_for_before_a_cache_is_filled(monkeypatch, tmp_path):
    "Where no disk of its own can be made: the same with a borrowed answer"
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1_000}))
    with pytest.raises(OSError, match="the disk is full: name.npy was not written"):
        open_or_build(tmp_path, "name", (10, 20, 20), lambda store: pytest.fail("it was filled"))
    assert not list(tmp_path.iterdir())


# A folder that can't be written to; tests may run as root, who is never refused, so the refusal is borrowed


@pytest.fixture
def closed(monkeypatch):
    def refuse(dir):
        raise OSError(errno.EROFS, "Read-only file system", str(dir))
    monkeypatch.setattr(cache.tempfile, "TemporaryFile", refuse)


def test_a_closed_folder_is_told_before_training(closed, tmp_path):
    model, train, valid = small()
    with pytest.raises(PermissionError, match="can't be written here: choose another folder"):
        fit(model, train, valid, epochs=1, out=tmp_path, augment=lambda *_: pytest.fail("it trained"), progress=False)


def test_a_finished_cache_is_read_from_a_closed_folder(monkeypatch, tmp_path, request):
    open_or_build(tmp_path, "sevens", (3, 2), lambda store: store.fill(7) or {0: "note"})
    request.getfixturevalue("closed")
    values, notes = open_or_build(tmp_path, "sevens", (3, 2), lambda store: pytest.fail("built again"))
    assert np.array_equal(values, np.full((3, 2), 7)) and notes == {0: "note"}
    with pytest.raises(PermissionError, match="COVID_XRAY_CACHE"):
        open_or_build(tmp_path, "others", (3, 2), lambda store: {})


def test_trying_a_folder_leaves_no_trace(tmp_path):
    assert check_writable(tmp_path / "a" / "b") == tmp_path / "a" / "b" and not list((tmp_path / "a/b").iterdir())


def test_what_a_run_folder_holds_is_neither_overwritten_nor_lost(tmp_path):
    "Killed before its first checkpoint, a run begins again; after it, only resume=True may touch it"
    from covid_xray.run import _check_run_folder

    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        _check_run_folder(tmp_path, resume=True)
    assert _check_run_folder(tmp_path, resume=False) is False
    (tmp_path / "films.csv").touch()
    assert _check_run_folder(tmp_path, resume=True) is False and _check_run_folder(tmp_path, resume=False) is False
    (tmp_path / "checkpoint.safetensors").touch()
    assert _check_run_folder(tmp_path, resume=True) is True
    with pytest.raises(FileExistsError, match="or resume it"):
        _check_run_folder(tmp_path, resume=False)
