"""Grad-CAM and its family against captum, pytorch-grad-cam, torchcam, worked numbers, and models of every kind."""
import copy
import os
import sys
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn

from covid_xray import gradcam, hooks
from covid_xray.gradcam import Explanation, explain, overlay, plot_explanations


def reference(name):
    "A package to compare with: skipped where absent, a failure where everything is required"
    if os.environ.get("COVID_XRAY_REQUIRE_ALL"):
        return __import__(name, fromlist=["_"])
    return pytest.importorskip(name)


class Small(nn.Module):
    "Conv, batch norm, in-place ReLU, pooling, dropout, fully connected: all that may be left changed"

    def __init__(self, channels=1, classes=3):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(inplace=True))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Dropout(0.5), nn.Linear(108, classes))

    def forward(self, x):
        return self.head(self.features(x))


def model_and_images(kind, seed=0):
    torch.manual_seed(seed)
    if kind == "small":
        return Small(), torch.rand(3, 1, 24, 20), "features"
    if kind == "ours":
        cnn = pytest.importorskip("covid_xray.cnn")
        return cnn.create_model("plain"), torch.rand(3, 1, 64, 64), "features"
    models = pytest.importorskip("torchvision.models")
    model = getattr(models, kind)(weights=None)
    for module in model.modules():  # random statistics, so that batch norm is not the identity
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    # DenseNet's default layer, `features`, is overwritten by an in-place ReLU, and two packages read it afterwards
    return model, torch.rand(2, 3, 96, 64), {"resnet18": "layer4", "densenet121": "features.denseblock4"}[kind]


def scaled(maps):
    maps = np.asarray(maps, dtype=np.float64)
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    return (maps - low) / np.where(high > low, high - low, 1)


def grow(maps, size):
    "Bilinear upsampling in numpy: half-pixel centres, edges held"
    def weights(n, m):
        at = (np.arange(m) + 0.5) * n / m - 0.5
        at = np.clip(at, 0, n - 1)
        low = np.minimum(np.floor(at).astype(int), n - 1)
        high = np.minimum(low + 1, n - 1)
        matrix = np.zeros((m, n))
        np.add.at(matrix, (np.arange(m), low), 1 - (at - low))
        np.add.at(matrix, (np.arange(m), high), at - low)
        return matrix
    return weights(maps.shape[-2], size[0]) @ maps @ weights(maps.shape[-1], size[1]).T


pytestmark = pytest.mark.filterwarnings("ignore:.*maps say nothing")
KINDS = ["small", "ours", "resnet18", "densenet121"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method, theirs", [("gradcam", "GradCAM"), ("layercam", "LayerCAM"), ("hirescam", "HiResCAM"),
                                            ("gradcam++", "GradCAMPlusPlus"), ("eigencam", "EigenCAM")])
