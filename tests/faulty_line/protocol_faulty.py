"""`faulty://NAME` for pyserial: the host's end of the line that `plugged` named so.

pyserial finds this module by its name: `serial.protocol_handler_packages`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import serial as pyserial

from .line import Line

_lines: dict[str, Line] = {}


@contextmanager
def plugged(line: Line) -> Iterator[str]:
    """The URL of `line` for a driver, while it carries bytes."""
    if __package__ not in pyserial.protocol_handler_packages:
        pyserial.protocol_handler_packages.append(__package__)
    name = f"faulty://{id(line)}"
    _lines[name] = line
    try:
        with line.running():
            yield name
    finally:
        del _lines[name]


class Serial:
    """As much of a pyserial port as a driver that waits for its file descriptor uses."""

    def __init__(self, port: None, **settings: object) -> None:
        self.port = ""
        self.is_open = False

    def open(self) -> None:
        self._end = _lines[self.port].plug_in()
        self._end.setblocking(False)
        self.is_open = True

    def fileno(self) -> int:
        return self._end.fileno()

    def write(self, data: bytes) -> int:
        return self._end.send(data)

    def read(self, size: int = 1) -> bytes:
        data = self._end.recv(size)
        if not data:
            raise pyserial.SerialException("the cable is out")
        return data

    def close(self) -> None:
        self.is_open = False
        self._end.close()
