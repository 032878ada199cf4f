"""Mapped networks: every weight in cells of its own, and back from their conductances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.device import ReadLimits, Refused, Spec
from rramhil.mapping import SCHEMES, Levels, OneColumn, Scheme, TwoColumn, map_network

TEN = Levels(10, 1e-6, 40e-6, 1e-6)


def die(tiles: int, rows: int = 256, cols: int = 256) -> Spec:
    reading = ReadLimits(lowest=0.0, highest=100e-6, lsb=1e-8, volts=0.2, seconds=1e-6)
    return Spec("test", "T-1", tiles, rows, cols, reading, pulses={})


def network(shapes: list[tuple[int, int]], seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {f"layer{i}": random.normal(size=shape) for i, shape in enumerate(shapes)}


shapes = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=5)


@settings(deadline=None, max_examples=60)
@given(shapes, st.integers(2, 17), st.integers(4, 17), st.sampled_from(list(SCHEMES.values())))
def test_every_weight_has_cells_of_its_own_and_blocks_cover_it_once(
    shapes: list[tuple[int, int]], rows: int, cols: int, scheme: Scheme
) -> None:
    mapped = map_network(network(shapes), die(20_000, rows, cols), TEN, scheme)
    cells = sum(rows * scheme.physical_columns(columns, TEN) for rows, columns in shapes)
    assert mapped.cells.size == cells
    assert np.unique(mapped.cells).size == mapped.cells.size
    for layer, shape in zip(mapped.layers, shapes, strict=True):
        assert layer.shape == shape
        covered = np.zeros(layer.cells.shape, dtype=int)
        for block in layer.blocks:
            covered[block.row : block.row + block.rows, block.col : block.col + block.cols] += 1
            assert block.lines.max() < rows
            assert block.columns.max() < cols
        assert (covered == 1).all()


@settings(deadline=None, max_examples=40)
@given(shapes, st.integers(2, 17), st.integers(2, 17))
def test_the_columns_of_a_pair_lie_side_by_side_in_one_tile(
    shapes: list[tuple[int, int]], rows: int, cols: int
) -> None:
    spec = die(20_000, rows, cols)
    for layer in map_network(network(shapes), spec, TEN, TwoColumn()).layers:
        plus, minus = spec.where(layer.cells[:, 0::2]), spec.where(layer.cells[:, 1::2])
        np.testing.assert_array_equal(plus[0], minus[0])
        np.testing.assert_array_equal(plus[1], minus[1])
        np.testing.assert_array_equal(plus[2] + 1, minus[2])


@settings(deadline=None, max_examples=40)
@given(shapes, st.sampled_from(list(SCHEMES.values())), st.booleans(), st.integers(0, 99))
def test_weights_come_back_within_half_a_level_of_the_clipped_ones(
    shapes: list[tuple[int, int]], scheme: Scheme, per_column: bool, seed: int
) -> None:
    weights = network(shapes, seed)
    mapped = map_network(weights, die(50), TEN, scheme, scale_per_column=per_column)
    ideal = mapped.ideal_weights()
    for layer in mapped.layers:
        wanted = np.clip(weights[layer.name], -layer.scale, layer.scale)
        limit = layer.scale * scheme.step(TEN) / 2 * (1 + 1e-9)
        assert (np.abs(ideal[layer.name] - wanted) <= limit).all()
        assert layer.clipped == np.count_nonzero(np.abs(weights[layer.name]) > layer.scale)


def test_readback_goes_to_the_right_weight() -> None:
    mapped = map_network(network([(300, 200), (200, 10)]), die(8), TEN, TwoColumn())
    readings = mapped.siemens.copy()
    layer = mapped.layers[1]
    wrong = int(np.flatnonzero(mapped.cells == layer.cells[17, 2 * 3 + 1])[0])
    readings[wrong] += TEN.step
    change = mapped.weights_from(readings)["layer1"] - mapped.ideal_weights()["layer1"]
    assert np.flatnonzero(change).tolist() == [17 * 10 + 3]
    assert change[17, 3] == pytest.approx(-layer.scale[3] / 9)


def test_the_scale_is_a_percentile_kept_a_layer_or_a_column() -> None:
    weights = network([(400, 30)])
    sizes = np.abs(weights["layer0"])
    whole = map_network(weights, die(4), TEN, TwoColumn()).layers[0]
    np.testing.assert_allclose(whole.scale, np.percentile(sizes, 99.5))
    columns = map_network(weights, die(4), TEN, TwoColumn(), scale_per_column=True).layers[0]
    np.testing.assert_allclose(columns.scale, np.percentile(sizes, 99.5, axis=0))
    assert 0.003 < whole.clipped / sizes.size < 0.007


def test_a_layer_of_zeros_maps_to_zero() -> None:
    sparse = np.zeros((300, 2))
    sparse[0, 0] = -2.0
    for per_column in (False, True):
        mapped = map_network(
            {"sparse": sparse}, die(2), TEN, TwoColumn(), scale_per_column=per_column
        )
        np.testing.assert_allclose(mapped.ideal_weights()["sparse"], sparse, atol=1e-12)


def test_lenet5_fits_three_tiles_and_only_those_that_may_be_used() -> None:
    lenet = network([(25, 6), (150, 16), (400, 120), (120, 84), (84, 10)])
    mapped = map_network(lenet, die(8), TEN, TwoColumn())
    assert len(mapped.tiles) == 3
    assert map_network(lenet, die(8), TEN, TwoColumn(), tiles=[1, 4, 7]).tiles == (1, 4, 7)


def test_a_network_that_does_not_fit_is_refused_with_what_would() -> None:
    big = network([(400, 120), (120, 84)])
    with pytest.raises(Refused, match=r"needs (\d) tiles.*1 of T-1 may be used") as refused:
        map_network(big, die(1), TEN, TwoColumn())
    needed = int(str(refused.value).split("needs ")[1].split()[0])
    map_network(big, die(needed), TEN, TwoColumn())
    with pytest.raises(Refused, match="one_column"):
        map_network(big, die(99, 256, 1), TEN, TwoColumn())
    assert map_network(network([(3, 2)]), die(2, 3, 1), TEN, OneColumn()).tiles == (0, 1)


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((2, 2, 2)), np.empty((0, 3)), [[np.nan]]])
def test_what_is_no_matrix_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="layer fc must be a matrix"):
        map_network({"fc": bad}, die(1), TEN, TwoColumn())


def test_other_wrong_input_is_refused() -> None:
    weights = network([(4, 4)])
    with pytest.raises(ValueError, match="without layers"):
        map_network({}, die(1), TEN, TwoColumn())
    with pytest.raises(ValueError, match="percentile"):
        map_network(weights, die(1), TEN, TwoColumn(), percentile=0)
    with pytest.raises(ValueError, match=r"has 32 cells.*device.read"):
        map_network(weights, die(1), TEN, TwoColumn()).weights_from(np.ones(31))


def test_a_pair_makes_up_for_its_faulty_cell_as_far_as_its_partner_reaches() -> None:
    scheme, levels = TwoColumn(), Levels(10, 20e-6, 200e-6, 5e-6)
    targets = scheme.encode([[0.5, 0.0, -1.0, 0.25]], levels)
    measured, faulty = targets.copy(), np.zeros(targets.shape, dtype=bool)
    for column, siemens in ((1, 70e-6), (2, 90e-6), (5, 20e-6), (6, 250e-6), (7, 150e-6)):
        measured[0, column], faulty[0, column] = siemens, True
    moved = scheme.compensated(targets, measured, faulty, levels)
    held = np.where(faulty, measured, moved)
    weights = scheme.decode(held, levels)
    wanted = scheme.decode(targets, levels)
    assert weights[0, :2] == pytest.approx(wanted[0, :2])
    assert moved[0, 3] == pytest.approx(90e-6)
    # A cell stuck at the lowest level cannot be made up for: its partner is there already.
    assert weights[0, 2] == pytest.approx(0.0)
    # Two faulty cells: nothing can be moved.
    assert moved[0, 6:] == pytest.approx(targets[0, 6:])
    assert np.array_equal(OneColumn().compensated(targets, measured, faulty, levels), targets)


@pytest.mark.parametrize("scheme", SCHEMES.values())
def test_the_cells_of_a_weight_are_those_that_change_it(scheme: Scheme) -> None:
    mapped = map_network(network([(5, 3), (3, 4)]), die(1), TEN, scheme)
    entries = {"layer0": np.array([4]), "layer1": np.array([], dtype=np.int64)}
    chosen = mapped.cells_of(entries)
    assert chosen.sum() == scheme.columns_per_weight
    cubes = 1e-9 * np.arange(chosen.size) ** 3.0
    moved = np.where(chosen, mapped.siemens + cubes, mapped.siemens)
    before, after = mapped.ideal_weights(), mapped.weights_from(moved)
    assert list(np.flatnonzero((before["layer0"] != after["layer0"]).ravel())) == [4]
    assert (before["layer1"] == after["layer1"]).all()
