"""What `make fuzz` tries: a function a target, which makes one case of wrong input and says what a wrong result is."""
from __future__ import annotations

import contextlib
import importlib
import io
import json
import random
import re
import shutil
import socket
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
SERVERS = contextlib.ExitStack()
SECONDS = 10  # what a case may take
Case = Callable[[random.Random, Path], None]


class Wrong(AssertionError):
    "A result that is not what went in"


def mutate(content: bytes, chance: random.Random) -> bytes:
    "A few bytes changed, cut out, doubled, or the end cut off"
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at, kind = chance.randrange(len(data) + 1), chance.random()
        if kind < 0.5 and at < len(data):
            data[at] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
        elif kind < 0.7:
            del data[at:at + chance.choice((1, 2, 4, 100))]
        elif kind < 0.9:
            data[at:at] = data[at:at + chance.choice((1, 4, 32))]
        else:
            del data[at:]
    return bytes(data)


def decoded(content: bytes) -> None:
    "An image that is read has the form that is promised"
    from covid_xray.data import MAX_PIXELS, MIN_SIDE_PX, read_radiograph

    image = read_radiograph(content)
    if image.dtype != np.uint8 or image.ndim != 2 or min(image.shape) < MIN_SIDE_PX or image.size > MAX_PIXELS:
        raise Wrong(f"{image.dtype} {image.shape}")


def image_case(chance: random.Random, folder: Path) -> None:
    "A damaged picture"
    import monsters

    kind = chance.choice(("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"))
    decoded(mutate(monsters.saved(monsters.GREY, kind), chance))


def dicom_case(chance: random.Random, folder: Path) -> None:
    "A damaged DICOM file, read as a film and as a header"
    import monsters

    from covid_xray.dicom import film_as_dicom, to_bytes
    from covid_xray.records import dicom_facts

    made = film_as_dicom(monsters.GREY, bits=chance.choice((8, 12, 16)), PatientID="4711", ViewPosition="PA")
    content = mutate(to_bytes(made), chance)
    (folder / "film.dcm").write_bytes(content)
    facts = dicom_facts(folder / "film.dcm")
    if facts is not None and not all(facts[name] is None or facts[name] > 0 for name in ("width", "height")):
        raise Wrong(str(facts))
    decoded(content)


WORDS = ("covid", "normal", "Pneumonia", "", " ", "NaN", "-1", "0", "1", "1e400", "inf", "2020", "PA", "M", "train",
         "test", "0.png", "../0.png", "phantom:1", "\u00e9", '"', '""', "a,b", "a;b", "\t", "\n", "\r\n",
         "\0", "\ufeff", "=1+1", "x" * 300)


def table_case(chance: random.Random, folder: Path) -> None:
    "A CSV of odd cells; where it is well formed, what is read is what was written"
    import csv

    from covid_xray.records import COLUMNS
    from covid_xray.sources import load_table

    header = ["path", "label", *chance.sample(COLUMNS[2:], chance.randrange(4))]
    rows = [[f"{i}.png", chance.choice(("covid", "normal")), *(chance.choice(WORDS) for _ in header[2:])]
            for i in range(chance.randrange(1, 4))]
    buffer, plain = io.StringIO(), chance.random() < 0.5
    csv.writer(buffer, delimiter=chance.choice(",;\t"), lineterminator=chance.choice(("\n", "\r\n"))).writerows(
        [header, *rows])
    content = buffer.getvalue().encode()
    (folder / "t.csv").write_bytes(content if plain else mutate(content, chance))
    table = load_table(folder / "t.csv")
    if plain and (table["label"].tolist() != [row[1] for row in rows]
                  or [Path(path).name for path in table["path"]] != [row[0] for row in rows]):
        raise Wrong(f"{rows} became {table[['path', 'label']].values.tolist()}")


def log_case(chance: random.Random, folder: Path) -> None:
    "A CSV read cell by cell: what the csv module writes comes back"
    import csv

    from covid_xray.guards import read_csv

    rows = [["x", *(chance.choice(WORDS) for _ in range(2))] for _ in range(chance.randrange(1, 4))]
    with open(folder / "log.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["epoch", "loss", "rate"], *rows])
    table = read_csv(folder / "log.csv", ["epoch"], ["epoch", "loss", "rate"])
    blank = ("", "NaN")
    said = [[None if pd.isna(cell) else cell for cell in row] for row in table.values.tolist()]
    meant = [[None if cell.strip() in blank else cell.strip() for cell in row] for row in rows]
    if said != meant:
        raise Wrong(f"{rows} became {said}")


def settings_case(chance: random.Random, folder: Path) -> None:
    "Settings of a model with odd values: refused, or the model can be asked"
    from covid_xray.models import _read_settings

    odd = (None, -1, 0, 10**12, 1.5, float("nan"), float("inf"), "", "x", [], {}, [1], ["a", "a"], ["../a"], True)
    settings = {"model": "plain", "in_channels": 1, "classes": ["covid", "normal"], "size_px": 64, "fit": "squash",
                "temperature": 1.0, "prepare": [], "facts": {}, "prediction_sets": {}, "operating_point": {}}
    for _ in range(chance.randrange(3)):
        settings[chance.choice(list(settings))] = chance.choice(odd)
    text = json.dumps(settings)
    if chance.random() < 0.3:
        text = mutate(text.encode(), chance).decode("latin-1")
    (folder / "settings.json").write_text(text, encoding="utf-8")
    read = _read_settings(folder / "settings.json")
    if not (0 < read["size_px"] <= 4096 and 0 < read["in_channels"] <= 64 and read.get("temperature", 1) > 0):
        raise Wrong(str(read))


def places(value: object, before: tuple = ()) -> list[tuple]:
    "The way to every value in nested tables and lists"
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way for key, part in inside for way in ((*before, key), *places(part, (*before, key)))]


