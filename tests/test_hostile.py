"""Files that mean harm: nothing is unpickled, nothing leaves its folder, and wrong input by the hundred."""
from __future__ import annotations

import ast
import csv
import json
import pickle
import shutil
import socket
import sys
import zipfile
from pathlib import Path

import fuzz
import pytest
import torch
from safetensors.torch import save_file

from covid_xray.cards import unpack_bundle
from covid_xray.cnn import create_model
from covid_xray.data import read_radiograph
from covid_xray.models import load_model, read_sealed, read_weights
from covid_xray.sources import load_table
from monsters import Trap

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = sorted((ROOT / "covid_xray").rglob("*.py"))
RUNS_CODE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
PROMISES = ROOT / "covid_xray" / "results" / "promises.csv"


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    "Dotted name and node of each call"
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def may_run_code(text: str) -> list[str]:
    "What in a module could run code that a file brings"
    tree, found = ast.parse(text), []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in names if name.split(".")[0] in RUNS_CODE]
    for name, node in calls(tree):
        keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
        safe = keywords.get("weights_only") == "True"
        if name in ("eval", "exec", "yaml.load") or name.endswith("read_pickle") or name == "torch.load" and not safe:
            found.append(name)
        if keywords.get("allow_pickle", "False") != "False":
            found.append(f"{name}(allow_pickle)")
    return found


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_no_module_can_unpickle(path: Path) -> None:
    assert may_run_code(path.read_text(encoding="utf-8")) == []


def test_the_search_finds_what_it_looks_for() -> None:
    wrong = ("import pickle", "from joblib import load", "torch.load(f)", "np.load(f, allow_pickle=True)", "eval(x)",
             "pd.read_pickle(f)", "torch.load(f, weights_only=False)")
    assert all(may_run_code(text) for text in wrong)
    assert not may_run_code("torch.load(f, weights_only=True); np.load(f); model.eval()")


def test_the_one_restricted_torch_load_is_of_a_file_with_a_known_checksum() -> None:
    found = [(path.stem, node.lineno) for path in LIBRARY
             for name, node in calls(ast.parse(path.read_text(encoding="utf-8"))) if name == "torch.load"]
    assert [stem for stem, _ in found] == ["transfer"]
    text = (ROOT / "covid_xray" / "transfer.py").read_text(encoding="utf-8")
    assert text.index("!= PIP_SHA256") < text.index("torch.load(")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_every_loader_refuses_a_pickle(protocol: int, tmp_path: Path) -> None:
    content, trace = pickle.dumps(Trap(tmp_path / "trace"), protocol), tmp_path / "trace"
    (tmp_path / "model").mkdir()
    for name in ("film.png", "t.csv", "a.zip", "c.safetensors", "model/settings.json", "model/model.safetensors"):
        (tmp_path / name).write_bytes(content)
    for load, path in ((read_radiograph, "film.png"), (load_table, "t.csv"), (read_weights, "c.safetensors"),
                       (read_sealed, "c.safetensors"), (load_model, "model"), (load_model, "c.safetensors"),
                       (lambda path: unpack_bundle(path, tmp_path / "out"), "a.zip")):
        with pytest.raises(ValueError) as caught:
            load(tmp_path / path)
        assert len(str(caught.value)) > 20
    assert not trace.exists()


def settings_for(folder: Path, name: str, n_classes: int = 2, **tensors: torch.Tensor) -> Path:
    "A model's folder whose settings name a network and whose weights are these"
    save_file(tensors or {"a": torch.zeros(1)}, folder / "model.safetensors")
    classes = [f"class {i}" for i in range(n_classes)]
    settings = {"model": name, "in_channels": 1, "classes": classes, "size_px": 64, "fit": "squash"}
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["timm:hf-hub:someone/model", "timm:hf_hub:someone/model", "timm:local-dir:{}",
                                  "timm:../x", "torchvision:fasterrcnn_resnet50_fpn", "torchvision:fcn_resnet50"])
def test_a_model_s_name_asks_no_server_and_no_other_folder(
        name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: asked.append(address))
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: asked.append(address))
    (tmp_path / "config.json").write_text('{"architecture": "resnet18", "num_classes": 2}', encoding="utf-8")
    with pytest.raises(ValueError, match="holds no usable model: (timm|torchvision) has no "):
        load_model(settings_for(tmp_path, name.format(tmp_path)))
    assert asked == []


