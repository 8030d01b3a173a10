import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from appulse.survey.batches import BatchOrder
from appulse.training.groups import Group
from appulse.training.loop import TrainingConfig, train
from appulse.training.run import RunFolder, read_metrics

from .conftest import CONFIG, TARGET, batches, loss, model, run


def test_groups_have_their_own_rates_and_decays(tmp_path):
    """One parameter rests, one learns at a tenth and decays three times as fast as configured."""
    first = {name: p.detach().clone() for name, p in model().named_parameters()}

    def groups(m):
        slow, _, rests, *others = m.parameters()
        return [
            Group(slow, rate=0.1, decay=3.0),
            Group(rests, last_layer=True),
            *(Group(p, rate=0.0) for p in others),
        ]

    config = TrainingConfig(
        steps=2,
        batch_size=8,
        warmup=1,
        rest=1,
        clip=1e9,
        floor=1.0,
        precision="float32",
        weight_decay=0.5,
        final_weight_decay=0.5,
        ema=None,
        save_every=0.0,
    )
    grads, rested = [], []

    def spy(m, x):
        value = loss(m, x)
        grads.append(torch.autograd.grad(value, next(m.parameters()), retain_graph=True)[0])
        rested.append(list(m.parameters())[2].detach().clone())
        return value

    folder = RunFolder(tmp_path, {})
    train(model(), spy, batches, replace(config, steps=2), folder, groups=groups, device="cpu")
    names = list(first)
    torch.testing.assert_close(rested[1], first[names[2]])  # stayed in the first step
    result = load_file(tmp_path / "weights.safetensors")
    assert (result[names[2]] != first[names[2]]).any()
    p, rate = first[names[0]], 1e-4
    step = grads[0] / (grads[0].abs() + 1e-8)
    after_one = p * (1 - rate * 1.5) - rate * step
    error = (result[names[0]] - after_one).abs().max()
    assert 0 < error < 2.2 * rate  # the second step moves as far again


def test_what_follows_a_step_sees_its_weights_and_is_saved_with_them(tmp_path):
    seen = []
    config = replace(CONFIG, steps=4, ema=None)
    run(tmp_path, config, after_step=lambda m: seen.append(next(m.parameters()).detach().clone()))
    assert len(seen) == 4
    result = load_file(tmp_path / "weights.safetensors")
    torch.testing.assert_close(seen[-1], result["0.weight"])


def test_training_learns_and_writes_what_it_did(tmp_path):
    seen = []
    config = replace(CONFIG, learning_rate=0.02)
    run(tmp_path / "run", config, validate=lambda m: seen.append(m) or {"score": 1.0})
    lines = read_metrics(tmp_path / "run")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < 0.9 * losses[0]
    assert [line["step"] for line in lines if "score" in line] == [10, 20, 30]
    assert len(seen) == 3
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        ".lock",
        "about.json",
        "config.json",
        "metrics.jsonl",
        "tensorboard",
        "weights.safetensors",
    ]


def test_the_fused_optimiser_learns_the_same(tmp_path):
    plain = run(tmp_path / "plain").state_dict()
    fused = run(tmp_path / "fused", replace(CONFIG, fused=True)).state_dict()
    for name, tensor in plain.items():
        torch.testing.assert_close(fused[name], tensor, atol=1e-5, rtol=0)


def test_validation_sees_a_model_in_evaluation_mode(tmp_path):
    modes = []

    def spy(m, x):
        modes.append(("train", m.training))
        return loss(m, x)

    train(
        model(),
        spy,
        batches,
        replace(CONFIG, steps=20, ema=None),
        RunFolder(tmp_path, {}),
        device="cpu",
        validate=lambda m: modes.append(("validate", m.training)) or {},
    )
    assert [mode for mode, _ in modes].count("validate") == 2
    assert all(training == (mode == "train") for mode, training in modes)


