"""How hard a cell is to SET: for life, and since its last RESET; and what it conducts at most."""

from __future__ import annotations

import numpy as np
import pytest

from rramhil.device import Kind, Pulse
from rramhil_drivers.emulator import physics
from rramhil_drivers.emulator.chipfile import ChipFile, SetLaw, load_chip
from rramhil_drivers.emulator.die import EmulatedDie
from rramhil_drivers.emulator.faults import STUCK
from rramhil_drivers.emulator.fluctuation import uniforms_of

CELLS = np.arange(4000)


def chip(**changed: float) -> ChipFile:
    found = load_chip("40nm")
    assert found.cells is not None
    law = found.cells.set.model_copy(update=changed)
    return found.model_copy(update={"cells": found.cells.model_copy(update={"set": law})})


def law(**changed: float) -> SetLaw:
    found = chip(**changed).cells
    assert found is not None
    return found.set


def test_weak_cells_lie_above_the_others_by_their_mean_and_tail() -> None:
    rng = np.random.default_rng(3)
    plain = {"scale_cell_sd": 0.0, "weak_cell_sd": 0.0, "weak_share": 0.25, "weak_ln_scale": 0.4}
    even = physics.ln_scales(law(**plain, weak_tail=0.0), 40000, rng)
    assert (even > 0).mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(even[even > 0], 0.4, rtol=1e-6)
    tailed = physics.ln_scales(law(**plain, weak_tail=0.75), 40000, rng)
    weak = tailed[tailed > 0]
    assert weak.min() >= 0.1
    assert weak.mean() == pytest.approx(0.4, rel=0.03)
    assert np.quantile(weak - 0.1, 0.95) == pytest.approx(0.3 * np.log(20), rel=0.06)


def test_what_is_fresh_is_spread_about_the_cells_own() -> None:
    drawn = uniforms_of(np.arange(50000), np.full(50000, 7, np.uint32), 5)
    own = np.full(50000, 0.5, np.float32)
    found = np.log(physics.scales(law(fresh_share=0.6), own, drawn))
    assert found.min() >= 0.2 - 1e-6
    assert found.mean() == pytest.approx(0.5, rel=0.02)
    assert found.std() == pytest.approx(0.3, rel=0.03)
    easy = np.full(50000, -0.3, np.float32)  # nothing above 0 to be drawn anew
    np.testing.assert_allclose(np.log(physics.scales(law(fresh_share=0.6), easy, drawn)), -0.3)


def set_levels(die: EmulatedDie, resets: int) -> list[np.ndarray]:
    """Conductances of one SET, after each of `resets` RESETs."""
    found = []
    for _ in range(resets):
        die.apply(Pulse(Kind.RESET, CELLS, 3.4, 4.0, seconds=200e-9))
        die.apply(Pulse(Kind.SET, CELLS, 2.0, 2.5, seconds=200e-9))
        found.append(die._cells.written[CELLS].copy())
    return found


def test_a_reset_draws_anew_and_nothing_else_does() -> None:
    quiet = {"weak_share": 1.0, "weak_ln_scale": 0.5, "weak_tail": 0.5, "fresh_share": 0.7}
    die = EmulatedDie(chip(**quiet), tiles=1)
    die._cells.wake(CELLS)
    cells = die._cells
    first = cells._scales(CELLS)
    die.apply(Pulse(Kind.SET, CELLS, 2.0, 2.5, seconds=200e-9))
    die.read(CELLS)
    np.testing.assert_array_equal(cells._scales(CELLS), first)
    die.apply(Pulse(Kind.RESET, CELLS[::2], 3.4, 4.0, seconds=200e-9))
    after = cells._scales(CELLS)
    np.testing.assert_array_equal(after[1::2], first[1::2])
    assert (after[::2] != first[::2]).mean() > 0.9
    assert 0.2 < np.corrcoef(np.log(after[::2]), np.log(first[::2]))[0, 1] < 0.8


def test_a_saved_die_goes_on_with_the_same_draws() -> None:
    made = chip(weak_share=1.0, weak_ln_scale=0.5, fresh_share=0.7)
    die = EmulatedDie(made, tiles=1, seed=4)
    set_levels(die, 2)
    kept = die.freeze()
    again = EmulatedDie(made, tiles=1, seed=4)
    again.thaw(kept)
    np.testing.assert_array_equal(set_levels(again, 1)[0], set_levels(die, 1)[0])


def test_the_more_is_fresh_the_less_two_attempts_agree() -> None:
    def agreement(share: float) -> float:
        die = EmulatedDie(chip(weak_share=1.0, weak_ln_scale=0.6, fresh_share=share), tiles=1)
        first, second = set_levels(die, 2)
        moved = (first > 20e-6) & (second > 20e-6)
        return float(np.corrcoef(first[moved], second[moved])[0, 1])

    assert agreement(0.0) > agreement(0.8) + 0.1


def test_cells_end_at_highest_conductances_of_their_own() -> None:
    def ends(sd: float) -> np.ndarray:
        made = chip(
            highest_cell_sd=sd, weak_share=0.0, scale_cell_sd=0.0, limit_siemens=450e-6,
            bl_gate_share=3.0,
        )  # fmt: skip
        die = EmulatedDie(made, tiles=1)
        for _ in range(3):
            die.apply(Pulse(Kind.SET, CELLS, 4.0, 4.0, seconds=200e-9))
        stuck = (die._cells.flags[CELLS] & STUCK) > 0
        return np.asarray(np.log(die._cells.written[CELLS][~stuck]))

    assert ends(0.1).std() == pytest.approx(0.1, abs=0.02)
    assert ends(0.0).std() < 0.03
