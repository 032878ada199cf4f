"""The line itself: damage in both directions, and a witness of what went in and came out."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rramhil_drivers import wire
from rramhil_drivers.wire import Frame, Type

from .damage import Damage, Unplugged
from .ends import BoardEnd

KNOWN = 4096
"""Frames of the host that the witness knows: far more than can still arrive."""


class _Way:
    """One direction: bytes in, whole frames through the damage, bytes and frames out.

    `sent` are the frames that went in, as bytes without zeros. What comes out is decoded by
    a receiver of its own, as a correct receiver would.
    """

    def __init__(self, rates: Mapping[str, float], seed: str) -> None:
        self.damage = Damage(rates, seed)
        self.sent: Counter[bytes] = Counter()
        self.frames = 0
        self.wrong: Counter[str] = Counter()
        self._order: deque[bytes] = deque()
        self._pending = bytearray()
        self._receiver = wire.Receiver()

    def split(self, data: bytes) -> Iterator[tuple[bytes, Frame]]:
        """Whole frames out of what a sender wrote, with the zero bytes around them."""
        self._pending += data
        while True:
            start = next((i for i, byte in enumerate(self._pending) if byte), None)
            end = -1 if start is None else self._pending.find(0, start)
            if start is None or end < 0:
                return
            piece = bytes(self._pending[: end + 1])
            del self._pending[: end + 1]
            self.frames += 1
            self._remember(piece[start:end])
            yield piece, wire.decode(piece[start:end])

    def _remember(self, body: bytes) -> None:
        self.sent[body] += 1
        self._order.append(body)
        if len(self._order) > KNOWN:
            oldest = self._order.popleft()
            self.sent[oldest] -= 1
            if not self.sent[oldest]:
                del self.sent[oldest]

    def arrive(self, pieces: list[bytes], original: bytes) -> list[Frame]:
        """The frames that a correct receiver makes of `pieces`."""
        whole = b"".join(pieces)
        seen = self._receiver.feed(whole)
        bodies = [wire.encode(frame)[:-1] for frame in seen]
        self.wrong["garbled but accepted"] += sum(body not in self.sent for body in bodies)
        if original in whole and original.strip(b"\0") not in bodies:
            self.wrong["undamaged but lost"] += 1
        return seen

    def start_anew(self) -> None:
        """The receiver is a new one."""
        self._receiver = wire.Receiver()


class Line:
    """A line to `end`; hosts come and go (`open`), the board and its silicon stay.

    `requests` and `answers` are the frames that host and board sent since `forget_call`, as
    they sent them.
    """

    def __init__(self, end: BoardEnd, rates: Mapping[str, float], seed: int) -> None:
        self.end = end
        self.to_board = _Way(rates, f"{seed} to the board")
        self.to_host = _Way(rates, f"{seed} to the host")
        self.wrong: Counter[str] = Counter()
        self.requests: list[Frame] = []
        self.answers: list[Frame] = []
        self.heard: list[Frame] = []
        self.outbox: deque[bytes] = deque()
        self.plugged = True
        self._waiting: deque[Frame] = deque()
        self._session = b""

    @property
    def frames(self) -> int:
        """Frames that went onto the line, both ways together."""
        return self.to_board.frames + self.to_host.frames

    def happened(self) -> Counter[str]:
        """How often each fault happened."""
        return self.to_board.damage.happened + self.to_host.damage.happened

    def violations(self) -> Counter[str]:
        """All that must not happen on any line, and did."""
        found = self.wrong + self.to_board.wrong + self.to_host.wrong
        return Counter({name: count for name, count in found.items() if count})

    def forget_call(self) -> None:
        self.requests.clear()
        self.answers.clear()
        self.heard.clear()

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

    # ------------------------------------------------------------------ the host's side

    def open(self) -> None:
        """Plug the cable in: a host opens its port. What waited for the last one is lost."""
        self.plugged = True
        self.outbox.clear()
        self.to_host.start_anew()

    def write(self, data: bytes) -> None:
        """The host sends. Raises `Unplugged` when the cable is out."""
        if not self.plugged:
            raise Unplugged(b"")
        for piece, frame in self.to_board.split(data):
            self.requests.append(frame)
            if frame.type == Type.HELLO and frame.payload != self._session:
                self._session = frame.payload
                self.to_board.damage.history.clear()
                self.to_host.damage.history.clear()
            try:
                pieces = self.to_board.damage.suffer(piece)
            except Unplugged as early:
                self._pass_on([early.args[0]], piece)
                self._unplug()
                raise
            self._pass_on(pieces, piece)
        self.collect()

    def _pass_on(self, pieces: list[bytes], original: bytes) -> None:
        self._waiting.extend(self.to_board.arrive(pieces, original))
        for piece in pieces:
            self.end.put(piece)

    def collect(self, seconds: float = 0.0) -> None:
        """Take what the board has sent, and put into `outbox` what becomes of it."""
        for piece, frame in self.to_host.split(self.end.get(seconds)):
            self._match(frame)
            self.answers.append(frame)
            if not self.plugged:
                continue
            try:
                pieces = self.to_host.damage.suffer(piece)
            except Unplugged as early:
                self.to_host.arrive([early.args[0]], piece)
                self.outbox.append(early.args[0])
                self._unplug()
                continue
            self.heard += self.to_host.arrive(pieces, piece)
            self.outbox.extend(pieces)

    def _unplug(self) -> None:
        self.plugged = False
        self.to_board.damage.forget()
        self.to_host.damage.forget()

    def _match(self, answer: Frame) -> None:
        """An answer belongs to a request that arrived; a board answers in order."""
        for place, request in enumerate(self._waiting):
            if request.seq == answer.seq and answer.type in (request.type | wire.REPLY, Type.NAK):
                if request.type not in AHEAD_OF_OTHERS:
                    self.wrong["arrived but unanswered"] += place
                    for _ in range(place):
                        self._waiting.popleft()
                    self._waiting.popleft()
                else:
                    del self._waiting[place]
                return
        self.wrong["answered but never arrived"] += 1

    def settle(self, seconds: float = 2.0) -> None:
        """Wait until the board has answered all that arrived."""
        self.collect()
        if self._waiting:
            self.collect(seconds)
        self.wrong["arrived but unanswered"] += len(self._waiting)
        self._waiting.clear()


AHEAD_OF_OTHERS: frozenset[int] = frozenset(
    {int(Type["ABORT"])} if "ABORT" in Type.__members__ else ()
)
"""Requests that a board answers ahead of what is queued."""
