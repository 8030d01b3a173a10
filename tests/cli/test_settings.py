from dataclasses import replace

import pytest

from appulse import pipeline, posteriors, recipes
from appulse.cli import main

SPECTRUM = ("pretrain", "spectrum", "--survey", "s", "--out", "o")
IMAGE = ("pretrain", "image", "--survey", "s", "--out", "o")
ALIGN = ("align", "--survey", "s", "--spectrum", "p", "--out", "o")
POSTERIOR = ("posterior", "--survey", "s", "--embeddings", "e", "--out", "o")


@pytest.fixture
def read(monkeypatch):
    """The recipe that a command line makes of its settings."""
    seen = []

    def keep(*arguments, **options):
        seen.extend(a for a in arguments if isinstance(a, recipes.Recipe))

    for stage in ("pretrain_spectrum", "pretrain_image", "align"):
        monkeypatch.setattr(pipeline, stage, keep)

    def recipe(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert not ended.value.code, ended.value.code
        return seen.pop()

    return recipe


@pytest.mark.parametrize("command", [SPECTRUM, IMAGE, ALIGN])
@pytest.mark.parametrize("name", ["tiny", "small", "paper"])
def test_without_settings_a_recipe_is_as_it_is(read, command, name):
    assert read(*command, "--recipe", name) == getattr(recipes, name)()


def test_settings_change_what_they_name_and_nothing_else(read):
    small = recipes.small()
    training = replace(small.pretrain_spectrum, steps=500, learning_rate=1e-5, betas=(0.8, 0.9))
    trunk = replace(small.spectrum.trunk, depth=2, stem="standard")
    dictionary = replace(small.spectrum.dictionary, bin=1e-3)
    assert read(
        *(
            *SPECTRUM,
            "--recipe",
            "small",
            "--training.steps",
            "500",
            "--training.betas",
            ".8",
            ".9",
        ),
        *("--training.learning-rate=1e-5", "--masking.width", "7", "--spectrum.trunk.depth", "2"),
        *("--spectrum.trunk.stem", "standard", "--spectrum.dictionary.bin", "1e-3"),
    ) == replace(
        small,
        pretrain_spectrum=training,
        masking=replace(small.masking, width=7),
        spectrum=replace(small.spectrum, trunk=trunk, dictionary=dictionary),
    )


def test_settings_that_may_be_none_and_switches(read):
    assert read(
        *(*IMAGE, "--recipe", "small", "--training.final-weight-decay", "none"),
        *("--training.patience", "3", "--training.fused", "--image.trunk.layer-scale", "none"),
    ) == replace(
        recipes.small(),
        pretrain_image=replace(
            recipes.small().pretrain_image, final_weight_decay=None, patience=3, fused=True
        ),
        image=replace(
            recipes.small().image, trunk=replace(recipes.small().image.trunk, layer_scale=None)
        ),
    )


def test_a_run_to_start_from_and_sizes_of_its_tower_are_told_apart(read):
    paper = recipes.paper()
    head = replace(paper.image.head, residual=True)
    assert read(
        *(*ALIGN, "--recipe", "paper", "--image", "i", "--image.head.residual"),
        *("--learning.image", "--inverse-temperature", "3"),
    ) == replace(
        paper,
        image=replace(paper.image, head=head),
        learning=replace(paper.learning, image=True),
        inverse_temperature=3.0,
    )


def test_help_tells_types_and_what_each_recipe_says(capsys):
    with pytest.raises(SystemExit):
        main([*SPECTRUM[:2], "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "--training.steps INT [default: tiny 150, small 20000, paper 500000]" in told
    assert "--training.clip FLOAT [default: 1]" in told
    assert "--spectrum.trunk.stem CHOICE" in told
    assert "spectrum.head" not in told  # does nothing here


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        (("--training.steps", "3.5"), "--training.steps: 3.5 is not a whole number"),
        (("--training.clip", "much"), 'convert "much" into float'),
        (("--spectrum.trunk.stem", "x"), 'Choose from: "weighted", "standard"'),
        (("--masking.wdth", "3"), "There are: --masking.chunks, --masking.width."),
        (("--nothing", "3"), "There are: --survey, --out, --recipe, --device."),
        (("--spectrum.head.width", "3"), "Unknown option: --spectrum.head.width"),
    ],
)
def test_wrong_settings_are_refused(capsys, setting, complaint):
    with pytest.raises(SystemExit) as ended:
        main([*SPECTRUM, *setting])
    assert ended.value.code == 2
    told = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert complaint in told


def test_a_setting_of_parts_that_only_other_recipes_have_is_refused():
    with pytest.raises(SystemExit) as ended:
        main([*ALIGN, "--spectrum.head.residual"])
    assert "the recipe tiny has no spectrum.head.residual" in ended.value.code


def test_a_posterior_has_the_settings_of_its_recipe(monkeypatch):
    seen = []
    monkeypatch.setattr(posteriors, "posterior", lambda *args, **_: seen.append(args[-1]))
    changes = ("--posterior.fit.steps", "7", "--posterior.estimator.width", "32")
    for settings in ((), ("--recipe", "small"), changes):
        with pytest.raises(SystemExit):
            main([*POSTERIOR, *settings])
    tiny = recipes.tiny().posterior
    changed = replace(
        tiny, fit=replace(tiny.fit, steps=7), estimator=replace(tiny.estimator, width=32)
    )
    assert seen == [tiny, recipes.small().posterior, changed]
