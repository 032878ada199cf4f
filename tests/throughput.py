"""Cells a second that the driver moves over a line of 3 Mbaud, and that the line allows.

A serial line takes 10 bits a byte and carries both directions at once, so it allows

    cells a frame * baud / (10 * bytes of the longer of request and answer)

The board is a process around the emulated 40 nm macro that takes its time as such a line would.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from rramhil.address import open_device
from rramhil.device import Cells, Device, Kind, Pulse, Spec
from rramhil_drivers import scales, wire
from rramhil_drivers.wire import Frame, Type

BAUD = 3_000_000
BITS_A_BYTE = 10
CELLS_A_CALL = 1024
DIE = "emulator:40nm?tiles=1"


@dataclass(frozen=True)
class Speeds:
    """Cells a second: of each call, and what the line allows."""

    cells: tuple[float, ...]
    limit: float


def cells_per_second(window: int, calls: int, seed: int) -> dict[str, Speeds]:
    """ "write" and "read" of scattered cells in calls of `CELLS_A_CALL`, `window` in flight."""
    rng = np.random.default_rng(seed)
    with _paced_board() as address, open_device(f"{address}?window={window}") as device:
        many = [rng.permutation(device.spec.size)[:CELLS_A_CALL] for _ in range(calls)]
        return {
            "write": Speeds(_speeds(_write, device, many), _line_writes(device.spec, many[0])),
            "read": Speeds(_speeds(_read, device, many), _line_reads(many[0])),
        }


def _speeds(
    call: Callable[[Device, Cells], None], device: Device, many: list[Cells]
) -> tuple[float, ...]:
    speeds = []
    for cells in many:
        began = time.perf_counter()
        call(device, cells)
        speeds.append(cells.size / (time.perf_counter() - began))
    return tuple(speeds)


def _read(device: Device, cells: Cells) -> None:
    device.read(cells)


def _write(device: Device, cells: Cells) -> None:
    device.apply(_pulse(cells))


def _pulse(cells: Cells) -> Pulse:
    return Pulse(Kind.SET, cells, 2.0, 1.6, seconds=1e-7)


def _line_reads(cells: Cells) -> float:
    """Cells a second that the line allows for readings."""
    request = Frame(Type.READ, 300, wire.pack_cells(cells[: wire.MAX_CELLS]))
    codes = np.full(wire.MAX_CELLS, 300)
    answer = Frame(Type.READ | wire.REPLY, 300, wire.pack_read_reply(codes))
    return _line(request, answer)


def _line_writes(spec: Spec, cells: Cells) -> float:
    """Cells a second that the line allows for pulses."""
    payload = scales.pack_pulse(_pulse(cells[: wire.MAX_CELLS]), spec, 2**31).pack()
    answer = wire.ApplyReply(wire.MAX_CELLS).pack()
    return _line(Frame(Type.APPLY, 300, payload), Frame(Type.APPLY | wire.REPLY, 300, answer))


def _line(request: Frame, answer: Frame) -> float:
    longer = max(len(b"\0" + wire.encode(frame)) for frame in (request, answer))
    return wire.MAX_CELLS * BAUD / (BITS_A_BYTE * longer)


@contextmanager
def _paced_board() -> Iterator[str]:
    command = [sys.executable, "-m", "rramhil_drivers.board", DIE, "--baud", str(BAUD)]
    with subprocess.Popen(
        [*command, "--until-eof"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.communicate(timeout=20)
