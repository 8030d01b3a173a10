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
