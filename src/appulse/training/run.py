"""A run folder: what was trained, how, and everything needed to go on.

    config.json          what makes the run: model, training, data; how often to save may change
    about.json           versions, machine and time of the last start; not compared
    metrics.jsonl        one line per logged step
    tensorboard/         the same for TensorBoard, where it is installed
    resume.safetensors   weights, optimiser and step, while unfinished
    resume-STEP/         the same in shards, one file per rank
    weights.safetensors  the result

Each file is written to a temporary name and renamed: a kill leaves the last whole one. Of several
ranks the first writes, all write shards, and all read: they share the folder.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..files import atomic_path, drop_leftovers, remove
from ..locks import hold
from ..provenance import provenance
from .distribution import Sharding, by_first_rank, gathered, rank
from .tensorboard import tensorboard

FILES = ("config.json", "about.json", "metrics.jsonl", "resume.safetensors", "weights.safetensors")
PREPARED = ("dictionary.safetensors", "rest.safetensors", "cache")  # what stages put there first


class RunFolder:
    """The folder of one training run."""

    def __init__(self, path: str | Path, config: dict[str, Any]):
        """Opens `path` for a run of this configuration, new or begun.

        What a kill left of unfinished writes goes. A run that ended before its first logged step
        gives way to one of another configuration, and so does what it prepared.

        Raises:
            ValueError: If it holds a run of another configuration, or another process is at it.
        """
        self.path = Path(path)
        self.config = json.loads(json.dumps(config))
        there = read_config(self.path) if (self.path / "config.json").exists() else None
        other = there is not None and _compared(there) != _compared(self.config)
        if other and not self._untaught:
            raise ValueError(
                f"{self.path} holds a run with another configuration "
                f"({_difference(_compared(there), _compared(self.config))}); "
                "choose another folder, or delete this one"
            )
        self._board: Any = None
        self._lock: Any = None  # as long as this object lives
        by_first_rank(lambda: self._open(anew=other))

    @property
    def _untaught(self) -> bool:
        """Whether a run was opened here and nothing came of it."""
        begun = {"config.json", "about.json"}
        found = {path.name for path in self.path.iterdir() if not path.name.startswith(".")}
        return begun <= found <= begun | set(PREPARED)

    def _open(self, anew: bool) -> None:
        self._lock = hold(self.path)
        for name in FILES + PREPARED:
            drop_leftovers(self.path / name)
        for shards in self.path.glob(".resume-*"):
            shutil.rmtree(shards)
        if self.finished:
            self._forget_resume()
        for name in PREPARED if anew else ():
            remove(self.path / name)
        write_json(self.path / "config.json", self.config)
        write_json(self.path / "about.json", provenance())

    @property
    def finished(self) -> bool:
        """Whether the run has its final weights."""
        return (self.path / "weights.safetensors").exists()

    def finish(self, weights: dict[str, Tensor]) -> None:
        """Writes the final weights and drops the resume state."""
        weights = gathered(weights)
        by_first_rank(lambda: self._finish(weights))

    def _finish(self, weights: dict[str, Tensor]) -> None:
        save_tensors(self.path / "weights.safetensors", weights)
        self._forget_resume()
        if self._board:
            self._board.close()

    def _forget_resume(self) -> None:
        (self.path / "resume.safetensors").unlink(missing_ok=True)
        self._forget_shards()

    def save(self, tensors: dict[str, Tensor], step: int, sharding: Sharding = "replicate") -> None:
        """Writes the state from which step `step` follows."""
        if sharding == "shard":
            self._save_shards(tensors, step)
        else:
            path, metadata = self.path / "resume.safetensors", {"step": str(step)}
            by_first_rank(lambda: save_tensors(path, tensors, metadata))
        if self._board:
            self._board.flush()

    def _save_shards(self, tensors: dict[str, Tensor], step: int) -> None:
        from .sharding import save_shards

        folder = self.path / f"resume-{step}"
        try:
            save_shards(folder, tensors)
        except OSError as error:
            raise _unwritten(folder, tensors, error) from error
        by_first_rank(lambda: self._forget_shards(step))

    def _shards(self) -> dict[int, Path]:
        """Whole checkpoints in shards, by their steps."""
        return {int(p.name.split("-")[1]): p for p in self.path.glob("resume-*")}

    def _forget_shards(self, but: int | None = None) -> None:
        for step, folder in self._shards().items():
            if step != but:
                shutil.rmtree(folder)

    def load(
        self, layouts: dict[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], int] | None:
        """The last saved state and its step, or None for a new run.

        Lines of `metrics.jsonl` beyond that step are dropped: those steps will run again.

        Args:
            layouts: Of a run in shards, how ranks share tensors; see `sharding.load_shards`.
        """
        if layouts is not None:
            return self._load_shards(layouts)
        path = self.path / "resume.safetensors"
        step = _saved_step(path) if path.exists() else None
        by_first_rank(lambda: self._forget_after(step))
        return None if step is None else (load_tensors(path), step)

    def _load_shards(self, layouts: dict[str, Tensor]) -> tuple[dict[str, Tensor], int] | None:
        from .sharding import load_shards

        step = max(self._shards(), default=None)
        by_first_rank(lambda: self._forget_after(step))
        return None if step is None else (load_shards(self._shards()[step], layouts), step)

    def _forget_after(self, step: int | None) -> None:
        metrics = self.path / "metrics.jsonl"
        if step is None:
            metrics.unlink(missing_ok=True)
            return
        kept = [line for line in read_metrics(self.path) if line["step"] <= step]
        with atomic_path(metrics) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def log(self, step: int, **values: float | int) -> None:
        """Adds a line to `metrics.jsonl`, and to TensorBoard's log."""
        if rank() > 0:
            return
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._board is None:
            self._board = tensorboard(self.path / "tensorboard", step)
        for name, value in values.items():
            if self._board:
                self._board.add_scalar(name, value, step)


