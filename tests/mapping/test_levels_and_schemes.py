"""Levels and schemes: what goes in comes out, within half a level, and refusals are clear."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rramhil.mapping import (
    SCHEMES,
    Differential,
    Levels,
    OneColumn,
    Scheme,
    TwoColumn,
    filled,
    find_scheme,
)

TEN = Levels(10, 1e-6, 40e-6, 1e-6)

spans = st.builds(
    lambda count, lowest, span: Levels(count, lowest, lowest + span, span / (count - 1) / 4),
    st.integers(2, 64),
    st.floats(0, 20e-6),
    st.floats(5e-6, 200e-6),
)
schemes = st.sampled_from(list(SCHEMES.values()))
matrices = arrays(
    np.float64, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.floats(-1, 1)
)


@settings(deadline=None, max_examples=60)
@given(matrices, spans, schemes)
def test_decoding_an_encoded_weight_is_within_half_a_level(
    weights: np.ndarray, levels: Levels, scheme: Scheme
) -> None:
    back = scheme.decode(scheme.encode(weights, levels), levels)
    assert back.shape == weights.shape
    assert np.all(np.abs(back - weights) <= scheme.step(levels) / 2 * (1 + 1e-9) + 1e-12)


@settings(deadline=None, max_examples=60)
@given(matrices, spans, schemes)
def test_targets_are_levels_and_encoding_them_again_changes_nothing(
    weights: np.ndarray, levels: Levels, scheme: Scheme
) -> None:
    siemens = scheme.encode(weights, levels)
    assert siemens.shape == (len(weights), scheme.physical_columns(weights.shape[1], levels))
    assert np.isin(siemens, levels.siemens).all()
    again = scheme.encode(np.clip(scheme.decode(siemens, levels), -1, 1), levels)
    np.testing.assert_array_equal(again, siemens)


@settings(deadline=None, max_examples=60)
@given(matrices, spans, schemes, st.floats(-1, 1), st.integers(0, 10**6))
def test_decoding_is_linear_in_the_error_of_each_cell(
    weights: np.ndarray, levels: Levels, scheme: Scheme, share: float, place: int
) -> None:
    siemens = scheme.encode(weights, levels)
    column = place % siemens.shape[1]
    moved = siemens.copy()
    moved[:, column] += share * levels.span
    change = scheme.decode(moved, levels) - scheme.decode(siemens, levels)
    columns = weights.shape[1]
    served = scheme.column_of(columns, levels)[column]
    expected = share * levels.span * scheme.per_siemens(columns, levels)[column]
    mine = (np.arange(columns) == served) | (served < 0)
    np.testing.assert_allclose(change[:, mine], expected, atol=1e-9)
    np.testing.assert_allclose(change[:, ~mine], 0, atol=1e-12)


@settings(deadline=None, max_examples=80)
@given(matrices, spans, schemes, st.booleans(), st.integers(0, 10**6))
def test_a_stuck_cell_changes_its_weight_by_what_the_scheme_says(
    weights: np.ndarray, levels: Levels, scheme: Scheme, lrs: bool, place: int
) -> None:
    """Beside the levels as well: a cell may be stuck beyond them."""
    stuck = 1.2 * levels.highest if lrs else 0.5 * levels.lowest
    targets = scheme.encode(weights, levels)
    told = scheme.stuck_error(weights, levels, stuck)
    assert told.shape == targets.shape
    row, column = np.unravel_index(place % targets.size, targets.shape)
    held = targets.copy()
    held[row, column] = stuck
    change = scheme.decode(held, levels) - scheme.decode(targets, levels)
    served = scheme.column_of(weights.shape[1], levels)[column]
    mine = np.zeros(weights.shape, dtype=bool)
    mine[row, slice(None) if served < 0 else served] = True
    np.testing.assert_allclose(change[mine], told[row, column], atol=1e-9)
    np.testing.assert_allclose(change[~mine], 0, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(matrices, spans)
def test_pairs_err_as_derived(weights: np.ndarray, levels: Levels) -> None:
    """Yuan et al.: in two_column a zero loses nothing to HRS, in differential nothing to LRS;
    the other polarity turns it into a full weight. Elsewhere by what the cell still lacks."""
    held = TwoColumn().decode(TwoColumn().encode(weights, levels), levels)
    same = Differential().decode(Differential().encode(weights, levels), levels)
    np.testing.assert_allclose(same, held, atol=1e-12)
    up, down = np.maximum(held, 0), np.maximum(-held, 0)
    lrs = TwoColumn().stuck_error(weights, levels, levels.highest)
    hrs = TwoColumn().stuck_error(weights, levels, levels.lowest)
    np.testing.assert_allclose(lrs[:, 0::2], 1 - up, atol=1e-9)
    np.testing.assert_allclose(lrs[:, 1::2], down - 1, atol=1e-9)
    np.testing.assert_allclose(hrs[:, 0::2], -up, atol=1e-9)
    np.testing.assert_allclose(hrs[:, 1::2], down, atol=1e-9)
    lrs = Differential().stuck_error(weights, levels, levels.highest)
    hrs = Differential().stuck_error(weights, levels, levels.lowest)
    np.testing.assert_allclose(lrs[:, 0::2], down, atol=1e-9)
    np.testing.assert_allclose(lrs[:, 1::2], -up, atol=1e-9)
    np.testing.assert_allclose(hrs[:, 0::2], down - 1, atol=1e-9)
    np.testing.assert_allclose(hrs[:, 1::2], 1 - up, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(matrices, spans, schemes)
def test_the_current_is_that_of_the_targets(
    weights: np.ndarray, levels: Levels, scheme: Scheme
) -> None:
    each = scheme.mean_siemens(weights, levels)
    assert each * weights.size == pytest.approx(scheme.encode(weights, levels).sum())
    pair = TwoColumn().mean_siemens(weights, levels)
    both = Differential().mean_siemens(weights, levels)
    assert pair + both == pytest.approx(2 * (levels.lowest + levels.highest), rel=1e-6)


def test_zero_of_the_differential_pair_is_both_cells_high() -> None:
    assert np.all(Differential().encode(np.zeros((3, 2)), TEN) == TEN.highest)


def test_a_zero_weight_keeps_both_cells_of_a_pair_at_the_lowest_level() -> None:
    assert np.all(TwoColumn().encode(np.zeros((3, 2)), TEN) == TEN.lowest)


def test_one_column_holds_zero_exactly_only_with_an_odd_number_of_levels() -> None:
    scheme = OneColumn()
    odd = Levels(9, 1e-6, 40e-6, 1e-6)
    assert abs(scheme.decode(scheme.encode([[0.0]], odd), odd)[0, 0]) < 1e-12
    assert abs(scheme.decode(scheme.encode([[0.0]], TEN), TEN)[0, 0]) == pytest.approx(1 / 9)


def test_levels_know_their_windows_and_the_nearest_level() -> None:
    low, high = TEN.windows(TEN.siemens)
    np.testing.assert_allclose(high[:-1] < low[1:], True)
    assert low[0] == 0.0
    np.testing.assert_array_equal(TEN.nearest(TEN.siemens + 0.4 * TEN.step), np.arange(10))
    np.testing.assert_array_equal(TEN.nearest([0.0, 1.0]), [0, 9])


@pytest.mark.parametrize(
    ("count", "lowest", "highest", "tolerance", "says"),
    [
        (1, 1e-6, 40e-6, 1e-6, "at least 2"),
        (10, 40e-6, 1e-6, 1e-6, "no span"),
        (10, -1e-6, 40e-6, 1e-6, "no span"),
        (10, 1e-6, float("nan"), 1e-6, "no span"),
        (10, 1e-6, 40e-6, 3e-6, "at most half"),
        (10, 1e-6, 40e-6, 0.0, "more than 0 S"),
    ],
)
def test_levels_that_make_no_sense_are_refused(
    count: int, lowest: float, highest: float, tolerance: float, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        Levels(count, lowest, highest, tolerance)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_wrong_input_is_refused_with_a_remedy(scheme: Scheme) -> None:
    with pytest.raises(ValueError, match="divide by the scale"):
        scheme.encode([[1.01]], TEN)
    with pytest.raises(ValueError, match="divide by the scale"):
        scheme.encode([[np.nan]], TEN)
    with pytest.raises(ValueError, match="shape"):
        scheme.encode([0.5], TEN)
    with pytest.raises(ValueError, match="filled"):
        scheme.decode([[np.inf, *[1e-6] * 3]], TEN)
    with pytest.raises(ValueError, match="nearest level"):
        TEN.nearest(np.nan)


def test_half_a_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="2 x columns"):
        TwoColumn().decode(np.ones((2, 3)), TEN)


def test_bad_readings_are_filled_as_the_caller_says() -> None:
    np.testing.assert_array_equal(filled([np.inf, np.nan, 2e-6], 90e-6), [90e-6, 0.0, 2e-6])


def test_a_misspelt_scheme_names_the_nearest_one() -> None:
    assert find_scheme("one_column").name == "one_column"
    with pytest.raises(ValueError, match="did you mean 'two_column'"):
        find_scheme("two_colum")
