import pytest
import torch

from appulse.inference.estimator import EstimatorConfig
from appulse.inference.fitting import ALONE, WHOLE, FitConfig, _subset, dropout_for, steps_for


def test_rows_see_all_their_evidence_or_one_block_or_a_part_and_never_nothing():
    torch.manual_seed(0)
    present = torch.ones(20_000, 3, dtype=torch.bool)
    count = _subset(present).sum(1)
    rest = 1 - WHOLE - ALONE  # each block by a coin, but one at least: 4/8 one, 3/8 two, 1/8 three
    for blocks, share in ((0, 0), (1, ALONE + rest / 2), (2, 3 * rest / 8), (3, WHOLE + rest / 8)):
        assert (count == blocks).float().mean().item() == pytest.approx(share, abs=0.01)


def test_what_lacks_stays_away_and_each_block_is_alone_as_often():
    torch.manual_seed(0)
    present = torch.tensor([[True, False, True]]).expand(20_000, 3)
    kept = _subset(present)
    assert not kept[:, 1].any()
    assert kept.any(1).all()
    alone = kept[kept.sum(1) == 1].float().mean(0)
    assert alone.tolist() == pytest.approx([0.5, 0.0, 0.5], abs=0.02)


@pytest.mark.parametrize(
    ("rows", "config", "expected"),
    [
        (3000, FitConfig(), 60 * 3000**0.5),
        (3000, FitConfig(passes=150.0), 150 * 3000 / 256),
        (40_000, FitConfig(passes=100.0, batch_size=250), 16_000),
        (100, FitConfig(passes=2.0), 500),
        (10**6, FitConfig(), 20_000),
        (10**6, FitConfig(passes=10.0), 20_000),
        (10**6, FitConfig(steps=7, passes=10.0), 7),
    ],
)
def test_steps_follow_the_rows_within_bounds(rows, config, expected):
    assert steps_for(rows, config) == int(expected)


@pytest.mark.parametrize(("rows", "share"), [(50, 0.1), (1000, 0.1), (3162, 0.05), (50_000, 0.0)])
def test_few_rows_drop_more_of_the_context(rows, share):
    assert dropout_for(rows, EstimatorConfig()) == pytest.approx(share, abs=1e-4)
    assert dropout_for(rows, EstimatorConfig(dropout=0.3)) == 0.3
