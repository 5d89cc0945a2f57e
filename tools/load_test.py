"""Load `covid-xray serve` and see what it bears: requests a second, latency, lost and wrong answers, memory.

    python tools/load_test.py [--requests 10000] [--clients 6] [--model phantom] [--out FILE.csv] [SERVE OPTION ...]

Starts a server of its own on a free port of this machine. Each client keeps one connection and sends one film after the
other (PNG, JPEG and DICOM, simulated); every answer is compared with what the idle server said of the same film. A
client that is told to come again does so. Ends with 1 where a request was lost or an answer was wrong.
"""
from __future__ import annotations

import argparse
import csv
import http.client
import io
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from covid_xray import phantom

ROOT = Path(__file__).resolve().parent.parent
EDGES_MS = np.geomspace(5, 5000, 31)  # of the latency histogram


@dataclass
class Load:
    "What happened"
    seconds: list[float] = field(default_factory=list)  # from the first byte sent to the last received
    memory: list[tuple[int, float]] = field(default_factory=list)  # requests done, resident MB of the server
    busy: int = 0  # answers 503, each tried again
    lost: int = 0  # requests without an answer
    wrong: int = 0  # answers that differ from those of the idle server
    wall: float = 0.0  # seconds of the whole
    cpu: float = 0.0  # seconds of the server


def as_dicom(image: np.ndarray) -> bytes:
    "A film as a DICOM file, not compressed"
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    film = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    film.Modality, film.ViewPosition, film.BodyPartExamined = "DX", "PA", "CHEST"
    film.PhotometricInterpretation, film.SamplesPerPixel, film.PixelRepresentation = "MONOCHROME2", 1, 0
    film.BitsAllocated, film.BitsStored, film.HighBit = 16, 12, 11
    film.Rows, film.Columns = image.shape
    film.PixelData = (image.astype("<u2") * 16).tobytes()
    buffer = io.BytesIO()
    film.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def films(count: int = 12) -> list[bytes]:
    "Simulated films of 512 x 512 pixels: PNG, JPEG and DICOM in turn"
    contents = []
    for number, image in enumerate(phantom.simulate(count, size_px=512, seed=7).images):
        buffer = io.BytesIO()
        if number % 3 < 2:
            Image.fromarray(image).save(buffer, ("PNG", "JPEG")[number % 3])
        contents.append(buffer.getvalue() or as_dicom(image))
    return contents


@contextmanager
def serving(model: str, options: list[str]) -> Iterator[tuple[psutil.Process, int]]:
    "A server of our own; gives its process and port"
    command = [sys.executable, "-m", "covid_xray", "serve", model, "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as server:
        try:
            line = server.stdout.readline()
            if "http://" not in line:
                sys.exit(f"the server did not start: try `{' '.join(command[1:])}`")
            yield psutil.Process(server.pid), int(line.partition("127.0.0.1:")[2].partition("/")[0])
        finally:
            server.terminate()


def ask(connection: http.client.HTTPConnection, content: bytes) -> tuple[int, bytes, float]:
    "Status, answer, and the seconds to wait before trying again"
    connection.request("POST", "/predict", content)
    answer = connection.getresponse()
    return answer.status, answer.read(), float(answer.headers.get("Retry-After", 0))


def ask_until_answered(connection: http.client.HTTPConnection, content: bytes, load: Load) -> tuple[int, bytes]:
    "Come again as long as the server is busy"
    while True:
        status, body, wait = ask(connection, content)
        if status != 503:
            return status, body
        load.busy += 1
        time.sleep(wait)


def client(port: int, contents: list[bytes], known: list[dict], numbers: Iterator[int], count: int, load: Load) -> None:
    "Take the next number, send its film, compare the answer"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while (number := next(numbers)) < count:
        start = time.perf_counter()
        try:
            status, body = ask_until_answered(connection, contents[number % len(contents)], load)
        except (OSError, http.client.HTTPException):
            load.lost += 1
            connection.close()
            continue
        load.seconds.append(time.perf_counter() - start)
        load.wrong += status != 200 or json.loads(body) != known[number % len(contents)]


def run(process: psutil.Process, port: int, count: int, clients: int) -> Load:
    "The whole load, memory watched meanwhile"
    contents, load, numbers = films(), Load(), itertools.count()
    idle = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    known = [json.loads(ask(idle, content)[1]) for content in contents]
    before, start = sum(process.cpu_times()[:2]), time.perf_counter()
    threads = [threading.Thread(target=client, args=(port, contents, known, numbers, count, load))
               for _ in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        done = len(load.seconds)
        if not load.memory or done - load.memory[-1][0] >= count / 100:
            load.memory.append((done, process.memory_info().rss / 1e6))
        time.sleep(0.02)
    load.memory.append((len(load.seconds), process.memory_info().rss / 1e6))
    load.wall, load.cpu = time.perf_counter() - start, sum(process.cpu_times()[:2]) - before
    return load


def summary(load: Load) -> dict[str, float]:
    "The figures that are reported"
    milliseconds, done = np.array(load.seconds) * 1000, len(load.seconds)
    tenth = min(value for at, value in load.memory if at >= done / 10)
    percentiles = {f"latency {p} % (ms)": float(np.percentile(milliseconds, p)) for p in (50, 95, 99)}
    return {"answered": done, "lost": load.lost, "wrong": load.wrong, "told to come again": load.busy,
            "requests a second": done / load.wall, "server CPU a request (ms)": 1000 * load.cpu / done, **percentiles,
            "memory after a tenth (MB)": tenth, "memory at the end (MB)": load.memory[-1][1]}


def save(load: Load, path: Path) -> None:
    "Summary, memory curve and latency histogram in one small table"
    counts, _ = np.histogram(np.array(load.seconds) * 1000, np.r_[0, EDGES_MS, np.inf])
    rows = [("summary", name, round(value, 3)) for name, value in summary(load).items()]
    rows += [("memory", at, round(value, 1)) for at, value in load.memory]
    rows += [("latency", round(edge, 2), int(n)) for edge, n in zip(np.r_[EDGES_MS, np.inf], counts)]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("what", "at", "value"), *rows])


def main() -> int:
    parser = argparse.ArgumentParser(description="Load covid-xray serve", epilog="Further options go to the server.")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--model", default="phantom")
    parser.add_argument("--out", type=Path, help="a CSV file for the figures")
    options, further = parser.parse_known_args()
    with serving(options.model, further) as (process, port):
        load = run(process, port, options.requests, options.clients)
    for name, value in summary(load).items():
        print(f"{name:<28}{value:12,.1f}")
    if options.out:
        save(load, options.out)
    return int(bool(load.lost or load.wrong))


if __name__ == "__main__":
    sys.exit(main())
