"""What would make labels harder: R² of boosting on total g, r, z, one change at a time.

    OMP_NUM_THREADS=1 python benchmarks/harder_labels.py

Galaxies without images or spectra, so a change takes seconds; means of three seeds. Slopes of the
attenuation law scatter as A(λ) (λ / 5500 Å)^δ with δ normal: Salim et al. (2018) find .3 or so.
"""

from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np

from appulse.survey.survey import PROPERTIES
from appulse.survey.synthetic import brightness, catalogue, population
from appulse.survey.synthetic.camera import ZERO_POINT_SCATTER
from appulse.units import flux_to_magnitude, magnitude_to_flux
from labels import SEED, TEST, scores
from record import write_result

SEEDS = range(SEED, SEED + 3)
CENTRES = np.array([4800.0, 6400.0, 9150.0])  # Å, of g, r, z
Change = tuple[Any, str, Any]  # module, name, value instead


def sloped(
    scatter: float,
    seed: int,
    z: np.ndarray,
    metallicity: np.ndarray,
    mass_fraction: np.ndarray,
    log_mass: np.ndarray,
    a_v: np.ndarray,
) -> np.ndarray:
    """`brightness.band_fluxes` with an attenuation law of its own for each galaxy."""
    dusty, bare = (
        brightness.band_fluxes(z, metallicity, mass_fraction, log_mass, amount)
        for amount in (a_v, 0 * a_v)
    )
    dimmed = flux_to_magnitude(dusty) - flux_to_magnitude(bare)
    slope = scatter * np.random.default_rng(seed).standard_normal((len(z), 1))
    tilt = (CENTRES / (1 + z[:, None]) / 5500) ** slope
    return bare * 10 ** (-0.4 * dimmed * tilt)


def slopes(scatter: float) -> Change:
    """Attenuation laws that differ."""
    return population, "band_fluxes", partial(sloped, scatter, SEED)


def dust(scale: float) -> Change:
    """More or less of it at equal mass."""
    return population, "DUST_SCATTER", scale * population.DUST_SCATTER


CHANGES: dict[str, tuple[tuple[Change, ...], float]] = {  # and the errors of magnitudes
    "as it is": ((), ZERO_POINT_SCATTER),
    "slope of attenuation ± .3": ((slopes(0.3),), ZERO_POINT_SCATTER),
    "slope of attenuation ± .5": ((slopes(0.5),), ZERO_POINT_SCATTER),
    "scatter of dust × 1.5": ((dust(1.5),), ZERO_POINT_SCATTER),
    "scatter of metallicity .25": (
        ((population, "METALLICITY_SCATTER", 0.25),),
        ZERO_POINT_SCATTER,
    ),
    "scatter of timescales × 1.5": (
        (
            (population, "SLOW_TIMESCALE", (*population.SLOW_TIMESCALE[:2], 0.36)),
            (population, "FAST_TIMESCALE", (*population.FAST_TIMESCALE[:2], 0.33)),
        ),
        ZERO_POINT_SCATTER,
    ),
    "magnitudes ± .03": ((), 0.03),
    "magnitudes ± .05": ((), 0.05),
    "error of mass .30 dex": (((catalogue, "MASS_ERROR", 0.30),), ZERO_POINT_SCATTER),
    "slope ± .3, dust × 1.5, magnitudes ± .03": ((slopes(0.3), dust(1.5)), 0.03),
}


def learnt(changes: tuple[Change, ...], error: float, seed: int) -> dict[str, float]:
    """R² on the catalogue by property, from magnitudes with such errors."""
    rng = np.random.default_rng(seed)
    with ExitStack() as changed:
        for change in changes:
            changed.enter_context(patch.object(*change))
        galaxies = population.draw_population(TEST.stop, rng)
        columns = catalogue.properties(galaxies, rng)
    magnitudes = flux_to_magnitude(galaxies.flux)
    magnitudes += error * rng.standard_normal(magnitudes.shape)
    return scores(magnitude_to_flux(magnitudes)[:, :, None], columns, "catalogue")


def main() -> None:
    results = {}
    for name, (changes, error) in CHANGES.items():
        found = [learnt(changes, error, seed) for seed in SEEDS]
        means = {key: float(np.mean([r[key] for r in found])) for key in PROPERTIES}
        results[name] = {key: round(value, 3) for key, value in means.items()}
        print(f"{name:45}", results[name], flush=True)
    print(write_result("harder_labels", results))


if __name__ == "__main__":
    main()
