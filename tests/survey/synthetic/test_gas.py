import numpy as np
import pytest

from appulse.survey.synthetic import gas
from appulse.survey.synthetic.dust import calzetti

NAMES = list(gas.LINES)


@pytest.fixture(scope="module")
def lines(population):
    light = gas.draw_line_luminosities(population, np.random.default_rng(0))
    return dict(zip(NAMES, light.T, strict=True))


@pytest.mark.parametrize(
    ("line", "other", "ratio"),
    [
        ("H alpha", "H beta", 2.86),
        ("H gamma", "H beta", 0.468),
        ("H delta", "H beta", 0.259),
        ("[O III] 5008", "[O III] 4960", 2.98),
        ("[N II] 6585", "[N II] 6550", 3.05),
    ],
)
def test_ratios_fixed_by_atomic_physics(lines, line, other, ratio):
    np.testing.assert_allclose(lines[line] / lines[other], ratio, rtol=1e-6)


def test_oxygen_doublet_stays_between_its_density_limits(lines):
    ratio = lines["[O II] 3730"] / lines["[O II] 3727"]
    assert (ratio > 0.35).all()
    assert (ratio < 1.65).all()


def test_halpha_gives_the_star_formation_rate_back(population, lines):
    star_forming = ~population.quiescent & (population.log_ssfr_recent > -10)
    rate = lines["H alpha"] * 5.37e-42  # Kennicutt & Evans 2012 in linear form
    ratio = rate / 10 ** (population.log_ssfr_recent + population.log_mstar)
    assert np.median(ratio[star_forming]) == pytest.approx(1, abs=0.01)
    assert (ratio > 0.99).all()  # a nucleus only adds


@pytest.mark.parametrize(("oxygen", "n2", "o3n2"), [(8.69, -0.368, 0.125), (8.33, -1.0, 1.25)])
def test_strong_line_calibrations_at_tabulated_abundances(oxygen, n2, o3n2):
    oxygen = np.array([oxygen])
    assert gas.nitrogen_ratio(oxygen)[0] == pytest.approx(n2, abs=1e-3)
    assert gas.oxygen_nitrogen_ratio(oxygen)[0] == pytest.approx(o3n2, abs=1e-3)


def test_curti_polynomials_at_solar_abundance_and_below():
    solar, poor = np.array([8.69]), np.array([8.19])
    assert gas.oxygen2_ratio(solar)[0] == pytest.approx(0.435)
    assert gas.sulfur_ratio(solar)[0] == pytest.approx(-0.442)
    # x = -.5 in c0 + c1 x + ... of their table 2
    assert gas.oxygen2_ratio(poor)[0] == pytest.approx(0.2558, abs=1e-3)
    assert gas.sulfur_ratio(poor)[0] == pytest.approx(-1.0098, abs=1e-3)


def test_balmer_decrement_measures_the_dust_of_the_gas():
    """log (Hα/Hβ / 2.86) = .4 E(B-V) (k(Hβ) - k(Hα))."""
    a_v = np.array([0.0, 0.5, 2.0])
    through = dict(zip(NAMES, gas.line_transmission(a_v).T, strict=True))
    decrement = -np.log10(through["H beta"] / through["H alpha"])
    slope = 0.4 * (calzetti(np.array([4862.7])) - calzetti(np.array([6564.6])))
    np.testing.assert_allclose(decrement / slope, 0.75 / 0.44 * a_v / 4.05)


def test_line_ratios_pile_up_nowhere(lines):
    n2 = np.log10(lines["[N II] 6585"] / lines["H alpha"])
    o3 = np.log10(lines["[O III] 5008"] / lines["H beta"])
    for ratio in (n2, o3):
        assert np.unique(np.round(ratio, 6), return_counts=True)[1].max() < 5
        count, _ = np.histogram(ratio, np.arange(-2.5, 1.5, 0.02))
        smooth = np.convolve(count, np.ones(9) / 9, "same")
        assert (count < 2 * smooth + 15).all()


def test_star_forming_galaxies_lie_below_kauffmann(population, lines):
    """Kauffmann et al. (2003), equation 1, but for the active ones and some scatter."""
    n2 = np.log10(lines["[N II] 6585"] / lines["H alpha"])
    o3 = np.log10(lines["[O III] 5008"] / lines["H beta"])
    below = (n2 < 0) & (o3 < 0.61 / (np.minimum(n2, 0) - 0.05) + 1.3)
    star_forming = ~population.quiescent & (population.log_ssfr_recent > -11)
    assert 0.8 < below[star_forming].mean() < 0.98


def test_saturation_rises_and_stays_below_its_limit():
    x = np.linspace(-3, 3, 200)
    y = gas._saturate(x, -0.3, 0.1)
    assert (np.diff(y) > 0).all()
    assert y.max() < -0.3
    np.testing.assert_allclose(y[x < -1], x[x < -1], atol=2e-3)