def bundle_case(chance: random.Random, folder: Path) -> None:
    "A shipped model with one odd or missing setting anywhere: refused, or a film is answered and a card written"
    from covid_xray.cards import model_card
    from covid_xray.deploy import Predictor
    from covid_xray.phantom import simulate

    shipped = ROOT / "covid_xray" / "models" / "phantom"
    settings = json.loads((shipped / "settings.json").read_text(encoding="utf-8"))
    odd = (None, -1, 0, 10**12, 1e308, float("nan"), "", "x", "\x1b[2J\n", "x" * 10**5, [], {}, [1],
           {"value": "x"}, True)
    *way, last = chance.choice(places(settings))
    part = settings
    for key in way:
        part = part[key]
    part[last] = chance.choice(odd)
    if chance.random() < 0.2:
        del part[last]
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    if not (folder / "model.safetensors").exists():
        shutil.copy(shipped / "model.safetensors", folder)
        np.save(folder / "film.npy", simulate(1, seed=3).images[0])
    result = Predictor.load(folder).predict(np.load(folder / "film.npy"))
    text = "\n".join([*result.lines(), json.dumps(result.to_dict()), model_card(folder)])
    if not all(line.isprintable() for line in text.split("\n")) or len(text) > 20_000:
        raise Wrong(f"{[*way, last]} came through: {text[:300]!r}")


def weights_case(chance: random.Random, folder: Path) -> None:
    "Damaged weights with the checksum of the whole ones: refused, or unchanged"
    import hashlib

    from covid_xray.models import read_weights

    whole = save({"a": torch.arange(12.0).reshape(3, 4), "b": torch.ones(5)})
    content = mutate(whole, chance)
    (folder / "model.safetensors").write_bytes(content)
    known = hashlib.sha256(whole).hexdigest() if chance.random() < 0.5 else None
    read_weights(folder / "model.safetensors", known)
    if known and content != whole:
        raise Wrong("damaged weights were taken")


def checkpoint_case(chance: random.Random, folder: Path) -> None:
    "A damaged checkpoint: refused, or all that it held unchanged"
    from covid_xray.models import read_sealed, seal

    tensors = {"model.a": torch.arange(12.0), "best.a": torch.ones(3)}
    notes = {"history": {"rows": [{"epoch": 0, "train_loss": 0.5}]}, "settings": {"epochs": 3}}
    whole = save(tensors | {"seal": seal(tensors, **notes)}, metadata={"checkpoint": json.dumps(notes)})
    (folder / "checkpoint.safetensors").write_bytes(mutate(whole, chance))
    read, values = read_sealed(folder / "checkpoint.safetensors")
    if json.dumps([read["history"], read["settings"]]) != json.dumps(list(notes.values())) or any(
            not torch.equal(values[name], value) for name, value in tensors.items()):
        raise Wrong("a damaged checkpoint was taken")


def command_line(chance: random.Random, folder: Path) -> list[str]:
    "A command with odd words; none that would train for minutes, listen, or ask a server"
    films = [str(folder / name) for name in ("0.png", "1.png", "none.png", "t.csv", "caf\u00e9\n.png")]
    odd = ["", "-", "-3", "0", "nan", "1e400", "\0", "caf\u00e9", "\x1b[2J", "x" * 300, "../none", "--", *films]
    runs = ["phantom", "phantom", str(folder), str(folder / "0.png"), "none", chance.choice(odd)]
    sources = [str(folder), str(folder / "t.csv"), str(folder / "none"), "nothing", "\x1b[2J"]
    name = chance.choice(("train", "evaluate", "predict", "explain", "prepare", "export", "card", "serve", "course"))
    out = str(folder / chance.choice(("out", "0.png", "\0", "x" * 300)))
    given = {"train": ["--out", out, "--source", chance.choice(sources)],
             "evaluate": [chance.choice(runs), "--source", chance.choice(sources)],
             "predict": [chance.choice(runs), *chance.choices(films + odd, k=chance.randrange(3))],
             "explain": [chance.choice(runs), *chance.choices(films, k=chance.randrange(3)), "--out", out],
             "prepare": [chance.choice(sources), "--out", out], "export": ["none", out],
             "card": [chance.choice(runs)], "serve": ["none"], "course": [out, "--edition", chance.choice(odd)]}[name]
    options = ("--json", "--prevalence", "--size", "--epochs", "--classes", "--task", "--model", "--method", "--fit",
               "--batch-size", "--learning-rate", "--seed", "--root", "--max-mb", "--no-gate", "-h", "--port")
    for _ in range(chance.choice((0, 0, 1, 2))):
        given += [chance.choice(options), *([chance.choice(odd)] if chance.random() < 0.8 else [])]
    return [name, *given]


