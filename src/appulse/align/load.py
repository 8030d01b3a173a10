"""Models from wherever they are: a run folder, a published checkpoint, or the model hub."""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from ..training.run import load_weights, read_config
from .model import Model, ModelConfig
from .published import load_checkpoint
from .unfilled import unfilled


class Pin(NamedTuple):
    """What a hub repository holds where its id comes without a revision."""

    commit: str  # its first digits
    sha256: str  # a pattern
    size: int  # bytes


# As the hub declared them in September 2026; only these digits of the hashes are known to us.
PINS = {
    "polymathic-ai/astroclip": Pin("4af71e52", r"e1689395[0-9a-f]{52}6d56", 1_680_929_841),
}

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?")


def load(source: str | Path) -> Model:
    """A model to embed with.

    Args:
        source: A run folder of `appulse align` or `appulse convert`; a published AstroCLIP,
            SpecFormer or DINOv2 teacher checkpoint; or a hub id such as
            "polymathic-ai/astroclip", perhaps with "@" and a revision. Without one, what is in
            `PINS` must still be what the hub has.

    Raises:
        ValueError: If it is none of these, unfinished, damaged or unsafe.
        OSError: If there is no such file, or the hub cannot be reached.
    """
    path = Path(source)
    return _load_run(path) if path.is_dir() else load_checkpoint(locate(source))


def _load_run(path: Path) -> Model:
    """The model of a run folder: an alignment, or published weights that were converted.

    Raises:
        ValueError: If the folder holds neither, is unfinished or damaged.
    """
    config = read_config(path)
    if config.get("stage") not in ("align", "convert"):
        raise ValueError(
            f"{path} holds a run of stage {config.get('stage')!r}; expected an alignment, "
            "made by `appulse align`, or published weights, by `appulse convert`"
        )
    weights = load_weights(path)
    try:
        trained_on = config.get("trained_on") or config["survey"]["surveys"]
        model = unfilled(ModelConfig.from_json(config["model"]), trained_on)
        model.load_state_dict(weights, assign=True)
    except (KeyError, TypeError, RuntimeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"{path} is damaged: its configuration and weights make no model "
            f"({type(error).__name__}: {error}); copy it again, or run its stage again"
        ) from error
    return model.eval()


def locate(source: str | Path) -> Path:
    """The checkpoint file that a path or a hub id means; the hub's are downloaded once."""
    path, name = Path(source), str(source)
    if path.is_file():
        return path
    if "://" in name:
        raise ValueError(f"{name} is a URL; download the file and give its path, or give a hub id")
    match = _HUB_ID.fullmatch(name)
    if match is None or path.suffix in (".ckpt", ".pth", ".pt"):
        raise FileNotFoundError(f"there is no {name}; expected a run folder or a checkpoint file")
    return download(match["repo"], match["revision"])


def download(repository: str, revision: str | None = None) -> Path:
    """The checkpoint of a hub repository, named as the repository, from the cache if it is there.

    Raises:
        OSError: If the hub cannot be reached, what is in the cache is damaged, or is another file
            than the one that is pinned.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    file = f"{repository.split('/')[1]}.ckpt"
    try:
        path = Path(hf_hub_download(repository, file, revision=revision))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise OSError(
            f"could not get {file} of {repository} from the hub: {error}; if this machine is "
            "offline, download the file elsewhere and give its path; if there is no folder or "
            "file where you expected one, check its name"
        ) from error
    _require_intact(path)
    if revision is None and repository in PINS:
        require_pinned(path, repository, PINS[repository])
    return path


def require_pinned(path: Path, repository: str, pin: Pin) -> None:
    """That a file of the hub's cache, `snapshots/COMMIT/NAME`, is the one that is pinned.

    Raises:
        OSError: If it is another; a revision in the id takes it nevertheless.
    """
    commit, sha256, size = path.parent.name, path.resolve().name, path.stat().st_size
    same = commit.startswith(pin.commit) and re.fullmatch(pin.sha256, sha256) and size == pin.size
    if not same:
        raise OSError(
            f"{repository} has changed: {path.name} of {size:,} bytes, SHA-256 {sha256}, at commit "
            f"{commit}; expected {pin.size:,} bytes, {pin.sha256}, at {pin.commit}; if you trust "
            f"the new file, give {repository}@{commit}"
        )


def _require_intact(path: Path) -> None:
    """The cache names large files by their SHA-256, as the hub declares it."""
    declared = path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", declared):
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != declared:
            raise OSError(f"{path} has SHA-256 {found}, expected {declared}; delete it, try again")
