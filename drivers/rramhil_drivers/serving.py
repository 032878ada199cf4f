"""A virtual board behind a socket: takes frames in while it works, and keeps its lease.

With a baud rate each byte takes its time, ten bits of it, in both directions at once.
"""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence

from rramhil.device import Refused

from . import wire
from .session import nak
from .virtual_board import Board, Steps
from .wire import Frame, Why

_CHUNK = 65536
_BITS_A_BYTE = 10


class Watch:
    """Told of every frame, in this order. Tests override it to interfere."""

    def received(self, frame: Frame) -> bool:
        """A frame arrived; False throws it away unseen, as if the line had swallowed it."""
        return True

    def answered(self, frame: Frame, answer: Frame) -> None:
        """The board did what `frame` asks; `answer` has not left yet."""

    def replied(self, frame: Frame) -> None:
        """The answer to `frame` is on its way."""


def listen(where: str) -> socket.socket:
    """A listening socket on `host:port`, loopback only (port 0: any). Raises `Refused`."""
    host, _, port = where.rpartition(":")
    try:
        if not ipaddress.ip_address(host.strip("[]")).is_loopback:
            raise Refused(f"{host} is no loopback address; the board listens on 127.0.0.1 or ::1")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host.strip("[]"), int(port)), family=family)
    except (ValueError, OverflowError):
        raise Refused(f"{where} is not host:port; write for example 127.0.0.1:0") from None
    except OSError as error:
        raise Refused(f"cannot listen on {where} ({error}); give another port, or 0") from None


class Pace:
    """When each byte of one direction of a line has passed, at `baud` (0: at once)."""

    def __init__(self, baud: float) -> None:
        self._seconds_a_byte = _BITS_A_BYTE / baud if baud else 0.0
        self._free = 0.0

    def passed(self, size: int, now: float) -> float:
        """When `size` bytes that are ready at `now` are over, behind those of before."""
        self._free = max(self._free, now) + size * self._seconds_a_byte
        return self._free


class Conversation:
    """One host on the line: what it sent, what waits its turn, what is on its way to it."""

    def __init__(self, board: Board, host: socket.socket, watch: Watch, baud: float) -> None:
        host.setblocking(False)
        if host.family in (socket.AF_INET, socket.AF_INET6):
            host.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host = host
        self.gone = False
        self._board, self._watch = board, watch
        self._receiver = wire.Receiver()
        self._in, self._out = Pace(baud), Pace(baud)
        self._arriving: deque[tuple[float, Frame]] = deque()
        self._waiting: deque[tuple[Frame, int]] = deque()
        self._leaving: deque[tuple[float, bytes]] = deque()
        self._unsent = b""
        self._task: tuple[Frame, Steps] | None = None
        self._busy_until = 0.0

    @property
    def over(self) -> bool:
        """The host has gone, and all that it sent was worked on."""
        return self.gone and not (self._arriving or self._waiting or self._task)

    @property
    def blocked(self) -> bool:
        """The host takes no more bytes for now."""
        return bool(self._unsent)

    def due(self) -> float:
        """When there is something to do next, monotonic seconds."""
        times = [self._arriving[0][0]] if self._arriving else []
        times += [self._leaving[0][0]] if self._leaving and not self._unsent else []
        if self._task:
            times.append(self._busy_until)
        elif self._waiting:
            times.append(0.0)
        return min(times, default=float("inf"))

    def receive(self) -> None:
        """Take in what the host has sent."""
        try:
            data = self.host.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.gone = True
        now = time.monotonic()
        for piece in _pieces(data):
            passed = self._in.passed(len(piece), now)
            self._arriving.extend((passed, frame) for frame in self._receiver.feed(piece))

    def go_on(self) -> None:
        """Do what is due: take frames off the line, work one step, send answers."""
        now = time.monotonic()
        while self._arriving and self._arriving[0][0] <= now:
            self._arrived(self._arriving.popleft()[1])
        self._work(now)
        self._send()

    def _arrived(self, frame: Frame) -> None:
        if not self._watch.received(frame):
            return
        urgent = self._board.arrive(frame)
        if urgent is not None:
            self._answer(frame, urgent)
        else:
            self._waiting.append((frame, self._board.aborts))

    def _work(self, now: float) -> None:
        if self._task is None:
            if not self._waiting:
                return
            frame, aborts = self._waiting.popleft()
            self._task = frame, self._board.work(frame, aborts)
        elif now < self._busy_until and not self._board.stopping:
            return
        frame, steps = self._task
        try:
            self._busy_until = next(steps)
        except StopIteration as end:
            self._task = None
            self._answer(frame, end.value)

    def _answer(self, frame: Frame, answer: Frame) -> None:
        self._watch.answered(frame, answer)
        data = b"\0" + wire.encode(answer)
        self._leaving.append((self._out.passed(len(data), time.monotonic()), data))
        self._send()
        self._watch.replied(frame)

    def _send(self) -> None:
        now = time.monotonic()
        while self._unsent or (self._leaving and self._leaving[0][0] <= now):
            data = self._unsent or self._leaving.popleft()[1]
            try:
                sent = 0 if self.gone else self.host.send(data)
            except BlockingIOError:
                self._unsent = data
                return
            except OSError:
                self.gone = True
            self._unsent = b"" if self.gone else data[sent:]


