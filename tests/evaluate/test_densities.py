from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from appulse import posteriors
from appulse.evaluate.densities import _placed, densities
from appulse.evaluate.sample import PARTS, Sample
from appulse.evaluate.study import Study
from appulse.search.embeddings import Embeddings
from appulse.survey.survey import PROPERTIES

UNSEEN = 7  # a test galaxy whose image has no embedding


@pytest.fixture(scope="module")
def said(run, store, tmp_path_factory):
    """Ours and spline flows on the embeddings of `run`, by method and modality."""
    out = tmp_path_factory.mktemp("densities")
    posteriors.posterior(run.survey, run.embeddings, out / "p", run.recipe.posterior, device="cpu")
    embedded = {
        part: tuple(
            Embeddings.read(run.embeddings / f"{part}-{m}.parquet") for m in ("image", "spectrum")
        )
        for part in PARTS
    }
    image, spectrum = embedded["test"]
    vectors = image.vectors.copy()
    vectors[UNSEEN] = np.nan
    embedded["test"] = replace(image, vectors=vectors), spectrum
    sample = Sample.of(store)
    study = Study(sample, sample.choose(embedded), out / "work", device="cpu")
    methods = densities(study, [out / "p"], galaxies=60)
    return study, {(p.method, p.modality): p for m in methods for p in m.run(0)}


def test_each_kind_of_evidence_is_scored(said):
    _, rows = said
    assert set(rows) == {
        *(("appulse, flow matching", m) for m in ("image", "spectrum", "both")),
        *(("spline flow on embeddings", m) for m in ("image", "spectrum", "both")),
        ("spline flow on apertures", "image"),
    }
    for (method, modality), row in rows.items():
        unseen = modality != "spectrum" and "apertures" not in method
        scored = np.delete(np.arange(61), UNSEEN if unseen else 60)
        assert set(row.values) == {"posterior", *(f"{name} CRPS" for name in PROPERTIES)}
        for values in row.values.values():
            assert np.flatnonzero(np.isfinite(values)).tolist() == scored.tolist()
        assert row.baseline == ("spline" in method)


def test_all_are_better_than_who_knows_only_the_population(said):
    """A normal of each property over head-train; its CRPS is known in closed form."""
    study, rows = said
    theta = {p: np.stack([study.labels[p][n] for n in PROPERTIES], 1) for p in PARTS}
    mean, sd = theta["head-train"].mean(0), theta["head-train"].std(0)
    z = (theta["test"][:60] - mean) / sd
    blind = norm.logpdf(z).sum(1) - np.log(sd).sum()
    crps = sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    redshift = PROPERTIES.index("redshift")
    for (_, modality), row in rows.items():
        if modality != "image":
            assert np.nanmean(row.values["posterior"][:60]) > blind.mean()
            assert np.nanmean(row.values["redshift CRPS"][:60]) < crps[:, redshift].mean()


def test_a_density_that_is_no_number_is_refused():
    rows = np.array([0, 2, 5])
    placed = _placed({"posterior": np.array([-1.0, -np.inf, 2.0])}, rows, 6)["posterior"]
    np.testing.assert_array_equal(placed[rows], [-1, -1000, 2])
    assert np.isnan(placed[[1, 3, 4]]).all()
    values = {"posterior": np.array([-1.0, np.nan, 2.0])}
    with pytest.raises(ValueError, match="posterior is NaN for 1 of 3 galaxies, first row 2"):
        _placed(values, rows, 6)
