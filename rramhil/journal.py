"""A device that writes down what the silicon is about to see, before it sees it.

A pulse can be neither rolled back nor blindly repeated, so this is no undo log:

    intent  committed (and synced, unless the die is volatile) before the pulse leaves
    done    it landed, on each cell exactly once
    refused nothing reached the array
    unknown something broke on the way: the cells in `maybe` were possibly pulsed

An intent without an outcome is what a killed process leaves. Its cells, and those of an
unknown outcome, are *doubtful* until they are read. While there are doubtful cells this device
refuses to pulse; `Journal.doubtful` names them, `Journal.settle()` reads them. Any reading
that comes back settles a cell, NaN included: that is data about a cell.

Readings, products and sleeps are recorded as well, so that a run can be played back
(`rramhil.replay`) and a volatile die be rebuilt (`rramhil.rebuild`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from rramhil.connected import Connected
from rramhil.device import (
    Cells,
    Clock,
    Device,
    DeviceError,
    DeviceFault,
    Floats,
    Ints,
    Kind,
    Programmed,
    Pulse,
    Range,
    Refused,
)
from rramhil.ledger import HIGH_VOLTS, Entry, Ledger, LedgerError, LedgerReader
from rramhil.ledger.codec import encode
from rramhil.wrap import Wrapped

CLOSE_SECONDS = 5.0
WEAR_AFTER_PULSES = 2_000_000
T = TypeVar("T")


class Journal(Wrapped, Connected):
    """`inner` with every transaction in `ledger`, as a session of `run`. Owns both: closing it
    closes the device, then the ledger.

    `header` (JSON data: versions, seeds, job text, limits) goes to the head of the session.
    `continues`: `inner` was rebuilt as the die was at that row of the ledger, and goes on from
    there in a life of its own, with the doubt and the wear of that row. None: it goes on from
    the ledger's last row (or begins a life, when it is newborn).
    Calls from several threads take turns; `close` may come from any thread. Raises
    `LedgerError` when the head of the session cannot be written.
    """

    def __init__(
        self,
        inner: Device,
        ledger: Ledger,
        run: str,
        header: Mapping[str, Any] | None = None,
        *,
        continues: int | None = None,
    ) -> None:
        super().__init__(inner)
        self.ledger: Ledger = ledger
        self.clock = _RecordedClock(self, inner.clock)
        self._turn = threading.RLock()
        self._closed = False
        self._state_due = False
        self._doubt = np.zeros(self.spec.size, dtype=np.bool_)
        if not self.spec.newborn:
            self._doubt[_inside(_left_in_doubt(ledger, continues), self.spec.size)] = True
        self._in_doubt = bool(self._doubt.any())
        self._grids = {kind: _grids(self, kind) for kind in self.spec.pulses}
        self._lsb = {"siemens": self.spec.reading.lsb}
        ledger.begin_run(run, self.spec, header, inner.clock.now(), continues)

    @property
    def doubtful(self) -> Cells:
        """Cells possibly pulsed and not read since, whichever run left them; ascending."""
        return np.flatnonzero(self._doubt) if self._in_doubt else np.empty(0, dtype=np.int64)

    def settle(self) -> Cells:
        """Read the doubtful cells, so that pulses may go on. Returns the cells it read."""
        cells = self.doubtful
        if cells.size:
            self._read(cells, {"why": "settle"})
        return cells

    # ------------------------------------------------------------------ calls

    def read(self, cells: ArrayLike) -> Floats:
        return self._read(cells, None)

    def apply(self, pulse: Pulse) -> None:
        with self._call():
            arrays = {"cells": pulse.cells, "volts": pulse.volts}
            if pulse.gate_volts is not None:
                arrays["gate_volts"] = pulse.gate_volts
            if pulse.limit_amps is not None:
                arrays["limit_amps"] = pulse.limit_amps
            intent = Entry(
                "apply",
                "intent",
                kind=pulse.kind.value,
                cells=len(pulse),
                seconds=pulse.seconds,
                before=self.inner.clock.now(),
                body=encode(arrays, self._grids.get(pulse.kind)),
            )
            intent = _with_stress(intent, pulse)
            self._transact(intent, pulse.cells, lambda: self.inner.apply(pulse))

    def mvm(self, tile: int, inputs: ArrayLike) -> Ints:
        with self._call():
            before = self.inner.clock.now()
            codes = np.asarray(inputs)
            count = len(codes) if codes.ndim else 0
            entry = Entry("mvm", cells=count, before=before, data={"tile": int(tile)})
            sums = self._observe(entry, {"inputs": codes}, lambda: self.inner.mvm(tile, inputs))
            entry = entry._replace(after=self.inner.clock.now())
            sums = np.asarray(sums, dtype=np.int64)
            self.ledger.append(entry._replace(body=encode({"inputs": codes, "sums": sums})))
            return sums

    def program(self, cells: ArrayLike, low: ArrayLike, high: ArrayLike) -> Programmed:
        with self._call():
            flat = self.spec.check_cells(cells)
            windows = {"low": _per_cell("low", low, flat), "high": _per_cell("high", high, flat)}
            before = self.inner.clock.now()
            body = encode({"cells": flat, **windows}, {"low": 1e-7, "high": 1e-7})
            intent = Entry("program", "intent", cells=flat.size, before=before, body=body)
            return self._transact(
                intent,
                flat,
                lambda: self.inner.program(flat, windows["low"], windows["high"]),
                lambda p: encode(
                    {n: getattr(p, n) for n in ("siemens", "ok", "sets", "resets", "reads")},
                    self._lsb,
                ),
            )

    def adjust(self, knob: str, values: ArrayLike) -> None:
        with self._call():
            body = encode({"values": np.asarray(values, dtype=np.float64)})
            now = self.inner.clock.now()
            intent = Entry("adjust", "intent", before=now, data={"knob": knob}, body=body)
            no_cells = np.empty(0, dtype=np.int64)
            self._transact(intent, no_cells, lambda: self.inner.adjust(knob, values))

    def thaw(self, state: bytes) -> None:
        Connected.thaw(self, state)

    # ------------------------------------------------------------------ states and ends

    def checkpoint(self) -> int:
        """Save the whole state of a volatile die now; returns the ledger row that names it.

        Raises `Refused` on a die that keeps its own state, or when it cannot be written.
        """
        with self._call():
            row = self.ledger.save_state(self.inner.freeze(), self.inner.clock.now())
            self._state_due = False
            return row

    def finish(self, outcome: str, data: Mapping[str, Any] | None = None) -> int:
        """End the session with an outcome in a word or sentence; only `close` may follow."""
        with self._turn:
            self._save_due_state()
            body, more = self._sum_wear()
            return self.ledger.end_run(outcome, {**(data or {}), **more}, body)

    def close(self) -> None:
        """Outputs safe first, then the end of the session (if `finish` did not write it), then
        the ledger: each of them also when the one before it raises. A call that is under way
        in another thread is not waited for. A state that is due is saved while there is a die;
        one whose outputs matter has none."""
        self._closed = True
        with ExitStack() as ends:  # the last comes first
            ends.callback(self.ledger.close)
            ends.push(self._end_session)
            ends.callback(self.inner.close)
            if self._turn.acquire(blocking=False):
                ends.callback(self._turn.release)
                self._save_due_state()

    def _end_session(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not self._turn.acquire(timeout=CLOSE_SECONDS):
            return
        try:
            if self.ledger.session and self.ledger.broken is None:
                why = "" if error is None else f" after an error: {error or type(error).__name__}"
                self.finish(f"closed{why}")
        finally:
            self._turn.release()

    def _sum_wear(self) -> tuple[bytes | None, dict[str, Any]]:
        """The wear of an old die now and then, so that opening it needs not decode its life."""
        if self.spec.volatile and self.spec.newborn:
            return None, {}
        self.ledger.flush()
        with LedgerReader(self.ledger.path) as reader:
            if reader.pulses_since_wear() < WEAR_AFTER_PULSES:
                return None, {}
            wear = reader.wear()
        arrays = {
            "done": np.stack([wear.done[kind] for kind in Kind]),
            "doubtful": np.stack([wear.doubtful[kind] for kind in Kind]),
            "volt_seconds": wear.volt_seconds,
        }
        return encode(arrays), {"high_volts": HIGH_VOLTS}

    # ------------------------------------------------------------------ inside

    @contextmanager
    def _call(self) -> Iterator[None]:
        with self._turn:
            if self._closed:
                raise Refused(f"{self.spec.serial} is closed; open the device again")
            if not self.ledger.session:
                raise Refused(
                    f"this session of {self.spec.serial} has ended; close the device and open it "
                    "again"
                )
            try:
                yield
            except (Refused, ValueError):
                raise
            except BaseException:
                self._state_due = self.spec.volatile
                raise
            self._save_due_state()

    def _save_due_state(self) -> None:
        """A volatile die that something broke off in the middle of a call is saved as it is now:
        its record alone would not lead here. Doubt is no matter: that lives in the rows."""
        if self._state_due:
            with suppress(DeviceError):
                self.ledger.save_state(self.inner.freeze(), self.inner.clock.now())
                self._state_due = False

    def _read(self, cells: ArrayLike, data: Mapping[str, Any] | None) -> Floats:
        with self._call():
            flat = np.asarray(cells)
            entry = Entry("read", cells=flat.size, before=self.inner.clock.now(), data=data)
            siemens = self._observe(entry, {"cells": flat}, lambda: self.inner.read(cells))
            siemens = np.asarray(siemens, dtype=np.float32)
            flat = flat.astype(np.int64, copy=False)
            body = encode({"cells": flat, "siemens": siemens}, self._lsb)
            self.ledger.append(entry._replace(after=self.inner.clock.now(), body=body))
            if self._in_doubt:
                self._doubt[flat] = False
                self._in_doubt = bool(self._doubt.any())
            return siemens

    def _observe(self, entry: Entry, asked: Mapping[str, Any], act: Callable[[], T]) -> T:
        """A call that pulses nothing: no intent, but a failure is recorded like an answer."""
        try:
            return act()
        except DeviceError as error:
            phase = "refused" if isinstance(error, Refused) else "unknown"
            self._fail(entry._replace(phase=phase), error, asked)
            raise

    def _transact(
        self,
        intent: Entry,
        cells: Cells,
        act: Callable[[], T],
        answer: Callable[[T], bytes] | None = None,
    ) -> T:
        """Intent, act, outcome. Whatever stops it in between leaves the cells in doubt."""
        self._refuse_doubt(intent.op)
        last, number = self.ledger.row, 0
        try:
            number = self._intend(intent)
            intent = intent._replace(before=self.inner.clock.now())
            result = act()
        except Refused as error:
            if number:
                self._fail(self._outcome(intent, number, "refused"), error, {})
            raise
        except BaseException as error:
            if number or self.ledger.row > last:
                maybe = error.maybe if isinstance(error, DeviceError) else cells
                maybe = _inside(maybe if maybe.size else cells, self.spec.size)
                self._doubt_cells(maybe)
                outcome = self._outcome(intent, number or self.ledger.row, "unknown")
                self._fail(outcome, error, {"maybe": maybe})
            raise
        try:
            outcome = self._outcome(intent, number, "done")
            self.ledger.append(outcome._replace(body=answer(result) if answer else None))
        except BaseException as error:
            self._doubt_cells(cells)
            if not isinstance(error, LedgerError):
                raise
            raise DeviceFault(
                f"this {intent.op} landed but is not recorded: {error}", cells
            ) from None
        return result

    def _refuse_doubt(self, op: str) -> None:
        if self._in_doubt and op != "adjust":
            cells = self.doubtful
            raise Refused(
                f"{cells.size} cells of {self.spec.serial} were possibly pulsed by a call that "
                f"did not end (the first: {self.spec.name_cell(int(cells[0]))}); read them "
                "before the next pulse, settle() does"
            )

    def _intend(self, intent: Entry) -> int:
        try:
            return self.ledger.append(intent, commit=True)
        except LedgerError as error:
            raise Refused(f"nothing was sent: {error}") from None

    def _outcome(self, intent: Entry, number: int, phase: str) -> Entry:
        after = self.inner.clock.now()
        return intent._replace(phase=phase, intent=number, after=after, body=None)

    def _fail(self, entry: Entry, error: BaseException, arrays: Mapping[str, Any]) -> None:
        """Record a failure. When even that fails, the intent on disk says enough."""
        data = {**(entry.data or {}), "error": type(error).__name__, "message": str(error)}
        maybe = error.maybe if isinstance(error, DeviceError) else np.empty(0, dtype=np.int64)
        kept = {k: v for k, v in {"maybe": maybe, **arrays}.items() if np.size(v)}
        after = entry.after if entry.after is not None else self.inner.clock.now()
        full = entry._replace(data=data, after=after, body=encode(kept) if kept else None)
        with suppress(LedgerError):
            self.ledger.append(full, commit=True)

    def _doubt_cells(self, cells: Cells) -> None:
        self._doubt[_inside(cells, self.spec.size)] = True
        self._in_doubt = bool(self._doubt.any())

    def _slept(self, seconds: float, before: float) -> None:
        after = self.inner.clock.now()
        self.ledger.append(Entry("sleep", seconds=seconds, before=before, after=after))


class _RecordedClock(Clock):
    """The device's clock; a sleep is a row of the ledger, for replay and for rebuilding."""

    def __init__(self, journal: Journal, inner: Clock) -> None:
        self._journal = journal
        self._inner = inner

    def now(self) -> float:
        return self._inner.now()

    def sleep(self, seconds: float) -> None:
        with self._journal._call():
            before = self._inner.now()
            self._inner.sleep(seconds)
            self._journal._slept(seconds, before)


