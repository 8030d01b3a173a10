from dataclasses import asdict, fields, is_dataclass, replace
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from appulse.align import towers
from appulse.align.model import ModelConfig
from appulse.survey.images import Images
from appulse.survey.spectra import Spectra


def assert_close(one, other):
    np.testing.assert_allclose(one, other, atol=2e-5)


def embed_both(model, galaxies):
    return (
        model.embed_images(galaxies.images, device="cpu"),
        model.embed_spectra(galaxies.spectra, device="cpu"),
    )


def leaves(config):
    """Every configuration that differs from this one in a single setting."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            for changed in leaves(value):
                yield replace(config, **{field.name: changed})
        else:
            yield replace(config, **{field.name: another(config, field.name, value)})


def another(config, name, value):
    """A value that the setting does not have now."""
    if isinstance(value, str):
        return next(v for v in get_args(get_type_hints(type(config))[name]) if v != value)
    if isinstance(value, bool):
        return not value
    return 1.0 if value is None else value + 1


def test_embeddings_are_unit_vectors_that_differ(model, galaxies):
    for vectors in embed_both(model, galaxies):
        assert vectors.shape == (20, 16)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
        assert np.unique(vectors.round(4), axis=0).shape == vectors.shape


def test_a_batch_of_one_equals_its_row(model, galaxies):
    whole = embed_both(model, galaxies)
    for row in (0, 7, 19):
        for alone, vectors in zip(embed_both(model, galaxies[row]), whole, strict=True):
            assert alone.shape == (1, 16)
            assert_close(alone[0], vectors[row])


def test_batch_size_does_not_matter(model, galaxies, monkeypatch):
    whole = embed_both(model, galaxies)
    monkeypatch.setattr(towers, "BATCH", 7)
    for parts, vectors in zip(embed_both(model, galaxies), whole, strict=True):
        assert_close(parts, vectors)


def test_rows_follow_their_galaxies(model, galaxies):
    order = np.random.default_rng(0).permutation(len(galaxies))
    shuffled = embed_both(model, galaxies[order])
    for parts, vectors in zip(shuffled, embed_both(model, galaxies), strict=True):
        assert_close(parts, vectors[order])


def test_arrays_are_as_good_as_containers(model, galaxies):
    flux = galaxies.images.flux
    assert_close(
        model.embed_images(flux.astype(np.float64), device="cpu"),
        model.embed_images(Images.from_arrays(flux), device="cpu"),
    )
    spectrum = galaxies.spectra.flux
    spectra = Spectra.from_arrays(spectrum)
    assert_close(
        model.embed_spectra(spectrum, device="cpu"), model.embed_spectra(spectra, device="cpu")
    )
    np.testing.assert_array_equal(model.redshift(spectrum), model.redshift(spectra))


def test_what_lies_under_a_mask_does_not_matter(model, galaxies):
    images, spectra = galaxies.images, galaxies.spectra
    rng = np.random.default_rng(0)
    holes, gaps = rng.random(images.flux.shape) < 0.03, rng.random(spectra.flux.shape) < 0.05
    vectors = []
    for rubbish in (0.0, 1e5, np.nan):
        flux, spectrum = images.flux.copy(), spectra.flux.copy()
        flux[holes], spectrum[gaps] = rubbish, rubbish
        vectors.append(
            (
                model.embed_images(Images.from_arrays(flux, mask=holes), device="cpu"),
                model.embed_spectra(
                    Spectra.from_arrays(spectrum, ivar=spectra.ivar, mask=gaps), device="cpu"
                ),
            )
        )
    for image, spectrum in vectors[1:]:
        np.testing.assert_array_equal(image, vectors[0][0])
        np.testing.assert_array_equal(spectrum, vectors[0][1])
    for masked, whole in zip(vectors[0], embed_both(model, galaxies), strict=True):
        assert (masked != whole).any()  # the mask is seen
        assert np.median((masked * whole).sum(1)) > 0.8  # and changes little


def test_the_redshift_is_the_dictionarys(model, galaxies):
    shift, _ = model.spectrum.dictionary.measure(galaxies.spectra)
    zero = model.spectrum.dictionary.zero_point.item()
    np.testing.assert_allclose(model.redshift(galaxies.spectra), np.exp(shift + zero) - 1)


def test_only_networks_run_in_bfloat16(model, galaxies, monkeypatch):
    """Measuring in it would be off by up to half of the coordinates' scatter."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    exact, rounded = (
        model.describe(galaxies.spectra, device="cpu", precision=precision)
        for precision in ("float32", "bfloat16")
    )
    assert not np.array_equal(rounded.vectors, exact.vectors)
    np.testing.assert_array_equal(rounded.coordinates, exact.coordinates)
    np.testing.assert_array_equal(rounded.redshift, exact.redshift)


