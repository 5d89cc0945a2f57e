"Small functions that larger ones are built of, each by a number worked by hand or a library that does the same"
from __future__ import annotations

from types import SimpleNamespace
from uuid import NAMESPACE_OID, UUID, uuid5

import numpy as np
import pytest
import sklearn.metrics as reference
from PIL import Image

torch = pytest.importorskip("torch")
from torch import nn

from covid_xray import admission, bundle, cards, cnn, course, data, deploy, dicom, export, gradcam, hooks, intervals
from covid_xray import metrics, phantom_anatomy, phantom_patients, pitfalls, sources
from covid_xray.exercises import judging
from covid_xray.explore import parts


def test_colour_and_grey_of_every_mode() -> None:
    red = Image.new("RGB", (10, 20), (255, 0, 0))
    assert admission.colourfulness(red) == 1 and admission.colourfulness(red.convert("L")) == 0
    assert admission.colourfulness(Image.new("RGB", (9, 9), (80, 80, 80))) == 0
    assert admission.colourfulness(Image.new("I;16", (9, 9), 700)) == 0
    assert (data.to_grey(red) == round(0.299 * 255)).all() and data.to_grey(red).shape == (20, 10)
    half = Image.new("RGBA", (4, 4), (200, 200, 200, 128))  # half transparent, over black
    assert np.abs(data.to_grey(half).astype(int) - 200 * 128 // 255).max() <= 1
    assert set(np.unique(data.to_grey(Image.new("1", (3, 3), 1)))) == {255}


def test_a_header_is_believed_where_it_says_no() -> None:
    def said(**header: str) -> list[tuple[str, str]]:
        return [(flag.name, flag.severity) for flag in admission.check_header(header)]

    assert said(Modality="DX", ViewPosition="PA", BodyPartExamined="CHEST") == []
    assert said(Modality="CR") == []
    assert said(Modality="CT") == [("modality", "refuse")]
    assert said(Modality="DX", ViewPosition="LATERAL", BodyPartExamined="KNEE") == [
        ("lateral", "refuse"), ("body part", "refuse")]
    burnt = admission.check_header({"Modality": "DX", "BurnedInAnnotation": "yes"})
    assert [flag.severity for flag in burnt] == ["warn"] and not deploy.is_refused(burnt)
    assert deploy.is_refused([*burnt, *admission.check_header({"Modality": "MR"})]) and not deploy.is_refused([])


def test_thumbnails_of_both_kinds() -> None:
    film = np.kron(np.arange(256).reshape(16, 16), np.ones((4, 4))).astype(np.uint8)[None]
    z = (np.arange(256) - 127.5) / np.arange(256).std()
    np.testing.assert_allclose(admission.thumbnails(film)[0], z, atol=1e-5)
    np.testing.assert_allclose(admission.thumbnails(film // 2 + 9), admission.thumbnails(film), atol=0.02)
    assert not admission.thumbnails(np.full((1, 64, 64), 7, np.uint8)).any()
    np.testing.assert_allclose(pitfalls.thumbnails(film)[0], np.arange(256) / 255)
    assert pitfalls.thumbnails(film, side=4).shape == (1, 16)


def test_words_and_classes() -> None:
    assert bundle.class_of_interest(("covid", "normal")) == "covid"
    assert bundle.class_of_interest(("normal", "pneumonia")) == "pneumonia"
    assert bundle.class_of_interest(("normal",)) == "normal"
    assert (course.chapters_folder() / "01_data.ipynb").is_file()
    assert UUID(int=int(dicom.derived_uid("1.2", "map").removeprefix("2.25."))) == uuid5(
        NAMESPACE_OID, "covid_xray/1.2/map")
    assert dicom.derived_uid("1.2", "map") != dicom.derived_uid("1.2", "film")


def test_folders_and_ways_to_films(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("COVID_XRAY_CACHE", str(tmp_path / "own"))
    assert sources.cache_folder() == tmp_path / "own" and not (tmp_path / "own").exists()
    told = sources.how_to_get("cohen", tmp_path / "films")
    assert f'covid-xray download cohen --folder "{tmp_path / "films"}"' in told and "github.com" in told
    assert "kaggle.com" in sources.how_to_get("radiography", tmp_path)


def test_odds_and_chance() -> None:
    np.testing.assert_allclose(cards.log_odds([0.5, 0.8, 0.2]), [0, np.log(4), -np.log(4)])
    np.testing.assert_allclose(cards.log_odds([0, 1]), [-10, 10], atol=0.01)
    ill = np.arange(40_000) % 2 == 0
    swab = cards.simulate_pcr(ill, sensitivity=0.7, specificity=0.9, seed=3)
    assert abs(swab[ill].mean() - 0.7) < 4 * 0.46 / 20_000**0.5 * 1.1
    assert abs(swab[~ill].mean() - 0.1) < 4 * 0.3 / 20_000**0.5 * 1.1


def test_arguments_of_the_simulator() -> None:
    assert phantom_patients.whole_number("n", np.int64(3), 1, 3) == 3
    for value in (0, 4, 2.0, True, "2", None):
        with pytest.raises(ValueError, match="n=.*a whole number from 1 to 3"):
            phantom_patients.whole_number("n", value, 1, 3)
    assert [phantom_patients.share_of_one("dial", v) for v in (0, 0.5, 1)] == [0.0, 0.5, 1.0]
    for value in (-0.01, 1.01, True, "0.5", float("nan")):
        with pytest.raises(ValueError, match="dial=.*a number from 0 to 1"):
            phantom_patients.share_of_one("dial", value)


def test_a_film_s_grid_and_the_way_back() -> None:
    pose = {"field": 40.0, "aspect": 1.21, "lean_deg": 6.0, "shift_down": 1.5, "shift_across": -2.0}
    across, down, to_pixels, side = phantom_anatomy.film_grid(pose, 20)
    assert np.ptp(down) == pytest.approx(40 / 1.1 * 19 / 20, rel=1e-5) and side == pytest.approx(2)
    points = np.stack([across, np.broadcast_to(down, across.shape), np.ones_like(across)])
    back = np.einsum("ij,jhw->ihw", to_pixels, points)  # every pixel's middle, by the map back
    rows, columns = np.indices((20, 20)) + 0.5
    np.testing.assert_allclose(back, [columns, rows], atol=1e-4)


def test_answers_are_compared_by_their_numbers() -> None:
    assert judging.matches(torch.ones(2, requires_grad=True), [1, 1]) and judging.matches(1.0, 1 + 1e-6)
    assert not judging.matches([1, 1], 1) and not judging.matches("one", 1) and not judging.matches(None, 1)
    assert not judging.matches(np.nan, np.nan) and judging.matches(np.nan, np.nan, nan_agrees=True)
    assert judging.matches(102, 100, relative=0.03) and not judging.matches(104, 100, relative=0.03)
    hints = {"halved": 5, "doubled": 20}
    assert judging.hint_for(20.0, hints, "other") == "doubled" and judging.hint_for(11, hints, "other") == "other"


def test_the_rim_of_a_mask() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    film = np.full((9, 9), 50, np.uint8)
    changed = (parts.outlined(film, {"lungs": mask}) != 50).any(axis=2)
    assert changed.sum() == 16 and not changed[3:6, 3:6].any() and not changed[~mask].any()


@pytest.mark.parametrize("old, new", [(40, 16), (16, 40), (23, 23)])
def test_resizing_weights_are_pillow_s(old: int, new: int) -> None:
    row = np.random.default_rng(0).random((1, old)).astype(np.float32)
    theirs = np.asarray(Image.fromarray(row).resize((new, 1), Image.Resampling.BILINEAR))
    ours = export.triangle_weights(old, new)
    np.testing.assert_allclose(ours.sum(dim=1), 1, atol=1e-4)
    np.testing.assert_allclose(ours.numpy() @ row[0], theirs[0], atol=1e-3)


def test_blocks_of_networks() -> None:
    x = torch.rand(2, 3, 8, 10)
    block = cnn.convolution_block(3, 5)
    assert block(x).shape == (2, 5, 4, 5) and block(x).min() >= 0
    assert sum(p.numel() for p in block.parameters()) == 3 * 5 * 9 + 2 * 5
    leaky = cnn.leaky_convolution(3, 4)
    assert leaky(x).shape == (2, 4, 8, 10) and leaky(x).min() < 0
    assert cnn.leaky_convolution(3, 4, 1)(x).shape == (2, 4, 10, 12)


def test_layers_scores_and_images_are_chosen_or_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 36, 3))
    assert hooks.bare_model(nn.DataParallel(model)) is model and hooks.find_layer(model, model[2]) == "2"
    with pytest.raises(ValueError, match="no layer '7' in this Sequential"):
        hooks.find_layer(model, "7")
    logits = torch.tensor([[1.0, 5.0, 2.0], [3.0, 0.0, 4.0]])
    chosen, scores = hooks.choose_scores(logits, None)
    assert chosen.tolist() == [1, 2] and scores.tolist() == [5, 4]
    assert hooks.choose_scores(logits, torch.tensor([0, 0]))[1].tolist() == [1, 3]
    for wrong in (torch.tensor([0, 3]), torch.tensor([-1, 0])):
        with pytest.raises(ValueError, match="classes 0 to 2"):
            hooks.choose_scores(logits, wrong)
    with pytest.raises(ValueError, match="the model gave tuple"):
        hooks.choose_scores((logits,), None)
    images, targets = hooks.check_images(np.zeros((2, 1, 4, 4), np.float32), 1)
    assert images.shape == (2, 1, 4, 4) and targets.tolist() == [1, 1]
    for bad, error in ((np.zeros((4, 4)), ValueError), (np.zeros((1, 1, 4, 4), np.uint8), TypeError),
                       (np.full((1, 1, 2, 2), np.nan), ValueError), (np.zeros((0, 1, 2, 2)), ValueError)):
        with pytest.raises(error):
            hooks.check_images(bad, None)
    for bad in ([0, 1], [0.0], [True], [[0]]):
        with pytest.raises(ValueError, match="pass one class number"):
            hooks.check_images(np.zeros((1, 1, 4, 4), np.float32), bad)


def test_slopes_of_a_linear_model_are_its_weights() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    slopes = hooks.pixel_slopes(model, torch.rand(2, 1, 3, 4), torch.tensor([1, 0]))
    expected = model[1].weight.detach()[[1, 0]].abs().reshape(2, 1, 3, 4)
    torch.testing.assert_close(slopes, expected)


@pytest.mark.parametrize("map, activation, slope, says", [
    ([1.0, -1.0], 1.0, 1.0, None), ([0.0, 0.0], 0.0, 1.0, "silent"), ([0.0, 0.0], 1.0, 0.0, "does not move"),
    ([-1.0, 0.0], 1.0, 1.0, "speaks against class 2"), ([float("nan"), 1.0], float("inf"), 1.0, "in the activations")])
def test_an_empty_map_has_a_reason(map, activation, slope, says) -> None:
    whole = SimpleNamespace(activations=torch.full((1, 1, 1, 2), activation), scores=torch.zeros(1),
                            gradients=torch.full((1, 1, 1, 2), slope), targets=torch.tensor([2]))
    reason = hooks.why_empty(torch.tensor([map]), whole, 0)
    assert reason is None if says is None else says in reason


def test_score_cam_by_hand() -> None:
    "Two feature maps; the score is the sum of the image's left column, so the map that shows the left one weighs more"
    class Left(nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0, :, 0].sum(dim=1), torch.zeros(len(x))], dim=1)

    activations = torch.tensor([[[[4.0, 0.0], [4.0, 0.0]], [[0.0, 2.0], [0.0, 2.0]]]])
    found = gradcam.scorecam_map(activations, Left(), torch.ones(1, 1, 2, 2), torch.tensor([0]))
    weights = np.exp([2.0, 0.0]) / np.exp([2.0, 0.0]).sum()  # seen through the first: 1 + 1; through the second: 0
    np.testing.assert_allclose(found[0], [[4 * weights[0], 2 * weights[1]]] * 2, rtol=1e-6)


