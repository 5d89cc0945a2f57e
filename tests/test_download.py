"""The download against a server of our own that cuts, refuses, lies and stalls: nothing half is ever taken for whole.

Always on made-up files; the last tests serve the real originals in upstream's layout where COVID_XRAY_DATA is set.
"""
from __future__ import annotations

import errno
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from covid_xray import download as module
from covid_xray.download import download, fetch_file, fetch_files, file_address
from covid_xray.sources import SOURCES, load_table, manifest

REPOSITORY, COMMIT = SOURCES["hannover"].address, SOURCES["hannover"].commit
ROOT = Path(__file__).resolve().parent.parent


class Server(http.server.ThreadingHTTPServer):
    "Serves `files` (path -> bytes); `faults` (path -> list of words) are used up one a request; counts requests"
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.requests = {}, {}, Counter()
        self.base = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        "A client that hangs up is part of the tests"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        "Say nothing"

    def do_GET(self):
        path = unquote(self.path).lstrip("/")
        self.server.requests[path] += 1
        content = self.server.files.get(path)
        faults = self.server.faults.get(path, [])
        fault = faults.pop(0) if faults else None
        if content is None or fault in ("404", "503"):
            self.send_error(int(fault or 404))
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "slow":
            time.sleep(0.3)
        self.wfile.write({"cut": content[:len(content) // 2], "lie": content[::-1]}.get(fault, content))


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(module, "_WAITS", (0.01, 0.02, 0.03))


@pytest.fixture
def made_set(server, monkeypatch, tmp_path) -> pd.DataFrame:
    "Twelve made-up films served in the layout of `hannover`, whose facts they replace"
    rows = []
    for number in range(12):
        content = (b"\x89PNG" + bytes([number])) * 40_000
        path = f"png/film {number}.png"
        server.files[f"{REPOSITORY}/{COMMIT}/{path}"] = content
        rows.append(dict(file=f"images/film {number}.png", repository=REPOSITORY, commit=COMMIT, path=path,
                         sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)))
    facts = pd.DataFrame(rows)
    facts.to_csv(tmp_path / "facts.csv", index=False)
    monkeypatch.setattr(module, "manifest", lambda name: facts.copy())
    return facts


def key(number: int) -> str:
    return f"{REPOSITORY}/{COMMIT}/png/film {number}.png"


def whole(folder: Path, facts: pd.DataFrame) -> int:
    "Number of films that are whole; asserts that there is nothing else but the list of what was set aside"
    count = 0
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "set_aside.csv":
            row = facts.set_index("file").loc[path.relative_to(folder).as_posix()]
            assert hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"], f"{path} is not whole"
            count += 1
    assert not list(folder.rglob(".incoming-*"))
    return count


def get(server, folder, **options) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return download("hannover", folder, progress=False, address=server.base, **options)


def test_all_films_arrive_whole_and_are_not_fetched_again(server, made_set, tmp_path):
    assert get(server, tmp_path / "set") == tmp_path / "set"
    assert whole(tmp_path / "set", made_set) == 12 and set(server.requests.values()) == {1}
    get(server, tmp_path / "set")
    assert sum(server.requests.values()) == 12


def test_progress_bar_shows_bytes(server, made_set, tmp_path, capsys):
    download("hannover", tmp_path / "set", address=server.base)
    assert "2.40M" in capsys.readouterr().err


def test_connection_cut_midway_is_tried_again(server, made_set, tmp_path):
    server.faults[key(3)] = ["cut", "cut"]
    get(server, tmp_path / "set")
    assert whole(tmp_path / "set", made_set) == 12 and server.requests[key(3)] == 3


def test_busy_server_then_success(server, made_set, tmp_path):
    server.faults[key(5)] = ["503", "503", "503"]
    get(server, tmp_path / "set")
    assert whole(tmp_path / "set", made_set) == 12 and server.requests[key(5)] == 4


@pytest.mark.parametrize(("fault", "attempts", "reason"), [
    ("cut", 4, "connection cut in each of 4 attempts"), ("503", 4, "the server answers 503"),
    ("404", 1, "the server answers 404"), ("lie", 1, "checksum differs"),
])
def test_what_cannot_be_had_is_set_aside_and_the_rest_goes_on(server, made_set, tmp_path, fault, attempts, reason):
    server.faults[key(7)] = [fault] * 9
    with pytest.warns(UserWarning, match=f"1 of 12 files set aside .1 file: {reason}"):
        download("hannover", tmp_path / "set", progress=False, address=server.base)
    assert whole(tmp_path / "set", made_set) == 11 and server.requests[key(7)] == attempts
    listing = pd.read_csv(tmp_path / "set/set_aside.csv")
    assert listing["file"].tolist() == ["images/film 7.png"] and reason in listing["reason"][0]
    server.faults.clear()
    get(server, tmp_path / "set")
    assert whole(tmp_path / "set", made_set) == 12 and not (tmp_path / "set/set_aside.csv").exists()


def test_nothing_at_all_to_be_had_raises(server, made_set, tmp_path):
    server.files.clear()
    with pytest.raises(FileNotFoundError, match="none of the 12 files could be had .12 files: the server answers 404"):
        get(server, tmp_path / "set")


def test_a_damaged_or_half_local_file_is_replaced(server, made_set, tmp_path):
    half = tmp_path / "set/images/film 2.png"
    half.parent.mkdir(parents=True)
    half.write_bytes(server.files[key(2)][:1000])
    get(server, tmp_path / "set")
    assert whole(tmp_path / "set", made_set) == 12


def test_failed_replacement_leaves_the_local_file_as_it_was(server, made_set, tmp_path):
    own = tmp_path / "set/images/film 2.png"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    server.faults[key(2)] = ["404"]
    with pytest.warns(UserWarning, match="1 of 12"):
        download("hannover", tmp_path / "set", progress=False, address=server.base)
    assert own.read_bytes() == b"mine"


def full_after(limit: int):
    "An `open` whose files refuse to grow beyond a limit, as a full disk does"
    class Full:
        def __init__(self, *args):
            self.file, self.left = open(*args), limit

        def write(self, chunk):
            self.left -= len(chunk)
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(chunk)

        def __getattr__(self, name):
            return getattr(self.file, name)
    return Full


def test_full_disk_stops_with_a_clear_word_and_leaves_nothing_half(server, made_set, tmp_path, monkeypatch):
    import pooch.downloaders

    get_first = made_set.iloc[:4]
    monkeypatch.setattr(module, "manifest", lambda name: get_first.copy())
    get(server, tmp_path / "set")
    monkeypatch.setattr(module, "manifest", lambda name: made_set.copy())
    with monkeypatch.context() as patch:
        patch.setattr(pooch.downloaders, "open", full_after(100_000), raising=False)
        with pytest.raises(OSError, match="the disk is full; the files that are whole stay") as error:
            get(server, tmp_path / "set")
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(tmp_path / "set")
    assert whole(tmp_path / "set", made_set) == 4
    get(server, tmp_path / "set")
    assert whole(tmp_path / "set", made_set) == 12


def test_too_little_room_is_said_before_anything_is_fetched(server, made_set, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1_000_000}))
    with pytest.raises(OSError, match="2 MB are to come, 1 MB are free"):
        get(server, tmp_path / "set")
    assert not server.requests


