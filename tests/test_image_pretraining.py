from dataclasses import replace

import numpy as np
import pytest
import torch

from appulse import pipeline
from appulse.align.pairs import LearningConfig
from appulse.align.towers import ImageTower
from appulse.image.contrast import Contrast, ContrastConfig
from appulse.image.dino import Dino
from appulse.training.run import load_weights, read_metrics

CONTRAST = ContrastConfig(hidden=32, embedding=16)


@pytest.fixture(scope="module", params=["self-distillation", "contrast"])
def pretrained(run, tmp_path_factory, request):
    """Folder, recipe, class of the model, and where its weights have the trunk's."""
    folder, recipe, kind, trunk = tmp_path_factory.mktemp("image"), run.recipe, Dino, "teacher."
    if request.param == "contrast":
        recipe, kind, trunk = replace(recipe, objective=CONTRAST), Contrast, ""
    pipeline.pretrain_image(run.survey, folder, recipe, device="cpu")
    return folder, recipe, kind, f"{trunk}trunk."


def test_an_interrupted_pretraining_ends_like_an_uninterrupted_one(
    run, pretrained, tmp_path, monkeypatch, interrupting
):
    """Teacher, centres, random views and the number of steps included."""
    folder, recipe, kind, _ = pretrained
    with monkeypatch.context() as patched:
        loss = interrupting(kind.loss, 5)
        patched.setattr(kind, "loss", lambda model, views: loss(model, views))
        with pytest.raises(KeyboardInterrupt):
            pipeline.pretrain_image(run.survey, tmp_path, recipe, device="cpu")
    pipeline.pretrain_image(run.survey, tmp_path, recipe, device="cpu")
    whole, again = load_weights(folder), load_weights(tmp_path)
    assert set(whole) == set(again)
    for name, tensor in whole.items():
        np.testing.assert_array_equal(tensor, again[name], err_msg=name)
    assert whole.get("step", 8) == 8
    measured = [line for line in read_metrics(folder) if {"spread", "found"} & set(line)]
    assert len(measured) == 2


def test_a_tower_starts_from_it(run, pretrained):
    folder, recipe, _, trunk = pretrained
    tower, weights = ImageTower(recipe.image), load_weights(folder)
    tower.load_pretrained(folder)
    for name, tensor in tower.trunk.state_dict().items():
        np.testing.assert_array_equal(tensor, weights[f"{trunk}{name}"])
    with pytest.raises(ValueError, match="stage 'pretrain spectrum'; expected a pretrained image"):
        tower.load_pretrained(run.spectrum)
    wider = replace(recipe.image, trunk=replace(recipe.image.trunk, width=64))
    with pytest.raises(ValueError, match="holds an image tower of other sizes"):
        ImageTower(wider).load_pretrained(folder)


@pytest.mark.parametrize("spectrum", [False, True])
@pytest.mark.parametrize("image", [False, True])
def test_an_alignment_moves_what_is_to_learn(run, pretrained, tmp_path, image, spectrum):
    folder, recipe, _, trunk = pretrained
    short = replace(run.recipe.align, steps=4, warmup=1, learning_rate=0.01)
    learning = LearningConfig(image, spectrum, temperature=image)
    recipe = replace(recipe, align=short, learning=learning)
    pipeline.align(run.survey, run.spectrum, tmp_path, recipe, image_run=folder, device="cpu")
    aligned = load_weights(tmp_path)
    before = {
        "image": load_weights(folder)[f"{trunk}norm.weight"],
        "spectrum": load_weights(run.spectrum)["trunk.norm.weight"],
    }
    for side, learns in (("image", image), ("spectrum", spectrum)):
        assert torch.equal(aligned[f"towers.{side}.trunk.norm.weight"], before[side]) != learns
    start = torch.tensor(recipe.inverse_temperature).log()
    assert torch.equal(aligned["log_inverse_temperature"][0], start) != image


def test_a_trunk_that_does_not_learn_must_come_from_a_run(run, tmp_path):
    recipe = replace(run.recipe, learning=LearningConfig(image=False))
    with pytest.raises(ValueError, match="needs a pretrained one: pass the run of"):
        pipeline.align(run.survey, run.spectrum, tmp_path / "none", recipe)


@pytest.mark.parametrize(("name", "side"), [("whole", 72), ("whole", 144), ("part", 65)])
def test_images_smaller_than_crops_are_refused_at_the_start(run, tmp_path, name, side):
    """And the folder stays free for a run that fits."""
    crops = replace(run.recipe.objective.crops, **{name: side})
    recipe = replace(run.recipe, objective=replace(run.recipe.objective, crops=crops))
    message = (
        f"images of 64 pixels are smaller than crops of {side}: .* --objective.crops.{name} 60"
    )
    with pytest.raises(ValueError, match=message):
        pipeline.pretrain_image(run.survey, tmp_path, recipe, device="cpu")
    assert not (tmp_path / "config.json").exists()
