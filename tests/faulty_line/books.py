"""What a run did, what it found, and the books about each pulse."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from rramhil.device import Cells, Ints, Kind, Pulse
from rramhil_drivers import scales

FALSE_ACCEPTS = (
    "garbled but accepted",
    "answered but never arrived",
    "executed but never sent",
    "believed but never answered",
    "claimed but never pulsed",
)
DOUBLED = ("executed twice", "pulsed more than asked")
LOST = ("pulsed and not in the books", "in the books and not pulsed")
RESYNC = ("undamaged but lost", "arrived but unanswered", "heard but not understood")
POLICY = ("a pulse was sent again", "asked too often", "used after an abort")
"""What the driver promises of itself: pulses never repeated, bounded retries, one end."""


@dataclass
class Tally:
    """What a run did, and what it found: `wrong` is empty on any line, or something is."""

    frames: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    doubts: int = 0
    reopened: int = 0

    def count(self, names: tuple[str, ...]) -> int:
        """How often anything of `names` was found."""
        return sum(self.wrong[name] for name in names)

    def violations(self) -> dict[str, int]:
        """What was found, without what was not."""
        return {name: count for name, count in self.wrong.items() if count}


class Books:
    """Pulses of each kind and cell: `done` and `doubtful` as in a ledger, `known` exactly."""

    def __init__(self, counted: Ints, wrong: Counter[str]) -> None:
        self.done, self.known = counted.copy(), counted.copy()
        self.doubtful = np.zeros_like(counted)
        self._wrong = wrong

    def enter(self, kind: Kind, cells: Cells, pulses: Ints | int = 1) -> None:
        """A call ended well."""
        self.done[_row(kind), cells] += pulses
        self.known[_row(kind), cells] += pulses

    def doubt(self, kind: Kind, cells: Cells, at_most: int) -> None:
        """A call broke; each of `cells` had up to so many pulses."""
        self.doubtful[_row(kind), cells] += at_most

    def resolve(self, kind: Kind, cells: Cells, counted: Ints, at_most: int) -> None:
        """The chip's own counter says what became of cells in doubt."""
        landed = counted - self.known[_row(kind), cells]
        self._wrong["pulsed more than asked"] += int((landed > at_most).sum())
        self._wrong["claimed but never pulsed"] += int((landed < 0).sum())
        self.known[_row(kind), cells] = counted

    def compare(self, kind: Kind, cells: Cells, counted: Ints) -> None:
        """No cell is in doubt: the chip must have counted what is known."""
        surplus = counted - self.known[_row(kind), cells]
        self._wrong["pulsed more than asked"] += _sum_above_zero(surplus)
        self._wrong["claimed but never pulsed"] += _sum_above_zero(-surplus)

    def audit(self, counted: Ints) -> None:
        """Compare all with what the chip counted, (kind, cell)."""
        self._wrong["pulsed more than asked"] += _sum_above_zero(counted - self.known)
        self._wrong["claimed but never pulsed"] += _sum_above_zero(self.known - counted)
        unknown = counted - self.done - self.doubtful
        self._wrong["pulsed and not in the books"] += _sum_above_zero(unknown)
        self._wrong["in the books and not pulsed"] += _sum_above_zero(self.done - counted)


def _row(kind: Kind) -> int:
    return scales.KINDS.index(kind)


def _sum_above_zero(numbers: Ints) -> int:
    return int(np.maximum(numbers, 0).sum())


def is_part(done: Pulse, asked: Pulse) -> bool:
    """Whether `done` is `asked`, or some of its cells, in every setting."""
    if done.kind is not asked.kind or abs(done.seconds - asked.seconds) > 1e-12:
        return False
    place = {cell: i for i, cell in enumerate(asked.cells.tolist())}
    where = [place.get(cell, -1) for cell in done.cells.tolist()]
    return -1 not in where and all(
        (one is None) == (other is None)
        and (one is None or other is None or np.allclose(one, other[where], rtol=1e-9, atol=0))
        for one, other in (
            (done.volts, asked.volts),
            (done.gate_volts, asked.gate_volts),
            (done.limit_amps, asked.limit_amps),
        )
    )
