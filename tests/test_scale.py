"""Several processes against one: the same curve, each film once, exact metrics, a killed process, a shared cache."""
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import processes
from covid_xray.augment import Augment
from covid_xray.cache import build_together, reader_share
from covid_xray.models import told_if_alone

LOSSES = ("train_loss", "valid_loss")
TREE = str(Path(processes.__file__).parent.parent)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1",
               "PYTHONPATH": os.pathsep.join([TREE, os.environ.get("PYTHONPATH", "")])}
slow = pytest.mark.skipif(os.environ.get("COVID_XRAY_SLOW") != "1", reason="`make slow-checks` runs it")


def start(job: str, world: int, folder: Path) -> subprocess.CompletedProcess:
    "A job in several processes of this machine"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(world),
               processes.__file__, job, str(folder)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


def runs(job: str, world: int, folder: Path) -> list[dict]:
    "What each process wrote; started again where processes missed each other on a busy machine"
    for _ in range(2):
        done = start(job, world, folder)
        if done.returncode == 0:
            return [json.loads((folder / f"{job}-{world}-{rank}.json").read_text()) for rank in range(world)]
    raise AssertionError(done.stderr[-3000:])


def curve(run: dict) -> np.ndarray:
    return np.array([[row[name] for name in LOSSES] for row in run["rows"]])


@pytest.fixture(scope="module")
def alone() -> dict:
    "The trainings in this process"
    return {kind: processes.train(name) for kind, name in (("group", "residual-group"), ("batch", "residual"))}


@pytest.fixture(scope="module")
def whole() -> dict:
    "Four epochs in one go, in this process"
    return processes.train("residual-group", epochs=4)


class Unplugged(Augment):
    "Ctrl-C in the third epoch"
    left = 2 * 4 + 2

    def __call__(self, images, generators):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().__call__(images, generators)

    def __repr__(self) -> str:
        return repr(Augment())


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=slow)], ids=["two", "four"])
def together(request, tmp_path_factory) -> list[dict]:
    "The same in two or four processes, and a run of one process resumed in them"
    folder = tmp_path_factory.mktemp(f"of{request.param}")
    (folder / "films").mkdir()
    for i, image in enumerate(processes.squares(11, 3).images):
        Image.fromarray(image).save(folder / "films" / f"{i:02}.png")
    (folder / "films" / "05.png").write_bytes(b"no picture")
    processes.train("residual-group", epochs=4, augment=Unplugged(), out=folder / "broken")
    return runs("all", request.param, folder)


def test_the_curve_is_that_of_one_process(alone, together):
    assert len(together) in (2, 4)
    for run in together:
        assert np.abs(curve(run["group"]) - curve(alone["group"])).max() < 2e-4
        assert run["group"]["weights"] == together[0]["group"]["weights"]


def test_batch_normalisation_changes_the_curve(alone, together):
    "Each process sees the mean and spread of its own films only; validation and weights are still one for all"
    apart = np.abs(curve(together[0]["batch"]) - curve(alone["batch"])).max()
    assert 1e-3 < apart < 1
    for run in together:
        assert run["batch"]["rows"][-1]["valid_loss"] == together[0]["batch"]["rows"][-1]["valid_loss"]
        assert run["batch"]["weights"] == together[0]["batch"]["weights"]


@pytest.mark.parametrize("kind", ["group", "batch"])
def test_every_film_is_seen_once_an_epoch(together, kind):
    epochs = [np.split(np.array(run[kind]["seen"]), 3) for run in together]  # each has as many films in every epoch
    for parts in zip(*epochs):
        assert sorted(np.concatenate(parts)) == list(range(61))
    assert max(len(parts[0]) for parts in epochs) - min(len(parts[0]) for parts in epochs) <= 4  # one a batch


