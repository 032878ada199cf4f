"""The census finds what is stuck, noisy or clustered, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from rramhil.address import open_device
from rramhil.census import take_census
from rramhil.device import Device


@pytest.fixture(scope="module")
def die() -> Device:
    return open_device("emulator:40nm")


def readings(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((3, count), 12e-6), np.full((3, count), 210e-6)


def test_each_fault_lands_in_its_class(die: Device) -> None:
    low, high = readings(600)
    low[:, 5] = 190e-6
    high[:, 7] = 10e-6
    high[:, 9] = [200e-6, 230e-6, 180e-6]
    low[1, 11] = np.nan
    low[1, 13] = np.inf
    found = take_census(np.arange(600), low, high, die.spec)
    assert np.flatnonzero(found.stuck_lrs).tolist() == [5]
    assert np.flatnonzero(found.stuck_hrs).tolist() == [7]
    assert np.flatnonzero(found.noisy).tolist() == [9]
    assert np.flatnonzero(found.unreadable).tolist() == [11]
    assert found.bad_rows == ()
    assert found.shares()["stuck_lrs"] == pytest.approx(1 / 600)


def test_a_cell_above_the_range_in_every_reading_is_stuck_lrs(die: Device) -> None:
    low, high = readings(10)
    low[:, 2] = np.inf
    assert np.flatnonzero(take_census(np.arange(10), low, high, die.spec).stuck_lrs).tolist() == [2]


def test_a_row_with_many_bad_cells_is_named(die: Device) -> None:
    cells = np.arange(2 * 65536, dtype=np.int64)
    low, high = readings(cells.size)
    tile, row, _ = die.spec.where(cells)
    high[:, (tile == 1) & (row == 18) & (cells % 3 == 0)] = 5e-6
    assert take_census(cells, low, high, die.spec).bad_rows == ((1, 18),)


def test_readings_of_another_shape_are_refused(die: Device) -> None:
    low, high = readings(10)
    with pytest.raises(ValueError, match=r"shape \(reads, 11\)"):
        take_census(np.arange(11), low, high, die.spec)


def test_the_census_of_an_emulated_die_agrees_with_the_faults_it_was_born_with() -> None:
    """Cells that no RESET takes down count as stuck, faulty or not: a sound die shows how many."""
    sound, faulty = (_shares(faults) for faults in ((0.0, 0.0), (0.02, 0.03)))
    assert sound["stuck_lrs"] < 0.02
    assert sound["stuck_hrs"] < 0.02
    assert faulty["stuck_lrs"] - sound["stuck_lrs"] == pytest.approx(0.02, abs=0.004)
    assert faulty["stuck_hrs"] - sound["stuck_hrs"] == pytest.approx(0.03, abs=0.004)


def _shares(stuck: tuple[float, float]) -> dict[str, float]:
    from rramhil.verify import Bias, reset_pulse, set_pulse

    lrs, hrs = stuck
    die = open_device(f"emulator:40nm?die=8&stuck_lrs={lrs}&stuck_hrs={hrs}&stuck_rows=0")
    cells = np.arange(20_000)
    full, gate = np.full(cells.size, 2.0), np.full(cells.size, 3.6)
    die.apply(set_pulse(cells, full, gate, Bias(), die.spec))
    high = np.stack([die.read(cells) for _ in range(3)])
    for _ in range(6):
        # At WL 4 V the cells that are hard to RESET would look stuck.
        bias = Bias(reset_gate_volts=5.0)
        die.apply(reset_pulse(cells, np.full(cells.size, 3.6), bias, die.spec))
    low = np.stack([die.read(cells) for _ in range(3)])
    return take_census(cells, low, high, die.spec).shares()
