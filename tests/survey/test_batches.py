import threading
import time
from itertools import count, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appulse.survey.batches import READERS, BatchOrder, read_ahead

ROWS = np.arange(100, 123)


@given(batch_size=st.integers(1, 23), seed=st.integers(0, 100))
def test_an_epoch_holds_each_row_once(batch_size: int, seed: int):
    order = BatchOrder(ROWS, batch_size, seed)
    batches = list(order)
    assert len(batches) == order.steps_per_epoch
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}
    assert sorted(np.concatenate(batches)) == ROWS.tolist()


@given(
    batch_size=st.integers(1, 23),
    start=st.integers(0, 60),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
)
def test_any_step_is_reached_without_those_before(batch_size, start, drop_last, shuffle):
    order = {"seed": 5, "shuffle": shuffle, "drop_last": drop_last, "epochs": None}
    whole = list(islice(BatchOrder(ROWS, batch_size, **order), start + 10))
    resumed = islice(BatchOrder(ROWS, batch_size, **order, start=start), 10)
    for expected, step in zip(whole[start:], resumed, strict=True):
        np.testing.assert_array_equal(step, expected)


@given(
    ranks=st.integers(1, 3),
    pieces=st.integers(1, 3),
    size=st.integers(1, 2),
    start=st.integers(0, 5),
)
def test_ranks_and_pieces_share_each_step(ranks, pieces, size, start):
    options = {"seed": 5, "start": start, "epochs": None, "drop_last": True}
    batch = ranks * pieces * size
    whole = islice(BatchOrder(ROWS, batch, **options), 3)
    shares = [
        list(islice(BatchOrder(ROWS, batch, **options, rank=i, ranks=ranks, pieces=pieces), 99))
        for i in range(ranks)
    ]
    for step, rows in enumerate(whole):
        mine = [s for share in shares for s in share[step * pieces : (step + 1) * pieces]]
        assert {len(share) for share in mine} == {size}
        np.testing.assert_array_equal(np.concatenate(mine), rows)


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match=r"6 rows cannot be shared by 2 ranks in 2 pieces"):
        BatchOrder(ROWS, 6, ranks=2, pieces=2)


def test_epochs_differ_and_can_be_begun_with():
    first, second = (np.concatenate([*BatchOrder(ROWS, 4, epoch=epoch)]) for epoch in (0, 1))
    assert (first != second).any()
    both = np.concatenate([*BatchOrder(ROWS, 4, epochs=2)])
    np.testing.assert_array_equal(both, np.concatenate([first, second]))


def test_seeds_differ():
    one, two = (np.concatenate([*BatchOrder(ROWS, 4, seed=seed)]) for seed in (0, 1))
    assert (one != two).any()


def test_unshuffled_batches_keep_the_order():
    np.testing.assert_array_equal(np.concatenate([*BatchOrder(ROWS, 4, shuffle=False)]), ROWS)


@pytest.mark.parametrize(("rows", "batch_size"), [(ROWS[:0], 4), (ROWS[:3], 4), (ROWS, 0)])
def test_refuses_an_epoch_without_steps(rows: np.ndarray, batch_size: int):
    with pytest.raises(ValueError, match="do not fill a batch"):
        BatchOrder(rows, batch_size, drop_last=True)


def some_rows(count):
    return [np.arange(i, i + 3) for i in range(count)]


@given(st.integers(0, 9))
def test_reading_ahead_changes_no_batch(count):
    def read(rows):
        time.sleep(0.002 * (rows[0] % 3))  # not in the order in which they are wanted
        return 2 * rows

    batches = list(read_ahead(read, some_rows(count)))
    np.testing.assert_array_equal(batches, [2 * rows for rows in some_rows(count)])


def test_threads_are_some_batches_ahead_and_end_with_the_reader():
    seen, readers = [], set()

    def read(rows):
        seen.append(rows[0])
        readers.add(threading.current_thread())
        return rows[0]

    batches = read_ahead(read, (np.array([i]) for i in count()))
    for i in range(5):
        assert next(batches) == i
        while len(seen) < i + 1 + READERS:
            time.sleep(0.001)
    batches.close()
    assert sorted(seen) == list(range(5 + READERS))
    assert threading.current_thread() not in readers
    assert not any(reader.is_alive() for reader in readers)


def test_what_goes_wrong_while_reading_is_raised_in_its_turn():
    def read(rows):
        if rows[0] == 2:
            raise OSError("the disk is gone")
        return rows[0]

    batches = read_ahead(read, some_rows(9))
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
