"""The exercises of chapters 1 and 2: right answers pass however written, each common mistake gets its own hint."""
from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

import covid_xray.exercises as frame
from covid_xray.augment import affine_matrices, bend_batch
from covid_xray.exercises import chapter1, chapter2, check, exercises, progress

ROOT = Path(__file__).resolve().parent.parent
NAMES = [f"{chapter}.{number}" for chapter in (1, 2) for number in range(1, 9)]


@pytest.fixture(autouse=True)
def own_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(frame, "_CHAPTERS", (1, 2))
    monkeypatch.setenv("COVID_XRAY_CACHE", str(tmp_path / "cache"))


# ---- right answers: at least two ways for each ----


def equalise_by_loop(film):
    result = np.zeros_like(film)
    for grey in np.unique(film):
        result[film == grey] = np.round(255 * np.mean(film <= grey))
    return result


def equalise_as_opencv(film):
    counts = np.bincount(film.ravel(), minlength=256).cumsum()
    first = counts[film.min()]
    return np.round((counts - first) / (film.size - first) * 255).clip(0).astype(np.uint8)[film]


def guess_by_size(width, height, size):
    if (width, height) != (1024, 1024):
        return "covid"
    return "normal" if size <= 348.74 * 1024 else "pneumonia"


def deal_by_permutation(persons, fraction, seed):
    names = np.random.default_rng(seed).permutation(persons.unique())
    return persons.isin(names[:round(fraction * len(names))])


def deal_by_coin(persons, fraction, seed):
    codes, names = pd.factorize(persons)
    return torch.from_numpy((np.random.RandomState(seed).rand(len(names)) < fraction)[codes])


def window_by_lut(values, centre, width):
    table = np.interp(np.arange(65536), [centre - width / 2, centre + width / 2], [0, 255])
    return table.astype(np.uint8)[values]


def window_of_the_standard(values, centre, width):
    shown = ((values.astype(float) - (centre - 0.5)) / (width - 1) + 0.5) * 255
    return torch.from_numpy(shown).clamp(0, 255).round().to(torch.uint8)


def cutout_by_slices(images, top, left, side):
    result = images.clone()
    for film, t, s in zip(result, top.tolist(), left.tolist()):
        film[:, max(t, 0):max(t + side, 0), max(s, 0):max(s + side, 0)] = 0
    return result


def cutout_by_mask(images, top, left, side):
    rows, columns = torch.arange(images.shape[2])[None, :, None], torch.arange(images.shape[3])[None, None, :]
    t, s = top[:, None, None], left[:, None, None]
    inside = (rows >= t) & (rows < t + side) & (columns >= s) & (columns < s + side)
    return torch.where(inside[:, None], 0.0, images).numpy()


def mix(images, targets, partner, share, classes):
    soft = F.one_hot(targets, classes).float()
    return torch.lerp(images[partner], images, share), torch.lerp(soft[partner], soft, share)


def mix_by_loop(images, targets, partner, share, classes):
    labels = np.zeros((len(targets), classes))
    for film, other in enumerate(partner.tolist()):
        labels[film, targets[film]] += share
        labels[film, targets[other]] += 1 - share
    return [(share * images + (1 - share) * images[partner]).numpy(), labels.tolist()]


def turn_as_list(degrees):
    a = math.radians(degrees)
    return [[math.cos(a), math.sin(a), 0], [-math.sin(a), math.cos(a), 0]]


def kept_by_loop(before, after):
    return [min(float(a.sum() / b.sum()), 1) if b.any() else 1.0 for b, a in zip(before, after)]


def kept_at_once(before, after):
    shares = after.flatten(1).sum(1) / before.flatten(1).sum(1)
    return torch.nan_to_num(shares, nan=1.0).clamp(max=1)


