"""A host that sends what it is told, frame by frame, over a terminal: no driver between."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from rramhil.device import Ints
from rramhil_drivers import requests, wire
from rramhil_drivers.wire import Frame, Nak, Type, Why

SESSION = 77
PATIENCE = 10.0


class RawHost:
    """Frames to and from the terminal `path`. Raises TimeoutError after `PATIENCE` seconds."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._receiver = wire.Receiver()
        self._arrived: list[Frame] = []

    def close(self) -> None:
        os.close(self._fd)

    def write(self, data: bytes) -> None:
        """Bytes, all of them."""
        deadline = time.monotonic() + PATIENCE
        while data:
            if time.monotonic() > deadline:
                raise TimeoutError("the board takes no more bytes")
            if select.select([], [self._fd], [], 1.0)[1]:
                data = data[os.write(self._fd, data) :]

    def send(self, *frames: Frame) -> None:
        """Frames, in one piece."""
        self.write(b"".join(b"\0" + wire.encode(frame) for frame in frames))

    def receive(self) -> Frame:
        """The next frame."""
        deadline = time.monotonic() + PATIENCE
        while not self._arrived:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the board does not answer")
            if select.select([self._fd], [], [], left)[0]:
                self._arrived += self._receiver.feed(os.read(self._fd, 65536))
        return self._arrived.pop(0)

    def quiet(self, seconds: float) -> bool:
        """Does nothing arrive for so long?"""
        ready, _, _ = select.select([self._fd], [], [], seconds)
        return not ready and not self._arrived

    def ask(self, frame: Frame) -> Frame:
        """The answer to `frame`."""
        self.send(frame)
        return self.receive()

    def greet(self, seq: int = 0, session: int = SESSION, lease_ms: int = 200) -> None:
        """HELLO number `seq`, and (unless 0) ARM with the next number."""
        assert self.ask(hello(session, seq)).type == Type.HELLO | wire.REPLY
        if lease_ms:
            assert self.ask(arm(seq + 1, session, lease_ms)).type == Type.ARM | wire.REPLY

    def status(self) -> requests.State:
        """What the board says of itself."""
        return state(self.ask(Frame(Type.STATUS, 1)))

    def counts(self, kind: int, cells: Ints, seq: int) -> Ints:
        """Pulses that the chip counted; takes a number for each 64 cells, from `seq`."""
        parts = []
        for i, start in enumerate(range(0, cells.size, 64)):
            some = cells[start : start + 64]
            asked = Frame(Type.COUNT, (seq + i) % 2**16, wire.pack_count(kind, some))
            parts.append(wire.unpack_count_reply(self.ask(asked).payload, some.size))
        return np.concatenate(parts)


@contextmanager
def raw_host(path: str) -> Iterator[RawHost]:
    """A raw host that is closed at the end."""
    made = RawHost(path)
    try:
        yield made
    finally:
        made.close()


def hello(session: int = SESSION, seq: int = 0) -> Frame:
    return Frame(Type.HELLO, seq, wire.Hello(session).pack())


def arm(seq: int, session: int = SESSION, lease_ms: int = 200) -> Frame:
    return Frame(Type.ARM, seq, requests.Arm(session, lease_ms).pack())


def read(seq: int, cells: object = (1, 2)) -> Frame:
    return Frame(Type.READ, seq, wire.pack_cells(np.asarray(cells)))


def apply(
    seq: int, cells: object = (3,), *, session: int = SESSION, volts: int = 100, gate: int = 250
) -> Frame:
    """A SET of 1 us."""
    flat = np.asarray(cells)
    every = np.ones(flat.size, np.int64)
    pulse = wire.Apply(session, 0, 1000, flat, volts * every, gate * every)
    return Frame(Type.APPLY, seq, pulse.pack())


def state(frame: Frame) -> requests.State:
    """The state in the answer to ARM, ABORT or STATUS."""
    return requests.State.unpack(frame.payload)


def why(answer: Frame) -> Why | None:
    """The reason of a NAK, None of any other answer."""
    return Why(Nak.unpack(answer.payload).why) if answer.type == Type.NAK else None
