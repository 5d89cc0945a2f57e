"""How a step is computed: the same step whichever way, the fastest of given times taken, and the choice kept."""
from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from covid_xray import arithmetic
from covid_xray.arithmetic import Arithmetic, choose_arithmetic, make_step, time_steps, ways_to_compute
from covid_xray.cnn import create_model
from covid_xray.models import predict
from covid_xray.training import fit
from test_training import network, squares

FASTEST = Arithmetic("bf16", channels_last=True, fused=True)


def batch(size_px: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(8, 1, size_px, size_px, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3


def plain_losses(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, steps: int) -> list[float]:
    "The same steps, written out with nothing of ours"
    twin = copy.deepcopy(model).train()
    optimiser = torch.optim.AdamW(twin.parameters(), 1e-3)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(twin(images), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("way", ways_to_compute("cpu"), ids=str)
@pytest.mark.parametrize("name", ["residual", "darkcovidnet"])
def test_every_way_is_the_same_step(name: str, way: Arithmetic) -> None:
    torch.manual_seed(0)
    model, (images, targets) = create_model(name), batch()
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    before = copy.deepcopy(model.state_dict())
    step = make_step(model, way, images, targets)
    ours = [float(step()) for _ in range(4)]
    theirs = plain_losses(model, images, targets, 4)
    if way.precision == "fp32":
        assert ours[0] == pytest.approx(theirs[0], abs=1e-5)
        assert ours == pytest.approx(theirs, abs=0.01)  # Adam's first steps are as long for gradients of mere rounding
    else:  # two and a half digits, and Adam makes the most of their rounding
        assert ours[0] == pytest.approx(theirs[0], abs=0.03) and ours[1] == pytest.approx(theirs[1], abs=0.15)
        assert ours[3] < ours[0] - 0.3 * (theirs[0] - theirs[3]), "it must learn, too"
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items()), "the network was trained"


def test_the_fastest_of_given_times_is_taken() -> None:
    ways = ways_to_compute("cpu")
    for quickest in ways[1:]:
        seconds = {way: 0.5 if way == quickest else 1.0 for way in ways}
        chosen, table = choose_arithmetic(network(), *batch(), 1000, measure=lambda steps: seconds)
        assert chosen == quickest and table[str(quickest)] == 0.5 and set(table) == {str(way) for way in ways}


@pytest.mark.parametrize("share, is_taken", [(0.90, True), (0.96, False), (1.2, False)])
def test_plain_fp32_stays_unless_clearly_beaten(share: float, is_taken: bool) -> None:
    seconds = {way: share if way == FASTEST else 1.0 + (way != Arithmetic()) for way in ways_to_compute("cpu")}
    chosen, _ = choose_arithmetic(network(), *batch(), 500, measure=lambda steps: seconds)
    assert chosen == (FASTEST if is_taken else Arithmetic())


@pytest.mark.parametrize("compiled, steps, is_taken", [(0.5, 100_000, True), (0.97, 100_000, False), (0.5, 500, False)])
def test_the_compiler_must_earn_its_price(monkeypatch, compiled: float, steps: int, is_taken: bool) -> None:
    monkeypatch.setattr(Arithmetic, "forward_of", lambda self, model: model)  # compiles nothing: the times are given
    asked = []

    def measure(racers):
        asked.append(list(racers))
        return {way: compiled if way.compiled else 1.0 for way in racers}

    chosen, table = choose_arithmetic(network(), *batch(), steps, measure=measure)
    assert chosen.compiled == is_taken
    assert len(asked) == (2 if steps > 600 else 1)  # under ten minutes it isn't even tried


def test_a_compiler_that_fails_is_left_alone(monkeypatch) -> None:
    def broken(self, model):
        if self.compiled:
            raise RuntimeError("no C++ compiler")
        return model

    monkeypatch.setattr(Arithmetic, "forward_of", broken)
    chosen, table = choose_arithmetic(network(), *batch(), 10_000, measure=lambda steps: dict.fromkeys(steps, 1.0))
    assert chosen == Arithmetic() and not any("compiled" in name for name in table)


def test_steps_take_turns_and_the_median_counts() -> None:
    done, now = [], [0.0]
    taken = {"a": iter([100, 1, 50, 2]), "b": iter([100, 3, 4, 5])}  # the first is left out, one is disturbed

    def step_of(name: str):
        def step() -> float:
            done.append(name)
            now[0] += next(taken[name])
            return 0.0
        return step

    found = time_steps({name: step_of(name) for name in taken}, rounds=3, clock=lambda: now[0])
    assert found == {"a": 2, "b": 4} and done == ["a", "b"] * 4


def test_names_lead_back_and_unknown_ones_are_refused() -> None:
    for way in ways_to_compute("cpu"):
        assert Arithmetic.named(str(way)) == way
    for name in ("fp8", "bf16 + quick", ""):
        with pytest.raises(ValueError, match="is unknown: choose one of"):
            Arithmetic.named(name)


def fitted(model, **options):
    train = squares(48)
    return fit(model, train, train, epochs=4, batch_size=16, learning_rate=3e-3, progress=False, **options)


def test_fit_takes_the_choice_keeps_it_and_leaves_the_network_as_it_was(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(arithmetic, "RACE_FROM", 4)
    times = {way: 0.1 if way == FASTEST else 1.0 for way in ways_to_compute("cpu")}
    monkeypatch.setattr(arithmetic.choose_arithmetic, "__defaults__", (lambda steps: times,))
    reference, model = fitted(network(), precision="fp32"), network()
    history = fitted(model, precision="auto", out=tmp_path)
    assert history.arithmetic["chosen"] == vars(FASTEST) and history.arithmetic["seconds"]["fp32"] == 1.0
    assert history.best_loss == pytest.approx(reference.best_loss, abs=0.05)
    fresh = network(1)
    fresh.load_state_dict(model.state_dict())
    images = squares(8).batch(np.arange(8))[0]
    assert torch.equal(fresh.eval()(images), model.eval()(images)), "it would go on computing in half precision"
    assert all(p.is_contiguous() for p in model.parameters())
    monkeypatch.setattr(arithmetic.choose_arithmetic, "__defaults__", (None,))  # a second race would fail
    again = fitted(network(), precision="auto", out=tmp_path, resume=True)
    assert again.arithmetic == history.arithmetic and again.rows == history.rows


def test_a_short_run_is_plain_fp32_to_the_last_digit() -> None:
    plain, auto = network(), network()
    first, second = fitted(plain), fitted(auto, precision="auto")
    assert second.arithmetic == {"chosen": vars(Arithmetic()), "seconds": {}} == first.arithmetic
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), auto.state_dict().values()))


