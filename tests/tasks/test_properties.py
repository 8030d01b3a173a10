from dataclasses import replace

import numpy as np
import pytest

import appulse
from appulse.inference.estimator import EstimatorConfig
from appulse.inference.fitting import FitConfig, PosteriorConfig
from appulse.search.embeddings import Embeddings
from appulse.survey.fluxes import Fluxes
from appulse.tasks.observed import observed
from appulse.tasks.properties import NO_EVIDENCE, NOT_LEARNED, GalaxyPosterior, _kept

N, D = 1200, 3
QUICK = PosteriorConfig(
    EstimatorConfig(width=32, depth=2, condition=32, outliers=True), FitConfig(steps=500)
)
COLUMNS = {"redshift": "redshift_catalogue", "age": "age_catalogue"}


def galaxies(n=N, seed=0):
    """Image says much of the age, the spectrum of the redshift, photometry a little of both."""
    rng = np.random.default_rng(seed)
    truth = {"redshift": rng.uniform(0.02, 0.4, n), "age": np.exp(rng.normal(1.5, 0.3, n))}
    z, age = truth["redshift"], np.log(truth["age"])
    ids = np.char.add(f"{seed}-", np.arange(n).astype(str))
    a, b = rng.normal(size=(2, n, D)).astype(np.float32)
    a[:, 0] = age + 0.03 * rng.normal(size=n)
    measured = z + 2e-4 * rng.normal(size=n)
    image = Embeddings(ids, a, "image", "model A")
    spectrum = Embeddings(ids, b, "spectrum", "model A", {"spectrum_redshift": measured})
    flux = 100 * np.exp(np.stack([-5 * z, age, z], 1) + 0.3 * rng.normal(size=(n, 3)))
    return image, spectrum, Fluxes(ids, flux, 0.01 * flux), truth


@pytest.fixture(scope="module")
def fitted():
    *evidence, truth = galaxies()
    return GalaxyPosterior.fit(observed(*evidence), truth, COLUMNS, QUICK, device="cpu")


# --- joining


def test_tables_are_joined_on_ids():
    image, spectrum, photometry, _ = galaxies(6)
    order = np.array([4, 2, 0])
    few = Embeddings(image.ids[order], image.vectors[order], "image", "model A")
    other = replace(photometry, ids=np.array(["x", *photometry.ids[1:]]))
    joined = observed(few, None, other)
    assert joined.ids.tolist() == ["0-4", "0-2", "0-0", "x", "0-1", "0-3", "0-5"]
    np.testing.assert_array_equal(joined.blocks["image"][:3], image.vectors[order])
    assert np.isnan(joined.blocks["image"][3:]).all()
    np.testing.assert_allclose(joined.blocks["photometry"][1], photometry.features()[2], rtol=1e-6)
    assert np.isnan(joined.blocks["photometry"][2]).all()
    assert observed(few, spectrum).model_hash == "model A"


def test_what_cannot_be_joined_is_refused():
    image, spectrum, photometry, _ = galaxies(4)
    with pytest.raises(ValueError, match="nothing to infer from"):
        observed()
    with pytest.raises(ValueError, match="image embeddings are of spectrum"):
        observed(spectrum)
    with pytest.raises(ValueError, match=r"models \['model A', 'model B'\]"):
        observed(image, replace(spectrum, model_hash="model B"))
    twice = replace(photometry, ids=np.array(["a", "b", "a", "c"]))
    with pytest.raises(ValueError, match="photometry: 1 ids come more than once, such as 'a'"):
        observed(image, None, twice)


# --- inferring


def test_each_block_tells_what_it_knows(fitted):
    *evidence, truth = galaxies(200, seed=1)
    errors = {}
    for name, part in {"image": (0,), "spectrum": (1,), "all": (0, 1, 2)}.items():
        some = [e if k in part else None for k, e in enumerate(evidence)]
        table = fitted.infer(observed(*some), 200).to_pydict()
        assert table["id"] == evidence[0].ids.tolist()
        width = np.array(table["redshift_high_68"]) - np.array(table["redshift_low_68"])
        inside = np.abs(np.array(table["redshift"]) - truth["redshift"]) < width
        assert 0.85 < inside.mean() <= 1  # of ± 2 sigma
        ages = np.array(table["age_high_68"]) / np.array(table["age_low_68"])
        errors[name] = np.median(width) / 2, np.log(np.median(ages)) / 2
    assert errors["spectrum"][0] == pytest.approx(2e-4, rel=0.5)
    assert errors["all"][0] == pytest.approx(2e-4, rel=0.5)
    assert errors["image"][0] > 0.05
    assert errors["image"][1] == pytest.approx(0.03, rel=0.4)
    assert errors["spectrum"][1] == pytest.approx(0.3, rel=0.3)


def test_galaxies_unlike_the_others_are_flagged(fitted):
    image, spectrum, photometry, _ = galaxies(300, seed=2)
    usual = fitted.infer(observed(image, spectrum, photometry), 20)
    assert np.mean(usual["novel"]) < 0.05
    image.vectors[7] = 100.0
    table = fitted.infer(observed(image, spectrum, photometry), 20).to_pydict()
    assert np.flatnonzero(table["novel"])[0] == 7 or table["novel"][7]
    assert table["novelty"][7] < 0.01


