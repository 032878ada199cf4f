"""What a sample of cells does under pulses and time, the same for every cell: open loop.

No pulse depends on a reading, so that the record can be done again on another die, or on an
emulated one that is to be fitted to it (`rramhil twin fit`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rramhil.device import Cells, Device, Floats, Kind, Refused
from rramhil.tune import SweepPoint, gate_sweep
from rramhil.units import show
from rramhil.verify import Bias, reset_pulse, set_pulse


@dataclass(frozen=True, slots=True)
class Plan:
    """Gate voltages of single SETs; SL voltages of one RESET ramp; delays after a last SET.

    `full_gate`: gate of the SET before the ramp; `settle_gates`: gates of the SETs whose
    relaxation is followed. Volts and seconds of device time.
    """

    gates: tuple[float, float, int]
    sl: tuple[float, float, int]
    full_gate: float
    settle_gates: tuple[float, ...]
    delays: tuple[float, ...]

    @property
    def total(self) -> int:
        """Number of readings."""
        settle = len(self.settle_gates) * (1 + len(self.delays))
        return self.gates[2] + 1 + self.sl[2] + settle


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One reading of the sample: what was done before it ('SL 1.20 V'), siemens a cell."""

    part: str
    text: str
    at: float
    siemens: Floats


def characterise(device: Device, cells: Cells, plan: Plan, bias: Bias) -> Iterator[Reading]:
    """Sweep, ramp and settle; yields after every reading, when no pulse is in flight."""
    point: SweepPoint
    for point in gate_sweep(device, cells, *plan.gates, bias):
        yield Reading("gate", f"gate {point.gate_volts:.2f} V", point.gate_volts, point.siemens)
    yield from _ramp(device, cells, plan, bias)
    for gate in plan.settle_gates:
        _reset(device, cells, bias.reset_stop_volts, bias)
        _set(device, cells, gate, bias)
        yield Reading("settle", f"gate {gate:.2f} V, at once", 0.0, device.read(cells))
        waited = 0.0
        for delay in plan.delays:
            device.clock.sleep(delay - waited)
            waited = delay
            text = f"gate {gate:.2f} V, {show(delay, 's')} later"
            yield Reading("settle", text, delay, device.read(cells))


def _ramp(device: Device, cells: Cells, plan: Plan, bias: Bias) -> Iterator[Reading]:
    """One full SET, then RESETs with rising SL voltage, each followed by a reading."""
    _set(device, cells, plan.full_gate, bias)
    yield Reading("sl", "full SET", 0.0, device.read(cells))
    limits = device.spec.pulses.get(Kind.RESET)
    if limits is None:
        raise Refused(f"{device.spec.model} does no RESET, so no RESET ramp can be recorded")
    for volts in limits.volts.snap(np.linspace(*plan.sl)):
        _reset(device, cells, float(volts), bias)
        yield Reading("sl", f"SL {volts:.2f} V", float(volts), device.read(cells))


def _set(device: Device, cells: Cells, gate: float, bias: Bias) -> None:
    volts, gates = np.full(cells.size, bias.set_volts), np.full(cells.size, gate)
    device.apply(set_pulse(cells, volts, gates, bias, device.spec))


def _reset(device: Device, cells: Cells, volts: float, bias: Bias) -> None:
    device.apply(reset_pulse(cells, np.full(cells.size, volts), bias, device.spec))


def rising(delays: Sequence[float]) -> bool:
    """Whether the delays rise and are positive."""
    return all(later > sooner for sooner, later in zip((0.0, *delays), delays, strict=False))
