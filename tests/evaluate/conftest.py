import numpy as np
import pytest

PARTS = {"head-train": 400, "validation": 200, "test": 150}


@pytest.fixture(scope="session")
def labels():
    """Labels of made-up galaxies by part; some unknown."""
    rng = np.random.default_rng(0)
    columns = {}
    for part, n in PARTS.items():
        z = rng.uniform(0.02, 0.4, n)
        age = np.where(rng.random(n) < 0.1, np.nan, 10 - 15 * z + rng.normal(0, 0.3, n))
        morphology = np.where(z < 0.15, "spiral", "elliptical")
        morphology[:5] = ""
        columns[part] = {"redshift": z, "age": age, "morphology": morphology}
    return columns


@pytest.fixture(scope="session")
def features(labels):
    """Features that hold the redshift and little else."""
    rng = np.random.default_rng(1)
    parts = {}
    for part, columns in labels.items():
        z = columns["redshift"]
        parts[part] = np.stack([z, np.sqrt(z), rng.normal(size=len(z))], axis=1)
        parts[part] += 0.005 * rng.normal(size=parts[part].shape)
    return parts


@pytest.fixture(scope="session")
def study(store, tmp_path_factory):
    """The galaxies of `store` with made-up vectors.

    They hold the properties, the morphology and what tells a galaxy from others.
    """
    from appulse.evaluate.sample import Sample
    from appulse.evaluate.study import Study
    from appulse.search.embeddings import Embeddings
    from appulse.survey.survey import PROPERTIES
    from appulse.tasks.targets import Scale

    sample, rng, embedded = Sample.of(store), np.random.default_rng(0), {}
    test = sample.labels["test"]
    scale = Scale.of(np.stack([test[name] for name in PROPERTIES], axis=1))
    for part, columns in sample.labels.items():
        ids = store.columns(["targetid"], part)["targetid"]
        numbers = np.stack([columns[name] for name in PROPERTIES], axis=1)
        own = 0.3 * rng.normal(size=(len(ids), 6))
        kinds = columns["morphology"][:, None] == np.unique(test["morphology"])
        truth = np.hstack([scale.apply(numbers), 2.0 * kinds, own])
        image, spectrum = (
            (truth + 0.05 * rng.normal(size=truth.shape)).astype(np.float32) for _ in range(2)
        )
        z = columns["redshift"] + 1e-4 * rng.normal(size=len(ids))
        embedded[part] = (
            Embeddings(ids, image, "image", "hash"),
            Embeddings(ids, spectrum, "spectrum", "hash", {"spectrum_redshift": z}),
        )
    work = tmp_path_factory.mktemp("work")
    return Study(sample, sample.choose(embedded), work, (0, 1), device="cpu")
