"""The far end of a line: a board in this process, or one behind a file descriptor."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Protocol

from rramhil.device import Device, Pulse
from rramhil.wrap import Wrapped
from rramhil_drivers import wire
from rramhil_drivers.virtual_board import Board


class BoardEnd(Protocol):
    """Bytes to a board and from it. `executed`: pulses that the array saw, where one can look."""

    executed: list[Pulse]

    def put(self, data: bytes) -> None:
        """Bytes arrive at the board."""

    def get(self, seconds: float) -> bytes:
        """What the board has sent; wait for it up to `seconds`."""

    def fileno(self) -> int | None:
        """What becomes readable when `get` has something; None: `put` has all answers ready."""


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


class PythonEnd:
    """A board around `device` in this process: no socket, no thread; `put` has all answers.

    `in_front`: what the board sends ahead of each answer.
    """

    def __init__(
        self,
        device: Device,
        make: Callable[[Device], Board] = own_clock,
        in_front: bytes = b"\0",
    ) -> None:
        watched = Watched(device)
        self.board = make(watched)
        self.executed = watched.executed
        self._in_front = in_front
        self._receiver = wire.Receiver()
        self._answers = bytearray()

    def put(self, data: bytes) -> None:
        for frame in self._receiver.feed(data):
            self._answers += self._in_front + wire.encode(self.board.answer(frame))

    def get(self, seconds: float) -> bytes:
        answers = bytes(self._answers)
        self._answers.clear()
        return answers

    def fileno(self) -> int | None:
        return None


class DescriptorEnd:
    """A board behind the file descriptor `fd`: a socket, or a terminal in raw mode."""

    def __init__(self, fd: int) -> None:
        self.executed: list[Pulse] = []
        self._fd = fd
        os.set_blocking(fd, False)

    def put(self, data: bytes) -> None:
        while data:
            _, ready, _ = select.select([], [self._fd], [], 10.0)
            if not ready:
                raise TimeoutError("the board takes no more bytes")
            data = data[os.write(self._fd, data) :]

    def get(self, seconds: float) -> bytes:
        ready, _, _ = select.select([self._fd], [], [], seconds)
        return os.read(self._fd, 65536) if ready else b""

    def fileno(self) -> int | None:
        return self._fd
