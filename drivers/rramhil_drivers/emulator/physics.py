"""What a pulse does to cells: pure functions on float32 arrays.

Conductances are in siemens, voltages in volts, float32 of shape (cells,). The laws and their
sources are in docs/emulator.md; the parameters come from the chip file.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rramhil_drivers.emulator.chipfile import (
    FormLaw,
    HighResistance,
    ResetLaw,
    SetLaw,
    SetWidth,
    StatisticalLaw,
)

F32 = NDArray[np.float32]
Halves = NDArray[np.float16] | F32  # fixed parameters are kept as float16
TABLE_STEP = 1e-6  # siemens between two entries of a level table
TABLE_SIZE = 1024
NO_DRIVE_VOLTS = 1e-3  # a SL drive below this is none: 1/26 of the thermal voltage


def as_f32(values: ArrayLike) -> F32:
    """`values` as a float32 array (no copy when they are one)."""
    return np.asarray(values, dtype=np.float32)


def normals(rng: np.random.Generator, count: int) -> F32:
    """`count` standard normal numbers as float32."""
    return rng.standard_normal(count, dtype=np.float32)


def softplus(x: F32, softness: float) -> F32:
    """softness ln(1 + exp(x / softness)): 0 far below, x far above."""
    s = np.float32(softness)
    return as_f32(s * np.logaddexp(np.float32(0), x / s, dtype=np.float32))


class LevelTable:
    """A function of conductance, tabulated every µS, for a cheap look-up."""

    def __init__(self, siemens: tuple[float, ...], values: tuple[float, ...]) -> None:
        grid = np.arange(TABLE_SIZE) * TABLE_STEP
        self.values = np.interp(grid, siemens, values).astype(np.float32)

    def __call__(self, g: F32) -> F32:
        index = (g * np.float32(1 / TABLE_STEP) + np.float32(0.5)).astype(np.int32)
        return as_f32(self.values.take(index, mode="clip"))


# ------------------------------------------------------------------------------------ SET


def set_ceiling(
    law: SetLaw,
    seconds: float,
    gate_volts: F32,
    volts: F32,
    cell: tuple[Halves, Halves],
    noise: F32,
) -> F32:
    """Conductance that a SET pulse can reach: the softer minimum of a gate and a BL ceiling.

    The gate limits the current and with it the filament (D. Ielmini, IEEE TED 58, 4309, 2011:
    R_LRS is inversely proportional to the compliance current); the shapes are fitted. `cell`:
    standard normal (gate shift, gain) of each cell; `noise`: standard normal, fresh for the
    pulse. Raises ValueError for a width outside the fitted ones.
    """
    at = set_width(law, seconds)
    shift = at.cell_sd_volts * cell[0] + np.float32(at.pulse_sd_volts) * noise
    lift = np.log(np.maximum(volts, np.float32(0.05)) * np.float32(1 / law.bl_reference_volts))
    gate = gate_volts + shift + np.float32(law.bl_shift_volts) * lift
    over = softplus(as_f32(gate - np.float32(at.threshold_volts)), law.softness_volts)
    x = over * np.float32(1 / at.scale_volts)
    gate_ceiling = as_f32(np.float32(-at.highest_siemens) * np.expm1(-(x ** np.float32(at.shape))))
    line = softplus(as_f32(volts - np.float32(law.bl_threshold_volts)), law.softness_volts)
    line_ceiling = as_f32(line * np.float32(law.bl_siemens_per_volt))
    lowest = soft_minimum(gate_ceiling, line_ceiling, law.sharpness)
    gain = np.exp(np.float32(law.gain_cell_sd) * cell[1].astype(np.float32))
    return as_f32(np.minimum(lowest * gain, np.float32(law.limit_siemens)))


def soft_minimum(a: F32, b: F32, sharpness: float) -> F32:
    """(a^-p + b^-p)^(-1/p) of positive a, b: never above the smaller one."""
    low = np.maximum(np.minimum(a, b), np.float32(1e-12))
    ratio = low / np.maximum(np.maximum(a, b), np.float32(1e-12))
    p = np.float32(sharpness)
    return as_f32(low * np.exp(np.log1p(np.exp(p * np.log(ratio))) * np.float32(-1 / sharpness)))


def set_width(law: SetLaw, seconds: float) -> SetWidth:
    """The gate ceiling's parameters at a pulse width, interpolated in log(seconds)."""
    times = [w.seconds for w in law.widths]
    if not times[0] * 0.999 <= seconds <= times[-1] * 1.001:
        raise ValueError(
            f"pulse width {seconds:g} s is outside the fitted ones, {times[0]:g} to {times[-1]:g} s"
        )
    at, x = np.log(times), math.log(seconds)
    names = (name for name in SetWidth.model_fields if name != "seconds")
    values = {n: float(np.interp(x, at, [getattr(w, n) for w in law.widths])) for n in names}
    return law.widths[0].model_copy(update={"seconds": seconds, **values})


# ---------------------------------------------------------------------------------- RESET


