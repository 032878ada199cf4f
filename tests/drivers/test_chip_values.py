"""Whatever number stands in a chip file: it is refused in a sentence, or the die works."""

from __future__ import annotations

import copy
import math
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from rramhil.device import Kind, Pulse, Range
from rramhil.schema import FileError, check
from rramhil_drivers.emulator.chipfile import MOST_LN_SCALE, ChipFile
from rramhil_drivers.emulator.die import EmulatedDie
from rramhil_drivers.emulator.periphery import MOST_TABLE_SIEMENS
from rramhil_drivers.emulator.physics import TABLE_SIZE, TABLE_STEP
from rramhil_drivers.emulator.pulsed import SCALE_CODES

Place = tuple[str | int, ...]
CELLS = np.arange(64)


def table_of(name: str) -> dict[str, Any]:
    """The table of a preset, of a small tile."""
    folder = files("rramhil_fixtures") / "chips"
    table = tomllib.loads((folder / f"{name}.toml").read_text())
    if "cells_from" in table:
        table["cells"] = table_of(table.pop("cells_from"))["cells"]
    table["geometry"] |= {"rows": 16, "cols": 16, "tiles": 1}
    return table


def numbers(table: Any, place: Place = ()) -> Iterator[Place]:
    """Where numbers stand; of a list of numbers only its first."""
    if isinstance(table, dict):
        for key, value in table.items():
            yield from numbers(value, (*place, key))
    elif isinstance(table, list) and table:
        yield from numbers(table[0], (*place, 0))
    elif isinstance(table, (int, float)) and not isinstance(table, bool):
        yield place


def changed(table: dict[str, Any], place: Place, value: float) -> dict[str, Any]:
    whole: Any = copy.deepcopy(table)
    part = whole
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = int(value) if isinstance(part[place[-1]], int) and value == 1e9 else value
    return dict(whole)


def load(table: dict[str, Any]) -> ChipFile | str:
    """The chip of a table, or why it is refused."""
    try:
        return check(table, ChipFile, "chip.toml")
    except FileError as error:
        return str(error)


def work(chip: ChipFile) -> None:
    """Pulses at both ends of all that the chip allows, and readings between them."""
    die = EmulatedDie(chip, die=3)
    seen = [die.read(CELLS)]
    for kind in (Kind.FORM, Kind.SET, Kind.RESET, Kind.SET, Kind.RESET):
        limits = die.spec.pulses.get(kind)
        if limits is None:
            continue
        assert limits.gate_volts is not None
        for end in (0.0, 0.6, 1.0):
            volts, gate = (inside(r, end) for r in (limits.volts, limits.gate_volts))
            width = limits.seconds.low if end < 0.7 else limits.seconds.high
            die.apply(Pulse(kind, CELLS, volts, gate, seconds=width))
            seen.append(die.read(CELLS))
    for seconds in (1.0, 1e5):
        die.clock.sleep(seconds)
        seen.append(die.read(CELLS))
    if die.spec.mvm is not None:
        die.mvm(0, np.full((1, 16), 2**die.spec.mvm.input_bits - 1))
    if die.spec.program is not None:
        low, lsb = die.spec.reading.lowest, die.spec.reading.lsb
        seen.append(die.program(CELLS[:4], low + 20 * lsb, low + 60 * lsb).siemens)
    for name, knob in die.spec.knobs.items():
        die.adjust(name, np.full(knob.size, inside(knob.range, 1.0)))
        seen.append(die.read(CELLS))
    die.freeze()
    assert not any(np.isnan(siemens).any() for siemens in seen)
    truth = die._cells.expected(CELLS, die.clock.now())
    assert all(np.isfinite(values).all() for values in truth)


def inside(limits: Range, share: float) -> float:
    """A setting on the grid, `share` of the way from the low end to the high one."""
    if limits.step <= 0:
        return limits.low + share * (limits.high - limits.low)
    first = math.ceil(limits.low / limits.step - 1e-6)
    last = math.floor(limits.high / limits.step + 1e-6)
    return float(limits.snap((first + round(share * (last - first))) * limits.step))


@pytest.mark.parametrize("name", ["40nm", "ember", "statistical"])  # the others have their tables
def test_every_number_of_a_chip_file_is_refused_or_works(name: str) -> None:
    table = table_of(name)
    work(check(table, ChipFile, "chip.toml"))
    refused = worked = 0
    for place in numbers(table):
        for value in (math.nan, math.inf, -1.0, 0.0, 1e9):
            chip = load(changed(table, place, value))
            if isinstance(chip, str):
                assert chip.startswith("chip.toml: ")
                assert "\n" not in chip
                refused += 1
                continue
            assert math.isfinite(value), f"{place} may be {value}"
            try:
                work(chip)
            except Exception as error:
                error.add_note(f"with {place} = {value:g}")
                raise
            worked += 1
    assert refused > 100
    assert worked > 20


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("set", "volts", "step"), math.nan, "set.volts.step: input should be a finite number"),
        (("set", "volts", "step"), 9.0, "step 9 is wider than the range"),
        (("cells", "set", "widths", 0, "shape"), math.inf, "widths.0.shape"),
        (("cells", "set", "weak_ln_scale"), 1.99, "less than or equal to 1.984375"),
        (("cells", "reset", "siemens", -1), 1.1e-3, "less than or equal to 0.001023"),
        (("cells", "noise", "siemens", -1), 2e-3, "less than or equal to 0.001023"),
        (("cells", "hrs", "per_volt"), 30.0, "lower reference_volts or per_volt"),
        (("cells", "disturb", "hops_per_second"), 1e9, "moves a cell at every reading"),
        (("temperature", "activation_ev", 0), 30.0, "lower it, or narrow kelvin"),
        (("reading", "lowest"), 1.0, "does not lie below highest"),
        (("geometry", "rows"), 2**21, "more than the 16777216 cells of a tile"),
        (("reset", "seconds", "low"), 0.0, "is no pulse width; raise it"),
    ],
)
def test_a_number_out_of_its_limits_is_named(place: Place, value: float, sentence: str) -> None:
    with pytest.raises(FileError) as caught:
        check(changed(table_of("40nm"), place, value), ChipFile, "chip.toml")
    assert sentence in str(caught.value)
    assert str(place[0]) in str(caught.value)


def test_the_limits_are_those_of_what_holds_the_numbers() -> None:
    assert pytest.approx((TABLE_SIZE - 1) * TABLE_STEP) == MOST_TABLE_SIEMENS
    assert MOST_LN_SCALE * SCALE_CODES == 127
