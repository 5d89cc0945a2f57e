"""Explorers of chapters 1 to 4: twins against numbers found another way, panels that answer, errors that name names."""
from __future__ import annotations

import io
import math

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from covid_xray import phantom
from covid_xray.explore import augmentation, cnn, data, parts, training

pytest.importorskip("ipywidgets")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return phantom.teaching_table()


def open_panel(box) -> tuple:
    "A panel's picture, its controls by name, and its text"
    picture, column = box.children
    *controls, text = column.children
    return picture, {control.description: control for control in controls}, text


def pixels(picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.value)))


# ---- every panel ----


@pytest.mark.parametrize("explorer", [data, augmentation, cnn, training], ids=lambda m: m.__name__.rpartition(".")[2])
def test_every_control_changes_the_picture_or_the_numbers_and_back(explorer) -> None:
    picture, controls, text = open_panel(explorer.panel())
    for name, control in controls.items():
        before, old = (picture.value, text.value), control.value
        if isinstance(old, bool):
            control.value = not old
        elif hasattr(control, "options"):
            control.index = (control.index + 1) % len(control.options)
        elif name == "first map":
            controls["layer"].value = "features.5"  # the first layers have no second sheet
            before = picture.value, text.value
            control.value = 16
        else:
            control.value = control.max if old < control.max else control.min
        assert (picture.value, text.value) != before, name
        control.value = old
        assert (picture.value, text.value) == before, name
    assert parts.CAPTION in text.value


@pytest.mark.parametrize("explorer", [data, augmentation, cnn, training], ids=lambda m: m.__name__.rpartition(".")[2])
def test_sliders_wait_for_the_release(explorer) -> None:
    _, controls, _ = open_panel(explorer.panel())
    sliders = [c for c in controls.values() if c.has_trait("continuous_update")]
    assert sliders and not any(slider.continuous_update for slider in sliders)


def test_a_missing_ipywidgets_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ipywidgets", None)
    with pytest.raises(ModuleNotFoundError, match=r"covid_xray\[course\]"):
        data.panel()


# ---- chapter 1: data ----


def test_the_twin_tells_the_row_and_the_grey_of_the_lungs(table: pd.DataFrame) -> None:
    rows = table[(table["label"] == "covid") & (table["view"] == "AP") & (table["split"] == "test")]
    row = rows.iloc[1]
    words = data.describe(table, 2, label="covid", view="AP", part="test", size_px=128)
    image = phantom.render([row["path"]], 128)[0]
    masks = phantom.masks([row["path"]], 128)
    assert f"film 2 of {len(rows)}: covid" in words
    assert f"patient {row['patient']}, {row['sex']}, {row['age']:.0f} years" in words
    assert "view AP, part test" in words
    assert f"{image[masks['lungs'][0]].mean():.1f} in the lungs" in words
    assert f"{image[masks['lesions'][0]].mean():.1f} in the lesions" in words


@pytest.mark.parametrize("centre, width", [(127.5, 255), (60, 80), (200, 5)])
def test_the_window_is_that_of_dicom(centre: float, width: float) -> None:
    pixels_module = pytest.importorskip("pydicom.pixels")
    from pydicom.dataset import Dataset

    header = Dataset()
    header.PhotometricInterpretation, header.BitsStored, header.PixelRepresentation = "MONOCHROME2", 8, 0
    header.WindowCenter, header.WindowWidth, header.VOILUTFunction = centre, width, "LINEAR_EXACT"
    greys = np.arange(256, dtype=np.uint8).reshape(16, 16)
    theirs = pixels_module.apply_windowing(greys, header)
    assert np.abs(data.apply_window(greys, centre, width) - theirs).max() <= 1


def test_shares_cut_off_by_the_window_are_counted(table: pd.DataFrame) -> None:
    image = phantom.render([table["path"].iloc[0]], 96)[0]
    words = data.describe(table, centre=100, width=60, size_px=96)
    black, white = np.count_nonzero(image <= 70) / image.size, np.count_nonzero(image >= 130) / image.size
    assert f"window 70 to 130: {black:.1%} black, {white:.1%} white" in words


def test_filters_shorten_the_slider_and_the_panel_agrees_with_the_twin(table: pd.DataFrame) -> None:
    picture, controls, text = open_panel(data.panel(table, size_px=96))
    controls["number"].value = len(table)
    controls["label"].value, controls["part"].value = "pneumonia", "valid"
    count = int(((table["label"] == "pneumonia") & (table["split"] == "valid")).sum())
    assert controls["number"].max == controls["number"].value == count
    assert data.describe(table, count, label="pneumonia", part="valid", size_px=96) in text.value
    assert pixels(picture).shape == (96, 96, 3)
    controls["look"].value = "lower right"
    assert pixels(picture).shape == (48, 48, 3)


