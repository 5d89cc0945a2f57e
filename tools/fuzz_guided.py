"""Wrong input that is led by the code it reaches: `make fuzz-guided` (Linux and macOS).

    python tools/fuzz_guided.py [--seconds 600] [--only images DICOM table]

atheris (libFuzzer for Python), fetched from PyPI into `.venv-fuzz` and nowhere else, keeps a changed input where it
reaches a branch that none has reached before, and goes on from there. Instrumented are covid_xray, pydicom and Pillow's
Python part; what Pillow does in C is not led. A failure is what tools/fuzz.py calls one. A row a target goes to
covid_xray/results/fuzz_guided.csv: cases, failures, and the branches reached by whole files and at the end.
"""
from __future__ import annotations

import argparse
import logging
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "covid_xray" / "results" / "fuzz_guided.csv"
TOOLS, PACKAGE = ROOT / ".venv-fuzz", "atheris==3.0.0"
TARGETS = ("images", "DICOM", "table")
MEMORY_MB = 3000  # what the process has at its start, 0.7 GB, and more than 1 GB beyond: libFuzzer keeps inputs, too


def whole_files(target: str) -> dict[str, bytes]:
    "What the search starts from"
    import monsters

    from covid_xray.dicom import film_as_dicom, to_bytes

    if target == "images":
        return {kind: monsters.saved(monsters.GREY, kind) for kind in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")}
    if target == "table":
        return {"commas": b"path,label,age\n0.png,covid,40\n1.png,normal,\n",
                "semicolons": "\ufeffpath;label;patient\r\n\"0.png\";covid;\"a\"\"b\"\r\n".encode()}
    return {str(bits): to_bytes(film_as_dicom(monsters.GREY, bits=bits, PatientID="4711", ViewPosition="PA"))
            for bits in (8, 12, 16)}


def search(target: str, corpus: Path, options: list[str]) -> None:
    "Search in this process; libFuzzer ends it"
    import atheris
    import numpy  # noqa: F401  what is imported before is not instrumented
    import torch  # noqa: F401

    with atheris.instrument_imports(include=["pydicom", "covid_xray", "PIL"]):
        import pydicom.pixels  # noqa: F401  the library reads it on first use, which is too late here
        from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin  # noqa: F401

        import covid_xray.data  # noqa: F401
        import fuzz
        import fuzz_cases
        from covid_xray.records import dicom_facts
        from covid_xray.sources import load_table

    folder = Path(tempfile.mkdtemp())

    def one(content: bytes) -> None:
        (folder / "input").write_bytes(content)
        try:
            if target == "table":
                load_table(folder / "input")
                return
            if target == "DICOM":
                dicom_facts(folder / "input")
            fuzz_cases.decoded(content)
        except fuzz.OURS as error:
            if len(str(error)) <= 8:
                raise fuzz_cases.Wrong(f"no words: {error!r}") from error

    for name, content in whole_files(target).items():
        (corpus / name).write_bytes(content)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    atheris.Setup([sys.argv[0], str(corpus), *options], one)
    atheris.Fuzz()


def measure(target: str, seconds: int) -> dict[str, object]:
    "A row of the table; a failure is printed with all that libFuzzer says, and its input is kept in the folder"
    with tempfile.TemporaryDirectory() as name:
        limits = [f"-max_total_time={seconds}", "-timeout=10", f"-rss_limit_mb={MEMORY_MB}", "-seed=1",
                  f"-artifact_prefix={tempfile.gettempdir()}/"]
        run = subprocess.run([sys.executable, __file__, "--search", target, name, *limits], capture_output=True,
                             text=True, errors="replace")
    covered = [int(number) for number in re.findall(r"cov: (\d+)", run.stderr)]
    done = re.search(r"Done (\d+) runs in (\d+) second", run.stderr)
    if run.returncode or not done:
        print(run.stdout[-2000:], run.stderr[-4000:], sep="\n")
    cases, spent = (int(done[1]), int(done[2])) if done else (len(covered), seconds)
    return {"target": target, "cases": cases, "failures": int(run.returncode != 0), "seconds": spent,
            "branches_first": covered[0] if covered else 0, "branches": covered[-1] if covered else 0}


def main() -> int:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tools"), str(TOOLS)]
    if sys.argv[1:2] == ["--search"]:
        search(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    parser = argparse.ArgumentParser(description="Fuzz what reads files, led by the code that is reached")
    parser.add_argument("--seconds", type=int, default=600, help="a target")
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS))
    options = parser.parse_args()
    if not TOOLS.exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", TOOLS, PACKAGE],
                       check=True)
    table = pd.DataFrame([measure(target, options.seconds) for target in options.only])
    if options.only == list(TARGETS):
        table.to_csv(TABLE, index=False, lineterminator="\n")
    print(table.to_string(index=False))
    return int(table["failures"].any())


if __name__ == "__main__":
    sys.exit(main())
