"""The HTTP service as its senders meet it: a real uvicorn on loopback, good, bad, huge, slow and many requests."""
from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
import psutil
import pytest
import requests
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

import load_test
from covid_xray import phantom
from covid_xray.deploy import Predictor, Result
from covid_xray.exchange import Limits, Problem, check_kind, harmless, overlay_png
from covid_xray.service import HEADERS, create_app, running

NOTICE = "Not a medical device"
NAME = "Schmidt^Adelheid"


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    return phantom.simulate(1, size_px=256, seed=3).images[0]


@pytest.fixture(scope="module")
def files(film: np.ndarray) -> dict[str, bytes]:
    "The film as each kind of file"
    made = {"DICOM": load_test.as_dicom(film)}
    for kind in ("PNG", "JPEG"):
        buffer = io.BytesIO()
        Image.fromarray(film).save(buffer, kind)
        made[kind] = buffer.getvalue()
    return made


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load("phantom")


@pytest.fixture(scope="module")
def address(predictor: Predictor):
    with running(create_app(predictor)) as found:
        yield found


class Waiting:
    "A predictor that answers once it is allowed to"

    def __init__(self):
        self.may_go, self.at_work = threading.Event(), threading.Semaphore(0)

    def predict(self, content: bytes, **options: object) -> Result:
        self.at_work.release()
        assert self.may_go.wait(30)
        return Result(None, None, {}, "", [], True)


def counts(address: str) -> dict[str, float]:
    "Films by outcome, read by Prometheus' own parser"
    from prometheus_client.parser import text_string_to_metric_families

    page = requests.get(f"{address}/metrics", timeout=10).text
    return {sample.labels.get("outcome", sample.name): sample.value
            for family in text_string_to_metric_families(page) for sample in family.samples
            if sample.name in ("covid_xray_films_total", "covid_xray_in_hand", "covid_xray_seconds_count")}


# ---- films ----


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "DICOM"])
@pytest.mark.parametrize("way", ["body", "form"])
def test_a_film_is_answered_as_the_predictor_answers(address, files, predictor, kind, way) -> None:
    said = {"data": files[kind]} if way == "body" else {"files": {"film": (f"{NAME}.png", files[kind])}}
    answer = requests.post(f"{address}/predict", timeout=30, **said)
    assert answer.status_code == 200, answer.text
    assert answer.json() == json.loads(json.dumps(predictor.predict(files[kind]).to_dict()))
    assert answer.json()["probabilities"] and NOTICE in answer.json()["notice"] and NAME not in answer.text


def test_prevalence_and_explanation_go_to_the_predictor(address, files, predictor) -> None:
    query = {"explain": "true", "prevalence": "0.02"}
    answer = requests.post(f"{address}/predict", params=query, data=files["PNG"], timeout=30).json()
    expected = predictor.predict(files["PNG"], explain=True, prevalence=0.02)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.pop("overlay_png")))))
    assert answer == json.loads(json.dumps(expected.to_dict()))
    assert picture.shape == (*expected.image.shape, 3)
    assert np.ptp(picture.astype(int), axis=2).max() > 50, "no colour: the map is not on it"


def test_overlay_is_the_formula() -> None:
    image, heatmap = np.full((4, 4), 100, np.uint8), np.zeros((4, 4))
    heatmap[1, 2], heatmap[3, 3], heatmap[0, 0] = 2.0, -1.0, np.nan
    picture = np.asarray(Image.open(io.BytesIO(overlay_png(image, heatmap, strength=0.25))))
    hottest = 0.75 * 100 + 0.25 * 255 * np.array(matplotlib.colormaps["plasma"](1.0)[:3])
    assert np.abs(picture[1, 2] - hottest).max() <= 0.51
    rest = np.ones((4, 4), bool)
    rest[1, 2] = False
    assert (picture[rest] == 100).all()