def test_offline_names_the_manual_route_and_gives_up(made_set, tmp_path):
    with Server() as closed:
        base = closed.base
    with pytest.raises(ConnectionError) as error:
        download("hannover", tmp_path / "set", progress=False, address=base)
    for word in ("hannover", "online", "By hand", f"{REPOSITORY}/archive/{COMMIT}.zip", str(tmp_path / "set")):
        assert word in str(error.value)
    assert whole(tmp_path / "set", made_set) == 0


PROGRAM = """
import sys, pandas as pd
from covid_xray import download as module
facts = pd.read_csv(sys.argv[1])
module.manifest = lambda name: facts.copy()
module.download("hannover", sys.argv[2], progress=False, address=sys.argv[3])
"""


def start(tmp_path: Path, server: Server) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-W", "error::UserWarning", "-c", PROGRAM, str(tmp_path / "facts.csv"),
                             str(tmp_path / "set"), server.base], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once_both_end_well(server, made_set, tmp_path):
    server.faults.update({key(number): ["slow", "slow"] for number in range(12)})
    both = [start(tmp_path, server) for _ in range(2)]
    results = [(process.communicate(timeout=120)[1], process.returncode) for process in both]
    assert [code for _, code in results] == [0, 0], results
    assert whole(tmp_path / "set", made_set) == 12


