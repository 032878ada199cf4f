"""The product of an emulated macro: order of rows, noise in distribution, parts, columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rramhil.address import open_device
from rramhil.device import Ints, Kind, Pulse, Refused
from rramhil_drivers.emulator.chipfile import ChipFile, load_chip
from rramhil_drivers.emulator.columns import born_response
from rramhil_drivers.emulator.converter import add_noise_power
from rramhil_drivers.emulator.die import EmulatedDie
from rramhil_drivers.emulator.noise import exponentials_of, lanes, normals_of, table_words
from rramhil_drivers.emulator.periphery import ConverterNoise

ROWS, COLS = 40, 12


def chip_of(name: str = "40nm", *, quiet: bool = True, **converter: Any) -> ChipFile:
    """A small tile of a preset; quiet: no noise of the converter, no errors of the columns."""
    chip = load_chip(name)
    geometry = chip.geometry.model_copy(update={"rows": ROWS, "cols": COLS, "tiles": 2})
    changed = chip.converter
    assert changed is not None
    if quiet:
        still = changed.noise.model_copy(update={"floor_codes": 0.0, "strength": 0.0})
        changed = changed.model_copy(update={"noise": still})
    changed = changed.model_copy(update=converter)
    update = {"geometry": geometry, "converter": changed}
    return chip.model_copy(update={**update, "columns": None} if quiet else update)


def at_rest(chip: ChipFile) -> ChipFile:
    """`chip` with cells that neither fluctuate nor relax."""
    laws = chip.cells
    assert laws is not None
    none = (0.0,) * len(laws.relaxation.siemens)
    noise = {"sd": (0.0,) * len(laws.noise.sd), "traps": 0}
    still = {
        "noise": laws.noise.model_copy(update=noise),
        "relaxation": laws.relaxation.model_copy(
            update={"mean_siemens": none, "spread_siemens": none}
        ),
    }
    return chip.model_copy(update={"cells": laws.model_copy(update=still)})


def written(chip: ChipFile, seed: int = 0) -> EmulatedDie:
    """A die of which every cell was SET to something."""
    die = EmulatedDie(chip, seed=seed)
    gates = np.round(np.random.default_rng(1).uniform(1.9, 3.2, ROWS * COLS), 2)
    die.apply(Pulse(Kind.SET, np.arange(ROWS * COLS), 2.0, gates, seconds=1e-7))
    die.clock.sleep(1.0)
    return die


def inputs_of(count: int, seed: int = 2) -> Ints:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, ROWS)) * (rng.random((count, ROWS)) < 0.5)


def by_hand(die: EmulatedDie, codes: Ints) -> Ints:
    """The sums that a quiet converter must give, group by group as its spec says."""
    converter = die.chip.converter
    assert converter is not None
    mean, _ = die._cells.expected(np.arange(ROWS * COLS), die.clock.now())
    scaled = mean.reshape(ROWS, COLS).astype(np.float64) / converter.siemens_per_code
    sums = np.zeros((len(codes), COLS), dtype=np.int64)
    at_once, width = converter.rows_at_once, converter.bits_at_once
    for vector, place in np.ndindex(len(codes), converter.input_bits // width):
        digits = (codes[vector] >> (place * width)) & (2**width - 1)
        rows = np.flatnonzero(digits) if converter.row_order == "next_nonzero" else np.arange(ROWS)
        for start in range(0, rows.size, at_once):
            group = rows[start : start + at_once]
            exact = digits[group] @ scaled[group]
            code = np.clip(np.rint(exact), 0, 2**converter.bits - 1).astype(np.int64)
            sums[vector] += code << (place * width)
    return sums


@pytest.mark.parametrize("order", ["index", "next_nonzero"])
@pytest.mark.parametrize(("bits_at_once", "rows_at_once"), [(1, 7), (1, 64), (2, 7), (8, 64)])
def test_rows_are_summed_in_the_order_that_the_spec_says(
    order: str, bits_at_once: int, rows_at_once: int
) -> None:
    chip = chip_of(row_order=order, bits_at_once=bits_at_once, rows_at_once=rows_at_once, bits=10,
                   siemens_per_code=20.7e-6 * bits_at_once**2)  # fmt: skip
    chip = at_rest(chip)
    die = written(chip)
    codes = inputs_of(30)
    expected = by_hand(die, codes)
    assert expected.max() > 100
    got = die.mvm(0, codes)
    # The grid of exact sums is coarser than float64: a sum at the edge of a code may go either way.
    assert (got != expected).mean() < 0.01
    assert np.abs(got - expected).max() <= 2 ** (8 - bits_at_once)


def test_every_vector_sees_the_cells_afresh_as_if_each_cell_were_drawn() -> None:
    chip = chip_of("wide", bits=16, siemens_per_code=8e-6, rows_at_once=ROWS)
    die = written(chip)
    codes = np.repeat(inputs_of(1), 6000, axis=0)
    begun = die.clock.now()
    got = die.mvm(0, codes).astype(np.float64)
    cells = np.arange(ROWS * COLS)
    law = die._cells

    def look(key: int) -> np.ndarray:
        law.trap_key = key  # a product draws the slow noise afresh as well
        return law.look(cells, begun, die._noise)

    looks = np.array([look(key) for key in range(6000)])
    drawn = np.rint(np.einsum("r,nrc->nc", codes[0], looks.reshape(-1, ROWS, COLS)) / 8e-6)
    for column in range(COLS):
        a, b = np.sort(got[:, column]), np.sort(drawn[:, column])
        grid = np.concatenate([a, b])
        distance = np.abs(
            np.searchsorted(a, grid, "right") - np.searchsorted(b, grid, "right")
        ).max() / len(a)
        assert distance < 0.036, column  # Kolmogorov-Smirnov, two samples of 6,000, 0.1 %
    _, variance = law.expected(cells, begun)
    expected = (codes[0] ** 2) @ variance.reshape(ROWS, COLS) / 8e-6**2
    np.testing.assert_allclose(got.var(axis=0), expected, rtol=0.1)
    uncorrelated = np.corrcoef(got[:-1, 0], got[1:, 0])[0, 1]
    assert abs(uncorrelated) < 0.05


def test_table_normals_are_normal_and_come_in_pieces() -> None:
    rng = np.random.default_rng(3)
    z = normals_of(table_words(rng, 2000, 50))
    assert z.shape == (2000, 50)
    assert abs(z.mean()) < 0.015 and abs(z.std() - 1) < 0.01  # noqa: PT018
    assert abs((np.abs(z) > 3).mean() - 0.0027) < 0.0006
    one, two = (np.random.default_rng(4) for _ in range(2))
    whole = table_words(one, 9, 7)
    pieces = [table_words(two, count, 7) for count in (1, 5, 3)]
    np.testing.assert_array_equal(whole, np.concatenate(pieces))


def test_the_lanes_of_a_word_are_independent_and_come_in_pieces() -> None:
    def drawn(*counts: int) -> list[np.ndarray]:
        rng = np.random.Generator(np.random.SFC64(5))
        return [np.concatenate(lane) for lane in zip(*(lanes(rng, n) for n in counts), strict=True)]

    whole = drawn(40000)
    for lane, pieces in zip(whole, drawn(1, 63, 9936, 30000), strict=True):
        np.testing.assert_array_equal(lane, pieces)
    z = np.array([normals_of(lane) for lane in whole])
    np.testing.assert_allclose(np.corrcoef(z), np.eye(4), atol=0.02)
    waits = exponentials_of(whole[2])
    assert waits.min() > 0
    assert waits.mean() == pytest.approx(1, abs=0.02)
    for limit in (0.1, 1.0, 4.0):
        assert (waits > limit).mean() == pytest.approx(np.exp(-limit), abs=0.01)


@pytest.mark.parametrize(
    ("law", "low", "high"), [("constant", 0.04, 0.04), ("sqrt", 0.04, 0.13), ("linear", 0.04, 0.85)]
)
def test_the_noise_of_the_converter_follows_its_law(law: Any, low: float, high: float) -> None:
    noise = ConverterNoise(source="this test", law=law, floor_codes=0.2, strength=0.1)
    power = np.zeros(2, dtype=np.float32)
    add_noise_power(noise, np.array([0.0, 9.0], dtype=np.float32), power)
    np.testing.assert_allclose(power, [low, high], rtol=1e-6)


def test_the_noise_can_be_scaled_in_the_address() -> None:
    from rramhil.address import open_device

    spreads = []
    for factor in ("0", "1", "2"):
        die = open_device(f"emulator:40nm?tiles=1&converter_noise={factor}")
        cells = np.arange(65536)
        die.apply(Pulse(Kind.SET, cells, 2.0, 2.6, seconds=1e-7))
        codes = np.zeros((400, 256), dtype=np.int64)
        codes[:, :28] = 1
        spreads.append(float(die.mvm(0, codes).std(axis=0).mean()))
    assert spreads[0] < spreads[1] < spreads[2]


CUTS = st.lists(st.integers(1, 60), min_size=1, max_size=4)
KINDS = [
    {"row_order": "next_nonzero"},
    {"row_order": "index"},
    {"row_order": "index", "rows_at_once": 64},
    {"row_order": "index", "rows_at_once": 64, "bits_at_once": 8, "siemens_per_code": 0.004},
]


@settings(deadline=None, max_examples=12)
@given(CUTS, st.sampled_from(KINDS), st.integers(0, 100))
def test_a_product_in_parts_is_the_whole_one_bit_for_bit(
    cuts: list[int], kind: dict[str, Any], seed: int
) -> None:
    chip = chip_of(quiet=False, **kind)
    one, two = written(chip, seed), written(chip, seed)
    codes = inputs_of(sum(cuts), seed)
    whole = one.mvm(1, codes)
    two.expect(len(codes))
    ends = np.cumsum(cuts)
    parts = [two.mvm(1, codes[end - size : end]) for end, size in zip(ends, cuts, strict=True)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert two.clock.now() == one.clock.now()
    assert two.freeze() == one.freeze()


def test_time_passes_for_each_conversion_and_for_no_zero() -> None:
    sparse, every = written(chip_of()), written(chip_of(row_order="index"))
    codes = np.zeros((3, ROWS), dtype=np.int64)
    codes[0, :8] = 3  # two groups in each of two bits
    codes[2, 5] = 128
    for die, conversions in ((sparse, 5), (every, 3 * 8 * 6)):
        start = die.clock.now()
        die.mvm(0, codes)
        assert die.clock.now() - start == pytest.approx(conversions * 1e-8)


def test_columns_are_born_with_errors_of_the_spread_that_the_chip_says() -> None:
    law = load_chip("wide").columns
    assert law is not None
    tiles = [born_response(law, 256, 255, die=3, tile=tile) for tile in range(8)]
    gain = np.concatenate([r.gain for r in tiles])
    offset = np.concatenate([r.offset for r in tiles])
    assert abs(gain.std() / gain.mean() - 0.175) < 0.01
    assert abs(offset.std() - 3.6) < 0.2
    again = born_response(law, 256, 255, die=3, tile=0)
    np.testing.assert_array_equal(again.gain, tiles[0].gain)
    assert not np.array_equal(tiles[0].gain, tiles[1].gain)


def test_knobs_reach_the_columns_of_the_chosen_tile_and_survive_a_freeze() -> None:
    chip = chip_of("wide", quiet=False, rows_at_once=ROWS, siemens_per_code=0.004)
    die = written(chip)
    codes = inputs_of(200)
    before = [die.mvm(tile, codes).mean(axis=0) for tile in (0, 1)]
    offsets = np.zeros(COLS)
    offsets[4] = 20.0
    die.adjust("trim_tile", 1)
    die.adjust("column_offset", offsets)
    state = die.freeze()
    after = [die.mvm(tile, codes) for tile in (0, 1)]
    np.testing.assert_allclose(after[0].mean(axis=0), before[0], atol=0.3)
    moved = after[1].mean(axis=0) - before[1]
    assert moved[4] > 10
    assert np.abs(np.delete(moved, 4)).max() < 0.3
    other = written(chip, seed=9)
    other.adjust("column_gain", np.full(COLS, 0.5))
    other.thaw(state)
    for tile in (0, 1):
        np.testing.assert_array_equal(other.mvm(tile, codes), after[tile])


@pytest.mark.parametrize(
    ("knob", "values", "sentence"),
    [
        ("column_gains", 1.0, "did you mean 'column_gain'"),
        ("column_gain", np.full(COLS, 5.0), "column_gain 5 is not within"),
        ("temperature", 1000.0, "temperature 1000 is not within 233.15 to 398.15"),
        ("trim_tile", 2.0, "trim_tile 2 is not within 0 to 1"),
    ],
)
def test_a_wrong_setting_is_refused(knob: str, values: Any, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        EmulatedDie(chip_of(quiet=False)).adjust(knob, values)


def test_temperature_moves_cells_and_references_by_their_laws() -> None:
    chip = chip_of("wide", bits=16, siemens_per_code=8e-6, rows_at_once=ROWS)
    assert chip.temperature is not None
    hot = chip.temperature.model_copy(
        update={"activation_ev": (0.03,), "references_per_kelvin": 1e-3}
    )
    die = written(chip.model_copy(update={"temperature": hot}))
    cells, codes = np.arange(ROWS * COLS), np.repeat(inputs_of(1), 300, axis=0)
    cold = die.read(cells), die.mvm(0, codes).mean(axis=0)
    die.adjust("temperature", 398.0)
    assert die.freeze() != written(chip.model_copy(update={"temperature": hot})).freeze()
    warm = die.read(cells), die.mvm(0, codes).mean(axis=0)
    grows = np.exp(-0.03 / 8.617e-5 * (1 / 398 - 1 / 300))
    good = cold[0] > 20e-6
    assert abs(float(np.median(warm[0][good] / cold[0][good])) - grows) < 0.02
    np.testing.assert_allclose(warm[1] / cold[1], grows / 1.098, rtol=0.02)


def test_a_block_of_a_tile_is_that_block_of_the_whole_product() -> None:
    die = written(chip_of("wide", rows_at_once=ROWS, siemens_per_code=0.004))
    rows, columns = np.arange(3, 20), np.array([0, 5, 6])
    codes = np.zeros((2000, ROWS), dtype=np.int64)
    codes[:, rows] = inputs_of(1)[:, rows]
    whole = die.mvm(0, codes)
    start = die.clock.now()
    block = die.mvm_block(0, codes[:, rows], rows, columns)
    assert die.clock.now() - start == pytest.approx(2000 * 2e-6)
    assert block.shape == (2000, 3)
    np.testing.assert_allclose(block.mean(axis=0), whole[:, columns].mean(axis=0), atol=0.1)
    with pytest.raises(Refused, match="row 40 does not exist"):
        die.mvm_block(0, codes[:, :2], [0, 40], columns)
    with pytest.raises(Refused, match="codes of 8 bits"):
        die.mvm_block(0, codes[:, rows] + 256, rows, columns)


def test_a_product_sees_what_was_written_since() -> None:
    die = written(chip_of("wide", rows_at_once=ROWS, siemens_per_code=0.004))
    codes: NDArray[np.int64] = np.full((50, ROWS), 100)
    before = die.mvm(0, codes).mean()
    die.apply(Pulse(Kind.RESET, np.arange(ROWS * COLS), 3.0, 4.0, seconds=1e-6))
    assert die.mvm(0, codes).mean() < before / 2


def test_products_after_a_bake_are_those_of_the_baked_die() -> None:
    die = open_device("emulator:40nm?tiles=1&die=3")
    assert isinstance(die, EmulatedDie)
    cells = np.arange(die.spec.rows * die.spec.cols)
    die.apply(Pulse(Kind.SET, cells, 2.0, 2.6, seconds=1e-7))
    die.clock.sleep(1e5)
    inputs = np.random.default_rng(0).integers(0, 256, (2, die.spec.rows))
    die.mvm(0, inputs)
    for kelvin in (398.0, 298.15):
        die.adjust("temperature", [kelvin])
        die.clock.sleep(300.0)
    thawed = open_device("emulator:40nm?tiles=1&die=3")
    thawed.thaw(die.freeze())
    assert np.array_equal(die.mvm(0, inputs), thawed.mvm(0, inputs))
