"""What fails on a GPU only, found without one."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from torch.utils import backend_registration

from appulse.recipes import tiny

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch knows no backends in Python",
)

STAGES = """
with away.everywhere():
    import pickle
    from pathlib import Path
    import numpy as np
    from appulse import pipeline, posteriors
    from appulse.align.load import load
    from appulse.evaluate.attention import attention_figure
    from appulse.survey.store import SurveyStore
    from appulse.tasks.finetune import TRAINING, finetune
    from appulse.tasks.generate import Generator
    from dataclasses import replace

    survey, out = map(Path, sys.argv[1:])
    recipes = pickle.loads((out / "recipes").read_bytes())
    for i, recipe in enumerate(recipes):
        pipeline.pretrain_image(survey, out / f"image-{i}", recipe)
    pipeline.pretrain_spectrum(survey, out / "spectrum", recipe)
    pipeline.align(survey, out / "spectrum", out / "align", recipe, image_run=out / f"image-{i}")
    pipeline.embed(survey, out / "align", out / "embeddings")
    posteriors.posterior(survey, out / "embeddings", out / "posterior", recipe.posterior)
    posteriors.generator(survey, out / "embeddings", out / "generator", recipe.generator)
    posteriors.pictures(survey, out / "embeddings", out / "posterior")
    generator = Generator.load(out / "generator")
    generator.spectra(generator.sample(3)[0])
    model, store = load(out / "align"), SurveyStore.open(survey)
    some = store.read(store.rows("head-train")[:60])
    attention_figure(model, some[:2])
    z, short = some.columns["redshift_true"][:, None], replace(TRAINING, steps=8)
    for galaxies in (some.images, some.spectra):
        there, here = (model.describe(galaxies, device=d).evidence for d in ("auto", "cpu"))
        np.testing.assert_allclose(there, here, atol=1e-5)
        folder = out / type(galaxies).__name__
        tuned, _ = finetune(model, galaxies, z, ["z"], folder, blocks=1, training=short)
        assert np.isfinite(tuned.predict(galaxies[:5])).all()
    assert {weight.device for weight in tuned.parameters()} == {away.PLACE}
"""

FAULTS = """
import torch
with away.everywhere():
    there, here = torch.ones(2, 3).to(away.PLACE), torch.ones(2, 3)
    assert (there @ there.T).device == away.PLACE and there.cpu().device == here.device
    assert (3 * there).cpu().numpy().sum() == 18
    net = torch.nn.Linear(3, 1).to(away.PLACE)
    net(there).sum().backward()
    assert net.weight.grad.device == away.PLACE
    there[torch.tensor([0])], there + torch.tensor(1.0)  # as CUDA allows
    faults = {
        "add": lambda: there + here,
        "product": lambda: torch.nn.functional.linear(here, net.weight),
        "join": lambda: torch.cat([there, here]),
        "array": lambda: there.numpy(),
    }
    for name, fault in faults.items():
        try:
            fault()
        except (RuntimeError, TypeError):
            continue
        raise AssertionError(f"{name} was not found")
"""


def _run(script, *arguments):
    start = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport away\n"
    command = [sys.executable, "-c", start + script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_faults_are_found():
    _run(FAULTS)


def test_no_stage_mixes_devices(run, tmp_path):
    short = replace(
        run.recipe,
        pretrain_spectrum=replace(run.recipe.pretrain_spectrum, steps=4, validate_every=2),
        pretrain_image=replace(run.recipe.pretrain_image, steps=4, validate_every=2),
        align=replace(run.recipe.align, steps=4, validate_every=2),
        posterior=replace(run.recipe.posterior, fit=replace(run.recipe.posterior.fit, steps=6)),
        generator=replace(run.recipe.generator, fit=replace(run.recipe.generator.fit, steps=6)),
    )
    recipes = [short, replace(short, objective=tiny().objective)]
    (tmp_path / "recipes").write_bytes(pickle.dumps(recipes))
    _run(STAGES, run.survey, tmp_path)
