"""Row tables: rows permuted or shared mean what they would mean with cells of their own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.device import ReadLimits, Spec
from rramhil.mapping import SCHEMES, Levels, Scheme, TwoColumn, map_network
from rramhil.mapping.row_table import fed, shots

TEN = Levels(10, 1e-6, 40e-6, 1e-6)
READING = ReadLimits(lowest=0.0, highest=100e-6, lsb=1e-8, volts=0.2, seconds=1e-6)
DIE = Spec("test", "T-1", 40, 16, 16, READING, pulses={})


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """Physical rows 0..k - 1, each named at least once, in any order."""
    physical = draw(st.integers(1, 20))
    more = draw(st.lists(st.integers(0, physical - 1), max_size=20))
    return np.array(draw(st.permutations([*range(physical), *more])))


@settings(deadline=None, max_examples=60)
@given(tables(), st.sampled_from(list(SCHEMES.values())), st.integers(0, 99))
def test_readback_through_a_table_is_that_of_rows_of_their_own(
    table: np.ndarray, scheme: Scheme, seed: int
) -> None:
    random = np.random.default_rng(seed)
    held = random.normal(size=(table.max() + 1, 5))
    weights = held[table]
    mapped = map_network({"a": weights}, DIE, TEN, scheme, percentile=100, rows={"a": table})
    plain = map_network({"a": held}, DIE, TEN, scheme, percentile=100)
    layer = mapped.layers[0]
    np.testing.assert_array_equal(mapped.siemens, plain.siemens)
    assert layer.shape == weights.shape
    assert layer.shares_rows == (table.size > held.shape[0])
    assert mapped.weight_count == weights.size
    readings = mapped.siemens + random.normal(scale=1e-6, size=mapped.cells.size)
    expected = plain.weights_from(readings)["a"][table]
    np.testing.assert_array_equal(mapped.weights_from(readings)["a"], expected)
    limit = layer.scale * scheme.step(TEN) / 2 * (1 + 1e-9)
    assert (np.abs(mapped.ideal_weights()["a"] - weights) <= limit).all()
    np.testing.assert_array_equal(layer.targets(weights), layer.siemens)


@settings(deadline=None, max_examples=60)
@given(tables(), st.integers(0, 99))
def test_the_cells_of_a_weight_serve_all_that_share_them(table: np.ndarray, seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = random.normal(size=(table.max() + 1, 3))[table]
    mapped = map_network({"a": weights}, DIE, TEN, TwoColumn(), rows={"a": table})
    entry = int(random.integers(weights.size))
    chosen = mapped.cells_of({"a": np.array([entry])})
    assert chosen.sum() == 2
    moved = mapped.siemens + chosen * 1e-6 * np.arange(chosen.size)
    changed = mapped.weights_from(moved)["a"] != mapped.ideal_weights()["a"]
    marked = np.zeros(weights.shape, dtype=bool)
    marked.flat[entry] = True
    np.testing.assert_array_equal(changed, mapped.layers[0].sharing(marked))
    expected = (table == table[entry // 3])[:, None] & (np.arange(3) == entry % 3)
    np.testing.assert_array_equal(changed, expected)


def test_other_weights_are_tied_before_they_are_written() -> None:
    weights = np.array([[1.0, -1.0], [0.5, 0.0], [1.0, -1.0]])
    layer = map_network(
        {"a": weights}, DIE, TEN, TwoColumn(), percentile=100, rows={"a": [1, 0, 1]}
    ).layers[0]
    other = np.add(weights, [[0.0, 0.2], [0.0, 0.0], [-0.4, 0.0]])
    with pytest.raises(ValueError, match="rows 0 and 2 of layer a share a physical row"):
        layer.targets(other)
    np.testing.assert_allclose(layer.tied(other), [[0.8, -0.9], [0.5, 0.0], [0.8, -0.9]])
    held = layer.weights_from(layer.targets(layer.tied(other)))
    assert np.abs(held - layer.tied(other)).max() <= TwoColumn().step(TEN) / 2 + 1e-12
    with pytest.raises(ValueError, match=r"has shape \(3, 2\)"):
        layer.tied(np.ones((2, 2)))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"a": [0, 1]}, "one physical row for each of its 3 rows"),
        ({"a": [0.0, 1.0, 2.0]}, "float64"),
        ({"a": [0, 2, 2]}, "leaves out row 1; number the physical rows from 0"),
        ({"a": [0, -1, 1]}, "names row -1"),
        ({"a": [0, 1, 1]}, "rows 1 and 2 of layer a share a physical row.*rows of their own"),
        ({"b": [0, 1, 2]}, "no layer 'b'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(rows: dict[str, list[int]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        map_network({"a": np.arange(9.0).reshape(3, 3)}, DIE, TEN, TwoColumn(), rows=rows)


@settings(deadline=None, max_examples=80)
@given(tables(), st.integers(1, 15), st.integers(0, 240), st.integers(0, 99))
def test_shots_feed_every_row_once_and_no_code_overflows(
    table: np.ndarray, largest: int, above: int, seed: int
) -> None:
    highest = min(largest + above, 255)
    parts = shots(table, largest, highest)
    rows = np.concatenate([rows for shot in parts for rows in shot])
    assert sorted(rows.tolist()) == list(range(table.size))
    most = np.bincount(table).max()
    assert len(parts) == -(-most // (highest // largest))
    full = np.full((2, table.size), largest, dtype=np.uint8)
    assert max(int(fed(full, table, shot).max()) for shot in parts) <= highest
    codes = np.random.default_rng(seed).integers(0, largest + 1, (4, table.size))
    total = sum(fed(codes.astype(np.uint8), table, shot).astype(int) for shot in parts)
    expected = np.zeros((4, table.max() + 1), dtype=int)
    np.add.at(expected.T, table, codes.T)
    np.testing.assert_array_equal(total, expected)


def test_sums_beyond_a_byte_are_kept_where_the_macro_takes_them() -> None:
    codes = np.full((1, 2), 200, dtype=np.uint8)
    (shot,) = shots(np.array([0, 0]), 255, 1023)
    assert fed(codes, np.array([0, 0]), shot).tolist() == [[400]]


def test_a_code_that_is_too_large_alone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"codes up to 7 do not fit.*1 to 3"):
        shots(np.array([0, 0]), 7, 3)
