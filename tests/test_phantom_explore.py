"""The phantom's explorer: every control changes picture or numbers, the the text twin agrees."""

import pytest

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
