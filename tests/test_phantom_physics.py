"""The simulator's physics against formulas worked by hand, and its shapes against geometry."""

import numpy as np
import pytest
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from covid_xray import phantom_physics as physics
from covid_xray import phantom_shapes as shapes


def test_slab_follows_beer_lambert():
    "10 cm of soft tissue: exp(-0.2048 * 1.06 * 10), worked by hand from NIST's table"
    slab = np.full((4, 4), 10.0)
    assert physics.transmission(physics.line_integral(soft=slab)) == pytest.approx(np.exp(-2.17088), rel=1e-5)


def test_doubling_the_thickness_squares_the_transmission():
    path = np.linspace(0, 30, 50)
    for tissue in physics.LINEAR_ATTENUATION_PER_CM:
        once = physics.transmission(physics.line_integral(**{tissue: path}))
        twice = physics.transmission(physics.line_integral(**{tissue: 2 * path}))
        assert twice == pytest.approx(once**2, rel=1e-5)


def test_layers_multiply_and_their_order_does_not_matter():
    soft, bone = np.full(3, 12.0), np.full(3, 0.7)
    both = physics.transmission(physics.line_integral(soft=soft, bone=bone))
    swapped = physics.transmission(physics.line_integral(bone=bone, soft=soft))
    parts = physics.transmission(physics.line_integral(soft=soft)) * physics.transmission(
        physics.line_integral(bone=bone)
    )
    assert both == pytest.approx(parts, rel=1e-5) and both == pytest.approx(swapped, rel=1e-6)


def test_bone_stops_most_and_inflated_lung_least():
    mu = physics.LINEAR_ATTENUATION_PER_CM
    assert mu["bone"] > mu["soft"] > mu["fat"] > mu["lung"] > 0


def test_unknown_tissue_is_refused_by_name():
    with pytest.raises(ValueError, match="cartilage"):
        physics.line_integral(cartilage=np.ones(2))


@pytest.mark.parametrize("thickness_cm", [2.0, 10.0, 20.0])
def test_noise_variance_equals_the_mean_count(thickness_cm):
    "Behind an even slab, without scatter or blur, counts scatter as Poisson's law says"
    integral = np.full((256, 256), physics.LINEAR_ATTENUATION_PER_CM["soft"] * thickness_cm, np.float32)
    dose, pixel_mm = 0.05, 1.0
    signal = physics.expose(
        integral, pixel_mm=pixel_mm, rng=np.random.default_rng(0), scatter=0, dose_ugy=dose, blur_px=0.01
    )
    open_beam = physics.QUANTA_PER_MM2_PER_UGY * dose * pixel_mm**2 / np.exp(-integral.mean(dtype=float))
    counts = open_beam * np.exp(-signal.astype(float))
    assert counts.mean() == pytest.approx(physics.QUANTA_PER_MM2_PER_UGY * dose, rel=0.01)
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.03)


def test_scatter_lowers_contrast():
    integral = np.full((128, 128), 3.0, np.float32)
    integral[40:80, 40:80] = 4.5
    contrast = []
    for scatter in (0.0, 0.12, 0.3):
        signal = physics.expose(integral, pixel_mm=2, rng=np.random.default_rng(0), scatter=scatter)
        contrast.append(signal[60, 60] - signal[10, 10])
    assert contrast[0] == pytest.approx(1.5, abs=0.05) and contrast[0] > contrast[1] > contrast[2] > 0


def test_spread_keeps_a_constant_and_a_slope():
    "B-splines reproduce straight lines exactly"
    assert physics.spread(np.full((9, 9), 2.5, np.float32), 50) == pytest.approx(2.5, rel=1e-5)
    ramp = np.tile(np.arange(9, dtype=np.float32), (9, 1))
    expected = (np.arange(50) + 0.5) / 50 * 6 + 1
    assert physics.spread(ramp, 50)[20] == pytest.approx(expected, abs=1e-4)


def test_blurs_keep_the_mean_of_an_even_film_and_lower_the_variance():
    film = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    for blurred in (physics.small_blur(film, 0.8), physics.wide_blur(film, {0.1: 1.0})):
        assert blurred.std() < 0.5 * film.std()
    even = np.full((64, 64), 7.0, np.float32)
    assert physics.small_blur(even, 0.8) == pytest.approx(7, rel=1e-5) and physics.wide_blur(
        even, {0.1: 1.0}
    ) == pytest.approx(7, rel=1e-5)


@pytest.mark.parametrize("sigma_px", [0.4, 0.8, 1.7])
def test_the_small_blur_is_scipy_s_gaussian(sigma_px):
    film = np.random.default_rng(1).uniform(0, 9, (40, 50)).astype(np.float32)
    radius = max(1, int(np.ceil(2.5 * sigma_px)))
    expected = gaussian_filter(film.astype(float), sigma_px, mode="nearest", radius=radius)
    assert physics.small_blur(film, sigma_px) == pytest.approx(expected, abs=1e-4)


def test_the_wide_blur_of_a_dot_has_the_asked_width():
    film = np.zeros((160, 160), np.float32)
    film[77:83, 77:83] = 1
    blurred = physics.wide_blur(film, {0.1: 1.0}).astype(float)
    place = np.arange(160) - 79.5
    width = np.sqrt((blurred.sum(0) * place**2).sum() / blurred.sum())
    assert width == pytest.approx(16, rel=0.12) and blurred.sum() == pytest.approx(36, rel=0.05)