def test_without_a_zero_point_there_is_no_redshift(model, galaxies):
    """As before labels: what is known is evidence all the same."""
    calibrated = model.describe(galaxies.spectra, device="cpu")
    model.spectrum.dictionary.zero_point.fill_(np.nan)
    made = model.describe(galaxies.spectra, device="cpu")
    assert made.redshift.shape == (20, 0)
    assert made.evidence.shape[1] == calibrated.evidence.shape[1] - 1
    assert np.isfinite(made.evidence).all()
    features = model.spectrum.prepare(galaxies.spectra).features
    assert model.spectrum.measured(features).isfinite().all()
    with pytest.raises(ValueError, match="no zero point, as no redshift was known in pretraining"):
        model.redshift(galaxies.spectra)
    model.spectrum.dictionary.calibrate(galaxies.spectra, galaxies.columns["redshift_true"])
    assert np.isfinite(model.redshift(galaxies.spectra)).all()


def test_spectra_of_which_nothing_is_seen_are_named(model, galaxies):
    """Redder than the shift dictionary's grid."""
    red = Spectra.from_arrays(np.ones((2, 900)), wavelength=np.linspace(3e4, 4e4, 900))
    with pytest.raises(ValueError, match=r"2 of 2 rows have no good pixels.* 0 \(id 0\), 1"):
        model.embed_spectra(red, device="cpu")


def test_the_temperature_starts_as_configured_and_is_learned_from_its_logarithm(model):
    assert model.inverse_temperature.item() == pytest.approx(20, rel=1e-6)
    with torch.no_grad():
        model.log_inverse_temperature.fill_(2.0)
    assert model.inverse_temperature.item() == pytest.approx(np.exp(2), rel=1e-6)


def test_configurations_survive_json(recipe):
    assert ModelConfig.from_json(asdict(recipe.model)) == recipe.model


def test_the_hash_names_every_weight(model):
    hashes = {model.hash()}
    state = model.state_dict()  # shares the model's memory
    for tensor in state.values():
        flat = tensor.view(-1)
        before = flat[-1].clone()
        flat[-1] = before + 1
        hashes.add(model.hash())
        flat[-1] = before
    assert len(hashes) == len(state) + 1
    assert model.hash() in hashes


def test_the_hash_names_every_setting(model):
    """Also those that no weight's shape shows, such as a number of heads."""
    changed = list(leaves(model.config))
    hashes = {model.hash()}
    for config in changed:
        model.config = config
        hashes.add(model.hash())
    assert len(hashes) == len(changed) + 1


def test_features_may_wait_elsewhere_than_the_model(model, galaxies):
    """As `align` has it: the model is on an accelerator, the cache on the CPU."""
    image = model.image.prepare(galaxies.images).features
    spectrum = model.spectrum.prepare(galaxies.spectra).features
    model.to("meta").standardise(image, spectrum)


class OnMps(torch.Tensor):
    """As a tensor on Apple's devices, which have no float64."""

    def double(self):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def test_double_precision_is_left_to_the_cpu(model, galaxies):
    features = model.spectrum.prepare(galaxies.spectra).features
    expected = model.spectrum.redshift(features)
    assert expected.dtype == torch.float64
    torch.testing.assert_close(model.spectrum.redshift(features.as_subclass(OnMps)), expected)
