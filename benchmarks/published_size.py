"""AstroCLIP's towers at their published sizes with random weights, and random galaxies for them."""

from typing import Any

import numpy as np
import torch

from appulse.align.head import PoolConfig
from appulse.align.model import Model, ModelConfig
from appulse.align.towers import ImageTowerConfig, SpectrumTowerConfig
from appulse.image.vit import VisionTransformer, VisionTransformerConfig
from appulse.spectrum.masked import MaskedModel, MaskingConfig
from appulse.spectrum.transformer import SpectrumTransformer, SpectrumTransformerConfig
from appulse.survey.images import Images
from appulse.survey.spectra import Spectra
from appulse.units import DESI_PIXELS, desi_grid

SPECTRUM = SpectrumTransformerConfig(stem="standard")
IMAGE = VisionTransformerConfig(colours="rgb", positions="none", layer_scale=1e-5, norm_eps=1e-6)


def spectrum_trunk(**sizes: int) -> SpectrumTransformer:
    torch.manual_seed(0)
    return SpectrumTransformer(_sized(SPECTRUM, sizes)).eval()


def image_trunk(**sizes: int) -> VisionTransformer:
    """Layer scales start at 1e-5, at which blocks do nothing; here they are as in a trained one."""
    torch.manual_seed(0)
    trunk = VisionTransformer(_sized(IMAGE, sizes)).eval()
    with torch.no_grad():
        for name, parameter in trunk.named_parameters():
            if name.endswith("gamma"):
                parameter.normal_(0.5, 0.1)
    return trunk


def _sized(config: Any, sizes: dict[str, int]) -> Any:
    return type(config)(**{**vars(config), **sizes})


def masked_model() -> MaskedModel:
    torch.manual_seed(0)
    return MaskedModel(SPECTRUM, MaskingConfig())


def both_towers(**sizes: int) -> Model:
    """AstroCLIP; `sizes` such as depth=1 change both trunks."""
    torch.manual_seed(0)
    return Model(
        ModelConfig(
            ImageTowerConfig(_sized(IMAGE, sizes), PoolConfig(residual=False)),
            SpectrumTowerConfig(_sized(SPECTRUM, sizes), PoolConfig(), None),
        )
    ).eval()


def images(n: int, size: int = 152) -> Images:
    """A round galaxy on noise, nanomaggies."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] - size / 2
    galaxy = np.exp(-np.hypot(y, x) / rng.uniform(3, 15, (n, 1, 1, 1)))
    flux = rng.uniform(0.1, 3, (n, 3, 1, 1)) * galaxy + 0.01 * rng.standard_normal(
        (n, 3, size, size)
    )
    return Images.from_arrays(flux, ra=rng.uniform(0, 360, n), dec=rng.uniform(-30, 30, n))


def spectra(n: int, pixels: int = DESI_PIXELS) -> Spectra:
    """Lines on a continuum with noise."""
    rng = np.random.default_rng(0)
    wavelength = desi_grid()[:pixels]
    lines = sum(
        rng.uniform(0, 10, (n, 1))
        * np.exp(-(((wavelength - rng.uniform(3600, 9800, (n, 1))) / 5) ** 2) / 2)
        for _ in range(8)
    )
    flux = rng.uniform(1, 5, (n, 1)) + lines + 0.5 * rng.standard_normal((n, pixels))
    return Spectra.from_arrays(flux, wavelength=wavelength, ivar=np.full(flux.shape, 4.0))


def image_inputs(n: int) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(0)
    side = IMAGE.size
    flux = torch.rand(n, 3, side, side, generator=rng)
    return flux, torch.zeros(flux.shape, dtype=torch.bool), torch.full((n,), 0.262)


def spectrum_inputs(n: int, pixels: int = DESI_PIXELS) -> tuple[torch.Tensor, ...]:
    made = spectra(n, pixels)
    wavelength = torch.from_numpy(made.wavelength[:1].astype(np.float32))
    return torch.from_numpy(made.flux), torch.from_numpy(made.ivar), wavelength


def flops(trunk: SpectrumTransformer | VisionTransformer, tokens: int) -> float:
    """Of one row: 24 T D² of the linear layers and 4 T² D of attention, in each block."""
    width, depth = trunk.config.width, trunk.config.depth
    return depth * (24.0 * tokens * width**2 + 4.0 * tokens**2 * width)
