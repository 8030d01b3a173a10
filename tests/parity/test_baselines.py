"""The baselines against upstream's numbers."""

import json

import torch

from appulse.evaluate.conv_att import ConvAtt, ConvAttConfig
from appulse.evaluate.resnet import ResNet, ResNetConfig

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
