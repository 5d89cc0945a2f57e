"""Each dial of the phantom hospital, alone: it changes what it should and leaves everything else as it was.

Two kinds of dials: settings of one film (`Film`), compared by drawing the film twice, and dials of a whole simulation,
compared by the table of settings, nothing drawn.
"""

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from covid_xray import phantom, phantom_anatomy, phantom_patients, phantom_physics

few = settings(max_examples=10, deadline=None)
seeds = st.integers(0, 10**6)
ANATOMY = {"lungs", "heart", "body"}
THINGS = ("marker", "text", "border", "wires", "tube")
SIZE_PX = 64
films = st.builds(
    phantom.Film,
    seed=seeds,
    patient=st.integers(0, 5000),
    film=st.integers(0, 20000),
    finding=st.sampled_from(phantom.CLASSES),
    severity=st.floats(0, 1),
    sex=st.sampled_from("FM"),
    age=st.integers(20, 88),
    view=st.sampled_from(phantom.VIEWS),
    hospital=st.sampled_from(phantom.HOSPITALS),
    **{name: st.integers(0, 1) for name in (*THINGS, "curve", "copy")},
)


class Drawn:
    "A drawn film, and what was handed on while it was drawn: traits, pose, attenuation, noise, signal"

    def __init__(self, film):
        build, expose = phantom_anatomy.build_anatomy, phantom_physics.expose

        def keep_chest(traits, pose, *rest):
            self.traits, self.pose = traits, pose
            return build(traits, pose, *rest)

        def keep_signal(integral, **how):
            self.noise = repr(how["rng"].bit_generator.state)  # the state that the noise is drawn from
            self.integral, self.signal = integral.copy(), expose(integral, **how)
            return self.signal.copy()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(phantom.anatomy, "build_anatomy", keep_chest)
            patch.setattr(phantom.physics, "expose", keep_signal)
            self.image, self.masks = phantom.draw_film(film, SIZE_PX)


def before_and_after(film, /, **turned):
    "The same film drawn before and after turning one of its settings"
    return Drawn(film), Drawn(replace(film, **turned))


def other_masks(a, b):
    "Names of the masks that differ"
    return {name for name in phantom.MASKS if (a.masks[name] != b.masks[name]).any()}


# --- settings of one film --------------------------------------------------------------------------------------------


def test_every_setting_of_a_film_has_its_test_here():
    covered = {"marker", "text", "border", "wires", "tube", "finding", "severity", "curve", "size", "copy", "hospital"}
    assert {f.name for f in fields(phantom.Film)} == covered | {"view", "sex", "age", "seed", "patient", "film"}


@few
@given(film=films, thing=st.sampled_from(["marker", "text"]), style=st.integers(1, 2))
def test_letters_change_only_the_pixels_they_cover(film, thing, style):
    a, b = before_and_after(replace(film, border=0, **{thing: 0}), **{thing: style})
    assert other_masks(a, b) == {thing} and not a.masks[thing].any()
    assert (a.image == b.image)[~b.masks[thing]].all() and (b.image[b.masks[thing]] == 250).all()


@few
@given(film=films)
def test_a_collimator_hides_the_rim_and_what_was_written_on_it(film):
    a, b = before_and_after(replace(film, border=0), border=1)
    rim = b.masks["border"]
    assert other_masks(a, b) <= {"border", "marker", "text"} and not a.masks["border"].any()
    assert rim[0].all() and rim[-1].all() and rim[:, 0].all() and rim[:, -1].all() and not rim[8:-8, 8:-8].any()
    assert (a.image == b.image)[~rim].all() and (b.image[rim] == 8).all()
    for name in ("marker", "text"):
        assert (b.masks[name] == a.masks[name] & ~rim).all()


@few
@given(film=films, thing=st.sampled_from([("wires", 0.9), ("tube", 0.35)]))
def test_wires_and_tubes_attenuate_where_they_lie_and_nowhere_else(film, thing):
    name, attenuation = thing
    a, b = before_and_after(replace(film, **{name: 0}), **{name: 1})
    assert other_masks(a, b) == {name} and not a.masks[name].any() and a.noise == b.noise
    assert b.integral - a.integral == pytest.approx(attenuation * b.masks[name], abs=1e-5)
    free = ~(b.masks["marker"] | b.masks["text"] | b.masks["border"])
    change = b.image.astype(int) - a.image
    assert change[b.masks[name] & free].mean() > change[~b.masks[name] & free].mean()  # brighter than what is beside


