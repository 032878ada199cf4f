"""What a pulse does to cells: pure functions on float32 arrays.

Conductances are in siemens, voltages in volts, float32 of shape (cells,). The laws and their
sources are in docs/emulator.md; the parameters come from the chip file.
"""

from __future__ import annotations

import math
from typing import NamedTuple

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
FURTHEST = (-12.0, 4.0)  # spreads: no SET pulse falls shorter or goes further
DEAF = 3.0  # below so many times its kinetic voltage an overdrive does nothing
NO_DRIVE_VOLTS = 1e-3  # a SL drive below this is none: 1/26 of the thermal voltage


def as_f32(values: ArrayLike) -> F32:
    """`values` as a float32 array (no copy when they are one)."""
    return np.asarray(values, dtype=np.float32)


def pick(which: NDArray[np.bool_], one: F32, other: F32) -> F32:
    """np.where for float32 arrays of one shape: bits instead of branches.

    A mask without a pattern costs np.where a mispredicted branch every other cell.
    """
    ones = (-which.view(np.int8)).astype(np.int32)
    one_bits, other_bits = one.view(np.int32), other.view(np.int32)
    return (other_bits ^ ((one_bits ^ other_bits) & ones)).view(np.float32)


def pick_number(which: NDArray[np.bool_], one: float, other: float) -> F32:
    """One of two numbers for each entry of `which`."""
    return np.array([other, one], dtype=np.float32).take(which.view(np.uint8))


def normals(rng: np.random.Generator, count: int) -> F32:
    """`count` standard normal numbers as float32."""
    return rng.standard_normal(count, dtype=np.float32)


def lopsided(rng: np.random.Generator, count: int, tail: float, upwards: float) -> F32:
    """Tukey h numbers (see `tukey`), their positive side scaled by `upwards`, cut at `FURTHEST`."""
    return lopsided_of(normals(rng, count), tail, upwards)


def lopsided_of(n: F32, tail: float, upwards: float) -> F32:
    """What `lopsided` makes of the standard normal numbers `n`."""
    z = n * np.exp(np.float32(tail / 2) * n * n)
    return as_f32(np.clip(z * pick_number(z > 0, upwards, 1.0), *FURTHEST))


def soft_maximum(a: F32, b: F32, softness: float) -> F32:
    """softness ln(exp(a / softness) + exp(b / softness)): the larger one, rounded where equal."""
    gap = np.subtract(a, b)
    np.abs(gap, out=gap)
    gap *= np.float32(-1 / softness)
    np.log1p(np.exp(gap, out=gap), out=gap)
    gap *= np.float32(softness)
    gap += np.maximum(a, b)
    return gap


def softplus(x: F32, softness: float) -> F32:
    """softness ln(1 + exp(x / softness)): 0 far below, x far above."""
    return soft_maximum(as_f32(x), np.zeros(1, np.float32), softness)


class LevelTable:
    """A function of conductance, tabulated every µS, for a cheap look-up."""

    def __init__(self, siemens: tuple[float, ...], values: tuple[float, ...]) -> None:
        grid = np.arange(TABLE_SIZE) * TABLE_STEP
        self.values = np.interp(grid, siemens, values).astype(np.float32)

    def __call__(self, g: F32) -> F32:
        place = g * np.float32(1 / TABLE_STEP)
        place += np.float32(0.5)
        index = place.astype(np.intp)
        return as_f32(self.values.take(index, mode="clip"))


# ------------------------------------------------------------------------------------ SET


class SetCell(NamedTuple):
    """What is fixed in cells for SET, and the scatter of one pulse, float32 of shape (cells,).

    `gate`, `line`: standard normal, of the threshold and of the bit line; `scale`: factor on
    the overdrive that a conductance needs; `highest`: factor on the highest conductance. Fresh
    for the pulse: `gate_noise`, in units of its spread, and `line_noise`, standard normal.
    """

    gate: F32
    scale: F32
    highest: F32 | np.float32
    line: F32
    gate_noise: F32
    line_noise: F32


def ln_scales(law: SetLaw, count: int, rng: np.random.Generator) -> F32:
    """Logarithms of the scales of `count` cells, for life; see `SetLaw`."""
    weak = rng.random(count) < law.weak_share
    spread = np.where(weak, law.weak_cell_sd, law.scale_cell_sd)
    drawn = spread * normals(rng, count)
    excess = np.full(count, law.weak_ln_scale)
    if law.weak_tail:
        excess *= 1 - law.weak_tail + law.weak_tail * rng.standard_exponential(count)
    return as_f32(drawn + excess * weak)


def scales(law: SetLaw, ln_scale: F32, drawn: NDArray[np.float64]) -> F32:
    """Scales of cells after their last RESET; `drawn`: uniform in (0, 1), fresh for each RESET.

    Where a RESET leaves the filament decides how hard it is to grow: a cell that a ramp to the
    end could not SET goes with the others after one more RESET.
    """
    anew = np.float32(law.fresh_share) * (-np.log(as_f32(drawn)) - np.float32(1))
    return as_f32(np.exp(ln_scale + np.maximum(ln_scale, 0) * anew))


