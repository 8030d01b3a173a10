import math

import pytest
import torch
from torch import nn

from appulse.device import WIDE, fast_products
from appulse.transformer import MANY, Attention, Block, ReadBlock, attend, sincos_position


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_attention_equals_the_definition_written_out():
    query, key, value = torch.randn(3, 2, 3, 5, 4, dtype=torch.float64)
    expected = torch.zeros_like(query)
    for b in range(2):
        for h in range(3):
            for q in range(5):
                scores = [math.exp(query[b, h, q] @ key[b, h, t] / 2) for t in range(5)]
                for t in range(5):
                    expected[b, h, q] += scores[t] / sum(scores) * value[b, h, t]
    torch.testing.assert_close(attend(query, key, value), expected)


def test_the_bfloat16_path_agrees_with_the_fused_one():
    query, key, value = torch.randn(3, 2, 4, 60, 32)
    plain = attend(query, key, value)
    short = attend(query.bfloat16(), key.bfloat16(), value.bfloat16())
    torch.testing.assert_close(short.float(), plain, atol=0.02, rtol=0.02)


def test_attention_equals_torchs_own_module():
    ours, theirs = (
        Attention(12, 3, 8),
        nn.MultiheadAttention(12, 3, kdim=8, vdim=8, batch_first=True),
    )
    x, tokens = torch.randn(2, 4, 12), torch.randn(2, 7, 8)
    key, value = ours.key_value.weight.chunk(2)
    weights = {"q_proj_weight": ours.query.weight, "k_proj_weight": key, "v_proj_weight": value}
    biases = torch.cat([ours.query.bias, ours.key_value.bias])
    projection = {"out_proj.weight": ours.project.weight, "out_proj.bias": ours.project.bias}
    theirs.load_state_dict({**weights, "in_proj_bias": biases, **projection})
    mixed, attention = theirs(x, tokens, tokens, average_attn_weights=False)
    torch.testing.assert_close(ours(x, tokens), mixed)
    torch.testing.assert_close(ours.weights(x, tokens), attention)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("tokens", [60, MANY])
def test_attention_is_the_same_with_fast_products(tokens, causal):
    query, key, value = torch.randn(3, 2, 4, tokens, 32)
    plain = attend(query, key, value, causal)
    with fast_products(torch.nn.Linear(WIDE, WIDE)):
        torch.testing.assert_close(attend(query, key, value, causal), plain, atol=1e-6, rtol=1e-5)


def test_a_block_does_not_care_about_the_order_of_tokens():
    block, x, order = Block(16, 4), torch.randn(2, 6, 16), torch.tensor([5, 0, 3, 1, 4, 2])
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order], atol=1e-6, rtol=1e-5)


def test_a_new_read_block_passes_its_queries_whatever_the_tokens():
    block, x = ReadBlock(16, 4, 8), torch.randn(2, 16)
    torch.testing.assert_close(block(x, torch.randn(2, 5, 8)), block(x, torch.randn(2, 5, 8)))
    nn.init.normal_(block.attention.project.weight)
    assert not torch.allclose(block(x, torch.randn(2, 5, 8)), block(x, torch.randn(2, 5, 8)))


@pytest.mark.parametrize("rows", [(), (1,), (3,)])
def test_reading_with_one_query_is_attention_without_its_keys_and_values(rows):
    attention = Attention(16, 4, 8).double()
    query = torch.randn(*rows, 16, dtype=torch.float64)
    tokens = torch.randn(3, 5, 8, dtype=torch.float64, requires_grad=True)
    found = attention.read(query, tokens)
    expected = attention(query.expand(3, 16)[:, None], tokens)[:, 0]
    torch.testing.assert_close(found, expected)
    factors = torch.randn(3, 16, dtype=torch.float64)
    learn = [tokens, *attention.parameters()]
    gradients, wanted = (torch.autograd.grad((x * factors).sum(), learn) for x in (found, expected))
    torch.testing.assert_close(gradients, wanted)


def test_positions_differ_by_distance_alone():
    x = torch.tensor([0.0, 1.0, 10.0, 11.0])
    p = sincos_position(x, 32, 0.5, 100.0).double()
    product = (p @ p.T).tolist()
    assert product[0][1] == pytest.approx(product[2][3], rel=1e-5)
    assert product[0][0] == pytest.approx(16)
    assert product[0][1] < 15


def test_positions_have_the_wavelengths_asked_for():
    p = sincos_position(torch.tensor([0.25, 25.0]), 4, 1.0, 100.0)
    torch.testing.assert_close(p[0, 0], torch.tensor(1.0))  # a quarter of the shortest
    torch.testing.assert_close(p[1, 1], torch.tensor(1.0))  # a quarter of the longest


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="width 10 is not a multiple of heads 4"):
        Attention(10, 4)
