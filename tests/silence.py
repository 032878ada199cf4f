"""How long the outputs of a board stay on after its host fell silent, by the board's own clock.

The host says HELLO and ARM, at times begins a long pulse, and says no more: as one that was
killed, or whose cable was cut.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path

import numpy as np
from firmware_board import firmware_board
from processes import killer_board
from raw_host import RawHost, apply, raw_host

from rramhil_drivers import wire
from rramhil_drivers.wire import Off, Outputs

QUIET_SECONDS = 0.45
"""Longer than any lease and its grace; a board that is not safe by then is not safe."""


class SocketHost(RawHost):
    """A raw host over `line`."""

    def __init__(self, line: socket.socket) -> None:
        line.setblocking(False)
        self._fd = line.fileno()
        self._receiver = wire.Receiver()
        self._arrived = []


def of_the_firmware(folder: Path, repeats: int) -> list[float]:
    """Milliseconds from the last byte that the board took to its outputs off.

    Every other time in the middle of an APPLY. Both times are those of the board's process.
    Raises AssertionError when the outputs are not off at the end.
    """
    measured = []
    with firmware_board(folder, pulse_ms=50) as board, raw_host(board.url) as raw:
        for number in range(repeats):
            raw.greet(session=number + 1)
            if number % 2:
                raw.send(apply(2, np.arange(20), session=number + 1))
            time.sleep(QUIET_SECONDS)
            die = board.silicon()
            assert die.outputs == 0, "the outputs are on"
            measured.append(1000 * (die.off_at - die.heard_at))
            while not raw.quiet(0.01):
                raw.receive()  # the APPLY that failed
    return measured


def of_the_python_board(device: str, repeats: int) -> list[float]:
    """Milliseconds from the last frame's departure to the outputs off, by the board's STATUS.

    STATUS says since when they are off; the way to the board and back is counted as silence.
    Raises AssertionError when the outputs are not off at the end, or went off otherwise.
    """
    measured = []
    with killer_board(device) as board:
        host, _, port = board.address.removeprefix("serial:socket://").rpartition(":")
        with socket.create_connection((host, int(port))) as line:
            raw = SocketHost(line)
            for number in range(repeats):
                raw.greet(session=number + 1)
                assert raw.status().outputs == Outputs.ARMED
                last = time.monotonic()
                time.sleep(QUIET_SECONDS)
                state = raw.status()
                now = time.monotonic()
                assert (state.outputs, state.why) == (Outputs.OFF, Off.LEASE), state
                measured.append(1000 * (now - last) - state.since_ms)
    return measured
