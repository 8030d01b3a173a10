"""Emission lines of ionised gas: star-forming regions and, in some galaxies, an active nucleus."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .dust import transmission
from .population import Population

LOG_HALPHA_PER_SFR = 41.27  # erg/s per M☉/yr (Kennicutt & Evans 2012, table 1)
# E(B-V) of starlight is .44 of that of gas in starbursts (Calzetti et al. 2000); .75 is ad hoc.
GAS_TO_STAR_DUST = 0.75 / 0.44
# Chance of an active nucleus per dex of mass above 9.8, quiescent and star-forming; log10 of its
# Hα luminosity in erg/s per M☉, and of N II/Hα, O III/Hβ, S II/Hα with scatter.
ACTIVE, ACTIVE_HALPHA = (0.30, 0.08), 29.2
ACTIVE_RATIOS = {"nitrogen2": (0.05, 0.12), "oxygen3": (0.45, 0.3), "sulfur2": (-0.05, 0.1)}
SOLAR_OXYGEN = 8.69  # 12 + log(O/H), Asplund et al. 2009

Galaxies = Float[np.ndarray, "B"]


class Line(NamedTuple):
    """A line's vacuum wavelength in Å, and its strength relative to another diagnostic."""

    wavelength: float
    reference: str
    ratio: float = 1.0


# Ratios to Hβ: Case B, 10^4 K, 100/cm³ (Osterbrock & Ferland 2006, table 4.4). Doublets from one
# upper level have fixed ratios (Storey & Zeippen 2000). [O I], [S III] and He I are ad hoc.
LINES = {
    "[O II] 3727": Line(3727.1, "oxygen2 short"),
    "[O II] 3730": Line(3729.9, "oxygen2 long"),
    "[Ne III] 3870": Line(3869.9, "oxygen3", 0.09),
    "H delta": Line(4102.9, "hbeta", 0.259),
    "H gamma": Line(4341.7, "hbeta", 0.468),
    "H beta": Line(4862.7, "hbeta"),
    "[O III] 4960": Line(4960.3, "oxygen3", 1 / 2.98),
    "[O III] 5008": Line(5008.2, "oxygen3"),
    "He I 5877": Line(5877.2, "hbeta", 0.12),
    "[O I] 6302": Line(6302.0, "sulfur2", 0.12),
    "[N II] 6550": Line(6549.9, "nitrogen2", 1 / 3.05),
    "H alpha": Line(6564.6, "hbeta", 2.86),
    "[N II] 6585": Line(6585.3, "nitrogen2"),
    "[S II] 6718": Line(6718.3, "sulfur2", 0.56),
    "[S II] 6733": Line(6732.7, "sulfur2", 0.44),
    "[S III] 9071": Line(9071.1, "sulfur2", 0.3),
}
LINE_WAVELENGTH = np.array([line.wavelength for line in LINES.values()])


@dataclass(frozen=True, eq=False)
class _Ratios:
    """Log ratios of diagnostics: N2 and S2 to Hα, O3 and O2 to Hβ."""

    nitrogen2: Galaxies
    oxygen3: Galaxies
    sulfur2: Galaxies
    oxygen2: Galaxies


def draw_line_luminosities(
    galaxies: Population, rng: np.random.Generator
) -> Float[np.ndarray, "B K"]:
    """Luminosity in erg/s of each of `LINES` before dust."""
    n = len(galaxies.redshift)
    active = _draw_active(galaxies, rng)
    ratios = _draw_ratios(oxygen_abundance(galaxies.log_zsol, rng), active, rng)
    halpha = 10 ** (galaxies.log_ssfr_recent + galaxies.log_mstar + LOG_HALPHA_PER_SFR)
    nucleus = 10 ** (galaxies.log_mstar + ACTIVE_HALPHA + 0.3 * rng.standard_normal(n))
    halpha = halpha + np.where(active, nucleus, 0)
    hbeta = halpha / LINES["H alpha"].ratio
    oxygen2, long = hbeta * 10**ratios.oxygen2, rng.uniform(0.55, 0.62, n)
    light = {
        "hbeta": hbeta,
        "oxygen2 short": oxygen2 * (1 - long),
        "oxygen2 long": oxygen2 * long,
        "oxygen3": hbeta * 10**ratios.oxygen3,
        "nitrogen2": halpha * 10**ratios.nitrogen2,
        "sulfur2": halpha * 10**ratios.sulfur2,
    }
    return np.stack([line.ratio * light[line.reference] for line in LINES.values()], axis=1)


