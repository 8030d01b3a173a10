"""A server on this machine that speaks as the public services do, and fails as they may."""

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from astropy.io import fits

from appulse.survey.download import Downloader
from appulse.survey.fetch import fetch_files
from appulse.survey.rejects import Rejects
from appulse.survey.services import Target
from appulse.units import desi_grid

ARCSEC = 1 / 3600
TARGETS = [Target(row, f"g{row}", 10.0 * (row + 1), 0.0) for row in range(6)]


def cutout(ra: float, dec: float, size: int, value: float = 1.0) -> bytes:
    """As legacysurvey/imagine answers for fits-cutout."""
    header = fits.Header({"SURVEY": "LegacySurvey", "BANDS": "grz"})
    header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec})
    header.update({"CRPIX1": (size + 1) / 2, "CRPIX2": (size + 1) / 2})
    header.update({"CD1_1": -0.262 / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.262 / 3600})
    file = BytesIO()
    fits.PrimaryHDU(np.full((3, size, size), value, np.float32), header).writeto(file)
    return file.getvalue()


class Sky(ThreadingHTTPServer):
    """Both services. `faults[ra]` lists what goes wrong with the next requests for a galaxy."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults: dict[float, list[str]] = {}
        self.spectra: list[dict[str, Any]] = []
        self.asked: list[tuple[float, str]] = []  # time and path of each request
        self.questions: list[Any] = []
        self.hung = threading.Event()  # set when a request hangs
        self.done = threading.Event()  # set when requests need hang no longer
        self.url = f"http://127.0.0.1:{self.server_port}"

    def add_spectrum(self, name: str, ra: float, dec: float = 0.0, **more: Any) -> None:
        """As SPARCL describes one; its flux is its right ascension."""
        grid = desi_grid()
        record = {
            "_dr": "DESI-EDR",
            "sparcl_id": name,
            "data_release": "DESI-EDR",
            "redshift": 0.1,
            "ra": ra,
            "dec": dec,
            "wavelength": grid.tolist(),
            "flux": np.full(len(grid), ra).tolist(),
            "ivar": np.full(len(grid), 4.0).tolist(),
            "mask": np.zeros(len(grid), int).tolist(),
        }
        self.spectra.append(record | more)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Sky

    def do_GET(self) -> None:
        query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
        ra, dec, size = float(query["ra"]), float(query["dec"]), int(query["size"])
        assert (query["bands"], query["pixscale"]) == ("grz", "0.262")
        self._answer(ra, lambda: cutout(ra, dec, size))

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.questions.append(question)
        url = urlsplit(self.path)
        if url.path.endswith("/find/"):
            (_, low, high), (_, south, north) = question["search"]
            found = [
                {"_dr": s["_dr"], **{name: s[name] for name in question["outfields"]}}
                for s in self.server.spectra
                if low <= s["ra"] <= high and south <= s["dec"] <= north
            ]
            self._answer((low + high) / 2, lambda: json.dumps([{"count": 1}, *found]).encode())
        else:
            query = parse_qs(url.query)
            assert query["format"] == ["json"]  # the default is a pickle
            names = ["_dr", *query["include"][0].split(",")]
            (wanted,) = question
            found = [s for s in self.server.spectra if s["sparcl_id"] == wanted]
            records = [{name: s[name] for name in names} for s in found]
            ra = found[0]["ra"] if found else 0.0
            self._answer(ra, lambda: json.dumps([{"status": {}}, *records]).encode())

    def _answer(self, ra: float, make: Any) -> None:
        self.server.asked.append((time.monotonic(), self.path))
        faults = self.server.faults.get(round(ra, 3), [])
        match faults.pop(0) if faults else "":
            case "":
                self._send(200, make())
            case "truncated":
                self._send(200, make(), share=0.5)
            case "html":
                self._send(200, b"<!DOCTYPE html><title>Busy</title>")
            case "elsewhere":
                self._send(200, cutout(ra + 0.01, 0.0, 16))
            case "empty":
                self._send(200, cutout(ra, 0.0, 16, value=0.0))
            case "huge":
                self._send(200, bytes(5_000_000))
            case "patience":
                self._send(429, b"", {"Retry-After": "1"})
            case "hang":
                self.server.hung.set()
                self.server.done.wait()
                self.close_connection = True
            case "drip":
                self._drip()
            case status:
                self._send(int(status), b"no")

    def _drip(self) -> None:
        """A byte at a time, without end."""
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        while not self.server.done.wait(0.05):
            try:
                self.wfile.write(b"S")
            except OSError:
                return

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, share: float = 1.0
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):  # who asked may have left
            self.wfile.write(body[: int(len(body) * share)])
        self.close_connection = self.close_connection or share < 1

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def sky() -> Any:
    server = Sky()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.done.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def downloader() -> Downloader:
    """One that does not wait for long."""
    return Downloader(1e6, attempts=3, timeout=0.5, backoff=0.001)


def fetched(
    service: Any,
    targets: list[Target],
    out: Path,
    downloader: Downloader,
    rejects: Rejects | None = None,
) -> list[str]:
    """What became of each target."""
    collected = Rejects() if rejects is None else rejects
    return list(fetch_files(service, targets, out, downloader, collected))


def names(folder: Path) -> list[str]:
    """Of the files there."""
    return sorted(path.name for path in folder.iterdir())