@few
@given(film=films, finding=st.sampled_from(["covid", "pneumonia"]), severity=st.floats(0.1, 1))
def test_a_finding_changes_the_lungs_and_its_own_mask_only(film, finding, severity):
    a, b = before_and_after(replace(film, finding="normal"), finding=finding, severity=severity)
    assert other_masks(a, b) == {"lesions"} and not a.masks["lesions"].any() and a.noise == b.noise
    assert (a.integral == b.integral)[~b.masks["lungs"]].all() and (b.integral > a.integral)[b.masks["lesions"]].all()


@few
@given(film=films, low=st.floats(0, 1), high=st.floats(0, 1))
def test_severity_only_adds_and_at_0_nobody_is_ill(film, low, high):
    low, high = sorted((low, high))
    film = replace(film, finding="pneumonia" if film.finding == "normal" else film.finding)
    a, b = before_and_after(replace(film, severity=low), severity=high)
    assert other_masks(a, b) <= {"lesions"} and (a.masks["lesions"] <= b.masks["lesions"]).all()
    assert (a.integral == b.integral)[~a.masks["lungs"]].all() and (b.integral >= a.integral - 1e-5).all()
    well, none = before_and_after(replace(film, finding="normal"), finding=film.finding, severity=0.0)
    assert (well.image == none.image).all() and not other_masks(well, none)


@few
@given(film=films)
def test_the_processing_curve_comes_after_the_detector(film):
    a, b = before_and_after(replace(film, curve=0), curve=1)
    assert (a.signal == b.signal).all() and not other_masks(a, b) and (a.image != b.image).any()


@few
@given(film=films)
def test_the_file_s_size_changes_facts_about_the_file_and_no_pixel(film):
    small, large = replace(film, size=0), replace(film, size=1)
    a, b = Drawn(small), Drawn(large)
    assert (a.image == b.image).all() and not other_masks(a, b)
    first, second = (phantom_patients.record_table([f]).iloc[0] for f in (small, large))
    differ = {name for name in first.index if not first[[name]].equals(second[[name]])}
    assert differ == {"path", "sha256", "width", "height", "bytes"} and second["width"] > first["width"] == 1024


CHANGED_INPUTS = {  # setting -> two values, traits of the patient and pose of the film that it may change
    "sex": (("F", "M"), {"size", "chest_half_width", "breast"}, set()),
    "age": ((30, 80), {"aorta_radius", "aorta_unfold", "heart_scale", "rib_bone", "spine_curve"}, set()),
    "hospital": (("north", "south"), set(), {"field"}),
    "copy": ((0, 1), set(), {"field", "shift_down"}),
    "film": ((4, 5), set(), set(phantom_anatomy.POSE)),
    "patient": ((1, 2), set(phantom_anatomy.TRAITS), set()),
    "seed": ((1, 2), set(phantom_anatomy.TRAITS), set(phantom_anatomy.POSE)),
    "view": (("PA", "AP"), set(), set()),
}


@pytest.mark.parametrize("name", CHANGED_INPUTS)
@few
@given(film=films)
def test_a_setting_moves_only_its_own_part_of_patient_and_pose(name, film):
    (first, second), traits, pose = CHANGED_INPUTS[name]
    a, b = before_and_after(replace(film, **{name: first}), **{name: second})
    for before, after, may_change in ((a.traits, b.traits, traits), (a.pose, b.pose, pose)):
        changed = {key for key in before if before[key] != after[key]}
        assert changed <= may_change and len(changed) >= 0.6 * len(may_change)  # two may be cut at the same limit
    if name not in ("film", "seed"):  # places of letters and borders are the film's own chance
        assert not other_masks(a, b) & {"marker", "text", "border"}
    if name not in ("film", "seed", "patient"):  # who is ill stays ill, who carries a tube keeps it
        assert all(a.masks[k].any() == b.masks[k].any() for k in ("wires", "tube"))
        assert abs(int(a.masks["lesions"].sum()) - int(b.masks["lesions"].sum())) < 0.2 * SIZE_PX**2


@few
@given(film=films)
def test_the_bedside_view_magnifies_the_heart_and_brings_the_shoulder_blades_in(film):
    a, b = before_and_after(replace(film, view="PA", border=0), view="AP")
    assert b.masks["heart"].sum() > a.masks["heart"].sum()
    assert a.masks["lungs"].any() and b.masks["lungs"].any()


