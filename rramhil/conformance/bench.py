"""The device under examination, and what promises are checked with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rramhil.device import NO_CELLS, Cells, Device, Kind, Pulse, Range, Refused
from rramhil.units import show
from rramhil.wrap import Wrapped

SCRATCH_CELLS = 32
PROBE_CELLS = 64


class Broken(Exception):
    """The device does not keep the promise."""


class NotChecked(Exception):
    """The promise does not apply, or checking it is not allowed here."""


class Bench:
    """The device under examination, the cells that may be pulsed, and its read noise."""

    def __init__(
        self, device: Device, scratch: ArrayLike | None, seed: int, patience: float
    ) -> None:
        self.device = device
        self.patience = patience
        self.spec = device.spec
        rng = np.random.default_rng(seed)
        size = self.spec.size
        if scratch is not None:
            self.scratch = np.sort(self.spec.check_cells(scratch))
        elif self.spec.volatile and self.spec.newborn:
            self.scratch = np.sort(rng.choice(size, min(SCRATCH_CELLS, size), replace=False))
        else:
            self.scratch = NO_CELLS
        self.probe = np.sort(rng.choice(size, min(PROBE_CELLS, size), replace=False))

    def scratch_or_skip(self) -> Cells:
        if not self.scratch.size:
            raise NotChecked("no scratch cells were given, so nothing was pulsed")
        return self.scratch

    def levels(self, cells: Cells, reads: int = 4) -> NDArray[np.float64]:
        """Mean conductance of each of `cells`; above the range counts as its upper end."""
        high = self.spec.reading.highest
        stack = np.stack([self.device.read(cells) for _ in range(reads)]).astype(np.float64)
        return np.asarray(np.where(np.isfinite(stack), stack, high).mean(axis=0))

    def noise(self, cells: Cells, reads: int = 8) -> float:
        """Median over `cells` of the standard deviation of repeated readings, siemens."""
        high = self.spec.reading.highest
        stack = np.stack([self.device.read(cells) for _ in range(reads)]).astype(np.float64)
        return float(np.median(np.where(np.isfinite(stack), stack, high).std(axis=0, ddof=1)))

    def counts(self) -> NDArray[np.int64] | None:
        """Pulses that the silicon itself counted, (kinds, cells), where a driver tells.

        A driver may: `pulses_counted(kind)` gives them for all cells of the die.
        """
        counted = getattr(bare(self.device), "pulses_counted", None)
        if counted is None or not self.spec.pulses:
            return None
        return np.stack([np.array(counted(kind), np.int64) for kind in self.spec.pulses])

    def pulse(self, kind: Kind, cells: ArrayLike, part: float = 0.0) -> Pulse:
        """A legal pulse at `part` (0 to 1) of the voltage ranges, of a middling width."""
        limits = self.spec.pulses[kind]
        gate = limits.gate_volts
        amps = limits.limit_amps
        return Pulse(
            kind,
            cells,
            inside(limits.volts, part),
            None if gate is None else inside(gate, part),
            seconds=middling(limits.seconds),
            limit_amps=None if amps is None else inside(amps, part),
        )

    def untouched(self, calls: Callable[[Kind], None]) -> str:
        """Run `calls` for each kind: they must reach no scratch cell. See whether one did.

        The cells are driven the other way first, so that a pulse that landed would show.
        """
        cells = self.scratch_or_skip()
        told = ""
        for kind in self.spec.pulses:
            opposite = Kind.SET if kind is Kind.RESET else Kind.RESET
            if opposite in self.spec.pulses:
                self.device.apply(self.pulse(opposite, cells, 0.6))
            noise, before, counted = self.noise(cells), self.levels(cells), self.counts()
            calls(kind)
            after, recounted = self.levels(cells), self.counts()
            if counted is not None and recounted is not None:
                told = ", as the chip counts"
                hit = int((counted != recounted).any(axis=0).sum())
                if hit:
                    raise Broken(f"the chip counted {kind.name} pulses on {hit} cells")
            # Cells relax and hop by themselves, to both sides; a pulse moves them to its own.
            change = before - after if kind is Kind.RESET else after - before
            moved = change > 5 * noise + 2 * self.spec.reading.lsb
            if moved.mean() > 0.25:
                raise Broken(f"{int(moved.sum())} of {moved.size} scratch cells moved")
        return f"{cells.size} scratch cells unchanged{told}"


def bare(device: Device) -> Device:
    """The driver's own device under the wrappers."""
    while isinstance(device, Wrapped):
        device = device.inner
    return device


