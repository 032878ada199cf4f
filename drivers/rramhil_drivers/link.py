"""Requests over a pyserial port, several in flight, and the answers that belong to them."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import serial as pyserial

from . import wire
from .trace import Trace
from .wire import Frame, Type

REPLY_BYTES = 700
"""About the longest answer, for the time that it takes on a slow line."""

_SETTLE_SECONDS = 0.02
_DRAIN_SECONDS = 1.0
_CHUNK = 16384


class Down(Exception):
    """The port cannot be opened, broke, or was closed."""


class Silent(Exception):
    """No answer came in time."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request: `pack` makes its payload when its turn comes; `seconds` that the board needs."""

    kind: Type
    pack: Callable[[], bytes]
    seconds: float = 0.0


@dataclass(slots=True)
class Exchange:
    """What became of questions, one entry each. `error`: why not all were sent and answered."""

    answers: list[Frame | None]
    sent: list[bool]
    error: Silent | Down | None = None


class Link:
    """The port at `url` (a device path or a pyserial URL such as socket://host:port).

    Answers are told by their sequence number, so one that comes too late, or twice, is passed
    over. `late`: answers that came too late since the last one that came in time.
    `close` and `abort` may be called from another thread, or from a signal handler: an
    exchange that waits then ends with `Down`.
    """

    def __init__(self, url: str, baud: int, timeout: float, trace: Trace | None = None) -> None:
        try:
            self._port = pyserial.serial_for_url(
                url, baudrate=baud, timeout=0, write_timeout=timeout, exclusive=True
            )
        except (OSError, ValueError) as error:
            raise Down(str(error)) from None
        try:
            self._fd = self._port.fileno()
            line = getattr(self._port, "_socket", None)
            if line is not None:  # without it a second frame in flight waits for the first answer
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            os.set_blocking(self._fd, False)
        except OSError:
            self._port.close()
            raise Down("this kind of port cannot be waited for") from None
        self._timeout = timeout
        self._seconds_a_byte = 0.0 if "://" in url else 10.0 / baud
        self._trace = trace
        self._receiver = wire.Receiver()
        self._numbers = {False: 0, True: 0}
        self._lock, self._sending = threading.RLock(), threading.RLock()
        self._outgoing = bytearray()
        self._inbox: deque[Frame] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._ended = ""
        self._open = True
        self._overdue: dict[int, Type] = {}
        self.late = 0
        self.received = 0

    @property
    def garbled(self) -> int:
        """Pieces between two zero bytes that were no frame."""
        return self._receiver.dropped

    def drain(self) -> None:
        """Throw away what is on the line: what an earlier host was answered, or chatter."""
        with self._lock:
            until = time.monotonic() + _DRAIN_SECONDS
            while time.monotonic() < until and self._available(time.monotonic() + _SETTLE_SECONDS):
                pass
            self._receiver = wire.Receiver()
            self._inbox.clear()
            self.received = 0

    def exchange(
        self,
        questions: Sequence[Question],
        *,
        window: int,
        attempts: int = 1,
        alive_every: float = 0.0,
    ) -> Exchange:
        """Send `questions` in order, at most `window` unanswered, each at most `attempts` times.

        The board answers in order: an answer to a later one says that an earlier one is lost.
        After a NAK, an answer that says "failed", or a question lost for good no more is sent,
        but the answers to those in flight are waited for. `alive_every` seconds of waiting a
        STATUS goes out, so that the board knows that the host lives (0: never).
        """
        with self._lock:
            flight = _Flight(questions, window, attempts)
            try:
                while not flight.over:
                    self._launch(flight, questions)
                    self._hear(flight, questions, alive_every)
            except (Silent, Down) as error:
                flight.result.error = error
            return flight.result

    def _launch(self, flight: _Flight, questions: Sequence[Question]) -> None:
        """Send as many as the window allows."""
        while (index := flight.next()) is not None:
            kind = questions[index].kind
            frame = Frame(kind, self._number(False), questions[index].pack())
            self._overdue.pop(frame.seq, None)
            flight.launch(index, frame.seq)
            self._put(frame)

    def _hear(self, flight: _Flight, questions: Sequence[Question], alive_every: float) -> None:
        """Take in one answer, or find that the oldest request in flight has none."""
        oldest = questions[flight.oldest]
        line = len(flight.flying) * REPLY_BYTES * 2 * self._seconds_a_byte
        deadline = flight.since + self._timeout + oldest.seconds + line
        frame = self._next(deadline, alive_every)
        if frame is None:
            self._overdue |= {seq: questions[index].kind for seq, index in flight.flying.items()}
            if not flight.time_out():
                raise Silent(self._silence())
            return
        index = flight.flying.get(frame.seq)
        if index is not None and _answers(frame, questions[index].kind):
            self.late = 0
            flight.land(frame)
        elif _answers(frame, self._overdue.get(frame.seq)):
            del self._overdue[frame.seq]
            self.late += 1

    def _silence(self) -> str:
        if self.late:
            return f"it answers later than timeout={self._timeout:g} s"
        return "it does not answer"

    def urgent(self, kind: Type, seconds: float) -> Frame:
        """Ask for STATUS or ABORT ahead of everything. Raises `Silent` or `Down`.

        ABORT ends the link: what waits for an answer, in whatever thread, gets `Down` first.
        """
        frame = Frame(kind, self._number(True))
        deadline = time.monotonic() + seconds
        if kind == Type.ABORT:
            self._ended = self._ended or "it was aborted"
            with self._sending:
                self._outgoing.clear()
        self._put(frame)
        self._wake()
        if not self._lock.acquire(timeout=max(seconds, 0.0)):
            raise Silent("another call does not let go of it")
        try:
            while (answer := self._next(deadline, 0.0, ended=True)) is not None:
                if answer.seq == frame.seq and answer.type == kind | wire.REPLY:
                    return answer
            raise Silent(self._silence())
        finally:
            self._lock.release()

    def _number(self, urgent: bool) -> int:
        self._numbers[urgent] = (self._numbers[urgent] + 1) % 2**16
        return self._numbers[urgent]

    # ---------------------------------------------------------------------- bytes

    def _put(self, frame: Frame) -> None:
        """A zero byte in front ends whatever an interrupted call left on the line."""
        with self._sending:
            self._outgoing += b"\0" + wire.encode(frame)
            self._flush()

    def _flush(self) -> None:
        with self._sending:
            data = bytes(self._outgoing)
            self._outgoing.clear()
            if not data:
                return
            if self._trace:
                self._trace.sent(data)
            try:
                count = os.write(self._fd, data) if self._open else len(data)
            except BlockingIOError:
                count = 0
            except OSError as error:
                raise Down(str(error)) from None
            if count < len(data):
                if self._trace:
                    self._trace.unsent(len(data) - count)
                self._outgoing[:0] = data[count:]

    def _next(self, deadline: float, alive_every: float, ended: bool = False) -> Frame | None:
        """The next frame, or None after `deadline`. `ended`: go on although the link is."""
        alive = time.monotonic() + alive_every if alive_every else float("inf")
        while True:
            if self._ended and not ended:
                raise Down(self._ended)
            if self._inbox:
                return self._inbox.popleft()
            if time.monotonic() >= deadline:
                return None
            if time.monotonic() >= alive:
                self._put(Frame(Type.STATUS, self._number(True)))
                alive = time.monotonic() + alive_every
            self._inbox.extend(self._receiver.feed(self._available(min(deadline, alive))))

    def _available(self, until: float) -> bytes:
        """What has arrived, once something has, or nothing when it is time or it was woken."""
        if not self._open:
            raise Down(self._ended or "it is closed")
        try:
            out = [self._fd] if self._outgoing else []
            left = max(until - time.monotonic(), 0.0)
            ready, writable, _ = select.select([self._fd, self._wake_read], out, [], left)
            if writable:
                self._flush()
            if self._wake_read in ready:
                os.read(self._wake_read, 64)
            if self._fd not in ready:
                return b""
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return b""
        except (OSError, ValueError) as error:
            raise Down(self._ended or str(error)) from None
        if not data:
            raise Down("the other side closed it")
        if self._trace:
            self._trace.received(data)
        self.received += len(data)
        return data

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"x")
        except OSError:
            return  # it is full, so whoever waits wakes anyway; or closed, so nobody waits

    def close(self, reason: str = "it was closed under a pending call") -> None:
        """Give the port back. Callable twice and from another thread."""
        self._ended = self._ended or reason
        if not self._open:
            return
        self._wake()
        with self._lock:
            if not self._open:
                return
            self._open = False
            # pyserial 3.5 leaves its socket open when the other side closed it first
            line = getattr(self._port, "_socket", None)
            self._port.close()
            if line is not None:
                line.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            if self._trace:
                self._trace.close()


