"""Training against torch's own pieces: one step, exact resume, restored state, faults told in time; models on disk."""
from __future__ import annotations

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from covid_xray.augment import Augment
from covid_xray.cnn import create_model
from covid_xray.data import Radiographs
from covid_xray.faults import check_settings
from covid_xray.learning_rate import find_learning_rate, suggested_rate
from covid_xray.models import load_model, predict, save_model
from covid_xray.training import fit, one_cycle
from processes import CLASSES, squares

SETTINGS = dict(model="plain", in_channels=1, classes=list(CLASSES), size_px=32, fit="squash")


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(),
                         nn.Linear(8 * 15 * 15, 3))


def run(model, train, valid, **options):
    return fit(model, train, valid, batch_size=16, learning_rate=3e-3, progress=False, **options)


def test_one_epoch_is_plain_adamw_on_the_mean_cross_entropy():
    torch.manual_seed(0)
    train = squares(30)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 3))
    twin = copy.deepcopy(model)
    fit(model, train, train, epochs=1, batch_size=30, learning_rate=1e-2, weight_decay=0.1, progress=False)
    optimiser = torch.optim.AdamW(twin.parameters(), lr=one_cycle(0, 2, 1e-2), weight_decay=0.1)
    images, targets = train.batch(np.arange(30))
    F.cross_entropy(twin(images), targets).backward()
    optimiser.step()
    for ours, theirs in zip(model.parameters(), twin.parameters()):
        clear = theirs.grad.abs() > 1e-5  # Adam's first step is as long for a gradient that is rounding noise alone
        assert clear.float().mean() > 0.9 and torch.allclose(ours[clear], theirs[clear], atol=1e-6)


@pytest.mark.parametrize("steps", [2, 10, 101])
def test_the_cycle_is_torchs(steps):
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.7, total_steps=steps, cycle_momentum=False)
    for step in range(steps):
        assert one_cycle(step, steps, 0.7) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        optimiser.step()
        if step < steps - 1:
            schedule.step()


def test_it_learns_and_keeps_the_best_weights():
    train, valid, model = squares(90), squares(60, seed=1), network()
    history = run(model, train, valid, epochs=8, metrics={"accuracy": lambda t, p: (p.argmax(1) == t).mean()})
    said = predict(model, valid)
    assert (said.probabilities.argmax(1) == said.targets).mean() > 0.9
    loss = -np.log(said.probabilities[np.arange(60), said.targets]).mean()
    assert loss == pytest.approx(history.best_loss, abs=1e-6)
    assert history.best_loss == history.table["valid_loss"].min()
    assert "accuracy" in history.table and history.stopped == "finished"


def test_it_stops_early():
    train, valid = squares(60), squares(30, seed=1)
    upside_down = Radiographs.from_arrays(valid.images, valid.table.assign(label=valid.table["label"].map(
        {"covid": "pneumonia", "normal": "normal", "pneumonia": "covid"})))
    history = run(network(), train, upside_down, epochs=30, patience=2)
    assert history.stopped == "early" and len(history.rows) == history.best_epoch + 3


class Unplugged:
    "An augmentation that presses Ctrl-C at its n-th batch"

    def __init__(self, left: int):
        self.augment, self.left = Augment(), left

    def __repr__(self) -> str:
        return repr(self.augment)

    def __call__(self, images, generators):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.augment(images, generators)


@pytest.mark.parametrize("batch", [1, 7, 12, 20])
def test_a_resumed_run_ends_as_an_uninterrupted_one(batch, tmp_path):
    train, valid = squares(60), squares(30, seed=1)
    whole = network()
    expected = run(whole, train, valid, epochs=5, augment=Augment(), out=tmp_path / "whole")
    broken = network()
    first = run(broken, train, valid, epochs=5, augment=Unplugged(batch), out=tmp_path / "broken")
    assert first.stopped == "interrupted" and len(first.rows) == (batch - 1) // 4
    if not first.rows:
        with pytest.raises(FileNotFoundError, match="nothing to resume"):
            run(network(9), train, valid, epochs=5, augment=Augment(), out=tmp_path / "broken", resume=True)
        return
    resumed = network(9)  # other weights: all must come from the checkpoint
    second = run(resumed, train, valid, epochs=5, augment=Augment(), out=tmp_path / "broken", resume=True)
    losses = ["train_loss", "valid_loss", "learning_rate"]
    pd.testing.assert_frame_equal(second.table[losses], expected.table[losses], check_exact=True)
    for ours, theirs in zip(resumed.state_dict().values(), whole.state_dict().values()):
        assert torch.equal(ours, theirs)
    logged = pd.read_csv(tmp_path / "broken" / "log.csv")
    assert logged["epoch"].tolist() == [0, 1, 2, 3, 4]
    lines = (tmp_path / "broken" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2, 3, 4]


