"""The write-verify runs of the RADAR bench, as the product's own recipes.

A. Levy et al., "RADAR", IEEE TED 2021, doi 10.1109/TED.2021.3097975, and the notes in its data
set: windows, ramps and caps as measured. Not stated there and set here: pulses of 200 ns with BL
2.0 V and RESET at SL 2.8 V and WL 4.0 V, as in the sweeps of the same weeks; and the median
conductance (`aim_siemens`) that the bench's gate voltage of each level gives with one SET. The
product's own gate sweep turns the aims into gate voltages on the die at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Cells, Device
from rramhil.tune import GateCurve, gate_curve, gate_sweep
from rramhil.verify import FPPV, ISPP, SDR, Bias, Ramp, Recipe, Target, program

Window = tuple[float | NDArray[np.float64], float | NDArray[np.float64]]

BIAS = Bias(
    set_volts=2.0,
    set_seconds=200e-9,
    reset_volts=2.8,
    reset_step_volts=0.0,
    reset_stop_volts=2.8,
    reset_gate_volts=4.0,
    reset_seconds=200e-9,
)
ISPP_FIRST_VOLTS, ISPP_LAST_VOLTS = 1.8, 3.495
CAPS = {"ISPP": 150, "FPPV": 200, "SDR": 80}
"""Pulses at which counts are clipped before their mean is taken."""
STEPS = (0.03, 0.05, 0.07, 0.1, 0.12, 0.15)
TOP_RESETS = {"SDR": 21, "FPPV": 10}
AIMS = {0: 204.9e-6, 1: 170.3e-6, 2: 124.1e-6}
WINDOWS = {
    0: (1 / 5000, 1.0),
    1: (1 / 6010, 1 / 5770),
    2: (1 / 9310, 1 / 8510),
    3: (0.0, 1 / 80000),
}
WINDOWS_3BIT = {
    0: (1 / 4200, 1.0),
    1: (1 / 4574.61, 1 / 4536.97),
    2: (1 / 5086.63, 1 / 5040.73),
    3: (1 / 5729.84, 1 / 5670.70),
    4: (1 / 6589.43, 1 / 6506.95),
    5: (1 / 7869.90, 1 / 7736.67),
    6: (1 / 10332.2, 1 / 10022.7),
}
RAMPS = {
    0: (Ramp(start=2.0, step=0.30, stop=4.0), Ramp(start=0.6, step=0.30, stop=4.0)),
    1: (Ramp(start=0.6, step=0.18, stop=4.0), Ramp(start=0.6, step=0.26, stop=4.0)),
    2: (Ramp(start=0.8, step=0.10, stop=4.0), Ramp(start=0.6, step=0.34, stop=4.0)),
}
"""Of BL and of SL in the fine phase of SDR, by level; level 0 needs no RESET."""


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """What a run took: pulses as the bench counts them, RESETs, success; arrays (cells,)."""

    pulses: NDArray[np.int64]
    resets: NDArray[np.int64]
    inside: NDArray[np.bool_]

    def take(self, which: NDArray[np.bool_]) -> Counts:
        """Those of some of the cells; `which` (cells,)."""
        return Counts(self.pulses[which], self.resets[which], self.inside[which])


def sweep_gates(device: Device, cells: Cells) -> GateCurve:
    """The chip's own gate curve: what is retuned for each chip, and nothing else."""
    return gate_curve(list(gate_sweep(device, cells, 1.8, 3.4, 81, BIAS)))


def ispp_run(device: Device, cells: Cells, window: Window, step: float, cap: int) -> Counts:
    """ISPP from WL 1.8 V; every cell is RESET first, and that one is not counted.

    `window`: siemens, one for all cells, or one a cell.
    """
    recipe = ISPP(
        first_reset=True,
        gate_step_volts=step,
        gate_start_volts=ISPP_FIRST_VOLTS,
        gate_stop_volts=ISPP_LAST_VOLTS,
        max_pulses=cap + 1,
    )
    return _counted(device, cells, window, 0.0, recipe, counted_from=1)


def sdr_run(
    device: Device, cells: Cells, level: int, gate_volts: float, cap: int = CAPS["SDR"]
) -> Counts:
    """SDR into level 0, 1 or 2; every cell is RESET first, and that one is not counted."""
    up, down = RAMPS[level]
    recipe = SDR(first_reset=True, max_pulses=cap + 1, fine_set=up, fine_reset=down)
    return _counted(device, cells, WINDOWS[level], gate_volts, recipe, counted_from=1)


def fppv_run(
    device: Device, cells: Cells, level: int, gate_volts: float, cap: int = CAPS["FPPV"]
) -> Counts:
    """FPPV into level 0, 1 or 2, from whatever state the cells are in."""
    recipe = FPPV(max_pulses=cap)
    return _counted(device, cells, WINDOWS[level], gate_volts, recipe, counted_from=0)


def top_run(device: Device, cells: Cells, resets: int) -> Counts:
    """RESETs at one voltage until a cell reads above 80 kohm, at most `resets` of them."""
    recipe = FPPV(first_reset=True, max_pulses=resets)
    return _counted(device, cells, WINDOWS[3], 2.0, recipe, counted_from=0)


def fppv_chain(
    device: Device, cells: Cells, curve: GateCurve, cap: int = CAPS["FPPV"]
) -> Iterator[tuple[int, Counts]]:
    """Level 3, then 0, 1, 2, each from where the one before left the cells, as the bench did.

    The cells start as level 2 leaves them.
    """
    gates = {level: float(curve.nominal_gate(aim)) for level, aim in AIMS.items()}
    fppv_run(device, cells, 2, gates[2], cap)
    yield 3, top_run(device, cells, TOP_RESETS["FPPV"])
    for level in (0, 1, 2):
        yield level, fppv_run(device, cells, level, gates[level], cap)


def _counted(
    device: Device,
    cells: Cells,
    window: Window,
    gate_volts: float,
    recipe: Recipe,
    counted_from: int,
) -> Counts:
    low, high, gate = (np.full(cells.size, v) for v in (*window, gate_volts))
    *_, last = program(device, cells, Target(low, high, gate), recipe, BIAS)
    pulses = last.sets.astype(np.int64) + last.resets - counted_from
    return Counts(pulses, last.resets.astype(np.int64), last.inside)
