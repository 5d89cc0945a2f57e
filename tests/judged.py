"""What holds for the checks of every chapter's exercises; a test file gives its right and wrong answers."""
from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from covid_xray import exercises

NONSENSE = (None, 3, "yes", lambda *a: None, lambda *a: "x", lambda *a: [], lambda *a: float("nan"),
            lambda *a: np.zeros((3, 3)), lambda *a: torch.zeros(3, 3), lambda *a: a[0], lambda: 1)


class AnswersAreJudged:
    "Right answers pass, mistakes fail with their hint, stubs are not started, and nonsense never raises"

    chapters: ClassVar[dict[int, ModuleType]]  # number -> module with EXERCISES
    right: ClassVar[dict[str, list]]  # name of the exercise -> answers
    wrong: ClassVar[dict[str, list[tuple[Any, str]]]]  # name -> (answer, words of its hint)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        "One test for each answer"
        answers = self.wrong if "mistake" in metafunc.fixturenames else self.right
        for argument in {"answer", "mistake"} & set(metafunc.fixturenames):
            cases = [pytest.param(name, answer, id=f"{name}-{i}")
                     for name, some in answers.items() for i, answer in enumerate(some)]
            metafunc.parametrize(("name", argument), cases)
            return
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", list(self.right))

    @pytest.fixture(autouse=True)
    def only_these_chapters(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        "Nothing is remembered outside the test"
        monkeypatch.setattr(exercises, "_CHAPTERS", tuple(self.chapters))
        monkeypatch.setenv("COVID_XRAY_CACHE", str(tmp_path))

    def test_every_exercise_has_its_answers(self) -> None:
        names = [exercise.name for module in self.chapters.values() for exercise in module.EXERCISES]
        assert names == list(self.right) == list(self.wrong) == list(exercises.exercises())
        assert all(len(self.right[name]) >= 2 and len(self.wrong[name]) >= 4 for name in names)

    def test_right_answers_pass(self, name: str, answer: Any, capsys: pytest.CaptureFixture) -> None:
        state = torch.get_rng_state()
        assert exercises.check(name, answer), capsys.readouterr().out
        assert capsys.readouterr().out.endswith(": right.\n")
        assert exercises.progress()["right"].sum() == 1
        assert torch.equal(state, torch.get_rng_state()), "the check moved torch's generator"

    def test_mistakes_fail_with_their_hint(
        self, name: str, mistake: tuple[Any, str], capsys: pytest.CaptureFixture
    ) -> None:
        answer, words = mistake
        assert not exercises.check(name, answer)
        assert words in capsys.readouterr().out
        assert exercises.progress()["right"].sum() == 0

    def test_a_stub_is_not_started(self, name: str, capsys: pytest.CaptureFixture) -> None:
        def stub(*arguments: Any) -> None:
            raise NotImplementedError

        assert not exercises.check(name, stub)
        assert "not started yet" in capsys.readouterr().out
        assert exercises.progress()["right"].sum() == 0

    def test_nonsense_is_told_and_never_raises(self, name: str) -> None:
        assert not any(exercises.check(name, nonsense) for nonsense in NONSENSE)
