"""Fit the laws of writing to pulse counts, on simulated arrays.

What is held apart, and not looked at here: odd blocks of 64 addresses; of `write_verify_eval` the
word lines of 2,048 addresses after `FIT_LINES` of them, and all dates of 3 bits; of
`write_verify_parameter_scans` the WL steps that are not in `FIT_STEPS`. The search starts from
the round numbers in `FITTED`, whatever chip it is for, so that nothing comes in by its start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rramhil.device import Cells, Refused
from rramhil.schema import FileError

from ..emulator.chipfile import ChipFile, PulsedLaws, load_chip
from ..emulator.die import EmulatedDie
from . import sweeps
from .bootstrap import F64
from .pulse_counts import (
    ALLOWED,
    SCANS,
    THREE_BIT_STEP,
    Key,
    fitted_lines,
    measured_rows,
    predict,
    with_pulses,
)
from .recipes import AIMS, CAPS, TOP_RESETS, WINDOWS, WINDOWS_3BIT, Counts, ispp_run
from .sources import Measured
from .surface import descend

if TYPE_CHECKING:
    import pandas as pd

SECONDS = 200e-9
"""Width of the pulses of all write-verify runs; the gate curve of this width is fitted here."""
FIT_STEPS = (0.04, 0.1, 0.14)
FIT_CELLS, POINTS = 400, 72
THREE_BIT_CELLS, THREE_BIT_WEIGHT = 100, 0.5
CAPS_HERE = {"ISPP": 100, "FPPV": 100, "SDR": 60}
"""Pulses at which measured and simulated counts are clipped here: fewer than in the comparison,
for half of the time of a simulation goes to the last hundredth of its cells."""
DECILES = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
STIFF = 0.3
"""What a step from its start costs a number."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number of the chip file where the search starts, and the step of the search there.

    `how`: the step is a "shift", of the logarithm ("factor"), or of the log odds ("share").
    """

    path: str
    start: float | tuple[float, ...]
    how: str
    step: float

    def at(self, x: float) -> float | tuple[float, ...]:
        """The number `x` steps from the start."""
        if isinstance(self.start, tuple):
            return tuple(float(f"{v + self.step * x:.4g}") for v in self.start)
        if self.how == "shift":
            value = self.start + self.step * x
        elif self.how == "factor":
            value = self.start * np.exp(self.step * x)
        else:
            value = 1 / (1 + (1 / self.start - 1) * np.exp(-self.step * x))
        return float(f"{value:.4g}")


FITTED = (
    Number("width.threshold_volts", 2.0, "shift", 0.05),
    Number("width.scale_volts", 0.2, "factor", 0.2),
    Number("width.shape", 0.8, "factor", 0.2),
    Number("width.highest_siemens", 260e-6, "factor", 0.07),
    Number("width.cell_sd_volts", 0.02, "factor", 0.4),
    Number("width.pulse_sd_volts", 0.05, "factor", 0.2),
    Number("set.kinetic_volts", 0.05, "factor", 0.2),
    Number("set.pulse_tail", 0.4, "factor", 0.3),
    Number("set.pulse_upwards", 1.0, "factor", 0.2),
    Number("set.bl_shift_volts", 0.2, "factor", 0.2),
    Number("set.bl_threshold_volts", 0.7, "shift", 0.1),
    Number("set.bl_gate_share", 0.7, "factor", 0.15),
    Number("set.bl_cell_sd_volts", 0.05, "factor", 0.4),
    Number("set.bl_pulse_sd_volts", 0.01, "factor", 0.4),
    Number("set.corner_volts", 0.05, "factor", 0.3),
    Number("set.scale_cell_sd", 0.1, "factor", 0.3),
    Number("set.weak_share", 0.4, "share", 0.4),
    Number("set.weak_ln_scale", 0.4, "factor", 0.3),
    Number("set.weak_cell_sd", 0.1, "factor", 0.4),
    Number("set.weak_tail", 0.5, "share", 0.7),
    Number("set.fresh_share", 0.4, "share", 0.7),
    Number("set.highest_cell_sd", 0.06, "factor", 0.3),
    Number("reset.threshold_volts", (0.5, 0.9, 1.3, 1.7, 1.8), "shift", 0.06),
    Number("reset.broken_power", 0.5, "factor", 0.2),
    Number("reset.cell_sd", 0.05, "factor", 0.4),
    Number("reset.pulse_sd", 0.1, "factor", 0.25),
    Number("reset.least_share", 0.5, "factor", 0.3),
    Number("reset.share_volts", 0.5, "factor", 0.2),
    Number("reset.creep", 0.04, "factor", 0.3),
    Number("hrs.siemens", 5e-6, "factor", 0.15),
    Number("hrs.cell_sd", 0.4, "factor", 0.2),
    Number("hrs.cycle_sd", 0.5, "factor", 0.2),
    Number("hrs.repeat_sd", 0.3, "factor", 0.3),
    Number("hrs.hard_share", 0.16, "share", 0.1),
    Number("hrs.hard_volts", 1.3, "shift", 0.1),
    Number("hrs.hard_cell_sd_volts", 0.2, "factor", 0.2),
)


def moved(laws: PulsedLaws, x: F64) -> PulsedLaws:
    """`laws` with every number of `FITTED` that many steps from its start; `x` (numbers,)."""
    changed: dict[str, dict[str, Any]] = {"width": {}, "set": {}, "reset": {}, "hrs": {}}
    for number, steps in zip(FITTED, x.tolist(), strict=True):
        table, key = number.path.split(".")
        changed[table][key] = number.at(steps)
    here = changed.pop("width")
    changed["set"]["widths"] = tuple(
        w.model_copy(update=here) if abs(w.seconds / SECONDS - 1) < 0.01 else w
        for w in laws.set.widths
    )
    return laws.model_copy(
        update={name: getattr(laws, name).model_copy(update=new) for name, new in changed.items()}
    )


def fit(data: Measured, laws: PulsedLaws, say: Callable[[str], None]) -> PulsedLaws:
    """`laws` with `FITTED` moved to where means, distributions and success agree best.

    On even blocks of addresses, fresh cells; about `len(SPREADS) * POINTS` simulated arrays of a
    second each.
    """
    target, chip = Target(data.part("fit")), load_chip("radar")

    def residuals(x: F64, seed: int) -> F64:
        there = chip.model_copy(update={"cells": moved(laws, x)})
        try:
            return np.append(target.residuals(there, seed), STIFF * x)
        except Refused:  # a gate sweep that does not reach the levels: no such cells
            return np.empty(0)

    try:
        return moved(laws, descend(residuals, len(FITTED), POINTS, say))
    except ValueError as error:
        raise FileError(f"the laws of writing cannot be fitted: {error}") from None


class Target:
    """What the search aims at: the fitted part of the measured counts and of one sweep."""

    def __init__(self, part: Measured) -> None:
        keys: list[Key] = [(a, level, 0.0) for a in ("FPPV", "SDR") for level in WINDOWS]
        self.rows = {key: fitted_lines(measured_rows(part, key)) for key in keys}
        self.three_bits: dict[int, pd.DataFrame] = {}
        if part.has(SCANS):
            steps: list[Key] = [("ISPP", level, step) for step in FIT_STEPS for level in AIMS]
            self.rows |= {key: measured_rows(part, key) for key in steps}
            self.three_bits = _three_bits(part)
        self.sweep = None
        if part.has(sweeps.TABLE):
            self.sweep = next(s for s in sweeps.SET_SWEEPS if s.adds_up)
            table = sweeps.set_table(part, self.sweep).groupby("gate")["siemens"]
            self.curve = {gate: np.quantile(values, (0.1, 0.5, 0.9)) for gate, values in table}

    def residuals(self, chip: ChipFile, seed: int) -> F64:
        """How far `chip` is from it, in units of about what is allowed; of one shape (n,)."""
        counts = predict(chip, seed, FIT_CELLS, (), 1, CAPS_HERE)
        counts |= _ispp_at_once(chip, seed)
        parts = [_residuals(key, rows, counts[key]) for key, rows in self.rows.items()]
        for level, rows in self.three_bits.items():
            key = ("ISPP", level, THREE_BIT_STEP)
            parts.append(THREE_BIT_WEIGHT * _residuals(key, rows, counts[key])[:-1])
        if self.sweep is not None:
            parts.append(self._off_curve(chip))
        return np.concatenate(parts)

    def _off_curve(self, chip: ChipFile) -> F64:
        assert chip.cells is not None
        assert self.sweep is not None
        made = sweeps.predicted_set(chip.cells, self.sweep, seed=1)
        off = []
        for gate, (low, median, high) in self.curve.items():
            if median > sweeps.ABOVE_SIEMENS:
                found = np.quantile(made[gate], (0.1, 0.5, 0.9))
                off.append(np.log(found[1] / median) / sweeps.MEDIAN_ALLOWED)
                off.append(np.log((found[2] - found[0]) / (high - low)) / sweeps.SPREAD_ALLOWED)
        return np.array(off) / 2


def _three_bits(part: Measured) -> dict[int, pd.DataFrame]:
    """The scan of 3 bits at the step of the evaluation, of those levels whose windows agree."""
    table = part.table(SCANS)
    run = table[
        (table["algorithm"] == "ISPP")
        & (table["bits_per_cell"] == 3)
        & ((table["wl_step_v"] - THREE_BIT_STEP).abs() < 1e-4)
    ]
    found = {}
    for level, (low, _) in WINDOWS_3BIT.items():
        rows = with_pulses(run[run["level"] == level], CAPS["ISPP"], "ISPP")
        if len(rows) and abs(1 / rows["r_hi"].iloc[0] / low - 1) < 0.002:
            found[level] = rows
    return found


def _ispp_at_once(chip: ChipFile, seed: int) -> dict[Key, Counts]:
    """ISPP into all levels of a step at the same time, in cells of their own."""
    die = EmulatedDie(chip, die=seed, seed=seed, tiles=1)
    cells = np.random.default_rng(seed).permutation(die.spec.size)
    found: dict[Key, Counts] = {}
    for step in FIT_STEPS:
        found |= _levels(die, cells, {n: WINDOWS[n] for n in AIMS}, step, FIT_CELLS)
    return found | _levels(die, cells, WINDOWS_3BIT, THREE_BIT_STEP, THREE_BIT_CELLS)


def _levels(
    die: EmulatedDie,
    cells: Cells,
    windows: Mapping[int, tuple[float, float]],
    step: float,
    each: int,
) -> dict[Key, Counts]:
    here = np.sort(cells[: each * len(windows)])
    which = np.random.default_rng(0).permutation(here.size) % len(windows)
    low, high = np.array(list(windows.values())).T
    counts = ispp_run(die, here, (low[which], high[which]), step, CAPS_HERE["ISPP"])
    return {
        ("ISPP", level, step): counts.take(which == number) for number, level in enumerate(windows)
    }


def _residuals(key: Key, rows: pd.DataFrame, counts: Counts) -> F64:
    """Of the mean, of the distribution at some of the measured deciles, and of success."""
    algorithm, level, step = key
    if level == 3 and not step:
        off = [
            (counts.inside & (counts.resets <= n)).mean()
            - (rows["success"] & (rows["resets"] <= n)).mean()
            for n in (1, 2, 5, TOP_RESETS[algorithm])
        ]
        return np.array(off) / 0.04
    cap = CAPS_HERE[algorithm]
    pulses, predicted = np.minimum(rows["pulses"].to_numpy(), cap), np.minimum(counts.pulses, cap)
    at = np.quantile(pulses, DECILES, method="inverted_cdf")
    shares = [(predicted <= value).mean() - (pulses <= value).mean() for value in at]
    mean = np.log(predicted.mean() / pulses.mean()) / ALLOWED[algorithm]
    failed = (predicted >= cap).mean() - (pulses >= cap).mean()
    return np.array([mean, *(np.array(shares) / 0.10), np.clip(failed / 0.01, -2, 2)])
