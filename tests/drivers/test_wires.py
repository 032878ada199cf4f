"""Lines with resistance against nodal analysis by other routes, and what the die does with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from rramhil.address import open_device
from rramhil.device import Kind, Pulse
from rramhil_drivers.emulator.chipfile import ChipFile, load_chip
from rramhil_drivers.emulator.die import EmulatedDie
from rramhil_drivers.emulator.periphery import Wires
from rramhil_drivers.emulator.wires import Ladder, effective, noise_share, path_ohms

ROOT = Path(__file__).resolve().parent.parent.parent

F64 = NDArray[np.float64]
GROUND = -1


def wires(layout: str = "crossed", **ohms: float) -> Wires:
    given_ohms = {"column_ohms": 5.0, "driver_ohms": 100.0, "sense_ohms": 50.0, **ohms}
    if layout == "crossed":
        given_ohms.setdefault("row_ohms", 3.0)
    return Wires.model_validate({"source": "a test", "layout": layout, **given_ohms})


class Network:
    """Resistors between numbered nodes, solved as one dense matrix of all nodes."""

    def __init__(self, nodes: int) -> None:
        self.matrix = np.zeros((nodes, nodes))

    def join(self, a: int, b: int, siemens: float) -> None:
        for one, other in ((a, b), (b, a)):
            if one != GROUND:
                self.matrix[one, one] += siemens
                if other != GROUND:
                    self.matrix[one, other] -= siemens

    def volts(self, injected: F64) -> F64:
        return np.linalg.solve(self.matrix, injected)


def crossed_by_nodes(law: Wires, g: F64, gated: NDArray[np.bool_] | None = None) -> F64:
    """Effective matrix of a small tile from all its node voltages; `gated`: rows that are on."""
    rows, cols = g.shape
    on = np.ones(rows, bool) if gated is None else gated
    net = Network(2 * rows * cols)
    row_node = np.arange(rows * cols).reshape(rows, cols)
    col_node = row_node + rows * cols
    drive = 1 / (law.driver_ohms + law.row_ohms)
    sense = 1 / (law.sense_ohms + law.column_ohms)
    for i in range(rows):
        for j in range(cols):
            if on[i]:
                net.join(row_node[i, j], col_node[i, j], g[i, j])
            if j:
                net.join(row_node[i, j - 1], row_node[i, j], 1 / law.row_ohms)
            if i:
                net.join(col_node[i - 1, j], col_node[i, j], 1 / law.column_ohms)
            if j == 0:
                net.join(row_node[i, 0], GROUND, drive)
            if i == rows - 1:
                net.join(col_node[i, j], GROUND, sense)
    injected = np.zeros((2 * rows * cols, rows))
    injected[row_node[:, 0], np.arange(rows)] = drive
    return (net.volts(injected)[col_node[-1]] * sense).T


def column_by_nodes(law: Wires, g: F64, on: NDArray[np.bool_]) -> float:
    """Current for 1 V through one column whose both lines end beyond the last row."""
    rows = g.size
    net = Network(2 * rows)
    segment = 1 / law.column_ohms
    for i in range(rows):
        if on[i]:
            net.join(i, rows + i, g[i])
        if i:
            net.join(i - 1, i, segment)
            net.join(rows + i - 1, rows + i, segment)
    drive = 1 / (law.driver_ohms + law.column_ohms)
    sense = 1 / (law.sense_ohms + law.column_ohms)
    net.join(rows - 1, GROUND, drive)
    net.join(2 * rows - 1, GROUND, sense)
    injected = np.zeros(2 * rows)
    injected[rows - 1] = drive
    return float(net.volts(injected)[2 * rows - 1] * sense)


def tile(seed: int, rows: int, cols: int) -> F64:
    return np.exp(np.random.default_rng(seed).uniform(np.log(1e-6), np.log(3e-4), (rows, cols)))


OHMS = st.floats(0.1, 1000.0)


@given(st.integers(0, 99), st.integers(1, 9), st.integers(1, 9), OHMS, OHMS, OHMS, OHMS)
@settings(deadline=None, max_examples=40)
def test_a_small_tile_conducts_as_its_nodes_say(
    seed: int, rows: int, cols: int, row: float, column: float, driver: float, sense: float
) -> None:
    law = wires(row_ohms=row, column_ohms=column, driver_ohms=driver, sense_ohms=sense)
    g = tile(seed, rows, cols)
    assert effective(law, g) == pytest.approx(crossed_by_nodes(law, g), rel=1e-8)


@given(st.integers(0, 99), st.integers(1, 12), st.integers(1, 5))
@settings(deadline=None, max_examples=20)
def test_rows_outside_the_group_are_gated_off(seed: int, rows: int, at_once: int) -> None:
    law, g = wires(), tile(seed, rows, 6)
    found = effective(law, g, at_once)
    for first in range(0, rows, at_once):
        on = np.zeros(rows, bool)
        on[first : first + at_once] = True
        assert found[on] == pytest.approx(crossed_by_nodes(law, g, on)[on], rel=1e-8)


def test_a_tile_larger_than_the_smallest_block_conducts_as_its_nodes_say() -> None:
    law, g = wires(), tile(0, 131, 5)
    assert effective(law, g) == pytest.approx(crossed_by_nodes(law, g), rel=1e-8)


def test_without_resistance_the_cells_are_the_matrix() -> None:
    g = tile(0, 9, 6)
    ideal = wires(row_ohms=0, column_ohms=0, driver_ohms=0, sense_ohms=0)
    assert effective(ideal, g) == pytest.approx(g, rel=1e-12)
    lumped = wires(row_ohms=0, column_ohms=0, driver_ohms=200, sense_ohms=0)
    by_hand = g / (1 + 200 * g.sum(axis=1, keepdims=True))
    assert effective(lumped, g) == pytest.approx(by_hand, rel=1e-10)


def test_a_cell_that_conducts_nothing_breaks_nothing() -> None:
    law, g = wires(), tile(3, 6, 5)
    g[2, 3] = g[5, 0] = 0.0
    assert effective(law, g) == pytest.approx(crossed_by_nodes(law, g), rel=1e-8, abs=1e-18)


def relaxed(law: Wires, g: F64, volts: F64, sweeps: int, tolerance: float) -> F64:
    """Column currents by line relaxation over a whole tile: another route than `effective`.

    All row lines are solved with the column voltages held, then all column lines, in turn,
    until the currents stand (block Gauss-Seidel on the nodes; R. S. Varga, Matrix Iterative
    Analysis, 1962). Each line is a tridiagonal system, solved for all lines at once.
    """
    rows, cols = g.shape
    u, v = np.zeros((rows, cols)), np.zeros((rows, cols))
    segment = {0: 1 / law.row_ohms, 1: 1 / law.column_ohms}
    drive = 1 / (law.driver_ohms + law.row_ohms)
    sense = 1 / (law.sense_ohms + law.column_ohms)
    ends = np.zeros((rows, cols))
    ends[:, 0] = drive
    bottom = np.zeros((rows, cols))
    bottom[-1] = sense
    before = np.zeros(cols)
    for _ in range(sweeps):
        u = _lines((g + ends).T, segment[0], (g * v + ends * volts[:, None]).T).T
        v = _lines(g + bottom, segment[1], g * u)
        current = v[-1] * sense
        if np.max(np.abs(current - before)) < tolerance * np.max(current):
            return current
        before = current
    raise AssertionError("the relaxation did not settle")


def _lines(own: F64, segment: float, source: F64) -> F64:
    """Voltages (nodes, lines) of chains with `own` conductance and `source` current a node."""
    count = own.shape[0]
    links = np.full(count, 2.0)
    links[0] = links[-1] = 1.0
    diagonal = np.ascontiguousarray(own + segment * links[:, None])
    found = np.ascontiguousarray(source)
    for n in range(1, count):
        share = segment / diagonal[n - 1]
        diagonal[n] -= share * segment
        found[n] += share * found[n - 1]
    found[-1] /= diagonal[-1]
    for n in range(count - 2, -1, -1):
        found[n] = (found[n] + segment * found[n + 1]) / diagonal[n]
    return found


def test_a_whole_tile_agrees_with_a_relaxation_of_its_nodes() -> None:
    law = wires(row_ohms=5.0, column_ohms=5.0, driver_ohms=200.0, sense_ohms=100.0)
    rng = np.random.default_rng(1)
    g = np.exp(rng.uniform(np.log(1e-6), np.log(5e-6), (256, 256)))
    volts = 0.2 * rng.random(256)
    iterated = relaxed(law, g, volts, 100, 1e-6)
    assert effective(law, g).T @ volts == pytest.approx(iterated, rel=1e-4)
    assert (g.T @ volts / iterated).max() > 1.5  # the wires matter


@given(st.integers(0, 99), st.integers(1, 12), st.data())
@settings(deadline=None, max_examples=30)
def test_a_gated_column_is_a_ladder(seed: int, rows: int, data: st.DataObject) -> None:
    law = wires("columns", column_ohms=20.0)
    g = tile(seed, rows, 3)
    on = np.array(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    if not on.any():
        on[0] = True
    by_nodes = [column_by_nodes(law, g[:, col], on) for col in range(3)]
    columns = Ladder(law, 2, 3, rows)
    for row in np.flatnonzero(on):
        columns.add(np.array([1]), np.array([row]), g[None, row].astype(np.float32))
    assert columns.at_edge()[1] == pytest.approx(by_nodes, rel=1e-5)
    assert not columns.at_edge()[0].any()


@pytest.mark.parametrize("layout", ["crossed", "columns"])
def test_one_cell_alone_is_read_in_series_with_its_path(layout: str) -> None:
    law, g = wires(layout), tile(5, 4, 3)
    series = 1 / (1 / g + path_ohms(law, 4, 3))
    for row in range(4):
        alone = np.arange(4) == row
        for col in range(3):
            if layout == "columns":
                by_nodes = column_by_nodes(law, g[:, col], alone)
            else:
                one = np.zeros_like(g)
                one[row, col] = g[row, col]
                by_nodes = crossed_by_nodes(law, one)[row, col]
            assert series[row, col] == pytest.approx(by_nodes, rel=1e-5)


def test_a_cell_lends_at_most_its_own_noise() -> None:
    g = tile(7, 48, 40).astype(np.float32)
    share = noise_share(g, effective(wires(), g).astype(np.float32))
    assert 0 < share.min() < 0.9
    assert share.max() <= 1
    few_ohms = wires(row_ohms=0, column_ohms=0, driver_ohms=1e-3, sense_ohms=0)
    assert noise_share(g, effective(few_ohms, g).astype(np.float32)) == pytest.approx(1, abs=1e-4)


# ------------------------------------------------------------------------------- the die


def chip(law: Wires | None, **converter: Any) -> ChipFile:
    """The 40 nm chip, small, without noise and column errors, with `law` for its wires."""
    preset = load_chip("40nm")
    assert preset.cells is not None
    assert preset.converter is not None
    noise = preset.cells.noise.model_copy(update={"sd": (0.0,) * len(preset.cells.noise.sd)})
    noise = noise.model_copy(update={"traps": 0})
    quiet = preset.converter.noise.model_copy(update={"floor_codes": 0.0, "strength": 0.0})
    return preset.model_copy(
        update={
            "geometry": preset.geometry.model_copy(update={"rows": 30, "cols": 20, "tiles": 2}),
            "cells": preset.cells.model_copy(update={"noise": noise}),
            "converter": preset.converter.model_copy(update={"noise": quiet, **converter}),
            "columns": None,
            "wires": law,
        }
    )


def written(die: EmulatedDie) -> EmulatedDie:
    cells = np.arange(die.spec.size)
    gates = 1.8 + 0.005 * (cells % 200)
    die.apply(Pulse(Kind.SET, cells, 2.0, gates, seconds=1e-6))
    return die


FINE: dict[str, Any] = {
    "bits": 16, "siemens_per_code": 1e-7, "input_bits": 1, "row_order": "index"
}  # fmt: skip


@pytest.mark.parametrize("rows_at_once", [7, 30])
@pytest.mark.parametrize(
    ("layout", "order"),
    [("crossed", "index"), ("columns", "index"), ("columns", "next_nonzero")],
)
def test_the_die_multiplies_and_reads_through_its_wires(
    layout: str, order: str, rows_at_once: int
) -> None:
    law = wires(layout)
    converter = {**FINE, "rows_at_once": rows_at_once, "row_order": order}
    ideal, real = (written(EmulatedDie(chip(w, **converter))) for w in (None, law))
    inputs = np.random.default_rng(0).integers(0, 2, (5, 30))
    sums = real.mvm(1, inputs) * 1e-7
    g = ideal._cells.conductance(np.arange(600, 1200), real.clock.now()).reshape(30, 20)
    g = g.astype(float)
    expected = np.zeros((5, 20))
    for n, bits in enumerate(inputs):
        rows = np.flatnonzero(bits) if order == "next_nonzero" else np.arange(30)
        for first in range(0, rows.size, rows_at_once):
            group = np.isin(np.arange(30), rows[first : first + rows_at_once])
            if layout == "crossed":
                expected[n] += (bits * group) @ crossed_by_nodes(law, g, group)
            else:
                on = (bits > 0) & group
                expected[n] += [column_by_nodes(law, g[:, col], on) for col in range(20)]
    assert sums == pytest.approx(expected, rel=1e-3, abs=5e-7)
    assert (ideal.mvm(1, inputs) * 1e-7 > 1.02 * sums).all()
    cells = np.arange(600)
    ohms = path_ohms(law, 30, 20).reshape(-1)
    was = ideal._cells.conductance(cells, real.clock.now())
    assert real.read(cells) == pytest.approx(was / (1 + was * ohms), abs=3e-7)


@pytest.mark.parametrize("layout", ["crossed", "columns"])
def test_a_call_in_parts_gives_the_bits_of_the_whole(layout: str) -> None:
    whole, parts = (
        written(EmulatedDie(chip(wires(layout), **{**FINE, "rows_at_once": 30}))) for _ in range(2)
    )
    inputs = np.random.default_rng(0).integers(0, 2, (9, 30))
    parts.expect(9)
    cut = [parts.mvm(0, inputs[:4]), parts.mvm(0, inputs[4:])]
    assert np.array_equal(whole.mvm(0, inputs), np.concatenate(cut))


def test_a_pulse_and_a_thawed_state_are_seen_through_the_wires_at_once() -> None:
    die = written(EmulatedDie(chip(wires(), **{**FINE, "rows_at_once": 30})))
    ones = np.ones((1, 30), np.int64)
    before, state = die.mvm(0, ones), die.freeze()
    die.apply(Pulse(Kind.RESET, np.arange(20), 3.0, 4.5, seconds=1e-6))
    after = die.mvm(0, ones)
    assert (after < before).all()
    die.thaw(state)
    again = written(EmulatedDie(chip(wires(), **{**FINE, "rows_at_once": 30})))
    again.mvm(0, ones)
    assert np.array_equal(die.mvm(0, ones), again.mvm(0, ones))


def test_a_solution_holds_for_a_tenth_of_a_decade_of_relaxation() -> None:
    """What the products of a die miss between two solutions of its wires."""
    law = wires(row_ohms=3.0, column_ohms=3.0, driver_ohms=20.0, sense_ohms=20.0)
    die = written(EmulatedDie(chip(law, **{**FINE, "rows_at_once": 30})))
    inputs = np.random.default_rng(0).integers(0, 2, (50, 30))
    begun = die.clock.now()
    for age in (1e-2, 1.0, 1e4):
        then, later = (
            inputs
            @ effective(law, die._cells.expected(np.arange(600), begun + t)[0].reshape(30, 20))
            for t in (age, age * 10**0.1)
        )
        assert 0 < np.abs(later - then).max() < 1e-3 * later.max()


def test_wires_that_contradict_themselves_or_the_converter_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"row_ohms 3: with layout 'columns' no current"):
        wires("columns", row_ohms=3.0)
    macro, wide = (load_chip(name).converter for name in ("40nm", "wide"))
    assert macro is not None
    assert wide is not None
    with pytest.raises(ValueError, match="'next_nonzero': with wires of layout 'crossed'"):
        wires("crossed").check_converter(macro, 256)
    with pytest.raises(ValueError, match="bits_at_once 8: with wires of layout 'columns'"):
        wires("columns").check_converter(wide, 256)
    wires("columns").check_converter(macro, 256)
    wires("crossed").check_converter(wide, 256)


def test_the_wires_of_the_page_switch_on_as_it_says(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "emulator.md").read_text()
    (table,) = re.findall(r"```toml\n(\[wires\].*?)```", page, re.S)
    shown = re.search(r"reads ([\d.]+) uS, one in the last row ([\d.]+) uS", page)
    assert shown is not None
    preset = (ROOT / "fixtures" / "chips" / "40nm.toml").read_text()
    (tmp_path / "mychip.toml").write_text(f"{preset}\n{table}")
    plain = open_device("emulator:40nm?tiles=1")
    wired = open_device(f"emulator:{tmp_path}/mychip.toml?tiles=1")
    assert isinstance(wired, EmulatedDie)
    assert wired._wires is not None
    ends = wired.spec.cells(0, [0, 255], 3)
    held = wired._wires.read(ends, np.full(2, 200e-6, np.float32))
    assert np.round(held * 1e6, 1) == pytest.approx([float(text) for text in shown.groups()])
    cells = plain.spec.cells(0, np.arange(256), 3)
    for device in (plain, wired):
        device.apply(Pulse(Kind.SET, cells, 2.0, 3.0, seconds=200e-9))
    assert np.median(wired.read(cells) / plain.read(cells)) < 0.8
