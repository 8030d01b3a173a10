"""How cost grows with batch, sequence, model and rows; files to embeddings; 1e8 galaxies.

    python benchmarks/cost.py

Published sizes unless said otherwise, one thread, each point in a process of its own: CPU seconds
of a row (the second of two passes), peak resident memory. Exponents are slopes of log against log.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from astropy.io import fits

from appulse.align.model import Model
from appulse.device import Precision, autocast
from appulse.search.embeddings import Modality
from appulse.search.index import Index
from appulse.survey.images import Images
from appulse.survey.rejects import Rejects
from appulse.survey.spectra import Spectra
from appulse.survey.store import SurveyStore
from appulse.survey.survey import Survey
from appulse.tasks.embed import stream_files, stream_images, stream_spectra
from bill import bill, draw
from published_size import (
    both_towers,
    flops,
    image_inputs,
    image_trunk,
    images,
    spectra,
    spectrum_inputs,
    spectrum_trunk,
)
from record import write_result
from speed import CPU, infer, seconds

BATCHES = (1, 3, 9)
PIXELS = (990, 1960, 3900, 7781)
WIDTHS = (192, 384, 768, 1024)
FILES = (120, 240, 480)


def point(tower: str, precision: Precision, rows: str, pixels: str, width: str) -> dict[str, float]:
    """One trunk on one batch; a width of 0 is the published one."""
    sizes = {} if width == "0" else {"width": int(width), "heads": int(width) // 64}
    trunk: Any = spectrum_trunk(**sizes) if tower == "spectrum" else image_trunk(**sizes)
    n = int(rows)
    inputs = spectrum_inputs(n, int(pixels)) if tower == "spectrum" else image_inputs(n)
    before = peak()
    run = partial(infer, trunk, inputs, precision)
    with autocast(CPU, precision):  # weights are rounded once
        tokens = run().shape[1]
        cpu, wall = seconds(run)
    parameters = sum(p.numel() for p in trunk.parameters())
    work = flops(trunk, tokens) / 1e9
    return {
        "rows": n,
        "tokens": tokens,
        "parameters": parameters,
        "GFLOP": work,
        "CPU s": cpu / n,
        "wall s": wall / n,
        "peak MB": peak(),
        "peak MB before": before,
    }


def peak() -> int:
    """Largest resident memory of this process so far, MB; of children it starts at nothing."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024


def write_files(folder: Path, n: int) -> None:
    """Cutouts as the Legacy Surveys' viewer writes them, coadds as DESI does, and both in Lance."""
    galaxies = Survey(images(n), spectra(n))
    SurveyStore.create(folder / "survey.lance", [galaxies])
    for i in range(n):
        write_cutout(folder / f"image-{i:05d}.fits", galaxies.images[i])
        write_coadd(folder / f"spectrum-{i:05d}.fits", galaxies.spectra[i], i)


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
    """The first n rows or files to an index, and how long towers took of that.

    Loading the model and hashing its weights, once for any number of rows, are left out.
    """
    model = both_towers() if depth == "0" else both_towers(depth=int(depth))
    inside = [0.0, 0.0]
    clock_towers(model, inside)
    name = model.hash()
    model.hash = lambda: name  # type: ignore[method-assign]
    out = Path(folder) / "out.lance"
    cpu, wall = time.process_time(), time.perf_counter()
    stream = from_fits if source == "FITS" else from_lance
    rows = len(Index.stream(out, stream(model, modality, Path(folder), int(n)), overwrite=True))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "rows": rows,
        "CPU s": cpu / rows,
        "wall s": wall / rows,
        "outside the network, CPU": 1 - inside[0] / cpu,
        "outside the network, wall": 1 - inside[1] / wall,
        "peak MB": peak(),
    }


def from_fits(model: Model, modality: str, folder: Path, n: int) -> Iterator[Any]:
    files = [folder / f"{modality}-{i:05d}.fits" for i in range(n)]
    kind = cast(Modality, modality)
    return stream_files(model, kind, files, Rejects(strict=True), precision="auto")


def from_lance(model: Model, modality: str, folder: Path, n: int) -> Iterator[Any]:
    image, store = modality == "image", SurveyStore.open(folder / "survey.lance")
    field, stream = ("images", stream_images) if image else ("spectra", stream_spectra)
    batches = store.batches(None, n, fields=(field,), shuffle=False)
    first = (batch[field] for batch in islice(batches, 1))
    return stream(model, first, device="cpu", precision="auto")


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


def apart(*arguments: Any) -> dict[str, float]:
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    print(*arguments, {key: float(f"{value:.4g}") for key, value in result.items()}, flush=True)
    return result


def curves() -> dict[str, list[dict[str, float]]]:
    """Cost against one size, the others as published."""
    made = {
        f"batch, {tower}, {precision}": [
            apart("point", tower, precision, rows, 7781, 0) for rows in BATCHES
        ]
        for tower in ("spectrum", "image")
        for precision in ("float32", "bfloat16")
    }
    made["tokens of a spectrum"] = [
        apart("point", "spectrum", "bfloat16", 2, pixels, 0) for pixels in PIXELS
    ]
    made["width of the image encoder"] = [
        apart("point", "image", "bfloat16", 4, 7781, width) for width in WIDTHS
    ]
    return made


def files(folder: Path) -> dict[str, Any]:
    """Shares at published sizes; memory against rows with one block, as it is the same."""
    write_files(folder, max(FILES))
    return {
        "share": {
            f"{source}, {modality}": apart("embed", source, modality, folder, 16, 0)
            for source in ("FITS", "Lance")
            for modality in ("image", "spectrum")
        },
        "rows": {
            modality: [apart("embed", "FITS", modality, folder, n, 1) for n in FILES]
            for modality in ("image", "spectrum")
        },
    }


def exponent(rows: list[dict[str, float]], x: str, y: str) -> float:
    """Slope of log y against log x."""
    logs = np.log([[row[x], row[y]] for row in rows])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def exponents(curve: dict[str, Any]) -> dict[str, float]:
    return {
        "CPU s of a spectrum, tokens": exponent(curve["tokens of a spectrum"], "tokens", "CPU s"),
        "CPU s of an image, parameters": exponent(
            curve["width of the image encoder"], "parameters", "CPU s"
        ),
        **{
            f"CPU s of a row, {name}": exponent(rows, "rows", "CPU s")
            for name, rows in curve.items()
            if name.startswith("batch")
        },
    }


def main() -> None:
    curve = curves()
    with tempfile.TemporaryDirectory() as folder:
        embedded = files(Path(folder))
    result = {
        "curves": curve,
        "exponents": exponents(curve),
        "files": embedded,
        "bill": bill(curve),
    }
    print(json.dumps({name: result[name] for name in ("exponents", "bill")}, indent=1))
    print(write_result("cost", result), draw(result))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) == 1:
        main()
    else:
        task, *arguments = sys.argv[1:]
        tasks: dict[str, Callable[..., Any]] = {"point": point, "embed": embed}
        print(json.dumps(tasks[task](*arguments)))
