"""The baselines against upstream's numbers."""

import json

import numpy as np
import torch
from torch import nn

from appulse.evaluate.conv_att import ConvAtt, ConvAttConfig
from appulse.evaluate.resnet import ResNet, ResNetConfig
from appulse.evaluate.spline_flow import SplineFlow
from appulse.tasks.network import mlp
from appulse.tasks.probes import KNNProbe

from .conftest import HERE, assert_parity, made_from_its_key


def test_resnet18(golden):
    made = golden("resnet18_det")
    shapes = json.loads((HERE / "resnet18_det.json").read_text())["keys"]
    state = {
        key.removeprefix("resnet."): made_from_its_key(f"resnet18.{key}", shape)
        for key, shape in shapes.items()
        if not key.endswith("num_batches_tracked")
    }
    net = ResNet(ResNetConfig(), outputs=4)
    absent = net.load_state_dict(state, strict=False)
    assert not absent.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in absent.missing_keys)
    assert sum(p.numel() for p in net.parameters()) == 11_178_564
    assert_parity(net.eval()(made.tensors["image"]), made.tensors["out"])


def test_conv_att(golden):
    made = golden("conv_att_spectrum_encoder")
    net = ConvAtt(ConvAttConfig(), outputs=5)
    net.load_state_dict({conv_att_name(key): tensor for key, tensor in made.state.items()})
    flux = made.tensors["spectrum"].requires_grad_()
    out = net(flux[:, None], torch.zeros(len(flux), 0))
    assert_parity(out, made.tensors["out"])
    out.square().mean().backward()
    assert_parity(flux.grad, made.tensors["grad.spectrum"], 1e-4)
    assert_parity(net.convs[0][0].weight.grad, made.tensors["grad.conv1.0.weight"], 1e-4)


def conv_att_name(key):
    """Upstream's name as ours: convolutions count from 0, and no dropout stands in the MLP."""
    part, layer, kind = key.split(".")
    if part == "mlp":
        return f"mlp.{int(layer) - int(layer) // 3}.{kind}"
    return f"convs.{int(part[-1]) - 1}.{layer}.{kind}"


def test_spline_flow(golden):
    made = golden("conditional_flow")
    flow = SplineFlow(context=16, parameters=4, hidden=(20, 20, 20))
    flow.load_state_dict({spline_name(key): tensor for key, tensor in made.state.items()})
    theirs = made.tensors
    density = flow(theirs["context"])
    log_prob = density.log_prob(theirs["y"])
    assert_parity(log_prob, theirs["log_prob"])
    assert_parity(-log_prob.mean()[None], theirs["nll_mean"])
    assert_parity(density.transform(theirs["noise"]), theirs["sample"])


def spline_name(key):
    spline, _, _, layer, kind = key.split(".")
    return f"nets.{spline}.{2 * int(layer)}.{kind}"


def test_zero_shot_knn(golden):
    """Where a galaxy is among those learned from, upstream takes its label, and so do we."""
    made = {name: tensor.numpy() for name, tensor in golden("zero_shot_knn").tensors.items()}
    for y, expected in ((made["y_train"], made["pred"]), (made["y_train"][:, :1], made["pred_1d"])):
        probe = KNNProbe(made["X_train"], y)
        assert set(probe.neighbours) == {64}
        np.testing.assert_allclose(
            probe.predict(made["X_test"]), expected.reshape(len(expected), -1), rtol=1e-4, atol=1e-5
        )


def test_mlps(golden):
    """Dropout does nothing here, and has no name among ours."""
    made = golden("mlps")
    x = made.tensors["x"]
    few_shot = upstreams(made.state, "few_shot.", [16, 64, 64, 3])
    assert_parity(few_shot(x), made.tensors["few_shot_out"])
    photometry = upstreams(made.state, "photometry.", [3, 64, 64, 4])
    assert_parity(photometry(x[:, :3]), made.tensors["photometry_out"])
    morphology = upstreams(made.state, "morphology.layers.", [16, 24, 24, 24, 3])
    assert_parity(morphology(x).softmax(1), made.tensors["morphology_out"])


def upstreams(state, prefix, sizes):
    net = mlp(sizes, nn.ReLU)
    theirs = {key.removeprefix(prefix): t for key, t in state.items() if key.startswith(prefix)}
    names = {key: f"{2 * int(key.split('.')[0]) // 3}.{key.split('.')[1]}" for key in theirs}
    net.load_state_dict({names[key]: tensor for key, tensor in theirs.items()})
    return net
