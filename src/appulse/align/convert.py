"""Published weights as a run folder: safetensors, JSON and a model card."""

import hashlib
from dataclasses import asdict
from pathlib import Path

from ..files import atomic_path
from ..training.run import RunFolder
from .model import ModelConfig
from .published import SURVEYS, Published, read_published

_CARD = """---
library_name: appulse
license: mit
tags: [astronomy, galaxies, contrastive-learning]
---
# {name}, converted by appulse

{sizes}

- **Source:** `{file}`, SHA-256 `{sha256}`. AstroCLIP (Parker et al. 2024, MNRAS 531, 4990,
  https://doi.org/10.1093/mnras/stae1450), published by its authors at
  https://huggingface.co/polymathic-ai under the MIT licence, as is their code
  (https://github.com/PolymathicAI/AstroCLIP). If your file is another one, its own licence holds.
- **Trained on:** {surveys}.
- **Images:** g, r, z in nanomaggies at 0.262 arcsec per pixel, or the viewer's JPEG; appulse makes
  them the viewer's colours and takes the central 144 pixels.
- **Spectra:** 1e-17 erg/s/cm2/A on the DESI grid, 3600 to 9824 A; appulse rebins others.
- **Left out**, because embedding does not use them: {unused}.

```python
import appulse

model = appulse.load("{folder}")
```

Please cite Parker et al. (2024).
"""


def convert(checkpoint: Path, out: Path) -> Published:
    """Writes `config.json`, `weights.safetensors` and `README.md` for a published checkpoint.

    Raises:
        ValueError: If the checkpoint is not one of those, or `out` holds something else.
    """
    card_path = out / "README.md"
    if card_path.exists() and not (out / "config.json").exists():
        raise ValueError(f"{card_path} is not of a converted model; choose another folder")
    published = read_published(checkpoint)
    with checkpoint.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    config = {
        "stage": "convert",
        "layout": published.name,
        "source": {"file": checkpoint.name, "sha256": sha256},
        "survey": {"surveys": list(SURVEYS)},
        "model": asdict(published.config),
    }
    run = RunFolder(out, config)
    with atomic_path(card_path) as card:
        card.write_text(
            _CARD.format(
                name=published.name,
                sizes=_sizes(published.config, sum(t.numel() for t in published.weights.values())),
                file=checkpoint.name,
                sha256=sha256,
                surveys=", ".join(SURVEYS),
                unused=", ".join(f"`{name}`" for name in published.unused) or "nothing",
                folder=out,
            )
        )
    run.finish(published.weights)
    return published


def _sizes(config: ModelConfig, numbers: int) -> str:
    parts = [f"{numbers:,} numbers."]
    if config.image is not None:
        trunk = config.image.trunk
        parts.append(
            f"Image tower: {trunk.depth} blocks of width {trunk.width}, {trunk.heads} heads, "
            f"patches of {trunk.patch} pixels."
        )
    if config.spectrum is not None:
        spectrum = config.spectrum.trunk
        parts.append(
            f"Spectrum tower: {spectrum.depth} blocks of width {spectrum.width}, "
            f"{spectrum.heads} heads, patches of {spectrum.patch} pixels."
        )
    return " ".join(parts)
