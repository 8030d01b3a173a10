"""What catalogues say of galaxies: the truth with errors of published size, and votes.

Errors are Gaussian and independent. Their sizes are ours, of the order of the posteriors of
PROVABGS (Hahn et al. 2022, 2023), tuned so that spectra explain as much of the catalogue as they
do of PROVABGS's best fits (Parker et al. 2024: R² .87 of mass, .57 of metallicity, .43 of age,
.63 of specific star formation).
"""

import numpy as np
from jaxtyping import Float

from ...units import SPEED_OF_LIGHT
from .morphology import BARRED, CLASSES, DISTURBED, EDGE_ON, ELLIPTICAL, SMOOTH, SPIRAL, Morphology
from .population import Population

REDSHIFT_ERROR = 10.0  # km/s (Lan et al. 2023, DESI's bright galaxies)
MASS_ERROR = 0.26  # dex
AGE_ERROR = 0.13  # dex
METALLICITY_ERROR = 0.12  # dex
# dex where log sSFR > -10.5; per dex below, since little light then tells; at most
SSFR_ERROR, SSFR_ERROR_SLOPE, SSFR_ERROR_LIMIT = 0.35, 0.55, 1.4

VOLUNTEERS = 44  # per galaxy, median of Galaxy Zoo 2 (Willett et al. 2013)
AGREEMENT = 12.0  # how alike volunteers see one galaxy: Dirichlet concentration; ours
RESOLVED = 1.3  # r_eff over seeing at which half of the volunteers see the class; ours
# What is seen instead where a class is not recognised, in the order of `CLASSES`; ours.
MISTAKEN = {
    ELLIPTICAL: (0.60, 0.34, 0.01, 0.01, 0.02, 0.02),
    SMOOTH: (0.35, 0.56, 0.03, 0.02, 0.02, 0.02),
    SPIRAL: (0.20, 0.60, 0.11, 0.04, 0.02, 0.03),
    BARRED: (0.20, 0.50, 0.20, 0.05, 0.02, 0.03),
    EDGE_ON: (0.22, 0.30, 0.02, 0.02, 0.42, 0.02),
    DISTURBED: (0.25, 0.40, 0.15, 0.05, 0.02, 0.13),
}

Columns = dict[str, np.ndarray]


def properties(galaxies: Population, rng: np.random.Generator) -> Columns:
    """Catalogue values of the properties, by column."""
    noise = rng.standard_normal((5, len(galaxies.redshift)))
    doubt = SSFR_ERROR + SSFR_ERROR_SLOPE * np.clip(-10.5 - galaxies.log_ssfr, 0, None)
    shift = REDSHIFT_ERROR / SPEED_OF_LIGHT * (1 + galaxies.redshift)
    return {
        "redshift_catalogue": galaxies.redshift + shift * noise[0],
        "log_mstar_catalogue": galaxies.log_mstar + MASS_ERROR * noise[1],
        "age_catalogue": galaxies.age * 10 ** (AGE_ERROR * noise[2]),
        "log_zsol_catalogue": galaxies.log_zsol + METALLICITY_ERROR * noise[3],
        "log_ssfr_catalogue": galaxies.log_ssfr + np.minimum(doubt, SSFR_ERROR_LIMIT) * noise[4],
    }


def votes(shape: Morphology, fwhm: Float[np.ndarray, "B"], rng: np.random.Generator) -> Columns:
    """Fractions of volunteers for each class, and the class that most name.

    The smaller a galaxy is against the seeing, the more of them miss its features.
    """
    clear = 1 / (1 + (RESOLVED * fwhm / shape.r_eff) ** 2)
    blurred = np.array([MISTAKEN[k] for k in range(len(CLASSES))])[shape.kind]
    expected = clear[:, None] * np.eye(len(CLASSES))[shape.kind] + (1 - clear[:, None]) * blurred
    opinion = rng.standard_gamma(AGREEMENT * expected)
    count = rng.multinomial(VOLUNTEERS, opinion / opinion.sum(axis=1, keepdims=True))
    fractions = {vote_column(name): count[:, k] / VOLUNTEERS for k, name in enumerate(CLASSES)}
    return {"morphology_catalogue": np.array(CLASSES)[count.argmax(axis=1)], **fractions}


def vote_column(name: str) -> str:
    """Column that holds the fraction of votes for a class."""
    return "votes_" + name.replace(" ", "_").replace("-", "_")
