"""A host with random work on a bad line, and the books about what became of each pulse.

The books hold twice: as a ledger does (done, doubtful), and exactly, for after each broken
call the host opens the board again, reads the cells in doubt and asks the chip's own counter.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rramhil.address import open_device
from rramhil.device import Cells, DeviceError, Floats, Ints, Kind, Pulse, Refused
from rramhil_drivers import requests, scales, wire
from rramhil_drivers.serial_device import ATTEMPTS, SerialDevice
from rramhil_drivers.wire import Frame, Type, Why

from .books import Books, Tally, is_part
from .line import Line
from .protocol_faulty import plugged

OPENINGS = 60
"""Times that a host tries to open a board before the run has failed."""

SIZES = (1, 4, 16, 33, 64, 64, 130, 400)
WORK = {
    "read": 0.42,
    "apply": 0.42,
    "count": 0.05,
    "product": 0.05,
    "program": 0.05,
    "abort": 0.002,
    "pause": 0.0005,
}
"""Shares of what the host does; "pause" lets the lease run out."""

Values = Callable[[Frame, Frame], Mapping[Any, Any]]
"""From a request and its answer to what the answer says of each cell (or input vector)."""


def exercise(
    line: Line, frames: int, seed: int, *, options: str = "timeout=0.02", audit_every: int = 50_000
) -> Tally:
    """Work over `line` until `frames` more went over it, and give account.

    `options`: those of the driver's address. Raises RuntimeError when the board cannot be
    opened any more: no fault of the line lasts.
    """
    with plugged(line) as url:
        tally = _Worker(line, f"serial:{url}?{options}", seed).work(frames, audit_every)
    tally.faults = line.happened()
    tally.wrong += line.violations()
    return tally


class _Worker:
    def __init__(self, line: Line, address: str, seed: int) -> None:
        self.line, self.address = line, address
        self.tally = Tally()
        self.asked: deque[Pulse] = deque(maxlen=4)
        self.random, self.rng = Random(f"{seed} work"), np.random.default_rng(seed)
        with line.undisturbed():
            self.device = self._open()
            self.spec = self.device.spec
            self.books = Books(self._counted(), self.tally.wrong)

    def work(self, frames: int, audit_every: int) -> Tally:
        start = audited = self.line.frames
        shares = list(WORK.values())
        try:
            while self.line.frames < start + frames:
                (name,) = self.random.choices(list(WORK), shares)
                self._step(name)
                if self.line.frames - audited >= audit_every:
                    audited = self.line.frames
                    self._audit()
            self._audit()
        finally:
            self.device.close()
        self.tally.frames = self.line.frames - start
        return self.tally

    def _step(self, name: str) -> None:
        self.tally.calls[name] += 1
        self.line.forget_call()
        size = self.random.choice(SIZES)
        cells = self.rng.permutation(self.spec.size)[:size]
        getattr(self, "_" + name)(cells)
        self._check_policy()

    def _check_policy(self) -> None:
        """A pulse goes out again only after the board said UNARMED; a question a few times."""
        unarmed = {f.seq for f in self.line.answers if _why(f) == Why.UNARMED}
        again: Counter[bytes] = Counter()
        for frame in self.line.requests:
            if frame.type in wire.CHANGES_CELLS:
                again[frame.payload] += frame.seq not in unarmed
        self.tally.wrong["a pulse was sent again"] += sum(n > 1 for n in again.values())
        asked = Counter(f.payload for f in self.line.requests if f.type in (Type.READ, Type.COUNT))
        self.tally.wrong["asked too often"] += sum(n > ATTEMPTS for n in asked.values())

    # ------------------------------------------------------------------ what changes nothing

    def _read(self, cells: Cells) -> None:
        try:
            siemens = self.device.read(cells)
        except DeviceError as error:
            self._recover(error)
            return
        codes = scales.read_codes(siemens, self.spec.reading.lsb)
        believed = dict(zip(cells.tolist(), codes.tolist(), strict=True))
        self._check_belief(believed, Type.READ, _said_of_reading)

    def _count(self, cells: Cells) -> None:
        kind = self.random.choice(list(self.spec.pulses))
        try:
            counts = self.device.counts(kind, cells)
        except DeviceError as error:
            self._recover(error)
            return
        believed = {
            (scales.KINDS.index(kind), cell): count
            for cell, count in zip(cells.tolist(), counts.tolist(), strict=True)
        }
        self._check_belief(believed, Type.COUNT, _said_of_counting)
        self.books.compare(kind, cells, counts)

    def _product(self, cells: Cells) -> None:
        if self.spec.mvm is None:
            return
        bits = self.spec.mvm.input_bits
        tile = self.random.randrange(self.spec.tiles)
        inputs = self.rng.integers(0, 2**bits, (len(cells), self.spec.rows))
        try:
            sums = self.device.mvm(tile, inputs)
        except DeviceError as error:
            self._recover(error)
            return
        spec = self.spec

        def said(request: Frame, answer: Frame) -> Mapping[Any, Any]:
            asked = requests.Product.unpack(request.payload, spec.rows, bits)
            width = scales.product_sum_bits(spec.mvm, spec.rows)
            vectors = len(asked.inputs)
            found = requests.unpack_product_reply(answer.payload, vectors, spec.cols, width)
            return {(asked.tile, v.tobytes()): s.tobytes() for v, s in _pairs(asked.inputs, found)}

        believed = {(tile, v.tobytes()): s.tobytes() for v, s in _pairs(inputs, sums)}
        self._check_belief(believed, Type.PRODUCT, said)

    def _check_belief(self, believed: Mapping[Any, Any], kind: Type, said: Values) -> None:
        """Every value came in an answer of the board to a request for that very cell."""
        known: dict[Any, set[Any]] = {}
        asked = {frame.seq: frame for frame in self.line.requests if frame.type == kind}
        for answer in self.line.answers:
            request = asked.get(answer.seq)
            if request is not None and answer.type == kind | wire.REPLY:
                for what, value in said(request, answer).items():
                    known.setdefault(what, set()).add(value)
        wrong = sum(value not in known.get(what, ()) for what, value in believed.items())
        self.tally.wrong["believed but never answered"] += wrong

    # ------------------------------------------------------------------ what pulses

    def _apply(self, cells: Cells) -> None:
        pulse = self._pulse(cells)
        self.asked.append(pulse)
        try:
            self.device.apply(pulse)
        except DeviceError as error:
            self._recover(error, {pulse.kind: 1})
        else:
            self.books.enter(pulse.kind, cells)
        self._check_executed()

    def _pulse(self, cells: Cells) -> Pulse:
        kind = self.random.choice(list(self.spec.pulses))
        limits = self.spec.pulses[kind]

        def some(low: float, high: float, step: float) -> Floats:
            lowest, highest = int(np.ceil(low / step)), int(high / step)
            return self.rng.integers(lowest, highest + 1, cells.size) * step

        volts = some(limits.volts.low, limits.volts.high, limits.volts.step)
        gate = limits.gate_volts
        gates = None if gate is None else some(gate.low, gate.high, gate.step)
        amps = limits.limit_amps
        caps = None if amps is None else some(amps.low, amps.high, amps.step)
        width = limits.seconds.low
        return Pulse(kind, cells, volts, gates, seconds=width, limit_amps=caps)

    def _check_executed(self) -> None:
        """What the array saw was asked for, and not twice. A late frame is of an earlier call."""
        executed = list(self.line.end.executed)
        del self.line.end.executed[: len(executed)]
        seen = Counter((p.kind, cell) for p in executed for cell in p.cells.tolist())
        if all(is_part(pulse, self.asked[-1]) for pulse in executed):
            self.tally.wrong["executed twice"] += sum(count - 1 for count in seen.values())
        strange = sum(not any(is_part(p, asked) for asked in self.asked) for p in executed)
        self.tally.wrong["executed but never sent"] += strange

    def _program(self, cells: Cells) -> None:
        limits = self.spec.program
        if limits is None:
            return
        steps = 10 + 20 * self.rng.integers(0, limits.levels, cells.size)
        low = steps * self.spec.reading.lsb
        try:
            done = self.device.program(cells, low, low + 15 * self.spec.reading.lsb)
        except DeviceError as error:
            self._recover(error, dict.fromkeys((Kind.SET, Kind.RESET), limits.attempts))
            return
        self.books.enter(Kind.SET, cells, done.sets)
        self.books.enter(Kind.RESET, cells, done.resets)

    # ------------------------------------------------------------------ bad days

    def _abort(self, cells: Cells) -> None:
        """Stop the board, in the middle of nothing; what follows is refused."""
        outputs = self.device.abort()
        try:
            self.device.read(cells)
            self.tally.wrong["used after an abort"] += 1
        except Refused:
            self.tally.calls["abort confirmed"] += outputs.off
        self._reopen()

    def _pause(self, cells: Cells) -> None:
        """Be silent for longer than the lease."""
        time.sleep(1.2e-3 * wire.LEASE_MS)

    def _recover(self, error: DeviceError, pulses: Mapping[Kind, int] | None = None) -> None:
        """Book a broken call, open the board again, read the cells in doubt, and go on.

        `pulses`: how many of a kind each of its cells may have had.
        """
        self._check_hearing(error)
        self.tally.broken[type(error).__name__] += 1
        doubts = pulses or {}
        for kind, at_most in doubts.items():
            self.books.doubt(kind, error.maybe, at_most)
        self.tally.doubts += error.maybe.size
        for _ in range(OPENINGS):
            self._reopen()
            if not error.maybe.size:
                return
            try:
                self.device.read(error.maybe)
                counts = {kind: self.device.counts(kind, error.maybe) for kind in doubts}
            except DeviceError:
                continue
            for kind, counted in counts.items():
                self.books.resolve(kind, error.maybe, counted, doubts[kind])
            return
        raise RuntimeError("no reading of the cells in doubt succeeded")

    def _check_hearing(self, error: DeviceError) -> None:
        """A host that gave up must have missed an answer: one that came was understood."""
        if "does not answer" not in str(error):
            return
        self.line.catch_up()
        asked = {(frame.seq, frame.type | wire.REPLY) for frame in self.line.requests}
        heard = set(_in_order(self.line.heard))
        # In this order: an answer that comes between the two lines is still unread.
        if asked and asked <= heard and self.line.unread() == 0:
            self.tally.wrong["heard but not understood"] += 1

    def _reopen(self) -> None:
        self._check_policy()
        self.device.close()
        self.tally.reopened += 1
        self.device = self._open()
        self.line.forget_call()

    def _open(self) -> SerialDevice:
        for _ in range(OPENINGS):
            try:
                device = open_device(self.address)
            except Refused as error:
                last = error
                continue
            assert isinstance(device, SerialDevice)
            return device
        raise RuntimeError(f"the board could not be opened in {OPENINGS} tries: {last}")

    # ------------------------------------------------------------------ the account

    def _counted(self) -> Ints:
        cells = np.arange(self.spec.size)
        return np.stack([self.device.counts(kind, cells) for kind in scales.KINDS])

    def _audit(self) -> None:
        with self.line.undisturbed():
            self._reopen()
            self.books.audit(self._counted())


def _why(answer: Frame) -> int:
    return wire.Nak.unpack(answer.payload).why if answer.type == Type.NAK else 0


def _in_order(heard: list[Frame]) -> Iterator[tuple[int, int]]:
    """Number and type of the answers that the host has to take.

    A board answers in order, so the answer to a later number says that an earlier one is lost
    (docs/board-protocol.md). A copy that the line brings after that comes too late.
    """
    newest = {True: -1, False: -1}
    for frame in heard:
        urgent = frame.type & ~wire.REPLY in wire.URGENT
        if frame.seq >= newest[urgent]:
            newest[urgent] = frame.seq
            yield frame.seq, frame.type


def _said_of_reading(request: Frame, answer: Frame) -> Mapping[Any, Any]:
    cells = wire.unpack_cells(request.payload)
    codes = wire.unpack_read_reply(answer.payload, cells.size)
    return dict(zip(cells.tolist(), codes.tolist(), strict=True))


def _said_of_counting(request: Frame, answer: Frame) -> Mapping[Any, Any]:
    kind, cells = wire.unpack_count(request.payload)
    counts = wire.unpack_count_reply(answer.payload, cells.size)
    return {(kind, cell): n for cell, n in zip(cells.tolist(), counts.tolist(), strict=True)}


def _pairs(
    inputs: NDArray[np.integer], sums: NDArray[np.integer]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    return list(zip(inputs.astype(np.int64), sums.astype(np.int64), strict=True))