def test_filters_that_leave_nothing_are_said_in_the_panel(table: pd.DataFrame) -> None:
    few = table[(table["label"] == "covid") | (table["view"] == "PA")]
    _, controls, text = open_panel(data.panel(few, size_px=64))
    controls["label"].value, controls["view"].value = "normal", "AP"
    assert "no film has all of label normal, view AP" in text.value
    controls["view"].value = ""
    assert "film 1 of" in text.value


def test_a_rim_lies_on_the_mask_and_nothing_else_changes(table: pd.DataFrame) -> None:
    picture, controls, _ = open_panel(data.panel(table, size_px=96))
    plain = pixels(picture)
    controls["lesions"].value = True
    changed = (pixels(picture) != plain).any(2)
    lesions = phantom.masks([table["path"].iloc[0]], 96)["lesions"][0]
    assert changed.any() and not (changed & ~lesions).any()
    assert (pixels(picture)[changed] == parts.OUTLINES["lesions"]).all()


def test_films_from_files_have_no_masks_and_unreadable_ones_do_not_end_the_panel(tmp_path) -> None:
    Image.fromarray(np.full((80, 100), 90, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"nothing")
    films = pd.DataFrame({"path": [str(tmp_path / f"{name}.png") for name in "abc"], "label": "normal"})
    words = data.describe(films, 1, size_px=100)
    assert "lungs not marked" in words and "patient unknown, sex unknown, age unknown" in words
    assert "mean grey 72.0" in words  # 80 rows of 90, 20 rows of black
    _, controls, text = open_panel(data.panel(films, size_px=64))
    controls["number"].value = 2
    assert "b.png" in text.value
    controls["number"].value = 3
    assert "no such file" in text.value
    controls["number"].value = 1
    assert "film 1 of 3" in text.value


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"label": "covd"}, "covd.*covid, normal, pneumonia"),
        ({"view": "from above"}, "from above.*AP"),
        ({"number": 0}, "number=0.*1 to"),
        ({"width": 0, "number": 1}, "width=0"),
    ],
)
def test_bad_arguments_of_the_browser_are_named(table: pd.DataFrame, settings: dict, named: str) -> None:
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    with pytest.raises(ValueError, match=named):
        data.plot_film(ax, table, **{"size_px": 64, **settings})
    with pytest.raises(ValueError, match="nowhere.*upper left"):
        data.plot_film(ax, table, size_px=64, look="nowhere")
    with pytest.raises(ValueError, match="bones.*lungs"):
        data.plot_film(ax, table, size_px=64, outline=["bones"])
    with pytest.raises(ValueError, match="path"):
        data.describe(table.drop(columns="path"))
    plt.close(figure)


# ---- chapter 2: augmentation ----


def test_the_matrix_undoes_shift_turn_and_scale() -> None:
    "Against the product of three matrices, worked in numpy; places run from -1 to 1"
    turn, grow, right, down = math.radians(-23), 1.4, 0.1, -0.25
    shift = np.array([[1, 0, 2 * right], [0, 1, 2 * down], [0, 0, 1]])
    rotate = np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
    forward = shift @ rotate @ np.diag([grow, grow, 1])
    found = augmentation.find_matrix(degrees=-23, scale=1.4, right=right, down=down)
    assert np.allclose(found, np.linalg.inv(forward)[:2], atol=1e-6)


def test_the_twin_prints_the_library_s_matrix() -> None:
    from covid_xray.augment import affine_matrices

    numbers = affine_matrices(*(torch.tensor([value]) for value in (30.0, 0.8, 0.2, 0.0)))[0].numpy()
    words = augmentation.describe(degrees=30, scale=0.8, right=0.1)
    printed = [float(word) for line in words.splitlines()[:2] for word in line.removeprefix("matrix").split()]
    assert np.allclose(printed, numbers.ravel(), atol=6e-4)


def test_the_share_kept_is_that_of_a_shifted_square() -> None:
    mask = np.zeros((100, 100), bool)
    mask[40:60, 70:90] = True
    for right, expected in ((0.0, 1.0), (0.1, 1.0), (0.15, 0.75), (0.2, 0.5), (0.3, 0.0)):
        kept = augmentation.share_kept(mask, augmentation.find_matrix(right=right))
        assert kept == pytest.approx(expected, abs=0.051)
    assert augmentation.share_kept(mask, augmentation.find_matrix(scale=0.5)) == 1
    assert augmentation.share_kept(mask, augmentation.find_matrix(scale=2)) == pytest.approx(0.25, abs=0.051)
    assert math.isnan(augmentation.share_kept(mask & False, augmentation.find_matrix()))


