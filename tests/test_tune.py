"""Forming and the gate sweep."""

from __future__ import annotations

import numpy as np
import pytest

from rramhil.address import open_device
from rramhil.device import Refused
from rramhil.tune import Forming, GateCurve, SweepPoint, form, gate_curve, gate_sweep
from rramhil.verify import Bias


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
    from dataclasses import replace

    from rramhil.device import Kind

    die = open_device("emulator:40nm?die=4&formed=no")
    die.spec = replace(
        die.spec, pulses={k: v for k, v in die.spec.pulses.items() if k != Kind.FORM}
    )
    with pytest.raises(Refused, match="does no FORM"):
        list(form(die, np.arange(10), Forming()))