def refused(what: str, call: Callable[..., object], *given: object) -> None:
    """`call(*given)` must raise `Refused`."""
    try:
        call(*given)
    except Refused:
        return
    except Exception as error:
        raise Broken(f"{what}: {type(error).__name__} instead of Refused ({error})") from error
    raise Broken(f"{what} was accepted")


def value_error(what: str, call: Callable[..., object], *given: object) -> None:
    """`call(*given)` must raise ValueError."""
    try:
        call(*given)
    except ValueError:
        return
    except Exception as error:
        raise Broken(f"{what}: {type(error).__name__} instead of ValueError ({error})") from error
    raise Broken(f"{what} was accepted")


def cells_for(bench: Bench, kind: Kind) -> Cells:
    """The scratch cells, for a promise about pulses of `kind`."""
    if kind not in bench.spec.pulses:
        raise NotChecked(f"the device does no {kind.name}")
    return bench.scratch_or_skip()


def drive(bench: Bench, kind: Kind, cells: Cells) -> str:
    """Pulse `cells` harder and harder until their mean has moved as `kind` should."""
    sign = -1.0 if kind is Kind.RESET else 1.0
    least = 3 * bench.noise(cells) / np.sqrt(cells.size) + bench.spec.reading.lsb
    before = bench.levels(cells).mean()
    moved = 0.0
    for part in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        pulse = bench.pulse(kind, cells, part)
        gate = bench.spec.pulses[kind].gate_volts
        if kind is Kind.RESET and gate is not None:
            pulse = changed(pulse, "gate_volts", inside(gate, max(part, 0.8)))
        bench.device.apply(pulse)
        moved = sign * (bench.levels(cells).mean() - before)
        if moved > least:
            return f"by {show(moved, 'S')} on average at {part:.0%} of the range"
    raise Broken(f"the mean of {cells.size} cells moved by {sign * moved:.3g} S at full range")


def changed(pulse: Pulse, name: str, value: ArrayLike | None) -> Pulse:
    """`pulse` with one of its settings changed."""
    return Pulse(
        pulse.kind,
        pulse.cells,
        pulse.volts if name != "volts" or value is None else value,
        pulse.gate_volts if name != "gate_volts" else value,
        seconds=pulse.seconds if name != "seconds" else float(np.asarray(value)),
        limit_amps=pulse.limit_amps if name != "limit_amps" else value,
    )


def inside(limit: Range, part: float) -> float:
    """The grid value at `part` of the way from the lowest to the highest."""
    value = float(limit.snap(limit.low + part * (limit.high - limit.low)))
    if limit.step > 0 and value > limit.high:
        value -= limit.step
    if limit.step > 0 and value < limit.low:
        value += limit.step
    return value


def middling(limit: Range) -> float:
    """The geometric middle of a range of pulse widths, on its grid."""
    if limit.low <= 0:
        return inside(limit, 0.5)
    middle = float(limit.snap(np.sqrt(limit.low * limit.high)))
    return min(max(middle, inside(limit, 0.0)), inside(limit, 1.0))


def outside(limit: Range) -> list[float]:
    """Just below, just above, not a number and, where there is a grid, between its points."""
    span = limit.high - limit.low
    apart = limit.step if limit.step > 0 else max(1e-3 * span, 1e-6 * abs(limit.high))
    between = [inside(limit, 0.5) + limit.step / 2] if 0 < limit.step < span / 2 else []
    return [limit.low - apart, limit.high + apart, float("nan"), *between]
