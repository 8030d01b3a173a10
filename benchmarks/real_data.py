"""Real spectra with labels, and the templates that benchmarks on them fit: learned, and published.

Nothing here is learned from real spectra but the noise of those that come without.
"""

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from jaxtyping import Float
from scipy.ndimage import median_filter

import appulse
from appulse.spectrum.eigenspectra import Eigenspectra, Scan
from appulse.spectrum.rest import RestConfig
from appulse.survey.spectra import Spectra
from appulse.survey.synthetic.simulate import simulate_blocks

SEED = 5  # of the simulations that templates are learned on
RUNNING = 51  # pixels of the median about which noise is measured


class Class(NamedTuple):
    """A class of objects: what is simulated of it, its templates, and its redshifts."""

    simulated: dict[str, int]  # targets by population
    rest: RestConfig
    low: float
    high: float


def _rest(components: int, blue: float) -> RestConfig:
    return RestConfig(components=components, blue=blue, red=9850.0)


CLASSES = {
    "GALAXY": Class({"bgs": 768, "lrg": 384, "elg": 640}, _rest(9, 1250.0), -0.002, 1.8),
    "QSO": Class({"qso": 1024}, _rest(5, 800.0), 0.0, 3.49),
    "STAR": Class({"star": 256}, _rest(7, 3580.0), -0.003, 0.003),
}


class Labelled(NamedTuple):
    """Spectra of one length and what their pipeline says of them."""

    spectra: Spectra
    z: Float[np.ndarray, "B"]
    kind: np.ndarray  # GALAXY, QSO, STAR or ""
    clean: np.ndarray  # no redshift warning
    object: np.ndarray  # the same for all spectra of one object

    def take(self, rows: Any) -> "Labelled":
        """Some rows."""
        taken: Any = (part[rows] for part in self)
        return Labelled(*taken)

    def first(self, kind: str) -> "Labelled":
        """The first spectrum of each object of a class whose redshift has no warning."""
        rows = np.flatnonzero(self.clean & (self.kind == kind))
        return self.take(rows[np.unique(self.object[rows], return_index=True)[1]])


def sdss(folder: Path) -> Labelled:
    """SDSS and BOSS."""
    spectra, rows = _read(folder / "spectra_sdss", "npz")
    return _labelled(spectra, rows, "zwarning", "object_key")


def desi(folder: Path) -> Labelled:
    """DESI; what was smoothed and has no errors gets those of its scatter."""
    spectra, rows = _read(folder / "spectra_desi", "h5")
    bare = np.array([row["has_ivar"] == "False" for row in rows])
    ivar = spectra.ivar.copy()
    ivar[bare] = scatter_ivar(spectra.flux[bare])
    spectra = Spectra.from_arrays(
        spectra.flux, wavelength=spectra.wavelength, ivar=ivar, mask=spectra.mask, ids=spectra.ids
    )
    return _labelled(spectra, rows, "zwarn", "targetid")


class Normalised(NamedTuple):
    """DESI spectra of SV3 that were normalised by others, with the redshifts that they predict."""

    spectra: Spectra
    z: Float[np.ndarray, "B"]
    predicted: Float[np.ndarray, "B"]
    run: np.ndarray


def normalised(folder: Path) -> Normalised:
    """Undoes the arcsinh; offset and scale stay unknown, and so do errors but for the scatter."""
    with np.load(folder / "spectra_desi_sv3_normalised.npz") as file:
        flux = np.sinh(file["flux_arcsinh_norm"].astype(np.float64))
        spectra = Spectra.from_arrays(
            flux,
            wavelength=file["wave"].astype(np.float64),
            ivar=scatter_ivar(flux),
            mask=~file["valid"],
        )
        z, predicted = (file[n].astype(np.float64) for n in ("z", "z_pred_reference_model"))
        return Normalised(spectra, z, predicted, file["reference_run"])


def scatter_ivar(flux: Float[np.ndarray, "B L"]) -> Float[np.ndarray, "B L"]:
    """Of spectra from one instrument: each row's scatter about a running median, times its shape.

    The shape in wavelength, mostly that of the night sky, is the median over the rows.
    """
    away = np.abs(flux - median_filter(flux, (1, RUNNING)))
    row = np.maximum(np.median(away, axis=1, keepdims=True), 1e-12)
    shape = np.maximum(np.median(away / row, axis=0), 0.3)
    return (1.4826 * row * shape) ** -2


def _read(path: Path, suffix: str) -> tuple[Spectra, list[dict[str, str]]]:
    rejects = appulse.Rejects()
    spectra = appulse.read_spectra(path.with_suffix(f".{suffix}"), rejects=rejects)
    dropped = {reject.row for reject in rejects}
    rows = [row for i, row in enumerate(table(Path(f"{path}_meta.csv"))) if i not in dropped]
    return spectra, rows


def _labelled(spectra: Spectra, rows: list[dict[str, str]], warning: str, name: str) -> Labelled:
    return Labelled(
        spectra,
        np.array([float(row["z"] or "nan") for row in rows]),
        np.array([row["spec_class"] for row in rows]),
        np.array([row[warning] in ("0", "0.0") for row in rows]),
        np.array([row[name] for row in rows]),
    )


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV."""
    with path.open() as file:
        return list(csv.DictReader(file))


def learned() -> dict[str, Eigenspectra]:
    """Templates of every class, learned on simulations with their true redshifts."""
    templates = {}
    for name, kind in CLASSES.items():
        spectra, z = [], []
        for population, n in kind.simulated.items():
            for block in simulate_blocks(n, SEED, 64, 1, population=population):  # type: ignore[arg-type]
                spectra.append(block.spectra)
                z.append(block.columns["redshift_true"])
        templates[name] = Eigenspectra.learn(
            Spectra.concatenate(spectra), np.concatenate(z), kind.rest
        )
    return templates


def published(folder: Path) -> dict[str, Eigenspectra]:
    """redrock's galaxies and SDSS's quasars, and SDSS's galaxies for comparison."""
    with fits.open(folder / "redrock" / "rrtemplate-galaxy.fits") as file:
        flux, header = file["BASIS_VECTORS"].data, file["BASIS_VECTORS"].header
        wavelength = header["CRVAL1"] + header["CDELT1"] * np.arange(flux.shape[1])
    return {
        "GALAXY": Eigenspectra.from_arrays(wavelength, flux),
        "QSO": _sdss_templates(folder / "sdss_eigen" / "spEigenQSO-55732.fits"),
        "SDSS": _sdss_templates(folder / "sdss_eigen" / "spEigenGal-55740.fits"),
    }


def _sdss_templates(path: Path) -> Eigenspectra:
    with fits.open(path) as file:
        flux, header = file[0].data, file[0].header
        steps = header["COEFF0"] + header["COEFF1"] * np.arange(flux.shape[1])
    return Eigenspectra.from_arrays(10**steps, flux)


def scans(templates: dict[str, Eigenspectra], spectra: Spectra) -> dict[str, Scan]:
    """Fits of every class that there are templates of."""
    return {
        name: templates[name].scan(spectra, kind.low, kind.high)
        for name, kind in CLASSES.items()
        if name in templates
    }
