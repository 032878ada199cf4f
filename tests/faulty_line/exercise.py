"""A host with random work on a bad line, and the books about what became of each pulse.

The books hold twice: as a ledger does (done, doubtful), and exactly, for after each broken
call the host opens the board again, reads the cells in doubt and asks the chip's own counter.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from random import Random

import numpy as np

from rramhil.address import open_device
from rramhil.device import Cells, DeviceError, Floats, Ints, Kind, Pulse, Refused
from rramhil_drivers import scales, wire
from rramhil_drivers.serial_device import SerialDevice
from rramhil_drivers.wire import Type

from .line import Line
from .protocol_faulty import plugged

OPENINGS = 60
"""Times that a host tries to open a board before the run has failed."""

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


@dataclass
class Tally:
    """What a run did, and what it found: `wrong` is empty on any line, or something is."""

    frames: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    doubts: int = 0
    reopened: int = 0

    def count(self, names: tuple[str, ...]) -> int:
        return sum(self.wrong[name] for name in names)

    def violations(self) -> dict[str, int]:
        return {name: count for name, count in self.wrong.items() if count}


class Books:
    """Pulses of each kind and cell: `done`, `doubtful` as a ledger has them, `known` exactly."""

    def __init__(self, cells: int) -> None:
        shape = (len(scales.KINDS), cells)
        self.done = np.zeros(shape, np.int64)
        self.doubtful = np.zeros(shape, np.int64)
        self.known = np.zeros(shape, np.int64)

    def audit(self, counted: Ints, wrong: Counter[str]) -> None:
        """Compare with what the chip counted, (kind, cell)."""
        wrong["pulsed more than asked"] += _surplus(counted - self.known)
        wrong["claimed but never pulsed"] += _surplus(self.known - counted)
        wrong["pulsed and not in the books"] += _surplus(counted - self.done - self.doubtful)
        wrong["in the books and not pulsed"] += _surplus(self.done - counted)


def _is_part(done: Pulse, asked: Pulse) -> bool:
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


def _surplus(numbers: Ints) -> int:
    return int(np.maximum(numbers, 0).sum())


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
            self.books = Books(self.spec.size)
            self.books.known[:] = self._counted()
        self.books.done[:] = self.books.known

    def work(self, frames: int, audit_every: int) -> Tally:
        start = audited = self.line.frames
        try:
            while self.line.frames < start + frames:
                self._step()
                if self.line.frames - audited >= audit_every:
                    audited = self.line.frames
                    self._audit()
            self._audit()
        finally:
            self.device.close()
        self.tally.frames = self.line.frames - start
        return self.tally

    def _step(self) -> None:
        size = self.random.choice((1, 4, 16, 33, 64, 64, 130))
        cells = self.rng.permutation(self.spec.size)[:size]
        chance = self.random.random()
        if chance < 0.45:
            self._read(cells)
        elif chance < 0.93:
            self._apply(cells)
        else:
            kind = self.random.choice(list(self.spec.pulses))
            self._count(kind, cells)

    # ------------------------------------------------------------------ the calls

    def _read(self, cells: Cells) -> None:
        self.line.forget_call()
        self.tally.calls["read"] += 1
        try:
            siemens = self.device.read(cells)
        except DeviceError as error:
            self._recover(error, None)
            return
        codes = scales.read_codes(siemens, self.spec.reading.lsb)
        believed = dict(zip(cells.tolist(), codes.tolist(), strict=True))
        self._check_belief(believed, Type.READ, wire.unpack_cells, wire.unpack_read_reply)

    def _count(self, kind: Kind, cells: Cells) -> None:
        self.line.forget_call()
        self.tally.calls["count"] += 1
        number = scales.KINDS.index(kind)
        try:
            counts = self.device.counts(kind, cells)
        except DeviceError as error:
            self._recover(error, None)
            return
        believed = dict(zip(cells.tolist(), counts.tolist(), strict=True))

        def of_kind(payload: bytes) -> Cells:
            asked, those = wire.unpack_count(payload)
            return those if asked == number else those[:0]

        self._check_belief(believed, Type.COUNT, of_kind, wire.unpack_count_reply)
        self.tally.wrong["pulsed more than asked"] += _surplus(
            counts - self.books.known[number, cells]
        )

    def _apply(self, cells: Cells) -> None:
        self.line.forget_call()
        self.tally.calls["apply"] += 1
        pulse = self._pulse(cells)
        number = scales.KINDS.index(pulse.kind)
        self.asked.append(pulse)
        try:
            self.device.apply(pulse)
        except DeviceError as error:
            self._recover(error, pulse)
            self._check_executed()
            return
        self._check_executed()
        self.books.done[number, cells] += 1
        self.books.known[number, cells] += 1

    def _check_executed(self) -> None:
        """What the array saw was asked for, and not twice. A late frame is of an earlier call."""
        executed = list(self.line.end.executed)
        del self.line.end.executed[: len(executed)]
        seen = Counter((p.kind, cell) for p in executed for cell in p.cells.tolist())
        twice = sum(count - 1 for count in seen.values())
        if not any(map(self._late, executed)):
            self.tally.wrong["executed twice"] += twice
        strange = sum(not any(_is_part(p, asked) for asked in self.asked) for p in executed)
        self.tally.wrong["executed but never sent"] += strange

    def _late(self, pulse: Pulse) -> bool:
        return not _is_part(pulse, self.asked[-1])

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

    def _check_belief(self, believed, kind, cells_of, values_of) -> None:  # type: ignore[no-untyped-def]
        """Every value came in an answer of the board to a request for that very cell."""
        said: dict[int, set[int]] = {}
        requests = {frame.seq: frame for frame in self.line.requests if frame.type == kind}
        for answer in self.line.answers:
            request = requests.get(answer.seq)
            if request is not None and answer.type == kind | wire.REPLY:
                cells = cells_of(request.payload)
                values = values_of(answer.payload, cells.size)
                for cell, value in zip(cells.tolist(), values.tolist(), strict=True):
                    said.setdefault(cell, set()).add(value)
        wrong = sum(value not in said.get(cell, ()) for cell, value in believed.items())
        self.tally.wrong["believed but never answered"] += wrong

    # ------------------------------------------------------------------ bad days

    def _recover(self, error: DeviceError, pulse: Pulse | None) -> None:
        """Book a broken call, open the board again, read the cells in doubt, and go on."""
        self._check_hearing(error)
        if pulse is not None and not isinstance(error, Refused):
            self.books.doubtful[scales.KINDS.index(pulse.kind), error.maybe] += 1
            self.tally.doubts += error.maybe.size
        for _ in range(OPENINGS):
            self._reopen()
            if pulse is None or not error.maybe.size:
                return
            try:
                self.device.read(error.maybe)
                counts = self.device.counts(pulse.kind, error.maybe)
            except DeviceError:
                continue
            self._resolve(scales.KINDS.index(pulse.kind), error.maybe, counts)
            return
        raise RuntimeError("no reading of the cells in doubt succeeded")

    def _resolve(self, kind: int, cells: Cells, counts: Ints) -> None:
        landed = counts - self.books.known[kind, cells]
        self.tally.wrong["pulsed more than asked"] += int((landed > 1).sum())
        self.tally.wrong["claimed but never pulsed"] += int((landed < 0).sum())
        self.books.known[kind, cells] = counts

    def _check_hearing(self, error: DeviceError) -> None:
        """A host that gave up must have missed an answer: one that came was understood."""
        if "does not answer" not in str(error) or self.line.unread() != 0:
            return
        asked = {(frame.seq, frame.type | wire.REPLY) for frame in self.line.requests}
        heard = {(frame.seq, frame.type) for frame in self.line.heard}
        if asked and asked <= heard:
            self.tally.wrong["heard but not understood"] += 1

    def _reopen(self) -> None:
        self.device.close()
        self.tally.reopened += 1
        self.device = self._open()

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
            self.books.audit(self._counted(), self.tally.wrong)