def test_killed_then_resumed_fetches_only_what_is_missing(server, made_set, tmp_path):
    stuck = {key(number): ["slow"] * 200 for number in range(6, 12)}
    server.faults.update(stuck)
    process = start(tmp_path, server)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "set/images").glob("film*.png"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    for leftover in (tmp_path / "set").rglob(".incoming-*"):
        os.utime(leftover, (0, 0))  # as if an hour had passed
    there = {path.name for path in (tmp_path / "set").rglob("film*.png")}
    assert 3 <= len(there) < 12
    server.faults.clear()
    before = Counter(server.requests)
    get(server, tmp_path / "set")
    assert whole(tmp_path / "set", made_set) == 12
    fetched = {Path(path).name for path in (server.requests - before)}
    assert not there & fetched


def test_interrupt_stops_soon_and_keeps_what_is_whole(server, made_set, tmp_path, monkeypatch):
    server.faults.update({key(number): ["slow"] for number in range(1, 12)})

    def interrupt(jobs):
        next(iter(jobs)).result()
        raise KeyboardInterrupt
    monkeypatch.setattr(module, "as_completed", interrupt)
    with pytest.raises(KeyboardInterrupt):
        get(server, tmp_path / "set")
    assert 1 <= whole(tmp_path / "set", made_set) < 12  # those not begun are not begun any more


def test_leftovers_of_another_running_download_are_not_swept(server, made_set, tmp_path):
    young, old = tmp_path / "set/images/.incoming-young", tmp_path / "set/.incoming-old"
    for folder in (young, old):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    get(server, tmp_path / "set")
    assert young.is_dir() and not old.exists()


# Addresses

def test_address_is_repository_commit_and_quoted_path():
    address = file_address("a/b", "c0ffee", "X-Ray Image DataSet/Covid-19/x #1.png")
    assert address == "https://raw.githubusercontent.com/a/b/c0ffee/X-Ray%20Image%20DataSet/Covid-19/x%20%231.png"


@pytest.mark.parametrize("base", ["http://example.org", "ftp://example.org", "http://127.0.0.1.example.org", "raw"])
def test_only_safe_addresses(base, tmp_path):
    with pytest.raises(ValueError, match="https://"):
        file_address("a/b", "c", "d", base)
    with pytest.raises(ValueError, match="https://"):
        download("hannover", tmp_path, progress=False, address=base)


def test_every_address_of_the_open_sets_is_repository_commit_path():
    for name in ("darkcovidnet", "cohen", "hannover", "raikokte"):
        facts = manifest(name)
        addresses = [file_address(r.repository, r.commit, r.path) for r in facts.itertuples()]
        assert len(set(addresses)) == len(facts)
        assert all(a.startswith("https://raw.githubusercontent.com/") and " " not in a for a in addresses)
        assert facts["commit"].str.fullmatch("[0-9a-f]{40}").all()


def test_a_folder_may_stand_for_the_server(made_set, server, tmp_path):
    for path, content in server.files.items():
        (tmp_path / "copy" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / path).write_bytes(content)
    (tmp_path / "copy" / key(1)).unlink()
    with pytest.warns(UserWarning, match="1 file: no such file"):
        download("hannover", tmp_path / "set", progress=False, address=(tmp_path / "copy").as_uri())
    assert whole(tmp_path / "set", made_set) == 11 and not server.requests


def test_what_cannot_be_fetched_says_so(tmp_path):
    for name in ("phantom", "folder", "nonsense"):
        with pytest.raises(ValueError, match="give one of darkcovidnet, cohen, hannover, raikokte, radiography"):
            download(name, tmp_path)
    with pytest.raises(ValueError, match="mirror=True is for raikokte only"):
        download("radiography", tmp_path, mirror=True)


def test_one_file_wrong_checksum_leaves_nothing(server, tmp_path):
    server.files["a/b/c/x.png"] = b"film"
    with pytest.raises(ValueError, match="checksum differs"):
        fetch_file(f"{server.base}/a/b/c/x.png", tmp_path / "x.png", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_any_other_fault_is_not_hidden(server, made_set, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/images").write_text("a file where a folder is needed")
    with pytest.raises(OSError):
        get(server, tmp_path / "set")


def test_fetch_files_of_ones_own(server, tmp_path):
    server.files["x"] = b"film"
    files = pd.DataFrame([dict(address=f"{server.base}/x", target=str(tmp_path / "deep/x"), bytes=4,
                               sha256=hashlib.sha256(b"film").hexdigest())])
    assert fetch_files(files, tmp_path, progress=False) == {} and (tmp_path / "deep/x").read_bytes() == b"film"


# From the download to the record table

def test_load_table_finds_what_download_fetched(server, tmp_path, monkeypatch):
    facts = manifest("hannover")
    content = {row.file: row.file.encode() * 50 for row in facts.head(6).itertuples()}
    for row in facts.head(6).itertuples():
        server.files[f"{row.repository}/{row.commit}/{row.path}"] = content[row.file]
    sums = {file: hashlib.sha256(text).hexdigest() for file, text in content.items()}
    made = facts.head(6).assign(sha256=lambda t: t["file"].map(sums).astype("string"))
    made["bytes"] = made["file"].map(lambda file: len(content[file])).astype("Int64")
    for place in ("covid_xray.download.manifest", "covid_xray.sources.manifest"):
        monkeypatch.setattr(place, lambda name: made.copy())
    monkeypatch.setenv("COVID_XRAY_ROOT", str(tmp_path))
    assert download("hannover", progress=False, address=server.base) == tmp_path / "hannover"
    table = load_table("hannover")
    assert len(table) == 6 and table.attrs["reduced_copies"] == 0 and table.attrs["left_out"] == {}
    assert (tmp_path / "hannover/images").is_dir() and len(load_table("hannover", tmp_path)) == 6


# Kaggle

@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    "kagglehub's function replaced: it hands out a small folder in the layout of `radiography`"
    kagglehub = pytest.importorskip("kagglehub")
    files, asked = tmp_path / "kagglehub/versions/5", []
    for label in ("COVID", "Normal", "Viral Pneumonia", "Lung_Opacity"):
        for kind in ("images", "masks"):
            path = files / "COVID-19_Radiography_Dataset" / label / kind / f"{label}-1.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(f"{label} {kind}".encode())
    monkeypatch.setattr(kagglehub, "dataset_download", lambda handle: asked.append(handle) or str(files))
    return files, asked


def test_kaggle_sums_are_recorded_at_first_use_and_checked_afterwards(kaggle, tmp_path):
    files, asked = kaggle
    with pytest.warns(UserWarning, match="another version of the set"):
        assert download("radiography", tmp_path / "set", progress=False) == files
    note = json.loads((tmp_path / "set/kaggle.json").read_text(encoding="utf-8"))
    assert asked == ["tawsifurrahman/covid19-radiography-database"] and len(note["sums"]) == 4
    film = files / "COVID-19_Radiography_Dataset/COVID/images/COVID-1.png"
    assert note["sums"][film.relative_to(files).as_posix()] == hashlib.sha256(film.read_bytes()).hexdigest()
    with pytest.warns(UserWarning):
        download("radiography", tmp_path / "set", progress=False)
    assert len(asked) == 1
    film.write_bytes(b"another film")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="1 films are gone or changed.*COVID-1.png"):
        download("radiography", tmp_path / "set", progress=False)


def test_kaggle_counts_and_structure(kaggle, tmp_path, monkeypatch):
    files, _ = kaggle
    monkeypatch.setitem(module._KAGGLE_COUNTS, "radiography", dict(covid=1, normal=1, pneumonia=1, lung_opacity=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        download("radiography", tmp_path / "set", progress=False)
    (files / "COVID-19_Radiography_Dataset/Normal/images/Normal-1.png").unlink()
    with pytest.raises(ValueError, match="no films of normal"):
        download("radiography", tmp_path / "other", progress=False)
    assert not (tmp_path / "other/kaggle.json").exists()


def test_load_table_finds_what_kaggle_keeps_elsewhere(kaggle, tmp_path):
    with pytest.warns(UserWarning, match="another version"):
        assert download("radiography", tmp_path / "data/radiography", progress=False) == kaggle[0]
    table = load_table("radiography", tmp_path / "data")
    assert sorted(table["label"]) == ["covid", "normal", "pneumonia"] and not table["path"].str.contains("masks").any()


def test_kaggle_offline_or_not_installed(tmp_path, monkeypatch):
    kagglehub = pytest.importorskip("kagglehub")

    def refuse(handle):
        raise OSError("no route to host")
    monkeypatch.setattr(kagglehub, "dataset_download", refuse)
    with pytest.raises(ConnectionError, match="did not deliver.*no route.*By hand.*kaggle.com/datasets/tawsifurrahman"):
        download("radiography", tmp_path / "set")
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(ImportError, match=r"covid_xray\[course\]"):
        download("radiography", tmp_path / "set")


def test_known_counts_are_those_of_the_registry():
    assert sum(module._KAGGLE_COUNTS["radiography"].values()) == SOURCES["radiography"].images == 21165
    assert sum(module._KAGGLE_COUNTS["raikokte"].values()) == 317


# Real originals

def test_real_originals_through_the_download(real_data, server, tmp_path):
    facts = manifest("darkcovidnet").set_index("file")
    originals = sorted(path for path in (real_data / "originals").glob("*/*") if path.is_file())
    for path in originals:
        row = facts.loc[path.relative_to(real_data / "originals").as_posix()]
        server.files[f"{row['repository']}/{row['commit']}/{row['path']}"] = path.read_bytes()
    with pytest.warns(UserWarning, match="1101 of 1125 files set aside .1101 files: the server answers 404"):
        folder = download("darkcovidnet", tmp_path / "darkcovidnet", progress=False, address=server.base)
    table = load_table("darkcovidnet", tmp_path)
    assert len(table) == len(originals) == 24 and table.attrs["reduced_copies"] == 0
    for line in (real_data / "originals/SHA256SUMS").read_text().splitlines():
        value, name = line.split(maxsplit=1)
        assert hashlib.sha256((folder / name.lstrip("*")).read_bytes()).hexdigest() == value
