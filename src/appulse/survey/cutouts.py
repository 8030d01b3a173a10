"""The cutout service of the Legacy Surveys viewer."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlencode

from ..units import BANDS, PIXEL_SCALE
from .download import Downloader
from .kind import kind_of
from .legacy import read_cutout
from .rejects import Rejects
from .services import Target, only, require_near

VIEWER = "https://www.legacysurvey.org/viewer"
_HEADER_BYTES = 2**20  # what a cutout may have beside its pixels


@dataclass(frozen=True)
class CutoutService:
    """FITS cutouts in g, r, z of the Legacy Surveys viewer.

    Attributes:
        url: Where the viewer is.
        layer: Data release, such as "ls-dr10".
        size: Pixels along each side, 0.262 arcsec each.
    """

    url: str = VIEWER
    layer: str = "ls-dr10"
    size: int = 152
    suffix: ClassVar[str] = ".fits"

    @property
    def folder(self) -> str:
        """The layer: files of two releases never mix."""
        return self.layer

    def download(self, downloader: Downloader, target: Target) -> bytes:
        """A cutout in FITS, about the target; see `Service`."""
        query = {
            "ra": f"{target.ra:.6f}",
            "dec": f"{target.dec:.6f}",
            "layer": self.layer,
            "pixscale": PIXEL_SCALE,
            "size": self.size,
            "bands": "".join(BANDS),
        }
        pixels = 4 * len(BANDS) * self.size**2
        return downloader.get(
            f"{self.url}/fits-cutout?{urlencode(query)}", 2 * pixels + _HEADER_BYTES
        )

    def check(self, path: Path, target: Target) -> None:
        """Raises ValueError unless the file is such a cutout, with data, about the target."""
        if kind_of(path) != "FITS":
            raise ValueError(f"{path.name} is a {kind_of(path)} file; expected FITS")
        rejects = Rejects()
        images = only(list(read_cutout(path, rejects)), rejects)
        if images.flux.shape[2:] != (self.size, self.size):
            raise ValueError(f"cutout has shape {images.flux.shape[1:]}, asked for {self.size}")
        require_near(target, images, PIXEL_SCALE)
