"""What a GPU computes is what the CPU does; skipped where there is none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from appulse import pipeline
from appulse.image.augment import CropConfig, multi_crop
from appulse.image.distortions import blurred
from appulse.image.preprocess import image_flux
from appulse.tasks.finetune import TRAINING, finetune
from appulse.training.run import read_metrics

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


def _described(model, galaxies, device, precision="float32"):
    both = galaxies.images, galaxies.spectra
    made = [model.describe(some, device=device, precision=precision) for some in both]
    return [x for d in made for x in (d.vectors, d.coordinates)]


def test_embeddings_are_the_cpus(model, galaxies):
    here, there = (_described(model, galaxies, device) for device in ("cpu", "cuda"))
    for ours, theirs in zip(there, here, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-4 * np.abs(theirs).max())


def test_bfloat16_embeddings_are_near(model, galaxies):
    exact, rounded = (_described(model, galaxies, "cuda", p) for p in ("float32", "bfloat16"))
    for ours, theirs in zip(rounded[::2], exact[::2], strict=True):
        cosine = (ours * theirs).sum(1)
        cosine /= np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        assert cosine.min() > 0.99


def test_seeing_is_the_cpus():
    planes, sigma = 100 * torch.rand(6, 48, 48), torch.linspace(0, 3, 6)
    there = blurred(planes.cuda(), sigma.cuda()).cpu()
    torch.testing.assert_close(there, blurred(planes, sigma), atol=1e-4, rtol=1e-5)


def test_views_are_the_cpus(galaxies):
    flux = image_flux(galaxies.images)
    config = CropConfig(whole=48, part=24, parts=2, degrade=(0.0, 0.0, 0.0))  # noise is a device's
    crops = []
    for place in ("cpu", "cuda"):
        torch.manual_seed(0)
        crops.append(multi_crop(flux.to(place), config))
    for here, there in zip(*crops, strict=True):
        torch.testing.assert_close(there.cpu(), here)


def test_every_stage_learns_as_on_the_cpu(run, tmp_path):
    """Random numbers of masks, orders and turns are the CPU's, so losses are nearly the same."""
    spectrum, image, align = (tmp_path / name for name in ("spectrum", "image", "align"))
    pipeline.pretrain_spectrum(run.survey, spectrum, run.recipe, device="cuda")
    pipeline.pretrain_image(run.survey, image, run.recipe, device="cuda")
    pipeline.align(run.survey, spectrum, align, run.recipe, image_run=image, device="cuda")
    there, here = (
        [line["validation_loss"] for line in read_metrics(r) if "validation_loss" in line]
        for r in (spectrum, run.spectrum)
    )
    np.testing.assert_allclose(there, here, rtol=0.02)
    losses = [line["validation_loss"] for line in read_metrics(align) if "validation_loss" in line]
    assert losses[-1] < losses[0]
    pipeline.embed(run.survey, align, tmp_path / "embeddings", device="cuda")


def test_the_last_block_learns_labels(model, store, tmp_path):
    """Parameters that moved to the GPU to be looked at can learn there."""
    some = store.read(store.rows("head-train")[:60])
    y, training = some.columns["redshift_true"][:, None], replace(TRAINING, steps=20, warmup=2)
    options = {"blocks": 1, "training": training, "device": "cuda"}
    tuned, _ = finetune(model, some.images, y, ["z"], tmp_path, **options)
    assert np.isfinite(tuned.predict(some.images, device="cuda")).all()
    assert read_metrics(tmp_path / "training")
