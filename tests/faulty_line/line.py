"""The line itself: damage in both directions, and a witness of what went in and came out."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys
import termios
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rramhil_drivers import wire
from rramhil_drivers.wire import Frame, Type

from .damage import Damage, Unplugged
from .ends import BoardEnd

KNOWN = 4096
"""Frames of one direction that the witness knows: far more than can still arrive."""


class _Way:
    """One direction: bytes in, whole frames through the damage, bytes and frames out.

    What comes out is decoded by a receiver of its own, as a correct receiver would.
    """

    def __init__(self, rates: Mapping[str, float], seed: str) -> None:
        self.damage = Damage(rates, seed)
        self.frames = 0
        self.wrong: Counter[str] = Counter()
        self._sent: Counter[bytes] = Counter()
        self._order: deque[bytes] = deque()
        self._pending = bytearray()
        self._receiver = wire.Receiver()

    def split(self, data: bytes) -> Iterator[tuple[bytes, Frame]]:
        """Whole frames out of what a sender wrote, with the zero bytes around them."""
        self._pending += data
        while True:
            start = len(self._pending) - len(self._pending.lstrip(b"\0"))
            end = self._pending.find(0, start)
            if end < 0 or start == len(self._pending):
                return
            piece = bytes(self._pending[: end + 1])
            del self._pending[: end + 1]
            self.frames += 1
            self._remember(piece[start:end])
            yield piece, wire.decode(piece[start:end])

    def _remember(self, body: bytes) -> None:
        self._sent[body] += 1
        self._order.append(body)
        if len(self._order) > KNOWN:
            oldest = self._order.popleft()
            self._sent[oldest] -= 1
            if not self._sent[oldest]:
                del self._sent[oldest]

    def arrive(self, pieces: list[bytes], original: bytes) -> list[Frame]:
        """The frames that a correct receiver makes of `pieces`."""
        whole = b"".join(pieces)
        seen = self._receiver.feed(whole)
        bodies = [wire.encode(frame)[:-1] for frame in seen]
        self.wrong["garbled but accepted"] += sum(body not in self._sent for body in bodies)
        if original in whole and original.strip(b"\0") not in bodies:
            self.wrong["undamaged but lost"] += 1
        return seen

    def change_sender(self) -> None:
        """What the last one left unfinished never comes."""
        self._pending.clear()

    def change_receiver(self) -> None:
        self._receiver = wire.Receiver()


class Line:
    """A line to `end`; hosts come and go, the board and its silicon stay.

    A thread carries the bytes (`running`). `requests` and `answers` are the frames that host
    and board sent since `forget_call`, as they sent them, `heard` those that reached the host.
    """

    def __init__(self, end: BoardEnd, rates: Mapping[str, float], seed: int) -> None:
        self.end = end
        self.to_board = _Way(rates, f"{seed} to the board")
        self.to_host = _Way(rates, f"{seed} to the host")
        self.wrong: Counter[str] = Counter()
        self.requests: list[Frame] = []
        self.answers: list[Frame] = []
        self.heard: list[Frame] = []
        self.failure: BaseException | None = None
        self._window = 1
        self._waiting: deque[tuple[Frame, bool]] = deque()
        self._urgent: deque[tuple[Frame, bool]] = deque()
        self._session = b""
        self._host: socket.socket | None = None
        self._callers: deque[socket.socket] = deque()
        self._waiting_for: deque[threading.Event] = deque()

    @property
    def frames(self) -> int:
        """Frames that went onto the line, both ways together."""
        return self.to_board.frames + self.to_host.frames

    def happened(self) -> Counter[str]:
        """How often each fault happened."""
        return self.to_board.damage.happened + self.to_host.damage.happened

    def violations(self) -> Counter[str]:
        """All that must not happen on any line, and did. After `running`."""
        return self.wrong + self.to_board.wrong + self.to_host.wrong

    def forget_call(self) -> None:
        """Begin the lists anew. Raises what ended the line's thread."""
        if self.failure:
            raise self.failure
        self.requests, self.answers, self.heard = [], [], []

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Nothing happens to the bytes."""
        ways = (self.to_board, self.to_host)
        for way in ways:
            way.damage.clean(True)
        try:
            yield
        finally:
            for way in ways:
                way.damage.clean(False)

    # ------------------------------------------------------------------ the thread

    @contextmanager
    def running(self) -> Iterator[None]:
        """Carry bytes. At the end, what arrived at the board has to be answered."""
        self._woken, self._wake = os.pipe()
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            os.write(self._wake, b"e")
            thread.join(30)
            os.close(self._wake)
            os.close(self._woken)
            self._hang_up()
            while self._callers:
                self._callers.popleft().close()
            assert not thread.is_alive()
            if self.failure:
                raise self.failure
        for queue in (self._waiting, self._urgent):
            self._pass_over(queue, len(queue))

    def plug_in(self) -> socket.socket:
        """A host opens its port: its end of the line. What the last one was sent is lost.

        Raises what ended the line's thread.
        """
        if self.failure:
            raise self.failure
        mine, theirs = socket.socketpair()
        self._callers.append(mine)
        os.write(self._wake, b"p")
        self._port = theirs
        return theirs

    def catch_up(self) -> None:
        """Wait until all that the host wrote so far is noted in `requests`."""
        done = threading.Event()
        self._waiting_for.append(done)
        os.write(self._wake, b"c")
        done.wait(10)

    def unread(self) -> int | None:
        """Bytes that the host has been given and did not take; None without a host."""
        if self._host is None or self._port.fileno() < 0:
            return None
        size = fcntl.ioctl(self._port.fileno(), termios.FIONREAD, bytes(4))
        return int.from_bytes(size, sys.byteorder)

    def _run(self) -> None:
        try:
            ending = False
            while not ending or self._waiting or self._urgent:
                watched: list[object] = [self._woken, self.end.fd]
                watched += [self._host] if self._host else []
                ready, _, _ = select.select(watched, [], [], 2.0 if ending else 60.0)
                if not ready and ending:
                    return
                if self.end.fd in ready:
                    self._from_board(self.end.get())
                if self._host in ready and self._host:
                    self._from_host(self._host)
                if self._woken in ready:
                    ending |= b"e" in os.read(self._woken, 64)
                    self._answer_callers()
                    self._tell_that_it_caught_up()
        except BaseException as error:
            self.failure = error
            self._hang_up()

    def _answer_callers(self) -> None:
        while self._callers:
            self._hang_up()
            self._host = self._callers.popleft()
            self.to_host.change_receiver()
            self.to_board.change_sender()

    def _tell_that_it_caught_up(self) -> None:
        while self._waiting_for:
            while self._host and select.select([self._host], [], [], 0)[0]:
                self._from_host(self._host)
            self._waiting_for.popleft().set()

    def _hang_up(self) -> None:
        if self._host:
            self._host.close()
            self._host = None

    def _unplug(self) -> None:
        self._hang_up()
        self.to_board.damage.forget()
        self.to_host.damage.forget()

    # ------------------------------------------------------------------ to the board

    def _from_host(self, host: socket.socket) -> None:
        try:
            data = host.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return
        for piece, frame in self.to_board.split(data):
            self._note(frame)
            try:
                pieces = self.to_board.damage.suffer(piece)
            except Unplugged as early:
                self._pass_on([early.args[0]], piece)
                self._unplug()
                return
            self._pass_on(pieces, piece)

    def _note(self, frame: Frame) -> None:
        self.requests.append(frame)
        if frame.type == Type.HELLO and frame.payload != self._session:
            self._session = frame.payload
            self.to_board.damage.history.clear()
            self.to_host.damage.history.clear()

    def _pass_on(self, pieces: list[bytes], original: bytes) -> None:
        for frame in self.to_board.arrive(pieces, original):
            if frame.type in wire.URGENT:
                self._urgent.append((frame, False))
            else:
                self._waiting.append((frame, len(self._waiting) >= self._window))
        for piece in pieces:
            self.end.put(piece)

    # ------------------------------------------------------------------ to the host

    def _from_board(self, data: bytes) -> None:
        for piece, frame in self.to_host.split(data):
            self._match(frame)
            self.answers.append(frame)
            if frame.type == Type.HELLO | wire.REPLY:
                self._window = wire.HelloReply.unpack(frame.payload).window
            if self._host is None:
                continue
            try:
                pieces = self.to_host.damage.suffer(piece)
            except Unplugged as early:
                self._deliver(early.args[0])
                self._unplug()
                continue
            heard = self.to_host.arrive(pieces, piece)
            for some in pieces:
                self._deliver(some)
            self.heard += heard

    def _deliver(self, data: bytes) -> None:
        try:
            if self._host and data:
                self._host.sendall(data)
        except OSError:
            self._hang_up()

    def _match(self, answer: Frame) -> None:
        """An answer belongs to a request that arrived; a board answers in order.

        Urgent requests have an order of their own. Those beyond the board's window, which only
        the line can have made, need no answer.
        """
        for queue in (self._waiting, self._urgent):
            for place, (request, _) in enumerate(queue):
                kinds = (request.type | wire.REPLY, Type.NAK)
                if request.seq == answer.seq and answer.type in kinds:
                    self._pass_over(queue, place)
                    queue.popleft()
                    return
        self.wrong["answered but never arrived"] += 1

    def _pass_over(self, queue: deque[tuple[Frame, bool]], count: int) -> None:
        for _ in range(count):
            _, beyond = queue.popleft()
            self.wrong["arrived but unanswered"] += not beyond
