"""What the image of a galaxy says of its redshift, mass and age, and what its spectrum adds.

    python examples/galaxies.py [demo]

Uses the model and the posterior that `make demo` learned, on galaxies that it never saw.
"""

import sys
from pathlib import Path

import numpy as np

import appulse

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    model = appulse.load(folder / "align")
    posterior = appulse.Posterior.load(folder / "posterior")
    galaxies = appulse.simulate(n=3, seed=1)
    image = model.describe(galaxies.images).evidence
    spectrum = model.describe(galaxies.spectra).evidence
    samples = {
        "image": posterior.sample(image=image, n=1000),
        "both": posterior.sample(image=image, spectrum=spectrum, n=1000),
    }
    for k, name in enumerate(posterior.prior.names):
        for row, truth in enumerate(galaxies.columns[posterior.about["targets"][name]]):
            said = [f"{name} of galaxy {row}: catalogue {truth:.4g}"]
            for evidence, drawn in samples.items():
                low, middle, high = np.percentile(drawn[row, :, k], [16, 50, 84])
                said.append(f"{evidence} {middle:.4g} ({low:.4g} … {high:.4g})")
            print("; ".join(said))
