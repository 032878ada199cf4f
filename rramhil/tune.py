"""What a new chip starts with: forming, and the gate voltage that gives each conductance.

The levels of a 1T1R array are set by the gate voltage of the SET pulse, and that curve
differs from chip to chip; nothing else needs retuning (RADAR array data, IEEE Trans. Electron
Devices 2021, doi 10.1109/TED.2021.3097975). A sweep over a sample of cells measures it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from rramhil.device import Bools, Cells, Device, Floats, Kind, Pulse, Refused
from rramhil.schema import Siemens, Strict, Volts
from rramhil.units import show
from rramhil.verify import Bias, PulseSeconds, PulseVolts, reset_pulse, set_pulse


class Forming(Strict):
    """FORM pulses: BL rises from `start_volts` by `step_volts` until a cell conducts.

    The last pulse is the last step that does not pass `stop_volts`.
    Defaults: forming voltages of the RADAR array data are 3.1 V on average at WL 2.0 V
    (1 us pulses, steps of 0.05 V, standard deviation 0.27-0.45 V).
    """

    start_volts: PulseVolts = 2.2
    step_volts: Annotated[Volts, Field(gt=0)] = 0.05
    stop_volts: PulseVolts = 4.4
    gate_volts: PulseVolts = 2.0
    seconds: PulseSeconds = 1e-6
    formed_siemens: Annotated[Siemens, Field(gt=0)] = 15e-6

    @model_validator(mode="after")
    def _rising(self) -> Forming:
        if not self.stop_volts >= self.start_volts:
            raise ValueError(
                f"stop_volts {self.stop_volts:g} V lies below start_volts {self.start_volts:g} V; "
                "raise the one or lower the other"
            )
        return self


@dataclass(frozen=True, slots=True, eq=False)
class GateCurve:
    """Median conductance after one SET from the RESET state, against gate voltage.

    `gate_volts` rises; `siemens` is made monotone by a running maximum. `spread_siemens` is
    the robust standard deviation over the sample (interquartile range / 1.349).
    """

    gate_volts: NDArray[np.float64]
    siemens: NDArray[np.float64]
    spread_siemens: NDArray[np.float64]

    def nominal_gate(self, siemens: ArrayLike, tolerance: float = 0.0) -> NDArray[np.float64]:
        """Gate voltage that gives `siemens` in the median.

        Raises `Refused` for a level out of reach by more than `tolerance` siemens (half its
        window); one that is nearly reached gets the sweep's last gate voltage.
        """
        wanted = np.asarray(siemens, dtype=np.float64)
        top = float(self.siemens[-1])
        if wanted.size and float(wanted.max()) > top + tolerance:
            raise Refused(
                f"a level at {show(float(wanted.max()), 'S')} is out of reach: a SET gives at "
                f"most {show(top, 'S')} up to a gate voltage of {self.gate_volts[-1]:g} V; "
                "lower the highest level or raise the sweep's last gate voltage"
            )
        return np.interp(wanted, self.siemens, self.gate_volts)


@dataclass(frozen=True, slots=True, eq=False)
class SweepPoint:
    """One gate voltage of a sweep: the readings of the sample after RESET and SET."""

    number: int
    total: int
    gate_volts: float
    siemens: Floats


def gate_sweep(
    device: Device, cells: Cells, first_volts: float, last_volts: float, points: int, bias: Bias
) -> Iterator[SweepPoint]:
    """RESET the sample, SET it at one gate voltage, read it; for each gate voltage."""
    limits = device.spec.pulses.get(Kind.SET)
    if limits is None or limits.gate_volts is None:
        raise Refused(f"{device.spec.model} has no gate to sweep; give the levels another way")
    gates = np.unique(limits.gate_volts.snap(np.linspace(first_volts, last_volts, points)))
    full = np.full(cells.size, bias.reset_stop_volts)
    for number, gate in enumerate(gates):
        device.apply(reset_pulse(cells, full, bias, device.spec))
        volts = np.full(cells.size, bias.set_volts)
        device.apply(set_pulse(cells, volts, np.full(cells.size, gate), bias, device.spec))
        yield SweepPoint(number, gates.size, float(gate), device.read(cells))


def gate_curve(points: list[SweepPoint]) -> GateCurve:
    """The curve of a finished sweep; unreadable cells are left out of each median."""
    medians, spreads = [], []
    for point in points:
        good = point.siemens[np.isfinite(point.siemens)].astype(np.float64)
        if good.size == 0:
            raise Refused(
                f"no cell of the sample answered at a gate voltage of {point.gate_volts:g} V; "
                "check the wiring, or sweep other cells"
            )
        low, middle, high = np.percentile(good, [25, 50, 75])
        medians.append(middle)
        spreads.append((high - low) / 1.349)
    gates = np.array([p.gate_volts for p in points])
    rising = np.maximum.accumulate(np.array(medians))
    # A flat stretch must not make the inverse ambiguous: its last gate voltage stands for it.
    keep = np.append(np.diff(rising) > 0, True)
    return GateCurve(gates[keep], rising[keep], np.array(spreads)[keep])


@dataclass(frozen=True, slots=True, eq=False)
class FormingRound:
    """One step of forming: the BL voltage, what was read, which cells conduct now."""

    volts: float
    siemens: Floats
    formed: Bools

    @property
    def open_cells(self) -> int:
        """Cells that do not conduct, those that gave no answer among them."""
        return int(np.count_nonzero(~self.formed))


def form(device: Device, cells: Cells, forming: Forming) -> Iterator[FormingRound]:
    """Form the cells that do not conduct, raising BL step by step; yield every round.

    Ends when all conduct or the next step would pass `stop_volts`. A formed cell gets no
    pulse, and none from then on a cell that gives no answer (NaN): more voltage could break it
    unseen. It stays unformed. Raises `Refused` when a cell needs a FORM that the device lacks.
    """
    siemens = device.read(cells).copy()
    formed = siemens >= forming.formed_siemens
    yield FormingRound(0.0, siemens.copy(), formed.copy())
    limits = device.spec.pulses.get(Kind.FORM)
    unformed = int(np.count_nonzero(~formed & ~np.isnan(siemens)))
    if limits is None and unformed:
        raise Refused(
            f"{unformed} cells do not conduct and {device.spec.model} does no FORM; "
            "leave out the step 'form' or form the chip elsewhere"
        )
    steps = int(np.floor((forming.stop_volts - forming.start_volts) / forming.step_volts + 1e-9))
    for step in range(steps + 1):
        open_ = np.flatnonzero(~formed & ~np.isnan(siemens))
        if limits is None or open_.size == 0:
            return
        volts = float(limits.volts.snap(forming.start_volts + step * forming.step_volts))
        gate = None if limits.gate_volts is None else limits.gate_volts.snap(forming.gate_volts)
        device.apply(Pulse(Kind.FORM, cells[open_], volts, gate, seconds=forming.seconds))
        siemens[open_] = device.read(cells[open_])
        formed = siemens >= forming.formed_siemens
        yield FormingRound(volts, siemens.copy(), formed.copy())