def test_a_refused_film_is_an_answer(address) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((300, 300), 128, np.uint8)).save(buffer, "PNG")
    answer = requests.post(f"{address}/predict", data=buffer.getvalue(), timeout=30)
    assert answer.status_code == 200 and answer.json()["refused"] and answer.json()["probabilities"] is None
    assert any(flag["severity"] == "refuse" and flag["why"] for flag in answer.json()["flags"])


# ---- what is no film ----


def bad_requests(files: dict[str, bytes]) -> dict[str, tuple[int, str, dict]]:
    "What is wrong -> status, a word of the reason, the request"
    png = files["PNG"]
    many = {"files": [("a", ("a.png", png)), ("b", ("b.png", png))]}
    deflated = files["DICOM"].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    return {
        "empty": (400, "empty", {"data": b""}),
        "text named .png": (415, "whatever it is called", {"files": {"film": ("film.png", b"hello", "image/png")}}),
        "gif": (415, "PNG, JPEG or DICOM", {"data": b"GIF89a" + bytes(100)}),
        "postscript": (415, "PNG, JPEG or DICOM", {"data": b"%!PS-Adobe-3.0 EPSF-3.0\n"}),
        "half a film": (422, "truncated", {"data": png[:len(png) // 2]}),
        "one pixel": (422, "at least|least", {"data": pixel()}),
        "broken DICOM": (422, "can't be read", {"data": files["DICOM"][:400]}),
        "deflated DICOM": (415, "deflated", {"data": deflated}),
        "two files": (400, "form", {**many}),
        "a form without a file": (400, "no file", {"files": {"note": (None, "hello")}}),
        "no boundary": (400, "boundary", {"data": png, "headers": {"Content-Type": "multipart/form-data"}}),
        "prevalence of 7": (422, "between 0 and", {"data": png, "params": {"prevalence": 7, "patient": NAME}}),
        "a page elsewhere": (403, "other sites", {"data": png, "headers": {"Sec-Fetch-Site": "cross-site"}}),
    }


def pixel() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_what_is_no_film_gets_a_sentence(address, files) -> None:
    import re

    for what, (status, reason, request) in bad_requests(files).items():
        answer = requests.post(f"{address}/predict", timeout=30, **request)
        assert answer.status_code == status, f"{what}: {answer.status_code} {answer.text}"
        body = answer.json()
        assert answer.headers["Content-Type"] == "application/problem+json" and body["status"] == status
        assert re.search(reason, body["detail"]) and NOTICE in body["notice"], f"{what}: {body}"
        assert NAME not in answer.text and "Traceback" not in answer.text and "site-packages" not in answer.text


def test_other_addresses_and_methods(address, files) -> None:
    for method, path, status in [("GET", "/predict", 405), ("GET", "/docs", 404), ("POST", "/../etc/passwd", 404)]:
        answer = requests.request(method, address + path, timeout=10)
        assert answer.status_code == status and NOTICE in answer.json()["notice"]
    assert requests.get(f"{address}/predict", timeout=10).headers["Allow"] == "POST"


def test_every_answer_has_the_headers(address, files) -> None:
    answers = [requests.get(f"{address}/health", timeout=10), requests.get(f"{address}/metrics", timeout=10),
               requests.get(f"{address}/openapi.json", timeout=10), requests.get(f"{address}/none", timeout=10),
               requests.post(f"{address}/predict", data=files["PNG"], timeout=10),
               requests.post(f"{address}/predict", data=b"x", timeout=10),
               requests.get(f"{address}/health", headers={"Host": "evil.example"}, timeout=10)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 200, 415, 400]
    for answer in answers:
        assert HEADERS.items() <= answer.headers.items() and NOTICE in answer.headers["X-Notice"]
        assert "server" not in answer.headers and "access-control-allow-origin" not in answer.headers


def test_the_description_is_for_programs(address) -> None:
    described = requests.get(f"{address}/openapi.json", timeout=10).json()
    assert set(described["paths"]) == {"/predict", "/health", "/metrics"}
    assert "application/dicom" in described["paths"]["/predict"]["post"]["requestBody"]["content"]


# ---- limits ----


@contextlib.contextmanager
def small(predictor: object, **limits: float):
    "A server with limits that a test can reach"
    chosen = Limits(**{"max_bytes": 200_000, "upload_seconds": 0.5, "header_seconds": 0.5, **limits})
    with running(create_app(predictor, limits=chosen), chosen) as found:
        yield found


def raw(address: str, *parts: bytes, pause: float = 0.0) -> bytes:
    "Send bytes as they are, and give all that comes back until the server hangs up"
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=15) as line:
        for part in parts:
            line.sendall(part)
            time.sleep(pause)
        received = b""
        with contextlib.suppress(ConnectionResetError):  # what we sent was not all read
            while piece := line.recv(65536):
                received += piece
    return received


def test_size_is_what_arrives_not_what_is_announced(predictor) -> None:
    with small(predictor) as address:
        announced = requests.post(f"{address}/predict", data=bytes(300_000), timeout=10)
        unannounced = requests.post(f"{address}/predict", data=(bytes(50_000) for _ in range(6)), timeout=10)
        form = requests.post(f"{address}/predict", files={"film": ("f.png", bytes(300_000))}, timeout=10)
        for answer in (announced, unannounced, form):
            assert answer.status_code == 413 and "0.2 MB" in answer.json()["detail"]
        assert counts(address)["too_large"] == 3
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
        lies = raw(address, head, bytes(400))
        assert b"415" in lies.split(b"\r\n")[0], "only five bytes belong to the request"


def test_a_form_never_touches_the_disk(predictor, film, monkeypatch, tmp_path) -> None:
    "Above 1 MB the usual parser would open a temporary file: here there is no place for one"
    noisy = np.random.default_rng(0).integers(0, 255, (1300, 1300), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "PNG")
    assert len(buffer.getvalue()) > 1_500_000
    with running(create_app(predictor)) as address:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
        answer = requests.post(f"{address}/predict", files={"film": ("f.png", buffer.getvalue())}, timeout=30)
    assert answer.status_code == 200, answer.text


def test_a_slow_upload_is_ended(predictor) -> None:
    with small(predictor) as address:
        start = time.monotonic()
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
        answer = raw(address, head, b"\x89PNG")
        assert answer.startswith(b"HTTP/1.1 408") and NOTICE.encode() in answer and time.monotonic() - start < 8
        assert requests.get(f"{address}/health", timeout=10).json()["in_hand"] == 0


@pytest.mark.parametrize("parts", [[], [b"GET /health HTTP/1.1\r\nHost: local"],
                                   [b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /he"]])
def test_slow_headers_are_ended(predictor, parts) -> None:
    with small(predictor) as address:
        start = time.monotonic()
        answer = raw(address, *parts, pause=0.1)
        assert time.monotonic() - start < 8
        assert answer.count(b"HTTP/1.1 200") == (len(parts) == 2)


def test_a_full_desk_says_come_again_and_nobody_is_lost(files) -> None:
    waiting = Waiting()
    with small(waiting, in_hand=3, upload_seconds=20) as address, ThreadPoolExecutor(3) as pool:
        taken = [pool.submit(requests.post, f"{address}/predict", data=files["PNG"], timeout=60) for _ in range(3)]
        assert waiting.at_work.acquire(timeout=20)
        wait_until(lambda: requests.get(f"{address}/health", timeout=10).json()["in_hand"] == 3)
        for _ in range(4):
            late = requests.post(f"{address}/predict", data=files["PNG"], timeout=10)
            assert late.status_code == 503 and late.headers["Retry-After"] == "1" and NOTICE in late.json()["notice"]
        waiting.may_go.set()
        assert [job.result().status_code for job in taken] == [200] * 3
        assert requests.post(f"{address}/predict", data=files["PNG"], timeout=10).status_code == 200
        found = counts(address)
        assert found["busy"] == 4 and found["refused"] == 4 and found["covid_xray_in_hand"] == 0
        assert found["covid_xray_seconds_count"] == 8


def wait_until(holds) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        if holds():
            return
        time.sleep(0.05)
    pytest.fail("it never came to that", pytrace=False)


def test_only_so_many_are_worked_on_at_once(files) -> None:
    waiting = Waiting()
    with small(waiting, at_once=2, upload_seconds=20) as address, ThreadPoolExecutor(5) as pool:
        jobs = [pool.submit(requests.post, f"{address}/predict", data=files["PNG"], timeout=60) for _ in range(5)]
        assert waiting.at_work.acquire(timeout=20) and waiting.at_work.acquire(timeout=20)
        assert not waiting.at_work.acquire(timeout=0.5), "a third film is worked on"
        waiting.may_go.set()
        assert {job.result().status_code for job in jobs} == {200}


def test_many_at_once_get_their_own_answers(predictor) -> None:
    contents = load_test.films(6)
    known = [json.loads(json.dumps(predictor.predict(content).to_dict())) for content in contents]
    limits = Limits(at_once=3, in_hand=24)
    with running(create_app(predictor, limits=limits), limits) as address, ThreadPoolExecutor(12) as pool:
        def post(number: int) -> dict:
            explain = {"explain": number % 4 == 0}
            answer = requests.post(f"{address}/predict", params=explain, data=contents[number % 6], timeout=60).json()
            answer.pop("overlay_png", None)
            return answer

        answers = list(pool.map(post, range(36)))
    for number, answer in enumerate(answers):
        found, expected = answer.pop("probabilities"), {**known[number % 6]}
        assert found == pytest.approx(expected.pop("probabilities"), abs=2e-5)
        assert answer == expected


# ---- nobody is named ----


def dicom_of(name: str, film: np.ndarray, **changes: object) -> bytes:
    "A film with a patient's identity in every place that has one"
    from pydicom import dcmread

    dataset = dcmread(io.BytesIO(load_test.as_dicom(film)))
    dataset.PatientName, dataset.PatientID, dataset.InstitutionName = name, f"{name} 4711", f"{name} clinic"
    dataset.OtherPatientNames, dataset.PatientBirthDate, dataset.StudyDescription = name, "19440229", f"CHEST {name}"
    for key, value in changes.items():
        setattr(dataset, key, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def broken_dicoms(film: np.ndarray) -> list[bytes]:
    "Files that decoders complain about, quoting what stands in them"
    good = dicom_of(NAME, film)
    slipped = good.replace(b"MONOCHROME2 ", NAME[:12].encode())
    long = dicom_of(NAME * 8, film)
    at = good.index(b"\x28\x00\x10\x00US")
    rows_are_a_name = good[:at] + b"\x28\x00\x08\x00IS\x10\x00" + NAME.encode() + good[at:]
    return [slipped, long, rows_are_a_name, good[:-5000], dicom_of(NAME, film, Modality="CT")]


def test_no_answer_names_the_patient(address, film) -> None:
    for content in [dicom_of(NAME, film), *broken_dicoms(film)]:
        answer = requests.post(f"{address}/predict", data=content, timeout=30)
        assert answer.status_code in (200, 422)
        assert NAME[:7] not in answer.text and "4711" not in answer.text and "1944" not in answer.text


def test_a_fault_of_ours_is_told_without_its_words(files, caplog) -> None:
    class Faulty:
        def predict(self, content: bytes, **options: object) -> Result:
            raise RuntimeError(f"while reading {NAME}")

    with caplog.at_level(logging.DEBUG), running(create_app(Faulty())) as address:
        answer = requests.post(f"{address}/predict", data=files["PNG"], timeout=10)
        assert answer.status_code == 500 and "this side" in answer.json()["detail"]
        assert requests.get(f"{address}/health", timeout=10).status_code == 200
    assert NAME not in answer.text and NAME not in caplog.text
    assert "RuntimeError in test_service.py, line" in caplog.text


@pytest.fixture
def served(tmp_path: Path):
    "`covid-xray serve` in a process of its own; gives process, port, and the file that has all it prints"
    log = tmp_path / "log"
    command = [sys.executable, "-m", "covid_xray", "serve", "phantom", "--port", "0", "--max-mb", "1"]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        wait_until(lambda: "http://" in log.read_text() or process.poll() is not None)
        assert "http://127.0.0.1:" in log.read_text(), log.read_text()
        yield process, int(log.read_text().partition("127.0.0.1:")[2].partition("/")[0]), log
    finally:
        process.terminate()
        process.wait(20)


def test_the_command_serves_this_machine_alone_and_its_log_names_nobody(served, files, film) -> None:
    process, port, log = served
    listening = [c.laddr for c in psutil.Process(process.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert [(where.ip, where.port) for where in listening] == [("127.0.0.1", port)]
    address = f"http://127.0.0.1:{port}"
    wait_until(lambda: requests.get(f"{address}/health", timeout=10).status_code == 200)
    for content in [files["PNG"], dicom_of(NAME, film), *broken_dicoms(film)]:
        query = {"patient": NAME}
        answer = requests.post(f"{address}/predict", params=query, files={"film": (f"{NAME}.dcm", content)}, timeout=30)
        assert answer.status_code in (200, 422)
    assert requests.post(f"{address}/predict", data=bytes(1_100_000), timeout=30).status_code == 413
    assert "not understood" in requests.post(f"{address}/predict?explain={NAME}", data=b"x", timeout=10).text
    requests.get(f"{address}/{NAME}", timeout=10)
    process.send_signal(signal.SIGINT)
    process.wait(20)
    written = log.read_text()
    assert NOTICE in written and "answered 200" in written and "too_large 413" in written
    assert NAME[:7] not in written and "4711" not in written and ".dcm" not in written and "Traceback" not in written


def test_a_model_that_is_not_there_is_one_line() -> None:
    command = [sys.executable, "-m", "covid_xray", "serve", "no-such-model"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "no-such-model" in done.stderr and done.stderr.count("\n") == 1


def test_a_missing_extra_is_named() -> None:
    code = "import sys; sys.modules['fastapi'] = None; import covid_xray.service"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'pip install "covid_xray[serve]"' in done.stderr


# ---- parts ----


def test_kinds() -> None:
    assert check_kind(b"\xff\xd8\xff\xe0") == "JPEG" and check_kind(bytes(128) + b"DICM") == "DICOM"
    assert check_kind(b"\xff\xd8\xff" + bytes(125) + b"DICM") == "DICOM", "the decoder will take it for one"
    with pytest.raises(Problem) as caught:
        check_kind(b"\x89PNG\r\n\x1a")
    assert caught.value.status == 415


@pytest.mark.parametrize("reason, told", [
    ("image file is truncated (12 bytes not processed)", True),
    ("only 1 x 1 pixels; 32 a side are the least", True),
    (f"invalid literal for int(): {NAME!r}", False),
    ("photometric interpretation is ADELHEID", True),  # another spelling than the file's: no quotation
    ("photometric interpretation is Adelheid", False),
    ("born 1944-02-29", False),
    ("Müller", False),
    ("", False),
])
def test_a_reason_that_may_quote_the_file_is_not_told(film, reason: str, told: bool) -> None:
    content = dicom_of(NAME, film)
    assert (harmless(reason, content) == reason) == told


# ---- load ----


def test_load_in_short(tmp_path: Path) -> None:
    "More clients than places: nobody is lost, nobody gets another's answer. The long one is tools/load_test.py"
    import pandas as pd

    with load_test.serving("phantom", ["--in-hand", "3"]) as (process, port):
        load = load_test.run(process, port, count=200, clients=5)
    assert len(load.seconds) == 200 and load.lost == 0 and load.wrong == 0
    load_test.save(load, tmp_path / "load.csv")
    table = pd.read_csv(tmp_path / "load.csv")
    assert table[table["what"] == "latency"]["value"].sum() == 200
    assert table.set_index("at")["value"]["answered"] == 200