# --- dials of a simulation -------------------------------------------------------------------------------------------


def listed(n_patients=40, **dials):
    "Films of so many patients as a table of their settings, nothing drawn"
    checked = phantom_patients.check_dials(**{**phantom.DEFAULT_DIALS, **dials})
    patients = [film for k in range(n_patients) for film in phantom_patients.patient_films(k, checked)]
    return phantom.settings([film.path for film in patients])


def columns_that_differ(a, b):
    return {name for name in a if not a[name].equals(b[name])}


OWN_COLUMN = ("marker", "text", "border", "wires", "tube", "curve", "size", "view", "age")
share = st.floats(0, 1)


def test_every_dial_has_its_test_here():
    assert {*OWN_COLUMN, "duplicates", "follow_up"} == set(phantom.SHORTCUTS)
    tested = {"seed", "prevalence", "hospital", "shortcuts", "tied_to", "clutter", "severity", "follow_up"}
    assert set(phantom.DEFAULT_DIALS) == tested


@pytest.mark.parametrize("name", OWN_COLUMN)
@few
@given(seed=seeds, strength=share, tied_to=st.sampled_from(phantom.CLASSES))
def test_a_shortcut_touches_its_own_column_only(name, seed, strength, tied_to):
    nothing, some = listed(seed=seed), listed(seed=seed, tied_to=tied_to, shortcuts={name: strength})
    assert columns_that_differ(nothing, some) <= {name}
    if name not in ("view", "age"):
        assert not nothing[name].any() and not some[name][some["finding"] != tied_to].any()


TIED_AT_1 = {**dict.fromkeys(OWN_COLUMN[:7], lambda s, name: s[name] > 0),
             "view": lambda s, name: s["view"] != "PA", "age": lambda s, name: s["age"] > 55}


@pytest.mark.parametrize("name", OWN_COLUMN)
@few
@given(seed=seeds, tied_to=st.sampled_from(phantom.CLASSES))
def test_a_shortcut_at_1_gives_the_label_away_and_at_0_is_not_there(name, seed, tied_to):
    s = listed(seed=seed, tied_to=tied_to, shortcuts={name: 1.0})
    assert (TIED_AT_1[name](s, name) == (s["finding"] == tied_to)).all()
    assert listed(seed=seed, tied_to=tied_to, shortcuts={name: 0.0}).equals(listed(seed=seed))


@few
@given(seed=seeds, strength=share, tied_to=st.sampled_from(phantom.CLASSES))
def test_duplicates_add_copies_of_tied_patients_and_nothing_else(seed, strength, tied_to):
    nothing, some = listed(seed=seed), listed(seed=seed, tied_to=tied_to, shortcuts={"duplicates": strength})
    copies = some[some["copy"] == 1]
    assert some[some["copy"] == 0].reset_index(drop=True).equals(nothing)
    assert (copies["finding"] == tied_to).all() and copies["film"].is_unique
    originals = nothing.set_index("film").loc[copies["film"]].drop(columns="copy")
    assert originals.equals(copies.set_index("film").drop(columns="copy"))
    every = listed(seed=seed, tied_to=tied_to, shortcuts={"duplicates": 1.0})
    assert set(every["patient"][every["copy"] == 1]) == set(nothing["patient"][nothing["finding"] == tied_to])


def assert_shared_films_are_equal(a, b):
    shared = sorted(set(a["film"]) & set(b["film"]))
    assert a.set_index("film").loc[shared].equals(b.set_index("film").loc[shared])


@few
@given(seed=seeds, strength=share, tied_to=st.sampled_from(phantom.CLASSES))
def test_tied_follow_up_changes_how_many_films_a_patient_has_and_no_film(seed, strength, tied_to):
    nothing, some, all_ = (listed(seed=seed, tied_to=tied_to, shortcuts={"follow_up": s}) for s in (0.0, strength, 1.0))
    assert nothing.equals(listed(seed=seed))
    for other in (some, all_):
        assert set(other["patient"]) == set(nothing["patient"])
        assert_shared_films_are_equal(nothing, other)
    count = all_.groupby("patient")["film"].nunique()
    tied = all_.groupby("patient")["finding"].first() == tied_to
    assert ((count > 1) == tied).all()