def reset_drive(law: ResetLaw, seconds: float, gate_volts: F32, volts: F32) -> F32:
    """Volts that reach the cell: the transistor follows its gate, min(V_SL, V_WL - V_body).

    A wider pulse counts as a higher one, but only where there is a drive: 0 without SL voltage
    and with the transistor off, whatever the width.
    """
    soft = np.float32(law.follower_softness_volts)
    passed = softplus(gate_volts - np.float32(law.body_volts), law.follower_softness_volts)
    drive = np.maximum(volts - softplus(volts - passed, law.follower_softness_volts), 0)
    wider = law.width_volts_per_decade * math.log10(seconds / law.reference_seconds)
    drive = drive + np.float32(wider) * (1 - np.exp(drive * (-1 / soft)))
    return as_f32(np.where(drive > np.float32(NO_DRIVE_VOLTS), drive, np.float32(0)))


def hrs_landing(law: HighResistance, drive: F32, ln_shift: Halves) -> F32:
    """Conductance after a full RESET at `drive` volts; `ln_shift` of the cell and the cycle."""
    over = drive - np.float32(law.reference_volts)
    partial = 1 + np.float32(law.depth) * np.exp(over * np.float32(-1 / law.scale_volts))
    landed = np.float32(law.siemens) * partial * np.exp(ln_shift - over * np.float32(law.per_volt))
    return as_f32(np.clip(landed, law.lowest_siemens, law.highest_siemens))


def reset_target(
    law: ResetLaw,
    hrs: HighResistance,
    threshold: LevelTable,
    drive: F32,
    g: F32,
    sl_shift: Halves,
    hrs_shift: Halves,
    rng: np.random.Generator,
    cycle: np.random.Generator,
) -> F32:
    """Conductance after a RESET pulse: an abrupt drop, or a small one; never a rise.

    The drop happens when drive + noise passes the threshold of the present conductance and
    of the cell, so its probability is the normal distribution function of the overdrive. Else
    ions hop with and against the field, and the net rate vanishes with it (the sinh law of
    ionic drift: D. B. Strukov, R. S. Williams, Appl. Phys. A 94, 515, 2009). No drive, no change.
    `rng` draws the noise of the drive, `cycle` the level after the drop.
    """
    count = g.size
    over = drive - threshold(g) - sl_shift + np.float32(law.pulse_sd) * normals(rng, count)
    fresh = np.where(g > hrs.full_siemens, np.float32(hrs.cycle_sd), np.float32(hrs.repeat_sd))
    floor = hrs_landing(hrs, drive, as_f32(hrs_shift + fresh * normals(cycle, count)))
    per_volt = np.float32(1 / law.creep_volts)
    rate = np.float32(law.creep) * np.exp(np.minimum(over, 0) * per_volt)
    rate *= 1 - np.exp(drive * (-2 * per_volt))
    dropped = np.minimum(g, floor)
    after = np.where(over > 0, dropped, np.maximum(g * (1 - rate), dropped))
    return as_f32(np.where(drive > 0, after, g))


# ----------------------------------------------------------------------------------- FORM


def forming_volts(law: FormLaw, count: int, rng: np.random.Generator) -> F32:
    """Forming voltages of `count` cells: normal, and lower in the share that forms easily."""
    volts = np.float32(law.volts) + np.float32(law.cell_sd) * normals(rng, count)
    if law.easy_share:
        easy = rng.random(count, dtype=np.float32) < law.easy_share
        volts -= np.where(easy, law.easy_volts * rng.standard_exponential(count), 0)
    return as_f32(np.maximum(volts, np.float32(law.lowest_volts)))


def form_result(law: FormLaw, ceiling: F32, rng: np.random.Generator) -> F32:
    """Conductance of a cell just formed: lognormal, cut at the ceiling of its gate.

    A ceiling below the median `siemens` cuts there: its law is fitted to SETs of formed cells,
    and the data show formed cells at that median with the gate at `gate_volts`.
    """
    formed = np.float32(law.siemens) * np.exp(np.float32(law.ln_sd) * normals(rng, ceiling.size))
    return as_f32(np.minimum(formed, np.maximum(ceiling, np.float32(law.siemens))))


# ---------------------------------------------------------------------------- statistical


def statistical_target(law: StatisticalLaw, gate_volts: F32) -> F32:
    """Target conductance of a SET pulse: linear in its gate voltage."""
    share = (gate_volts - np.float32(law.gate_low)) / np.float32(law.gate_high - law.gate_low)
    return as_f32(np.float32(law.lowest) + share * np.float32(law.highest - law.lowest))


def statistical_landing(law: StatisticalLaw, target: F32, z: F32) -> F32:
    """Where a write lands: the named law about its target, never below 0."""
    sigma = np.float32(law.sigma)
    if law.law == "multiplicative":
        landed = target * (1 + sigma * z)
    elif law.law == "lognormal":
        landed = target * np.exp(sigma * z)
    else:
        landed = target + sigma * np.float32(law.highest - law.lowest) * z
    return as_f32(np.clip(landed, np.float32(0), np.float32(law.ceiling)))