def test_metrics_are_those_of_exactly_the_test_films(alone, together):
    "31 films divide neither by two nor by four"
    for part, times in (("validated", 3), ("tested", 1)):
        asked = sorted(film for run in together for film in run["group"][part])
        assert asked == sorted(list(range(31)) * times)
    for run in together:
        said = np.array(run["group"]["probabilities"])
        assert said.shape == (31, 3) and run["group"]["targets"] == (np.arange(31) % 3).tolist()
        assert np.abs(said - alone["group"]["probabilities"]).max() < 2e-3


def test_a_run_of_one_process_goes_on_in_several(together, whole):
    for run in together:
        assert np.abs(curve(run["resumed"]) - curve(whole)).max() < 2e-4 and len(run["resumed"]["rows"]) == 4


def test_each_film_is_decoded_by_one_process(together):
    decoded = [Path(path).name for run in together for path in run["decoded"]]
    assert sorted(decoded) == [f"{i:02}.png" for i in range(11)] and all(run["decoded"] for run in together)
    truth = [int(image.sum()) for i, image in enumerate(processes.squares(11, 3).images) if i != 5]
    for run in together:
        assert run["sums"] == truth and [Path(path).name for path in run["skipped"]] == ["05.png"]


def on_two_machines(job: str, folder: Path) -> list[tuple[int, str]]:
    "Two processes without torchrun between them, as on two machines: exit code and errors of each"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = ENVIRONMENT | {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_PORT": port}
    command = [sys.executable, processes.__file__, job, str(folder)]
    started = [subprocess.Popen(command, env=common | {"RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
               for rank in range(2)]
    errors = [process.communicate(timeout=300)[1] for process in started]
    return [(process.returncode, error) for process, error in zip(started, errors)]


def test_a_killed_process_ends_the_run_and_leaves_a_checkpoint(tmp_path, whole):
    "The one that is left says what to do; the run goes on in one process, and ends where four epochs in one go end"
    (code, said), (killed, _) = on_two_machines("killed", tmp_path)
    assert killed == -signal.SIGKILL and code == 1 and not list(tmp_path.glob("killed-*.json"))
    assert "ConnectionError: another process of this training is gone" in said and str(tmp_path / "killed") in said
    resumed = processes.train("residual-group", epochs=4, out=tmp_path / "killed", resume=True)
    assert np.abs(curve(resumed) - curve(whole)).max() < 2e-4 and len(resumed["rows"]) == 4


def test_the_one_that_is_left_says_what_to_do(monkeypatch):
    monkeypatch.setattr("covid_xray.models._processes", lambda: (0, 2))
    with pytest.raises(ConnectionError, match="process .*Connection closed by peer.*epoch is in run.*resume=True"):
        with told_if_alone("run"):
            raise RuntimeError("[../third_party/gloo/pair.cc:534] Connection closed by peer")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), told_if_alone("run"):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def rows_of(store: np.ndarray, rows: slice) -> dict[int, str]:
    store[:] = np.arange(rows.start, rows.stop)[:, None]
    return {0: f"from {rows.start}"}


def test_a_part_that_never_comes_is_built_by_those_who_wait(tmp_path):
    "Process 1 of 3 died, and process 2 keeps its cache elsewhere"
    for rank in (0, 2):
        values, notes = build_together(tmp_path / str(rank), "n", (10, 2), rows_of, (rank, 3), patience=0.1)
        assert values[:, 0].tolist() == list(range(10)) and notes == {0: "from 0", 3: "from 3", 6: "from 6"}
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == ["n.json", "n.npy"]


def test_more_processes_than_films(tmp_path):
    values, _ = build_together(tmp_path, "n", (2, 2), rows_of, (0, 5), patience=0.1)
    assert values[:, 0].tolist() == [0, 1]


def test_a_share_is_what_torchrun_says(monkeypatch):
    assert reader_share() == (0, 1) or "RANK" in os.environ
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    assert reader_share() == (5, 8)
    monkeypatch.setenv("COVID_XRAY_CACHE_EACH_NODE", "1")
    assert reader_share() == (1, 4)
