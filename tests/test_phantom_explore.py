"""The phantom's explorer: every control changes picture or numbers, and the text twin agrees."""

from dataclasses import fields

import pytest

from covid_xray import phantom

widgets = pytest.importorskip("ipywidgets")
from covid_xray.explore import phantom as explore  # noqa: E402


def test_every_control_changes_the_picture_or_the_numbers():
    panel = explore.panel(size_px=96, severity=0.6)
    picture, column = panel.children
    *controls, outline, text = column.children
    moves = {"finding": "pneumonia", "sex": "M", "view": "AP", "hospital": "south"}
    for control in controls:
        before = picture.value, text.value
        old = control.value
        control.value = moves.get(control.description) or (control.max if control.value < control.max else control.min)
        assert (picture.value, text.value) != before, control.description
        control.value = old
        assert (picture.value, text.value) == before, control.description
    before = picture.value
    outline.value = "heart"
    assert picture.value != before


def test_the_text_twin_says_what_the_panel_says():
    panel = explore.panel(size_px=96, finding="pneumonia", marker=1)
    words = explore.describe(size_px=96, finding="pneumonia", marker=1)
    assert words in panel.children[1].children[-1].value
    assert "pneumonia" in words and "marker" in words and "disease" in words
    assert "planted: nothing" in explore.describe(size_px=96)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="colour.*severity"):
        explore.describe(colour="red")


def test_every_setting_of_a_film_and_every_dial_of_the_hospital_has_a_control():
    described = {control.description for control in explore.panel(size_px=64).children[1].children[:-2]}
    assert described == {f.name for f in fields(phantom.Film)}
    dials = {control.description for control in explore.hospital_panel(size_px=64).children[1].children[:-1]}
    names = {name.replace("_", " ") for name in {*phantom.SHORTCUTS, *phantom.DEFAULT_DIALS}}
    names -= {"shortcuts", "prevalence"}  # a slider for each shortcut and for the share of each disease
    assert dials == names | {"covid", "pneumonia", "follow up films", "patient"}


def test_every_dial_of_the_hospital_moves_its_numbers():
    panel = explore.hospital_panel(size_px=48)
    picture, column = panel.children
    *controls, text = column.children
    named = {control.description: control for control in controls}
    named["marker"].value = 0.5  # something is tied, so that `tied to` has something to move
    moves = {"hospital": "south", "tied to": "normal", "severity": (0.0, 0.3), "covid": 0.8, "pneumonia": 0.0}
    for name, control in named.items():
        before, old = (picture.value, text.value), control.value
        control.value = moves.get(name, control.max if name not in moves and control.value < control.max else None)
        assert (picture.value, text.value) != before, name
        control.value = old
        assert (picture.value, text.value) == before, name


def test_the_hospital_s_twin_counts_what_was_dialled():
    words = explore.describe_hospital(shortcuts={"marker": 1.0, "view": 1.0}, seed=3)
    rows = {line.rsplit(maxsplit=3)[0].strip(): line.rsplit(maxsplit=3)[1:] for line in words.splitlines()[1:]}
    assert rows["marker %"] == ["100", "0", "0"] and rows["AP %"] == ["100", "0", "0"] and rows["tube %"] == ["0"] * 3
    assert sum(map(int, rows["patients"])) == 100
    assert explore.describe_hospital() in explore.hospital_panel(size_px=48).children[1].children[-1].value


def test_a_wrong_dial_is_named():
    with pytest.raises(ValueError, match="colour.*clutter"):
        explore.describe_hospital(colour=1)
    with pytest.raises(ValueError, match="clutter=2"):
        explore.describe_hospital(clutter=2)
