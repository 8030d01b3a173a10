import json
from dataclasses import asdict

import pytest
import torch

from appulse import recipes
from appulse.align.model import Model, ModelConfig
from appulse.align.towers import pretraining_trunk
from appulse.image.contrast import Contrast, ContrastConfig
from appulse.image.dino import Dino


@pytest.mark.parametrize("name", ["tiny", "small", "paper"])
def test_recipes_make_models_that_survive_json(name):
    recipe = getattr(recipes, name)()
    with torch.device("meta"):
        Model(recipe.model)
        trunk = pretraining_trunk(recipe.image.trunk)
        if isinstance(recipe.objective, ContrastConfig):
            Contrast(trunk, recipe.objective)
        else:
            Dino(trunk, recipe.objective, 1)
    assert ModelConfig.from_json(json.loads(json.dumps(asdict(recipe.model)))) == recipe.model


def test_the_paper_has_the_published_sizes():
    """Counts of shared/facts/astroclip.md, section 2."""
    recipe = recipes.paper()
    with torch.device("meta"):
        model = Model(recipe.model)
        dino = Dino(pretraining_trunk(recipe.image.trunk), recipe.objective, 1)

    def numbers(module):
        return sum(parameter.numel() for parameter in module.parameters())

    assert numbers(dino.student.trunk) == 302_954_496
    assert numbers(dino.student.head) == 23_662_848
    spectrum_head = 22 * 768 + 22  # of masked modelling
    assert numbers(model.spectrum.trunk) + spectrum_head == 43_177_750
    assert numbers(model.image.head) + numbers(model.spectrum.head) == 24_666_112
    assert recipe.pretrain_image.learning_rate == pytest.approx(2.372e-4, rel=1e-3)
