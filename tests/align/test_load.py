"""Models and trunks from run folders, and folders that hold none."""

import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from appulse import pipeline
from appulse.align.load import load
from appulse.align.model import Model
from appulse.training.run import RunFolder, read_config, write_json


@pytest.fixture
def finished(model, tmp_path):
    """A run folder that holds the model."""
    folder = RunFolder(
        tmp_path / "run",
        {"stage": "align", "survey": {"surveys": []}, "model": asdict(model.config)},
    )
    folder.finish(model.state_dict())
    return folder.path


def test_a_loaded_model_says_what_it_was_trained_on(run):
    loaded = load(run.align)
    assert loaded.trained_on == ("synthetic",)
    assert loaded.simulations_only
    assert not Model(loaded.config, ["desi", "synthetic"]).simulations_only
    assert not Model(loaded.config).simulations_only


def test_what_was_saved_is_loaded(model, finished, galaxies):
    loaded = load(str(finished))
    assert loaded.hash() == model.hash()
    assert not loaded.training
    for embed, seen in (("embed_images", galaxies.images), ("embed_spectra", galaxies.spectra)):
        one, other = (getattr(m, embed)(seen, device="cpu") for m in (loaded, model))
        np.testing.assert_array_equal(one, other)
    assert loaded.hash() == model.hash()  # embedding leaves no trace


def test_only_finished_alignments_are_loaded(model, tmp_path):
    with pytest.raises(ValueError, match="is not a run folder: it has no config"):
        load(tmp_path)
    RunFolder(
        tmp_path / "begun",
        {"stage": "align", "survey": {"surveys": []}, "model": asdict(model.config)},
    )
    with pytest.raises(ValueError, match="its training has not finished"):
        load(tmp_path / "begun")
    other = RunFolder(tmp_path / "other", {"stage": "pretrain spectrum"})
    other.finish(model.state_dict())
    with pytest.raises(ValueError, match="stage 'pretrain spectrum'; expected an alignment"):
        load(other.path)


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_damaged_weights_are_refused(finished, keep):
    weights = finished / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"weights.safetensors is damaged"):
        load(finished)


def test_a_damaged_configuration_is_refused(finished):
    (finished / "config.json").write_text('{"stage": "ali')
    with pytest.raises(ValueError, match=r"config.json is not JSON"):
        load(finished)


def without(config, name):
    return {key: value for key, value in config.items() if key != name}


def with_trunk(config, **settings):
    model = config["model"]
    trunk = {**model["image"]["trunk"], **settings}
    return {**config, "model": {**model, "image": {**model["image"], "trunk": trunk}}}


@pytest.mark.parametrize(
    "damage",
    [
        lambda config: [],
        lambda config: without(config, "model"),
        lambda config: without(config, "survey"),
        lambda config: {**config, "survey": None},
        lambda config: {**config, "model": None},
        lambda config: {**config, "model": []},
        lambda config: with_trunk(config, patch=0),
        lambda config: with_trunk(config, depth=2),
        lambda config: with_trunk(config, width=64),
        lambda config: with_trunk(config, width=2**40),
    ],
)
def test_a_configuration_that_fits_no_model_is_refused(finished, damage):
    path = finished / "config.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=f"{finished}.* (is damaged|expected the settings)"):
        load(finished)


@pytest.mark.parametrize("name", ["dictionary", "rest"])
def test_damaged_measures_are_refused(run, model, tmp_path, name):
    shutil.copytree(run.spectrum, tmp_path / "spectrum")
    path = tmp_path / "spectrum" / f"{name}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"{name}.safetensors is damaged"):
        model.spectrum.load_pretrained(tmp_path / "spectrum")


@pytest.mark.parametrize("surveys", [["desi"], [], ["synthetic", "desi"]])
def test_what_towers_saw_is_remembered_through_the_alignment(run, tmp_path, surveys):
    """A tower of real galaxies, aligned on simulations: not of simulations only."""
    shutil.copytree(run.spectrum, tmp_path / "spectrum")
    config = read_config(run.spectrum)
    config["survey"]["surveys"] = surveys
    write_json(tmp_path / "spectrum" / "config.json", config)
    short = replace(run.recipe, align=replace(run.recipe.align, steps=1))
    out = tmp_path / "align"
    pipeline.align(run.survey, tmp_path / "spectrum", out, short, device="cpu")
    model = load(out)
    assert model.trained_on == (("desi", "synthetic") if surveys else ("synthetic", "unnamed"))
    assert not model.simulations_only


def test_an_alignment_that_noted_its_own_survey_alone_is_loaded(finished):
    assert load(finished).trained_on == ()
    path = finished / "config.json"
    config = {**json.loads(path.read_text()), "survey": {"surveys": ["synthetic"]}}
    path.write_text(json.dumps(config))
    assert load(finished).simulations_only


def test_a_pretrained_trunk_is_taken(run, recipe, model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.spectrum.load_pretrained(run.spectrum)
    expected = load_file(run.spectrum / "weights.safetensors")
    templates = load_file(run.spectrum / "dictionary.safetensors")["templates"]
    components = load_file(run.spectrum / "rest.safetensors")["components"]
    for name, tensor in model.state_dict().items():
        if name.startswith("towers.spectrum.trunk."):
            torch.testing.assert_close(tensor, expected[name.removeprefix("towers.spectrum.")])
        elif name == "towers.spectrum.dictionary.templates":
            torch.testing.assert_close(tensor, templates)
        elif name == "towers.spectrum.rest.components":
            torch.testing.assert_close(tensor, components)
        elif not name.startswith(("towers.spectrum.dictionary.", "towers.spectrum.rest.")):
            torch.testing.assert_close(tensor, before[name])


def test_only_a_spectrum_run_of_the_same_sizes_is_taken(run, recipe):
    with pytest.raises(ValueError, match="stage 'align'; expected a pretrained spectrum"):
        Model(recipe.model).spectrum.load_pretrained(run.align)
    trunk = replace(recipe.spectrum.trunk, width=64)
    wider = replace(recipe.spectrum, trunk=trunk)
    model = Model(replace(recipe.model, spectrum=wider))
    with pytest.raises(ValueError, match="other sizes"):
        model.spectrum.load_pretrained(run.spectrum)
