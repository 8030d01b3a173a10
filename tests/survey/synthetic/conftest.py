import numpy as np
import pytest

from appulse.survey.synthetic.population import Population, draw_population


@pytest.fixture(scope="session")
def population() -> Population:
    return draw_population(2000, np.random.default_rng(5))
