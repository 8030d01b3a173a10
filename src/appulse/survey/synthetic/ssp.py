"""Simple stellar populations: light of stars born together, by age and metallicity.

Initial masses follow Kroupa (2001): slope -1.3 from .1 to .5 M☉, -2.3 above, to 60 M☉. The
main sequence uses textbook power laws for luminosity, temperature and lifetime; giants take a
share of the light that grows with age, at four temperatures. Both are ad hoc (see `stars`).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float

from .continuum import correction
from .dust import transmission
from .history import SSP_AGE
from .stars import add_metals, hydrogen_star
from .threads import one_thread

LOG_STEP = 1.5e-4  # in ln(wavelength): 45 km/s
WAVELENGTH = 2200 * np.exp(LOG_STEP * np.arange(-3600, 10_800))  # Å, rest, 1282 to 11116
OPTICAL = slice(3600, None)  # from 2200 Å: all that is seen below z = .6
METALLICITY = np.array([-2.0, -1.31, -0.71, -0.4, 0.0, 0.22, 0.6])  # [Z/H], dex
STAR_TEMPERATURE = np.geomspace(2900, 38000, 90)  # K
GIANTS = ((5300, 0.22), (4900, 0.36), (4350, 0.28), (3600, 0.14))  # K, share of their light
# A_V in front of stars younger than .02 Gyr, beside that of all stars (Charlot & Fall 2000).
BIRTH_CLOUD, BIRTH_AGE = 0.8, 0.02
HORIZONTAL_BRANCH = (8000, 0.06)  # K, share; only where [Z/H] < -1

Masses = Float[np.ndarray, "M"]
StarWeights = Float[np.ndarray, "S"]


@dataclass(frozen=True, eq=False)
class StellarGrid:
    """Luminosity in L☉/Å per M☉ formed, at `METALLICITY`, `SSP_AGE` and `WAVELENGTH`."""

    luminosity: Float[np.ndarray, "Z A L"]

    def composite(
        self,
        metallicity: Float[np.ndarray, "B"],
        mass_fraction: Float[np.ndarray, "B A"],
        pixels: slice = slice(None),
    ) -> Float[torch.Tensor, "B L"]:
        """Spectra per M☉ formed of galaxies with the given ages of their stars and one [Z/H].

        Linear between metallicities of the grid; those outside it take the nearest. `pixels`
        are those of `WAVELENGTH` that are wanted.
        """
        cell, inside = cell_of(metallicity, METALLICITY)
        weight = np.zeros((len(cell), len(METALLICITY), len(SSP_AGE)), np.float32)
        rows = np.arange(len(cell))
        weight[rows, cell] = mass_fraction * (1 - inside)[:, None]
        weight[rows, cell + 1] = mass_fraction * inside[:, None]
        light = self.luminosity[..., pixels]
        flat = light.reshape(-1, light.shape[-1])
        return torch.from_numpy(weight.reshape(len(cell), -1)) @ torch.from_numpy(flat)


def cell_of(
    value: Float[np.ndarray, "N"], grid: Float[np.ndarray, "G"]
) -> tuple[np.ndarray, Float[np.ndarray, "N"]]:
    """Index of the grid point below each value, and the fraction of the way to the next."""
    position = np.interp(value, grid, np.arange(len(grid)))
    cell = np.minimum(position.astype(int), len(grid) - 2)
    return cell, position - cell


@cache
def stellar_grid() -> StellarGrid:
    """The grid of populations, computed once in a process in about a second."""
    hydrogen = hydrogen_star(STAR_TEMPERATURE, WAVELENGTH)
    grid = []
    with one_thread():
        for metallicity in METALLICITY:
            stars = add_metals(hydrogen, STAR_TEMPERATURE, metallicity, WAVELENGTH)
            weight = np.stack([_star_light(age, metallicity) for age in SSP_AGE])
            light = torch.from_numpy(weight) @ torch.from_numpy(stars)
            grid.append(light * torch.from_numpy(correction(SSP_AGE, metallicity, WAVELENGTH)))
    luminosity = torch.stack(grid).numpy()
    luminosity[:, SSP_AGE < BIRTH_AGE] *= transmission(WAVELENGTH, np.array([BIRTH_CLOUD]))
    return StellarGrid(luminosity.astype(np.float32))


def kroupa() -> tuple[Masses, Masses]:
    """Stellar masses in M☉ and their number per M☉ formed (Kroupa 2001)."""
    mass = np.geomspace(0.1, 60, 1200)
    number = np.where(mass < 0.5, mass**-1.3, 0.5 * mass**-2.3) * np.gradient(mass)
    return mass, number / np.sum(number * mass)


def surviving_fraction(age: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Share of the mass formed that is still in stars and remnants, by age in Gyr.

    White dwarfs follow Kalirai et al. (2008, eq. 1); stars of 8 to 25 M☉ leave neutron stars of
    1.4 M☉, heavier ones black holes of .24 of their mass (Fryer et al. 2012, in the coarse).
    """
    mass, number = kroupa()
    remnant = np.select([mass < 8, mass < 25], [np.minimum(0.109 * mass + 0.394, mass), 1.4])
    remnant = np.where(mass < 25, remnant, 0.24 * mass)
    left = np.where(age[:, None] < _lifetime(mass, 0.0), mass, remnant)
    return left @ number


