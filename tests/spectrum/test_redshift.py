import numpy as np
import pytest
import torch

from appulse.spectrum.redshift import DictionaryConfig, ShiftDictionary, high_pass
from appulse.survey.spectra import Spectra
from appulse.units import desi_grid

EMISSION, ABSORPTION = (3728, 4863, 5008, 6565), (3935, 3970, 4305, 5176, 5893)  # Å, rest frame


def spectra(n: int, seed: int, noise: float = 0.3) -> tuple[Spectra, np.ndarray]:
    """Emission lines of any strength over absorption lines, on a sloping continuum."""
    rng, grid = np.random.default_rng(seed), desi_grid()
    redshift = rng.uniform(0.02, 0.35, n)
    flux = 3 * (grid / 6000) ** rng.uniform(-1, 1, (n, 1))
    for row, z in enumerate(redshift):
        strength = {line: rng.uniform(0.5, 4) for line in EMISSION} | dict.fromkeys(ABSORPTION, -1)
        for line, height in strength.items():
            flux[row] += height * np.exp(-0.5 * ((grid - line * (1 + z)) / 6) ** 2)
    flux += rng.normal(0, noise, flux.shape)
    return Spectra.from_arrays(flux, ivar=np.full(len(grid), noise**-2)), redshift


@pytest.fixture(scope="module")
def dictionary() -> ShiftDictionary:
    config = DictionaryConfig(templates=3, members=5)
    train, z = spectra(200, seed=1)
    return ShiftDictionary(config).fit(train).calibrate(train[:20], z[:20])


def test_finds_redshifts_of_spectra_it_has_not_seen(dictionary):
    test, z = spectra(60, seed=2)
    error = (dictionary.redshift(test) - z) / (1 + z)
    assert np.mean(np.abs(error) < 0.003) > 0.95
    assert np.median(np.abs(error)) < 2e-4  # a third of a bin: the sub-bin peak works


def test_proposals_begin_with_the_redshift_and_are_apart(dictionary):
    test, z = spectra(60, seed=2, noise=6.0)
    found, redshift = dictionary.proposals(test, 5), dictionary.redshift(test)
    same = np.abs(found[:, 0] - redshift) / (1 + redshift) < 5e-4
    assert same.mean() > 0.9
    gap = np.abs(np.diff(np.sort(np.log1p(found), axis=1), axis=1))
    assert gap[np.isfinite(gap)].min() > 0.003
    right = np.abs(found - z[:, None]) / (1 + z[:, None]) < 0.003
    assert right.any(1).sum() > right[:, 0].sum()  # a second look has something to choose from


def moved(dictionary, lags) -> ShiftDictionary:
    """A copy whose templates are moved, each by its lag."""
    copy = ShiftDictionary(dictionary.config)
    copy.load_state_dict(dictionary.state_dict())
    pairs = zip(dictionary.templates, lags, strict=True)
    copy.templates = torch.stack([torch.roll(template, lag) for template, lag in pairs])
    return copy


def test_a_template_at_a_shift_of_its_own_is_found_and_moved_back(dictionary):
    train, z = spectra(200, seed=1)
    flux, weight = high_pass(train, dictionary.config)
    members = np.bincount(dictionary.measure(train)[1].argmax(1), minlength=3)
    smaller = int(np.argsort(members)[1])
    lags = [150 if k == smaller else 0 for k in range(3)]
    wrong = moved(dictionary, lags)
    error = np.abs(wrong.redshift(train) - z) / (1 + z)
    assert np.mean(error > 0.05) > 0.5 * members[smaller] / 200  # the fault does harm
    wrong.agree(flux, weight)
    error = np.abs(wrong.redshift(train) - z) / (1 + z)
    assert np.mean(error < 0.003) > 0.95


def test_room_is_made_for_high_redshift(dictionary):
    """Wherever learning began, the nearest galaxies end up at the last shifts."""
    train, _ = spectra(200, seed=1)
    flux, weight = high_pass(train, dictionary.config)
    for lag in (-100, 100):
        placed = moved(dictionary, [lag] * 3)
        placed.make_room(flux, weight)
        shift = -placed.measure(train)[0] / dictionary.config.bin
        last = dictionary.config.shifts - 1
        assert last - 60 < np.quantile(shift, 0.995) <= last


def test_brightness_and_slope_do_not_matter(dictionary):
    test, _ = spectra(20, seed=3)
    slope = 50 * (desi_grid() / 6000) ** 2
    bright = Spectra.from_arrays(test.flux * slope, ivar=test.ivar / slope**2)
    close = np.abs(dictionary.redshift(bright) - dictionary.redshift(test)) < 1e-3
    assert close.mean() >= 0.9


def test_match_equals_a_plain_loop_over_shifts(dictionary):
    test, _ = spectra(3, seed=4)
    flux, weight = high_pass(test, dictionary.config)
    gain, amplitude = dictionary.match(flux, weight)
    for row, template, shift in [(0, 0, 0), (1, 2, 17), (2, 1, 804)]:
        part = dictionary.templates[template, shift : shift + flux.shape[1]].double()
        f, w = flux[row].double(), weight[row].double()
        power = (w * part**2).sum() + 1
        expected = (w * f * part).sum() / power.sqrt()
        assert gain[row, template, shift].item() == pytest.approx(expected.item(), abs=2e-3)
        assert amplitude[row, template, shift].item() == pytest.approx(
            (expected / power.sqrt()).item(), abs=1e-4
        )


def test_high_pass_removes_the_continuum_and_keeps_lines():
    test, z = spectra(2, seed=5, noise=0.01)
    flux, _ = high_pass(test, DictionaryConfig())
    assert abs(flux[1].mean().item()) < 0.02
    config = DictionaryConfig()
    bin = int(np.log(6565 * (1 + z[1]) / config.blue) / config.bin)
    assert flux[1, bin - 2 : bin + 3].max() > 0.3


def test_masked_pixels_do_not_count(dictionary):
    test, _ = spectra(10, seed=6)
    spoiled = test.flux.copy()
    spoiled[:, 3000:3100] = 1e4
    mask = np.zeros(test.flux.shape, bool)
    mask[:, 3000:3100] = True
    masked = Spectra.from_arrays(spoiled, ivar=test.ivar, mask=mask)
    assert np.median(np.abs(dictionary.redshift(masked) - dictionary.redshift(test))) < 1e-3


def test_is_saved_and_loaded_by_its_state(dictionary):
    copy = ShiftDictionary(dictionary.config)
    copy.load_state_dict(dictionary.state_dict())
    test, _ = spectra(4, seed=7)
    np.testing.assert_array_equal(copy.redshift(test), dictionary.redshift(test))


def test_says_nothing_before_calibration():
    test, _ = spectra(20, seed=8)
    fitted = ShiftDictionary(DictionaryConfig(templates=2, members=2)).fit(test)
    assert np.isnan(fitted.redshift(test)).all()


def test_too_few_spectra_are_refused():
    test, _ = spectra(5, seed=9)
    with pytest.raises(ValueError, match="5 spectra cannot teach 12 templates"):
        ShiftDictionary().fit(test)


def test_real_galaxies(shared):
    """Too few to learn redshifts from: what is tested is that real noise and gaps do no harm."""
    from appulse.survey.readers import read_spectra
    from appulse.survey.rejects import Rejects

    real = read_spectra(str(shared / "data/real/spectra_sdss.npz"), rejects=Rejects())
    shift, gains = ShiftDictionary(DictionaryConfig(templates=2)).fit(real).measure(real)
    assert np.isfinite(shift).all()
    assert torch.from_numpy(gains).abs().max() <= 1.001  # squares of correlations
