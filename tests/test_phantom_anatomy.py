"""The chest of the phantom against what an atlas says: where each organ lies, what makes it larger, what moves it."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from covid_xray import phantom, phantom_anatomy as anatomy, phantom_physics as physics, phantom_skeleton as skeleton
from covid_xray.phantom_anatomy import POSE, TRAITS

SIZE_PX = 160


def chest(view="PA", size_px=SIZE_PX, pose=(), **traits):
    "The average adult, with the named traits changed; the film looks straight on, its centre over the carina"
    average = {name: mean for name, (mean, _) in TRAITS.items()}
    straight = {**{name: mean for name, (mean, _) in POSE.items()}, "shift_down": 0.0, "field": 40.0, "aspect": 1.0}
    return anatomy.build_anatomy(
        {**average, **traits}, {**straight, **dict(pose)}, view, size_px, np.random.default_rng(0)
    )


def attenuation(a):
    return physics.line_integral(soft=a.soft, fat=a.fat, lung=a.lung, bone=a.bone)


# --- bodies drawn in windows -----------------------------------------------------------------------------------------

z = st.floats(-2, 2)
people = st.fixed_dictionaries({name: z for name in TRAITS})
poses = st.fixed_dictionaries({name: z for name in POSE})


def valued(table, scores):
    "Values so many standard deviations from the mean: corners that chance hardly ever reaches"
    return {name: mean + sd * scores[name] for name, (mean, sd) in table.items()}


@settings(max_examples=25, deadline=None)
@given(traits=people, pose=poses, view=st.sampled_from(phantom.VIEWS), age=st.integers(20, 88))
def test_windows_leave_nothing_out(traits, pose, view, age):
    "Each organ is drawn only in a window that holds it: against the same organs worked out on every pixel"
    older, traits = (age - 50) / 30, valued(TRAITS, traits)
    traits["heart_scale"] *= 1 + 0.03 * older
    traits["spine_curve"] *= 1 + max(older, 0)
    traits["aorta_unfold"] += 0.5 * max(older, 0)
    drawn = (traits, valued(POSE, pose), view, 64)
    windowed = anatomy.build_anatomy(*drawn, np.random.default_rng(1))
    with pytest.MonkeyPatch.context() as patch:
        for module in (anatomy, skeleton):
            patch.setattr(module, "box", lambda x, y, across, down=None: (slice(0, len(y)), slice(0, x.shape[1])))
        whole = anatomy.build_anatomy(*drawn, np.random.default_rng(1))
    for name in ("soft", "fat", "lung", "lungs", "heart", "body"):
        assert (getattr(windowed, name) == getattr(whole, name)).all(), name
    assert np.abs(windowed.bone - whole.bone).max() < 1e-12


# --- each trait moves its own organ ----------------------------------------------------------------------------------

ORGANS = {  # trait: another value; where the film may change, cm across (left of the patient positive) and down
    "gas": (6.5, (1, 12), (5, 16)),  # under the left dome
    "trachea": (1.3, (-2.5, 2.5), (-19.5, 0)),  # midline, above the carina
    "trachea_shift": (0.9, (-6, 6), (-19.5, 5)),  # with the main bronchi that leave it
    "aorta_radius": (2.2, (-1.5, 5), (-7.5, -1.5)),  # the knob, to the left and above the heart
    "clavicle_bone": (1.0, (-17, 17), (-15.5, -6.5)),
    "spine_bone": (0.3, (-3.5, 3.5), (-21, 21)),
    "rib_bone": (0.7, (-15, 15), (-14.5, 20)),
    "breast": (5.0, (-15, 15), (-10, 14)),
    "breast_level": (6.5, (-15, 15), (-10, 14)),
    "dome_height": (5.0, (-14, 14), (2, 20)),  # of the diaphragm
    "heart_shift": (1.5, (-8, 13), (-12, 18)),
    "heart_angle_deg": (52.0, (-6, 12), (-6, 18)),
    "vessel_scale": (1.4, (-14, 14), (-14, 16)),
    "texture": (0.2, (-14, 14), (-14, 16)),
    "shoulder": (14.0, (-21, 21), (-21, 0.5)),
}


@pytest.mark.parametrize("trait", ORGANS)
def test_a_trait_changes_its_own_organ_and_nothing_far_from_it(trait):
    value, across, down = ORGANS[trait]
    a, b = chest(), chest(**{trait: value})
    changed = np.abs(attenuation(a) - attenuation(b)) > 1e-3
    x, y = a.across, np.broadcast_to(a.down, a.across.shape)
    inside = (x > across[0]) & (x < across[1]) & (y > down[0]) & (y < down[1])
    assert changed.sum() > 20 and not (changed & ~inside).any()


@pytest.mark.parametrize("trait", ["clavicle_bone", "scapula_bone", "spine_bone", "rib_bone"])
def test_bone_is_only_bone(trait):
    a, b = chest(), chest(**{trait: 1.5 * TRAITS[trait][0]})
    assert (b.bone >= a.bone).all() and (b.bone > a.bone).any()
    assert (a.lung == b.lung).all() and (a.lungs == b.lungs).all() and (a.heart == b.heart).all()


def test_vessels_and_texture_stay_in_the_lungs():
    a = chest()
    for trait in ("vessel_scale", "texture"):
        b = chest(**{trait: 1.5 * TRAITS[trait][0]})
        changed = np.abs(attenuation(a) - attenuation(b)) > 1e-4
        assert changed.any() and (a.lung[changed] > 0).all() and (a.lungs == b.lungs).all()


# --- what an atlas says ----------------------------------------------------------------------------------------------


def test_lungs_have_an_apex_an_angle_and_a_notch():
    a = chest()
    x, y = a.across[SIZE_PX // 2], a.down[:, 0]
    right, left = a.lungs[:, x < 0], a.lungs[:, x > 0]
    for lung, columns in ((right, -x[x < 0]), (left, x[x > 0])):
        rows = np.flatnonzero(lung.any(1))
        top, widest = lung[rows[2]].sum(), lung.sum(1).max()
        assert y[rows[0]] < -11 and top < 0.75 * widest  # a narrow apex at the level of the clavicles
        lowest = np.array([np.flatnonzero(column).max() if column.any() else 0 for column in lung.T])
        assert columns[lowest.argmax()] > 10  # the costophrenic angle: deepest at the side, not in the middle
    beside_heart = (y > 3) & (y < 6)
    air = [a.lung[beside_heart][:, side].sum() for side in (x > 0, x < 0)]
    assert air[0] < 0.85 * air[1]  # the cardiac notch: the heart takes its room from the left lung


def test_the_gas_bubble_has_a_level_only_in_those_who_stand():
    levels = {}
    for view in ("PA", "AP supine"):
        gas = attenuation(chest(view, gas=0.0)) - attenuation(chest(view, gas=6.0))
        column = gas[:, gas.max(0).argmax()]
        levels[view] = -np.diff(column).min() / column.max()  # steepest fall from one row to the next, going down
    assert levels["PA"] > 1.5 * levels["AP supine"]


def test_ribs_have_a_back_and_a_front():
    "Near the spine a film shows the backs of the ribs only; at the side, backs and fronts cross"
    a = chest(spine_bone=0.0, clavicle_bone=0.0, scapula_bone=0.0, size_px=320)
    x, y = a.across[160], a.down[:, 0]

    def ribs(position_cm, top):
        return a.bone[(y > top) & (y < 12), np.abs(x - position_cm).argmin()]

    backs = (np.diff((ribs(3.5, -12) > 0.1).astype(int)) == 1).sum()
    assert 8 <= backs <= 11 and ribs(10.0, 0).sum() > 1.3 * ribs(3.5, 0).sum()


def test_vertebrae_follow_one_another_at_the_ribs_spacing():
    a = chest(rib_bone=0.0, clavicle_bone=0.0, scapula_bone=0.0, size_px=320)
    x, y = a.across[160], a.down[:, 0]
    profile = a.bone[:, np.abs(x - 0.9).argmin()][(y > -12) & (y < 15)]
    profile = profile - profile.mean()
    power = np.abs(np.fft.rfft(profile * np.hanning(len(profile)), 4096))
    spacing_cm = 1 / np.fft.rfftfreq(4096, y[1] - y[0])[60 + power[60:].argmax()]
    assert spacing_cm == pytest.approx(TRAITS["rib_spacing"][0], rel=0.06)


def test_shoulder_blades_stand_over_the_lungs_on_a_bedside_film():
    over = {}
    for view in ("PA", "AP"):
        with_, without = chest(view), chest(view, scapula_bone=0.0)
        over[view] = (with_.bone - without.bone)[with_.lungs].sum()
    assert over["AP"] > 2 * over["PA"]


def test_a_bedside_film_is_blurred_more_and_has_more_scatter():
    asked = {}
    with pytest.MonkeyPatch.context() as patch:
        for view in phantom.VIEWS:
            expose = physics.expose
            patch.setattr(phantom.physics, "expose", lambda *a, **how: asked.update({view: how}) or expose(*a, **how))
            phantom.draw_film(phantom.Film(view=view), 64)
            patch.undo()
    for view in ("AP", "AP supine"):
        assert asked[view]["blur_px"] > asked["PA"]["blur_px"] and asked[view]["scatter"] > 1.5 * asked["PA"]["scatter"]


def test_breathing_in_lowers_the_domes_and_turning_moves_the_front_over_the_back():
    out, in_ = chest(pose={"breath": -1.5}), chest(pose={"breath": 1.5})
    assert in_.lungs.sum() > 1.1 * out.lungs.sum()
    lowest = [np.flatnonzero(a.lungs.any(1)).max() * a.pixel_cm for a in (out, in_)]
    assert lowest[1] - lowest[0] == pytest.approx(3.0, abs=0.5)
    straight, turned = chest(), chest(pose={"turn_deg": 6.0})
    middle = [(a.heart * a.across).sum() / a.heart.sum() for a in (straight, turned)]
    assert abs(middle[1] - middle[0]) > 0.5
    assert np.abs(straight.bone[:, SIZE_PX // 2] - turned.bone[:, SIZE_PX // 2]).max() < 0.5  # the spine stays


def test_women_have_breasts_and_a_smaller_frame_and_age_unfolds_the_aorta():
    f, m = (anatomy.draw_traits(np.random.default_rng(5), sex, 50) for sex in "FM")
    assert f["breast"] > 3 * m["breast"] and f["size"] < m["size"] and f["chest_half_width"] < m["chest_half_width"]
    young, old = (anatomy.draw_traits(np.random.default_rng(5), "F", age) for age in (25, 85))
    assert old["aorta_radius"] > young["aorta_radius"] and old["aorta_unfold"] > young["aorta_unfold"]
    assert old["rib_bone"] < young["rib_bone"] and old["heart_scale"] > young["heart_scale"]


def test_the_hila_are_denser_than_the_rim_of_the_lung_and_the_left_one_stands_higher():
    a, bare = chest(), chest(vessel_scale=0.01)
    vessels = bare.lung - a.lung  # what the tree of vessels takes from the lung
    out = np.abs(a.across)
    near, far = (vessels[a.lungs & (out > low) & (out < high)].mean() for low, high in ((3, 6), (9, 13)))
    assert near > 3 * far > 0
    hila = anatomy._hila(a.across, a.down)
    level = {side: (hila * a.down)[side * a.across > 0].sum() / hila[side * a.across > 0].sum() for side in (-1, 1)}
    assert level[1] < level[-1] - 0.5