@dataclass
class _Flight:
    """Which questions wait, fly and have landed. Knows no bytes and, but for `since`, no time."""

    questions: Sequence[Question]
    window: int
    attempts: int
    flying: dict[int, int] = field(default_factory=dict)
    since: float = 0.0
    stopped: bool = False

    def __post_init__(self) -> None:
        count = len(self.questions)
        self.result = Exchange([None] * count, [False] * count)
        self.todo = deque(range(count))
        self.tries = [0] * count

    @property
    def over(self) -> bool:
        return not self.flying and (self.stopped or not self.todo)

    @property
    def oldest(self) -> int:
        return next(iter(self.flying.values()))

    def next(self) -> int | None:
        """The question to send now, or None: the window is full, or there is none."""
        if self.stopped or not self.todo or len(self.flying) >= self.window:
            return None
        return self.todo[0]

    def launch(self, index: int, seq: int) -> None:
        """Question `index` goes out under `seq`: from here on it counts as sent."""
        self.todo.popleft()
        if not self.flying:
            self.since = time.monotonic()
        self.flying[seq] = index
        self.tries[index] += 1
        self.result.sent[index] = True

    def land(self, frame: Frame) -> None:
        """`frame` answers one in flight; those that flew before it are lost."""
        lost = []
        for seq in list(self.flying):
            index = self.flying.pop(seq)
            if seq == frame.seq:
                self.result.answers[index] = frame
                break
            lost.append(index)
        self.since = time.monotonic()
        if not went_well(frame):
            self.stopped = True
        if not self._again(lost):
            self.stopped = True
            self.result.error = Silent("it does not answer one of the requests")

    def time_out(self) -> bool:
        """Nothing came: send all in flight again. False when one was sent too often."""
        lost = list(self.flying.values())
        if self.stopped or any(self.tries[index] >= self.attempts for index in lost):
            return False
        self.flying.clear()
        return self._again(lost)

    def _again(self, lost: list[int]) -> bool:
        good = all(self.tries[index] < self.attempts for index in lost)
        if good:
            self.todo.extendleft(reversed(lost))
        return good


def _answers(frame: Frame, kind: Type | None) -> bool:
    """Whether `frame` can be the answer to a request of `kind` with its number."""
    return kind is not None and frame.type in (kind | wire.REPLY, Type.NAK)


def went_well(frame: Frame) -> bool:
    """Whether an answer says that its request was done as a whole."""
    if frame.type in (Type.APPLY | wire.REPLY, Type.PROGRAM | wire.REPLY):
        return frame.payload[1:2] == b"\0"
    return frame.type != Type.NAK
