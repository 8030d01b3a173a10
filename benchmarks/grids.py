"""One galaxy on two grids: DESI's, and SDSS's, which is logarithmic and shorter.

    python benchmarks/grids.py demo

Test spectra of the demo are rebinned, flux and inverse variance, to 3800-9200 Å in steps of 1e-4
dex; redshift scatter and the cosine between both embeddings say what the model makes of it.
"""

import sys
from pathlib import Path

import numpy as np

import appulse
from appulse.metrics import bootstrap, nmad
from appulse.survey.resample import to_grid
from appulse.survey.store import SurveyStore
from record import write_result

SDSS = 10 ** np.arange(np.log10(3800), np.log10(9200), 1e-4)
GALAXIES = 2000


def main(folder: Path) -> None:
    model, store = appulse.load(folder / "align"), SurveyStore.open(folder / "survey.lance")
    survey = store.read(store.rows("test")[:GALAXIES])
    truth, grids = survey.columns["redshift_true"], {"DESI": survey.spectra}
    grids["SDSS"] = to_grid(survey.spectra, SDSS)
    scatter = {
        name: bootstrap(nmad, model.redshift(spectra), truth, n=500)
        for name, spectra in grids.items()
    }
    one, other = (model.embed_spectra(spectra) for spectra in grids.values())
    cosine = (one * other).sum(1)
    result = {
        "galaxies": len(truth),
        "NMAD": scatter,
        "ratio": scatter["SDSS"][0] / scatter["DESI"][0],
        "cosine, 5 % and median": np.percentile(cosine, [5, 50]).tolist(),
    }
    print(result)
    print(write_result("grids", result))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
