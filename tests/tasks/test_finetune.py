from dataclasses import replace

import numpy as np
import pytest
import torch

from appulse.align.model import Model, ModelConfig
from appulse.survey.images import Images
from appulse.survey.structure import structure
from appulse.tasks.finetune import TRAINING, _scores, _Tail, _taken, finetune
from appulse.tasks.finetuned import Finetuned
from appulse.tasks.probes import MLPProbe

SHORT = replace(TRAINING, steps=40, warmup=4, validate_every=10, learning_rate=1e-3)


@pytest.fixture(scope="module")
def some(store):
    return store.read(store.rows("head-train")[:60])


@pytest.fixture
def galaxies_of(some):
    return {"image": some.images, "spectrum": some.spectra}


@pytest.mark.parametrize("modality", ["image", "spectrum"])
@pytest.mark.parametrize("blocks", [0, 1])
def test_what_is_loaded_predicts_the_same(model, galaxies_of, some, tmp_path, modality, blocks):
    y = np.stack([some.columns["redshift_true"], some.columns["log_mstar_true"]], axis=1)
    y[::2, 1] = np.nan
    galaxies, before = galaxies_of[modality], model.hash()
    options = {"blocks": blocks, "training": SHORT, "device": "cpu"}
    tuned, scores = finetune(model, galaxies, y, ["z", "mass"], tmp_path, **options)
    assert model.hash() == before
    assert set(scores) == {"z, R²"}  # of the mass too few are known among those held out
    again = Finetuned.load(tmp_path)
    assert (again.names, again.modality) == (("z", "mass"), modality)
    expected = tuned.predict(galaxies[:7], device="cpu")
    assert expected.shape == (7, 2)
    np.testing.assert_allclose(again.predict(galaxies[:7], device="cpu"), expected, rtol=1e-5)