def test_equals_pytorch_grad_cam(kind, method, theirs):
    package = reference("pytorch_grad_cam")
    targets = reference("pytorch_grad_cam.utils.model_targets")
    model, images, layer = model_and_images(kind)
    model.eval()
    if method == "gradcam++":  # their 1e-6 in the denominator is not the paper's: make the slopes large beside it
        with torch.no_grad():
            for parameter in list(model.parameters())[-2:]:
                parameter *= 1000
    classes = [1, 2, 0][:len(images)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = explain(model, images, classes, method=method, layer=layer)
    with getattr(package, theirs)(model, [model.get_submodule(layer)]) as cam:
        other = cam(images.clone(), [targets.ClassifierOutputTarget(c) for c in classes])
    if method == "eigencam":
        # theirs has the SVD's arbitrary sign: where it is turned, compare with the negative part that its ReLU kept
        parts = hooks.take_parts(model, images, torch.tensor(classes), layer=layer)
        signed = gradcam.eigencam_map(parts.activations)
        turned = grow((-signed).clamp(min=0).double().numpy(), images.shape[2:])
        distance = np.minimum(abs(scaled(ours.maps) - other).max((1, 2)), abs(scaled(turned) - other).max((1, 2))).max()
    else:
        distance = abs(scaled(ours.maps) - other).max()
    assert distance < (1e-4 if method in ("gradcam++", "eigencam") else 1e-5), distance


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["gradcam", "hirescam"])
def test_equals_captum(kind, method):
    attr = reference("captum.attr")
    model, images, layer = model_and_images(kind)
    model.eval()
    targets = torch.tensor([1, 2, 0][:len(images)])
    ours = explain(model, images, targets, method=method)
    assert ours.layer == ("features" if kind == "densenet121" else layer)
    module = model.get_submodule(ours.layer)
    if method == "gradcam":
        other = attr.LayerGradCam(model, module).attribute(images, target=targets, relu_attributions=True)
    else:
        other = attr.LayerGradientXActivation(model, module).attribute(images, target=targets)
        other = other.sum(1, keepdim=True).relu()
    other = grow(other[:, 0].detach().double().numpy(), images.shape[2:])
    assert abs(scaled(ours.maps) - scaled(other)).max() < 1e-5
    # raw values too, not only after scaling
    assert np.allclose(ours.maps, other, atol=1e-5 * max(1, abs(other).max()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method, theirs", [("gradcam", "GradCAM"), ("layercam", "LayerCAM")])
def test_equals_torchcam(kind, method, theirs):
    methods = reference("torchcam.methods")
    model, images, layer = model_and_images(kind)
    model.eval()
    classes = [1, 2, 0][:len(images)]
    ours = explain(model, images, classes, method=method, layer=layer)
    with getattr(methods, theirs)(model, layer) as cam:
        other = cam(classes, model(images))[0]
    other = grow(other.detach().double().numpy(), images.shape[2:])
    assert abs(scaled(ours.maps) - scaled(other)).max() < 1e-5


def test_worked_case():
    "The chapter's network of two feature maps, every number by hand"
    A = torch.tensor([[[2., 5], [0, 2]], [[2, 1], [3, 3]]])[None]
    G = torch.tensor([[[2., 2], [0, 0]], [[0, -2], [0, -2]]])[None]
    assert torch.equal(gradcam.gradcam_map(A, G)[0], torch.tensor([[0., 4], [-3, -1]]))
    assert torch.equal(gradcam.hirescam_map(A, G)[0], torch.tensor([[4., 8], [0, -6]]))
    assert torch.equal(gradcam.layercam_map(A, G)[0], torch.tensor([[4., 10], [0, 0]]))
    # alpha = 4 / (8 + 9 * 8) = 1/20 at the two rising slopes; weight = 2 * 1/20 * 2 = 0.2; the second map has none
    assert torch.allclose(gradcam.gradcam_plus_plus_map(A, G)[0], torch.tensor([[0.4, 1], [0, 0.4]]))


def test_eigencam_against_scikit_learn():
    decomposition = reference("sklearn.decomposition")
    activations = torch.randn(2, 5, 4, 3, generator=torch.Generator().manual_seed(0))
    ours = gradcam.eigencam_map(activations).numpy()
    for one, map in zip(activations, ours):
        other = decomposition.PCA(1).fit_transform(one.flatten(1).T.numpy())[:, 0].reshape(4, 3)
        assert min(abs(map - other).max(), abs(map + other).max()) < 1e-5


def test_hirescam_adds_up_to_the_score():
    model, images, _ = model_and_images("small")
    model.eval()
    model.head[0] = nn.AdaptiveAvgPool2d(1)
    model.head[3] = nn.Linear(12, 3)
    parts = hooks.take_parts(model, images, torch.tensor([0, 1, 2]), layer="features")
    total = gradcam.hirescam_map(parts.activations, parts.gradients).sum(dim=(1, 2)) + model.head[3].bias
    assert torch.allclose(total, parts.scores, atol=1e-5)


def test_scorecam_against_a_plain_loop():
    model, images, _ = model_and_images("small")
    model.eval()
    ours = explain(model, images, [2, 0, 1], method="scorecam")
    with torch.no_grad():
        activations = model.features(images).double().numpy()
        for n, target in enumerate([2, 0, 1]):
            big = grow(activations[n], images.shape[2:])
            scores = []
            for window in big:
                window = (window - window.min()) / max(window.max() - window.min(), 1e-8)
                scores.append(model(images[n:n + 1] * torch.tensor(window).float())[0, target].item())
            weights = np.exp(scores) / np.exp(scores).sum()
            expected = grow(np.tensordot(weights, activations[n], 1).clip(min=0), images.shape[2:])
            assert abs(ours.maps[n] - expected).max() < 1e-5


@pytest.mark.parametrize("method", ["smoothgrad", "integrated-gradients", "occlusion", "saliency"])
def test_pixel_methods(method):
    attr = reference("captum.attr")
    model, images, _ = model_and_images("small")
    model.eval()
    ours = explain(model, images, 1, method=method)
    assert ours.layer == "input" and ours.maps.shape == (3, 24, 20) and ours.maps.dtype == np.float32
    assert np.array_equal(ours.maps, explain(model, images, 1, method=method, batch_size=3).maps)
    if method == "saliency":
        assert np.allclose(ours.maps, attr.Saliency(model).attribute(images, target=1)[:, 0].numpy(), atol=1e-6)
    if method == "integrated-gradients":  # completeness: the map adds up to the score's change from black
        with torch.no_grad():
            change = (model(images) - model(0 * images))[:, 1].numpy()
        assert np.allclose(ours.maps.sum((1, 2)), change, atol=0.05 * abs(change).max() + 0.01)


def state(model):
    return ([m.training for m in model.modules()], [p.requires_grad for p in model.parameters()],
            [None if p.grad is None else p.grad.clone() for p in model.parameters()],
            [x.clone() for x in model.state_dict().values()],
            [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
            torch.get_rng_state(), torch.is_grad_enabled())


def assert_same(before, after):
    for a, b in zip(before, after):
        if isinstance(a, list):
            assert len(a) == len(b)
            assert all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b))
        else:
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def odd_model():
    "A model caught in the middle of things: mixed modes, half frozen, gradients from a step before"
    model, images, _ = model_and_images("small")
    model(images).sum().backward()
    model.features[1].eval()
    model.features[0].weight.requires_grad_(False)
    return model, images


@pytest.mark.parametrize("method", gradcam.METHODS)
def test_everything_is_as_before(method):
    if method in ("smoothgrad", "integrated-gradients", "occlusion"):
        reference("captum.attr")
    model, images = odd_model()
    kept = images.clone()
    before = state(model)
    explain(model, images, method=method)
    assert_same(before, state(model))
    assert torch.equal(images, kept) and images.grad is None and not images.requires_grad


@pytest.mark.parametrize("method", ["gradcam", "scorecam", "saliency"])
@pytest.mark.parametrize("where", ["features.0", "features.6", "head.3"])
def test_everything_is_as_before_after_an_exception(method, where):
    model, images = odd_model()

    def fail(*_):
        torch.rand(1)
        raise RuntimeError("on purpose")
    handle = model.get_submodule(where).register_forward_pre_hook(fail)
    before = state(model)
    with pytest.raises(RuntimeError, match="on purpose"):
        explain(model, images, method=method)
    assert_same(before, state(model))
    handle.remove()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("method", ["gradcam", "saliency"])
def test_under_any_gradient_context(context, method):
    model, images, _ = model_and_images("small")
    expected = explain(model, images, method=method).maps
    with context():
        assert np.array_equal(explain(model, images * 1, method=method).maps, expected)


def test_frozen_and_training_mode_change_nothing():
    model, images, _ = model_and_images("small")
    expected = explain(model.eval(), images).maps
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert np.array_equal(explain(model.train(), images).maps, expected)


def test_in_place_relu_after_the_layer():
    model, images, _ = model_and_images("small")
    other = copy.deepcopy(model)
    other.features[6] = nn.ReLU(inplace=False)
    for layer in ("features.5", "features.4"):
        assert np.array_equal(explain(model, images, layer=layer).maps, explain(other, images, layer=layer).maps)


def test_backbone_under_no_grad_inside_the_model():
    class Frozen(Small):
        def forward(self, x):
            with torch.no_grad():
                x = self.features(x)
            return self.head(x)
    torch.manual_seed(0)
    frozen, plain = Frozen(), Small()
    plain.load_state_dict(frozen.state_dict())
    images = torch.rand(2, 1, 24, 20)
    for layer in ("features", "head.0"):
        assert np.allclose(explain(frozen, images, 0, layer=layer).maps, explain(plain, images, 0, layer=layer).maps)


def test_wrapped_models():
    model, images, _ = model_and_images("small")
    model.eval()
    expected = explain(model, images)
    assert np.array_equal(explain(nn.DataParallel(model), images).maps, expected.maps)
    compiled = torch.compile(model, backend="eager")
    assert np.array_equal(explain(compiled, images).maps, expected.maps)
    compiled(images)
    before = state(model)
    both = explain(nn.DataParallel(compiled), images, layer="features")
    assert np.array_equal(both.maps, expected.maps) and both.layer == "features"
    assert_same(before, state(model))


def test_compiled_in_place():
    model, images, _ = model_and_images("small")
    expected = explain(model, images).maps
    model.compile(backend="eager")
    model.eval()(images)
    call = model._compiled_call_impl
    assert np.array_equal(explain(model, images).maps, expected)
    assert model._compiled_call_impl is call


def test_refused_with_the_reason():
    model, images, _ = model_and_images("small")
    inner = copy.deepcopy(model)
    inner.head = torch.compile(inner.head, backend="eager")
    with pytest.raises(TypeError, match="'head' is compiled"):
        explain(inner, images)
    with pytest.raises(TypeError, match="TorchScript"):
        explain(torch.jit.trace(model.eval(), images), images)


@pytest.mark.parametrize("change, error, says", [
    (dict(method="grad-cam"), ValueError, "gradcam"),
    (dict(layer="featurs"), ValueError, "features"),
    (dict(layer="head.3"), ValueError, r"\(3, 3\)"),
    (dict(targets=[0, 1]), ValueError, "3 images"),
    (dict(targets=[0, 1, 3]), ValueError, "classes 0 to 2"),
    (dict(targets=-1), ValueError, "classes 0 to 2"),
    (dict(targets=[0.5, 1, 1]), ValueError, "class number"),
    (dict(images=torch.zeros(3, 24, 20)), ValueError, "N, C, H, W"),
    (dict(images=torch.zeros(0, 1, 24, 20)), ValueError, "at least one"),
    (dict(images=torch.zeros(3, 1, 24, 20, dtype=torch.uint8)), TypeError, "/ 255"),
    (dict(images=torch.full((2, 1, 24, 20), torch.nan)), ValueError, r"image \[0, 1\]"),
    (dict(model=nn.Sequential(nn.Flatten(), nn.Linear(480, 3))), ValueError, "larger image")])
def test_bad_calls_say_what_is_needed(change, error, says):
    model, images, _ = model_and_images("small")
    with pytest.raises(error, match=says):
        explain(**{"model": model, "images": images, **change})


def test_layers_off_the_path_and_odd_outputs_are_refused():
    class Odd(Small):
        def forward(self, x):
            features = self.features(x)
            return self.head(features.detach() if self.cut else features) if not self.pair else (features, features)
    model, images, _ = model_and_images("small")
    model.__class__ = Odd
    model.cut, model.pair, model.side = True, False, nn.Identity()
    with pytest.raises(ValueError, match="does not depend on layer 'features'"):
        explain(model, images, layer="features")
    with pytest.raises(ValueError, match="does not depend on layer 'side'"):
        explain(model, images, layer="side")
    model.pair = True
    with pytest.raises(ValueError, match="tuple"):
        explain(model, images, layer="features")


def test_empty_maps_say_why():
    model, images, _ = model_and_images("small")
    with torch.no_grad():
        model.head[3].weight.fill_(-1)
    with pytest.warns(UserWarning, match="3 of 3 maps say nothing.*speaks against class 1"):
        result = explain(model, images, 1)
    assert set(result.remarks) == {0, 1, 2} and not result.maps.any() and not result.display().any()
    with torch.no_grad():
        model.head[3].weight.zero_()
    with pytest.warns(UserWarning, match="every slope is 0"):
        explain(model, images, 1)
    with torch.no_grad():
        model.features[5].bias.fill_(-100)
    with pytest.warns(UserWarning, match="silent"):
        explain(model, images, 1)
    with torch.no_grad():
        model.features[4].weight[0, 0, 0, 0] = torch.nan
    with pytest.warns(UserWarning, match="not finite.*activations"):
        result = explain(model, images, 1)
    assert np.isnan(result.maps).any() and np.isfinite(result.display()).all()


def test_batches_do_not_mix():
    model, images, _ = model_and_images("small")
    whole = explain(model, images, [0, 1, 2])
    alone = [explain(model, images[i:i + 1], i).maps[0] for i in range(3)]
    assert np.allclose(whole.maps, alone, atol=1e-6)
    assert np.allclose(whole.maps, explain(model, images, [0, 1, 2], batch_size=2).maps, atol=1e-6)
    with torch.no_grad():
        logits = model.eval()(images)
    predicted = explain(model, images)
    assert np.array_equal(predicted.targets, logits.argmax(1)) and predicted.maps.dtype == np.float32
    assert np.allclose(predicted.scores, logits.max(1).values)


def test_numpy_double_and_one_logit():
    model, images, _ = model_and_images("small")
    assert np.array_equal(explain(model, images.numpy()).maps, explain(model, images).maps)
    assert np.allclose(explain(model.double(), images).maps, explain(model.float(), images).maps, atol=1e-5)
    model.head[3] = nn.Linear(108, 1)
    assert set(explain(model, images).targets) == {0}


@pytest.mark.parametrize("name, layer", [
    ("resnet18", "layer4"), ("densenet121", "features"), ("alexnet", "features"),
    ("mobilenet_v2", "features"), ("mobilenet_v3_small", "features"), ("efficientnet_b0", "features"),
    ("squeezenet1_1", "classifier.2"), ("convnext_tiny", "features"), ("shufflenet_v2_x0_5", "conv5"),
    ("regnet_y_400mf", "trunk_output"), ("mnasnet0_5", "layers"), ("googlenet", "inception5b"), ("swin_t", "permute")])
def test_default_layer_of_torchvision_models(name, layer):
    models = pytest.importorskip("torchvision.models")
    extra = {"init_weights": False} if name == "googlenet" else {}
    model = getattr(models, name)(weights=None, **extra)
    assert hooks.default_layer(model, torch.rand(1, 3, 96, 96)) == layer


def test_the_layer_is_searched_once_and_again_when_something_changes():
    "The answer is kept for one model, as it is described, and one size of image"
    model, passes = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1)), []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    image = torch.rand(1, 1, 16, 16)
    assert [hooks.default_layer(model, image) for _ in range(3)] == ["2"] * 3 and len(passes) == 1
    model[2].stride = (8, 8)  # one position is left
    assert hooks.default_layer(model, image) == "1"
    assert hooks.default_layer(model, torch.rand(1, 1, 32, 32)) == "2"
    assert len(passes) == 3


