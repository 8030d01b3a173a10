"""Commands for posteriors of galaxies: posterior, infer."""

from pathlib import Path

from .options import Device, Json, show


def posterior(*, survey: Path, embeddings: Path, out: Path, device: Device = "auto") -> None:
    """Learn the joint posterior of redshift, mass, age, metallicity and star formation.

    From any of image, spectrum and g, r, z photometry, by flow matching. Labels are the survey's
    columns redshift, log_mstar [dex(Msun), formed], age [Gyr], log_zsol [dex(solar)] and log_ssfr
    [dex(1/yr)], or what its catalogue says of them, *_catalogue.

    Parameters
    ----------
    survey
        Survey store; its head-train part is learned from.
    embeddings
        Folder that `appulse embed --survey` wrote for it.
    out
        Run folder; an unfinished run there goes on.
    """
    from .. import posteriors

    posteriors.posterior(survey, embeddings, out, device=device)
    print(out)


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