@pytest.mark.parametrize("modality", ["image", "spectrum"])
def test_without_blocks_it_is_a_probe_on_what_the_model_says(
    model, galaxies_of, some, tmp_path, modality
):
    """Of spectra coordinates and redshifts as well."""
    y, galaxies = some.columns["redshift_true"][:, None], galaxies_of[modality]
    tuned, _ = finetune(model, galaxies, y, ["z"], tmp_path, device="cpu")
    made = model.describe(galaxies, device="cpu")
    seen = made.evidence if modality == "spectrum" else made.vectors
    order = np.random.default_rng(0).permutation(60)
    fit, stop = order[:42], order[42:51]
    probe = MLPProbe.fit(seen[fit], y[fit], seen[stop], y[stop])
    predicted = tuned.predict(galaxies, device="cpu")
    np.testing.assert_allclose(predicted, probe.predict(seen), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("measures", [True, False])
def test_a_tower_alone_measures_what_it_can(model, some, tmp_path, measures):
    """A model of spectra only; without dictionary and head, embeddings are all there is."""
    config = model.config.spectrum
    width = config.head.embedding + config.rest.components + 3
    if not measures:
        config, width = replace(config, head=None, dictionary=None, rest=None), config.trunk.width
    alone = Model(ModelConfig(image=None, spectrum=config))
    alone.spectrum.load_state_dict(model.spectrum.state_dict(), strict=measures)
    y = some.columns["redshift_true"][:, None]
    tuned, _ = finetune(alone, some.spectra, y, ["z"], tmp_path, device="cpu")
    assert len(tuned.mean) == width
    assert np.isfinite(tuned.predict(some.spectra[:3], device="cpu")).all()


def test_the_tail_continues_where_the_tokens_were_taken(model, some):
    """Blocks before and blocks that learn make the tower together, and only the latter learn."""
    vectors = model.embed_images(some.images, device="cpu")
    y = some.columns["redshift_true"][:, None]
    probe = MLPProbe.fit(vectors, y, vectors, y)
    tuned = Finetuned(model.image, probe, ["z"], {})
    tail = _Tail(tuned, 1)
    taken = _taken(tuned, some.images, 1, torch.device("cpu"))
    predicted = probe.code.decode(tail(*taken).detach().double().numpy())
    np.testing.assert_allclose(predicted, probe.predict(vectors), rtol=1e-4, atol=1e-5)
    learns = {name for name, p in tail.named_parameters() if p.requires_grad}
    assert any(name.startswith("tuned.tower.trunk.blocks.0.") for name in learns)
    assert not any("embed_patch" in name for name in learns)


def test_blocks_that_learn_find_what_embeddings_lack(model, store, tmp_path):
    """An untrained tower says little of the asymmetry of a made-up gradient until it is tuned."""
    images = store.read(store.rows("encoder-train")[:150]).images
    rng = np.random.default_rng(0)
    slope = rng.normal(size=(150, 1))
    ramp = np.linspace(-1, 1, images.flux.shape[-1], dtype=np.float32)
    tilted = replace(images, flux=(images.flux + 0.05 * slope[..., None, None] * ramp).astype("f4"))
    scores = []
    for blocks in (0, 1):
        options = {"blocks": blocks, "training": replace(SHORT, steps=150), "device": "cpu"}
        _, score = finetune(model, tilted, slope, ["slope"], tmp_path / str(blocks), **options)
        scores.append(score["slope, R²"].value)
    assert scores[1] > scores[0] + 0.1


def test_classes_are_learned_too(model, some, tmp_path):
    names = np.where(some.columns["redshift_true"] > 0.13, "far", "near")
    tuned, scores = finetune(model, some.images, names, ["distance"], tmp_path, device="cpu")
    assert set(scores) == {"accuracy", "balanced accuracy"}
    assert scores["accuracy"].value > 0.5
    loaded = Finetuned.load(tmp_path).predict(some.images, device="cpu")
    np.testing.assert_array_equal(loaded, tuned.predict(some.images, device="cpu"))
    assert set(loaded) <= {"far", "near"}


def test_structure_tells_classes_of_images(model, some, tmp_path):
    """Flat and round galaxies at any angle; for a property nothing but embeddings is read."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(*[np.arange(64) - 31.5] * 2, indexing="ij")
    flat, angle = rng.random(200) < 0.5, rng.uniform(0, np.pi, (200, 1, 1))
    along, across = (x * np.cos(angle + k) + y * np.sin(angle + k) for k in (0, np.pi / 2))
    ratio = np.where(flat, 0.5, 0.9)[:, None, None]
    flux = np.exp(-np.hypot(along, across / ratio) / 6)[:, None] + rng.normal(
        0, 0.02, (200, 3, 1, 1)
    )
    names = np.where(flat, "flat", "round")
    made = Images.from_arrays(flux.astype(np.float32))
    tuned, scores = finetune(model, made, names, ["look"], tmp_path / "a", device="cpu")
    assert scores["accuracy"].value > 0.9
    assert len(tuned.mean) == model.config.image.head.embedding + structure(made).shape[1]
    z = some.columns["redshift_true"][:, None]
    tuned, _ = finetune(model, some.images, z, ["z"], tmp_path / "b", device="cpu")
    assert len(tuned.mean) == model.config.image.head.embedding


def test_too_little_or_too_much_is_refused(model, some, run, tmp_path):
    y = some.columns["redshift_true"][:, None]
    with pytest.raises(ValueError, match="there are 20 labelled galaxies; expected 60 or more"):
        finetune(model, some.images[:20], y[:20], ["z"], tmp_path)
    with pytest.raises(ValueError, match="7 blocks are to learn; the tower has 1"):
        finetune(model, some.images, y, ["z"], tmp_path, blocks=7)
    with pytest.raises(ValueError, match="-1 blocks are to learn; the tower has 1, and 0 is the"):
        finetune(model, some.images, y, ["z"], tmp_path, blocks=-1)
    with pytest.raises(ValueError, match="holds a run of stage 'align'"):
        Finetuned.load(run.align)


def test_an_infinite_label_is_as_one_unknown(model, some, tmp_path):
    """Else it would make the other targets' units infinite too."""
    columns = [some.columns[name] for name in ("redshift_true", "log_ssfr_true")]
    predicted = []
    for unknown in (np.nan, -np.inf):
        y = np.stack(columns, axis=1)
        y[::5, 1] = unknown
        out = tmp_path / str(unknown)
        tuned, _ = finetune(model, some.images, y, ["z", "log_ssfr"], out, device="cpu")
        predicted.append(tuned.predict(some.images, device="cpu"))
    assert np.isfinite(predicted[0]).all()
    np.testing.assert_array_equal(*predicted)


def test_a_target_that_is_hardly_known_is_refused(model, some, tmp_path):
    y = np.stack([some.columns["redshift_true"]] * 2, axis=1)
    y[2:, 1] = np.nan
    again = Images.concatenate([some.images, some.images])
    with pytest.raises(ValueError, match="age is known of 2 galaxies; expected 20 or more"):
        finetune(model, again, np.concatenate([y, y]), ["z", "age"], tmp_path)


def test_r2_of_predictions_is_not_of_what_was_learned(model, some, tmp_path):
    """Labels that are pure noise are not predicted."""
    y = np.random.default_rng(3).normal(size=(60, 1))
    _, scores = finetune(model, some.images, y, ["noise"], tmp_path, device="cpu")
    assert scores["noise, R²"].value < 0.3


def test_galaxies_that_are_observed_again_give_nothing_away(model, some, tmp_path):
    """Labels that are pure noise would be recalled from another observation of a galaxy."""
    rng = np.random.default_rng(3)
    again = [
        replace(some.images, flux=(some.images.flux + n).astype("f4"))
        for n in 0.002 * rng.normal(size=(4, *some.images.flux.shape))
    ]
    y = np.tile(rng.normal(size=(60, 1)), (4, 1))
    images = Images.concatenate(again)
    _, scores = finetune(model, images, y, ["noise"], tmp_path, device="cpu")
    assert scores["noise, R²"].value < 0.3
    with pytest.raises(ValueError, match="there are 20 labelled galaxies"):
        finetune(model, Images.concatenate([i[:20] for i in again]), y[:80], ["noise"], tmp_path)


def test_a_property_that_is_the_same_for_all_held_out_is_named_not_scored():
    true = np.stack([np.linspace(0, 1, 12), np.zeros(12)], axis=1)
    with pytest.warns(UserWarning, match=r"merger has no R²: all 12 held out are 0\.0"):
        scores = _scores(true + 0.1, true, ["size", "merger"])
    assert set(scores) == {"size, R²"}


def test_a_rare_property_is_scored():
    """Draws without the one galaxy that has it say nothing."""
    true = np.eye(12)[:, :1]
    scores = _scores(0.9 * true, true, ["merger"])
    assert scores["merger, R²"].value == pytest.approx(1 - 0.01 / (1 - 1 / 12))
