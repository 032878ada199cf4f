"""The doctor: what it finds on a well and on a sick device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import FakeDie, fake_spec

from rramhil.conformance import Outcome
from rramhil.device import Kind
from rramhil.doctor import Examination, examine
from rramhil.station import connect


class Sick(FakeDie):
    """Row 0 is cut off, cell 40 conducts far too well, cell 45 not at all."""

    def read(self, cells: Any) -> Any:
        siemens = super().read(cells)
        flat = np.asarray(cells)
        siemens[flat < 16] = np.nan
        siemens[flat == 511] = np.inf
        siemens[flat == 510] = 0
        siemens[flat == 509] = 199e-6
        return siemens


def test_a_well_device() -> None:
    die = FakeDie(noise=0.4e-6)
    found = examine(die)
    assert found.healthy
    assert found.identity.serial == "fake-0"
    assert found.identity.abilities == ("SET", "RESET")
    assert found.census.rows == ((0, 0), (0, 10), (1, 4), (1, 15))
    assert found.census.cells == 64
    assert found.census.unreadable == found.census.below_range == found.census.above_range == 0
    low, middle, high = found.census.quartiles_siemens
    assert 5e-6 < low < middle < high < 60e-6
    assert found.noise.siemens == pytest.approx(0.4e-6, rel=0.15)
    assert found.noise.lsb_siemens == pytest.approx(0.1e-6)
    assert found.timing.device_call_seconds == pytest.approx(1e-6)
    assert found.timing.host_call_seconds > 0
    assert {p.outcome for p in found.promises} == {Outcome.PASSED, Outcome.NOT_CHECKED}
    assert die.closed.is_set()
    assert "fake-16, serial fake-0: 2 x 16 x 16 cells; it does SET, RESET" in str(found)
    assert "0 broken" in str(found)


def test_a_sick_device() -> None:
    found = examine(Sick())
    assert not found.healthy
    assert found.census.unreadable == pytest.approx(16 / 64)
    assert found.census.above_range == pytest.approx(1 / 64)
    assert found.census.below_range == pytest.approx(1 / 64)
    assert found.census.far_above == pytest.approx(1 / 64)
    assert found.census.suspect_rows == ((0, 0),)
    assert "look at tile 0 row 0" in str(found)
    assert "check the contacts" in str(found)


def test_a_broken_promise_makes_it_unhealthy() -> None:
    class Twice(FakeDie):
        def apply(self, pulse: Any) -> None:
            super().apply(pulse)
            super().apply(pulse)

    found = examine(Twice())
    assert not found.healthy
    assert "BROKEN: apply() pulses each of its cells exactly once" in str(found)


def test_a_dead_device_is_described_too() -> None:
    class Dead(FakeDie):
        def read(self, cells: Any) -> Any:
            return np.full_like(super().read(cells), np.nan)

    found = examine(Dead(fake_spec(pulses={})))
    assert found.census.quartiles_siemens == (0, 0, 0)
    assert found.noise.cells == 0
    assert not found.healthy
    assert "it does nothing but read" in str(found)


def test_on_the_bench_only_scratch_cells_are_pulsed() -> None:
    die = FakeDie(fake_spec(volatile=False, newborn=False))
    examine(die)
    assert sum(c.sum() for c in die.counted.values()) == 0
    die = FakeDie(fake_spec(volatile=False, newborn=False))
    found = examine(die, scratch=np.arange(32, 48), rows=1000)
    assert found.healthy
    assert len(found.census.rows) == 32
    assert set(np.flatnonzero(sum(die.counted.values()))) == set(range(32, 48))


def test_the_emulator_is_well_and_the_examination_survives_json() -> None:
    found = examine(connect("emulator:40nm?tiles=1"))
    assert found.healthy, str(found)
    assert Kind.FORM.name in found.identity.abilities
    assert Examination.model_validate_json(found.model_dump_json()) == found