def test_a_transformer_has_no_default_layer():
    models = pytest.importorskip("torchvision.models")
    model = models.VisionTransformer(image_size=32, patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8)
    with pytest.raises(ValueError, match="no layer"):
        hooks.default_layer(model, torch.rand(1, 3, 32, 32))


def test_timm_models():
    timm = pytest.importorskip("timm")
    for name in ("resnet10t", "tf_efficientnet_lite0", "mobilenetv3_small_050"):
        result = explain(timm.create_model(name, num_classes=3, in_chans=1), torch.rand(2, 1, 64, 64), 1)
        assert result.maps.shape == (2, 64, 64)


def test_overlay_and_sheet():
    plt = pytest.importorskip("matplotlib.pyplot")
    model, images, _ = model_and_images("small")
    result = explain(model, images)
    ax = overlay(images[0], result.maps[0])
    film, heat = ax.images
    level = np.asarray(heat.get_alpha())
    assert np.allclose(level, 0.6 * result.display()[0], atol=1e-6) and film.get_cmap().name == "gray"
    assert [text.get_text() for text in overlay(images[0], 0 * result.maps[0]).texts] == ["empty map"]
    figure = plot_explanations(images, result, ["a", "b", "c"], targets=[0, 1, 2], masks=images[:, 0] > 0.9, columns=2)
    assert len(figure.axes) == 4 and "truth b" in figure.axes[1].get_title()
    with pytest.raises(TypeError, match="positional"):  # what a sheet may be told goes by its name
        plot_explanations(images, result, ["a", "b", "c"], [0, 1, 2])
    with pytest.raises(ValueError, match="both must be the same"):
        overlay(images[0], result.maps[0][:-1])
    plt.close("all")


