"""Wrong input by the ten thousand: `make fuzz`. Each case is read right, or refused by an error of ours.

    python tools/fuzz.py [--cases 100000] [--only NAME] [--seed 0] [--keep FILE]

Stopped, it goes on where it was: what was done is kept in the file. After a change of the library, delete it first.

A failure is an error that is not ours (see OURS), a wrong result (each target in fuzz_cases.py says what that is), a
case over 10 s, or more than 1 GB beyond what the process had at its start.
"""
from __future__ import annotations

import argparse
import contextlib
import logging
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fuzz_cases import ROOT, SECONDS, TARGETS, Case

KEPT = ROOT / "covid_xray" / "results" / "fuzz.csv"
OURS = (ValueError, FileNotFoundError)  # with words of ours; UnreadableFilm is a ValueError


def _too_long(*_: object) -> None:
    raise TimeoutError(f"over {SECONDS} s")


def run_case(case: Case, seed: str, folder: Path) -> str | None:
    "What went wrong in one case, None for nothing"
    signal.alarm(SECONDS)
    try:
        case(random.Random(seed), folder)
    except OURS as error:
        return None if len(str(error)) > 8 else f"{type(error).__name__} without words: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.alarm(0)
    return None


def fuzz(name: str, cases: int, seed: int = 0, first: int = 0) -> tuple[dict, list[str]]:
    "The row of some cases of a target, and their first failures"
    case, start, before = TARGETS[name][0], time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    folder, failures = Path(tempfile.mkdtemp()), {}
    for i in range(3):
        Image.fromarray(np.full((40, 40), i, np.uint8)).save(folder / f"{i}.png")
    signal.signal(signal.SIGALRM, _too_long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(Exception):  # imports are no part of a case
            case(random.Random("first"), folder)
        for number in range(first, first + cases):
            found = run_case(case, f"{seed} {name} {number}", folder)
            if found:
                failures[number] = found
    shutil.rmtree(folder)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6  # kB on Linux
    if grown > 1:
        failures[-1] = f"{grown:.1f} GB more than before"
    row = {"target": name, "cases": cases, "failures": len(failures), "seconds": round(time.perf_counter() - start),
           "grown_gb": round(grown, 2)}
    return row, [f"{name} case {number}: {text}" for number, text in list(failures.items())[:5]]


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz what reads input")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--only", choices=list(TARGETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=KEPT)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    kept = pd.read_csv(options.keep).to_dict("records") if options.keep.is_file() else []
    rows = {row["target"]: row for row in kept}
    for share in range(1, 51):  # a fiftieth of each target at a time: stopped, it goes on from there
        for name in [options.only] if options.only else TARGETS:
            row = rows.setdefault(name, {"target": name, "cases": 0, "failures": 0, "seconds": 0, "grown_gb": 0.0})
            missing = options.cases * TARGETS[name][1] * share // 5000 - row["cases"]
            if missing <= 0:
                continue
            new, failures = fuzz(name, missing, options.seed, row["cases"])
            print(new, *failures, sep="\n  ", flush=True)
            row |= {key: row[key] + new[key] for key in ("cases", "failures", "seconds")}
            row["grown_gb"] = max(row["grown_gb"], new["grown_gb"])
            pd.DataFrame(rows.values()).to_csv(options.keep, index=False)
    return int(any(row["failures"] for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
