"""Timing several ways of doing one thing: they take turns, so that other work on the machine meets all of them"""
from __future__ import annotations

import os
import re
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

Ways = dict[str, Callable[[], object]]


def take_turns(ways: Ways, rounds: int, warm_up: bool = True) -> dict[str, dict[str, list[float]]]:
    "Name -> wall seconds and processor seconds of each round; each round begins with another way"
    names = list(ways)
    for name in names if warm_up else ():
        ways[name]()
    spent: dict[str, dict[str, list[float]]] = {name: {"wall": [], "processor": []} for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names):] + names[:turn % len(names)]:
            processor, wall = time.process_time(), time.perf_counter()
            ways[name]()
            spent[name]["wall"].append(time.perf_counter() - wall)
            spent[name]["processor"].append(time.process_time() - processor)
    return spent


def middle(seconds: list[float]) -> float:
    "The median of the rounds"
    return statistics.median(seconds)


def peak_mb() -> float:
    "Largest resident memory of this process so far; on Linux not that of the process that started it"
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 2**10
    import resource  # Windows has none

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def shared_mb() -> float:
    "Memory of this process and its workers, pages shared by several counted once (Linux), MB"
    import psutil

    own = psutil.Process(os.getpid())
    total = 0
    for process in (own, *own.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, AttributeError):  # a worker that has just ended; a system without pss
            continue
    return total / 2**20


def added_mb(way: Callable[[], object], every: float = 0.1) -> float:
    "Memory that a way adds to the process at its highest, its workers included, MB"
    before, highest, done = shared_mb(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(every):
            highest[0] = max(highest[0], shared_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        way()
    finally:
        done.set()
        watcher.join()
    return highest[0] - before