def _with_stress(intent: Entry, pulse: Pulse) -> Entry:
    """The summary columns of a pulse; nothing for one without cells."""
    if not len(pulse):
        return intent
    low, high = float(pulse.volts.min()), float(pulse.volts.max())
    size = pulse.volts if low >= 0 else np.abs(pulse.volts)
    if max(-low, high) < HIGH_VOLTS:
        total = 0.0
    else:
        total = float(size.sum() if HIGH_VOLTS <= 0 else size[size >= HIGH_VOLTS].sum())
    return intent._replace(min_volts=low, max_volts=high, volt_seconds=total * pulse.seconds)


def _grids(device: Device, kind: Kind) -> dict[str, float]:
    """The steps on which the arrays of a pulse probably lie, for the codec."""
    limits = device.spec.pulses[kind]
    ranges: dict[str, Range | None] = {
        "volts": limits.volts,
        "gate_volts": limits.gate_volts,
        "limit_amps": limits.limit_amps,
    }
    return {name: span.step or 1e-3 for name, span in ranges.items() if span is not None}


def _left_in_doubt(ledger: Ledger, upto: int | None) -> Cells:
    ledger.flush()
    with LedgerReader(ledger.path) as reader:
        return reader.doubtful(upto)


def _inside(cells: Cells, size: int) -> Cells:
    return cells[(cells >= 0) & (cells < size)]


def _per_cell(name: str, values: ArrayLike, cells: Cells) -> Floats:
    floats = np.asarray(values, dtype=np.float64)
    if floats.ndim and floats.shape != cells.shape:
        raise ValueError(f"{name} has shape {floats.shape}, but there are {cells.size} cells")
    return np.broadcast_to(floats, cells.shape)
