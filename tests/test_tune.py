"""Forming and the gate sweep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import ArrayLike

from rramhil.address import open_device
from rramhil.device import Floats, Kind, Refused
from rramhil.schema import FileError, check
from rramhil.tune import Forming, GateCurve, SweepPoint, form, gate_curve, gate_sweep
from rramhil.verify import Bias
from rramhil_drivers.emulator.die import EmulatedDie


def test_the_sweep_measures_a_rising_curve_and_its_inverse() -> None:
    die = open_device("emulator:40nm?die=2&seed=3")
    points = list(gate_sweep(die, np.arange(200), 1.4, 3.6, 23, Bias()))
    assert [p.number for p in points] == list(range(23))
    curve = gate_curve(points)
    assert bool(np.all(np.diff(curve.siemens) > 0))
    assert bool(np.all(np.diff(curve.gate_volts) > 0))
    wanted = np.array([50e-6, 100e-6, 180e-6])
    gates = curve.nominal_gate(wanted)
    assert np.interp(gates, curve.gate_volts, curve.siemens) == pytest.approx(wanted)


def test_one_set_at_the_nominal_gate_lands_at_the_level_in_the_median() -> None:
    from rramhil.verify import write_open_loop

    die = open_device("emulator:40nm?die=2&seed=3")
    curve = gate_curve(list(gate_sweep(die, np.arange(256), 1.4, 3.6, 45, Bias())))
    cells = np.arange(1000, 3000)
    for wanted in (60e-6, 120e-6, 180e-6):
        for _ in write_open_loop(die, cells, np.full(cells.size, curve.nominal_gate(wanted))):
            pass
        assert np.median(die.read(cells)) == pytest.approx(wanted, rel=0.12)


def test_a_level_out_of_reach_is_refused_with_what_is_in_reach() -> None:
    curve = GateCurve(np.array([1.0, 2.0]), np.array([1e-6, 150e-6]), np.zeros(2))
    with pytest.raises(Refused, match=r"200 µS is out of reach.*at most 150 µS"):
        curve.nominal_gate([100e-6, 200e-6])


def test_a_dead_sample_is_refused() -> None:
    point = SweepPoint(0, 1, 1.5, np.full(4, np.nan, np.float32))
    with pytest.raises(Refused, match="no cell of the sample answered"):
        gate_curve([point])


def test_forming_makes_virgin_cells_conduct_and_leaves_formed_ones_alone() -> None:
    die = open_device("emulator:40nm?die=4&formed=no&stuck_lrs=0&stuck_hrs=0&stuck_rows=0")
    cells = np.arange(300)
    rounds = list(form(die, cells, Forming()))
    assert rounds[0].open_cells == 300
    assert rounds[-1].open_cells < 10
    volts = [r.volts for r in rounds[1:]]
    assert volts == sorted(volts)
    again = list(form(die, cells[rounds[-1].formed], Forming()))
    assert len(again) == 1


def test_a_virgin_die_that_cannot_form_is_refused() -> None:
    die = open_device("emulator:40nm?die=4&formed=no")
    die.spec = replace(
        die.spec, pulses={k: v for k, v in die.spec.pulses.items() if k != Kind.FORM}
    )
    with pytest.raises(Refused, match="does no FORM"):
        list(form(die, np.arange(10), Forming()))


def test_a_cell_that_gives_no_answer_gets_no_more_pulses_and_stays_unformed() -> None:
    die = open_device("emulator:40nm?die=4&formed=no&stuck_lrs=0&stuck_hrs=0&stuck_rows=0")
    read, asked = die.read, 0

    def with_dead_cells(cells: ArrayLike) -> Floats:
        nonlocal asked
        asked += 1
        siemens, flat = read(cells), np.asarray(cells)
        siemens[(flat == 7) | ((flat == 8) & (asked > 3))] = np.nan
        return siemens

    die.read = with_dead_cells  # type: ignore[method-assign]
    rounds = list(form(die, np.arange(20), Forming()))
    assert isinstance(die, EmulatedDie)
    counts = die.pulses_counted(Kind.FORM)
    assert (counts[7], counts[8]) == (0, 3)
    assert counts[:7].min() > 3
    assert rounds[-1].formed.sum() == 18
    assert rounds[-1].open_cells == 2


def test_cells_that_give_no_answer_ask_for_no_forming() -> None:
    die = open_device("emulator:40nm?die=4&formed=no")
    die.spec = replace(die.spec, pulses={})
    die.read = lambda cells: np.full(np.size(cells), np.nan, np.float32)  # type: ignore[method-assign]
    assert [r.open_cells for r in form(die, np.arange(5), Forming())] == [5]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"step_volts": 0.0}, "step_volts: input should be greater than 0"),
        ({"step_volts": "-0.05 V"}, "step_volts: input should be greater than 0"),
        ({"step_volts": float("inf")}, "step_volts: input should be a finite number"),
        ({"start_volts": 3.0, "stop_volts": 2.9}, "stop_volts 2.9 V lies below start_volts 3 V"),
        ({"stop_volts": float("nan")}, "stop_volts: input should be a finite number"),
    ],
)
def test_forming_that_goes_nowhere_is_refused_in_one_sentence(
    settings: dict[str, object], sentence: str
) -> None:
    with pytest.raises(FileError, match=sentence) as caught:
        check(settings, Forming, "job.toml")
    assert "\n" not in str(caught.value)


def test_forming_ends_at_the_last_step_within_the_stop() -> None:
    die = open_device("emulator:40nm?die=4&formed=no&stuck_lrs=0&stuck_hrs=0&stuck_rows=0")
    short = Forming(start_volts=1.0, step_volts=0.3, stop_volts=1.7)
    assert [r.volts for r in form(die, np.arange(5), short)] == pytest.approx([0, 1.0, 1.3, 1.6])
    once = Forming(start_volts=1.0, stop_volts=1.0)
    assert [r.volts for r in form(die, np.arange(5), once)] == [0.0, 1.0]
