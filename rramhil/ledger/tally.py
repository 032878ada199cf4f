"""What the rows of a ledger add up to: pulses a cell, doubt, energy. Pure: rows in, arrays out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Cells, Floats, Ints, Kind
from rramhil.ledger.codec import Array
from rramhil.ledger.schema import Row

Joules = NDArray[np.float64]
_NEEDED = ("cells", "volts", "maybe", "sets", "resets")


@dataclass(frozen=True, slots=True, eq=False)
class Wear:
    """What each cell of a die has suffered in its present life; every array has shape (size,).

    `done`: pulses known to have landed. `doubtful`: pulses that possibly landed (an intent
    without an outcome, an outcome not known); they stay in this count when the cell is read.
    `volt_seconds`: |volts| x seconds of the pulses of at least `high_volts`, doubtful ones
    included. Device-side write-verify counts its pulses; its voltages are the device's own.
    """

    done: Mapping[Kind, Ints]
    doubtful: Mapping[Kind, Ints]
    volt_seconds: Floats
    high_volts: float

    @property
    def pulses(self) -> Ints:
        """Pulses of all kinds that a cell has had at most, shape (size,)."""
        return sum(
            (self.done[kind] + self.doubtful[kind] for kind in Kind),
            start=np.zeros(self.volt_seconds.size, np.int64),
        )


def no_wear(size: int, high_volts: float) -> Wear:
    """The wear of a die of `size` cells that was never pulsed."""
    done = {kind: np.zeros(size, np.int64) for kind in Kind}
    doubtful = {kind: np.zeros(size, np.int64) for kind in Kind}
    return Wear(done, doubtful, np.zeros(size), high_volts)


def add_wear(wear: Wear, rows: Iterable[Row], attempts: int) -> None:
    """Add what `rows` did to `wear`, in place. `rows`: apply and program, in order.

    `attempts`: pulses of each kind that one device-side write-verify can take at most.
    """
    open_intents: dict[int, tuple[Row, dict[str, Array]]] = {}
    for row in rows:
        if row.phase == "intent":
            open_intents[row.row] = (row, row.decode("cells", "volts"))
            continue
        if row.intent not in open_intents:
            continue
        intent, arrays = open_intents.pop(row.intent)
        if row.phase == "unknown":
            maybe = row.decode("maybe").get("maybe", arrays["cells"])
            _add_doubt(wear, intent, arrays, maybe, attempts)
        elif row.phase == "done":
            _add_done(wear, intent, arrays, row)
    for intent, arrays in open_intents.values():
        _add_doubt(wear, intent, arrays, arrays["cells"], attempts)


def _add_done(wear: Wear, intent: Row, arrays: Mapping[str, Array], outcome: Row) -> None:
    cells = arrays["cells"]
    if intent.op == "program":
        counts = outcome.decode("sets", "resets")
        wear.done[Kind.SET][cells] += counts["sets"]
        wear.done[Kind.RESET][cells] += counts["resets"]
    else:
        wear.done[Kind(intent.kind)][cells] += 1
        _add_stress(wear, intent, cells, arrays["volts"])


def _add_doubt(
    wear: Wear, intent: Row, arrays: Mapping[str, Array], maybe: Cells, attempts: int
) -> None:
    size = wear.volt_seconds.size
    if intent.op == "program":
        cells = maybe[(maybe >= 0) & (maybe < size)]
        for kind in (Kind.SET, Kind.RESET):
            wear.doubtful[kind][cells] += attempts
        return
    among = np.isin(arrays["cells"], maybe)
    cells, volts = arrays["cells"][among], arrays["volts"][among]
    real = (cells >= 0) & (cells < size)
    np.add.at(wear.doubtful[Kind(intent.kind)], cells[real], 1)
    _add_stress(wear, intent, cells[real], volts[real])


def _add_stress(wear: Wear, intent: Row, cells: Cells, volts: Floats) -> None:
    assert intent.seconds is not None
    high = np.abs(volts)
    wear.volt_seconds[cells] += np.where(high >= wear.high_volts, high, 0.0) * intent.seconds


class Energy:
    """Joules of the pulses of some rows: sum of V^2 x G x width, G the cell's last reading.

    An estimate: during a SET the conductance rises, during a RESET it falls. A cell that was
    pulsed before its first reading waits in `unread` (V^2 x width) until `settle` knows its G.
    """

    def __init__(self, size: int, highest: float) -> None:
        self.joules = 0.0
        self.unread = np.zeros(size)
        self._highest = highest
        self._last = np.full(size, np.nan)
        self._intents: dict[int, Row] = {}

    def add(self, row: Row) -> None:
        """Take one row, in order."""
        if row.op == "read" and row.phase == "done":
            self._remember(self._last, row)
        elif row.op == "apply" and row.phase == "intent":
            self._intents[row.row] = row
        elif row.op == "apply" and row.phase == "done" and row.intent in self._intents:
            intent = self._intents.pop(row.intent)
            arrays = intent.decode("cells", "volts")
            assert intent.seconds is not None
            work = arrays["volts"] ** 2 * intent.seconds
            siemens = self._last[arrays["cells"]]
            joules = float(work @ siemens)
            if not np.isnan(joules):
                self.joules += joules
                return
            known = ~np.isnan(siemens)
            self.joules += float(work[known] @ siemens[known])
            self.unread[arrays["cells"][~known]] += work[~known]

    def settle(self, earlier: Iterable[Row]) -> None:
        """Give cells in `unread` their last reading of `earlier` rows (newest first)."""
        for row in earlier:
            if not self.unread.any():
                return
            siemens = np.full(self.unread.size, np.nan)
            self._remember(siemens, row)
            known = ~np.isnan(siemens)
            self.joules += float(self.unread[known] @ siemens[known])
            self.unread[known] = 0.0

    def _remember(self, last: Joules, row: Row) -> None:
        arrays = row.decode("cells", "siemens")
        siemens = np.minimum(arrays["siemens"], self._highest)
        answered = ~np.isnan(siemens)
        last[arrays["cells"][answered]] = siemens[answered]
