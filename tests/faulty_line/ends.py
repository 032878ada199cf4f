"""The far end of a line: a board behind a file descriptor."""

from __future__ import annotations

import os
import select
import socket
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from boards import serving
from firmware_board import firmware_board

from rramhil.device import Device, Pulse
from rramhil.wrap import Wrapped
from rramhil_drivers.virtual_board import Board


class BoardEnd:
    """A board behind the descriptor `fd`; `executed`: what its array saw, if one can look."""

    def __init__(self, fd: int, executed: list[Pulse] | None = None) -> None:
        self.executed = [] if executed is None else executed
        self.fd = fd
        os.set_blocking(fd, False)

    def put(self, data: bytes) -> None:
        """Bytes arrive at the board. Raises TimeoutError when it takes none for 10 s."""
        while data:
            _, ready, _ = select.select([], [self.fd], [], 10.0)
            if not ready:
                raise TimeoutError("the board takes no more bytes")
            data = data[os.write(self.fd, data) :]

    def get(self) -> bytes:
        """What the board has sent, or nothing."""
        try:
            return os.read(self.fd, 65536)
        except BlockingIOError:
            return b""


class Watched(Wrapped):
    """A device that shows what was done to it."""

    def __init__(self, inner: Device) -> None:
        super().__init__(inner)
        self.executed: list[Pulse] = []

    def apply(self, pulse: Pulse) -> None:
        self.inner.apply(pulse)
        self.executed.append(pulse)


def own_clock(device: Device) -> Board:
    """A board whose die ages by what is done to it."""
    return Board(device, follow_wall_clock=False)


@contextmanager
def python_end(device: Device, make: Callable[[Device], Board] = own_clock) -> Iterator[BoardEnd]:
    """The Python board around `device`, served by a thread as its process serves it."""
    watched = Watched(device)
    with serving(make(watched)) as url:
        host, _, port = url.removeprefix("socket://").rpartition(":")
        with socket.create_connection((host, int(port))) as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield BoardEnd(line.fileno(), watched.executed)


@contextmanager
def firmware_end(folder: Path, *, sanitized: bool = True, **options: object) -> Iterator[BoardEnd]:
    """The firmware in a process of its own, its die in `folder`. Skips without a compiler."""
    with firmware_board(folder, sanitized=sanitized, **options) as board:
        fd = os.open(board.url, os.O_RDWR | os.O_NOCTTY)
        try:
            tty.setraw(fd)
            yield BoardEnd(fd)
        finally:
            os.close(fd)
