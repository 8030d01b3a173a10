"""Runs of a user's simulator: in parallel, resumed, with failures set aside.

Shapes: N simulations, D parameters, F outputs.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from ..files import atomic_path
from ..processes import pool
from ..progress import track
from .novelty import TooFewError

Simulator: TypeAlias = Callable[[np.ndarray, np.random.Generator], np.ndarray]
CHUNK = 100  # simulations of one task, and of one file
THETA = "theta.npz"  # in the folder


class Failure(NamedTuple):
    """A simulation that was set aside."""

    row: int
    theta: Float[np.ndarray, "D"]
    reason: str


@dataclass(frozen=True, eq=False)
class Simulations:
    """Parameters with what the simulator made of them, and what went wrong."""

    theta: Float[np.ndarray, "N D"]
    x: Float[np.ndarray, "N F"]
    failures: list[Failure]


class _Task(NamedTuple):
    first: int
    theta: np.ndarray
    seed: int
    folder: Path | None


class _Output(NamedTuple):
    x: np.ndarray  # (n, F), NaN where the simulation failed
    reasons: list[str]  # empty where it did not


def run_simulations(
    simulator: Simulator,
    theta: Float[np.ndarray, "N D"],
    *,
    seed: int = 0,
    processes: int = 1,
    folder: Path | None = None,
) -> Simulations:
    """Simulates each row of theta; row i gets the same random numbers however it is run.

    Args:
        simulator: From parameters (D,) and a random generator to numbers (F,). With several
            processes it must be a function of a module, and a script needs the usual
            `if __name__ == "__main__":`, since workers are spawned.
        folder: Where finished chunks are kept, so that an interrupted run goes on.

    Raises:
        ValueError: If the folder holds simulations of other parameters or of another simulator,
            the outputs differ in length, or every simulation failed.
    """
    if processes < 1 or not len(theta):
        raise ValueError(f"processes is {processes}, simulations {len(theta)}; expected 1 or more")
    if folder is not None:
        _claim(folder, theta, seed)
    tasks = [
        _Task(first, theta[first : first + CHUNK], seed, folder)
        for first in range(0, len(theta), CHUNK)
    ]
    _same_simulator(simulator, tasks[0])
    outputs = list(_run(simulator, tasks, processes, len(theta)))
    return _sorted(theta, outputs)


def kept_theta(folder: Path) -> Float[np.ndarray, "N D"] | None:
    """Parameters of the simulations that a folder keeps; None if there are none."""
    file = folder / THETA
    if not file.exists():
        return None
    with np.load(file, allow_pickle=False) as there:
        return there["theta"]


def _claim(folder: Path, theta: np.ndarray, seed: int) -> None:
    """Marks the folder as that of these parameters."""
    file, mine = folder / THETA, {"theta": theta, "seed": np.array(seed)}
    if not file.exists():
        with atomic_path(file) as temporary:
            np.savez(temporary, **mine)  # type: ignore[arg-type]
        return
    with np.load(file, allow_pickle=False) as there:
        if there["seed"] != seed or not np.array_equal(there["theta"], theta):
            raise ValueError(
                f"{folder} holds simulations of other parameters or another seed; "
                "choose another folder, or delete this one"
            )


def _same_simulator(simulator: Simulator, task: _Task) -> None:
    """Refuses to go on if the first simulation of the folder comes out differently now.

    A simulator with random numbers of its own never repeats itself, and is taken at its word.
    """
    file = _file(task)
    if file is None or not file.exists():
        return
    before = _read(file)
    old = None if before.reasons[0] else before.x[0]

    def again() -> np.ndarray | None:
        rng = np.random.default_rng((task.seed, task.first))
        return _one(simulator, task.theta[0], rng)[0]

    new = again()
    if not _close(new, old) and _close(new, again()):
        raise ValueError(
            f"{task.folder} holds simulations of another simulator: the first gave {old}, now "
            f"{new}; choose another folder, or delete this one"
        )


def _close(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Whether outputs are equal but for what another machine rounds; a failure may be chance."""
    if a is None or b is None:
        return True
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-6, atol=1e-12)


def _run(simulator: Simulator, tasks: list[_Task], processes: int, total: int) -> Iterator[_Output]:
    if processes == 1:
        chunks = (_simulate(simulator, task) for task in tasks)
        yield from _counted(chunks, total)
        return
    workers = pool(processes)
    try:
        futures = [workers.submit(_simulate, simulator, task) for task in tasks]
        yield from _counted((future.result() for future in futures), total)
    finally:
        workers.shutdown(cancel_futures=True)


def _counted(outputs: Iterator[_Output], total: int) -> Iterator[_Output]:
    pairs = (_Sized(output) for output in outputs)
    for pair in track(pairs, "simulations", total):
        yield pair.output


class _Sized:
    """An output whose length is its number of simulations."""

    def __init__(self, output: _Output):
        self.output = output

    def __len__(self) -> int:
        return len(self.output.reasons)


def _simulate(simulator: Simulator, task: _Task) -> _Output:
    """One chunk, read from its file if that is there."""
    file = _file(task)
    if file and file.exists():
        return _read(file)
    rows: list[np.ndarray | None] = []
    reasons: list[str] = []
    for i, theta in enumerate(task.theta):
        x, reason = _one(simulator, theta, np.random.default_rng((task.seed, task.first + i)))
        rows.append(x)
        reasons.append(reason)
    output = _Output(_stack(rows), reasons)
    if file:
        with atomic_path(file) as temporary:
            np.savez(temporary, x=output.x, reasons=np.array(json.dumps(reasons)))
    return output


def _file(task: _Task) -> Path | None:
    return task.folder and task.folder / f"{task.first:09d}.npz"


def _read(file: Path) -> _Output:
    with np.load(file, allow_pickle=False) as there:
        return _Output(there["x"], json.loads(str(there["reasons"])))


def _one(
    simulator: Simulator, theta: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray | None, str]:
    """The output, or why there is none."""
    try:
        x = np.asarray(simulator(theta.copy(), rng), dtype=np.float64)
    except Exception as error:  # whatever a user's code raises
        return None, f"{type(error).__name__}: {error}"
    if x.ndim != 1 or not len(x):
        return None, f"the output has shape {x.shape}; expected one axis of numbers"
    if not np.isfinite(x).all():
        return None, f"{int((~np.isfinite(x)).sum())} of {len(x)} outputs are NaN or infinite"
    return x, ""


def _stack(rows: list[np.ndarray | None]) -> np.ndarray:
    lengths = {len(x) for x in rows if x is not None}
    if len(lengths) > 1:
        raise ValueError(f"the simulator's outputs have lengths {sorted(lengths)}; expected one")
    width = lengths.pop() if lengths else 0
    return np.array([np.full(width, np.nan) if x is None else x for x in rows])


def _sorted(theta: np.ndarray, outputs: list[_Output]) -> Simulations:
    reasons = [reason for output in outputs for reason in output.reasons]
    failures = [Failure(i, theta[i], reason) for i, reason in enumerate(reasons) if reason]
    if len(failures) == len(theta):
        raise TooFewError(f"all {len(theta)} simulations failed; the first: {failures[0].reason}")
    good = [
        output.x[[not reason for reason in output.reasons]]
        for output in outputs
        if not all(output.reasons)
    ]
    if len({x.shape[1] for x in good}) > 1:
        lengths = sorted({x.shape[1] for x in good})
        raise ValueError(f"the simulator's outputs have lengths {lengths}; expected one")
    kept = np.array([not reason for reason in reasons])
    return Simulations(theta[kept], np.concatenate(good), failures)
