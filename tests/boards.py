"""Virtual boards in a thread of the test, and hosts in front of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from rramhil.address import open_device
from rramhil_drivers import board as process
from rramhil_drivers import requests, wire
from rramhil_drivers.serial_device import SerialDevice
from rramhil_drivers.virtual_board import Board, Steps
from rramhil_drivers.wire import Frame, Nak, Type, Why


class Altered(Board):
    """A board whose answers a test changes on their way out."""

    def change(self, frame: Frame, answer: Frame) -> Frame:
        return answer

    def arrive(self, frame: Frame) -> Frame | None:
        urgent = super().arrive(frame)
        return None if urgent is None else self.change(frame, urgent)

    def work(self, frame: Frame, aborts: int) -> Steps:
        answer = yield from super().work(frame, aborts)
        return self.change(frame, answer)


@contextmanager
def serving(board: Board, watch: process.Watch | None = None, baud: float = 0.0) -> Iterator[str]:
    """`board` behind a socket of its own; gives its URL (without the scheme serial:)."""
    listener = process.listen("127.0.0.1:0")
    ended, end = os.pipe()
    thread = threading.Thread(
        target=process.serve,
        args=(board, listener),
        kwargs={"end_with": [ended], "watch": watch, "baud": baud},
    )
    thread.start()
    try:
        yield f"socket://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        os.close(end)
        thread.join(10)
        listener.close()
        os.close(ended)
        assert not thread.is_alive()


def host(url: str, timeout: float = 10.0, more: str = "") -> SerialDevice:
    """A host of the board at `url`."""
    device = open_device(f"serial:{url}?timeout={timeout}{more}")
    assert isinstance(device, SerialDevice)
    return device


# --------------------------------------------------------------------------- frames

SESSION = 77


def hello(session: int = SESSION, seq: int = 0) -> Frame:
    return Frame(Type.HELLO, seq, wire.Hello(session).pack())


def arm(session: int = SESSION, milliseconds: int = 200, seq: int = 0) -> Frame:
    return Frame(Type.ARM, seq, requests.Arm(session, milliseconds).pack())


def apply(seq: int, cell: int = 3, session: int = SESSION, volts: int = 100) -> Frame:
    one = np.array([cell])
    pulse = wire.Apply(session, 0, 1000, one, np.array([volts]), np.array([150]))
    return Frame(Type.APPLY, seq, pulse.pack())


def read(seq: int) -> Frame:
    return Frame(Type.READ, seq, wire.pack_cells(np.array([1, 2])))


def why(answer: Frame) -> Why | None:
    return Why(Nak.unpack(answer.payload).why) if answer.type == Type.NAK else None