def test_spread_is_scipy_s_cubic_b_spline():
    lattice = np.random.default_rng(2).standard_normal((9, 9)).astype(np.float32)
    bell = BSpline.basis_element([-2, -1, 0, 1, 2], extrapolate=False)
    position = (np.arange(50) + 0.5) / 50 * 6 + 1
    weights = np.nan_to_num(bell(position[:, None] - np.arange(9)))
    assert physics.spread(lattice, 50) == pytest.approx(weights @ lattice @ weights.T, abs=1e-5)


@pytest.mark.parametrize("scatter", [0.0, 0.16, 0.35])
def test_behind_an_even_slab_scatter_adds_its_share(scatter):
    "Primary e^-m and once-scattered s m e^-m, so the signal is m - ln(1 + s m)"
    signal = physics.expose(
        np.full((64, 64), 2.5, np.float32), pixel_mm=2, rng=np.random.default_rng(0), scatter=scatter, dose_ugy=50
    )
    assert signal.mean() == pytest.approx(2.5 - np.log(1 + 2.5 * scatter), abs=1e-3)


def test_twice_the_dose_halves_the_variance():
    def variance(dose_ugy):
        slab = np.full((128, 128), 2.0, np.float32)
        return physics.expose(slab, pixel_mm=1, rng=np.random.default_rng(3), scatter=0, dose_ugy=dose_ugy).var()

    assert variance(0.5) / variance(1.0) == pytest.approx(2, rel=0.02)
    by_hand = 1 / (physics.QUANTA_PER_MM2_PER_UGY * 1.0)  # of the logarithm of a Poisson count: 1 / mean
    assert variance(1.0) == pytest.approx(by_hand, rel=0.05)


def test_clouds_have_the_promised_mean_and_spread():
    lattices = (np.random.default_rng(k).standard_normal((96, 96), dtype=np.float32) for k in range(8))
    clouds = [shapes.fractal(lattice, 96) for lattice in lattices]
    assert abs(np.mean(clouds)) < 0.1 and np.std(clouds) == pytest.approx(1, abs=0.12)


def test_develop_is_bright_where_dense():
    signal = np.linspace(0, 4, 64, dtype=np.float32)[None, :].repeat(64, 0)
    film = physics.develop(signal, detail=0, flatten=0)
    assert film.dtype == np.uint8 and (np.diff(film[10].astype(int)) >= 0).all() and film[10, -1] > film[10, 0] + 100


def test_chord_through_a_ball_is_pythagoras():
    assert shapes.chord(np.array([0.0, 0.36, 1.0, 4.0])) == pytest.approx([1, 0.8, 0, 0])


def test_beads_keep_their_amount_wherever_they_fall():
    row, column, film = np.array([10.3, 31.7]), np.array([20.9, 5.1]), np.zeros((64, 64), np.float32)
    shapes.splat(film, row, column, np.array([2.0, 3.0]), np.array([1.0, 0.7]))
    assert film.sum() == pytest.approx(5, rel=1e-5)
    rows, columns = np.mgrid[:64, :64] + 0.5
    assert (film * rows).sum() / 5 == pytest.approx((2 * 10.3 + 3 * 31.7) / 5, abs=0.05)
    assert (film * columns).sum() / 5 == pytest.approx((2 * 20.9 + 3 * 5.1) / 5, abs=0.05)


def test_a_bead_is_a_gaussian():
    "Against scipy's normal law, integrated over a pixel, and a bead at the rim loses what lies beyond it"
    film = np.zeros((40, 50), np.float32)
    shapes.splat(film, np.array([20.5]), np.array([30.5]), np.array([1.0]), np.array([2.0]))
    edges = np.arange(51) - 30.5
    expected = np.diff(norm.cdf(edges / 2.0))
    assert film.sum(0) == pytest.approx(expected, abs=0.006)
    half = np.zeros((40, 50), np.float32)
    shapes.splat(half, np.array([20.5]), np.array([0.0]), np.array([1.0]), np.array([2.0]))
    assert half.sum() == pytest.approx(0.5, abs=0.02)


def test_beads_outside_the_film_leave_it_empty():
    film = np.zeros((32, 32), np.float32)
    shapes.splat(film, np.array([-40.0]), np.array([90.0]), np.ones(1), np.ones(1))
    assert not film.any()


def test_a_drawn_tube_has_the_tube_s_volume():
    "One straight vessel, radius 0.3 cm, length 4 cm: pi r^2 l, about 1.13 cubic cm"
    tube = [(np.array([[-2.0, 0.0]]), np.array([[2.0, 0.0]]), np.array([0.3]))]
    pixel = 0.1
    to_pixels = np.array([[1 / pixel, 0, 50], [0, 1 / pixel, 50]])
    film = shapes.draw_tree(tube, to_pixels, (100, 100), pixel)
    assert film.sum() * pixel**2 == pytest.approx(np.pi * 0.3**2 * 4, rel=0.01)


def test_union_is_a_soft_maximum():
    a, b = np.array([0.0, 5.0, 5.0]), np.array([3.0, 0.0, 5.0])
    assert shapes.union(a, b)[:2] == pytest.approx([3, 5]) and 5 < shapes.union(a, b)[2] < 6
