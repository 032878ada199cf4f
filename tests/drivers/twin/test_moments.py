"""A twin fitted to a ledger of the emulator finds the parameters that made the ledger."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rramhil.characterise import Plan, characterise
from rramhil.device import Kind
from rramhil.verify import Bias
from rramhil_drivers.emulator.chipfile import ChipFile, load_chip
from rramhil_drivers.emulator.die import EmulatedDie
from rramhil_drivers.twin.moments import PARAMETERS, Parameter, compare, fit, moments, moved_chip
from rramhil_drivers.twin.record import Call, Record, do_again

GATES = Plan((1.9, 3.3, 15), (0.5, 2.9, 13), 3.2, (2.6,), (0.1, 10.0))
MOVES = {
    "set.threshold_volts": 0.08,
    "set.highest_siemens": -0.1,
    "set.pulse_sd_volts": 0.3,
    "reset.threshold_volts": -0.1,
    "hrs.siemens": 0.3,
    "noise.sd": 0.5,
}


def protocol(cells: int) -> Record:
    """The calls of GATES, with no readings yet."""

    class Watched(EmulatedDie):
        def read(self, cells):  # type: ignore[no-untyped-def]
            calls.append(Call(None, self.clock.now(), siemens=np.zeros(count, np.float32)))
            return super().read(cells)

        def apply(self, pulse):  # type: ignore[no-untyped-def]
            calls.append(
                Call(pulse.kind, self.clock.now(), pulse.seconds, pulse.volts, pulse.gate_volts)
            )
            super().apply(pulse)

    calls: list[Call] = []
    count = cells
    die = Watched(load_chip("40nm"), tiles=1)
    list(characterise(die, np.arange(cells), GATES, Bias()))
    return Record("made up", np.arange(cells), tuple(calls))


@pytest.fixture(scope="module")
def fitted() -> tuple[ChipFile, dict[str, tuple[float, float | None, float | None]]]:
    parameters = [p for p in PARAMETERS if p.path in MOVES]
    moves = np.array([MOVES[p.path] for p in parameters])
    truth = moved_chip(load_chip("40nm"), parameters, moves)
    plain = protocol(256)
    seen = do_again(plain, truth, copies=1, seed=77).readings
    readings = iter(seen)
    calls = tuple(
        replace(call, siemens=next(readings)) if call.kind is None else call for call in plain.calls
    )
    chip, found = fit(Record("moved", plain.cells, calls), load_chip("40nm"), lambda _: None)
    return chip, {f.parameter.path: (f.move, f.low, f.high) for f in found}


def test_known_parameters_are_found_within_their_confidence(fitted) -> None:  # type: ignore[no-untyped-def]
    """Of 12 intervals of 95 % one may miss (two or more: 12 %), none by far (4 of its errors).

    `scripts/bench twin` has the coverage over dies.
    """
    _, found = fitted
    missed = []
    for path, (move, low, high) in found.items():
        truth = MOVES.get(path, 0.0)
        assert low is not None, f"{path} is not told"
        error = (high - low) / 2 / 1.96
        assert abs(move - truth) < 4 * error, f"{path}: {low} to {high}, not {truth}"
        missed += [path] if not low <= truth <= high else []
    assert len(missed) <= 1, missed
    for path, truth in MOVES.items():
        _, low, high = found[path]
        assert (high - low) / 2 / 1.96 < abs(truth), f"{path} is told no better than its move"


def test_steps_of_the_converter_do_not_hide_small_noise() -> None:
    """Noise of less than a step moves quantiles of changes; undithered they stay."""
    limits, rng = load_chip("40nm").reading, np.random.default_rng(1)
    cells = 100e-6 + limits.lsb * rng.random(4000)

    def changes(sd: float) -> np.ndarray:
        seen = cells + sd * rng.standard_normal((2, 4000))
        read = (np.round(seen / limits.lsb) * limits.lsb).astype(np.float32)
        return moments(list(read), limits)[-3:]

    widths = [np.ptp(changes(share * limits.lsb)) / limits.lsb for share in (0.3, 0.4, 0.5)]
    assert np.diff(widths).min() > 0.08


def test_the_fitted_chip_predicts_another_die_of_its_kind(fitted) -> None:  # type: ignore[no-untyped-def]
    """Better than the chip that the fit began from, and within a tenth."""
    chip, _ = fitted
    base = load_chip("40nm")
    parameters = [p for p in PARAMETERS if p.path in MOVES]
    truth = moved_chip(base, parameters, np.array([MOVES[p.path] for p in parameters]))
    plain = protocol(256)
    another = do_again(plain, truth, copies=2, seed=501)

    def worst(predictor: ChipFile) -> float:
        rows = [row for row in compare(another, predictor, 3) if row.statistic == "median"]
        return max(abs(row.distance) for row in rows if row.measured > 20)

    assert worst(chip) < 0.1
    assert worst(base) > 3 * worst(chip)
    assert chip.cells.form == base.cells.form


def test_a_record_without_resets_does_not_tell_their_threshold() -> None:
    plain = protocol(64)
    sets = tuple(call for call in plain.calls if call.kind is not Kind.RESET)[:20]
    record = do_again(Record("x", plain.cells, sets), load_chip("40nm"), copies=1, seed=5)
    _, found = fit(record, load_chip("40nm"), lambda _: None)
    told = {f.parameter.path for f in found if f.told}
    assert "reset.threshold_volts" not in told
    assert "set.threshold_volts" in told


def test_moments_ignore_cells_without_an_answer_and_bound_those_above_the_range() -> None:
    rows = [np.array([1e-6, 2e-6, 3e-6, np.nan, np.inf], np.float32)] * 2
    found = moments(rows, load_chip("40nm").reading)
    assert np.isfinite(found).all()
    assert found[4] == pytest.approx(
        2.5e-6, abs=0.05e-6
    )  # half a step; the median of the first reading


def test_a_factor_moves_every_entry_and_a_shift_every_threshold() -> None:
    base = load_chip("40nm")
    both = [Parameter("noise.sd", "factor", 0.1), Parameter("set.threshold_volts", "shift", 0.1)]
    moved = moved_chip(base, both, np.array([0.5, -0.2]))
    assert base.cells is not None
    assert moved.cells is not None
    assert moved.cells.noise.sd == pytest.approx([1.5 * sd for sd in base.cells.noise.sd])
    for new, old in zip(moved.cells.set.widths, base.cells.set.widths, strict=True):
        assert new.threshold_volts == pytest.approx(old.threshold_volts - 0.2)
