import pytest
import torch
import torch.nn.functional as F

from appulse.align.head import Head, HeadConfig

CONFIG = HeadConfig(width=12, depth=1, heads=3, embedding=5)


def head(config: HeadConfig = CONFIG, *, seed: int = 0) -> Head:
    """A head of 4 features and tokens 8 wide, in which no weight is 0."""
    torch.manual_seed(seed)
    made = Head(config, 4, 8).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return made


@pytest.fixture
def inputs():
    rng = torch.Generator().manual_seed(1)
    features = torch.randn(6, 4, generator=rng, dtype=torch.float64)
    return features, torch.randn(6, 7, 8, generator=rng, dtype=torch.float64)


def test_one_token_is_read_whole(inputs):
    """Attention over a single token is its value, so the head can be written out."""
    features, tokens = inputs
    tokens = tokens[:, :1]
    ours = head()
    ours.whiten.learn(3 * features + 1)
    (block,) = ours.blocks

    x = ours.whiten(features) @ ours.embed_features.weight.T + ours.embed_features.bias + ours.query
    token = F.layer_norm(tokens[:, 0], (8,), block.norm_tokens.weight, block.norm_tokens.bias)
    value = token @ block.attention.key_value.weight[12:].T + block.attention.key_value.bias[12:]
    x = x + value @ block.attention.project.weight.T + block.attention.project.bias
    x = x + block.mlp(F.layer_norm(x, (12,), block.norm_mlp.weight, block.norm_mlp.bias))
    x = F.layer_norm(x, (12,), ours.norm.weight, ours.norm.bias)
    expected = x @ ours.project.weight.T + ours.project.bias
    torch.testing.assert_close(ours(features, tokens), expected)


def test_a_batch_of_one_equals_its_row(inputs):
    features, tokens = inputs
    ours = head()
    whole = ours(features, tokens)
    for row in range(len(features)):
        rows = slice(row, row + 1)
        torch.testing.assert_close(ours(features[rows], tokens[rows]), whole[rows])


def test_the_order_of_tokens_does_not_matter_but_each_of_them_does(inputs):
    features, tokens = inputs
    ours = head(HeadConfig(width=12, depth=2, heads=3, embedding=5))
    whole = ours(features, tokens)
    torch.testing.assert_close(ours(features, tokens[:, torch.randperm(7)]), whole)
    for token in range(7):
        changed = tokens.clone()
        changed[:, token, 0] += 1
        assert (ours(features, changed) != whole).any(1).all()


def test_a_fresh_head_starts_from_the_features_alone(inputs):
    features, tokens = inputs
    fresh = Head(CONFIG, 4, 8).double()
    torch.testing.assert_close(fresh(features, tokens), fresh(features, 0 * tokens))
    assert (fresh(features, tokens) != fresh(2 * features, tokens)).any()


def test_the_units_of_features_travel_with_the_weights(inputs):
    ours, copy = head(), head(seed=5)
    ours.whiten.learn(inputs[0])
    copy.load_state_dict(ours.state_dict())
    torch.testing.assert_close(copy(*inputs), ours(*inputs))


def test_features_keep_their_digits_where_tokens_lose_theirs(inputs):
    """Colours are small differences of fluxes that bfloat16 would round."""
    features, ours = inputs[0].float(), head().float()
    with torch.autocast("cpu", torch.bfloat16):
        query = ours._query(features)
    torch.testing.assert_close(query, ours._query(features), rtol=0, atol=0)