def test_among_few_galaxies_what_is_farther_than_all_is_flagged():
    *evidence, truth = galaxies(60)
    quick = replace(QUICK, fit=FitConfig(steps=3))
    fitted = GalaxyPosterior.fit(observed(*evidence), truth, COLUMNS, quick, device="cpu")
    image, spectrum, photometry, _ = galaxies(200, seed=2)
    image.vectors[7] = 100.0
    novel = fitted.infer(observed(image, spectrum, photometry), 20)["novel"].to_numpy()
    assert novel[7]
    assert novel.mean() < 0.12  # three kinds of evidence, each 1 in 61 by chance


def test_evidence_not_learned_together_is_a_reason_and_no_end():
    image, spectrum, photometry, truth = galaxies(120)
    image.vectors[:60], spectrum.vectors[60:] = np.nan, np.nan
    quick = replace(QUICK, fit=FitConfig(steps=3))
    some = observed(image, spectrum, photometry)
    fitted = GalaxyPosterior.fit(some, truth, COLUMNS, quick, device="cpu")
    image, spectrum, photometry, _ = galaxies(4, seed=1)
    image.vectors[0], spectrum.vectors[1] = np.nan, np.nan
    image.vectors[2], spectrum.vectors[2], photometry.flux[2] = np.nan, np.nan, np.nan
    table = fitted.infer(observed(image, spectrum, photometry), 20).to_pydict()
    assert table["reason"] == ["", "", NO_EVIDENCE, NOT_LEARNED]
    assert np.isfinite(table["redshift"]).tolist() == [True, True, False, False]


def test_leaving_the_labels_range_is_said(fitted):
    image, spectrum, _, _ = galaxies(3, seed=3)
    spectrum.columns["spectrum_redshift"][:] = [0.2, 0.9, 0.2]
    assert fitted.infer(observed(image, spectrum), 50)["at_edge"].to_pylist() == [
        "",
        "redshift",
        "",
    ]


def test_galaxies_without_evidence_are_kept_as_nan(fitted):
    *_, photometry, _ = galaxies(3, seed=4)
    photometry.flux[0, 1] = np.nan
    table = fitted.infer(observed(None, None, photometry), 50, samples=True).to_pydict()
    assert table["evidence"] == ["", "photometry", "photometry"]
    assert np.isnan(table["redshift"][0])
    assert np.isnan(table["novelty"][0])
    assert not table["novel"][0]
    assert np.isfinite(table["redshift"][1:]).all()
    assert np.median(table["age_samples"][1]) == pytest.approx(table["age"][1])
    photometry.flux[:] = np.nan
    assert np.isnan(fitted.infer(observed(None, None, photometry), 50)["age"]).all()


def test_embeddings_of_another_model_are_refused(fitted):
    image, _, photometry, _ = galaxies(3)
    other = replace(image, model_hash="model B")
    with pytest.raises(ValueError, match=r"of model model B; .* model A: embed again"):
        fitted.infer(observed(other))
    assert fitted.infer(observed(None, None, photometry), 20).num_rows == 3


# --- saving


def test_it_survives_saving_and_opens_as_any_posterior(fitted, tmp_path):
    fitted.save(tmp_path / "posterior")
    *evidence, _ = galaxies(5, seed=5)
    joined = observed(*evidence)
    again = GalaxyPosterior.load(tmp_path / "posterior", "cpu")
    assert again.infer(joined, 30).equals(fitted.infer(joined, 30))
    plain = appulse.Posterior.load(tmp_path / "posterior", "cpu")
    assert plain.about["targets"] == COLUMNS
    samples = plain.sample(image=evidence[0].evidence, spectrum=evidence[1].evidence, n=30)
    assert samples.shape == (5, 30, 2)
    assert (samples > 0).all()


def test_other_posteriors_are_refused(fitted, tmp_path):
    fitted.posterior.save(tmp_path)
    with pytest.raises(ValueError, match="not one that `appulse posterior` made"):
        GalaxyPosterior.load(tmp_path)


def test_what_is_novel_does_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(0)
    block = np.sort(rng.normal(size=(8000, 1)).astype(np.float32), axis=0)
    kept = _kept(block)
    assert len(kept) == 2000
    assert kept.std() == pytest.approx(1, abs=0.1)


def test_labels_that_cannot_be_are_left_out(tmp_path):
    image, spectrum, _, truth = galaxies(200)
    truth = {name: values.astype(np.float32) for name, values in truth.items()}
    truth["age"][:2], truth["redshift"][2] = 0, -1e-4
    quick = replace(QUICK, fit=FitConfig(steps=3))
    fitted = GalaxyPosterior.fit(observed(image, spectrum), truth, COLUMNS, quick, device="cpu")
    assert fitted.posterior.about["galaxies"] == 197
    fitted.save(tmp_path)
    assert GalaxyPosterior.load(tmp_path).posterior.about == fitted.posterior.about


def test_evidence_that_too_few_have_is_refused_before_any_work():
    image, spectrum, _, truth = galaxies(60)
    spectrum.vectors[3:] = np.nan
    with pytest.raises(ValueError, match="3 of the 60 galaxies with all of redshift, age have"):
        GalaxyPosterior.fit(observed(image, spectrum), truth, COLUMNS, QUICK)
    truth["age"][10:] = np.nan
    with pytest.raises(ValueError, match="10 of the 10 galaxies with all of redshift, age have"):
        GalaxyPosterior.fit(observed(image), truth, COLUMNS, QUICK)


def test_a_damaged_reference_is_named(fitted, tmp_path):
    fitted.save(tmp_path)
    file = tmp_path / "reference.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"reference\.safetensors is damaged"):
        GalaxyPosterior.load(tmp_path)
