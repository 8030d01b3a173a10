from dataclasses import replace

import numpy as np
import pytest

from appulse.survey.parts import Split
from appulse.survey.rejects import Rejects
from appulse.survey.spectra import Spectra
from appulse.survey.store import SurveyStore
from appulse.survey.structure import structure
from appulse.survey.survey import LABELS, label_columns
from appulse.tasks.embed import (
    KEPT,
    embed_images,
    embed_spectra,
    embed_survey,
    joined,
    stream_spectra,
)


@pytest.fixture(scope="module")
def shuffled(galaxies, tmp_path_factory):
    """The galaxies in another order, a third of them in each part that is not empty."""
    fractions = {"encoder-train": 0.0, "head-train": 0.4, "validation": 0.3, "test": 0.3}
    order = np.random.default_rng(1).permutation(len(galaxies))
    path = tmp_path_factory.mktemp("embed") / "shuffled.lance"
    return SurveyStore.create(path, [galaxies[order]], split=Split(fractions))


def rows_of(ids, galaxies):
    """Where each id is among the galaxies."""
    return np.array([galaxies.ids.tolist().index(id) for id in ids])


@pytest.mark.parametrize("part", [None, "head-train", "test"])
def test_each_row_is_the_galaxy_that_it_names(model, galaxies, shuffled, part):
    image, spectrum = embed_survey(model, shuffled, part, device="cpu")
    assert image.ids.tolist() == shuffled.columns(["targetid"], part)["targetid"].tolist()
    rows = rows_of(image.ids, galaxies)
    assert part or sorted(rows) == list(range(len(galaxies)))
    expected = model.embed_images(galaxies.images, device="cpu")[rows]
    np.testing.assert_allclose(image.vectors, expected, atol=2e-5)
    expected = model.embed_spectra(galaxies.spectra, device="cpu")[rows]
    np.testing.assert_allclose(spectrum.vectors, expected, atol=2e-5)
    z = model.redshift(galaxies.spectra)[rows]
    np.testing.assert_allclose(spectrum.columns["spectrum_redshift"], z, atol=1e-6)
    for made, seen in ((image, galaxies.images), (spectrum, galaxies.spectra)):
        expected = model.coordinates(seen, device="cpu")[rows]
        np.testing.assert_allclose(made.coordinates, expected, rtol=1e-4, atol=1e-4)
        expected = model.describe(seen, device="cpu").evidence[rows]
        np.testing.assert_allclose(made.evidence, expected, rtol=1e-4, atol=1e-4)
    assert made.evidence.shape[1] == image.evidence.shape[1] + 1
    np.testing.assert_allclose(made.evidence[:, -1], z, atol=1e-6)
    kept = [*KEPT, *label_columns(shuffled.names).values()]
    assert len(kept) == len(KEPT) + len(LABELS)
    for embeddings in (image, spectrum):
        assert embeddings.ids.tolist() == image.ids.tolist()
        assert embeddings.model_hash == model.hash()
        for name in kept:
            np.testing.assert_array_equal(embeddings.columns[name], galaxies.columns[name][rows])
        np.testing.assert_array_equal(embeddings.columns["ra"], galaxies.images.ra[rows])
        np.testing.assert_array_equal(embeddings.columns["dec"], galaxies.images.dec[rows])


def test_batches_come_out_end_to_end(model, galaxies):
    whole = embed_images(model, [galaxies.images], device="cpu")
    parts = (galaxies.images[rows] for rows in (slice(7), slice(7, 8), slice(8, None)))
    pieces = embed_images(model, parts, device="cpu")
    assert pieces.modality == "image"
    np.testing.assert_array_equal(pieces.ids, galaxies.ids)
    np.testing.assert_allclose(pieces.vectors, whole.vectors, atol=2e-5)
    spectra = embed_spectra(model, (galaxies.spectra[[i]] for i in (4, 2)), device="cpu")
    assert spectra.modality == "spectrum"
    assert spectra.ids.tolist() == galaxies.ids[[4, 2]].tolist()
    expected = model.embed_spectra(galaxies.spectra[[4, 2]], device="cpu")
    np.testing.assert_allclose(spectra.vectors, expected, atol=2e-5)


def test_a_survey_without_labels_has_positions_and_what_was_measured(model, galaxies, tmp_path):
    bare = type(galaxies)(galaxies.images, galaxies.spectra)
    store = SurveyStore.create(tmp_path / "bare.lance", [bare])
    image, spectrum = embed_survey(model, store, device="cpu")
    measured = {f"coordinate_{k}" for k in range(5)}
    expected = {f"structure_{k}" for k in range(structure(galaxies.images).shape[1])}
    assert set(image.columns) == {"ra", "dec", *measured, *expected}
    np.testing.assert_allclose(image.structure, structure(galaxies.images), atol=1e-5)
    assert spectrum.structure.shape == (len(spectrum), 0)
    assert set(spectrum.columns) == {"ra", "dec", "spectrum_redshift", *measured}


@pytest.mark.parametrize("embed", [embed_images, embed_spectra])
def test_nothing_is_an_error(model, embed):
    with pytest.raises(ValueError, match="nothing to embed: no rows were read"):
        embed(model, [])


def test_images_of_several_scales_are_embedded_in_one_stream(model, galaxies):
    """Between files and within one, in their order; near 0.262 arcsec they are as one."""
    scales = np.full(20, 0.262)
    scales[[4, 5, 6, 9]], scales[7], scales[12:] = 0.4, 0.3, 0.2621
    images = replace(galaxies.images, pixel_scale=scales)
    parts = [images[:3], images[3:6], images[6:11], images[11:]]
    made = embed_images(model, parts, device="cpu")
    assert made.ids.tolist() == images.ids.tolist()
    for row in (3, 4, 7, 9, 10, 19):
        alone = model.embed_images(images[row], device="cpu")
        np.testing.assert_allclose(made.vectors[[row]], alone, atol=2e-5)


def test_a_spectrum_that_the_model_cannot_see_is_set_aside(model, galaxies):
    flux = galaxies.spectra.flux[:3, :3000]
    far = {"ids": ["a", "b", "c"], "wavelength": np.linspace(10500, 17000, 3000)}
    infrared = Spectra.from_arrays(flux, **far)
    rejects = Rejects()
    options = {"device": "cpu", "precision": "float32"}
    batches = [galaxies.spectra[:2], infrared, galaxies.spectra[2:3]]
    made = joined(stream_spectra(model, batches, rejects=rejects, **options))
    assert made.ids.tolist() == galaxies.ids[:3].tolist()
    assert np.isfinite(made.vectors).all()
    assert [row.file for row in rejects] == ["spectrum 'a'", "spectrum 'b'", "spectrum 'c'"]
    assert "expected good pixels within 3600–9817 Å" in rejects.rows[0].reason
    with pytest.raises(ValueError, match=r"spectrum 'a': its embedding is not finite"):
        embed_spectra(model, batches, device="cpu")
