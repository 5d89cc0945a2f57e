"""Exercises that check themselves: instant, offline, with a hint for each common mistake.

In a chapter stands a stub that raises NotImplementedError, and `check("1.3", answer)` below it. What is right stays
right on the learner's disk; `progress()` shows how far one has come.
"""
from __future__ import annotations

import json
import os
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

__all__ = ["Exercise", "check", "exercises", "progress"]

_CHAPTERS = (1, "1b", 2, 3, 4, "4b", 5, 6, 7, 8, 9)


@dataclass(frozen=True)
class Exercise:
    "One exercise: how to tell a right answer, and what to say of a wrong one"

    name: str  # chapter and number, "1.3"
    title: str  # what is asked, in a few words
    judge: Callable[[Any], str | None]  # None for a right answer, else a hint; may raise, which is told as a mistake


def exercises() -> dict[str, Exercise]:  # name -> exercise, in the order of the course
    "All exercises of the course"
    modules = [import_module(f"covid_xray.exercises.chapter{number}") for number in _CHAPTERS]
    return {exercise.name: exercise for module in modules for exercise in module.EXERCISES}


def check(
    name: str,  # chapter and number of the exercise, "1.3"
    answer: Any,  # a function, a number, an array: what the exercise asks for
) -> bool:  # whether the answer is right
    """Judge an answer, say what to look at where it is wrong, and remember what is right.

    Raises ValueError for an unknown exercise; whatever the answer does, it never raises.
    """
    known = exercises()
    if name not in known:
        raise ValueError(f"there is no exercise {name!r}: the exercises are {', '.join(known)}")
    started = True
    try:
        hint = known[name].judge(answer)
    except NotImplementedError:
        started, hint = False, "not started yet"
    except Exception as error:
        hint = f"your answer raised {type(error).__name__}: {error}{_where(error, answer)}"
    if started:
        _remember(name, hint is None)
    print(f"{name} {known[name].title}: " + ("right." if hint is None else hint))
    return hint is None


def _where(error: Exception, answer: Any) -> str:
    "The learner's own line in which it went wrong, where there is one"
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    own = [line for line in traceback.extract_tb(error.__traceback__) if line.filename == file]
    return f" (in your line: {own[-1].line})" if own and own[-1].line else ""


def progress() -> pd.DataFrame:  # one row a chapter: how many exercises are right, of how many
    "How far you have come, as remembered on this computer; what belongs to chapter 1b counts for chapter 1"
    done = _remembered()
    rows = [{"chapter": int(re.match(r"\d+", name)[0]), "right": bool(done.get(name)), "of": 1} for name in exercises()]
    return pd.DataFrame(rows).groupby("chapter").sum()


def _file() -> Path:
    from covid_xray.sources import cache_folder

    return cache_folder() / "progress.json"


def _remembered() -> dict[str, bool]:
    "What was right before; a damaged file counts as an empty one"
    try:
        known = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(name: str, right: bool) -> None:
    "Once right stays right; a disk that can't be written to is no reason to stop"
    done = _remembered()
    done[name] = bool(right or done.get(name))
    path = _file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(done, indent=1, sort_keys=True), encoding="utf-8")
        os.replace(partial, path)
    except OSError:
        return
