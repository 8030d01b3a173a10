"""Files to embeddings, end to end: time spent outside the networks, memory by number of files.

    python benchmarks/end_to_end.py

What `appulse embed` does with FITS files, and the pipeline with a survey in Lance, up to an index
in Lance: pieces kept on the way and their gathering included, loading the model and hashing its
weights, once for any number of rows, left out. Published sizes, one thread, a process for each.
"""

import json
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from astropy.io import fits

from appulse import queries
from appulse.align.model import Model
from appulse.search.index import Index
from appulse.survey.images import Images
from appulse.survey.spectra import Spectra
from appulse.survey.store import SurveyStore
from appulse.survey.survey import Survey
from appulse.tasks.embed import stream_images, stream_spectra
from process import apart, peak
from published_size import both_towers, images, spectra
from record import write_result

FILES = (120, 480, 1920)
FEW = 16  # galaxies; all of the rows at published size
MODALITIES = ("image", "spectrum")


def write_files(folder: Path, n: int) -> None:
    """Cutouts as the Legacy Surveys' viewer writes them, coadds as DESI does, and both in Lance."""
    galaxies = Survey(images(FEW), spectra(FEW))
    SurveyStore.create(folder / "survey.lance", [galaxies])
    for i in range(n):
        write_cutout(folder / f"image-{i:05d}.fits", galaxies.images[i % FEW])
        write_coadd(folder / f"spectrum-{i:05d}.fits", galaxies.spectra[i % FEW], i)


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


def embed(source: str, modality: str, folder: str, n: str, depth: str) -> dict[str, float]:
    """The first n rows or files to an index, and how long towers took of that."""
    model = both_towers() if depth == "0" else both_towers(depth=int(depth))
    inside = [0.0, 0.0]
    clock_towers(model, inside)
    name = model.hash()
    model.hash = lambda: name  # type: ignore[method-assign]
    run = from_fits if source == "FITS" else from_lance
    cpu, wall = time.process_time(), time.perf_counter()
    rows = run(model, modality, Path(folder), int(n))
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
        return queries.embed_files(files, "in memory", folder / "out.lance", precision="auto")


def from_lance(model: Model, modality: str, folder: Path, n: int) -> int:
    image, store = modality == "image", SurveyStore.open(folder / "survey.lance")
    field, stream = ("images", stream_images) if image else ("spectra", stream_spectra)
    batches = store.batches(None, n, fields=(field,), shuffle=False)
    first = (batch[field] for batch in islice(batches, 1))
    parts: Any = stream(model, first, device="cpu", precision="auto")
    return len(Index.stream(folder / "out.lance", parts, overwrite=True))


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
        share = {
            f"{source}, {modality}": apart(source, modality, folder, FEW, 0)
            for source in ("FITS", "Lance")
            for modality in MODALITIES
        }
        rows = {m: [apart("FITS", m, folder, n, 1) for n in FILES] for m in MODALITIES}
    print(write_result("end_to_end", {"published size": share, "one block": rows}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) == 1:
        main()
    else:
        print(json.dumps(embed(*sys.argv[1:])))
