import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Table

from appulse.survey.fluxes import Fluxes
from appulse.survey.images import Images
from appulse.survey.resample import fit
from appulse.survey.tables import write_table

FLUX = np.array([[10.0, 20.0, 40.0], [1.0, 2.0, np.nan]])
ERROR = np.array([[0.1, 0.2, 0.4], [0.1, 0.1, 0.1]])


def table(**columns):
    return {"TARGETID": np.array([39627, 39628]), **columns}


def by_band(name, values):
    return {f"{name}_{band}": values[:, k] for k, band in enumerate("grz")}


LAYOUTS = {
    "legacy surveys": by_band("FLUX", FLUX) | by_band("FLUX_IVAR", ERROR**-2),
    "errors": by_band("flux", FLUX) | by_band("flux_err", ERROR),
    "magnitudes": by_band("mag", 22.5 - 2.5 * np.log10(FLUX))
    | by_band("mag_err", 2.5 / np.log(10) * ERROR / FLUX),
}


@pytest.mark.parametrize("suffix", ["parquet", "fits", "csv"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tables_say_the_same_in_any_layout(layout, suffix, tmp_path):
    path, columns = tmp_path / f"table.{suffix}", table(**LAYOUTS[layout])
    if suffix == "csv":
        Table(columns).write(path)
    else:
        write_table(pa.table(columns), path)
    fluxes = Fluxes.read(path)
    assert fluxes.ids.tolist() == ["39627", "39628"]
    np.testing.assert_allclose(fluxes.flux, FLUX)
    np.testing.assert_allclose(fluxes.error[0], ERROR[0])


def test_tables_without_photometry_are_refused(tmp_path):
    path = tmp_path / "table.parquet"
    write_table(pa.table(table(**by_band("flux", FLUX))), path)
    with pytest.raises(ValueError, match=r"no photometry: .*flux_ivar_g.*columns are TARGETID"):
        Fluxes.read(path)


def test_what_lacks_a_band_or_an_error_is_unknown_throughout():
    error = np.array([[0.1, 0.2, 0.4], [0.1, 0.1, 0.1], [0.1, 0.0, 0.1]])
    features = Fluxes(np.array(["a", "b", "c"]), np.vstack([FLUX, FLUX[:1]]), error).features()
    assert np.isfinite(features[0]).all()
    assert np.isnan(features[1:]).all()
    np.testing.assert_allclose(features[0, :3], np.arcsinh(FLUX[0] / 0.1))
    np.testing.assert_allclose(features[0, 3:], 2, atol=1e-4)  # S/N is 100


def test_images_are_measured_with_the_errors_that_they_have():
    rng = np.random.default_rng(0)
    y, x = np.indices((64, 64)) - 31.5
    source = 100 * np.exp(-(x**2 + y**2) / (2 * 3.0**2)) / (2 * np.pi * 3.0**2)
    sigma = np.array([0.01, 0.02, 0.04])[:, None, None]
    noisy = source + sigma * rng.normal(size=(300, 3, 64, 64))
    fluxes = Fluxes.measure(Images.from_arrays(noisy))
    np.testing.assert_allclose(fluxes.flux.mean(0), 100, rtol=0.01)
    np.testing.assert_allclose(fluxes.error.mean(0), fluxes.flux.std(0), rtol=0.15)


def test_padding_and_bad_pixels_do_not_make_the_sky_quieter():
    rng = np.random.default_rng(1)
    images = Images.from_arrays(0.02 * rng.normal(size=(1, 3, 100, 100)))
    error = Fluxes.measure(images).error
    np.testing.assert_allclose(Fluxes.measure(fit(images, 138)).error, error, rtol=0.01)
    bad = np.zeros(images.mask.shape, bool)
    bad[:, :, :45] = True
    some = Images.from_arrays(images.flux, mask=bad)
    np.testing.assert_allclose(Fluxes.measure(some).error, error, rtol=0.05)
    unseen = Images.from_arrays(images.flux, mask=np.arange(3)[:, None, None] + 0 * bad == 0)
    assert np.isnan(Fluxes.measure(unseen).error).tolist() == [[True, False, False]]


def test_noise_on_top_has_the_size_it_says():
    fluxes = Fluxes(
        np.arange(20_000).astype(str), np.tile(FLUX[:1], (20_000, 1)), np.full((20_000, 3), 0.1)
    )
    noisy = fluxes.noisier(np.full(20_000, 0.05))
    np.testing.assert_allclose(noisy.error, np.hypot(0.1, 0.05 * np.abs(noisy.flux)))
    np.testing.assert_allclose((noisy.flux - fluxes.flux).std(0), 0.05 * FLUX[0], rtol=0.03)


def test_quoted_errors_do_not_tell_the_colours_without_noise():
    rng = np.random.default_rng(0)
    flux = np.exp(rng.normal(size=(5000, 3)))
    fluxes = Fluxes(np.arange(5000).astype(str), flux, np.full(flux.shape, 1e-9))
    noisy = fluxes.noisier(np.full(5000, 0.1))
    told = np.log(noisy.error[:, 0] / noisy.error[:, 1]) - np.log(flux[:, 0] / flux[:, 1])
    assert told.std() == pytest.approx(0.1 * 2**0.5, rel=0.1)


def test_shapes_must_match():
    with pytest.raises(ValueError, match=r"shape \(1, 2\).*g, r, z"):
        Fluxes(np.array(["a"]), np.ones((1, 2)), np.ones((1, 2)))
