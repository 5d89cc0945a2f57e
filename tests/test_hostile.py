"""Files that mean harm: nothing is unpickled, nothing leaves its folder, and wrong input by the hundred."""
from __future__ import annotations

import ast
import csv
import pickle
import zipfile
from pathlib import Path

import fuzz
import pytest

from covid_xray.cards import unpack_bundle
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
