"""Files to embeddings, end to end: time spent outside the networks, memory by number of files.

    python benchmarks/end_to_end.py

What `appulse embed` does with FITS files, and `pipeline.embed` with a survey in Lance, up to an
index in Lance: files kept on the way included, loading the model and hashing its weights, once for
any number of rows, left out. Published sizes, one thread, a process for each.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from astropy.io import fits

from appulse import pipeline, queries
from appulse.align.model import Model
from appulse.survey.images import Images
from appulse.survey.spectra import Spectra
from appulse.survey.store import SurveyStore
from appulse.survey.survey import Survey
from process import apart, peak
from published_size import both_towers, images, spectra
from record import write_result

FILES = (120, 480, 1920)
FEW = 16  # files at published size
IN_LANCE = 120  # galaxies, of which 60 % are for encoders to learn from and not embedded
MODALITIES = ("image", "spectrum")


def write_files(folder: Path, n: int) -> None:
    """Cutouts as the Legacy Surveys' viewer writes them, coadds as DESI does, and both in Lance."""
    galaxies = Survey(images(IN_LANCE), spectra(IN_LANCE))
    SurveyStore.create(folder / "survey.lance", [galaxies])
    for i in range(n):
        write_cutout(folder / f"image-{i:05d}.fits", galaxies.images[i % IN_LANCE])
        write_coadd(folder / f"spectrum-{i:05d}.fits", galaxies.spectra[i % IN_LANCE], i)


def write_cutout(path: Path, image: Images) -> None:
    size, scale = image.flux.shape[-1], 0.262 / 3600
    header = fits.Header({"SURVEY": "LegacySurvey", "IMAGETYP": "IMAGE", "BANDS": "grz"})
    header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
    header.update({"CRVAL1": image.ra[0], "CRVAL2": image.dec[0]})
    header.update({"CRPIX1": (size + 1) / 2, "CRPIX2": (size + 1) / 2})
    header.update({"CD1_1": -scale, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": scale})
    fits.PrimaryHDU(image.flux[0], header).writeto(path)


def write_coadd(path: Path, spectrum: Spectra, target: int) -> None:
    columns = [
        fits.Column("TARGETID", "K", array=[target]),
        fits.Column("TARGET_RA", "D", array=[150.0]),
        fits.Column("TARGET_DEC", "D", array=[2.0]),
        fits.Column("OBJTYPE", "3A", array=["TGT"]),
    ]
    arrays = {
        "WAVELENGTH": spectrum.wavelength[0],
        "FLUX": spectrum.flux,
        "IVAR": spectrum.ivar,
        "MASK": spectrum.mask.astype(np.int32),
    }
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="FIBERMAP")]
    hdus += [fits.ImageHDU(array, name=f"BRZ_{name}") for name, array in arrays.items()]
    fits.HDUList(hdus).writeto(path)


def embed(source: str, folder: str, depth: str, n: str = "0") -> dict[str, float]:
    """A survey or the first n files of a modality to an index, and what of that towers took."""
    model = both_towers() if depth == "0" else both_towers(depth=int(depth))
    inside = [0.0, 0.0]
    clock_towers(model, inside)
    name = model.hash()
    model.hash = lambda: name  # type: ignore[method-assign]
    cpu, wall = time.process_time(), time.perf_counter()
    if source == "Lance":
        rows = from_lance(model, Path(folder))
    else:
        rows = from_fits(model, source, Path(folder), int(n))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "rows": rows,
        "CPU s": cpu / rows,
        "wall s": wall / rows,
        "outside the network, CPU": 1 - inside[0] / cpu,
        "outside the network, wall": 1 - inside[1] / wall,
        "peak MB": peak(),
    }


def from_fits(model: Model, modality: str, folder: Path, n: int) -> int:
    files = [folder / f"{modality}-{i:05d}.fits" for i in range(n)]
    with patch.object(queries, "load", lambda _: model):
        return queries.embed_files(files, "in memory", folder / "out.lance", precision="auto").rows


def from_lance(model: Model, folder: Path) -> int:
    store = SurveyStore.open(folder / "survey.lance")
    with patch.object(pipeline, "load", lambda _: model):
        pipeline.embed(folder / "survey.lance", "in memory", folder / "embeddings")
    return 2 * sum(len(store.rows(part)) for part in pipeline.PARTS)


def clock_towers(model: Model, inside: list[float]) -> None:
    """Adds what calls of the towers take to `inside`: CPU and wall seconds."""

    def start(*_: Any) -> None:
        inside[0] -= time.process_time()
        inside[1] -= time.perf_counter()

    def stop(*_: Any) -> None:
        inside[0] += time.process_time()
        inside[1] += time.perf_counter()

    for tower in model.towers.values():
        tower.register_forward_pre_hook(start)
        tower.register_forward_hook(stop)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, max(FILES))
        share = {f"FITS, {m}": apart(m, folder, 0, FEW) for m in MODALITIES}
        share["Lance, both"] = apart("Lance", folder, 0)
        rows = {m: [apart(m, folder, 1, n) for n in FILES] for m in MODALITIES}
    print(write_result("end_to_end", {"published size": share, "one block": rows}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) == 1:
        main()
    else:
        print(json.dumps(embed(*sys.argv[1:])))
