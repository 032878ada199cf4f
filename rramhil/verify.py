"""Read-verify-write: decide in pure code, act in a thin loop, yield what happened.

`next_pulses` looks at one reading of the cells that are still open and returns the pulses to
send; `program` reads, asks, sends and yields a `Round`. The caller's `for` loop is pause,
progress, checkpoint and stop: between two rounds no pulse is in flight. To resume is to run
again, because a closed loop starts by reading.

Three published algorithms are settings of the one loop (data and description: A. Levy et al.,
IEEE Trans. Electron Devices 2021, doi 10.1109/TED.2021.3097975):

ISPP  incremental step pulse programming: SET with a rising gate voltage until the cell is in
      its window; an overshoot is RESET and the ramp starts again. A cell that is still below
      its window when the ramp leaves the device's range is given up.
FPPV  fixed pulse, program and verify: SET at the level's gate voltage, RESET above the
      window, repeat: cycle-to-cycle variation does the search.
SDR   one coarse SET at the level's gate voltage, then fine BL ramps upwards and SL ramps
      downwards; a ramp restarts when the direction changes (published as RADAR).

In every one of them the SL ramp of a cell that will not RESET goes on rising, to
`Bias.reset_stop_volts` at least, and stays there: further than the published caps, because a
share of cells needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from rramhil.device import (
    Bools,
    Cells,
    Device,
    Floats,
    Kind,
    Pulse,
    PulseLimits,
    Range,
    Refused,
    Spec,
)
from rramhil.rounds import Counts, Outcome, Round
from rramhil.schema import Seconds, Strict, Volts

PulseVolts = Annotated[Volts, Field(ge=0)]
PulseSeconds = Annotated[Seconds, Field(gt=0)]


def check_rise(start: float, step: float, stop: float, prefix: str = "") -> None:
    """Raise ValueError for a ramp that ends below its start or never reaches its end."""
    if stop < start:
        raise ValueError(
            f"{prefix}stop {stop:g} V lies below the ramp's start of {start:g} V; "
            "raise the one or lower the other"
        )
    if step == 0 and stop > start:
        raise ValueError(
            f"{prefix}step 0 V never takes the ramp from {start:g} V to {stop:g} V; "
            "give more than 0 V, or start and stop at one voltage"
        )


class Bias(Strict):
    """The pulses that a technology is written with.

    The defaults suit HfO2 1T1R cells at 100 ns (cycling conditions of the RADAR array data:
    SET 100 ns; RESET 100 ns, WL 4 V). RESET ramps SL from `reset_volts` in steps of
    `reset_step_volts` up to `reset_stop_volts` as long as a cell stays above its window.
    """

    set_volts: PulseVolts = 2.0
    set_seconds: PulseSeconds = 100e-9
    reset_volts: PulseVolts = 2.3
    reset_step_volts: PulseVolts = 0.1
    reset_stop_volts: PulseVolts = 3.6
    reset_gate_volts: PulseVolts = 4.0
    reset_seconds: PulseSeconds = 100e-9

    @model_validator(mode="after")
    def _rising(self) -> Bias:
        check_rise(self.reset_volts, self.reset_step_volts, self.reset_stop_volts, "the RESET's ")
        return self


class Ramp(Strict):
    """A voltage that starts at `start` and rises by `step` a pulse up to `stop`, and stays."""

    start: PulseVolts
    step: PulseVolts
    stop: PulseVolts

    @model_validator(mode="after")
    def _rising(self) -> Ramp:
        check_rise(self.start, self.step, self.stop, "the ")
        return self


class _Recipe(Strict):
    max_pulses: int = Field(default=150, ge=1, description="SETs and RESETs a cell may get")
    first_reset: bool = Field(default=False, description="start every cell with a RESET")


class ISPP(_Recipe):
    """Gate ramp: from `gate_start_volts`, or `gate_lead_volts` below the level's nominal gate.

    The lead asks for a start well below the level, not for a voltage: where it would lie below
    the device's lowest gate voltage, the ramp starts there. A `gate_start_volts` is a request,
    and out of range it is refused. A ramp that would pass `gate_stop_volts` ends in a RESET and
    starts again; without one it goes on to the end of the device's range.
    """

    algorithm: Literal["ispp"] = "ispp"
    gate_step_volts: Annotated[Volts, Field(gt=0)] = 0.05
    gate_start_volts: PulseVolts | None = None
    gate_stop_volts: PulseVolts | None = None
    gate_lead_volts: PulseVolts = 0.3

    @model_validator(mode="after")
    def _rising(self) -> ISPP:
        first, last = self.gate_start_volts, self.gate_stop_volts
        if first is not None and last is not None and last < first:
            raise ValueError(
                f"gate_stop_volts {last:g} V lies below gate_start_volts {first:g} V; "
                "raise the one or lower the other"
            )
        return self


class FPPV(_Recipe):
    """One gate voltage a level, as measured by the gate sweep."""

    algorithm: Literal["fppv"] = "fppv"
    max_pulses: int = Field(default=200, ge=1)


class SDR(_Recipe):
    """Coarse SET at the level's gate voltage, then fine ramps of BL (up) and SL (down).

    The SL ramp ends at the larger of `fine_reset.stop` and `Bias.reset_stop_volts`. The defaults
    are the published choice for level 1 of 2 bits per cell.
    """

    algorithm: Literal["sdr"] = "sdr"
    max_pulses: int = Field(default=80, ge=1)
    fine_set: Ramp = Ramp(start=0.6, step=0.18, stop=3.0)
    fine_reset: Ramp = Ramp(start=0.6, step=0.26, stop=3.6)


Recipe = Annotated[ISPP | FPPV | SDR, Field(discriminator="algorithm")]


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Where each cell shall go: window `low`..`high` siemens, and the level's nominal gate."""

    low: Floats
    high: Floats
    gate_volts: Floats

    def __post_init__(self) -> None:
        sizes = {self.low.shape, self.high.shape, self.gate_volts.shape}
        if len(sizes) != 1 or self.low.ndim != 1:
            raise ValueError(f"low, high and gate_volts must be of one length, not {sizes}")
        if not bool(np.all(self.low <= self.high)):
            raise ValueError("a window's low end lies above its high end")

    def take(self, which: NDArray[np.integer] | Bools) -> Target:
        """The targets of some cells."""
        return Target(self.low[which], self.high[which], self.gate_volts[which])

    def for_readings(self) -> Target:
        """This target with its windows in float32, which readings are: the same readings lie
        inside, because both ends are rounded inwards. Unchanged where nothing would be left."""
        low, high = self.low.astype(np.float32), self.high.astype(np.float32)
        under, over = np.flatnonzero(low < self.low), np.flatnonzero(high > self.high)
        low[under] = np.nextafter(low[under], np.float32(np.inf))
        high[over] = np.nextafter(high[over], np.float32(-np.inf))
        return Target(low, high, self.gate_volts) if bool(np.all(low <= high)) else self


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What the algorithm remembers of each cell.

    `heading`: 0 not pulsed yet, +1 the last pulse was a SET, -1 a RESET. `step`: pulses since
    the heading changed (a ramp's position). `coarse`: SDR's coarse SET is still to come (only after
    `first_reset`: a cell taken as it is has been SET before). `spent`: its gate ramp has left
    the device's range; no further pulse.
    """

    heading: NDArray[np.int8]
    step: Counts
    coarse: Bools
    sets: Counts
    resets: Counts
    spent: Bools

    @classmethod
    def fresh(cls, count: int, coarse: bool) -> State:
        """The state of `count` cells at the start; `coarse`: they need a coarse SET."""
        zeros = np.zeros(count, np.int32)
        return cls(
            heading=np.zeros(count, np.int8),
            step=zeros,
            coarse=np.full(count, coarse),
            sets=zeros,
            resets=zeros,
            spent=np.zeros(count, bool),
        )

    def take(self, which: NDArray[np.integer] | Bools) -> State:
        """The state of some cells."""
        return State(
            self.heading[which], self.step[which], self.coarse[which],
            self.sets[which], self.resets[which], self.spent[which],
        )  # fmt: skip


def next_pulses(
    cells: Cells,
    reading: Floats,
    target: Target,
    state: State,
    recipe: Recipe,
    bias: Bias,
    spec: Spec,
) -> tuple[list[Pulse], State]:
    """The pulses for cells that are outside their window, and the state after them.

    Pure. `cells`, `reading` and `target` have one entry for each open cell. A cell inside
    its window, without an answer (NaN) or `spent` gets no pulse; nor does one whose gate ramp
    has risen beyond the range of `spec`, and it is marked spent. Voltages are rounded to the
    grid of `spec`; any other one out of range is refused by the device, not shortened here.
    """
    lower, raise_ = reading > target.high, reading < target.low
    first = None
    if recipe.first_reset:
        first = state.heading == 0
        lower |= first & ~np.isnan(reading)
        raise_ &= ~lower
    if state.spent.any():
        lower &= ~state.spent
        raise_ &= ~state.spent
    if isinstance(recipe, ISPP) and recipe.gate_stop_volts is not None:
        ended = raise_ & (state.heading == 1)
        ended &= _next_gate(state.step, target, recipe, spec) > recipe.gate_stop_volts + 1e-9
        lower, raise_ = lower | ended, raise_ & ~ended
    heading, step = _onwards(state, lower, raise_)
    coarse, spent = state.coarse, state.spent
    pulses = []
    down, up = np.flatnonzero(lower), np.flatnonzero(raise_)
    if down.size:
        begins = None if first is None else first.take(down)
        grid = _limits(spec, Kind.RESET).volts
        lines = _reset_volts(step.take(down), begins, recipe, bias, grid)
        pulses.append(_reset_on_grid(cells.take(down), lines, bias, spec))
    if up.size:
        steps, nominal = step.take(up), target.gate_volts.take(up)
        roughly = coarse.take(up) if coarse.any() else None
        if roughly is not None:
            steps[roughly] = -1
        gates = _gates(steps, nominal, recipe, spec)
        past = _beyond(gates, recipe, spec)
        past = None if past is None else past & (steps > 0)
        if past is not None and past.any():
            ended = up[past]
            spent, within = spent.copy(), ~past
            spent[ended], raise_[ended] = True, False
            heading[ended], step[ended] = state.heading[ended], state.step[ended]
            up, steps, gates = up[within], steps[within], gates[within]
            roughly = None if roughly is None else roughly[within]
        if roughly is not None:
            step[up] = steps
            coarse = coarse & ~raise_
        if up.size:
            volts = _set_volts(steps, roughly, recipe, bias, _limits(spec, Kind.SET).volts)
            pulses.append(_set_on_grid(cells.take(up), volts, gates, bias, spec))
    sets = state.sets + raise_.view(np.int8)
    return pulses, State(heading, step, coarse, sets, state.resets + lower.view(np.int8), spent)


def _onwards(state: State, lower: Bools, raise_: Bools) -> tuple[NDArray[np.int8], Counts]:
    """Heading and step of cells that are pulsed this way: one further, or 0 where they turn."""
    way = raise_.view(np.int8) - lower.view(np.int8)
    step = (state.step + 1) * (state.heading == way).view(np.int8)
    if way.all():
        return way, step
    return np.where(way, way, state.heading), np.where(way, step, state.step)


def _reset_volts(
    step: Counts, first: Bools | None, recipe: Recipe, bias: Bias, grid: Range
) -> Floats:
    """SL volts of a RESET, on `grid`."""
    if not isinstance(recipe, SDR):
        start, rise, stop = bias.reset_volts, bias.reset_step_volts, bias.reset_stop_volts
        return _on_ramp(start, rise, stop, step, grid)
    fine, stop = recipe.fine_reset, max(recipe.fine_reset.stop, bias.reset_stop_volts)
    volts = _on_ramp(fine.start, fine.step, stop, step, grid)
    return volts if first is None else np.where(first, grid.snap(bias.reset_volts), volts)


def _set_volts(
    step: Counts, coarse: Bools | None, recipe: Recipe, bias: Bias, grid: Range
) -> Floats:
    """BL volts of a SET, on `grid`; of shape () where they are the same for all cells."""
    full = grid.snap(bias.set_volts)
    if not isinstance(recipe, SDR):
        return full
    ramp = recipe.fine_set
    if coarse is None:
        return _on_ramp(ramp.start, ramp.step, ramp.stop, step, grid)
    fine = _on_ramp(ramp.start, ramp.step, ramp.stop, np.maximum(step, 0), grid)
    return np.where(coarse, full, fine)


def _on_ramp(start: float, rise: float, stop: float, count: Counts, grid: Range) -> Floats:
    """Volts of pulse number `count` of a ramp, on `grid`: few numbers, so they are looked up."""
    numbers = np.arange(int(count.max(initial=0)) + 1)
    return grid.snap(np.minimum(start + rise * numbers, stop)).take(count)


def _gates(step: Counts, nominal: Floats, recipe: Recipe, spec: Spec) -> Floats:
    """Gate volts of a SET: the level's, or those of a ramp."""
    if not isinstance(recipe, ISPP):
        return nominal
    return _ramp_start(nominal, recipe, spec) + recipe.gate_step_volts * np.maximum(step, 0)


def _ramp_start(nominal: Floats, recipe: ISPP, spec: Spec) -> NDArray[np.float64]:
    if recipe.gate_start_volts is None:
        start = np.maximum(nominal - recipe.gate_lead_volts, _lowest_gate(spec))
        return np.asarray(start, dtype=np.float64)
    return np.full(nominal.size, recipe.gate_start_volts)


def _next_gate(step: Counts, target: Target, recipe: ISPP, spec: Spec) -> NDArray[np.float64]:
    """The gate voltage that a ramp would go on to."""
    start = _ramp_start(target.gate_volts, recipe, spec)
    return np.asarray(start + recipe.gate_step_volts * (step + 1), dtype=np.float64)


def _lowest_gate(spec: Spec) -> float:
    """The lowest gate voltage of a SET that is on the grid."""
    gate = _limits(spec, Kind.SET).gate_volts
    if gate is None:
        return -np.inf
    return gate.low if gate.step == 0 else float(np.ceil(gate.low / gate.step - 1e-3)) * gate.step


def _beyond(gates: Floats, recipe: Recipe, spec: Spec) -> Bools | None:
    """Where a gate ramp lies above the device's range; None without a ramp or a range."""
    gate = _limits(spec, Kind.SET).gate_volts if isinstance(recipe, ISPP) else None
    if gate is None:
        return None
    return np.asarray(gate.snap(gates) > gate.high + 1e-9)


def set_pulse(cells: Cells, volts: Floats, gates: Floats, bias: Bias, spec: Spec) -> Pulse:
    """A SET on the grid of `spec`."""
    return _set_on_grid(cells, _limits(spec, Kind.SET).volts.snap(volts), gates, bias, spec)


def _set_on_grid(cells: Cells, volts: Floats, gates: Floats, bias: Bias, spec: Spec) -> Pulse:
    limits = _limits(spec, Kind.SET)
    gate = None if limits.gate_volts is None else limits.gate_volts.snap(gates)
    return Pulse(Kind.SET, cells, volts, gate, seconds=bias.set_seconds)


def reset_pulse(cells: Cells, volts: Floats, bias: Bias, spec: Spec) -> Pulse:
    """A RESET on the grid of `spec`."""
    return _reset_on_grid(cells, _limits(spec, Kind.RESET).volts.snap(volts), bias, spec)


def _reset_on_grid(cells: Cells, volts: Floats, bias: Bias, spec: Spec) -> Pulse:
    limits = _limits(spec, Kind.RESET)
    gate = None
    if limits.gate_volts is not None:
        gate = limits.gate_volts.snap(bias.reset_gate_volts)
    return Pulse(Kind.RESET, cells, volts, gate, seconds=bias.reset_seconds)


def _limits(spec: Spec, kind: Kind) -> PulseLimits:
    if kind not in spec.pulses:
        raise Refused(f"{spec.model} does no {kind.name}, so it cannot be written pulse by pulse")
    return spec.pulses[kind]


def program(
    device: Device,
    cells: Cells,
    target: Target,
    recipe: Recipe,
    bias: Bias | None = None,
) -> Iterator[Round]:
    """Write `cells` into their windows, yielding a `Round` after every reading.

    The last round's `siemens` are the readings that accepted the cells, and so biased towards
    acceptance: report yield and error from `settled_reading`. A cell that used up
    `recipe.max_pulses`, whose gate ramp left the device's range, or that gives no answer, is
    given up.
    """
    bias = bias or Bias()
    state = State.fresh(cells.size, coarse=recipe.first_reset and isinstance(recipe, SDR))
    settled = Outcome.none(cells.size)
    open_, going, window = np.arange(cells.size), cells, target.for_readings()
    number = 0
    while True:
        reading = device.read(going)
        hit = (reading >= window.low) & (reading <= window.high)
        if recipe.first_reset:
            hit &= state.heading != 0
        lost = (state.sets + state.resets >= recipe.max_pulses) | state.spent | np.isnan(reading)
        lost &= ~hit
        now = Outcome(reading, hit, lost, state.sets, state.resets)
        yield Round(number, settled, open_, now)
        over = hit | lost
        left = np.flatnonzero(~over)
        if left.size < open_.size:
            settled.settle(open_, now, np.flatnonzero(over))
            open_, going, reading = open_.take(left), going.take(left), reading.take(left)
            window, state = window.take(left), state.take(left)
        if not left.size:
            return
        pulses, state = next_pulses(going, reading, window, state, recipe, bias, device.spec)
        for pulse in pulses:
            device.apply(pulse)
        number += 1


def write_open_loop(
    device: Device, cells: Cells, gates: Floats, bias: Bias | None = None, group: int = 4096
) -> Iterator[int]:
    """One RESET, then one SET at each level's nominal gate voltage; no reading, no verify.

    Yields the number of cells written so far, after each group of at most `group` cells.
    """
    bias = bias or Bias()
    for start in range(0, cells.size, group):
        part = slice(start, start + group)
        count = cells[part].size
        device.apply(reset_pulse(cells[part], np.full(count, bias.reset_volts), bias, device.spec))
        volts = np.full(count, bias.set_volts)
        device.apply(set_pulse(cells[part], volts, gates[part], bias, device.spec))
        yield start + count


def settled_reading(device: Device, cells: Cells, delay_seconds: float = 1.0) -> Floats:
    """An independent reading `delay_seconds` of device time from now: siemens, as cells."""
    device.clock.sleep(delay_seconds)
    return device.read(cells)


@dataclass(frozen=True, slots=True)
class Yield:
    """How well cells sit in their windows by an independent reading."""

    cells: int
    inside: int
    unreadable: int
    rms_error_siemens: float
    median_error_siemens: float

    @property
    def fraction(self) -> float:
        """Share of cells inside their window."""
        return self.inside / self.cells if self.cells else float("nan")


def window_yield(siemens: Floats, target: Target) -> Yield:
    """Yield and error against the middle of each window, of an independent reading."""
    good = np.isfinite(siemens)
    centre = (target.low + target.high) / 2
    error = siemens[good].astype(np.float64) - centre[good]
    inside = good & (siemens >= target.low) & (siemens <= target.high)
    return Yield(
        cells=int(siemens.size),
        inside=int(inside.sum()),
        unreadable=int((~good).sum()),
        rms_error_siemens=float(np.sqrt(np.mean(error**2))) if good.any() else float("nan"),
        median_error_siemens=float(np.median(np.abs(error))) if good.any() else float("nan"),
    )