def test_resuming_with_other_settings_is_refused(tmp_path):
    train, valid = squares(30), squares(30, seed=1)
    run(network(), train, valid, epochs=2, out=tmp_path)
    with pytest.raises(ValueError, match="seed: then 0, now 1"):
        run(network(), train, valid, epochs=2, out=tmp_path, resume=True, seed=1)


def test_random_state_is_as_before():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    run(nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(1024, 3)).train(), squares(30), squares(30, 1), epochs=1)
    torch.manual_seed(5)
    nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(1024, 3))
    model = network(3)
    state = torch.random.get_rng_state()
    run(model, squares(30), squares(30, 1), epochs=1)
    assert torch.equal(state, torch.random.get_rng_state()) and len(before)


def test_faults_are_told_before_training(tmp_path):
    train, valid = squares(30), squares(30, 1)
    with pytest.raises(ValueError, match="the training part has no film of class normal"):
        run(network(), train.select(train.targets != 1), valid, epochs=1)
    with pytest.raises(ValueError, match="the validation part has no film of class normal"):
        run(network(), train, valid.select(valid.targets != 1), epochs=1)
    with pytest.raises(ValueError, match="all films are covid"):
        run(network(), *(Radiographs.from_arrays(part.images[part.targets == 0], part.table[part.targets == 0],
                                                 classes=("covid",)) for part in (train, valid)), epochs=1)
    with pytest.raises(ValueError, match="all films of the training part are normal: there is nothing to tell apart"):
        run(network(), Radiographs.from_arrays(train.images, train.table.assign(label="normal")), valid, epochs=1)
    with pytest.raises(ValueError, match="all training films are of one grey value"):
        run(network(), Radiographs.from_arrays(0 * train.images + 90, train.table), valid, epochs=1)
    with pytest.raises(ValueError, match="fp32, bf16, fp16"):
        run(network(), train, valid, epochs=1, precision="half")


@pytest.mark.parametrize("change", [{"learning_rate": value} for value in (0.0, -1e-3, float("nan"), float("inf"))]
                         + [{"epochs": 0}, {"epochs": -3}, {"seed": -1}, {"seed": 10**20}], ids=str)
def test_numbers_that_no_training_can_have_are_told_before_it(change):
    check_settings(1, 1e-9, 2**32 - 1)  # the extremes that a training can have
    model = create_model("plain")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"^{next(iter(change))}=.* (is the least|is needed)"):
        fit(model, squares(12), squares(12, 1), **{"epochs": 1, "batch_size": 6, "progress": False, **change})
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("films", "batch_size"), [(30, 1), (3, 2), (33, 2)])
def test_a_batch_of_one_is_refused(films, batch_size):
    "33 films by 2 make a last batch of one, and batch normalisation would fail in the middle of the first epoch"
    model, part = network(), squares(films)
    weights = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=f"batch_size={batch_size} with {films} training films"):
        fit(model, part, squares(30), epochs=1, batch_size=batch_size, progress=False)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_films_of_one_grey_value_are_named(recwarn):
    train, valid = squares(30), squares(30, 1)
    run(network(), train, valid, epochs=1)
    assert not [str(w.message) for w in recwarn if "grey" in str(w.message)]
    images = train.images.copy()
    images[[4, 7]] = 90
    train = Radiographs.from_arrays(images, train.table)
    with pytest.warns(UserWarning, match=r"2 training films are of one grey value, first 0-4\.png"):
        run(network(), train, valid, epochs=1)


def test_a_rate_far_too_high_is_told():
    with pytest.warns(UserWarning, match="is the learning rate too high"):
        fit(network(), squares(30), squares(30, 1), epochs=2, batch_size=10, learning_rate=30.0, progress=False)