def test_a_changed_film_is_torchvision_s() -> None:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as tv

    image = phantom.simulate(1, size_px=100, seed=2).images[0]
    ours = augmentation.change_film(image, degrees=12, scale=1.2, right=0.1, down=-0.05, gamma=0.7)
    film = torch.tensor(image)[None, None].float() / 255
    bent = tv.affine(film, 12.0, [10, -5], 1.2, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR)
    theirs = tv.adjust_gamma(bent, 0.7)[0, 0].numpy() * 255
    assert np.abs(ours - theirs).max() < 4
    lit = augmentation.change_film(image, brightness=0.1, contrast=1.5)
    assert np.abs(lit - ((image / 255 - 0.5) * 1.5 + 0.6).clip(0, 1) * 255).max() <= 1


def test_a_finding_can_be_pushed_off_or_washed_out() -> None:
    assert "lesion 100.0% still on the film" in augmentation.describe(degrees=5)
    assert "lesion 0.0% still on the film" in augmentation.describe(right=1)
    assert "-> 0.0 grey levels" in augmentation.describe(brightness=1)
    still = augmentation.describe().splitlines()
    before, after = still[2].removeprefix("mean grey ").split(" -> ")
    assert before == after


def test_the_bending_panel_agrees_with_the_twin() -> None:
    films = phantom.simulate(2, size_px=96, seed=4, prevalence={"covid": 0, "normal": 0, "pneumonia": 1})
    masks = {name: films.masks[name][1] for name in ("lungs", "lesions")}
    picture, controls, text = open_panel(augmentation.panel(films.images[1], masks, degrees=3))
    controls["right"].value = 0.4
    assert augmentation.describe(films.images[1], masks, degrees=3, right=0.4).replace(">", "&gt;") in text.value
    controls["outline"].value = ""
    before_and_after = pixels(picture)
    assert before_and_after.shape == (96, 192, 3)
    assert np.array_equal(before_and_after[:, :96, 0], films.images[1])
    changed = augmentation.change_film(films.images[1], degrees=3, right=0.4)
    assert np.array_equal(before_and_after[:, 96:, 0], changed)
    assert "no lesion marked" in augmentation.describe(films.images[1])


def test_bad_arguments_of_the_bender_are_named() -> None:
    with pytest.raises(ValueError, match="tilt.*degrees"):
        augmentation.describe(tilt=3)
    with pytest.raises(ValueError, match="scale=0 .*0.5 to 2"):
        augmentation.panel(scale=0)
    with pytest.raises(ValueError, match="float64"):
        augmentation.describe(np.zeros((8, 8)))
    with pytest.raises(ValueError, match="lesions.*same shape"):
        augmentation.describe(np.zeros((8, 8), np.uint8), {"lesions": np.ones((9, 9), bool)})


# ---- chapter 3: feature maps ----


class Known(nn.Module):
    "One convolution with kernels that a reader can follow, a ReLU in place, averages"

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(3, 2)
        edge = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
        self.first.weight.data = torch.stack([edge, -edge, -torch.ones(3, 3)])[:, None]

    def forward(self, images):
        return self.head(self.relu(self.first(images)).mean((2, 3)))


def test_maps_are_those_of_scipy_and_zeros_are_counted() -> None:
    signal = pytest.importorskip("scipy.signal")
    images = phantom.simulate(2, size_px=48, seed=1).images
    model = Known().train()
    kernels = model.first.weight.detach().numpy()[:, 0]
    expected = np.stack([signal.correlate2d(images[1] / 255, kernel, mode="same") for kernel in kernels])
    assert np.allclose(cnn.find_maps(model, images, "first", 1), expected, atol=1e-5)
    rectified = expected.clip(0)
    words = cnn.describe(model, images, "relu", 1)
    assert "3 maps of 48 x 48: 6,912 numbers" in words
    assert f"mean {rectified.mean():.3f}" in words and f"largest {rectified.max():.3f}" in words
    zeros = float(words.split("% zeros")[0].split()[-1])
    assert zeros == pytest.approx(100 * np.count_nonzero(rectified < 1e-6) / rectified.size, abs=0.3)
    assert "1 maps silent" in words  # the third kernel is negative everywhere
    assert model.training and not model.first._forward_hooks


def test_layers_are_listed_with_their_shapes() -> None:
    assert cnn.list_layers(Known(), np.zeros((1, 40, 32), np.uint8)) == {"first": (3, 40, 32), "relu": (3, 40, 32)}
    plain = cnn.list_layers()
    assert list(plain)[:3] == ["features.0", "features.1.0", "features.1.1"] and list(plain)[-1] == "head.0"
    assert "layer features.1.0 (Conv2d)" in cnn.describe()
    assert plain["features.1"] == (16, 64, 64) and plain["features.5"] == (128, 4, 4)
    assert plain["features.1.2"] == (16, 128, 128)


