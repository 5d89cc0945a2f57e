"""Equalisation and CLAHE against OpenCV, windows against numpy, lung boxes against simulated and published masks."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from covid_xray import phantom
from covid_xray.contrast import Box, clahe, crop_to_lungs, equalise, histogram, lung_box, standardise
from covid_xray.data import read_radiograph

cv2 = pytest.importorskip("cv2", reason="OpenCV (headless) is one of the test peers: make setup")


@pytest.fixture(scope="module")
def films() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    grain = rng.normal(100, 2, (96, 96)).round().astype(np.uint8)
    odd = rng.integers(0, 256, (97, 131)).astype(np.uint8)  # sides that no number of tiles divides
    return [*phantom.simulate(3, size_px=160, seed=1).images, grain, odd]


def test_greys_are_counted_as_by_numpy(films) -> None:
    for film in films:
        assert np.array_equal(histogram(film), np.histogram(film, 256, (0, 256))[0])


def test_equalised_films_are_those_of_opencv(films) -> None:
    for film in films:
        assert np.array_equal(equalise(film), cv2.equalizeHist(film))
    flat = np.full((5, 4), 9, np.uint8)
    assert np.array_equal(equalise(flat), flat) and np.array_equal(equalise(flat), cv2.equalizeHist(flat))


@pytest.mark.parametrize("clip_limit", [1, 2, 4, 40])
@pytest.mark.parametrize("tiles", [4, 5, 8])
def test_clahe_is_that_of_opencv_to_one_grey(films, clip_limit: int, tiles: int) -> None:
    "One grey level: OpenCV mixes in float32, this one in float64, and a half may be rounded either way"
    for film in films:
        theirs = cv2.createCLAHE(clip_limit, (tiles, tiles)).apply(film)
        assert np.abs(clahe(film, clip_limit, tiles).astype(int) - theirs).max() <= 1


def test_no_contrast_grows_by_more_than_the_limit_and_one() -> None:
    "For tiles of 256 pixels or more: in smaller ones a single pixel is above the average count"
    grain = np.random.default_rng(0).normal(100, 2, (128, 128)).round().astype(np.uint8)
    for clip_limit in (1, 2, 4, 8):
        assert clahe(grain, clip_limit).std() <= (clip_limit + 1) * grain.std() + 0.5


def test_the_window_lies_between_percentiles(films) -> None:
    for film in films:
        shown, (low, high) = standardise(film, 2, 95), np.percentile(film, [2, 95])
        assert (shown[film <= low] == 0).all() and (shown[film >= high] == 255).all()
        inside = (film > low) & (film < high)
        expected = np.interp(film[inside], [low, high], [0, 255])
        assert np.abs(shown[inside] - expected).max() <= 0.5 + 1e-9
    assert not standardise(np.full((6, 6), 80, np.uint8)).any()


def test_boxes_hold_the_lungs_of_five_hospitals_worth_of_phantoms() -> None:
    for seed in range(5):
        films = phantom.simulate(20, size_px=128, seed=100 + seed)
        recalls = [mask[lung_box(film).inside].mean() * mask[lung_box(film).inside].size / mask.sum()
                   for film, mask in zip(films.images, films.masks["lungs"])]
        assert np.mean(recalls) > 0.93 and min(recalls) > 0.55


def test_a_box_does_not_depend_on_size_or_grey_scale() -> None:
    film = phantom.simulate(1, size_px=192, seed=5).images[0]
    box = lung_box(film)
    larger = lung_box(np.asarray(Image.fromarray(film).resize((576, 384), Image.Resampling.BICUBIC)))
    assert np.abs(np.array(larger) - np.array(box) * [2, 2, 3, 3]).max() <= 3 * 192 / 96
    assert np.abs(np.array(lung_box((film // 2 + 40).astype(np.uint8))) - box).max() <= 192 / 96


def test_lung_boxes_of_real_films(real_data: Path) -> None:
    "195 films of the Cohen collection with machine-made masks (arXiv 2005.10052): the numbers stated in 01b"
    bare, with_margin = [], []
    for path in sorted((real_data / "cohen" / "lung_masks").glob("*.png")):
        film = read_radiograph(real_data / "cohen" / "images" / f"{path.stem}.jpg")
        mask, box = np.asarray(Image.open(path).convert("L")) > 0, lung_box(film)
        bare.append(mask[box.inside].sum() / mask.sum())
        with_margin.append(mask[box.widened(0.05, film.shape).inside].sum() / mask.sum())
    assert len(bare) == 195
    assert [round(float(np.mean(bare)), 3), round(float(min(bare)), 2)] == [0.948, 0.77]
    assert [round(float(np.mean(with_margin)), 3), round(float(min(with_margin)), 2)] == [0.989, 0.86]


def test_a_margin_ends_where_the_film_ends() -> None:
    assert Box(10, 50, 20, 40).widened(0.1, (100, 100)) == Box(6, 54, 18, 42)
    assert Box(1, 99, 2, 98).widened(0.5, (100, 100)) == Box(0, 100, 0, 100)
    film = phantom.simulate(1, size_px=128, seed=2).images[0]
    assert np.array_equal(crop_to_lungs(film, 0), film[lung_box(film).inside])
    assert crop_to_lungs(film, 9).shape == film.shape
    crop_to_lungs(film)[:] = 0
    assert film.any()  # a copy


@pytest.mark.parametrize("function", [histogram, equalise, standardise, clahe, lung_box, crop_to_lungs])
def test_what_is_no_film_is_named(function) -> None:
    with pytest.raises(ValueError, match=r"float64 \(40, 40\).*uint8"):
        function(np.zeros((40, 40)))
    with pytest.raises(ValueError, match=r"\(40, 40, 3\)"):
        function(np.zeros((40, 40, 3), np.uint8))


def test_bad_settings_are_named() -> None:
    film = np.zeros((40, 40), np.uint8)
    with pytest.raises(ValueError, match="low=60, high=40"):
        standardise(film, 60, 40)
    with pytest.raises(ValueError, match="clip_limit=0.5"):
        clahe(film, 0.5)
    with pytest.raises(ValueError, match="tiles=30 for 40 x 40"):
        clahe(film, tiles=30)
    with pytest.raises(ValueError, match="no lung found"):
        lung_box(film)
    with pytest.raises(ValueError, match="margin=-0.1"):
        Box(1, 2, 1, 2).widened(-0.1, (9, 9))