one = torch.ones(1)
RIGHT: dict[str, list[Callable]] = {
    "1.1": [lambda film: torch.from_numpy(film)[None, None].float() / 255,
            lambda film: (film.reshape(1, 1, *film.shape) / 255).astype(np.float32)],
    "1.2": [lambda film: 255 - film, lambda film: ~film, lambda film: torch.from_numpy(255 - film),
            lambda film: np.arange(255, -1, -1, dtype=np.uint8)[film]],
    "1.3": [lambda table: table.groupby("label")["person"].nunique(),
            lambda table: {name: len(set(rows["person"])) for name, rows in table.groupby("label")},
            lambda table: table.drop_duplicates(["label", "person"])["label"].value_counts(),
            lambda table: table.groupby("label")[["person"]].nunique()],
    "1.4": [window_by_lut, window_of_the_standard],
    "1.5": [lambda train, test: test.isin(train).mean(),
            lambda train, test: sum(person in set(train) for person in test) / len(test),
            lambda train, test: torch.tensor(np.isin(test.astype(str), train.astype(str))).float().mean()],
    "1.6": [guess_by_size, lambda w, h, size: np.str_("covid" if w * h != 1024 ** 2 else "normal" if size < 357_000
                                                      else "pneumonia")],
    "1.7": [equalise_by_loop, equalise_as_opencv,
            lambda film: (np.bincount(film.ravel(), minlength=256).cumsum() / film.size * 255).astype(np.uint8)[film]],
    "1.8": [deal_by_permutation, deal_by_coin,
            lambda persons, fraction, seed: deal_by_permutation(persons, fraction, seed).tolist()],
    "2.1": [lambda: [[-1, 0, 0], [0, 1, 0]], lambda: np.diag([-1.0, 1, 1])[:2],
            lambda: torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]])],
    "2.2": [lambda images, amounts: (images + amounts[:, None, None, None]).clamp(0, 1),
            lambda images, amounts: np.stack([np.clip(i + a, 0, 1) for i, a in zip(images.numpy(), amounts.numpy())]),
            lambda images, amounts: [(i + a).clamp(0, 1).tolist() for i, a in zip(images, amounts)]],
    "2.3": [turn_as_list, lambda degrees: affine_matrices(one * degrees, one, one * 0, one * 0)],
    "2.4": [lambda scale, right, down: [[1 / scale, 0, -right / scale], [0, 1 / scale, -down / scale]],
            lambda scale, right, down: affine_matrices(one * 0, one * scale, one * right, one * down),
            lambda scale, right, down: np.linalg.inv([[scale, 0, right], [0, scale, down], [0, 0, 1]])[:2]],
    "2.5": [lambda *three: np.random.default_rng(three), lambda *three: np.random.RandomState(list(three)),
            lambda *three: torch.Generator().manual_seed(hash(three))],
    "2.6": [kept_by_loop, kept_at_once],
    "2.7": [cutout_by_slices, cutout_by_mask],
    "2.8": [mix, mix_by_loop],
}


# ---- wrong answers: what each mistake gives, and a word of the hint it must get ----


one_stream = np.random.default_rng(0)


def shared_stream(*three):
    one_stream.bit_generator.state = np.random.default_rng(three).bit_generator.state
    return one_stream


def blacken_in_place(images, top, left, side):
    images[:] = cutout_by_slices(images, top, left, side)
    return images


def darken_in_place(film):
    film[:] = 255 - film
    return film


def window_without_clipping(values, centre, width):
    return ((values - (centre - width / 2)) / width * 255).astype(np.int64).astype(np.uint8)


def naive_slices(images, top, left, side):
    result = images.clone()
    for film, t, s in zip(result, top.tolist(), left.tolist()):
        film[:, t:t + side, s:s + side] = 0
    return result


def films_dealt(persons, fraction, seed):
    return np.random.default_rng(seed).random(len(persons)) < fraction


def counts_of(film):
    return np.bincount(film.ravel(), minlength=256).cumsum()


