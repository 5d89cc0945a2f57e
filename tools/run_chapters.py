"""Run every chapter as a reader does: a fresh kernel each, every cell as shown (`make course`).

    python tools/run_chapters.py [--save] [--minutes] [NOTEBOOK ...]

Prints a line a chapter, then a table of minutes and peak memory; ends with 1 where a cell failed.
`--save` stores the outputs, clean, in the notebooks (`make outputs`). `--minutes` keeps what was measured in
covid_xray/results/minutes.csv and writes it into the opening cards and the table of chapters (see minutes.py).
"""
from __future__ import annotations

import argparse
import copy
import json
import os
import re
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "nbs"
CELL_TIMEOUT = 600  # seconds: far more than any cell may take, so that only a hang ends this way
NOT_RUN = re.compile(r"^#\s*\|\s*eval:\s*false\s*$", re.MULTILINE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


@dataclass
class Run:
    "What running one chapter came to"
    notebook: nbformat.NotebookNode  # with its outputs
    seconds: float  # wall time, the kernel's start included
    cpu_seconds: float  # of the kernel and its children
    peak_bytes: int  # largest resident memory of the kernel and its children
    longest_cell: float  # seconds of the cell that took longest
    error: str | None  # the first failing cell and its traceback


def resident_bytes(process: psutil.Process) -> int:
    "Resident memory; what several processes share counts by its share where the system tells (Linux)"
    found = process.memory_full_info()
    return getattr(found, "pss", found.rss)


class Watch:
    "Peak memory and CPU time of a process and its children, watched from a thread"

    def __init__(self, pid: int) -> None:
        self.process, self.peak_bytes, self.cpu_seconds = psutil.Process(pid), 0, 0.0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self) -> None:
        while not self.done.wait(0.3):
            self.look()

    def look(self) -> None:
        "A child that has ended counts in its parent's times"
        try:
            family = [self.process, *self.process.children(recursive=True)]
            self.peak_bytes = max(self.peak_bytes, sum(resident_bytes(p) for p in family))
            self.cpu_seconds = max(self.cpu_seconds, sum(sum(p.cpu_times()[:4]) for p in family))
        except psutil.Error:  # a process of the family has just ended
            return

    def stop(self) -> None:
        self.done.set()
        self.thread.join()


def chapters() -> list[Path]:
    "Every notebook of the course, in reading order"
    hidden = {"_proc", ".ipynb_checkpoints"}
    return sorted(p for p in NOTEBOOKS.rglob("*.ipynb") if not hidden & set(p.parts))


