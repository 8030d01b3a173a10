"""Synthetic surveys of any length: `simulate` in memory, `simulate_blocks` as a stream."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import get_args

from ...processes import pool
from ..survey import Survey
from .block import BLOCK, make_block
from .targets import SurveyPopulation

SIZES = (64, 96, 152)  # pixels of a stamp
AHEAD = 2  # blocks per process that may wait for the reader


def simulate(
    n: int,
    seed: int = 0,
    size: int = 96,
    start: int = 0,
    population: SurveyPopulation = "bgs",
) -> Survey:
    """Paired images and spectra of `n` targets whose truth is known.

    By default a magnitude-limited sample, r < 19.5, as DESI's bright galaxy survey sees it:
    star-formation histories on an analytic stellar grid, Calzetti dust, nebular lines, structure,
    seeing, sky, noise; docs/survey.md has every choice and its source. Target i of a seed is the
    same whatever n, start or the number of processes. Another `size` keeps the target and changes
    its stamp and, by some .1 %, the light in its fibre.

    Args:
        n: Number of targets.
        seed: Which universe.
        size: Pixels of a stamp at .262 arcsec: 64, 96 or 152.
        start: First target, so that a survey can grow or be shared out.
        population: Class of targets: "bgs", luminous red galaxies "lrg" (z .35-1.1),
            emission-line galaxies "elg" (z .6-1.63), quasars "qso" (z .4-3.5), stars "star", or
            all of them "mixed", by their number on the sky. All but bgs have the exposures of
            DESI's dark programme.

    Returns:
        Images (n, 3, size, size) in nanomaggies, spectra (n, 7781) in 1e-17 erg/s/cm²/Å with
        inverse variances, neither corrected for Galactic dust, and columns.

        Labels, each as `*_true` and, with errors of published size, as `*_catalogue`: `redshift`;
        `log_mstar`, of the mass formed, M☉; `age`, mass-weighted, Gyr; `log_zsol`, of the stars;
        `log_ssfr`, star formation over the last 1 Gyr per mass formed, 1/yr; `morphology`, a name,
        in the catalogue the one with most of `votes_*`, fractions of volunteers.

        Truth alone: `log_mstar_surviving_true`, stars and remnants; `log_ssfr_100myr_true`, over
        the last .1 Gyr; `a_v_true`, of starlight, mag; `mag_*`, total AB without Galactic dust,
        stars alone; `r_eff`, along the major axis, arcsec; `bulge_fraction`, of the light in r;
        `fibre_fraction`, of the light in r, neighbours included; `inclination` of the disk,
        radian, NaN for ellipticals. Circumstances: `tracer` and `spectype` as DESI names them;
        `psf_*`, FWHM, arcsec; `depth_*`, 5 σ for a point source, AB; `ebv`. What a quasar or star
        has not is NaN or "". Positions are even over the sky north of -20° and tell nothing but
        the camera: from 32.375° it is that of the north.

    Raises:
        ValueError: On a size or population that is not offered, n < 1, or a negative seed or start.
    """
    blocks = simulate_blocks(n, seed, size, processes=1, start=start, population=population)
    return Survey.concatenate(list(blocks))


def simulate_blocks(
    n: int,
    seed: int = 0,
    size: int = 96,
    processes: int | None = None,
    start: int = 0,
    population: SurveyPopulation = "bgs",
) -> Iterator[Survey]:
    """The targets of `simulate` in order, up to 128 at a time, made by several processes.

    Memory does not grow with n. Closing the iterator, or an exception in the loop that reads
    it, ends the workers. A script that uses more than one process needs the usual
    `if __name__ == "__main__":`, since workers are spawned.

    Args:
        n, seed, size, start, population: As for `simulate`.
        processes: Worker processes, default one per CPU; 1 works in this process.
    """
    check_arguments(n, seed, size, start, processes, population)
    pieces = _pieces(start, start + n)
    make = partial(_make, seed=seed, size=size, population=population)
    workers = min(processes or os.cpu_count() or 1, len(pieces))
    return map(make, pieces) if workers == 1 else _in_parallel(pieces, make, workers)


@dataclass(frozen=True)
class _Piece:
    """Part of a block."""

    block: int
    rows: slice


def _pieces(start: int, stop: int) -> list[_Piece]:
    """Blocks that hold targets from `start` to `stop`, and which of theirs are asked for."""
    pieces = []
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        first = BLOCK * block
        pieces.append(_Piece(block, slice(max(start - first, 0), min(stop - first, BLOCK))))
    return pieces


def _make(piece: _Piece, seed: int, size: int, population: SurveyPopulation) -> Survey:
    return make_block(piece.block, seed, size, population)[piece.rows]


def _in_parallel(
    pieces: list[_Piece], make: Callable[[_Piece], Survey], processes: int
) -> Iterator[Survey]:
    """Keeps a bounded number of blocks in the making and yields them in order."""
    workers = pool(processes)
    waiting: deque[Future[Survey]] = deque()
    try:
        for piece in pieces:
            waiting.append(workers.submit(make, piece))
            if len(waiting) == AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        workers.shutdown(cancel_futures=True)


def check_arguments(
    n: int, seed: int, size: int, start: int, processes: int | None, population: str
) -> None:
    """Says what is wrong with a request, if anything.

    Raises:
        ValueError: As `simulate`.
    """
    offered = get_args(SurveyPopulation)
    if population not in offered:
        raise ValueError(f"population is {population!r}; expected {', '.join(offered)}")
    if size not in SIZES:
        raise ValueError(f"size is {size}; expected {', '.join(map(str, SIZES))} pixels")
    if n < 1:
        raise ValueError(f"n is {n}; expected at least 1 target")
    if seed < 0 or start < 0:
        raise ValueError(f"seed is {seed} and start is {start}; expected 0 or more")
    if processes is not None and processes < 1:
        raise ValueError(f"processes is {processes}; expected 1 or more, or None for all CPUs")
