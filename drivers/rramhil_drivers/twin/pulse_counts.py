"""Pulse counts of ISPP, FPPV and SDR: as measured, and of the product's own recipes.

The predicted ones come from `rramhil.verify.program` on an emulated die of the chip file whose
gate voltages come from its own gate sweep: see `recipes`. Measured: `write_verify_eval` and
`write_verify_parameter_scans`, RADAR array data (A. Levy et al., IEEE TED 2021,
doi 10.1109/TED.2021.3097975), fresh cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..emulator.chipfile import ChipFile
from ..emulator.die import EmulatedDie
from .recipes import (
    AIMS,
    CAPS,
    TOP_RESETS,
    WINDOWS,
    Counts,
    fppv_chain,
    ispp_run,
    sdr_run,
    sweep_gates,
    top_run,
)
from .sources import Measured

if TYPE_CHECKING:
    import pandas as pd

Key = tuple[str, int, float]
"""Algorithm, level, and the WL step of ISPP (else 0)."""
EVAL, SCANS = "write_verify_eval", "write_verify_parameter_scans"
THREE_BIT_STEP = 0.07
WORD_LINE = 2048
"""Addresses that an evaluation writes one after the other."""
FIT_LINES = 0.6
"""Share of an evaluation's word lines that is fitted to."""
ALLOWED = {"ISPP": 0.10, "FPPV": 0.15, "SDR": 0.10}
"""Of the distance of mean pulses, relative."""


# --------------------------------------------------------------------------- predicted


def predict(
    chip: ChipFile,
    seed: int,
    cells: int,
    steps: tuple[float, ...],
    dies: int,
    caps: Mapping[str, int] = CAPS,
) -> dict[Key, Counts]:
    """Counts of every algorithm and level, from `dies` dies of `cells` cells each."""
    found = [_one_die(chip, seed + die, cells, steps, caps) for die in range(dies)]
    return {key: _joined([one[key] for one in found]) for key in found[0]}


def _one_die(
    chip: ChipFile, seed: int, count: int, steps: tuple[float, ...], caps: Mapping[str, int]
) -> dict[Key, Counts]:
    die = EmulatedDie(chip, die=seed, seed=seed, tiles=1)
    rows = np.random.default_rng(seed).permutation(die.spec.size)[: count + 512]
    cells, sample = np.sort(rows[:count]), np.sort(rows[count:])
    curve = sweep_gates(die, sample)
    found: dict[Key, Counts] = {}
    for level, counts in fppv_chain(die, cells, curve, caps["FPPV"]):
        found["FPPV", level, 0.0] = counts
    for level, aim in AIMS.items():
        found["SDR", level, 0.0] = sdr_run(
            die, cells, level, float(curve.nominal_gate(aim)), caps["SDR"]
        )
    found["SDR", 3, 0.0] = top_run(die, cells, TOP_RESETS["SDR"])
    for step in steps:
        for level in AIMS:
            window = WINDOWS[level]
            found["ISPP", level, step] = ispp_run(die, cells, window, step, caps["ISPP"])
    return found


def _joined(parts: list[Counts]) -> Counts:
    pulses, resets, inside = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("pulses", "resets", "inside")
    )
    return Counts(pulses, resets, inside)


# ---------------------------------------------------------------------------- measured


def measured_rows(data: Measured, key: Key) -> pd.DataFrame:
    """Rows of one algorithm and level, fresh cells at 2 bits, with `pulses` as clipped."""
    algorithm, level, step = key
    table = data.table(SCANS if algorithm == "ISPP" else EVAL)
    rows = table[
        (table["algorithm"] == algorithm)
        & (table["bits_per_cell"] == 2)
        & (table["level"] == level)
    ]
    if algorithm == "ISPP":
        rows = rows[(rows["wl_step_v"] - step).abs() < 1e-4]
    else:
        rows = rows[rows["condition"] == "fresh"]
    return with_pulses(rows, CAPS[algorithm], algorithm)


def fitted_lines(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the word lines that are fitted to; the lines behind them are held apart whole."""
    line = rows["addr"] // WORD_LINE
    lines = np.unique(line)
    return rows[line.isin(lines[: max(1, round(FIT_LINES * lines.size))])]


def held_lines(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the word lines that `fitted_lines` leaves out."""
    return rows.drop(index=fitted_lines(rows).index)


def with_pulses(rows: pd.DataFrame, cap: int, algorithm: str) -> pd.DataFrame:
    pulses = rows["n_set"].astype(int) + rows["n_reset"].astype(int) - 1
    resets = rows["n_reset"].astype(int) - (1 if algorithm == "FPPV" else 0)
    return rows.assign(pulses=pulses.clip(upper=cap), resets=resets)