@few
@given(seed=seeds, low=share, high=share)
def test_follow_up_adds_later_films(seed, low, high):
    low, high = sorted((low, high))
    a, b = listed(seed=seed, follow_up=low), listed(seed=seed, follow_up=high)
    assert set(a["film"]) <= set(b["film"])
    assert_shared_films_are_equal(a, b)
    single, several = (listed(seed=seed, follow_up=v).groupby("patient")["film"].nunique() for v in (0.0, 1.0))
    assert (single == 1).all() and several.between(2, 3).all()


@few
@given(seed=seeds, covid=share, normal=share)
def test_prevalence_changes_who_is_ill_and_nothing_else(seed, covid, normal):
    rest = (1 - covid) * (1 - normal)
    mix = {"covid": covid, "normal": 1 - covid - rest, "pneumonia": rest}
    a, b = listed(seed=seed), listed(seed=seed, prevalence=mix)
    assert columns_that_differ(a, b) <= {"finding", "severity"}
    assert (b["severity"][b["finding"] == "normal"] == 0).all()
    assert all((b["finding"] != name).all() for name, part in mix.items() if part == 0)
    both_ill = (a["finding"] != "normal") & (b["finding"] != "normal")
    assert a["severity"][both_ill].equals(b["severity"][both_ill])  # how ill somebody is does not hang on with what


@few
@given(seed=seeds, low=share, high=share)
def test_severity_stays_in_its_range_and_changes_nothing_else(seed, low, high):
    low, high = sorted((low, high))
    a, b = listed(seed=seed), listed(seed=seed, severity=(low, high))
    ill = b["finding"] != "normal"
    assert columns_that_differ(a, b) <= {"severity"}
    assert b["severity"][ill].between(low - 1e-4, high + 1e-4).all() and not b["severity"][~ill].any()


@few
@given(seed=seeds, low=share, high=share)
def test_clutter_puts_planted_things_on_films_of_any_label(seed, low, high):
    low, high = sorted((low, high))
    a, b = listed(seed=seed, clutter=low), listed(seed=seed, clutter=high)
    assert columns_that_differ(a, b) <= set(THINGS)
    assert (a[list(THINGS)] <= b[list(THINGS)]).all().all()
    none, full = listed(seed=seed, clutter=0.0), listed(seed=seed, clutter=1.0)
    assert not none[list(THINGS)].any().any() and (full[list(THINGS)] == 1).all().all()


@few
@given(seed=seeds, tied_to=st.sampled_from(phantom.CLASSES))
def test_hospital_and_tied_to_change_nothing_but_themselves(seed, tied_to):
    north = listed(seed=seed)
    assert columns_that_differ(north, listed(seed=seed, hospital="south")) == {"hospital"}
    assert north.equals(listed(seed=seed, tied_to=tied_to))  # nothing is tied, so nothing moves


@few
@given(seed=seeds)
def test_a_seed_is_another_set_of_people(seed):
    a, b = listed(seed=seed), listed(seed=seed + 1)
    assert not a["age"][:40].reset_index(drop=True).equals(b["age"][:40].reset_index(drop=True))
    assert (a["patient"].drop_duplicates().to_numpy() == b["patient"].drop_duplicates().to_numpy()).all()


@settings(max_examples=3, deadline=None)
@given(seed=seeds, duplicates=share)
def test_nobody_is_in_two_parts_of_the_teaching_set(seed, duplicates):
    table = phantom.teaching_table(seed, shortcuts={"duplicates": duplicates, "follow_up": 0.5})
    for who in ("person", "dup_group"):
        assert (table.groupby(who)["split"].nunique() == 1).all()
    assert isinstance(table, pd.DataFrame) and table["person"].nunique() == 700


@few
@given(seed=seeds, size_px=st.sampled_from([48, 64, 96]))
def test_size_in_pixels_draws_the_same_chest_finer(seed, size_px):
    film = phantom.Film(seed=seed, finding="covid", severity=0.7)
    small, large = (phantom.draw_film(film, s)[1] for s in (size_px, 2 * size_px))
    for name in ANATOMY:
        halved = large[name].reshape(size_px, 2, size_px, 2).mean((1, 3)) >= 0.5
        overlap = (halved & small[name]).sum() / (halved | small[name]).sum()
        assert overlap > 0.9, name


def test_no_more_people_than_asked_for_and_longer_runs_begin_with_shorter_ones():
    short, long = (phantom.simulate(n, size_px=32, seed=4, workers=1) for n in (5, 9))
    assert len(short) == 5 and len(long) == 9
    assert (long.images[:5] == short.images).all() and long.table[:5].equals(short.table)
    assert np.array_equal(long.targets[:5], short.targets)
