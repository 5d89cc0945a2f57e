"""Scores of explanations against worked cases and scikit-learn."""
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, jaccard_score

from covid_xray import scoring


def example():
    map = np.array([[[0, 1, 2], [0, 4, 1], [0, 0, 0]]], dtype=np.float32)
    mask = np.array([[[0, 1, 0], [0, 1, 0], [0, 0, 0]]], dtype=bool)
    return map, mask


def test_worked_case():
    map, mask = example()
    assert scoring.pointing_game(map, mask) == [1]
    assert np.allclose(scoring.energy_share(map, mask), 5 / 8)
    assert np.allclose(scoring.enrichment(map, mask), (5 / 8) / (2 / 9))
    # above half of 4 only the middle is found: 1 of the 2 true pixels, nothing else
    assert np.allclose(scoring.iou(map, mask, threshold=0.5), 1 / 2)
    # ranked 4 (sick), 2 (not), then the tie of a sick and a healthy 1: 1/2 * 1 + 1/2 * 2/4
    assert np.allclose(scoring.pixel_auprc(map, mask), 0.75)


def test_ties_and_empty_maps():
    map, mask = example()
    assert np.allclose(scoring.pointing_game(0 * map, mask), 2 / 9)
    assert np.isnan(scoring.energy_share(0 * map, mask)).all()
    assert np.allclose(scoring.energy_share(map - 3, mask), 1)  # only what is above zero counts


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    maps, masks = rng.random((5, 9, 7)), rng.random((5, 9, 7)) < 0.3
    expected = [average_precision_score(mask.ravel(), map.ravel()) for map, mask in zip(maps, masks)]
    assert np.allclose(scoring.pixel_auprc(maps, masks), expected)
    expected = [jaccard_score(mask.ravel(), (map > 0.4 * map.max()).ravel()) for map, mask in zip(maps, masks)]
    assert np.allclose(scoring.iou(maps, masks, threshold=0.4), expected)


def test_tuned_threshold_is_the_best_of_its_candidates():
    "By scikit-learn's Jaccard score, one film and one threshold at a time"
    rng = np.random.default_rng(1)
    masks = rng.random((6, 8, 8)) < 0.3
    maps = masks * 0.5 + rng.random((6, 8, 8))
    shares = [k / 20 for k in range(1, 20)]
    means = [np.mean([jaccard_score(mask.ravel(), (map > share * map.max()).ravel()) for map, mask in zip(maps, masks)])
             for share in shares]
    assert scoring.tuned_threshold(maps, masks) == pytest.approx(shares[int(np.argmax(means))])
    assert scoring.tuned_threshold(maps, masks, candidates=(0.9, 0.1)) == (0.9 if means[17] >= means[1] else 0.1)


def test_mean_over_patients_leaves_out_what_has_no_score():
    values = np.array([1.0, np.nan, 0.0, 0.0])
    mean, low, high = scoring.mean_over_patients(values, ["a", "a", "b", "c"])
    assert mean == pytest.approx(1 / 3) and 0 <= low <= mean <= high <= 1
    assert np.isnan(scoring.mean_over_patients(np.array([np.nan]), ["a"])).all()
    one = scoring.mean_over_patients(values[[0, 2]], ["a", "a"])
    assert one == (0.5, 0.5, 0.5)  # a single person: every draw is the same


def test_otsu_is_the_best_split():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 500), rng.normal(6, 1, 200)])
    threshold = scoring.otsu_threshold(values)

    def between(t):
        low, high = values[values <= t], values[values > t]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) and len(high) else 0
    best = max(between(t) for t in np.sort(values))
    assert between(threshold) > 0.999 * best


def test_floors():
    rng = np.random.default_rng(0)
    masks = np.zeros((50, 10, 12), bool)
    for mask in masks:
        y, x = rng.integers(0, 7), rng.integers(0, 9)
        mask[y:y + 3, x:x + 3] = True
    floors = scoring.floor_maps(masks)
    best = masks.mean(0).max()
    assert np.isclose(scoring.pointing_game(floors["best constant pixel"], masks).mean(), best)
    assert all(masks[:, y, x].mean() <= best for y in range(10) for x in range(12))
    assert np.allclose(scoring.enrichment(floors["uniform"], masks), 1)
    assert np.isclose(scoring.pointing_game(floors["centre"], masks).mean(), masks[:, 4:6, 5:7].mean((1, 2)).mean())
    known = np.zeros_like(masks)
    known[:, 0, 0] = True
    assert scoring.floor_maps(masks, known=known)["best constant pixel"][0, 0, 0] == 1


def test_table_has_floors_and_patient_intervals():
    rng = np.random.default_rng(0)
    masks = rng.random((40, 6, 6)) < 0.3
    masks[:, 0, 0] = True
    perfect = masks.astype(np.float32)
    alone = scoring.score_maps(perfect, masks, patients=range(40)).set_index(["explanation", "score"])
    assert alone.loc[("explanation", "auprc"), ["mean", "low", "high"]].tolist() == [1, 1, 1]
    assert {"random", "uniform", "centre", "best constant pixel", "mean mask"} < set(alone.index.get_level_values(0))
    noise = rng.random(masks.shape)
    pooled = {k: scoring.score_maps({"noise": noise}, masks, patients=who).set_index(["explanation", "score"])
              for k, who in dict(films=range(40), pairs=np.arange(40) // 20).items()}
    a, b = (pooled[k].loc[("noise", "pointing")] for k in ("films", "pairs"))
    assert a["mean"] == b["mean"] and a["low"] < a["mean"] < a["high"]
    # independent check of the interval: draw films one at a time with numpy alone
    values = scoring.pointing_game(noise, masks)
    means = values[rng.integers(0, 40, (4000, 40))].mean(1)
    assert np.allclose([a["low"], a["high"]], np.percentile(means, [2.5, 97.5]), atol=0.04)


def test_boxes():
    mask = scoring.box_masks([[(0, 0, 512, 256)], []], [(1024, 1024), (100, 50)], 8)
    assert mask[0, :2, :4].all() and mask[0].sum() == 8 and not mask[1].any()


@pytest.mark.parametrize("maps, masks, says", [
    (np.zeros((1, 3, 3)), np.zeros((1, 3, 4), bool), "both must be"),
    (np.zeros((1, 3, 3)), np.zeros((1, 3, 3)), "masks bool"),
    (np.zeros((1, 3, 3)), np.zeros((1, 3, 3), bool), "nothing to find"),
    (np.full((1, 3, 3), np.nan), np.ones((1, 3, 3), bool), "remarks")])
def test_bad_input_is_refused(maps, masks, says):
    for function in scoring.SCORES.values():
        with pytest.raises(ValueError, match=says):
            function(maps, masks)


def test_other_bad_calls():
    map, mask = example()
    with pytest.raises(ValueError, match="otsu"):
        scoring.iou(map, mask, threshold="best")
    with pytest.raises(ValueError, match="one for each film"):
        scoring.score_maps(map, mask, patients=[1, 2])
    assert isinstance(scoring.score_maps(map, mask, patients=["a"]), pd.DataFrame)
