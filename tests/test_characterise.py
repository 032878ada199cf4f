"""The open-loop record of a sample: every cell gets the same, whatever it answers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from fakes import FakeDie, fake_spec

from rramhil.address import open_device
from rramhil.characterise import Plan, characterise
from rramhil.device import Device, Kind, Pulse, Refused
from rramhil.verify import Bias

PLAN = Plan((2.1, 3.1, 5), (0.5, 2.5, 6), 3.2, (2.3, 2.6), (0.01, 1.0))


def test_every_cell_gets_the_same_pulses() -> None:
    die = open_device("emulator:40nm?die=2&seed=3&tiles=1")
    cells = np.arange(100, 164)
    readings = list(characterise(die, cells, PLAN, Bias()))
    assert len(readings) == PLAN.total
    for kind in (Kind.SET, Kind.RESET):
        counted = die.pulses_counted(kind)
        assert len(set(counted[cells].tolist())) == 1
        assert counted[cells[0]] > 0
        assert counted.sum() == counted[cells].sum()


def test_the_parts_show_what_they_are_there_for() -> None:
    die = open_device("emulator:40nm?die=2&seed=3&tiles=1&stuck_lrs=0&stuck_hrs=0")
    readings = list(characterise(die, np.arange(256), PLAN, Bias()))
    parts = Counter(reading.part for reading in readings)
    assert parts == {"gate": 5, "sl": 7, "settle": 6}
    gate, sl = (
        [float(np.median(r.siemens)) for r in readings if r.part == p] for p in ("gate", "sl")
    )
    assert gate == sorted(gate)
    assert gate[-1] > 3 * gate[0]
    assert sl[-1] < sl[0] / 3
    assert [r.at for r in readings if r.part == "settle"] == [0.0, 0.01, 1.0] * 2


def test_delays_are_device_time_since_the_last_set() -> None:
    die = open_device("emulator:40nm?die=2&seed=3&tiles=1")
    readings = characterise(die, np.arange(64), PLAN, Bias())
    at = [die.clock.now() for reading in readings if reading.part == "settle"]
    assert at[2] - at[0] == pytest.approx(1.0, rel=1e-3)
    assert at[1] - at[0] == pytest.approx(0.01, rel=1e-2)


def test_a_die_without_a_gate_or_reset_is_refused_before_any_pulse() -> None:
    class Watched(FakeDie):
        pulsed = 0

        def apply(self, pulse: Pulse) -> None:
            self.pulsed += 1
            super().apply(pulse)

    die: Device = Watched(fake_spec(pulses={}))
    with pytest.raises(Refused, match="has no gate to sweep"):
        next(characterise(die, np.arange(4), PLAN, Bias()))
    assert isinstance(die, Watched)
    assert die.pulsed == 0
