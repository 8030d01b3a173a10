from itertools import pairwise

import pytest

from appulse.training.schedules import CosineSchedule, warmup_cosine


def test_the_learning_rate_rises_and_falls():
    rates = [warmup_cosine(step, 100, 10) for step in range(120)]
    assert rates[:11] == pytest.approx([0.1 * i for i in range(11)])
    assert rates[55] == pytest.approx(0.5)
    assert all(a > b for a, b in pairwise(rates[10:101]))
    assert rates[100:] == pytest.approx([0.0] * 20)
    assert warmup_cosine(500, 100, 10, floor=0.2) == pytest.approx(0.2)


def test_a_cosine_schedule_goes_from_start_to_base_to_final():
    schedule = CosineSchedule(base=1.0, final=3.0, steps=51, warmup=11, start=0.5)
    assert [schedule(i) for i in range(11)] == pytest.approx([0.5 + 0.05 * i for i in range(11)])
    assert schedule(11) == pytest.approx(1.0)
    assert schedule(31) == pytest.approx(2.0)
    assert schedule(51) == schedule(10**6) == 3.0
