import numpy as np
import pytest
import torch

from appulse.inference.context import ContextNetwork
from appulse.inference.evidence import Kind, gather


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def mixed(rng, rows=6):
    return {"image": rng.normal(size=(rows, 4)), "spectra": rng.normal(size=(rows, 3, 2))}


def network(kinds, dropout=0.0):
    torch.manual_seed(0)
    net = ContextNetwork(kinds, 16)
    net.drop(dropout)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net.eval().requires_grad_(False)


def test_blocks_become_what_they_look_like(rng):
    evidence = gather(mixed(rng))
    assert evidence.kinds == {"image": Kind(4, False), "spectra": Kind(2, True)}
    assert len(evidence) == 6
    assert evidence.present.all()


def test_rows_of_nan_and_empty_sets_lack_the_block(rng):
    context = {"image": rng.normal(size=(3, 4)), "spectra": [rng.normal(size=(2, 2))] * 3}
    context["image"][1] = np.nan
    context["spectra"][2] = np.empty((0, 2))
    assert gather(context).present.tolist() == [[True, True], [False, True], [True, False]]


def test_missing_blocks_are_told_apart_from_zeros(rng):
    context = mixed(rng)
    kinds = gather(context).kinds
    net = network(kinds)
    without = net(gather({"image": context["image"]}, kinds))
    zeros = net(gather(context | {"spectra": np.zeros((6, 3, 2))}, kinds))
    assert (without - zeros).abs().max() > 1e-3


def test_a_lacking_block_has_no_influence(rng):
    context = mixed(rng)
    kinds = gather(context).kinds
    net = network(kinds)
    whole = gather(context)
    hidden = whole.keep(torch.tensor([[True, False]]).expand(6, 2))
    torch.testing.assert_close(net(hidden), net(gather({"image": context["image"]}, kinds)))


def test_the_order_of_members_does_not_matter_but_their_number_does(rng):
    members = rng.normal(size=(1, 3, 2))
    net = network(gather(members).kinds)
    code = net(gather(members))
    torch.testing.assert_close(net(gather(members[:, [2, 0, 1]])), code)
    assert (net(gather(np.repeat(members, 2, axis=1))) - code).abs().max() > 1e-3


def test_padding_has_no_influence(rng):
    short, long = rng.normal(size=(2, 2)), rng.normal(size=(5, 2))
    net = network({"context": Kind(2, True)})
    together = net(gather([short, long]))
    alone = torch.cat([net(gather([short])), net(gather([long]))])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({}, "no blocks"),
        (np.zeros((0, 3)), "no rows"),
        (np.zeros(3), r"shape \(3,\); expected \(observations, features\).*array\[None\]"),
        (np.array([[0.0, np.nan]]), r"context has 1 numbers that are NaN.*row 0"),
        (np.full((2, 2), np.nan), "4 numbers that are NaN"),
        ({"a": np.zeros((2, 1)), "b": np.zeros((3, 1))}, r"different numbers of rows: .*'b': 3"),
        ({"a": np.full((2, 2), np.nan)}, "2 of 2 observations have no evidence"),
        ([np.empty((0, 2)), np.ones((1, 2))], r"1 of 2 observations.*empty set.*row 0"),
        ([np.ones(3), np.ones(3)], r"list of shapes.*give vectors as one array"),
        ([np.ones((1, 2)), np.ones((1, 3))], "share their features"),
        ({"a": np.array([[1.0, np.nan]])}, "NaN"),
    ],
)
def test_bad_contexts_are_refused(context, message):
    with pytest.raises(ValueError, match=message):
        gather(context)


def test_other_evidence_than_in_training_is_refused(rng):
    kinds = gather(mixed(rng)).kinds
    with pytest.raises(ValueError, match=r"no evidence named 'radio'.*\['image', 'spectra'\]"):
        gather({"radio": np.zeros((1, 4))}, kinds)
    with pytest.raises(ValueError, match=r"vectors of 5 features; in training .* of 4 features"):
        gather({"image": np.zeros((1, 5))}, kinds)
    with pytest.raises(ValueError, match=r"holds vectors of 2 features; .* sets of vectors of 2"):
        gather({"spectra": np.zeros((1, 2))}, kinds)


def test_dropout_is_for_training_alone(rng):
    evidence = gather(mixed(rng))
    plain, dropping = network(evidence.kinds), network(evidence.kinds, dropout=0.5)
    assert torch.equal(plain(evidence), dropping(evidence))
    assert not torch.allclose(plain(evidence), dropping.train()(evidence))
    assert torch.equal(plain(evidence), plain.train()(evidence))
