import numpy as np
import pytest

from appulse.evaluate.feature_towers import (
    Features,
    FeatureTowersConfig,
    fit_feature_towers,
    measure_features,
)
from appulse.metrics import partner_ranks, recall_at_k
from appulse.survey.photometry import aperture_fluxes
from appulse.training.loop import TrainingConfig

CONFIG = FeatureTowersConfig(
    TrainingConfig(steps=120, batch_size=128, learning_rate=3e-3, validate_every=20, patience=4),
    width=32,
    depth=1,
    embedding=8,
)


def pairs(n, seed):
    """Two views of four numbers, in units that differ much; a fifth number tells nothing."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(n, 4))
    image = np.c_[own @ np.diag([1, 10, 0.1, 1]) + 100, rng.normal(size=n)]
    return Features(image, np.c_[np.tanh(own[:, ::-1]), own**2] + 0.01 * rng.normal(size=(n, 8)))


def test_partners_are_found(tmp_path):
    train, validation, test = pairs(800, 0), pairs(200, 1), pairs(200, 2)
    towers = fit_feature_towers(train, validation, tmp_path / "run", CONFIG, device="cpu")
    image, spectrum = towers.image_vectors(test.image), towers.spectrum_vectors(test.spectrum)
    np.testing.assert_allclose(np.linalg.norm(image, axis=1), 1, rtol=1e-5)
    assert recall_at_k(partner_ranks(image @ spectrum.T), 10) > 0.9
    again = fit_feature_towers(train, validation, tmp_path / "run", CONFIG, device="cpu")
    np.testing.assert_array_equal(again.image_vectors(test.image), image)
    with pytest.raises(ValueError, match="another configuration"):
        fit_feature_towers(pairs(800, 5), validation, tmp_path / "run", CONFIG)


def test_features_are_fluxes_or_what_a_tower_reads(galaxies, model):
    image, spectrum = measure_features(galaxies)
    flat = aperture_fluxes(galaxies.images).reshape(len(galaxies), -1)
    np.testing.assert_allclose(np.sinh(image) * 0.5, flat, rtol=1e-4)
    read = model.spectrum.prepare(galaxies.spectra).features.numpy()
    np.testing.assert_array_equal(measure_features(galaxies, model.spectrum).spectrum, read)
    np.testing.assert_allclose(spectrum, read[:, : spectrum.shape[1]], rtol=1e-5)
