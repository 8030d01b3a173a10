import torch

from appulse.digest import digest, digest_of


def test_digests_tell_values_names_shapes_and_types_apart():
    tensors = [
        {"a": torch.zeros(4)},
        {"b": torch.zeros(4)},
        {"a": torch.ones(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4, dtype=torch.int32)},
    ]
    assert len({digest(t) for t in tensors}) == 5


def test_the_order_of_names_does_not_matter():
    x, y = torch.zeros(2), torch.ones(3)
    assert digest({"x": x, "y": y}) == digest({"y": y, "x": x})
    assert digest_of({"x": 1, "y": [2]}) == digest_of({"y": [2], "x": 1})
    assert digest_of({"x": 1, "y": [2]}) != digest_of({"x": 1, "y": [3]})
