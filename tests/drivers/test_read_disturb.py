"""Read disturb of the statistical chip: reading by reading, or many readings at once."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from rramhil.address import open_device
from rramhil.device import Device, Floats, Kind, Refused
from rramhil.verify import Bias, write_open_loop

CELLS = np.arange(4000)
SATURATION, STEP = 44e-6, 0.02


def written(options: str, gate: float = 1.5) -> Device:
    device = open_device(f"emulator:statistical?sigma=0.1&{options}")
    for _ in write_open_loop(device, CELLS, np.full(CELLS.size, gate), Bias()):
        pass
    return device


def lacking(siemens: Floats) -> float:
    """How much of the saturation cells lack, in the mean: each hop takes 2 % of it."""
    return float(np.mean(SATURATION - siemens))


def test_many_readings_at_once_do_what_their_hops_do() -> None:
    device = written("disturb=10")
    before, clock = device.read(CELLS), device.clock.now()
    device.adjust("readings", 1_000_000)
    after = device.read(CELLS)
    assert lacking(after) / lacking(before) == pytest.approx(math.exp(-10 * STEP), rel=0.02)
    assert np.all(after >= before - 1e-6)
    per_reading = 65_536 / 32 * 1e-6  # the tile in use, 32 cells at once
    assert device.clock.now() - clock == pytest.approx(1e6 * per_reading, rel=0.01)
    sets = device.pulses_counted(Kind.SET)[CELLS]  # type: ignore[attr-defined]
    assert sets.tolist() == [1] * CELLS.size


def test_readings_one_by_one_do_the_same() -> None:
    one, many = written("disturb=10000"), written("disturb=10000")
    before = lacking(one.read(CELLS))
    for _ in range(1000):
        one.read(CELLS)
    many.adjust("readings", 1000)
    expected = math.exp(-10 * STEP)
    assert lacking(one.read(CELLS)) / before == pytest.approx(expected, rel=0.02)
    assert lacking(many.read(CELLS)) / before == pytest.approx(expected, rel=0.02)


def test_stuck_cells_stay_and_a_saved_die_goes_on_alike() -> None:
    device = written("disturb=10&stuck_hrs=0.5")
    low = device.read(CELLS) < 1.5e-6
    assert 0.4 < low.mean() < 0.6
    state = device.freeze()  # type: ignore[attr-defined]
    device.adjust("readings", 1_000_000)
    moved = device.read(CELLS)
    assert moved[low].max() < 2e-6
    again = open_device("emulator:statistical?sigma=0.1&disturb=10&stuck_hrs=0.5")
    again.thaw(state)  # type: ignore[attr-defined]
    again.adjust("readings", 1_000_000)
    assert np.array_equal(again.read(CELLS), moved)


def test_without_disturb_there_is_no_knob_and_nothing_moves() -> None:
    device = written("die=1")
    assert not device.spec.knobs
    with pytest.raises(Refused, match="no knob 'readings'"):
        device.adjust("readings", 10)
    disturbed = written("disturb=10")
    with pytest.raises(Refused, match="readings 0 is not within 1 to"):
        disturbed.adjust("readings", 0)


def test_the_option_is_refused_where_it_means_nothing(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="disturb= is for statistical chips; 40nm has"):
        open_device("emulator:40nm?disturb=1")
    with pytest.raises(Refused, match="disturb=-1: give a number from 0 up"):
        open_device("emulator:statistical?disturb=-1")
    preset = Path(__file__).parents[2] / "fixtures" / "chips" / "statistical.toml"
    own = tmp_path / "own.toml"
    own.write_text(preset.read_text("utf-8").split("[statistical.disturb]")[0])
    with pytest.raises(Refused, match=r"has no \[statistical.disturb\]; write one"):
        open_device(f"emulator:{own}?disturb=1")
