"""Row rename: what shares a row is equal, and merging costs as little as it says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.mapping.rename import equal_rows, merged_rows

seeds = st.integers(0, 2**32 - 1)


def binary(rows: int, columns: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    weights = random.choice([-1.0, 1.0], size=(rows, columns))
    return weights, random.integers(0, 4, size=(200, rows)) * (random.random(rows) < 0.7)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 4), seeds)
def test_equal_rows_share_one_and_others_do_not(rows: int, columns: int, seed: int) -> None:
    weights, _ = binary(rows, columns, seed)
    found = equal_rows(weights)
    same = (weights[:, None] == weights[None]).all(2)
    np.testing.assert_array_equal(found.row_of[:, None] == found.row_of[None], same)
    np.testing.assert_array_equal(found.weights, weights)
    first = np.unique(found.row_of, return_index=True)[1]
    assert (np.diff(first) > 0).all()


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 30), st.integers(1, 6), seeds, st.data())
def test_merging_keeps_the_values_and_leaves_as_many_rows_as_asked(
    rows: int, columns: int, seed: int, data: st.DataObject
) -> None:
    weights, inputs = binary(rows, columns, seed)
    target = data.draw(st.integers(1, rows))
    found = merged_rows(weights, inputs, target)
    assert found.physical_rows == target
    assert set(np.unique(found.weights)) <= set(np.unique(weights))
    for row in range(target):
        assert len(np.unique(found.weights[found.row_of == row], axis=0)) == 1
    if target == rows:
        np.testing.assert_array_equal(found.weights, weights)


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(5, 20))
def test_the_error_and_the_shift_are_those_of_the_outputs(seed: int, target: int) -> None:
    weights, inputs = binary(20, 5, seed)
    found = merged_rows(weights, inputs, target)
    before, after = inputs @ weights, inputs @ found.weights + found.shift
    np.testing.assert_allclose((after - before).mean(0), 0, atol=1e-9)
    share = (after - before).var(0).sum() / before.var(0).sum()
    assert share == pytest.approx(found.error, rel=1e-3, abs=1e-5)


def test_merging_is_far_cheaper_than_joining_rows_at_random() -> None:
    weights, inputs = binary(60, 10, 3)
    found = merged_rows(weights, inputs, 33)
    random = np.random.default_rng(0)
    table = np.concatenate([np.arange(33), random.integers(33, size=27)])
    held = np.array([np.where(weights[table == row].sum(0) >= 0, 1, -1) for row in range(33)])
    change = inputs @ (held[table] - weights)
    assert found.error < 0.5 * change.var(0).sum() / (inputs @ weights).var(0).sum()


def test_rows_that_no_input_reaches_cost_nothing() -> None:
    weights, inputs = binary(12, 8, 5)
    inputs = inputs.copy()
    inputs[:, :4] = np.random.default_rng(0).integers(1, 4, size=(200, 4))
    inputs[:, 4:] = 0
    found = merged_rows(weights, inputs, 4)
    np.testing.assert_array_equal(found.weights[:4], weights[:4])
    assert found.error == pytest.approx(0, abs=1e-9)


def test_prices_of_the_table() -> None:
    weights, inputs = binary(84, 10, 1)
    found = merged_rows(weights, inputs, 46)
    assert found.saved == pytest.approx(0.452381, abs=1e-6)
    assert found.index_bits == 84 * 6
    assert found.input_bits(3) == (3 * np.bincount(found.row_of).max()).item().bit_length()
    assert equal_rows(np.arange(6.0).reshape(3, 2)).index_bits == 0


def test_what_cannot_be_merged_is_refused() -> None:
    weights, inputs = binary(8, 3, 0)
    with pytest.raises(ValueError, match="8 rows cannot be merged to 9; give a number from 1 to 8"):
        merged_rows(weights, inputs, 9)
    with pytest.raises(ValueError, match="8 rows cannot be merged to 0"):
        merged_rows(weights, inputs, 0)
    with pytest.raises(ValueError, match="do not fit 8 rows"):
        merged_rows(weights, inputs[:, :7], 4)
    with pytest.raises(ValueError, match=r'at most 256.*set "equal"'):
        merged_rows(np.random.default_rng(0).normal(size=(40, 10)), np.ones((3, 40)), 4)