def test_one_step_equals_adamw_by_hand(tmp_path):
    config = TrainingConfig(steps=1, batch_size=8, warmup=1, clip=1e9, precision="float32")
    result = run(tmp_path, config).state_dict()
    ours = model()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loss(ours, next(batches(0))).backward()
    for name, p in ours.named_parameters():
        decay = 0.1 if p.ndim > 1 else 0.0
        step = p.grad / (p.grad.abs() + 1e-8)  # AdamW's first step is the gradient's sign
        expected = p * (1 - 1e-3 * decay) - 1e-3 * step
        torch.testing.assert_close(result[name], expected, atol=1e-6, rtol=1e-5)


def test_a_step_in_pieces_is_a_step(tmp_path):
    """For a loss that is a mean over rows."""

    def mean(m, x):
        return (m.eval()(x) - x).square().mean()

    results = []
    for pieces in (1, 4):
        order = BatchOrder(np.arange(64), 8, seed=3, epochs=None, pieces=pieces)
        config = replace(CONFIG, accumulate=pieces, clip=0.1)
        folder = RunFolder(tmp_path / str(pieces), {})
        trained = train(
            model().double(),
            mean,
            lambda step, order=order: (TARGET[rows].double() for rows in order),
            config,
            folder,
            device="cpu",
        )
        results.append((trained.state_dict(), read_metrics(folder.path)))
    (whole, lines), (pieces, lines_of_pieces) = results
    for name, tensor in whole.items():
        torch.testing.assert_close(pieces[name], tensor, rtol=1e-9, atol=1e-10)
    assert len(lines) == 30
    for one, other in zip(lines, lines_of_pieces, strict=True):
        assert one == pytest.approx(other, rel=1e-9)


def test_the_average_is_exponential(tmp_path):
    path = []
    config = replace(CONFIG, steps=5)
    averaged = run(tmp_path / "a", config).state_dict()

    def spy(m, x):
        path.append(m[0].weight.detach().clone())
        return loss(m, x)

    last = train(
        model(),
        spy,
        batches,
        replace(config, ema=None),
        RunFolder(tmp_path / "b", {}),
        device="cpu",
    )
    after = [*path[1:], last[0].weight.detach()]
    mean = after[0]
    for weight in after[1:]:
        mean = 0.9 * mean + 0.1 * weight
    torch.testing.assert_close(averaged["0.weight"], mean, atol=1e-6, rtol=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(FloatingPointError, match="the loss is nan at step 0"):
        train(
            model(),
            lambda m, x: loss(m, x * torch.nan),
            batches,
            CONFIG,
            RunFolder(tmp_path, {}),
            device="cpu",
        )


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_gradient_that_is_not_finite_is_not_stepped(tmp_path, accumulate):
    """√x at 0 is finite, and its slope is not; the checkpoint before stays whole."""

    def root(m, x):
        return m(x).sum().square().sqrt()

    def ones(step):
        for number in itertools.count(step * accumulate):
            yield torch.zeros(8, 4) if number // accumulate == 3 else torch.ones(8, 4)

    plain = nn.Linear(4, 4, bias=False)
    config = replace(CONFIG, accumulate=accumulate, save_every=0.0, ema=None)
    for _ in range(2):
        with pytest.raises(FloatingPointError, match="norm of the gradient is nan at step 3"):
            train(plain, root, ones, config, RunFolder(tmp_path, {}), device="cpu")
        saved = load_file(tmp_path / "resume.safetensors")
        assert saved["model.weight"].isfinite().all()
        assert plain.weight.isfinite().all()


def test_data_that_ends_early_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="the data ended before step 30"):
        train(model(), loss, lambda step: [TARGET], CONFIG, RunFolder(tmp_path, {}), device="cpu")


@pytest.mark.parametrize(
    "name", ["steps", "batch_size", "accumulate", "log_every", "validate_every"]
)
def test_numbers_that_train_nothing_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0; expected 1 or more"):
        replace(CONFIG, **{name: 0})
