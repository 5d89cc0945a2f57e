"""The same seed gives the same bytes, whatever language, time zone, hash seed and folder a program runs in."""
from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from covid_xray.sources import load_table

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import hashlib, json, sys
from pathlib import Path
import torch
torch.set_num_threads(int(sys.argv[3]))
from covid_xray.run import predict_files, train_run
films, out = Path(sys.argv[1]), Path(sys.argv[2])
train_run(out, source=str(films), model="plain", size_px=32, epochs=2, seed=3, progress=False)
said, aside = predict_files(out, sorted(films.rglob("*.png")))
said.to_csv(out / "said.csv", index=False, errors="surrogateescape")
"""
ALIKE = ("model.safetensors", "films.csv", "set_aside.csv", "predictions_test.csv", "metrics_test.csv",
         "metrics_test.md", "said.csv", "figures/gradcam_test.png")


@pytest.fixture
def films(tmp_path) -> Path:
    "Class folders of 60 small films (an ASCII locale can't read names beyond ASCII: such files are set aside there)"
    root, rng = tmp_path / "films", np.random.default_rng(0)
    for i in range(60):
        label = ("covid", "normal", "pneumonia")[i % 3]
        image = rng.integers(0, 90, (40, 40), dtype=np.uint8)
        image[5 * (i % 3) + 8:, 10:30] += 60
        (root / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / label / f"film {i}.png")
    return root


def run(films: Path, out: Path, threads: int = 1, cwd: Path = ROOT, **environment: str) -> dict[str, str]:
    "Train and predict in a process of its own; the digest of each file that must be alike"
    own = {"PYTHONPATH": str(ROOT), "COVID_XRAY_CACHE": str(out / "cache"), "MPLBACKEND": "agg", **environment}
    command = [sys.executable, "-c", PROGRAM, str(films), str(out / "run"), str(threads)]
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **own}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-2000:]
    return {name: hashlib.sha256((out / "run" / name).read_bytes()).hexdigest() for name in ALIKE}


def test_surroundings_do_not_matter(films, tmp_path):
    "One run at home, one in an ASCII locale, in another time zone and folder, with another order of hashes"
    (tmp_path / "elsewhere").mkdir()
    abroad = dict(LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0", TZ="Asia/Kathmandu", PYTHONHASHSEED="4242")
    home = run(films, tmp_path / "home", PYTHONHASHSEED="0")
    assert run(films, tmp_path / "abroad", cwd=tmp_path / "elsewhere", **abroad) == home


# Paths as Windows writes them, in a table that travelled


def test_backslashes_in_a_table_name_the_same_films(films, tmp_path):
    names = sorted(path.relative_to(films) for path in films.rglob("*.png"))
    for separator, end in (("/", "\n"), ("\\", "\r\n")):
        rows = [f"{separator.join(name.parts)},{name.parts[0]}" for name in names]
        (films / "table.csv").write_bytes(("path,label" + end + end.join(rows) + end).encode("utf-8"))
        table = load_table(films / "table.csv")
        assert sorted(table["path"]) == sorted(str(films / name) for name in names) and not table.attrs["left_out"]


@pytest.mark.skipif(os.name == "nt", reason="there the drive may be a real one")
def test_a_drive_of_another_computer_is_named_and_counted(films):
    some = sorted(films.glob("*/film *.png"))
    rows = [f"{path.relative_to(films)},{path.parent.name}" for path in some]
    away = "D:\\study\\film 1.png,normal"
    (films / "table.csv").write_text("\n".join(["path,label", *rows, away]), encoding="utf-8")
    table = load_table(films / "table.csv")
    assert len(table) == len(some) and table.attrs["left_out"] == {"listed, not there": 1}
    (films / "table.csv").write_text(f"path,label\n{away}\n", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"lists 1 files and none is there, for example .*D:.*film 1\.png"):
        load_table(films / "table.csv")
