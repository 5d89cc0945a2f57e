"""The command line as a user drives it: in processes of its own, on files of its own, with wrong input and Ctrl-C."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from covid_xray import phantom

DISCLAIMER = "Research and teaching only"


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "covid_xray", *map(str, words)]


def call(*words: object, code: int = 0, **environment: str) -> subprocess.CompletedProcess:
    "Run the command line and check how it ends"
    done = subprocess.run(command(*words), capture_output=True, text=True, encoding="utf-8", timeout=600,
                          env={**os.environ, **environment})
    assert done.returncode == code, f"ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    "A user's own collection: class folders of PNG files, and a broken one among them"
    folder = tmp_path_factory.mktemp("own films")
    phantoms = phantom.simulate(72, size_px=64, seed=11)
    for i, (image, label) in enumerate(zip(phantoms.images, phantoms.table["label"])):
        (folder / label).mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / label / f"film {i}.png")
    (folder / "normal" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    return folder


@pytest.fixture(scope="module")
def run(films, tmp_path_factory) -> Path:
    "A trained run, made by the command line once for all tests"
    out = tmp_path_factory.mktemp("runs") / "first"
    done = call("train", "--source", films, "--out", out, "--size", 48, "--epochs", 2, "--model", "plain")
    assert "AUROC" in done.stdout and DISCLAIMER in done.stdout
    assert "1 files could not be read" in done.stdout and "set_aside.csv" in done.stdout
    return out


def test_a_run_leaves_everything(run):
    for name in ("model.safetensors", "settings.json", "log.csv", "log.jsonl", "films.csv", "set_aside.csv",
                 "predictions_test.csv", "metrics_test.csv", "metrics_test.md", "figures/curves.png",
                 "figures/confusion_test.png", "figures/roc_test.png", "figures/gradcam_test.png"):
        assert (run / name).stat().st_size > 0, name
    aside = pd.read_csv(run / "set_aside.csv")
    assert len(aside) == 1 and "broken.png" in aside["path"][0]
    split = pd.read_csv(run / "films.csv")
    assert set(split["split"]) == {"train", "valid", "test"} and split.groupby("person")["split"].nunique().max() == 1
    metrics = pd.read_csv(run / "metrics_test.csv")
    assert {"accuracy", "auroc", "recall", "specificity", "f1", "precision"} <= set(metrics["metric"])
    assert ((metrics["low"] <= metrics["value"]) & (metrics["value"] <= metrics["high"]) | metrics["low"].isna()).all()
    text = (run / "metrics_test.md").read_text(encoding="utf-8")
    assert "no pixel" in text and "largest class" in text


def test_metrics_in_the_report_are_scikit_learns(run):
    from sklearn.metrics import accuracy_score, roc_auc_score

    said = pd.read_csv(run / "predictions_test.csv")
    columns = [c for c in said if c.startswith("p_")]
    named = said[columns].idxmax(axis=1).str.removeprefix("p_")
    metrics = pd.read_csv(run / "metrics_test.csv").set_index(["metric", "label"])["value"]
    assert metrics["accuracy"].iloc[0] == pytest.approx(accuracy_score(said["label"], named), abs=1e-6)
    area = roc_auc_score(said["label"] == "covid", said["p_covid"])
    assert metrics["auroc", "covid"] == pytest.approx(area, abs=1e-3)


def test_predict_prints_probabilities_and_the_disclaimer(run, films):
    some = sorted(films.glob("covid/*.png"))[:2]
    done = call("predict", run, *some)
    assert DISCLAIMER in done.stdout and "covid" in done.stdout
    answer = json.loads(call("predict", run, *some, "--json").stdout)
    assert DISCLAIMER in answer["disclaimer"] and [f["path"] for f in answer["films"]] == [str(p) for p in some]
    for film in answer["films"]:
        assert sum(film["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_labels_of_one_s_own_keep_their_names(films, tmp_path):
    "A table with words that no task knows: trained, and evaluated on other films under those words"
    words = {"covid": "COVID-19", "normal": "no finding", "pneumonia": "effusion"}
    paths = sorted(path for path in films.rglob("film *.png"))
    for name, part in (("first", paths[::2]), ("second", paths[1::2])):
        table = pd.DataFrame({"path": list(map(str, part)), "label": [words[path.parent.name] for path in part]})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    chosen = ("--source", tmp_path / "first.csv", "--size", 48, "--epochs", 1, "--model", "plain")
    told = call("train", *chosen, "--out", tmp_path / "not", code=1).stderr
    assert "no film of class pneumonia" in told and "--classes" in told
    run = tmp_path / "run"
    call("train", *chosen, "--out", run, "--classes", "covid,normal,effusion")
    assert "--source" in call("evaluate", run, code=1).stderr  # never on simulated films without a word
    call("evaluate", run, "--source", tmp_path / "second.csv")
    said = pd.read_csv(run / "predictions_on_second.csv.csv")
    assert set(said["label"]) == {"covid", "normal", "effusion"} and len(said) == len(paths[1::2])
    assert "effusion" in pd.read_csv(run / "metrics_on_second.csv.csv").to_string()


def test_predict_opens_folders(run, films, tmp_path):
    "Every film below, in order, the broken one set aside; other files are counted, and a folder without films is told"
    (films / "normal" / "notes.txt").write_text("no film")
    done = call("predict", run, films / "normal", "--json", code=1)
    said = json.loads(done.stdout)
    whole = sorted(str(path) for path in (films / "normal").glob("film *.png"))
    assert sorted(film["path"] for film in said["films"]) == whole
    assert list(said["set_aside"]) == [str(films / "normal" / "broken.png")]
    assert "left out of" in done.stderr and "1" in done.stderr
    assert "no films in the folder" in call("predict", run, tmp_path, code=1).stderr
    (films / "normal" / "notes.txt").unlink()


def test_explain_opens_folders(run, films, tmp_path):
    (tmp_path / "two").mkdir()
    for path in sorted((films / "covid").glob("*.png"))[:2]:
        (tmp_path / "two" / path.name).write_bytes(path.read_bytes())
    done = call("explain", run, tmp_path / "two", "--out", tmp_path / "maps")
    assert len(list((tmp_path / "maps").glob("*.png"))) == 2 and DISCLAIMER in done.stdout


def test_predict_goes_on_past_a_bad_file_and_says_so(run, films):
    good = sorted(films.glob("covid/*.png"))[0]
    done = call("predict", run, good, films / "normal" / "broken.png", films / "absent.png", "--json", code=1)
    answer = json.loads(done.stdout)
    assert len(answer["films"]) == 1 and len(answer["set_aside"]) == 2
    assert "no such file" in done.stderr and "broken.png" in done.stderr


def test_explain_writes_pictures(run, films, tmp_path):
    some = sorted(films.glob("pneumonia/*.png"))[:2]
    done = call("explain", run, *some, "--out", tmp_path / "maps")
    pictures = sorted((tmp_path / "maps").glob("*.png"))
    assert len(pictures) == 2 and DISCLAIMER in done.stdout
    assert np.asarray(Image.open(pictures[0]).convert("RGB")).std() > 5
    assert "unknown" in call("explain", run, some[0], "--out", tmp_path, "--method", "tea leaves", code=1).stderr


def test_explain_draws_no_heatmap_on_what_predict_refuses(run, tmp_path):
    "A colourful picture and a missing file are told, and nothing is drawn unless the gate is opened"
    photo = tmp_path / "a photo.png"
    colours = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(colours.repeat(20, 0).repeat(20, 1)).save(photo)
    words = ["explain", run, photo, tmp_path / "absent.png", "--out", tmp_path / "maps"]
    done = call(*words, code=1)
    assert "a photo.png: refused: the picture has colours" in done.stderr and "no such file" in done.stderr
    assert not list(tmp_path.glob("maps/*.png"))
    call(*words, "--no-gate", code=1)
    assert len(list(tmp_path.glob("maps/*.png"))) == 1


def test_evaluate_leaves_out_whom_the_model_knows(run, films):
    done = call("evaluate", run, "--source", films)
    split = pd.read_csv(run / "films.csv")["split"].value_counts()
    assert f"({split['train'] + split['valid']} films of known persons left out)" in done.stdout
    assert f"{split['test']} films" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process's group")
def test_ctrl_c_keeps_what_was_trained_and_resume_ends_the_same(films, tmp_path):
    options = ("--source", films, "--size", 48, "--epochs", 8, "--model", "plain")
    call("train", *options, "--out", tmp_path / "whole")
    process = subprocess.Popen(command("train", *options, "--out", tmp_path / "cut"), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if (tmp_path / "cut" / "log.csv").is_file() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=300)[1]
    if process.returncode == 0:
        pytest.skip("the training ended before it could be interrupted")
    assert process.returncode == 130 and "--resume" in errors
    assert (tmp_path / "cut" / "model.safetensors").is_file()
    call("train", *options, "--out", tmp_path / "cut", "--resume")
    logs = [pd.read_csv(tmp_path / name / "log.csv").drop(columns="seconds") for name in ("whole", "cut")]
    pd.testing.assert_frame_equal(*logs, check_exact=True)


def test_a_finished_run_is_not_overwritten(run, films):
    done = call("train", "--source", films, "--out", run, "--epochs", 1, code=1)
    assert "holds a run already" in done.stderr and "--resume" in done.stderr


WRONG = {
    "unknown source": (("train", "--source", "atlantis", "--out", "{tmp}/r"), 1, "atlantis"),
    "unknown task": (("train", "--task", "everything", "--out", "{tmp}/r"), 1, "covid-vs-rest"),
    "unknown model": (("train", "--model", "oracle", "--out", "{tmp}/r", "--source", "{films}"), 1, "residual"),
    "films not there": (("train", "--source", "cohen", "--root", "{tmp}", "--out", "{tmp}/r"), 1, "download"),
    "no labels": (("train", "--source", "{films}/covid", "--out", "{tmp}/r"), 1, "one folder a class"),
    "labels of one's own": (("prepare", "{films}", "--out", "{tmp}/r", "--classes", "flu"), 1, "--classes"),
    "no run": (("predict", "{tmp}/none", "x.png"), 1, "no model at"),
    "no run, but a model": (("evaluate", "phantom", "--source", "{films}"), 1, "films.csv"),
    "no option": (("train",), 2, "--out"),
    "size too small": (("train", "--out", "{tmp}/r", "--size", "3"), 2, "--size"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_error_is_one_line_that_names_the_fix(name, films, tmp_path):
    words, code, expected = WRONG[name]
    done = call(*[w.format(tmp=tmp_path, films=films) for w in words], code=code)
    assert expected in done.stderr and "Traceback" not in done.stderr
    if code == 1:
        errors = [line for line in done.stderr.splitlines() if line.startswith("covid-xray: ")]
        assert len(errors) == 1


def test_debug_shows_the_traceback(tmp_path):
    assert "Traceback" in call("train", "--source", "atlantis", "--out", tmp_path, "--debug", code=1).stderr


def test_sources_are_listed():
    text = call("sources").stdout
    for name in ("phantom", "darkcovidnet", "cohen", "hannover", "raikokte", "radiography", "folder", "dicom", "csv"):
        assert f"{name}\n" in text


def test_prepare_writes_films_that_can_be_loaded_again(films, tmp_path):
    done = call("prepare", films, "--size", 64, "--out", tmp_path / "ready")
    assert "72 films" in done.stdout and "1 set aside" in done.stdout
    table = pd.read_csv(tmp_path / "ready" / "table.csv")
    assert len(table) == 72
    assert Image.open(tmp_path / "ready" / table["path"][0]).size == (64, 64)
    from covid_xray.sources import load_table

    assert load_table(tmp_path / "ready" / "table.csv")["label"].tolist() == table["label"].tolist()


def test_doctor_is_well_here():
    text = call("doctor").stdout
    assert "all well" in text and "torch" in text and "phantom" in text and "darkcovidnet" in text


def test_course_copies_chapters_and_keeps_changed_ones(tmp_path):
    call("course", tmp_path / "mine")
    chapter = tmp_path / "mine" / "01_data.ipynb"
    notebook = json.loads(chapter.read_text(encoding="utf-8"))
    assert not any(cell.get("outputs") for cell in notebook["cells"])
    notebook["cells"][0]["source"] = ["# My notes"]
    chapter.write_text(json.dumps(notebook), encoding="utf-8")
    (tmp_path / "mine" / "02_augmentation.ipynb").unlink()
    done = call("course", tmp_path / "mine")
    assert "1 notebooks copied" in done.stdout and "kept your changed 01_data.ipynb" in done.stdout
    assert "My notes" in chapter.read_text(encoding="utf-8")


def test_help_comes_without_torch():
    words = [sys.executable, "-X", "importtime", "-m", "covid_xray", "--help"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0 and "train" in done.stdout
    for heavy in ("torch", "pandas", "matplotlib", "sklearn"):
        assert f" {heavy}\n" not in done.stderr, heavy


def test_the_main_job_on_real_films(real_data, tmp_path):
    out = tmp_path / "real"
    source = ("--source", "darkcovidnet", "--root", real_data / "darkcovidnet")
    call("train", *source, "--out", out, "--size", 48, "--epochs", 2)
    metrics = pd.read_csv(out / "metrics_test.csv").set_index(["metric", "label"])
    films = pd.read_csv(out / "films.csv")
    assert len(films) == 1125 and films["person"].nunique() == 765
    assert films.groupby("dup_group")["split"].nunique().max() == 1
    assert metrics["films"].max() == (films["split"] == "test").sum()
    done = call("evaluate", out, "--source", "hannover", "--root", real_data / "hannover")
    assert "covid" in done.stdout
