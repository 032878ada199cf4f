"""What the rows of a ledger add up to: pulses a cell, doubt, energy. Pure: rows in, arrays out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Cells, Floats, Ints, Kind, MvmLimits, Spec
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


@dataclass(frozen=True, slots=True)
class Totals:
    """What some rows cost. Pulses and reads are counted a cell; `products` are input vectors.

    `device_seconds` is the time inside calls and sleeps by the device's clock, `waiting_seconds`
    the part of it in sleeps; `volt_seconds` is |volts| x seconds over all cells; `joules` (of the
    pulses), `read_joules` and `product_joules` are estimates, see `tally.Energy`. `unpriced`: those
    of the pulses that a write-verify of the chip chose, of which the host knows neither joules
    nor volt-seconds.
    """

    device_seconds: float
    waiting_seconds: float
    pulses: Mapping[Kind, int]
    unpriced: int
    reads: int
    products: int
    calls: int
    volt_seconds: float
    joules: float
    read_joules: float
    product_joules: float


def conversions(limits: MvmLimits, inputs: Array, rows: int) -> int:
    """Conversions that the input codes (vectors, rows) take on one column (see `MvmLimits`)."""
    width, at_once = limits.bits_at_once, limits.rows_at_once
    slices = range(0, limits.input_bits, width)
    if limits.row_order == "index":
        return len(inputs) * len(slices) * -(-rows // at_once)
    filled = [np.count_nonzero((inputs >> s) & (2**width - 1), axis=1) for s in slices]
    return int(sum((-(-count // at_once)).sum() for count in filled))


class Energy:
    """Joules of some rows. `joules`: of the pulses, V^2 x G x width, G the cell's last reading;
    `read_joules`: of the cells at the read voltage; `product_joules`: of the conversions, by what
    the device says that one takes.

    An estimate: during a SET the conductance rises, during a RESET it falls. A cell that was
    pulsed before its first reading waits in `unread` (V^2 x width) until `settle` knows its G.
    """

    def __init__(self, spec: Spec) -> None:
        self.joules = self.read_joules = self.product_joules = 0.0
        self.unread = np.zeros(spec.size)
        self._spec = spec
        self._highest = spec.reading.highest
        self._last = np.full(spec.size, np.nan)
        self._intents: dict[int, Row] = {}

    def add(self, row: Row) -> None:
        """Take one row, in order."""
        if row.op == "read" and row.phase == "done":
            reading = self._spec.reading
            held = self._remember(self._last, row)
            self.read_joules += held * reading.volts**2 * reading.seconds
        elif row.op == "mvm" and row.phase == "done":
            limits, (rows, cols) = self._spec.mvm, (self._spec.rows, self._spec.cols)
            if limits is not None and limits.joules:
                count = conversions(limits, row.decode("inputs")["inputs"], rows)
                self.product_joules += count * cols * limits.joules
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

    def _remember(self, last: Joules, row: Row) -> float:
        """Note the readings of `row`; their sum in siemens."""
        arrays = row.decode("cells", "siemens")
        siemens = np.minimum(arrays["siemens"], self._highest)
        answered = ~np.isnan(siemens)
        last[arrays["cells"][answered]] = siemens[answered]
        return float(siemens[answered].sum())