@pytest.mark.skipif(sys.platform == "win32", reason="resource is POSIX only")
@pytest.mark.parametrize("name, n_classes", [("timm:vit_giant_patch14_224", 2), ("darkcovidnet", 1000)])  # 4 and 0.7 GB
def test_a_network_larger_than_its_weights_is_refused_before_it_takes_memory(
        name: str, n_classes: int, tmp_path: Path) -> None:
    import resource

    create_model("timm:resnet18")  # what timm itself takes is no part of it
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="the weights are of another network than"):
        load_model(settings_for(tmp_path, name, n_classes))
    unit = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 0.3e9


def test_weights_of_another_network_are_told_by_name_and_number(tmp_path: Path) -> None:
    tensors = {name: value.contiguous() for name, value in create_model("plain", 1, 2).state_dict().items()}
    assert load_model(settings_for(tmp_path, "plain", **tensors))[1]["model"] == "plain"
    with pytest.raises(ValueError, match=f"another network than residual for 2 classes: of its .* file's "
                                         f"{len(tensors)}, [0-9]+ differ, the first "):
        load_model(settings_for(tmp_path, "residual", **tensors))
    for changed in ({**tensors, "more": torch.ones(2)}, dict(list(tensors.items())[1:]),
                    {**tensors, "features.0.weight": torch.ones(2)}):
        with pytest.raises(ValueError, match=r"the weights are of another network than plain .*, [12] differ"):
            load_model(settings_for(tmp_path, "plain", **changed))


def test_a_model_that_learnt_from_an_oddly_named_folder_is_usable_and_its_card_is_plain(tmp_path: Path) -> None:
    from covid_xray.cards import model_card
    from covid_xray.deploy import Predictor

    folder = shutil.copytree(ROOT / "covid_xray" / "models" / "phantom", tmp_path / "model")
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    settings["source"] = f"/data/{'x' * 300}/films\n\x1b[2J\udc80"  # a line break, a command, a byte that is no UTF-8
    settings["facts"]["source"] = {settings["source"]: 1.0}
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    assert Predictor.load(folder).settings["source"] == settings["source"]
    card = model_card(folder)
    assert all(line.isprintable() for line in card.split("\n")) and "x" * 300 + "/films" + r"\n\x1b[2J\udc80" in card


def test_a_damaged_or_locked_archive_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("settings.json", "{}" * 1000)
    whole = bytearray((tmp_path / "a.zip").read_bytes())
    for at in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[at] ^= 0xFF
        (tmp_path / "b.zip").write_bytes(changed)
        try:
            unpack_bundle(tmp_path / "b.zip", tmp_path / "out")
        except ValueError as error:
            assert "b.zip" in str(error)
    assert {path.name for path in tmp_path.iterdir()} <= {"a.zip", "b.zip", "out"}


def test_no_secret_is_asked_for() -> None:
    "Neither the library nor its service reads a key, a token or a password"
    words = ("api_key", "apikey", "access_token", "hf_token", "kaggle_key", "secret_key")
    text = "\n".join(path.read_text(encoding="utf-8").casefold() for path in LIBRARY)
    assert not [word for word in words if word in text]


# ---- wrong input by the hundred ----


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_some_hundred_cases_of_wrong_input(name: str) -> None:
    if name == "service":
        pytest.importorskip("fastapi")
    _, failures = fuzz.fuzz(name, 40, seed=1)
    assert failures == []


def test_the_stored_fuzz_found_nothing() -> None:
    "What `make fuzz` has come to; stopped, it goes on from there"
    with open(ROOT / "covid_xray" / "results" / "fuzz.csv", encoding="utf-8") as file:
        rows = {row["target"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(fuzz.TARGETS)
    assert all(row["failures"] == "0" and int(row["cases"]) >= 1000 for row in rows.values())
    assert sum(int(row["cases"]) for row in rows.values()) >= 100_000


# ---- the table of promises ----


def promises() -> list[dict[str, str]]:
    with open(PROMISES, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_promise_is_well_formed() -> None:
    rows = promises()
    assert rows and list(rows[0]) == ["group", "promise", "test", "where"]
    assert all(all(row.values()) and row["where"].startswith(("CI", "make ")) for row in rows)
    assert len({row["promise"] for row in rows}) == len(rows)


def test_every_named_test_is_there() -> None:
    "By its definition: a test file and a function, or a tool of a make target"
    for row in promises():
        file, _, name = row["test"].partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert not name or name in functions, row["test"]
        assert name.startswith("test_") or row["where"] != "CI", row["test"]