def test_a_race_leaves_chance_alone() -> None:
    model, before = create_model("plain"), torch.random.get_rng_state()
    choose_arithmetic(model, *batch(), 1000)
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.isfinite(float(make_step(network(), FASTEST, *batch())()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: what only a GPU can show is not tried")
@pytest.mark.parametrize("way", ways_to_compute("cuda") if torch.cuda.is_available() else [], ids=str)
def test_every_way_runs_on_a_gpu(way: Arithmetic) -> None:
    images, targets = (part.cuda() for part in batch())
    assert torch.isfinite(make_step(create_model("residual"), way, images, targets)())


@pytest.mark.parametrize(("precision", "apart"), [("fp32 + channels-last", 1e-5), ("bf16", 0.05),
                                                  ("bf16 + channels-last", 0.05)])
def test_looking_in_another_precision_says_the_same_and_changes_nothing(precision: str, apart: float) -> None:
    films, model = squares(50), network().train()
    fit(model, films, films, epochs=1, batch_size=16, progress=False)
    weights = {name: (value.clone(), value.stride()) for name, value in model.state_dict().items()}
    said = predict(model.train(), films, batch_size=7, arithmetic=Arithmetic.named(precision))
    with torch.no_grad():
        expected = copy.deepcopy(model).eval()(films.batch(np.arange(50))[0]).softmax(1).numpy()
    assert np.abs(said.probabilities - expected).max() < apart and said.probabilities.dtype == np.float32
    if precision.startswith("bf16"):
        assert not np.array_equal(said.probabilities, expected), "it was computed in full precision"
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name][0]) and value.stride() == weights[name][1], name


def test_a_bare_name_is_told_what_to_write() -> None:
    with pytest.raises(TypeError, match=r"give covid_xray.arithmetic.Arithmetic.named\('bf16'\)"):
        predict(network(), squares(8), arithmetic="bf16")
