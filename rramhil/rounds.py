"""What the rounds of a closed loop did to its cells, without a copy of all of them each round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Bools, Cells, Floats

Counts = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Where some cells stand: last reading, in their window, given up, and their pulses."""

    siemens: Floats
    inside: Bools
    given_up: Bools
    sets: Counts
    resets: Counts

    @classmethod
    def none(cls, count: int) -> Outcome:
        """Of `count` cells before the first reading."""
        counts = np.zeros((2, count), np.int32)
        flags = np.zeros((2, count), bool)
        return cls(np.full(count, np.nan, np.float32), flags[0], flags[1], counts[0], counts[1])

    def settle(self, cells: Cells, now: Outcome, done: NDArray[np.int64]) -> None:
        """Write down those places `done` of `now`, outcomes of `cells`, that are over."""
        here = cells.take(done)
        self.siemens[here] = now.siemens.take(done)
        self.inside[here] = now.inside.take(done)
        self.given_up[here] = now.given_up.take(done)
        self.sets[here] = now.sets.take(done)
        self.resets[here] = now.resets.take(done)


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """What one round did: each array is of all cells, as they stood after it.

    Most cells of a late round were done with long ago. So a round holds the cells `_open` that it
    read, beside what all rounds share, `_settled`: the outcomes of the cells that are done with,
    in which later rounds only write where this one has its own.
    """

    number: int
    _settled: Outcome
    _open: Cells
    _now: Outcome

    @property
    def siemens(self) -> Floats:
        """The last reading of each cell, float32 (cells,)."""
        return self._whole(self._settled.siemens, self._now.siemens)

    @property
    def inside(self) -> Bools:
        """Cells in their window."""
        return self._whole(self._settled.inside, self._now.inside)

    @property
    def given_up(self) -> Bools:
        """Cells that get no more pulses though outside it."""
        return self._whole(self._settled.given_up, self._now.given_up)

    @property
    def sets(self) -> Counts:
        """SETs of each cell so far."""
        return self._whole(self._settled.sets, self._now.sets)

    @property
    def resets(self) -> Counts:
        """RESETs of each cell so far."""
        return self._whole(self._settled.resets, self._now.resets)

    @property
    def open_cells(self) -> int:
        """Cells that the next round will pulse: not in their window yet, and not given up."""
        done = int(np.count_nonzero(self._now.inside | self._now.given_up))
        return self._open.size - done

    def _whole(self, settled: NDArray[Any], now: NDArray[Any]) -> NDArray[Any]:
        whole = settled.copy()
        whole[self._open] = now
        return whole
