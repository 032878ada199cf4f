"""The far end of a line: a board in this process, or one behind a file descriptor."""

from __future__ import annotations

import os
import select
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from rramhil_drivers import wire
from rramhil_drivers.virtual_board import Board
from rramhil_drivers.wire import Frame, Type


class BoardEnd(Protocol):
    """Bytes to a board and from it. `wrong` counts what only a look into the board shows."""

    wrong: Counter[str]

    def put(self, data: bytes) -> None:
        """Bytes arrive at the board."""

    def get(self, seconds: float) -> bytes:
        """What the board has sent; wait for it up to `seconds`."""

    def fileno(self) -> int | None:
        """What becomes readable when `get` has something; None: `put` has all answers ready."""


class PythonEnd:
    """`board` in this process: no socket, no thread; its answers are there when `put` returns.

    Every pulse request that it executes is looked up: it must be one that the host sent
    (`sent`, of the line), and it must not have been executed before in its session.
    `in_front`: what the board sends ahead of each answer.
    """

    def __init__(self, board: Board, in_front: bytes = b"\0") -> None:
        self.board = board
        self._in_front = in_front
        self.wrong: Counter[str] = Counter()
        self.sent: Mapping[bytes, int] = {}
        self._receiver = wire.Receiver()
        self._answers = bytearray()
        self._executed: dict[bytes, int] = {}
        self._number = 0

    def put(self, data: bytes) -> None:
        for frame in self._receiver.feed(data):
            before = int(self.board.counts.sum()) if frame.type == Type.APPLY else 0
            answer = self.board.answer(frame)
            if frame.type == Type.APPLY and int(self.board.counts.sum()) != before:
                self._note(frame)
            self._answers += self._in_front + wire.encode(answer)

    def _note(self, frame: Frame) -> None:
        request = wire.encode(frame)[:-1]
        self._number += 1
        if request not in self.sent:
            self.wrong["executed but never sent"] += 1
        if self._number - self._executed.get(request, -(10**9)) < 2**15:
            self.wrong["executed twice"] += 1
        self._executed[request] = self._number
        if len(self._executed) > 2**17:
            self._executed = {
                seen: at for seen, at in self._executed.items() if self._number - at < 2**15
            }

    def get(self, seconds: float) -> bytes:
        answers = bytes(self._answers)
        self._answers.clear()
        return answers

    def fileno(self) -> int | None:
        return None


class DescriptorEnd:
    """A board behind the file descriptor `fd` (a socket or the master of a pseudo-terminal)."""

    def __init__(self, fd: int) -> None:
        self.wrong: Counter[str] = Counter()
        self._fd = fd
        os.set_blocking(fd, False)

    def put(self, data: bytes) -> None:
        while data:
            select.select([], [self._fd], [], 10.0)
            data = data[os.write(self._fd, data) :]

    def get(self, seconds: float) -> bytes:
        ready, _, _ = select.select([self._fd], [], [], seconds)
        return os.read(self._fd, 65536) if ready else b""

    def fileno(self) -> int | None:
        return self._fd
