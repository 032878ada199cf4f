"""Placement around faults: valid, never worse than before, and best where the die is small."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.device import ReadLimits, Refused, Spec
from rramhil.mapping import Levels, MappedNetwork, OneColumn, Scheme, TwoColumn, map_network
from rramhil.mapping.placement import (
    Faults,
    Placement,
    Seen,
    expected_error,
    moved,
    place_around,
    placing,
)

LEVELS = Levels(5, 1e-6, 41e-6, 1e-6)
SCHEMES = st.sampled_from([TwoColumn(), OneColumn()])
SHAPES = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=3)


def die(tiles: int, rows: int, cols: int) -> Spec:
    reading = ReadLimits(lowest=0.0, highest=100e-6, lsb=1e-8, volts=0.2, seconds=1e-6)
    return Spec("test", "T-1", tiles, rows, cols, reading, pulses={})


def network(shapes: list[tuple[int, int]], spec: Spec, scheme: Scheme, seed: int) -> MappedNetwork:
    random = np.random.default_rng(seed)
    weights = {f"layer{i}": random.normal(size=shape) for i, shape in enumerate(shapes)}
    return map_network(weights, spec, LEVELS, scheme)


def faults(spec: Spec, seed: int, share: float, forbidden: float = 0.0) -> Faults:
    """Single cells and, as likely, whole word lines."""
    random = np.random.default_rng(seed)
    shape = (spec.tiles, spec.rows, spec.cols)
    struck = random.random(shape) < share
    struck |= random.random(shape[:2])[:, :, None] < share
    siemens = np.where(random.random(shape) < 0.5, 60e-6, 0.2e-6)
    barred = random.random(spec.size) < forbidden
    return Faults(np.where(struck, siemens, np.nan).reshape(-1), barred)


def by_hand(mapped: MappedNetwork, known: Faults, seen: dict[str, Seen], compensate: bool) -> float:
    """The expected error from what the cells would read, all weights at once."""
    stuck = known.stuck[mapped.cells]
    bad = np.isfinite(stuck)
    held = np.where(bad, stuck, mapped.siemens)
    if compensate:
        held = np.where(bad, stuck, mapped.compensated(held, bad))
    off, exact = mapped.weights_from(held), mapped.ideal_weights()
    total = 0.0
    for name, layer in seen.items():
        squares = (off[name] - exact[name]) ** 2
        total += float((layer.inputs @ squares).mean() / layer.variance)
    return total


def seen_by(mapped: MappedNetwork, seed: int) -> dict[str, Seen]:
    random = np.random.default_rng(seed)
    return {
        layer.name: Seen(random.uniform(0.1, 2, layer.shape[0]), float(random.uniform(0.5, 2)))
        for layer in mapped.layers
    }


@settings(deadline=None, max_examples=60)
@given(SHAPES, SCHEMES, st.integers(0, 999), st.sampled_from([0.0, 0.05, 0.2]), st.booleans())
def test_a_placement_is_a_permutation_and_never_worse_than_before(
    shapes: list[tuple[int, int]], scheme: Scheme, seed: int, share: float, compensate: bool
) -> None:
    spec = die(6, 10, 12)
    mapped, known = network(shapes, spec, scheme, seed), faults(spec, seed, share)
    seen = seen_by(mapped, seed)
    before = expected_error(mapped, spec, known, seen, compensate=compensate)
    found = place_around(mapped, spec, known, seen, compensate=compensate)
    after = moved(mapped, found.blocks, spec)  # refuses cells that two weights share
    assert found.error <= before.error
    assert before.error == pytest.approx(by_hand(mapped, known, seen, compensate))
    assert found.error == pytest.approx(by_hand(after, known, seen, compensate))
    assert found.stuck == np.count_nonzero(np.isfinite(known.stuck[after.cells]))
    for layer, own in zip(after.layers, mapped.layers, strict=True):
        np.testing.assert_array_equal(layer.ideal_weights(), own.ideal_weights())
        assert (layer.cells >= 0).all()
        if scheme.columns_per_weight == 2:
            np.testing.assert_array_equal(layer.cells[:, 0::2] + 1, layer.cells[:, 1::2])
    again = place_around(mapped, spec, known, seen, compensate=compensate)
    assert [b.lines.tolist() for b in again.blocks] == [b.lines.tolist() for b in found.blocks]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.integers(1, 3), SCHEMES, st.booleans())
def test_rows_of_one_column_are_placed_as_well_as_can_be(
    seed: int, rows: int, scheme: Scheme, compensate: bool
) -> None:
    spec = die(1, 4, scheme.columns_per_weight)
    mapped, known = network([(rows, 1)], spec, scheme, seed), faults(spec, seed, 0.4)
    seen = seen_by(mapped, seed)
    (block,) = mapped.layers[0].blocks
    best = min(
        by_hand(_on(mapped, spec, block, lines=lines), known, seen, compensate)
        for lines in permutations(range(4), rows)
    )
    found = place_around(mapped, spec, known, seen, compensate=compensate)
    assert found.error == pytest.approx(best)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.integers(1, 3), SCHEMES)
def test_columns_of_one_row_are_placed_as_well_as_can_be(
    seed: int, columns: int, scheme: Scheme
) -> None:
    together = scheme.columns_per_weight
    spec = die(1, 1, 4 * together)
    mapped, known = network([(1, columns)], spec, scheme, seed), faults(spec, seed, 0.3)
    seen = seen_by(mapped, seed)
    (block,) = mapped.layers[0].blocks
    best = min(
        by_hand(
            _on(
                mapped, spec, block, columns=[c * together + i for c in at for i in range(together)]
            ),
            known,
            seen,
            True,
        )
        for at in permutations(range(4), columns)
    )
    assert place_around(mapped, spec, known, seen).error == pytest.approx(best)


def _on(mapped, spec, block, **ends):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    arrays = {name: np.array(values, dtype=np.int64) for name, values in ends.items()}
    return moved(mapped, [replace(block, **arrays)], spec)


@settings(deadline=None, max_examples=60)
@given(SHAPES, st.integers(0, 999), st.sampled_from([0.002, 0.02, 0.2]))
def test_a_forbidden_cell_holds_no_weight_or_it_is_refused(
    shapes: list[tuple[int, int]], seed: int, share: float
) -> None:
    spec = die(4, 10, 12)
    mapped, known = network(shapes, spec, TwoColumn(), seed), faults(spec, seed, 0.05, share)
    try:
        found = place_around(mapped, spec, known)
    except Refused as error:
        refusal = str(error)
    else:
        cells = moved(mapped, found.blocks, spec).cells
        assert found.forbidden == 0
        assert not known.forbidden[cells].any()
        return
    assert "may not be used" in refusal
    assert known.forbidden[mapped.cells].any()


def test_bad_word_lines_are_spared_by_cutting_a_block_that_fills_a_tile() -> None:
    spec = die(2, 16, 8)
    mapped = network([(16, 4)], spec, TwoColumn(), 1)
    stuck = np.full((2, 16, 8), np.nan)
    stuck[:, [3, 7]] = 60e-6
    found = place_around(mapped, spec, Faults(stuck.reshape(-1), np.zeros(spec.size, bool)))
    assert found.cost == (0, 0.0)
    assert len(found.blocks) == 2
    assert {b.tile for b in found.blocks} == {0, 1}
    assert not any(np.isin(b.lines, [3, 7]).any() for b in found.blocks)


def test_a_block_goes_to_the_better_tile_and_stays_among_those_allowed() -> None:
    spec = die(3, 8, 8)
    mapped = network([(8, 4)], spec, TwoColumn(), 1)
    stuck = np.full((3, 8, 8), np.nan)
    stuck[0] = stuck[1, 4] = 60e-6
    known = Faults(stuck.reshape(-1), np.zeros(spec.size, bool))
    assert [b.tile for b in place_around(mapped, spec, known).blocks] == [2]
    partly = place_around(mapped, spec, known, tiles=[0, 1])
    assert partly.error > 0
    assert {b.tile for b in partly.blocks} == {1}


def test_rows_that_share_cells_count_with_the_inputs_of_both() -> None:
    spec, rows = die(1, 3, 2), np.array([0, 1, 0])
    weights = np.array([[1.0], [1.0], [1.0]])
    mapped = map_network({"a": weights}, spec, LEVELS, TwoColumn(), rows={"a": rows})
    stuck = np.full(spec.size, np.nan)
    stuck[:2] = stuck[2:4] = 1e-6  # two of three lines hold nothing
    known = Faults(stuck, np.zeros(spec.size, bool))
    seen = {"a": Seen(np.array([2.0, 1.5]), 1.0)}
    found = place_around(mapped, spec, known, seen)
    assert moved(mapped, found.blocks, spec).layers[0].blocks[0].lines[0] == 2
    assert found.error == pytest.approx(1.5)
    logical = {"a": Seen(np.array([1.0, 1.5, 1.0]), 1.0)}
    with pytest.raises(ValueError, match=r"shape \(3,\), but it has 2 physical rows"):
        expected_error(mapped, spec, known, logical)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 3), max_size=6), SCHEMES, st.integers(0, 999))
def test_the_error_of_a_placement_is_that_of_its_products(
    more: list[int], scheme: Scheme, seed: int
) -> None:
    """The mean square of what products of input vectors err, by their definition."""
    random = np.random.default_rng(seed)
    spec, rows = die(2, 6, 12), random.permutation([*range(4), *more])
    weights = random.normal(size=(4, 3))[rows]
    mapped = map_network({"a": weights}, spec, LEVELS, scheme, rows={"a": rows})
    known = faults(spec, seed, 0.2)
    inputs = random.uniform(0, 1, (50, rows.size))
    added = np.zeros((50, 4))
    np.add.at(added.T, rows, inputs.T)
    seen = {"a": Seen((added**2).mean(axis=0), 2.0)}
    found = expected_error(mapped, spec, known, seen, compensate=False)
    stuck = known.stuck[mapped.cells]
    held = np.where(np.isfinite(stuck), stuck, mapped.siemens)
    errors = mapped.weights_from(held)["a"] - mapped.ideal_weights()["a"]
    # Errors of different physical rows count as independent, so each is squared by itself.
    one_by_one = [(inputs[:, rows == row] @ errors[rows == row]) ** 2 for row in range(4)]
    assert found.error == pytest.approx(float(np.mean(sum(one_by_one))) / 2)


def test_progress_only_improves() -> None:
    spec = die(3, 16, 16)
    mapped = network([(16, 8), (12, 8)], spec, TwoColumn(), 3)
    so_far: list[Placement] = list(placing(mapped, spec, faults(spec, 3, 0.15)))
    assert len(so_far) > 1
    costs = [found.cost for found in so_far]
    assert costs == sorted(costs, reverse=True)


def test_faults_of_another_die_are_refused() -> None:
    spec = die(1, 8, 8)
    mapped = network([(4, 2)], spec, TwoColumn(), 0)
    with pytest.raises(ValueError, match="of 32 cells, but T-1 has 64"):
        place_around(mapped, spec, Faults(np.full(32, np.nan), np.zeros(32, bool)))
    with pytest.raises(ValueError, match="one entry a cell"):
        Faults(np.full(32, np.nan), np.zeros(64, bool))
    with pytest.raises(ValueError, match="finite conductance"):
        Faults(np.full(64, np.inf), np.zeros(64, bool))
