"""Synthetic surveys of any length: `simulate` in memory, `simulate_blocks` as a stream."""

import os
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from ..survey import Survey
from .galaxies import BLOCK, make_block

SIZES = (64, 96, 152)  # pixels of a stamp
AHEAD = 2  # blocks per process that may wait for the reader


def simulate(n: int, seed: int = 0, size: int = 96, start: int = 0) -> Survey:
    """Paired images and spectra of `n` galaxies whose truth is known.

    A magnitude-limited sample, r < 19.5, as DESI's bright galaxy survey sees it: star-formation
    histories on an analytic stellar grid, Calzetti dust, nebular lines, structure, seeing, sky,
    noise. Galaxy i of a seed is the same whatever n, start or the number of processes. Another
    `size` keeps the galaxy and changes its stamp and, by some .1 %, the light in its fibre.

    Args:
        n: Number of galaxies.
        seed: Which universe.
        size: Pixels of a stamp at .262 arcsec: 64, 96 or 152.
        start: First galaxy, so that a survey can grow or be shared out.

    Returns:
        Images (n, 3, size, size) in nanomaggies, spectra (n, 7781) in 1e-17 erg/s/cm²/Å with
        inverse variances, and the truth in columns: `redshift`; `log_mstar`, of the mass formed,
        M☉; `age`, mass-weighted, Gyr; `log_zsol`, of the stars; `log_ssfr`, star formation over
        the last .1 Gyr per mass formed, 1/yr; `morphology`, a name; `mag_*`, total AB, stars
        alone; `r_eff`, along the major axis, arcsec; `bulge_fraction`, of the light in r;
        `fibre_fraction`, of the light in r, neighbours included; `a_v`, of starlight, mag;
        `inclination` of the disk, radian, NaN for ellipticals; `psf_*`, FWHM, arcsec; `depth_*`,
        5 σ for a point source, AB; `ebv`, NaN, for there is no Galactic dust. Positions are even
        over the sky north of -20° and tell nothing.

    Raises:
        ValueError: On a size that is not offered, n < 1, or a negative seed or start.
    """
    return Survey.concatenate(list(simulate_blocks(n, seed, size, processes=1, start=start)))


def simulate_blocks(
    n: int, seed: int = 0, size: int = 96, processes: int | None = None, start: int = 0
) -> Iterator[Survey]:
    """The galaxies of `simulate` in order, up to 128 at a time, made by several processes.

    Memory does not grow with n. Closing the iterator, or an exception in the loop that reads
    it, ends the workers. A script that uses more than one process needs the usual
    `if __name__ == "__main__":`, since workers are spawned.

    Args:
        n, seed, size, start: As for `simulate`.
        processes: Worker processes, default one per CPU; 1 works in this process.
    """
    _check(n, seed, size, start, processes)
    pieces = _pieces(start, start + n)
    workers = processes or os.cpu_count() or 1
    if min(workers, len(pieces)) == 1:
        return (_make(piece, seed, size) for piece in pieces)
    return _in_parallel(pieces, seed, size, min(workers, len(pieces)))


@dataclass(frozen=True)
class _Piece:
    """Part of a block."""

    block: int
    rows: slice


def _pieces(start: int, stop: int) -> list[_Piece]:
    """Blocks that hold galaxies from `start` to `stop`, and which of theirs are asked for."""
    pieces = []
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        first = BLOCK * block
        pieces.append(_Piece(block, slice(max(start - first, 0), min(stop - first, BLOCK))))
    return pieces


def _make(piece: _Piece, seed: int, size: int) -> Survey:
    return make_block(piece.block, seed, size)[piece.rows]


def _in_parallel(pieces: list[_Piece], seed: int, size: int, processes: int) -> Iterator[Survey]:
    """Keeps a bounded number of blocks in the making and yields them in order."""
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _leave_interrupts_to_parent)
    waiting: deque[Future[Survey]] = deque()
    try:
        for piece in pieces:
            waiting.append(pool.submit(_make, piece, seed, size))
            if len(waiting) == AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _check(n: int, seed: int, size: int, start: int, processes: int | None) -> None:
    if size not in SIZES:
        raise ValueError(f"size is {size}; expected {', '.join(map(str, SIZES))} pixels")
    if n < 1:
        raise ValueError(f"n is {n}; expected at least 1 galaxy")
    if seed < 0 or start < 0:
        raise ValueError(f"seed is {seed} and start is {start}; expected 0 or more")
    if processes is not None and processes < 1:
        raise ValueError(f"processes is {processes}; expected 1 or more, or None for all CPUs")