def line_transmission(a_v: Galaxies) -> Float[np.ndarray, "B K"]:
    """Fraction of each line that dust lets through, for the A_V of starlight."""
    return transmission(LINE_WAVELENGTH, GAS_TO_STAR_DUST * a_v[:, None])


def oxygen_abundance(log_zsol: Galaxies, rng: np.random.Generator) -> Galaxies:
    """12 + log(O/H) of gas that follows the stars' metallicity, within the strong-line range."""
    scatter = 0.06 * rng.standard_normal(len(log_zsol))
    mean = SOLAR_OXYGEN + 0.85 * (log_zsol + 0.05) + scatter
    return np.maximum(_saturate(mean, 8.9, 0.08), 7.8)


def _saturate(x: Galaxies, limit: float, softness: float) -> Galaxies:
    """Rises with x and bends below a limit, so that nothing piles up there."""
    return limit - softness * np.logaddexp(0, (limit - x) / softness)


def nitrogen_ratio(oxygen: Galaxies) -> Galaxies:
    """log [N II] 6585 / Hα (Pettini & Pagel 2004, equation 1)."""
    return (oxygen - 8.90) / 0.57


def oxygen_nitrogen_ratio(oxygen: Galaxies) -> Galaxies:
    """log ([O III] 5008 / Hβ) / ([N II] 6585 / Hα) (Pettini & Pagel 2004, equation 3)."""
    return (8.73 - oxygen) / 0.32


def oxygen2_ratio(oxygen: Galaxies) -> Galaxies:
    """log [O II] 3727+3730 / Hβ (Curti et al. 2020, table 2, R2)."""
    return np.polyval([0.736, -0.478, -4.851, -5.655, -1.362, 0.435], oxygen - SOLAR_OXYGEN)


def sulfur_ratio(oxygen: Galaxies) -> Galaxies:
    """log [S II] 6718+6733 / Hα (Curti et al. 2020, table 2, S2)."""
    return np.polyval([-3.559, -8.339, -6.271, -0.360, -0.442], oxygen - SOLAR_OXYGEN)


def _draw_active(galaxies: Population, rng: np.random.Generator) -> Bool[np.ndarray, "B"]:
    """Which galaxies have an active nucleus: more of the massive and the dead (ad hoc)."""
    chance = np.where(galaxies.quiescent, *ACTIVE) * np.clip(galaxies.log_mstar - 9.8, 0, 1.3)
    return rng.random(len(chance)) < chance


def _draw_ratios(
    oxygen: Galaxies, active: Bool[np.ndarray, "B"], rng: np.random.Generator
) -> _Ratios:
    """Relations with scatter; active nuclei sit at Seyfert and LINER places instead (ad hoc)."""
    n = len(oxygen)
    noise = rng.standard_normal((4, n))
    nitrogen2 = _saturate(nitrogen_ratio(oxygen), -0.3, 0.1) + 0.08 * noise[0]
    oxygen3 = _saturate(oxygen_nitrogen_ratio(oxygen) + nitrogen2, 0.8, 0.1) + 0.12 * noise[1]
    oxygen2 = np.clip(oxygen2_ratio(oxygen) + 0.08 * noise[2], -1, 0.8)
    sulfur2 = np.clip(sulfur_ratio(oxygen) + 0.06 * noise[3], -1.4, -0.2)
    nuclear = {name: rng.normal(*place, n) for name, place in ACTIVE_RATIOS.items()}
    return _Ratios(
        nitrogen2=np.where(active, nuclear["nitrogen2"], nitrogen2),
        oxygen3=np.where(active, nuclear["oxygen3"], oxygen3),
        sulfur2=np.where(active, nuclear["sulfur2"], sulfur2),
        oxygen2=oxygen2,
    )
