"""Cutouts of galaxies: `Images`."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.ndimage import distance_transform_edt, gaussian_filter

from ..units import PIXEL_SCALE
from .positions import places
from .rows import as_index, default_ids, mostly_masked, one_per_row, require_rows

Kind = Literal["flux", "rgb"]


@dataclass(frozen=True, eq=False)
class Images:
    """Cutouts in g, r, z, one row a galaxy; build with `from_arrays` or `read_images`.

    Attributes:
        ids: Names, shape (B,).
        flux: Nanomaggies per pixel; for `kind="rgb"` red, green, blue in [0, 1].
        pixel_scale: Arcsec per pixel, per row.
        mask: True where a pixel must not be trusted; flux is 0 there.
        ra, dec: ICRS degrees, NaN where unknown.
        kind: "flux" or "rgb" (a viewer's JPEG or PNG, whose scaling saturates).
    """

    ids: np.ndarray
    flux: Float32[np.ndarray, "B 3 y x"]
    pixel_scale: Float[np.ndarray, "B"]
    mask: Bool[np.ndarray, "B 3 y x"]
    ra: Float[np.ndarray, "B"]
    dec: Float[np.ndarray, "B"]
    kind: Kind = "flux"

    def __post_init__(self) -> None:
        if self.flux.ndim != 4 or self.flux.shape[1] != 3 or self.flux.size == 0:
            raise ValueError(
                f"images have shape {self.flux.shape}; expected (B, 3, y, x), none of them 0, "
                "with bands in the order g, r, z"
            )
        if self.mask.shape != self.flux.shape:
            raise ValueError(f"mask has shape {self.mask.shape}, flux {self.flux.shape}")
        if self.kind not in ("flux", "rgb"):
            raise ValueError(f"kind is {self.kind!r}; expected 'flux' (nanomaggies) or 'rgb'")
        require_rows(
            len(self.flux),
            ids=self.ids,
            pixel_scale=self.pixel_scale,
            ra=self.ra,
            dec=self.dec,
        )
        if not (self.pixel_scale > 0).all():
            bad = self.ids[~(self.pixel_scale > 0)][:5].tolist()
            raise ValueError(f"pixel_scale must be positive arcsec per pixel; it is not for {bad}")

    @classmethod
    def from_arrays(
        cls,
        flux: Any,
        *,
        ids: Any = None,
        pixel_scale: Any = PIXEL_SCALE,
        mask: Any = None,
        ra: Any = np.nan,
        dec: Any = np.nan,
        kind: Kind = "flux",
    ) -> "Images":
        """Images from arrays; scalars hold for every row, non-finite pixels become masked.

        Raises:
            ValueError: On wrong shapes, or rows with more than half of the pixels masked.
        """
        flux = np.array(flux, dtype=np.float32)
        bad = ~np.isfinite(flux) if mask is None else ~np.isfinite(flux) | np.asarray(mask, bool)
        flux[bad] = 0
        n = len(flux) if flux.ndim else 0
        ra, dec = places(ra, dec, n)
        images = cls(
            ids=default_ids(n) if ids is None else np.asarray(ids).astype(str),
            flux=flux,
            pixel_scale=one_per_row(pixel_scale, n),
            mask=bad,
            ra=ra,
            dec=dec,
            kind=kind,
        )
        mostly_masked(images.ids, images.mask, "image")
        return images

    def __len__(self) -> int:
        return len(self.flux)

    def __getitem__(self, rows: Any) -> "Images":
        """The rows named by a slice, an index or an array; one row stays a batch of one."""
        index = as_index(rows, len(self))
        arrays = {f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "kind"}
        return replace(self, **arrays)

    @classmethod
    def concatenate(cls, parts: Sequence["Images"]) -> "Images":
        """All rows of several `Images` of one size and kind, in order."""
        kinds = {part.kind for part in parts}
        sizes = {part.flux.shape[1:] for part in parts}
        if len(kinds) != 1 or len(sizes) != 1:
            raise ValueError(
                f"cannot concatenate images of kinds {sorted(kinds)} and sizes {sorted(sizes)}; "
                "expected one of each: convert or resize first"
            )
        arrays = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(cls)
            if f.name != "kind"
        }
        return cls(**arrays, kind=kinds.pop())

    def filled(self) -> Float[np.ndarray, "B 3 y x"]:
        """Flux with masked pixels taken from their good neighbours, for a network's eyes.

        A masked pixel gets the mean of the good ones around it, weighted by a Gaussian of 1 px.
        Rows and columns at the border that are masked throughout, as padding is, stay 0. It is
        `flux` itself where nothing is masked.
        """
        if not self.mask.any():
            return self.flux
        flux = self.flux.copy()
        for row, band in np.argwhere(self.mask.any(axis=(2, 3)) & ~self.mask.all(axis=(2, 3))):
            box = _seen_box(~self.mask[row, band])
            flux[row, band][box] = _fill(self.flux[row, band][box], self.mask[row, band][box])
        return flux


def _seen_box(good: Bool[np.ndarray, "y x"]) -> tuple[slice, slice]:
    """The smallest rectangle that holds all good pixels."""
    y, x = (np.flatnonzero(good.any(axis=axis)) for axis in (1, 0))
    return slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1)


def _fill(flux: Float[np.ndarray, "y x"], bad: Bool[np.ndarray, "y x"]) -> Float[np.ndarray, "y x"]:
    weight = gaussian_filter((~bad).astype(np.float32), 1.0)
    smooth = gaussian_filter(np.where(bad, 0, flux), 1.0) / np.maximum(weight, 1e-3)
    # deep inside a large hole: the nearest pixel that has good ones around it
    near = distance_transform_edt(weight < 0.1, return_distances=False, return_indices=True)
    return np.where(bad, smooth[tuple(near)], flux)