def set_result(
    law: SetLaw, at: SetWidth, g: F32, gate_volts: F32, volts: F32, cell: SetCell,
    times: float = 1.0,
) -> F32:  # fmt: skip
    """Conductance after a SET pulse `times` as wide as `at`: never lower than `g`.

    The gate limits the current and with it the filament, and at constant voltage a filament
    grows with the logarithm of time, because its rate falls exponentially with what it has grown
    (D. Ielmini, IEEE TED 58, 4309, 2011); the shapes are fitted. So n equal pulses count as
    kinetic_volts ln(n) more overdrive, and a pulse adds to the overdrive `present` that the
    conductance stands for: exp(u/kinetic) of both add up. A wider pulse is a train of `times`
    pulses without a pause. A pulse that would add less than one
    part in exp(DEAF) of a first one, or less than 1e-5 of `g`, changes nothing.
    """
    scale = cell.scale * np.float32(at.scale_volts)
    highest = cell.highest * np.float32(at.highest_siemens)
    present = g * (np.float32(-1) / highest)
    np.log1p(np.maximum(present, np.float32(-0.9999), out=present), out=present)
    if at.shape != 1:
        present = -((-present) ** np.float32(1 / at.shape))
    present *= -scale
    overdrive = _set_overdrive(law, at, gate_volts, volts, cell)
    spent = overdrive + np.float32(law.kinetic_volts * math.log(times)) if times > 1 else overdrive
    u = soft_maximum(present, spent, law.kinetic_volts)
    u /= scale
    raised = np.expm1(-(u if at.shape == 1 else u ** np.float32(at.shape)))
    raised *= -highest
    np.minimum(raised, np.float32(law.limit_siemens), out=raised)
    able = raised > g * np.float32(1 + 1e-5)
    able &= overdrive > np.float32(-DEAF * law.kinetic_volts)
    return raised if able.all() else pick(able, raised, g)


def _set_overdrive(law: SetLaw, at: SetWidth, gate_volts: F32, volts: F32, cell: SetCell) -> F32:
    """Volts on the gate beyond the cell's threshold, or what the bit line allows of them."""
    gate = np.maximum(volts, np.float32(0.05))
    gate *= np.float32(1 / law.bl_reference_volts)
    np.log(gate, out=gate)
    gate *= np.float32(law.bl_shift_volts)
    gate += gate_volts
    gate -= np.float32(at.threshold_volts)
    gate += np.float32(at.cell_sd_volts) * cell.gate
    gate += np.float32(at.pulse_sd_volts) * cell.gate_noise
    line = volts - np.float32(law.bl_threshold_volts)
    line += np.float32(law.bl_cell_sd_volts) * cell.line
    line += np.float32(law.bl_pulse_sd_volts) * cell.line_noise
    line *= np.float32(law.bl_gate_share)
    smaller = soft_maximum(
        np.negative(gate, out=gate), np.negative(line, out=line), law.corner_volts
    )
    return np.negative(smaller, out=smaller)


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
    partial = over * np.float32(-1 / law.scale_volts)
    np.exp(partial, out=partial)
    partial *= np.float32(law.depth)
    partial += 1
    over *= np.float32(law.per_volt)
    landed = np.exp(np.subtract(ln_shift, over, out=over), out=over)
    landed *= partial
    landed *= np.float32(law.siemens)
    return as_f32(np.clip(landed, law.lowest_siemens, law.highest_siemens, out=landed))


class ResetCell(NamedTuple):
    """The filament before a RESET, and what is fixed in its cell, float32 of shape (cells,).

    `built`: conductance when the last SET had built it; `sl_shift`: volts; `hrs_shift`: of ln G;
    `lost`: volts of the drive that a hard cell loses.
    """

    built: F32
    sl_shift: F32
    hrs_shift: F32
    lost: F32


class ResetDraws(NamedTuple):
    """What is random in a RESET, float32 of shape (cells,): noise of the drive and level after the
    drop, standard normal; the drop's share, standard exponential."""

    pulse: F32
    cycle: F32
    share: F32

    @classmethod
    def drawn(cls, rng: np.random.Generator, count: int) -> ResetDraws:
        """Those of `count` cells."""
        pulse, cycle = normals(rng, count), normals(rng, count)
        return cls(pulse, cycle, rng.standard_exponential(count, dtype=np.float32))


def reset_target(
    law: ResetLaw,
    hrs: HighResistance,
    threshold: LevelTable,
    drive: F32,
    g: F32,
    cell: ResetCell,
    draws: ResetDraws,
) -> F32:
    """Conductance after a RESET pulse: an abrupt drop, or a small one; never a rise.

    The drop happens when drive + noise passes the threshold of the filament and of the cell,
    so its probability is the normal distribution function of the overdrive. Else ions hop with
    and against the field, and the net rate vanishes with it (the sinh law of ionic drift:
    D. B. Strukov, R. S. Williams, Appl. Phys. A 94, 515, 2009). No drive, no change.
    """
    built = np.maximum(cell.built, g)
    needed = g / built
    needed **= np.float32(law.broken_power)
    needed *= threshold(built)
    needed += cell.sl_shift
    over = drive - needed
    over += np.float32(law.pulse_sd) * draws.pulse
    ln_shift = pick_number(g > hrs.full_siemens, hrs.cycle_sd, hrs.repeat_sd)
    ln_shift *= draws.cycle
    ln_shift += cell.hrs_shift
    floor = np.minimum(hrs_landing(hrs, drive - cell.lost, ln_shift), g)
    left = np.maximum(over, 0)
    left *= np.float32(1 / law.share_volts)
    left *= left
    left += np.float32(law.least_share)
    left *= draws.share
    np.exp(np.negative(left, out=left), out=left)
    dropped = g / floor
    dropped **= left
    dropped *= floor
    per_volt = np.float32(1 / law.creep_volts)
    rate = np.minimum(over, 0)
    rate *= per_volt
    np.exp(rate, out=rate)
    rate *= np.float32(-law.creep)
    rate *= 1 - np.exp(drive * (-2 * per_volt))
    rate += 1
    rate *= g
    crept = np.maximum(rate, floor, out=rate)
    after = pick(over > 0, np.minimum(dropped, g, out=dropped), crept)
    return after if drive.min(initial=1.0) > 0 else pick(drive > 0, after, g)


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