def _lifetime(mass: Masses, metallicity: float) -> Masses:
    """Gyr on the main sequence."""
    return 10 * mass**-2.6 * 10 ** (0.06 * metallicity) + 0.004


def _star_light(age: float, metallicity: float) -> StarWeights:
    """Luminosity in L☉ of a population, spread over `STAR_TEMPERATURE`."""
    mass, number = kroupa()
    lived = age / _lifetime(mass, metallicity)
    alive = lived < 1
    light, temperature = _main_sequence(mass, np.minimum(lived, 1), metallicity)
    shining = number * light * alive
    weight = _spread(temperature[alive], shining[alive])
    return weight + _evolved(age, metallicity, shining.sum())


def _main_sequence(mass: Masses, lived: Masses, metallicity: float) -> tuple[Masses, Masses]:
    """Luminosity in L☉ and temperature in K; stars brighten and cool as they age."""
    light = np.where(mass < 0.43, 0.23 * mass**2.3, np.where(mass < 2, mass**4, 1.4 * mass**3.5))
    light *= 10 ** (-0.12 * metallicity) * (1 + 0.9 * lived**3)
    temperature = 5800 * mass ** np.where(mass < 1, 0.62, 0.56)
    temperature *= 10 ** (-0.035 * metallicity) * (1 - 0.1 * lived**3)
    return light, temperature


def _evolved(age: float, metallicity: float, main_sequence: float) -> StarWeights:
    """Light of giants, and of a blue horizontal branch in old metal-poor populations."""
    log_age = np.log10(age)
    share = np.interp(log_age, [-1.2, -0.6, 0, 0.5, 1.2], [0.10, 0.16, 0.40, 0.54, 0.62])
    light = main_sequence * share / (1 - share)
    cooling = 10 ** (-0.030 * metallicity - 0.018 * log_age)
    groups = [(temperature * cooling, part) for temperature, part in GIANTS]
    if metallicity < -1:
        groups.append(HORIZONTAL_BRANCH)
    temperature, part = np.array(groups).T
    return _spread(temperature, part * light)


def _spread(temperature: Float[np.ndarray, "N"], light: Float[np.ndarray, "N"]) -> StarWeights:
    """Shares light between the two nearest of `STAR_TEMPERATURE`, evenly in ln(T)."""
    cell, inside = cell_of(np.log(temperature), np.log(STAR_TEMPERATURE))
    n = len(STAR_TEMPERATURE)
    below = np.bincount(cell, light * (1 - inside), n)
    return below + np.bincount(cell + 1, light * inside, n)
