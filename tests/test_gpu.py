"""A graphics card: the same answers and nearly the same training as the processor. Skipped where no NVIDIA card is.

The last tests need none: they hold the way of a batch to the card against a stand-in.
"""
from __future__ import annotations

import numpy as np
import pytest
import torch

import processes
from covid_xray.cnn import create_model
from covid_xray.models import load_model, predict, save_model, to_device
from covid_xray.training import fit

card = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA card here")
OPTIONS = dict(epochs=2, batch_size=16, learning_rate=3e-3, progress=False)


def trained(model, **options):
    return fit(model, processes.squares(61, 0), processes.squares(31, 1), **OPTIONS | options)


@pytest.fixture
def on_the_processor(monkeypatch):
    "The same training without the card"
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setenv("ACCELERATE_USE_CPU", "true")
        return trained(processes.network("residual-group"))


@card
@pytest.mark.parametrize(("precision", "apart"), [("fp32", 5e-3), ("bf16", 0.1), ("fp16", 0.1)])
def test_a_card_trains_as_the_processor(on_the_processor, precision, apart):
    model = processes.network("residual-group")
    history = trained(model, precision=precision)
    assert next(model.parameters()).device.type == "cuda"
    for name in ("train_loss", "valid_loss"):
        assert np.allclose(history.table[name], on_the_processor.table[name], atol=apart)


@card
@pytest.mark.parametrize("kind", ["channels last", "compiled"])
def test_a_card_answers_as_the_processor(kind):
    films, model = processes.squares(31, 2), create_model("residual").eval()
    expected = predict(model, films).probabilities
    model = model.to("cuda")
    model = model.to(memory_format=torch.channels_last) if kind == "channels last" else torch.compile(model)
    assert np.abs(predict(model, films).probabilities - expected).max() < 2e-3


@card
@pytest.mark.parametrize("kind", ["channels last", "compiled"])
def test_it_learns_in_another_layout(kind):
    model = create_model("residual")
    model = model.to(memory_format=torch.channels_last) if kind == "channels last" else torch.compile(model)
    history = trained(model, epochs=6)
    assert history.best_loss < history.rows[0]["train_loss"]


@card
def test_what_was_trained_on_a_card_is_used_without_one(tmp_path):
    model, films = create_model("residual"), processes.squares(31, 2)
    trained(model, out=tmp_path / "run")
    settings = dict(model="residual", in_channels=1, classes=list(films.classes), size_px=32, fit="squash")
    save_model(tmp_path / "kept", model, settings)
    loaded, _ = load_model(tmp_path / "kept")
    assert next(loaded.parameters()).device.type == "cpu"
    assert np.abs(predict(loaded, films).probabilities - predict(model, films).probabilities).max() < 2e-3


@card
def test_an_interrupted_run_on_a_card_goes_on(tmp_path):
    class Unplugged:
        left = 6

        def __call__(self, images, generators):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return images

        def __repr__(self) -> str:
            return "None"

    trained(processes.network("residual-group"), out=tmp_path, augment=Unplugged())
    resumed = trained(processes.network("residual-group"), out=tmp_path, resume=True)
    assert len(resumed.rows) == 2


class Part:
    "A tensor that notes how it was moved"

    def __init__(self):
        self.steps = []

    def pin_memory(self):
        self.steps.append("pinned")
        return self

    def to(self, device, non_blocking=False):
        self.steps.append((device.type, non_blocking))
        return self


def test_a_batch_goes_to_a_card_from_pinned_memory_without_waiting():
    moved = to_device((Part(), Part()), torch.device("cuda"))
    assert [part.steps for part in moved] == [["pinned", ("cuda", True)]] * 2


def test_a_batch_goes_elsewhere_as_it_is():
    assert to_device((Part(),), torch.device("mps"))[0].steps == [("mps", False)]
    images, targets = to_device(processes.squares(4, 0).batch([0, 1]), torch.device("meta"))
    assert images.device.type == targets.device.type == "meta" and images.shape == (2, 1, 32, 32)