@pytest.mark.parametrize("method", ["smoothgrad", "integrated-gradients", "occlusion"])
def test_methods_of_captum_say_what_to_install_where_it_is_absent(method, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(ImportError, match=rf"'{method}' is captum's: pip install 'covid_xray\[course\]'"):
        explain(Small(), torch.rand(1, 1, 24, 20), method=method)


def test_take_keeps_rows_together():
    maps = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    whole = Explanation(maps, "x", np.array([0, 1, 2]), np.array([5.0, 6, 7]), "gradcam", {2: "why"})
    some = whole.take([2, 0])
    assert some.targets.tolist() == [2, 0] and some.scores.tolist() == [7, 5] and some.remarks == {0: "why"}
    assert np.array_equal(some.maps, maps[[2, 0]]) and len(whole.take(slice(1)).maps) == 1


def test_display_scales_each_map_by_its_own_maximum():
    maps = np.array([[[0, 2.0]], [[-1, 4]], [[0, 0]]], dtype=np.float32)
    shown = Explanation(maps, "x", np.zeros(3, int), np.zeros(3), "gradcam").display()
    assert np.array_equal(shown, np.array([[[0, 1]], [[0, 1]], [[0, 0]]], dtype=np.float32))


# ---- what small faults in the code had shown to be held by nothing (`make mutation`) ----


@pytest.mark.parametrize("method", ["smoothgrad", "integrated-gradients", "occlusion"])
def test_captum_is_asked_with_the_stated_settings(method):
    "16 noisy copies with 15 % of the range, 32 steps from black, squares of an eighth of the width in the film's grey"
    attr = reference("captum.attr")
    torch.manual_seed(3)
    model = Small().eval()
    images, targets = torch.rand(2, 1, 60, 32) * 1.6 - 0.3, torch.tensor([2, 0])
    got = explain(model, images, targets, method=method, batch_size=2).maps
    if method == "smoothgrad":
        torch.manual_seed(0)
        spread = float(images.max() - images.min())
        wanted = attr.NoiseTunnel(attr.Saliency(model)).attribute(
            images, target=targets, nt_samples=16, nt_samples_batch_size=4, stdevs=0.15 * spread)
    elif method == "integrated-gradients":
        wanted = attr.IntegratedGradients(model).attribute(images, torch.zeros_like(images), targets, n_steps=32)
    else:
        greys = torch.stack([torch.full_like(image, float(image.mean())) for image in images])
        wanted = attr.Occlusion(model).attribute(images, (1, 4, 4), strides=(1, 2, 2), baselines=greys, target=targets)
    assert np.allclose(got, wanted.detach().sum(1), rtol=1e-4, atol=1e-6)


def test_squares_of_occlusion_are_never_below_two_pixels():
    attr = reference("captum.attr")
    model, images = Small().eval(), torch.rand(1, 1, 20, 23)
    got = explain(model, images, torch.tensor([1]), method="occlusion").maps
    grey = torch.full_like(images, float(images.mean()))
    wanted = attr.Occlusion(model).attribute(images, (1, 2, 2), strides=(1, 1, 1), baselines=grey, target=1)
    assert np.allclose(got, wanted.detach().sum(1), rtol=1e-4, atol=1e-6)


def test_eigencam_s_sign_agrees_with_what_the_maps_add_up_to():
    "A principal component has no sign of its own; twenty layers, so that the decomposition gives both"
    flipped = 0
    for seed in range(20):
        activations = torch.rand(2, 5, 4, 6, generator=torch.Generator().manual_seed(seed))
        map = gradcam.eigencam_map(activations)
        summed = activations.sum(1) - activations.sum(1).mean((1, 2), keepdim=True)
        assert ((map * summed).sum((1, 2)) >= 0).all()
        matrix = activations[0].flatten(1).T - activations[0].flatten(1).mean(1)
        raw = torch.linalg.svd(matrix, full_matrices=False)
        flipped += int((raw.U[:, 0] * map[0].flatten()).sum() < 0)
    assert 0 < flipped < 20


def test_an_explanation_can_t_be_changed_and_shows_what_is_finite():
    maps = np.array([[[-np.inf, np.nan], [np.inf, 2.0]]], np.float32)
    explanation = Explanation(maps, "features", np.array([0]), np.zeros(1, np.float32), "gradcam")
    assert explanation.display().tolist() == [[[0, 0], [0, 1]]]
    with pytest.raises(AttributeError):
        explanation.layer = "input"


def test_an_overlay_outlines_half_of_the_maximum():
    image, map = np.zeros((8, 8)), np.outer(np.arange(8), np.arange(8)).astype(float)
    ax = overlay(image, map)
    (outline,) = ax.collections
    assert outline.levels.tolist() == [0.5] and sum(len(path) for path in outline.get_paths()) > 4
    shade = ax.images[1]
    assert shade.get_clim() == (0, 1) and np.allclose(shade.get_array(), map / 49)
    assert np.allclose(shade.get_alpha(), 0.6 * map / 49)
    (word,) = overlay(image, 0 * map).texts
    assert word.get_text() == "empty map" and 0 <= word.get_position()[1] < 0.2
    with pytest.raises(ValueError, match="must be the same"):
        overlay(np.zeros((2, 8, 8)), np.zeros((2, 8, 8)))
