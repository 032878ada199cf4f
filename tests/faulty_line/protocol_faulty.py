"""`faulty://NAME` for pyserial: the host's end of the line that `plugged` named so.

pyserial finds this module by its name: `serial.protocol_handler_packages`.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager

import serial as pyserial

from .damage import Unplugged
from .line import Line

_lines: dict[str, Line] = {}


@contextmanager
def plugged(line: Line) -> Iterator[str]:
    """The URL of `line` for a driver."""
    if __package__ not in pyserial.protocol_handler_packages:
        pyserial.protocol_handler_packages.append(__package__)
    name = f"faulty://{id(line)}"
    _lines[name] = line
    try:
        yield name
    finally:
        del _lines[name]


class Serial:
    """As much of a pyserial port as a driver that waits with `select` uses.

    Readable, as `fileno` tells it, whenever bytes wait, the board sends some, or the cable
    is out.
    """

    def __init__(self, port: None, **settings: object) -> None:
        self.port = ""
        self.is_open = False
        self.baudrate = settings.get("baudrate")

    def open(self) -> None:
        self._line = _lines[self.port]
        self._line.open()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._woken = False
        self._poll = select.epoll()
        self._poll.register(self._wake, select.EPOLLIN)
        far = self._line.end.fileno()
        if far is not None:
            self._poll.register(far, select.EPOLLIN)
        self.is_open = True

    def fileno(self) -> int:
        return self._poll.fileno()

    @property
    def in_waiting(self) -> int:
        self._line.collect()
        self._tell()
        return sum(map(len, self._line.outbox))

    def write(self, data: bytes) -> int:
        try:
            self._line.write(bytes(data))
        except Unplugged:
            raise pyserial.SerialException("the cable is out") from None
        finally:
            self._tell()
        return len(data)

    def read(self, size: int = 1) -> bytes:
        """One piece of what has arrived, or nothing."""
        self._line.collect()
        outbox = self._line.outbox
        if not outbox and not self._line.plugged:
            raise pyserial.SerialException("the cable is out")
        piece = outbox.popleft() if outbox else b""
        if len(piece) > size:
            outbox.appendleft(piece[size:])
        self._tell()
        return piece[:size]

    def _tell(self) -> None:
        ready = bool(self._line.outbox) or not self._line.plugged
        if ready and not self._woken:
            os.eventfd_write(self._wake, 1)
        elif self._woken and not ready:
            os.eventfd_read(self._wake)
        self._woken = ready

    def reset_input_buffer(self) -> None:
        self._line.collect()
        self._line.outbox.clear()
        self._tell()

    def flush(self) -> None:
        """All has been sent when `write` returns."""

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._poll.close()
            os.close(self._wake)