def _pieces(data: bytes) -> Iterator[bytes]:
    """`data` in pieces that end with a zero byte each, but for the last."""
    start = 0
    while start < len(data):
        end = data.find(b"\0", start) + 1 or len(data)
        yield data[start:end]
        start = end


def serve(
    board: Board,
    listener: socket.socket,
    *,
    deadline: float = float("inf"),
    end_with: Sequence[int] = (),
    watch: Watch | None = None,
    baud: float = 0.0,
) -> None:
    """Answer hosts, one after the other, until `deadline` (monotonic seconds).

    `end_with`: file descriptors whose end of file ends the board as well. A second host is
    told BUSY until the first has gone. `baud`: bits per second, 0: no pacing.
    """
    talk: Conversation | None = None
    others: dict[socket.socket, wire.Receiver] = {}
    try:
        while (now := time.monotonic()) < deadline:
            due = min(deadline, board.supplies.until, talk.due() if talk else float("inf"))
            reading: list[socket.socket | int] = [listener, *end_with, *others]
            reading += [talk.host] if talk and not talk.gone else []
            writing = [talk.host] if talk and talk.blocked else []
            ready, _, _ = select.select(reading, writing, [], min(max(due - now, 0.0), 3600.0))
            if any(end in ready and not os.read(end, 4096) for end in end_with):
                return
            board.tick()
            if talk and not _keep_talking(talk, talk.host in ready):
                talk.host.close()
                talk = None
            for caller in [caller for caller in others if caller in ready]:
                if not _turn_away(caller, others[caller]):
                    del others[caller]
                    caller.close()
            if listener in ready:
                others[listener.accept()[0]] = wire.Receiver()
            if talk is None and others:
                caller = next(iter(others))
                del others[caller]
                talk = Conversation(board, caller, watch or Watch(), baud)
    finally:
        for host in [*others, *([talk.host] if talk else [])]:
            host.close()


def _keep_talking(talk: Conversation, readable: bool) -> bool:
    """One turn with a host; False when it has gone, or its cable is out."""
    try:
        if readable:
            talk.receive()
        talk.go_on()
        return not talk.over
    except OSError:
        return False


def _turn_away(caller: socket.socket, receiver: wire.Receiver) -> bool:
    """Say BUSY to what a second host asks; False when it has gone."""
    try:
        data = caller.recv(_CHUNK)
        for frame in receiver.feed(data):
            answer = nak(frame, Why.BUSY, "its line is in use by another host")
            caller.sendall(b"\0" + wire.encode(answer))
        return bool(data)
    except OSError:
        return False
