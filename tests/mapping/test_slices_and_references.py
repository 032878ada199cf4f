"""Digits and reference columns: what is lost with a cell, and what the others make up for."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.mapping import BitSlices, Levels, ReferenceColumn, find_scheme


def levels_of(count: int) -> Levels:
    return Levels(count, 2e-6, 2e-6 + 5e-6 * (count - 1), 1e-6)


@pytest.mark.parametrize(("count", "slices"), [(2, 2), (2, 3), (4, 2), (3, 2)])
def test_the_remaining_digits_are_the_best_there_are(count: int, slices: int) -> None:
    """Against all the digits that the good cells can hold, with cells stuck on and off levels."""
    scheme, levels, random = BitSlices(slices), levels_of(count), np.random.default_rng(count)
    targets = scheme.encode(random.uniform(-1, 1, (30, 2)), levels)
    faulty = random.random(targets.shape) < 0.35
    stuck = random.uniform(0, 1.3 * levels.highest, targets.shape)
    measured = np.where(faulty, stuck, targets)
    moved = scheme.compensated(targets, measured, faulty, levels)
    assert np.isin(moved, levels.siemens).all()
    np.testing.assert_array_equal(moved[faulty], targets[faulty])
    wanted = scheme.decode(targets, levels)
    error = np.abs(scheme.decode(np.where(faulty, measured, moved), levels) - wanted)
    width = scheme.columns_per_weight
    for row, column in np.ndindex(wanted.shape):
        here = slice(column * width, (column + 1) * width)
        broken, held = faulty[row, here], measured[row, here]
        choices = [[g] if b else levels.siemens for b, g in zip(broken, held, strict=True)]
        every = np.array(list(itertools.product(*choices)))
        best = np.abs(scheme.decode(every, levels) - wanted[row, column]).min()
        assert error[row, column] == pytest.approx(best, abs=1e-9)


def test_a_weight_without_a_faulty_cell_keeps_its_digits() -> None:
    scheme, levels = BitSlices(3), levels_of(4)
    targets = scheme.encode(np.random.default_rng(0).uniform(-1, 1, (5, 4)), levels)
    none = np.zeros(targets.shape, dtype=bool)
    assert np.array_equal(scheme.compensated(targets, targets + 1e-6, none, levels), targets)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 16), st.integers(2, 5), st.integers(0, 99))
def test_digits_are_finer_than_levels(count: int, slices: int, seed: int) -> None:
    scheme, levels = BitSlices(slices), levels_of(count)
    weights = np.random.default_rng(seed).uniform(-1, 1, (4, 3))
    error = np.abs(scheme.decode(scheme.encode(weights, levels), levels) - weights).max()
    assert error <= 0.5 / (count**slices - 1) * (1 + 1e-6)
    assert np.all(scheme.encode(np.zeros((2, 2)), levels) == levels.lowest)


def test_digits_that_mean_nothing_are_refused() -> None:
    assert find_scheme("bit_slices", 3).columns_per_weight == 6
    with pytest.raises(ValueError, match="at least 2, or take the scheme two_column"):
        find_scheme("bit_slices", 1)
    with pytest.raises(ValueError, match="'one_column' has no slices; take the scheme 'bit_sl"):
        find_scheme("one_column", 2)
    with pytest.raises(ValueError, match="4 digits of 65 levels are finer than 24 bits"):
        BitSlices(4).step(Levels(65, 0.0, 65e-6, 0.1e-6))


@pytest.mark.parametrize(("count", "references"), [(2, 2), (5, 1), (10, 2)])
def test_what_is_common_to_a_row_cancels_and_a_bad_reference_is_followed(
    count: int, references: int
) -> None:
    scheme, levels = ReferenceColumn(), levels_of(count)
    weights = np.random.default_rng(1).uniform(-0.5, 0.5, (6, 4))
    targets = scheme.encode(weights, levels)
    assert targets.shape == (6, 4 + references)
    assert targets[:, 4:].mean() == pytest.approx(levels.middle)
    wanted = scheme.decode(targets, levels)
    drift = np.arange(6)[:, None] * 1e-6
    np.testing.assert_allclose(scheme.decode(targets + drift, levels), wanted, atol=1e-9)
    faulty, measured = np.zeros(targets.shape, dtype=bool), targets.copy()
    faulty[2, 4], faulty[3, 0] = True, True
    measured[2, 4] += 0.2 * levels.step
    measured[3, 0] = levels.highest
    moved = scheme.compensated(targets, measured, faulty, levels)
    follows = targets + 0.2 * levels.step / references
    inside = np.clip(follows, levels.lowest, levels.highest)
    np.testing.assert_allclose(moved[2, :4], inside[2, :4])
    np.testing.assert_array_equal(np.delete(moved, 2, axis=0), np.delete(targets, 2, axis=0))
    if count > 2:  # of two levels a cell at the highest has nowhere to go
        held = scheme.decode(np.where(faulty, measured, moved), levels)
        np.testing.assert_allclose(held[2], wanted[2], atol=1e-9)
    with pytest.raises(ValueError, match="with the reference last"):
        scheme.decode(targets[:, :references], levels)