def test_the_default_network_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert cnn.describe() == cnn.describe()
    assert torch.equal(torch.rand(2), expected)


def test_the_feature_panel_agrees_with_the_twin() -> None:
    images = phantom.simulate(3, size_px=64, seed=1).images
    picture, controls, text = open_panel(cnn.panel(Known(), images))
    assert "layer first" in text.value
    controls["film"].value, controls["layer"].value = 2, "relu"
    assert cnn.describe(Known(), images, "relu", 2) in text.value
    height, width, _ = pixels(picture).shape
    assert width == 2 * height


def test_all_maps_on_a_sheet_share_one_scale() -> None:
    from matplotlib import colormaps

    maps = np.stack([np.full((5, 5), value, float) for value in (0, 1, 4)])
    sheet = cnn.draw_maps(maps, tile_px=10)
    for place, share in enumerate((0.0, 0.25, 1.0)):
        assert tuple(sheet[3, 12 * place + 3]) == colormaps["cividis"](share, bytes=True)[:3]
    assert (sheet[3, 12 * 3 + 3] == 255).all()  # no fourth map
    wide = cnn.draw_maps(np.arange(8.0).reshape(1, 2, 4), tile_px=8)[:8, :8, 2]
    assert len(np.unique(wide[:4])) == 8 and (wide[4:] == 255).all()  # twice as wide as high, every value there


def test_bad_arguments_of_the_feature_maps_are_named() -> None:
    images = np.zeros((2, 40, 40), np.uint8)
    with pytest.raises(ValueError, match="frist.*first"):
        cnn.describe(Known(), images, "frist")
    with pytest.raises(ValueError, match="'head' gives .1, 2.*list_layers"):
        cnn.describe(Known(), images, "head")
    with pytest.raises(ValueError, match="film=2.*0 to 1"):
        cnn.describe(Known(), images, "first", 2)
    with pytest.raises(ValueError, match="'head' has no maps.*first, relu"):
        cnn.panel(Known(), images, layer="head")
    with pytest.raises(ValueError, match="float64"):
        cnn.describe(Known(), np.zeros((2, 40, 40)))
    with pytest.raises(ValueError, match="Linear puts out maps"):
        cnn.list_layers(nn.Linear(40, 2), images)
    with pytest.raises(ValueError, match="2 axes for a film and 2 layers: 3"):
        cnn.plot_maps([None, None], Known(), images, ["first", "relu"])
    with pytest.raises(ValueError, match="first=9.*0 to 2"):
        cnn.draw_maps(np.zeros((3, 4, 4)), first=9)


# ---- chapter 4: the learning rate ----


def test_the_curves_twin_tells_the_stored_losses() -> None:
    curves = training.load_curves()
    chosen = curves[np.isclose(curves["learning_rate"], 3e-3) & (curves["epoch"] == 3)]["train_loss"]
    words = training.describe(3e-3, "training")
    assert f"learning rate 0.003, training loss, {len(chosen)} seeds" in words
    assert f"epoch 4: mean {chosen.mean():.3f} ({chosen.min():.3f} to {chosen.max():.3f})" in words
    _, controls, text = open_panel(training.panel(1e-4))
    controls["learning rate"].value, controls["loss"].value = 3e-3, "training"
    assert words in text.value


def test_unknown_rates_and_losses_are_named() -> None:
    with pytest.raises(ValueError, match="0.5: choose one of .*0.001"):
        training.describe(0.5)
    with pytest.raises(ValueError, match="'test'.*training, validation"):
        training.panel(loss="test")


# ---- pages without widgets ----


def test_static_pictures_show_what_the_panels_show(table: pd.DataFrame) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2)
    picture, controls, _ = open_panel(data.panel(table, size_px=64))
    controls["lungs"].value = controls["lesions"].value = True
    assert np.array_equal(data.plot_film(axes[0], table, size_px=64).images[0].get_array(), pixels(picture))
    picture, _, _ = open_panel(augmentation.panel(degrees=20))
    before, after = (ax.images[-1].get_array() for ax in augmentation.plot_change(axes, degrees=20))
    assert np.array_equal(np.hstack([before, after]), pixels(picture))
    picture, _, _ = open_panel(cnn.panel(layer="features.2"))
    sheet = cnn.plot_maps(axes, layers=["features.2"])[1].images[-1].get_array()
    assert np.array_equal(sheet, pixels(picture)[:, -sheet.shape[1]:])
    plt.close(figure)