WRONG: dict[str, list[tuple[Callable, str]]] = {
    "1.1": [(lambda film: film[None, None].astype(np.float32), "divide by 255"),
            (lambda film: (film / film.max())[None, None].astype(np.float32), "own largest"),
            (lambda film: ((film - film.min()) / np.ptp(film).clip(1))[None, None].astype(np.float32), "own range"),
            (lambda film: (film // 255)[None, None].astype(np.float32), "whole-number"),
            (lambda film: film.astype(np.float32) / 255, "four axes"),
            (lambda film: film[None, None] / 255, "float64"),
            (lambda film: (film.T / 255)[None, None].astype(np.float32), "shape"),
            (lambda film: np.zeros((1, 1, *film.shape), np.float32), "whole-number"),
            (lambda film: np.random.default_rng(0).random((1, 1, *film.shape), np.float32), "in its own place"),
            (lambda film: None, "return")],
    "1.2": [(lambda film: film.max() - film, "own largest"), (lambda film: -film, "wraps"),
            (lambda film: -film.astype(int), "never below"), (lambda film: 255 - film.astype(int), "dtype"),
            (lambda film: film, "as it was"), (lambda film: film[::-1, ::-1], "turned the picture"),
            (darken_in_place, "changed the film"), (lambda film: np.full_like(film, 255), "straight line"),
            (lambda film: None, "return")],
    "1.3": [(lambda table: table["label"].value_counts(), "count films"),
            (lambda table: table.groupby("label")["patient"].nunique(), "two hospitals"),
            (lambda table: table.drop_duplicates("person")["label"].value_counts(), "both"),
            (lambda table: {name: table["person"].nunique() for name in set(table["label"])}, "whole table"),
            (lambda table: {"covid": 2, "normal": 2, "pneumonia": 3}, "labels of this table"),
            (lambda table: table["person"].nunique(), "dict or a Series"),
            (lambda table: {name: 1 for name in set(table["label"])}, "different values"),
            (lambda table: None, "return")],
    "1.4": [(lambda values, c, w: window_by_lut(values, c, 2 * w), "half of it"),
            (lambda values, c, w: window_by_lut(values, c + w / 2, w), "middle of the window"),
            (lambda values, c, w: window_by_lut(values, (float(values.max()) + values.min()) / 2,
                                                float(np.ptp(values))), "darkest to its lightest"),
            (window_without_clipping, "unsigned"),
            (lambda values, c, w: window_by_lut(values, c, w) / 255, "multiply by 255"),
            (lambda values, c, w: window_by_lut(values, c, w).astype(float), "dtype"),
            (lambda values, c, w: window_by_lut(values, c, w)[None], "shape"),
            (lambda values, c, w: np.zeros_like(values, np.uint8), "unsigned"), (lambda values, c, w: None, "return")],
    "1.5": [(lambda train, test: test.isin(train).sum(), "number of films"),
            (lambda train, test: 100 * test.isin(train).mean(), "per cent"),
            (lambda train, test: len(set(train) & set(test)) / test.nunique(), "count persons"),
            (lambda train, test: train.isin(test).mean(), "training films"),
            (lambda train, test: test.isin(train).sum() / (len(train) + len(test)), "all films"),
            (lambda train, test: 1 - test.isin(train).mean(), "clean"), (lambda train, test: 0.8, "of all test films"),
            (lambda train, test: None, "return")],
    "1.6": [(lambda w, h, size: "normal", "begin with"), (lambda w, h, size: 0, "no label"),
            (lambda w, h, size: "covid" if w != 1024 or h != 1024 else None, "None"),
            (lambda w, h, size: "covid" if w * h != 1024 ** 2 else "normal", "compare the `bytes`"),
            (lambda w, h, size: "covid" if w * h != 1024 ** 2 else "normal" if size < 348 else "pneumonia",
             "compare the `bytes`"),
            (lambda w, h, size: "covid" if w * h != 1024 ** 2 else "pneumonia" if size < 357_000 else "normal",
             "wrong way round"),
            (lambda w, h, size: "covid" if w * h != 1024 ** 2 else "normal" if size < 400_000 else "pneumonia",
             "move the limit")],
    "1.7": [(lambda film: ((film - film.min()) / np.ptp(film) * 255).astype(np.uint8), "stretches"),
            (lambda film: film.copy(), "as it was"),
            (lambda film: (counts_of(film) / film.size)[film].astype(np.uint8), "multiply by 255"),
            (lambda film: counts_of(film)[film].astype(np.uint8), "number of pixels"),
            (lambda film: 255 - equalise_by_loop(film), "changed places"),
            (lambda film: (np.histogram(film, 256)[0].cumsum() / film.size * 255)[film].astype(np.uint8), "bins"),
            (lambda film: equalise_by_loop(film).astype(int), "dtype"),
            (lambda film: np.full_like(film, 128), "255 times"), (lambda film: None, "return")],
    "1.8": [(films_dealt, "both sides"),
            (lambda persons, fraction, seed: ~deal_by_permutation(persons, fraction, seed), "other way round"),
            (lambda persons, fraction, seed: deal_by_permutation(persons, fraction, None), "same seed"),
            (lambda persons, fraction, seed: deal_by_permutation(persons, fraction, 0), "two seeds"),
            (lambda persons, fraction, seed: deal_by_permutation(persons, 0.9, seed), "wanted"),
            (lambda persons, fraction, seed: persons.unique()[:90], "one True or False"),
            (lambda persons, fraction, seed: np.ones(len(persons), bool), "100%"),
            (lambda persons, fraction, seed: None, "return")],
    "2.1": [(lambda: [[1, 0, 0], [0, 1, 0]], "where it is"), (lambda: [[1, 0, 0], [0, -1, 0]], "upside down"),
            (lambda: [[-1, 0, 0], [0, -1, 0]], "180"), (lambda: [[-1, 0], [0, 1]], "shape"),
            (lambda: [[0, 1, 0], [1, 0, 0]], "swaps"), (lambda: [[-1, 0, 1], [0, 1, 0]], "no shift"),
            (lambda: np.zeros((2, 3)), "look at"), (lambda: None, "return")],
    "2.2": [(lambda images, amounts: images + amounts[:, None, None, None], "clamp"),
            (lambda images, amounts: (images + amounts).clamp(0, 1), "each column"),
            (lambda images, amounts: images + amounts, "then clamp"),
            (lambda images, amounts: (images + amounts[0]).clamp(0, 1), "first amount"),
            (lambda images, amounts: (images * (1 + amounts[:, None, None, None])).clamp(0, 1), "multiply"),
            (lambda images, amounts: images.add_(amounts[:, None, None, None]).clamp_(0, 1), "changed the films"),
            (lambda images, amounts: images[:, 0], "shape"), (lambda images, amounts: images * 0, "its own amount"),
            (lambda images, amounts: None, "return")],
    "2.3": [(lambda degrees: turn_as_list(-degrees), "anticlockwise"),
            (lambda degrees: turn_as_list(math.degrees(degrees)), "math.radians(degrees)"),
            (lambda degrees: turn_as_list(-math.degrees(degrees)), "other one"),
            (lambda degrees: np.array(turn_as_list(degrees))[:, :2], "shape"),
            (lambda degrees: turn_as_list(30), "cosines"), (lambda degrees: None, "return")],
    "2.4": [(lambda s, r, d: [[s, 0, -r / s], [0, s, -d / s]], "smaller part"),
            (lambda s, r, d: [[s, 0, -r], [0, s, -d]], "divided by scale too"),
            (lambda s, r, d: [[s, 0, r], [0, s, d]], "both round"),
            (lambda s, r, d: [[1 / s, 0, r / s], [0, 1 / s, d / s]], "further left"),
            (lambda s, r, d: [[1 / s, 0, r], [0, 1 / s, d]], "and the shift must"),
            (lambda s, r, d: [[1 / s, 0, -r], [0, 1 / s, -d]], "undo the shift first"),
            (lambda s, r, d: [[1 / s, 0, -d / s], [0, 1 / s, -r / s]], "first row"),
            (lambda s, r, d: [[1, 0, 0], [0, 1, 0]], "write that"), (lambda s, r, d: None, "return")],
    "2.5": [(lambda *three: np.random.default_rng(), "made from these three"),
            (lambda seed, epoch, film: np.random.default_rng([seed, film]), "another epoch"),
            (lambda seed, epoch, film: np.random.default_rng([seed, epoch]), "another film"),
            (lambda seed, epoch, film: np.random.default_rng([epoch, film]), "another seed"),
            (lambda *three: np.random.default_rng(sum(three)), "meet"),
            (lambda seed, epoch, film: np.random.default_rng(100 * seed + 1000 * epoch + film), "meet"),
            (shared_stream, "share one"), (lambda *three: np.random, "module"), (lambda *three: None, "return")],
    "2.6": [(lambda before, after: after.sum() / before.sum(), "whole batch"),
            (lambda before, after: after.flatten(1).sum(1) / before.flatten(1).sum(1), "at most 1"),
            (lambda before, after: (after.flatten(1).sum(1) / before.flatten(1).sum(1)).clamp(max=1), "0 / 0"),
            (lambda before, after: torch.nan_to_num(after.flatten(1).sum(1) / before.flatten(1).sum(1)).clamp(max=1),
             "not 0"),
            (lambda before, after: kept_at_once(before, before * after), "stayed in its place"),
            (lambda before, after: 1 - kept_at_once(before, after), "lost"),
            (lambda before, after: kept_at_once(after, before), "other way round"),
            (lambda before, after: kept_at_once(before, after)[:, None], "shape"),
            (lambda before, after: torch.ones(len(before)), "for each film"), (lambda before, after: None, "return")],
    "2.7": [(blacken_in_place, "changed the films"), (lambda images, top, left, side: images, "as it was"),
            (lambda images, top, left, side: cutout_by_slices(images, 0 * top + top[0], 0 * left + left[0], side),
             "of the first"),
            (lambda images, top, left, side: cutout_by_slices(images, left, top, side), "rows"),
            (lambda images, top, left, side: cutout_by_slices(images, top, left, side + 1), "too large"),
            (lambda images, top, left, side: cutout_by_slices(images, top - side // 2, left - side // 2, side),
             "corner"),
            (naive_slices, "far end"), (lambda images, top, left, side: images * 0, "all else"),
            (lambda images, top, left, side: None, "return")],
    "2.8": [(lambda x, y, p, share, n: (mix(x, y, p, share, n)[0], y), "whole number"),
            (lambda x, y, p, share, n: (mix(x, y, p, share, n)[0], F.one_hot(y, n)), "are not"),
            (lambda x, y, p, share, n: (mix(x, y, p, share, n)[0], F.one_hot(y[p], n)), "alone"),
            (lambda x, y, p, share, n: (mix(x, y, p, share, n)[0], mix(x, y, p, 1 - share, n)[1]),
             "shares of the labels"),
            (lambda x, y, p, share, n: (mix(x, y, p, share, n)[0], F.one_hot(y, n) + F.one_hot(y[p], n)),
             "row must sum"),
            (lambda x, y, p, share, n: (x, mix(x, y, p, share, n)[1]), "not mixed yet"),
            (lambda x, y, p, share, n: mix(x, y, p, 1 - share, n), "shares of the films"),
            (lambda x, y, p, share, n: (share * x + x[p], y), "must sum to 1"),
            (lambda x, y, p, share, n: mix(x, y, p, share, n)[0], "two things"),
            (lambda x, y, p, share, n: (x * 0, mix(x, y, p, share, n)[1]), "its partner"),
            (lambda x, y, p, share, n: None, "return")],
}


def cases(answers: dict[str, list]) -> list:
    return [pytest.param(name, answer, id=f"{name}-{i}") for name in answers for i, answer in enumerate(answers[name])]


def test_every_exercise_is_tested() -> None:
    assert list(exercises()) == NAMES == list(RIGHT) == list(WRONG)
    assert all(len(answers) >= 2 for answers in RIGHT.values())
    assert all(len(answers) >= 4 for answers in WRONG.values())


@pytest.mark.parametrize(("name", "answer"), cases(RIGHT))
def test_right_answers_pass(name: str, answer: Callable, capsys: pytest.CaptureFixture) -> None:
    assert check(name, answer), capsys.readouterr().out
    assert capsys.readouterr().out == f"{name} {exercises()[name].title}: right.\n"


@pytest.mark.parametrize(("name", "mistake"), cases(WRONG))
def test_mistakes_get_their_hint(name: str, mistake: tuple[Callable, str], capsys: pytest.CaptureFixture) -> None:
    answer, word = mistake
    assert not check(name, answer)
    assert word in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_hints_differ(name: str) -> None:
    "No two mistakes of an exercise are told the same, but those that share a word above"
    hints = {word: exercises()[name].judge(answer) for answer, word in WRONG[name]}
    assert len(set(hints.values())) == len(hints), hints


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("answer", [3, "covid", [], lambda *given: "a word", lambda *given: np.zeros(3),
                                    lambda: 1, lambda *given: given[0] if given else 0, lambda *given: 1 / 0,
                                    lambda *given: {}, lambda *given: float("nan")])
def test_nonsense_neither_passes_nor_raises(name: str, answer: object) -> None:
    assert not check(name, answer)


def test_the_matrices_do_what_the_hints_say() -> None:
    "The judges' references against torch's own flips and turns, and a single bright pixel"
    film = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(0))

    def bent(matrix: list) -> torch.Tensor:
        return bend_batch(film, torch.tensor([matrix], dtype=torch.float32))

    assert torch.allclose(bent([[-1, 0, 0], [0, 1, 0]]), film.flip(3), atol=1e-5)
    assert torch.allclose(bent(chapter2._turn(math.pi / 2)), torch.rot90(film, -1, (2, 3)), atol=1e-4)
    film = torch.zeros(1, 1, 8, 8)
    film[0, 0, 3, 3] = 1.0
    moved = bent(chapter2._zoom(1.0, -np.array([0.5, -0.25])))
    assert moved[0, 0, 2, 5] > 0.99 and abs(float(moved.sum()) - 1) < 1e-4
    film[0, 0, 2:6, 2:6] = 1.0
    assert 50 < float(bent(chapter2._zoom(0.5, np.zeros(2))).sum()) <= 64


# ---- untouched notebooks, and what is kept ----


def stubs(stem: str) -> list[str]:
    "The cells of a chapter in which an exercise is to be written"
    cells = json.loads((ROOT / "nbs" / f"{stem}.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return [source for source in sources if "check(" in source and "NotImplementedError" in source]


def test_untouched_chapters_score_zero(capsys: pytest.CaptureFixture) -> None:
    "Every exercise has its stub and check in the chapter; run as they are, none counts and nothing is kept"
    for stem in ("01_data", "02_augmentation"):
        names = {"check": check}
        exec("import numpy as np\nimport pandas as pd\nimport torch", names)
        for source in stubs(stem):
            exec(source, names)
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == NAMES
    assert all(line.endswith(": not started yet") for line in said)
    assert not frame._file().exists()
    assert progress()["right"].tolist() == [0, 0] and progress()["of"].tolist() == [8, 8]


def test_a_stub_is_not_started(capsys: pytest.CaptureFixture) -> None:
    def stub(*given):
        raise NotImplementedError

    for name in NAMES:
        assert not check(name, stub)
    assert capsys.readouterr().out.count("not started yet") == len(NAMES)
    assert progress()["right"].sum() == 0


def test_progress_is_kept_on_disk() -> None:
    for name in ("1.1", "1.2", "2.5"):
        assert check(name, RIGHT[name][0])
    assert not check("1.3", WRONG["1.3"][0][0])
    kept = json.loads(frame._file().read_text(encoding="utf-8"))
    assert kept == {"1.1": True, "1.2": True, "1.3": False, "2.5": True}
    assert progress().loc[1, "right"] == 2 and progress().loc[2, "right"] == 1
    assert not check("1.1", WRONG["1.1"][0][0])  # tried again, wrongly: once right stays right
    assert progress().loc[1, "right"] == 2


def test_progress_survives_another_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert check("2.1", RIGHT["2.1"][0])
    code = ("import covid_xray.exercises as frame; frame._CHAPTERS = (1, 2); "
            "print(frame.progress().loc[2, 'right'], end='')")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1"
    monkeypatch.setenv("COVID_XRAY_CACHE", str(tmp_path / "another"))
    assert progress()["right"].sum() == 0


def test_listing_the_exercises_does_not_load_torch() -> None:
    code = ("import sys, covid_xray.exercises as frame; frame._CHAPTERS = (1, 2); frame.progress(); "
            "sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_names_and_titles() -> None:
    for module in (chapter1, chapter2):
        assert 6 <= len(module.EXERCISES) <= 8
        assert len({exercise.title for exercise in module.EXERCISES}) == len(module.EXERCISES)


def test_a_mistake_is_told_with_the_line_it_is_in(capsys: pytest.CaptureFixture) -> None:
    "In the learner's function, not in the judge's or a library's"
    def negative(film):
        turned = 255 - film
        return np.concatenate([turned, None])

    assert not check("1.2", negative)
    told = capsys.readouterr().out
    assert "your answer raised" in told and "(in your line: return np.concatenate([turned, None]))" in told
