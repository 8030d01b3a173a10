from dataclasses import replace

import numpy as np
import pytest

from appulse.evaluate import measured
from appulse.evaluate.measured import component_scores, measure
from appulse.evaluate.sample import Sample
from appulse.survey.parts import Split
from appulse.survey.photometry import aperture_fluxes
from appulse.survey.rgb import to_flux, to_rgb
from appulse.survey.store import SurveyStore
from appulse.survey.survey import Survey


@pytest.fixture(scope="module")
def sample(store):
    return Sample.of(store)


def scores(made):
    """Components of spectra, brightness beside."""
    pixels, brightness = (
        {part: getattr(m, name) for part, m in made.items()} for name in ("spectrum", "brightness")
    )
    return component_scores(pixels, brightness)


def test_only_pixels_that_components_learn_from_are_kept(sample, monkeypatch):
    """Of encoder-train; all fluxes stay, and components are the same."""
    monkeypatch.setattr(measured, "BATCH", 64)
    every = measure(sample)
    monkeypatch.setattr(measured, "PCA_GALAXIES", 100)
    expected = scores(every)["test"]
    few = measure(sample)
    for part, made in few.items():
        rows = len(sample.rows(part))
        kept = 128 if part == "encoder-train" else rows
        assert [len(values) for values in made] == [rows, rows, kept, kept, kept]
        for one, other in zip(made, every[part], strict=True):
            np.testing.assert_array_equal(one, other[: len(one)])
    np.testing.assert_allclose(scores(few)["test"], expected)


def test_baselines_see_flux_in_pictures(galaxies, tmp_path):
    images = replace(galaxies.images, flux=to_rgb(galaxies.images.flux), kind="rgb")
    survey = Survey(images, galaxies.spectra, galaxies.columns)
    fractions = {"encoder-train": 1.0, "head-train": 0.0, "validation": 0.0, "test": 0.0}
    store = SurveyStore.create(tmp_path / "rgb.lance", [survey], split=Split(fractions))
    kept = store.read(range(20)).images
    made = measured._measure(Sample(store, {}), "encoder-train")
    np.testing.assert_allclose(made.apertures, aperture_fluxes(to_flux(kept)))