def test_a_wild_validation_loss_is_told_where_the_training_loss_came_down():
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="best validation loss of .*is the learning rate too high"):
        fit(create_model("residual"), squares(60), squares(30, 1), epochs=2, batch_size=12, learning_rate=0.3,
            progress=False)


def valid_loss(model, valid) -> float:
    said = predict(model, valid)
    return float(-np.log(said.probabilities[np.arange(len(valid)), said.targets]).mean())


class Spoilt:
    "An augmentation that multiplies its n-th batch"

    def __init__(self, number: int, by: float):
        self.left, self.by = number, by

    def __call__(self, images, generators):
        self.left -= 1
        return images * self.by if self.left == 0 else images


@pytest.mark.parametrize("by", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_its_batch_and_keeps_the_best(by, tmp_path):
    "With 30 films by 16 an epoch has two batches, so the sixth is the second of the third epoch"
    from covid_xray.training import _epoch_order

    train, valid, model, twin = squares(30), squares(30, 1), network(), network()
    film = train.table["path"].iloc[_epoch_order(30, 16, 0, 2)[1][0]]
    with pytest.raises(FloatingPointError, match=rf"became nan in epoch 3, batch 2 \(films {film}, .*best weights"):
        run(model, train, valid, epochs=4, augment=Spoilt(6, by), out=tmp_path)
    run(twin, train, valid, epochs=4, augment=Spoilt(5, 1.0), out=tmp_path / "twin")
    losses = pd.read_csv(tmp_path / "log.csv")["valid_loss"].tolist()
    assert losses == pd.read_csv(tmp_path / "twin/log.csv")["valid_loss"].tolist()[:2]
    assert valid_loss(model, valid) == pytest.approx(min(losses), abs=1e-6)


def test_weights_spoilt_by_the_last_step_never_become_the_best():
    "No batch follows that would show it; and any comparison with nan is false, so nothing would ever replace them"
    model, train, steps = network(), squares(30), []
    weights = copy.deepcopy(model.state_dict())
    model[0].weight.register_hook(lambda slope: steps.append(1) or (slope * float("nan") if len(steps) == 2 else slope))
    with pytest.raises(FloatingPointError, match="epoch 1, on the validation films"):
        run(model, train, squares(30, 1), epochs=1)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_out_of_memory_says_what_to_lower_and_keeps_the_best(tmp_path):
    "The allocator's own error: a petabyte is asked for in the second epoch"
    train, valid, model = squares(30), squares(30, 1), network()

    def greedy(images, generators):
        if (tmp_path / "checkpoint.safetensors").is_file():
            torch.empty(10**15)
        return images

    with pytest.raises(MemoryError, match=r"16 films of 32 px at once: lower batch_size \(to 8\), then size_px"):
        run(model, train, valid, epochs=3, augment=greedy, out=tmp_path)
    logged = pd.read_csv(tmp_path / "log.csv")["valid_loss"][0]
    assert valid_loss(model, valid) == pytest.approx(logged, abs=1e-6)


def test_other_errors_of_the_network_are_passed_on():
    with pytest.raises(RuntimeError, match="shapes"):
        run(nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), squares(30), squares(30, 1), epochs=1)


def test_a_run_that_had_stopped_early_stays_so_when_resumed(tmp_path):
    "Killed after its last checkpoint, it would otherwise train on, and leave no whole log"
    train, valid = squares(60), squares(30, seed=1)
    upside_down = Radiographs.from_arrays(valid.images, valid.table.assign(label=valid.table["label"].map(
        {"covid": "pneumonia", "normal": "normal", "pneumonia": "covid"})))
    model, again = network(), network(9)
    first = run(model, train, upside_down, epochs=30, patience=2, out=tmp_path)
    (tmp_path / "log.csv").write_text("epoch,train_l")
    second = run(again, train, upside_down, epochs=30, patience=2, out=tmp_path, resume=True)
    assert first.stopped == second.stopped == "early" and first.rows == second.rows
    assert len(pd.read_csv(tmp_path / "log.csv")) == len(first.rows)
    for ours, theirs in zip(model.state_dict().values(), again.state_dict().values()):
        assert torch.equal(ours, theirs)