def _saved_step(path: Path) -> int:
    try:
        with safe_open(path, "pt") as file:
            return int(file.metadata()["step"])
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}; delete it to start the run anew") from error


def save_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Writes a safetensors file whole or not at all.

    Raises:
        OSError: If it cannot be written; the file before it stays.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with atomic_path(path) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode  # by the umask, of which safetensors takes no notice
            save_file(plain, temporary, metadata)
            temporary.chmod(mode)
    except (OSError, SafetensorError) as error:
        raise _unwritten(path, plain, error) from error


def _unwritten(path: Path, tensors: dict[str, Tensor], error: Exception) -> OSError:
    size = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
    return OSError(
        f"could not write {path} ({size:.0f} MB): {error}; the last whole checkpoint is kept: "
        "make room, then run the same command again"
    )


def read_metrics(path: Path) -> list[dict[str, float | int]]:
    """The lines of a run's `metrics.jsonl`; one that a kill cut short is left out."""
    file = path / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}\n")]


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of a run folder.

    Raises:
        ValueError: If there is none, or it is not a JSON object.
    """
    file = path / "config.json"
    try:
        config = json.loads(file.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path} is not a run folder: it has no config.json") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{file} holds a {type(config).__name__}; expected the settings of a run")
    return config


def load_weights(path: Path) -> dict[str, Tensor]:
    """The final weights of a run folder.

    Raises:
        ValueError: If the run is unfinished, or the file is damaged.
    """
    if not (path / "weights.safetensors").exists():
        raise ValueError(f"{path} has no weights.safetensors; its training has not finished")
    return load_tensors(path / "weights.safetensors")


def load_tensors(path: Path) -> dict[str, Tensor]:
    """What `save_tensors` wrote.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def _compared(config: Any) -> Any:
    """All but how often to save, and what follows from the rest: surveys, from the weights."""
    if not isinstance(config, dict):
        return config
    left = ("save_every", "trained_on")
    return {name: _compared(value) for name, value in config.items() if name not in left}


def _difference(there: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first few settings that differ, as "name: there, not wanted"."""
    old, new = _flat(there), _flat(wanted)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return "; ".join(f"{name}: {old.get(name)}, not {new.get(name)}" for name in names[:3])


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(config, dict):
        return {prefix: config}
    return {
        name: value
        for key, inner in config.items()
        for name, value in _flat(inner, f"{prefix}.{key}" if prefix else key).items()
    }