def test_areas_with_weights_are_scikit_learn_s() -> None:
    rng = np.random.default_rng(0)
    positive, scores, person = rng.random(60) < 0.4, rng.random(60).round(1), rng.integers(0, 20, 60)
    weights = rng.integers(0, 4, (20, 5)).astype(float)
    areas, precisions = intervals.weighted_areas(positive, scores, person, weights)
    for r in range(5):
        each = weights[person, r]
        assert areas[r] == pytest.approx(reference.roc_auc_score(positive, scores, sample_weight=each))
        expected = reference.average_precision_score(positive, scores, sample_weight=each)
        assert precisions[r] == pytest.approx(expected)


def test_named_values_keep_order_and_what_is_undefined() -> None:
    stack = np.array([[[3, 1], [0, 4]], [[0, 0], [2, 6]]])  # in the second nobody is of class a
    areas = {name: np.array([[0.5, 1.0], [np.nan, 0.5]]) for name in ("auroc", "auprc")}
    found = metrics.named_values(("a", "b"), stack, areas, {"brier": np.zeros(2), "log_loss": np.ones(2)})
    np.testing.assert_allclose(found["recall", "a"], [0.75, np.nan])
    np.testing.assert_allclose(found["recall", "macro"], [0.875, 0.75])  # of the classes that are there
    np.testing.assert_allclose(found["auroc", "macro"], [0.75, np.nan])  # of all or none
    assert [name for name in found][:2] == [("accuracy", "overall"), ("balanced_accuracy", "overall")]
    assert len(found) == 6 + 6 * 3


@pytest.mark.parametrize("names, right", [
    (("covid", "normal"), True), (["lung opacity", "effusion", "normal"], True), (("covid", "covid"), False),
    (("covid", ""), False), (("covid", "a/b"), False), (("covid", "a\\b"), False), (("covid", "a\nb"), False),
    (("covid", "no\u00a0finding"), True), (("covid", "\x1b[2Ja"), False), (("covid", "a" * 101), False),
    (("Verschattung der Lunge", "\u80ba\u708e"), True), (("1", 1), False), ((1, 2), False)])
def test_what_can_name_classes(names, right):
    from covid_xray.guards import are_class_names

    assert are_class_names(names) is right
