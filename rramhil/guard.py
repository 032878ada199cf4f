"""Refuse what the chip or the station forbids, before anything is sent. Never clamp.

Three owners set limits, and a refusal says whose it is:

    the chip       `Spec`: voltages, widths, addresses, what it can do at all
    the station    `StationLimits`: tighter ranges, kinds it allows, cells it bars, the lowest
                   and highest conductance at which a cell is still pushed outward
    the budget     pulses and high-voltage volt-seconds a cell, for the life of the die: a
                   runaway loop is stopped before the cell is worn out

A pulse spends its budget before it is sent. Only a refusal gives it back: an outcome that is
not known counts as landed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rramhil.device import (
    NO_CELLS,
    Cells,
    Device,
    Floats,
    Ints,
    Kind,
    Programmed,
    Pulse,
    PulseLimits,
    Range,
    Refused,
    Spec,
)
from rramhil.units import show
from rramhil.wrap import Wrapped

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class PulseSpans:
    """The station's (lowest, highest) for pulses of one kind, in SI; None: the chip's own."""

    volts: Span | None = None
    gate_volts: Span | None = None
    limit_amps: Span | None = None
    seconds: Span | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """What one cell may suffer in the life of the die; None: no limit of that sort.

    `pulses` counts all kinds. `volt_seconds` adds up |volts| x seconds of the pulses on BL or SL
    of at least `high_volts` in size; reading and gentle pulses do not count.
    """

    pulses: int | None = None
    volt_seconds: float | None = None
    high_volts: float = 0.0


@dataclass(frozen=True, slots=True)
class StationLimits:
    """What a station forbids beyond the chip's spec. `whose` names it: 'station file bench.toml'.

    `kinds`: the kinds of pulse that it allows, None for all. A cell last read at or above
    `highest` siemens gets no SET and no FORM, one at or below `lowest` no RESET; a cell that
    was not read yet is not limited. `barred` cells are never pulsed.
    """

    whose: str = "the station"
    kinds: frozenset[Kind] | None = None
    spans: Mapping[Kind, PulseSpans] = field(default_factory=lambda: MappingProxyType({}))
    budget: Budget = Budget()
    lowest: float | None = None
    highest: float | None = None
    barred: Cells = field(default_factory=lambda: NO_CELLS)


NO_LIMITS = StationLimits()
_UNITS = {"volts": "V", "gate_volts": "V", "limit_amps": "A", "seconds": "s"}
_NAMES = {
    "volts": "{line} voltage",
    "gate_volts": "gate voltage",
    "limit_amps": "current limit",
    "seconds": "pulse width",
}


class Guard(Wrapped):
    """A device that refuses what the chip's spec, the station or a cell's budget forbids.

    Its `spec` holds the tighter of both limits, so that algorithms keep within them by
    themselves. `pulses` and `volt_seconds` are what each cell has suffered so far, shape
    (spec.size,), from the die's ledger. None, for a new die or where no budget needs them:
    the guard counts from zero, and what it counts is not the life of the die. Raises
    `Refused` when the station's limits leave nothing that the chip can do.
    """

    def __init__(
        self,
        inner: Device,
        limits: StationLimits = NO_LIMITS,
        *,
        pulses: ArrayLike | None = None,
        volt_seconds: ArrayLike | None = None,
    ) -> None:
        super().__init__(inner)
        self.limits = limits
        self.spec = tighten(inner.spec, limits)
        size = self.spec.size
        barred = inner.spec.check_cells(limits.barred)
        self._barred = _flags(size, barred) if barred.size else None
        bounded = limits.lowest is not None or limits.highest is not None
        self._last = np.full(size, np.nan, dtype=np.float32) if bounded else None
        self._pulses: NDArray[np.int64] = np.zeros(size, np.int64)
        self._volt_seconds: NDArray[np.float64] = np.zeros(size)
        if pulses is not None:
            self._pulses += _per_die("pulses", pulses, size)
        if volt_seconds is not None:
            self._volt_seconds += _per_die("volt_seconds", volt_seconds, size)

    def pulses_spent(self, cells: ArrayLike) -> Ints:
        """Pulses that each of `cells` has had: those given at the start, and all since, those
        of unknown outcome included."""
        return np.asarray(self._pulses[self.spec.check_cells(cells)], dtype=np.int64)

    def volt_seconds_spent(self, cells: ArrayLike) -> NDArray[np.float64]:
        """High-voltage volt-seconds of each of `cells`: those given at the start, and since
        then those that a budget counts (none without one)."""
        return np.asarray(self._volt_seconds[self.spec.check_cells(cells)], dtype=np.float64)

    def read(self, cells: ArrayLike) -> Floats:
        flat = self.spec.check_cells(cells)
        siemens = self.inner.read(flat)
        self._remember(flat, siemens)
        return siemens

    def apply(self, pulse: Pulse) -> None:
        self._check_limits(pulse)
        self._check_cells(pulse)
        pulses, stress = self._price(pulse)
        before = self._volt_seconds[pulse.cells] if stress is not None else None
        self._pulses[pulse.cells] = pulses
        if stress is not None:
            self._volt_seconds[pulse.cells] = stress
        try:
            self.inner.apply(pulse)
        except (Refused, ValueError):
            self._pulses[pulse.cells] = pulses - 1
            if before is not None:
                self._volt_seconds[pulse.cells] = before
            raise

    def mvm(self, tile: int, inputs: ArrayLike) -> Ints:
        return self.inner.mvm(tile, self.spec.check_inputs(tile, inputs))

    def program(self, cells: ArrayLike, low: ArrayLike, high: ArrayLike) -> Programmed:
        """Device-side write-verify. Refused where the station limits what the chip chooses."""
        own = self.inner.spec.program
        if own is None:
            return self.inner.program(cells, low, high)
        if self.spec.program is None:
            raise Refused(
                f"{self.limits.whose} limits pulses that {self.spec.model} chooses by itself in "
                "its write-verify; use rramhil.verify"
            )
        flat = self.spec.check_cells(cells)
        self._check_barred(flat)
        self._check_windows(flat, np.asarray(low), np.asarray(high))
        before = self._pulses[flat]
        most = before + 2 * own.attempts  # as many SETs as RESETs, as the ledger counts doubt
        budget = self.limits.budget.pulses
        if budget is not None and flat.size:
            self._check_budget(flat, most, budget)
        self._pulses[flat] = most
        try:
            done = self.inner.program(flat, low, high)
        except (Refused, ValueError):
            self._pulses[flat] = before
            raise
        self._pulses[flat] = before + done.sets + done.resets
        self._remember(flat, done.siemens)
        return done

    def adjust(self, knob: str, values: ArrayLike) -> None:
        self.inner.adjust(knob, self.spec.check_knob(knob, values))

    def thaw(self, state: bytes) -> None:
        """As the device does. Readings taken before are forgotten, what was spent is not."""
        self.inner.thaw(state)
        if self._last is not None:
            self._last[:] = np.nan

    def _remember(self, flat: Cells, siemens: Floats) -> None:
        if self._last is None:
            return
        known = ~np.isnan(siemens)
        if known.all():
            self._last[flat] = siemens
        else:
            self._last[flat[known]] = siemens[known]

    def _check_limits(self, pulse: Pulse) -> None:
        """One pass over the tighter limits; which of the two it was is worked out afterwards."""
        try:
            self.spec.check_pulse(pulse)
        except Refused:
            self.inner.spec.check_pulse(pulse)
            self._blame_station(pulse)
            raise

    def _blame_station(self, pulse: Pulse) -> None:
        limits = self.limits
        if limits.kinds is not None and pulse.kind not in limits.kinds:
            allowed = ", ".join(kind.name for kind in Kind if kind in limits.kinds) or "none"
            raise Refused(f"{pulse.kind.name} is not allowed by {limits.whose}; allowed: {allowed}")
        spans = limits.spans.get(pulse.kind, PulseSpans())
        for name, unit in _UNITS.items():
            span, values = getattr(spans, name), getattr(pulse, name)
            if span is None or values is None:
                continue
            bad = Range(*span).first_outside(values)
            if bad is not None:
                line = "SL" if pulse.kind is Kind.RESET else "BL"
                raise Refused(
                    f"{_NAMES[name].format(line=line)} {bad:.6g} {unit} is outside {span[0]:g} to "
                    f"{span[1]:g} {unit} ({limits.whose} for {pulse.kind.name})"
                )

    def _check_cells(self, pulse: Pulse) -> None:
        self._check_barred(pulse.cells)
        if self._last is None or not len(pulse):
            return
        if pulse.kind is Kind.RESET:
            bound, side = self.limits.lowest, "at or below the lowest"
            outward = None if bound is None else self._last[pulse.cells] <= bound
        else:
            bound, side = self.limits.highest, "at or above the highest"
            outward = None if bound is None else self._last[pulse.cells] >= bound
        if bound is not None and outward is not None and outward.any():
            cell = int(pulse.cells[np.argmax(outward)])
            raise Refused(
                f"{self.spec.name_cell(cell)} was last read at {_siemens(self._last[cell])}, "
                f"{side} conductance {_siemens(bound)} of {self.limits.whose}; it gets no "
                f"{pulse.kind.name} until it is read within"
            )

    def _check_barred(self, cells: Cells) -> None:
        if self._barred is None:
            return
        hit = self._barred[cells]
        if hit.any():
            cell = int(cells[np.argmax(hit)])
            raise Refused(
                f"{self.spec.name_cell(cell)} (cell {cell}) is barred from pulses by "
                f"{self.limits.whose}; leave it out"
            )

    def _price(self, pulse: Pulse) -> tuple[Ints, NDArray[np.float64] | None]:
        """Pulses and volt-seconds of the cells after `pulse`. Refused when that is too much."""
        budget = self.limits.budget
        pulses = self._pulses[pulse.cells] + 1
        if budget.pulses is not None and len(pulse):
            self._check_budget(pulse.cells, pulses, budget.pulses)
        if budget.volt_seconds is None or not len(pulse):
            return pulses, None
        size = np.abs(pulse.volts)
        high = size >= budget.high_volts
        stress = self._volt_seconds[pulse.cells] + np.where(high, size, 0.0) * pulse.seconds
        over = high & (stress > budget.volt_seconds * (1 + 1e-12))
        if over.any():
            first = int(np.argmax(over))
            cell = int(pulse.cells[first])
            raise Refused(
                f"{self.spec.name_cell(cell)} would reach {show(float(stress[first]), 'Vs')} at "
                f"high voltage, over the budget of {show(budget.volt_seconds, 'Vs')} for the life "
                f"of the die ({self.limits.whose}); leave it out or raise volt_seconds there"
            )
        return pulses, stress

    def _check_budget(self, cells: Cells, pulses: Ints, budget: int) -> None:
        worst = int(np.argmax(pulses))
        if pulses[worst] > budget:
            raise Refused(
                f"{self.spec.name_cell(int(cells[worst]))} would reach {int(pulses[worst])} "
                f"pulses, over the budget of {budget} for the life of the die "
                f"({self.limits.whose}); leave it out or raise the budget there"
            )

    def _check_windows(self, flat: Cells, low: Floats, high: Floats) -> None:
        for bound, values, outside, word in (
            (self.limits.lowest, low, np.less, "lowest"),
            (self.limits.highest, high, np.greater, "highest"),
        ):
            if bound is not None and flat.size and outside(values, bound).any():
                worst = float(values.min() if word == "lowest" else values.max())
                raise Refused(
                    f"a window edge of {_siemens(worst)} lies beyond the {word} conductance "
                    f"{_siemens(bound)} of {self.limits.whose}"
                )


def tighten(spec: Spec, limits: StationLimits) -> Spec:
    """`spec` with the tighter of its own and the station's limits; grids stay the chip's.

    A write-verify on the device chooses voltages and widths by itself: it is dropped where
    the station limits those or budgets volt-seconds. Raises `Refused` when nothing is left.
    """
    pulses = {
        kind: _tighter(kind, own, limits.spans.get(kind, PulseSpans()), limits.whose)
        for kind, own in spec.pulses.items()
        if limits.kinds is None or kind in limits.kinds
    }
    free = not limits.spans and limits.kinds is None and limits.budget.volt_seconds is None
    return replace(
        spec,
        pulses=MappingProxyType(pulses),
        program=spec.program if free else None,
        barred=tuple(sorted({*spec.barred, *np.asarray(limits.barred).tolist()})),
    )


def _tighter(kind: Kind, own: PulseLimits, spans: PulseSpans, whose: str) -> PulseLimits:
    changed: dict[str, Any] = {}
    for name in _UNITS:
        span: Span | None = getattr(spans, name)
        limit: Range | None = getattr(own, name)
        if span is None:
            continue
        if limit is None:
            raise Refused(f"{whose} limits {name} of {kind.name}, which this chip does not have")
        low, high = max(limit.low, span[0]), min(limit.high, span[1])
        if low > high:
            unit = _UNITS[name]
            raise Refused(
                f"{whose} allows {name} from {span[0]:g} to {span[1]:g} {unit} for {kind.name}, "
                f"but the chip takes {limit.low:g} to {limit.high:g} {unit}; nothing is left"
            )
        changed[name] = Range(low, high, limit.step)
    return replace(own, **changed)


def _flags(size: int, cells: Cells) -> NDArray[np.bool_]:
    flags = np.zeros(size, dtype=np.bool_)
    flags[cells] = True
    return flags


def _per_die(name: str, values: ArrayLike, size: int) -> NDArray[Any]:
    spent = np.asarray(values)
    if spent.shape != (size,):
        raise ValueError(f"{name} has shape {spent.shape}, but the die has {size} cells")
    return spent


def _siemens(value: float) -> str:
    return show(float(value), "S")