def test_uneven_batches_see_every_film_once():
    from covid_xray.training import _epoch_order

    for n in (2, 31, 33, 64, 65):
        batches = _epoch_order(n, 32, seed=1, epoch=2)
        assert sorted(np.concatenate(batches)) == list(range(n)) and min(map(len, batches)) > 1
        assert max(map(len, batches)) <= 32


def test_predictions_keep_rows_and_leave_the_mode():
    films, model = squares(50), network().train()
    said = predict(model, films, batch_size=7)
    assert model.training and said.table["path"].tolist() == films.table["path"].tolist()
    with torch.no_grad():
        expected = model.eval()(films.batch(np.arange(50))[0]).softmax(1).numpy()
    assert np.abs(said.probabilities - expected).max() < 1e-6


@pytest.mark.parametrize("name", ["plain", "residual"])
def test_a_saved_model_comes_back(name, tmp_path):
    model = create_model(name)
    save_model(tmp_path / "m", model, SETTINGS | {"model": name})
    loaded, settings = load_model(tmp_path / "m")
    x = torch.rand(2, 1, 64, 64)
    assert torch.equal(loaded(x), model.eval()(x)) and not loaded.training and settings["size_px"] == 32


@pytest.mark.parametrize("spoil", ["settings.json", "model.safetensors"])
def test_a_damaged_model_is_refused(spoil, tmp_path):
    save_model(tmp_path, create_model("plain"), SETTINGS)
    content = (tmp_path / spoil).read_bytes()
    for damaged in (b"", content[:len(content) // 2], b"\x80\x04pickle" + content):
        (tmp_path / spoil).write_bytes(damaged)
        with pytest.raises(ValueError, match="no usable model"):
            load_model(tmp_path)


def test_a_missing_setting_is_named(tmp_path):
    with pytest.raises(ValueError, match="size_px"):
        save_model(tmp_path, create_model("plain"), {k: v for k, v in SETTINGS.items() if k != "size_px"})


def test_the_finder_leaves_no_trace():
    train, model = squares(60), network().eval()
    weights, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    first = find_learning_rate(model, train, steps=30)
    assert torch.equal(state, torch.random.get_rng_state()) and not model.training
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.rand(5)
    pd.testing.assert_frame_equal(find_learning_rate(model, train, steps=30), first, check_exact=True)


def test_the_finder_is_plain_adamw_with_a_rising_rate():
    "With all films in every batch and no dropout, chance is left out"
    torch.manual_seed(0)
    train, model = squares(30), nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 3))
    twin, expected, average = copy.deepcopy(model), [], 0.0
    optimiser = torch.optim.AdamW(twin.parameters(), weight_decay=0.1)
    images, targets = train.batch(np.arange(30))
    for i in range(20):
        optimiser.param_groups[0]["lr"] = 1e-5 * 10**(2 * i / 19)
        loss = F.cross_entropy(twin(images), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        expected.append(loss.item())
    table = find_learning_rate(model, train, lowest=1e-5, highest=1e-3, steps=20, batch_size=30, weight_decay=0.1)
    assert table["loss"].to_numpy() == pytest.approx(np.array(expected), abs=1e-4)
    for i, loss in enumerate(expected, 1):
        average = 0.9 * average + 0.1 * loss
        assert table["smooth"][i - 1] == pytest.approx(average / (1 - 0.9**i), abs=1e-4)


def test_the_finder_ends_where_the_loss_flies_apart():
    model = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 3))
    table = find_learning_rate(model, squares(30), highest=1e6, steps=60)
    assert len(table) < 60 and table["smooth"].max() <= 3 * table["smooth"].min() + table["smooth"].iloc[0]
    with pytest.raises(ValueError, match="at least 20, rising"):
        find_learning_rate(model, squares(30), lowest=1, highest=0.1)


def test_the_suggestion_is_where_three_quarters_of_the_fall_are_done():
    rates = np.geomspace(1e-5, 1, 101)
    smooth = np.interp(np.arange(101), [0, 20, 60, 80, 100], [1.1, 1.1, 0.3, 0.3, 2.0])
    table = pd.DataFrame({"learning_rate": rates, "loss": smooth, "smooth": smooth})
    assert suggested_rate(table) == pytest.approx(10**-2.5, rel=0.13)  # row 50, 30 of the slope's 40, or the next
    with pytest.raises(ValueError, match="says nothing"):
        suggested_rate(table.assign(smooth=1.05, loss=1.1))
