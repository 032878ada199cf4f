"""The write-verify that a macro does by itself: what it decides, pulse by pulse.

The macro takes one group of cells after another, as many as it reads at once, through all their
attempts. So a call gives what its parts give, where they are cut between groups. Programming
cells that are in their windows already reads them once and pulses none: a refresh is to program
again (periodic refresh against drift: W. Li et al., ESSCIRC 2021, doi
10.1109/ESSCIRC53450.2021.9567844). The ramps are those of incremental step pulse programming.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rramhil.device import Cells, Floats, Kind, Programmed, Pulse, Range, Spec
from rramhil_drivers.emulator.periphery import OnChip, SteppedVolts

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """The windows of some cells: `low`..`high` siemens, each of shape (cells,)."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def checked(cls, cells: Cells, low: ArrayLike, high: ArrayLike, spec: Spec) -> Windows:
        """Windows of `cells`, their ends a quarter of a reading step outside of what lies in them.

        So a float32 reading at an end is inside. Raises as `Spec.check_windows`.
        """
        first, last = spec.check_windows(cells, low, high)
        lsb = np.float64(spec.reading.lsb)
        return cls((first - 0.25) * lsb, (last + 0.25) * lsb)


class GroupWriter:
    """Decides the pulses of one group of cells; `set_gate`, `reset_volts`: grids of the ramps."""

    def __init__(self, own: OnChip, count: int, set_gate: Range, reset_volts: Range) -> None:
        self._own = own
        self._grids = {Kind.SET: set_gate, Kind.RESET: reset_volts}
        self._heading = np.zeros(count, dtype=np.int8)
        self._step = np.zeros(count, dtype=np.int64)
        self.going: NDArray[np.bool_] = np.ones(count, dtype=np.bool_)
        self.counts = {kind: np.zeros(count, dtype=np.int64) for kind in (Kind.SET, Kind.RESET)}

    def next_pulses(
        self, cells: Cells, siemens: Floats, windows: Windows
    ) -> tuple[NDArray[np.bool_], list[Pulse]]:
        """Which cells are in their window by this reading, and the pulses for the others."""
        inside = (siemens >= windows.low) & (siemens <= windows.high)
        spent = sum(self.counts.values()) >= self._own.attempts
        turn = np.where(siemens > windows.high, np.int8(-1), np.int8(1))
        going = np.asarray(~inside & ~spent)
        self.going = going
        self._step = np.where(going & (turn == self._heading), self._step + 1, 0)
        self._heading = np.where(going, turn, 0).astype(np.int8)
        pulses = []
        for kind, sign in ((Kind.RESET, -1), (Kind.SET, 1)):
            which = going & (turn == sign)
            if which.any():
                pulses.append(self._pulse(kind, cells[which], self._step[which]))
                self.counts[kind] += which
        return inside, pulses

    def _pulse(self, kind: Kind, cells: Cells, step: Counts) -> Pulse:
        own = self._own
        if kind is Kind.SET:
            gates = self._ramp(own.set_gate, step, kind)
            return Pulse(kind, cells, own.set_volts, gates, seconds=own.set_seconds)
        volts = self._ramp(own.reset_volts, step, kind)
        return Pulse(kind, cells, volts, own.reset_gate_volts, seconds=own.reset_seconds)

    def _ramp(self, ramp: SteppedVolts, step: Counts, kind: Kind) -> NDArray[np.float64]:
        return self._grids[kind].snap(np.minimum(ramp.start + ramp.step * step, ramp.stop))


def write_verify(
    own: OnChip,
    cells: Cells,
    windows: Windows,
    grids: tuple[Range, Range],
    read: Callable[[Cells], Floats],
    apply: Callable[[Pulse], None],
) -> Programmed:
    """Program `cells` group by group; `read` and `apply` act on the macro and take its time."""
    siemens = np.zeros(cells.size, dtype=np.float32)
    ok = np.zeros(cells.size, dtype=np.bool_)
    sets, resets, reads = (np.zeros(cells.size, dtype=np.int64) for _ in range(3))
    for start in range(0, cells.size, own.cells_at_once):
        group = slice(start, min(start + own.cells_at_once, cells.size))
        writer = GroupWriter(own, group.stop - group.start, *grids)
        here, left = cells[group], np.arange(group.stop - group.start)
        window = Windows(windows.low[group], windows.high[group])
        now = siemens[group]
        while left.size:
            now[left] = read(here[left])
            reads[group][left] += 1
            inside, pulses = writer.next_pulses(here, now, window)
            for pulse in pulses:
                apply(pulse)
            ok[group] = inside
            left = np.flatnonzero(writer.going)
        sets[group], resets[group] = writer.counts[Kind.SET], writer.counts[Kind.RESET]
    return Programmed(siemens, ok, sets, resets, reads)
