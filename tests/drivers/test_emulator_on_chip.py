"""The write-verify on an emulated chip, and the threshold reader of the ember preset."""

from __future__ import annotations

import numpy as np
import pytest

from rramhil.address import open_device
from rramhil.conformance import Outcome, check
from rramhil.device import Kind, Programmed, Refused
from rramhil_drivers.emulator.die import EmulatedDie

LEVELS = np.array([20e-6, 80e-6, 140e-6, 200e-6])


def open_die(address: str) -> EmulatedDie:
    die = open_device(address)
    assert isinstance(die, EmulatedDie)
    return die


def wanted(count: int) -> tuple[np.ndarray, np.ndarray]:
    centre = LEVELS[np.random.default_rng(5).integers(0, 4, count)]
    return centre - 10e-6, centre + 10e-6


@pytest.mark.parametrize(("preset", "group"), [("40nm", 32), ("ember", 48)])
def test_cells_arrive_and_every_pulse_and_reading_is_counted(preset: str, group: int) -> None:
    die = open_die(f"emulator:{preset}")
    cells = np.arange(7, 7 + 4 * group)
    low, high = wanted(cells.size)
    start = die.clock.now()
    done = die.program(cells, low, high)
    assert done.ok.mean() > 0.95
    slack = 1e-9  # the windows end on the grid of readings, which are float32
    assert ((done.siemens >= low - slack) & (done.siemens <= high + slack))[done.ok].all()
    limits = die.spec.program
    assert limits is not None
    pulses = done.sets + done.resets
    assert pulses.max() <= limits.attempts
    assert (done.reads == pulses + 1).all()
    np.testing.assert_array_equal(die.pulses_counted(Kind.SET)[cells], done.sets)
    np.testing.assert_array_equal(die.pulses_counted(Kind.RESET)[cells], done.resets)
    settings, reading = die.chip.set, die.spec.reading
    rounds = done.reads.reshape(4, group).max(axis=1).sum()
    shortest = rounds * reading.seconds + (rounds - 4) * (1e-7 + settings.overhead_seconds)
    longest = shortest + rounds * (1e-7 + settings.overhead_seconds)
    assert shortest * (1 - 1e-9) <= die.clock.now() - start <= longest


def test_to_program_again_is_a_refresh() -> None:
    die = open_die("emulator:40nm?tiles=1")
    cells = np.arange(256)
    low, high = wanted(256)
    first = die.program(cells, low, high)
    die.clock.sleep(1e4)
    again = die.program(cells, low, high)
    assert (again.reads[again.sets + again.resets == 0] == 1).all()
    assert 0 < (again.sets + again.resets > 0).mean() < 0.7
    assert (again.sets + again.resets).sum() < (first.sets + first.resets).sum() / 2
    assert again.ok.mean() > 0.95


def test_parts_cut_between_groups_are_the_whole() -> None:
    one, two = (open_die("emulator:40nm?tiles=1") for _ in range(2))
    cells = np.random.default_rng(1).permutation(2000)[:160]
    low, high = wanted(160)
    whole = one.program(cells, low, high)
    parts = [two.program(cells[p], low[p], high[p]) for p in (slice(0, 64), slice(64, 160))]
    for name in Programmed.__slots__:
        merged = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(merged, getattr(whole, name))
    assert one.freeze() == two.freeze()


def test_what_a_write_verify_refuses() -> None:
    die = open_die("emulator:40nm?tiles=1")
    with pytest.raises(Refused, match="17 distinct windows in one call"):
        die.program(np.arange(17), np.arange(17) * 1e-5, 300e-6)
    with pytest.raises(Refused, match="low end lies above"):
        die.program([1], 2e-5, 1e-5)
    with pytest.raises(ValueError, match="low has shape"):
        die.program([1, 2], [1e-5], 2e-5)
    with pytest.raises(Refused, match="no write-verify of its own"):
        open_die("emulator:wide").program([1], 1e-5, 2e-5)
    assert die.program([], 0.0, 1e-6).ok.shape == (0,)


def test_a_threshold_reader_gives_its_references() -> None:
    die = open_die("emulator:ember")
    cells = np.arange(2000)
    die.program(cells[:192], *wanted(192))
    got = die.read(cells)
    steps = np.float32([0.0, *die.spec.reading.references])
    assert np.isin(got, steps).all()
    assert (got == 0).any()
    assert len(np.unique(got)) > 5


@pytest.mark.parametrize("preset", ["40nm", "wide", "ember"])
def test_every_preset_keeps_every_promise(preset: str) -> None:
    findings = list(check(open_device(f"emulator:{preset}")))
    assert [str(f) for f in findings if f.outcome is Outcome.FAILED] == []


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (20.0, 25.0, "no reading of emulated 40nm lies in 20 to 25 S"),
        (-1.0, -0.5, "no reading of emulated 40nm lies in"),
        (np.nan, 50e-6, "not a number"),
        (60e-6, 50e-6, "swap them"),
    ],
)
def test_a_window_that_no_reading_reaches_costs_no_pulse(
    low: float, high: float, sentence: str
) -> None:
    die = open_device("emulator:40nm?tiles=1&die=3")
    assert isinstance(die, EmulatedDie)
    with pytest.raises(Refused, match=sentence):
        die.program(np.arange(3), low, high)
    assert not any(die.pulses_counted(kind).any() for kind in Kind)
