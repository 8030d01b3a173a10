"""How hard the labels are: R² of boosting on g, r, z, for true and catalogue labels.

    OMP_NUM_THREADS=1 python benchmarks/labels.py

Published for g, r, z magnitudes and PROVABGS (Parker et al. 2024): z .68, mass .67, age .27,
metallicity .41, specific star formation .34.
"""

import numpy as np

from appulse.evaluate.baselines import Boosting, magnitudes_and_colours
from appulse.metrics import r2
from appulse.survey.photometry import aperture_fluxes
from appulse.survey.survey import PROPERTIES
from appulse.survey.synthetic.camera import ZERO_POINT_SCATTER
from appulse.survey.synthetic.milkyway import band_transmission
from appulse.survey.synthetic.simulate import simulate_blocks
from appulse.units import BANDS, magnitude_to_flux
from record import write_result

SEED = 77  # of no survey that is frozen
TRAIN, VALIDATION, TEST = slice(0, 4800), slice(4800, 5600), slice(5600, 7000)
TOTAL = slice(6, 7)  # the aperture of 6 arcsec


def main() -> None:
    blocks = [
        (aperture_fluxes(block.images), block.columns)
        for block in simulate_blocks(TEST.stop, seed=SEED, processes=1)
    ]
    apertures = np.concatenate([flux for flux, _ in blocks])
    columns = {name: np.concatenate([c[name] for _, c in blocks]) for name in blocks[0][1]}
    total = np.stack([columns[f"mag_{band}"] for band in BANDS], axis=1)
    rng = np.random.default_rng(SEED)
    total = magnitude_to_flux(total + ZERO_POINT_SCATTER * rng.standard_normal(total.shape))
    inputs = {
        "total g, r, z": (total * band_transmission(columns["ebv"]))[:, :, None],
        "g, r, z in 6 arcsec": apertures[:, :, TOTAL],
        "all apertures": apertures,
    }
    results = {
        name: {kind: scores(flux, columns, kind) for kind in ("true", "catalogue")}
        for name, flux in inputs.items()
    }
    agreement = columns["morphology_true"] == columns["morphology_catalogue"]
    for name, kinds in results.items():
        print(name, kinds)
    print("votes name the true class:", agreement.mean())
    print(write_result("labels", {"R²": results, "votes name the true class": agreement.mean()}))


def scores(flux: np.ndarray, columns: dict[str, np.ndarray], kind: str) -> dict[str, float]:
    """R² on galaxies not learned from, by property."""
    x = magnitudes_and_colours(flux)
    y = np.stack([columns[f"{name}_{kind}"] for name in PROPERTIES], axis=1)
    found = Boosting.fit(x[TRAIN], y[TRAIN], x[VALIDATION], y[VALIDATION]).predict(x[TEST])
    return {name: round(r2(found[:, k], y[TEST][:, k]), 3) for k, name in enumerate(PROPERTIES)}


if __name__ == "__main__":
    main()
