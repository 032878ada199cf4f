"""The host side of the board protocol: a `Device` over a `Link`."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from rramhil.device import (
    NO_CELLS,
    Cells,
    Clock,
    Device,
    DeviceError,
    DeviceFault,
    Floats,
    Ints,
    Kind,
    LinkLost,
    Outputs,
    Programmed,
    Pulse,
    Refused,
    WallClock,
)

from . import greeting, landing, requests, scales, wire
from .link import Down, Exchange, Link, Question, Silent
from .trace import Trace
from .wire import Frame, Nak, Type, Why

Answer = TypeVar("Answer")

ATTEMPTS = 3
"""Times that a request which changes nothing is sent before the link is given up."""

REARMS = 3
"""Times that a call arms again when the lease ran out between two of its frames."""

WINDOW = 8
"""Requests in flight, if the board offers as many."""

ABORT_SECONDS = 0.25
"""How long an ABORT waits for the board to say that its outputs are off."""

_ALIVE_A_LEASE = 4
_FATAL = frozenset({Why.VERSION, Why.SESSION, Why.STALE, Why.HALTED})


class SerialDevice(Device):
    """A chip on the board at `url`; `timeout` in seconds, over the time that pulses take.

    A read is asked again when no answer comes; a pulse never is: its cells are in `maybe`.
    After a timeout the link is not used any more (a late answer could be taken for that of
    another request): every call raises `Refused` until the device is opened again.

    `window`: requests in flight at most, whatever the board offers. `trace`: a file for every
    byte (see `trace`). `landed`: what became of the cells of the last pulse that failed.
    """

    def __init__(
        self,
        url: str,
        baud: int,
        timeout: float,
        *,
        window: int = WINDOW,
        trace: Path | None = None,
    ) -> None:
        self.url = url
        self.landed: landing.Landed | None = None
        self._timeout = timeout
        self._session = secrets.randbits(32)
        self._ended = ""
        self._aborted: Outputs | None = None
        self._clock_seconds: float | None = None
        record = Trace(trace, url, baud) if trace else None
        try:
            self._link = Link(url, baud, timeout, record)
        except Down as error:
            if record:
                record.close()
            raise Refused(
                f"cannot open {url} ({error}); check the port, and who else uses it"
            ) from None
        try:
            hello = greeting.greet(self._link, url, baud, timeout, self._session)
        except BaseException:
            self._link.close()
            raise
        self.spec, self.firmware, self._sum_bits = hello.spec, hello.firmware, hello.sum_bits
        self._cells_per_frame, self._lease_ms = hello.cells, hello.lease_ms
        self._window = min(window, hello.window)
        self._joins = hello.joins
        self.clock: Clock = DieClock(self) if hello.own_clock else WallClock()

    # ------------------------------------------------------------------ reading

    def read(self, cells: ArrayLike) -> Floats:
        flat = self.spec.check_cells(cells)
        reading = self.spec.reading
        codes = np.empty(flat.size, np.int64)
        parts = self._parts(flat.size)

        def question(part: slice) -> Question:
            groups = math.ceil((part.stop - part.start) / reading.cells_at_once)
            return Question(
                Type.READ, lambda: wire.pack_cells(flat[part]), groups * reading.seconds
            )

        payloads = self._ask([question(part) for part in parts], flat.size)
        for part, payload in zip(parts, payloads, strict=True):
            codes[part] = self._trust(wire.unpack_read_reply, payload, part.stop - part.start)
        return scales.siemens(codes, reading.lsb)

    def counts(self, kind: Kind, cells: ArrayLike) -> Ints:
        """Pulses of `kind` that the board has sent to each of `cells`, by its own count."""
        flat = self.spec.check_cells(cells)
        number = scales.KINDS.index(kind)
        counts = np.empty(flat.size, np.int64)
        parts = self._parts(flat.size)

        def question(part: slice) -> Question:
            return Question(Type.COUNT, lambda: wire.pack_count(number, flat[part]))

        payloads = self._ask([question(part) for part in parts], 0)
        for part, payload in zip(parts, payloads, strict=True):
            counts[part] = self._trust(wire.unpack_count_reply, payload, part.stop - part.start)
        return counts

    def pulses_counted(self, kind: Kind) -> Ints:
        """`counts` of every cell of the die; on a large one that takes a second or two."""
        return self.counts(kind, np.arange(self.spec.size))

    def mvm(self, tile: int, inputs: ArrayLike) -> Ints:
        codes = self.spec.check_inputs(tile, inputs)
        limits = self.spec.mvm
        assert limits is not None  # or check_inputs had refused
        rows, cols, bits = self.spec.rows, self.spec.cols, self._sum_bits
        step = requests.vectors_per_frame(rows, limits.input_bits, cols, bits)
        sums = np.empty((len(codes), cols), np.int64)
        groups = limits.input_bits * math.ceil(rows / limits.rows_at_once)
        parts = _slices(len(codes), step)

        def question(part: slice) -> Question:
            def pack() -> bytes:
                return requests.Product(tile, codes[part]).pack(limits.input_bits)

            return Question(Type.PRODUCT, pack, (part.stop - part.start) * groups * limits.seconds)

        payloads = self._ask([question(part) for part in parts], len(codes))
        for part, payload in zip(parts, payloads, strict=True):
            count = part.stop - part.start
            sums[part] = self._trust(requests.unpack_product_reply, payload, count, cols, bits)
        return sums

    # ------------------------------------------------------------------ changing

    def apply(self, pulse: Pulse) -> None:
        self.spec.check_pulse(pulse)
        parts = self._parts(len(pulse))

        def question(part: slice) -> Question:
            some = pulse.take(part)
            return Question(
                Type.APPLY,
                lambda: scales.pack_pulse(some, self.spec, self._session).pack(),
                len(some) * pulse.seconds,
            )

        book = landing.Book(pulse.cells, parts, landing.read_apply)
        self._transfer([question(part) for part in parts], book, f"a {pulse.kind.name}")

    def program(self, cells: ArrayLike, low: ArrayLike, high: ArrayLike) -> Programmed:
        limits = self.spec.program
        if limits is None:
            return super().program(cells, low, high)
        flat = self.spec.check_cells(cells)
        low_codes, high_codes = self.spec.check_windows(flat, low, high)
        parts = _slices(flat.size, _whole_groups(self._cells_per_frame, limits.cells_at_once))
        longest = max((p.seconds.high for p in self.spec.pulses.values()), default=0.0)
        each = limits.attempts * (longest + self.spec.reading.seconds)

        def question(part: slice) -> Question:
            def pack() -> bytes:
                task = (flat[part], low_codes[part], high_codes[part])
                return requests.Program(self._session, *task).pack()

            groups = math.ceil((part.stop - part.start) / limits.cells_at_once)
            return Question(Type.PROGRAM, pack, groups * each)

        book = landing.Book(flat, parts, landing.read_program)
        answers = self._transfer([question(part) for part in parts], book, "a write-verify")
        return scales.programmed(answers, self.spec)

    def adjust(self, knob: str, values: ArrayLike) -> None:
        codes = scales.knob_codes(knob, values, self.spec)
        number = list(self.spec.knobs).index(knob)
        message = requests.Knob(self._session, number, codes)
        self._once(Type.KNOB, message.pack)

    # ------------------------------------------------------------------ ends

    def abort(self) -> Outputs:
        """Outputs off now: ABORT goes ahead of everything. From any thread or signal handler.

        A pending call raises `LinkLost`; every later one is `Refused` until the device is
        opened again. Never raises: what the board did not confirm, `off` denies.
        """
        start = time.monotonic()
        if self._aborted is not None and self._aborted.off:
            return self._aborted
        self._ended = self._ended or "it was aborted"
        try:
            answer = self._link.urgent(Type.ABORT, ABORT_SECONDS)
            state = requests.State.unpack(answer.payload)
        except (Silent, Down, wire.Garbled) as error:
            said = f"the board at {self.url} did not say that its outputs are off: {error}"
            self._aborted = Outputs(False, said, time.monotonic() - start)
        else:
            off = state.outputs == wire.Outputs.OFF
            self._aborted = Outputs(off, landing.in_words(state), time.monotonic() - start)
        return self._aborted

    def state(self) -> requests.State:
        """The outputs and the lease, as the board says now. Raises `LinkLost` or `Refused`."""
        self._check_open()
        try:
            answer = self._link.urgent(Type.STATUS, self._timeout)
        except (Silent, Down) as error:
            raise self._lost(error, NO_CELLS) from None
        return self._trust(requests.State.unpack, answer.payload)

    def close(self) -> None:
        self._ended = self._ended or "it is closed"
        if self._aborted is None:
            self.abort()
        self._link.close()

    # ------------------------------------------------------------------ time

    def die_seconds(self, wait: float) -> float:
        """Let `wait` seconds of the die's own time pass; return what its clock then says.

        Without waiting, a clock that nothing has moved since is not asked again.
        """
        if wait == 0 and self._clock_seconds is not None:
            return self._clock_seconds
        payload = requests.Time(self._session, round(wait * 1e9)).pack()
        now = self._once(Type.TIME, lambda: payload)
        self._clock_seconds = self._trust(requests.unpack_time_reply, now) / 1e9
        return self._clock_seconds

    # ------------------------------------------------------------------ requests

    def _parts(self, count: int) -> list[slice]:
        return _slices(count, self._cells_per_frame)

    def _call(self, questions: Sequence[Question], size: int) -> list[Question]:
        """The announcement of a call of several frames, for a simulated die that wants it."""
        if not self._joins or len(questions) < 2 or not size:
            return []
        message = requests.Call(questions[0].kind, size)
        return [Question(Type.CALL, message.pack)]

    def _ask(self, questions: Sequence[Question], size: int) -> list[bytes]:
        """The answers to requests that change nothing. `size` of the call they are, 0: of none."""
        self._check_open()
        head = self._call(questions, size)
        asked = [*head, *questions]
        found = self._exchange(asked, ATTEMPTS)
        self._clock_seconds = None if size else self._clock_seconds
        for answer in found.answers:
            if answer is not None and answer.type == Type.NAK:
                raise self._refusal(answer)
        if found.error:
            raise self._lost(found.error, NO_CELLS)
        return [answer.payload for answer in found.answers[len(head) :] if answer is not None]

    def _once(self, kind: Type, pack: Callable[[], bytes]) -> bytes:
        """The answer to a request that must not be repeated and pulses nothing."""
        self._check_open()
        found = self._exchange([Question(kind, pack)], 1)
        self._clock_seconds = None
        (answer,) = found.answers
        if answer is None:
            raise self._lost(found.error or Silent("it does not answer"), NO_CELLS)
        if answer.type == Type.NAK:
            raise self._refusal(answer)
        return answer.payload

    def _transfer(
        self, questions: Sequence[Question], book: landing.Book, what: str
    ) -> list[Frame]:
        """Send what changes cells, each frame once, under a lease; the answers, or what broke."""
        self._check_open()
        arm = Question(Type.ARM, requests.Arm(self._session, self._lease_ms).pack)
        head = [arm, *self._call(questions, book.cells.size)]
        for _ in range(REARMS + 1):
            if not book.todo:
                return book.answers()
            asked = [*head, *(questions[index] for index in book.todo)]
            found = self._exchange(asked, 1, alive_every=self._lease_ms / 1e3 / _ALIVE_A_LEASE)
            self._clock_seconds = None
            book.enter(found, len(head))
            if book.broken:
                break
            head = [arm]
        if book.todo and not book.broken:
            book.broken = DeviceFault(
                f"the lease of the board at {self.url} ran out {REARMS + 1} times within one call; "
                "keep the host less busy"
            )
        if not book.broken:
            return book.answers()
        raise self._verdict(book, what)

    def _verdict(self, book: landing.Book, what: str) -> DeviceError:
        """The exception for a transfer that broke; the cells in doubt are in it, and no other."""
        landed = self.landed = book.landed()
        maybe = landed.maybe
        broken = book.broken
        if isinstance(broken, (Silent, Down)):
            return self._lost(broken, maybe, landed)
        if isinstance(broken, Frame):
            refusal = self._refusal(broken)
            if not maybe.size:
                return refusal
            return DeviceFault(f"{refusal}; {landed}", maybe)
        if isinstance(broken, wire.Garbled):
            return self._nonsense(str(broken), maybe)
        if isinstance(broken, landing.Failed):
            self._ended = f"the board reported a fault: {broken}"
            return DeviceFault(
                f"the board at {self.url} failed during {what}: {broken}; {landed}", maybe
            )
        assert broken is not None
        return DeviceFault(f"{broken}; {landed}", maybe) if maybe.size else Refused(str(broken))

    def _exchange(
        self, questions: Sequence[Question], attempts: int, alive_every: float = 0.0
    ) -> Exchange:
        return self._link.exchange(
            questions, window=self._window, attempts=attempts, alive_every=alive_every
        )

    # ------------------------------------------------------------------ failures

    def _check_open(self) -> None:
        if self._ended:
            raise Refused(
                f"the link to {self.url} cannot be used any more ({self._ended}); "
                "open the device again"
            )

    def _lost(
        self, error: Exception, maybe: Cells, landed: landing.Landed | None = None
    ) -> LinkLost:
        self._ended = self._ended or str(error)
        account = f" ({landed})" if landed else ""
        return LinkLost(
            f"the link to {self.url} is lost: {error}{account}; open the device again and read "
            "the cells in doubt",
            maybe,
        )

    def _nonsense(self, what: str, maybe: Cells) -> DeviceFault:
        self._ended = what
        return DeviceFault(
            f"the board at {self.url} answers nonsense ({what}); check its firmware", maybe
        )

    def _refusal(self, frame: Frame) -> DeviceError:
        """What a NAK means: nothing of its request was done."""
        try:
            nak = Nak.unpack(frame.payload)
        except wire.Garbled as error:
            return self._nonsense(str(error), NO_CELLS)
        if nak.why in _FATAL:
            self._ended = nak.message
        if nak.why == Why.FAULT:
            return DeviceFault(f"the board at {self.url} failed: {nak.message}")
        return Refused(f"the board at {self.url} refused: {nak.message}")

    def _trust(self, unpack: Callable[..., Answer], payload: bytes, *count: int) -> Answer:
        try:
            return unpack(payload, *count)
        except wire.Garbled as error:
            raise self._nonsense(str(error), NO_CELLS) from None


class DieClock(Clock):
    """The clock of a simulated die behind the link. When the link has gone, it stands still."""

    def __init__(self, device: SerialDevice) -> None:
        self._device = device
        self._last = 0.0

    def now(self) -> float:
        try:
            self._last = self._device.die_seconds(0.0)
        except DeviceError:
            return self._last
        return self._last

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass. Raises ValueError for a negative or endless time."""
        if not 0 <= seconds < 2**63 / 1e9:
            raise ValueError(f"cannot sleep {seconds} s; device time only moves forward")
        self._last = self._device.die_seconds(seconds)


def _whole_groups(cells: int, group: int) -> int:
    """The most cells up to `cells` that cut no group in two; `cells` where a group is larger."""
    return cells - cells % group if group <= cells else cells


def _slices(count: int, step: int) -> list[slice]:
    return [slice(i, min(i + step, count)) for i in range(0, count, step)]