def execute(path: Path, env: dict[str, str] | None = None) -> Run:
    "Run one notebook in a fresh kernel"
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    whole = copy.copy(notebook)
    whole.cells = [c for c in notebook.cells if c.cell_type != "code" or not NOT_RUN.search(c.source)]
    watchers: list[Watch] = []
    client = NotebookClient(
        whole,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        store_widget_state=False,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
        on_notebook_start=lambda notebook: watchers.append(Watch(client.km.provisioner.pid)),
    )
    start, error = time.monotonic(), None
    try:
        client.execute(env={**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline", **(env or {})})
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as failure:
        error = COLOUR.sub("", str(failure))
    finally:
        for watch in watchers:
            watch.stop()
    seen = (watchers[0].cpu_seconds, watchers[0].peak_bytes) if watchers else (0.0, 0)
    return Run(notebook, time.monotonic() - start, *seen, longest_cell(notebook), error)


def longest_cell(notebook: nbformat.NotebookNode) -> float:
    "Seconds of the slowest cell, from the times that the client notes beside each"
    times = [cell.metadata.get("execution", {}) for cell in notebook.cells]
    ends = [(t["iopub.execute_input"], t["shell.execute_reply"]) for t in times if "shell.execute_reply" in t]
    return max((seconds(end) - seconds(start) for start, end in ends), default=0.0)


def seconds(moment: str) -> float:
    "A time as the client writes it, in seconds since 1970 (Python 3.10 does not read its Z)"
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def clean(notebook: nbformat.NotebookNode) -> dict:
    "Only what a reader sees: no counts, no widgets (dead without a kernel), no progress bars"
    content = json.loads(nbformat.writes(notebook))
    content["metadata"] = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for cell in content["cells"]:
        cell["metadata"] = {k: v for k, v in cell["metadata"].items() if k == "tags"}
        if cell["cell_type"] != "code":
            continue
        cell["execution_count"] = None
        cell["outputs"] = [o for o in cell["outputs"] if not is_progress(o) and not is_widget(o)]
        for output in cell["outputs"]:
            if "text" in output:  # lines; a warning names its file, and where the checkout stands is nobody's business
                output["text"] = [line.replace(f"{ROOT}{os.sep}", "") for line in output["text"]]
            if "execution_count" in output:
                output["execution_count"] = None
            if "metadata" in output:
                output["metadata"] = {k: v for k, v in output["metadata"].items() if k.startswith("image/")}
    return content


def is_progress(output: dict) -> bool:
    "A progress bar that was drawn over and over"
    text = "".join(output.get("text", ""))
    return output["output_type"] == "stream" and output["name"] == "stderr" and ("\r" in text or "it/s]" in text)


def is_widget(output: dict) -> bool:
    "A live panel: the figure of the cell beside it stands for it on a page"
    return "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def save(notebook: nbformat.NotebookNode, path: Path) -> None:
    "In nbdev's own form, so that nbdev_clean changes nothing"
    text = json.dumps(clean(notebook), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run every chapter in a fresh kernel")
    parser.add_argument("notebooks", nargs="*", type=Path, help="notebooks to run; all of nbs/ where none is named")
    parser.add_argument("--save", action="store_true", help="store the outputs in the notebooks")
    parser.add_argument("--minutes", action="store_true", help="keep minutes and memory, and write them into the cards")
    options = parser.parse_args()
    paths = [p.resolve() for p in options.notebooks] or chapters()
    absent = [p for p in paths if not p.is_file()]
    if absent:
        sys.exit(f"no such notebook: {absent[0]}")
    runs = {}
    for number, path in enumerate(paths, 1):
        print(f"[{number}/{len(paths)}] {path.stem} ...", end=" ", flush=True)
        runs[path] = run = execute(path, {"IN_TEST": "1"} if options.save else None)
        print(f"{state(run)} in {run.seconds / 60:.1f} min, {run.peak_bytes / 1e9:.1f} GB", flush=True)
        if run.error:
            print(run.error, file=sys.stderr)
        elif options.save:
            save(run.notebook, path)
    print_table(runs)
    if options.minutes:
        import minutes

        minutes.keep({path: run for path, run in runs.items() if not run.error})
        minutes.write()
    return int(any(run.error for run in runs.values()))


def state(run: Run) -> str:
    return "failed" if run.error else "done"


def print_table(runs: dict[Path, Run]) -> None:
    "Minutes by the clock, CPU minutes, peak memory, and the seconds of the slowest cell"
    print(f"\n{'chapter':<24}{'minutes':>8}{'CPU':>7}{'peak GB':>9}{'cell s':>8}")
    for path, run in runs.items():
        print(f"{path.stem:<24}{run.seconds / 60:>8.1f}{run.cpu_seconds / 60:>7.1f}{run.peak_bytes / 1e9:>9.1f}"
              f"{run.longest_cell:>8.0f}{'  failed' if run.error else ''}")
    wall, cpu = (sum(values) / 60 for values in zip(*((run.seconds, run.cpu_seconds) for run in runs.values())))
    peak, cell = (max(values) for values in zip(*((run.peak_bytes, run.longest_cell) for run in runs.values())))
    print(f"{'all':<24}{wall:>8.1f}{cpu:>7.1f}{peak / 1e9:>9.1f}{cell:>8.0f}")


if __name__ == "__main__":
    sys.exit(main())