def command_case(chance: random.Random, folder: Path) -> None:
    "A command with odd words ends in words: no error but ours, nothing that a terminal would obey, JSON that is JSON"
    from covid_xray.cli import app

    (folder / "t.csv").write_text("path,label\n0.png,covid\n1.png,normal\n2.png,covid\n", encoding="utf-8")
    (folder / "caf\u00e9\n.png").write_bytes(b"no film")
    words, out, told = command_line(chance, folder), io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
            code = app(words, standalone_mode=False)
    except Exception as error:
        of_typer = type(error).__module__.split(".")[0] in ("click", "typer")
        if not of_typer and not (isinstance(error, (OSError, ModuleNotFoundError)) and len(str(error)) > 8):
            raise
        code = error
    finally:
        shutil.rmtree(folder / "out", ignore_errors=True)
    said = out.getvalue() + told.getvalue()
    if not all(line.isprintable() for line in re.split("[\r\n]", said)):  # a progress bar goes back to its line's start
        raise Wrong(f"{words} printed {said[-300:]!r}")
    if "--json" in words and code is None:
        json.loads(out.getvalue())


def answer_case(chance: random.Random, folder: Path) -> None:
    "Odd answers to exercises and chapters of the quiz: wrong, never an error"
    from covid_xray.exercises.quiz import questions

    chapters = sorted(path.stem for path in (ROOT / "covid_xray" / "exercises").glob("chapter*.py"))
    chapter = importlib.import_module(f"covid_xray.exercises.{chance.choice(chapters)}")
    odd = chance.choice((None, -1, float("nan"), "x", [], {}, np.zeros(3), np.full((2, 2), np.nan), object(), True))
    answer = odd if chance.random() < 0.4 else lambda *given, **named: odd
    exercise = chance.choice(chapter.EXERCISES)
    try:
        right = exercise.judge(answer) is None
    except Exception:  # `check` tells it as the answer's mistake
        right = False
    if right:
        raise Wrong(f"{exercise.name} takes {odd!r} for right")
    questions(chance.choice((None, 1, 99, "x", -1)))


@cache
def port_of_service() -> int:
    "A service on this machine, for as long as this process lives"
    from covid_xray.deploy import Predictor
    from covid_xray.exchange import Limits
    from covid_xray.service import create_app, running

    limits = Limits(max_bytes=20_000, upload_seconds=1.0, header_seconds=1.0)
    address = SERVERS.enter_context(running(create_app(Predictor.load("phantom"), limits=limits), limits))
    return int(address.rsplit(":", 1)[1].strip("/"))


def service_case(chance: random.Random, folder: Path) -> None:
    "A request that is damaged in one place: answered in words, or refused; never an error of the server"
    import monsters

    body, kind = monsters.saved(monsters.GREY, chance.choice(("PNG", "JPEG"))), "image/png"
    if chance.random() < 0.5:
        form = 'Content-Disposition: form-data; name="file"; filename="a.png"'
        body, kind = f"--x\r\n{form}\r\n\r\n".encode() + body + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"
    damaged = chance.choice(("body", "query", "head", "type"))
    body = mutate(body, chance) if damaged == "body" else body
    query = mutate(b"explain=1&prevalence=0.1", chance).hex("%") if damaged == "query" else ""
    kind = mutate(kind.encode(), chance).hex() if damaged == "type" else kind
    port = port_of_service()
    head = (f"POST /predict?{query and '%' + query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close").encode()
    head = mutate(head, chance) if damaged == "head" else head
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        with contextlib.suppress(ConnectionError):  # the server may have answered and gone before all was sent
            connection.sendall(head + b"\r\n\r\n" + body)
        answer = connection.makefile("rb").read()
    status = re.match(rb"HTTP/1.1 (\d+) ", answer)
    if b"Traceback" in answer or (status and status[1].startswith(b"5") and status[1] != b"503"):
        raise Wrong(f"{head!r} was answered with {answer[-300:]!r}")
    if damaged != "head" and not status:
        raise Wrong(f"{head!r} was not answered")


TARGETS: dict[str, tuple[Case, int]] = {  # name -> a case, and its share of all cases in percent
    "settings": (settings_case, 33), "bundles": (bundle_case, 2), "weights": (weights_case, 36),
    "checkpoints": (checkpoint_case, 9), "CSV logs": (log_case, 6), "images": (image_case, 6),
    "load_table": (table_case, 2), "DICOM": (dicom_case, 2), "answers": (answer_case, 2),
    "command line": (command_case, 1), "service": (service_case, 1),
}
