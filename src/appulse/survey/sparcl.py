"""SPARCL, NOIRLab's service of DESI, SDSS and BOSS spectra."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool

from ..units import FLUX_UNIT
from .download import Downloader
from .rejects import Rejects
from .sdss import spoilt
from .services import Target, only, require_near
from .spectral_tables import read_parquet

API = "https://astrosparcl.datalab.noirlab.edu/sparc"
_ANSWER_BYTES = 2**25
_FOUND = 100  # spectra near one position at most
_LISTS = ("wavelength", "flux", "ivar")


@dataclass(frozen=True)
class SpectrumService:
    """The spectrum nearest to a position among those of SPARCL (Juneau et al. 2024).

    Attributes:
        url: Where the service's API is.
        radius: Largest distance, in arcsec.
    """

    url: str = API
    radius: float = 1.0
    folder: ClassVar[str] = "sparcl"
    suffix: ClassVar[str] = ".parquet"

    def download(self, downloader: Downloader, target: Target) -> bytes:
        """A Parquet table of one spectrum, named as the target; see `Service`."""
        nearest = self._nearest(downloader, target)
        include = ("sparcl_id", "data_release", "redshift", "ra", "dec", "mask", *_LISTS)
        query = urlencode({"include": ",".join(include), "format": "json"})
        records = self._ask(downloader, f"spectras/?{query}", [nearest])
        if len(records) != 1 or not {"ra", "dec", *_LISTS} <= set(records[0]):
            raise ValueError(
                f"{self.url} answered {len(records)} records of "
                f"{sorted(set().union(*records))}; expected one with {', '.join(include)}"
            )
        return _to_parquet(target.name, records[0])

    def _nearest(self, downloader: Downloader, target: Target) -> str:
        """Id of the nearest spectrum."""
        found: list[dict[str, Any]] = []
        for low, high in _ra_ranges(target, self.radius):
            reach = self.radius / 3600
            box = [["ra", low, high], ["dec", target.dec - reach, target.dec + reach]]
            question = {"outfields": ["sparcl_id", "ra", "dec"], "search": box}
            found += self._ask(downloader, f"find/?limit={_FOUND}", question)
        distances = [float(target.arcsec_from(r["ra"], r["dec"])) for r in found]
        if not distances or min(distances) > self.radius:
            raise ValueError(f"{self.url} has no spectrum within {self.radius} arcsec")
        return str(found[int(np.argmin(distances))]["sparcl_id"])

    def _ask(self, downloader: Downloader, path: str, question: Any) -> list[dict[str, Any]]:
        """Records of an answer, which come after its header."""
        url = f"{self.url}/{path}"
        body = downloader.post(url, question, _ANSWER_BYTES)
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise ValueError(f"{url} answered {body[:30]!r}; expected JSON") from error
        if not isinstance(answer, list) or not all(isinstance(r, dict) for r in answer):
            raise ValueError(f"{url} answered {str(answer)[:60]}; expected a list of records")
        return answer[1:]

    def check(self, path: Path, target: Target) -> None:
        """Raises ValueError unless the file is such a table, of a spectrum within `radius`."""
        rejects = Rejects()
        spectra = only(list(read_parquet(path, rejects)), rejects)
        require_near(target, spectra, self.radius)


def _ra_ranges(target: Target, radius: float) -> list[tuple[float, float]]:
    """Right ascensions in degrees within `radius` arcsec; two ranges across 0."""
    reach = radius / 3600 / max(np.cos(np.radians(target.dec)), 1e-9)
    if reach >= 180:
        return [(0.0, 360.0)]
    low, high = float(target.ra - reach), float(target.ra + reach)
    if low < 0:
        return [(0.0, high), (low + 360, 360.0)]
    return [(low, 360.0), (0.0, high - 360)] if high > 360 else [(low, high)]


def _bad(record: dict[str, Any]) -> Bool[np.ndarray, "L"]:
    """Pixels to leave out: `mask` is DESI's, or the and_mask of SDSS and BOSS."""
    mask = np.asarray(record["mask"], np.int64)
    return mask != 0 if str(record.get("data_release")).startswith("DESI") else spoilt(mask)


def _to_parquet(name: str, record: dict[str, Any]) -> bytes:
    """A table of one spectrum, as `read_spectra` takes it."""
    units = {"wavelength": "Angstrom", "flux": FLUX_UNIT}
    columns: dict[str, pa.Array] = {"id": pa.array([name])}
    columns |= {key: pa.array([record[key]], pa.list_(pa.float64())) for key in _LISTS}
    if record.get("mask") is not None:
        columns["mask"] = pa.array([_bad(record).tolist()], pa.list_(pa.bool_()))
    columns |= {k: pa.array([record.get(k)], pa.float64()) for k in ("ra", "dec", "redshift")}
    columns |= {k: pa.array([str(record.get(k))]) for k in ("sparcl_id", "data_release")}
    fields = [
        pa.field(key, array.type, metadata={"unit": units[key]} if key in units else None)
        for key, array in columns.items()
    ]
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays([*columns.values()], schema=pa.schema(fields)), buffer)
    return buffer.getvalue().to_pybytes()
