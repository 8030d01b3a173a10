"""The command that asks a posterior of galaxies: infer."""

from pathlib import Path

from .options import Device, Json, show


def infer(
    *,
    posterior: Path,
    out: Path,
    image: Path | None = None,
    spectrum: Path | None = None,
    photometry: Path | None = None,
    n: int = 500,
    samples: bool = False,
    seed: int = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Ask a posterior about galaxies: medians, 68 and 95 % intervals, and reasons for doubt.

    Tables are joined on their ids; each galaxy is judged by what there is of it. An interrupted
    call goes on.

    Parameters
    ----------
    posterior
        Run folder of `appulse posterior`.
    out
        Table to write, .parquet or .fits.
    image
        Embeddings of images, .parquet or .fits, by the model that the posterior was learned with.
    spectrum
        Embeddings of spectra.
    photometry
        Table (FITS, HDF5, Parquet, ECSV, CSV) with an id, flux_g, flux_r, flux_z in nanomaggies
        and flux_ivar_g ... or flux_err_g ..., or mag_g ... (AB) and mag_err_g ...
    n
        Draws from each galaxy's posterior.
    samples
        Write all draws, as columns *_samples.
    seed
        Of the draws.
    """
    from .. import posteriors

    counts = posteriors.infer(
        posterior,
        out,
        image=image,
        spectrum=spectrum,
        photometry=photometry,
        n=n,
        samples=samples,
        seed=seed,
        device=device,
    )
    show({"out": str(out), **counts}, as_json)
