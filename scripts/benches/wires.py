"""The link on bad days and good ones: faults, silence, kills of the host, cells a second.

Faults: a host works over a line that loses, flips, inserts, cuts, doubles, repeats, delays and
splits frames and is unplugged (`tests/faulty_line`, the same code as in CI), against the
Python board in this process and the C firmware in its own. Frames count in both directions.
`false_accepts`, `doubled_pulses`, `lost_doubts` and `resync_failures` have to be 0.

Shares: cells a second that the driver moves, over what the line allows. A serial line takes 10
bits a byte and carries both directions at once, so it allows

    cells a frame * baud / (10 * bytes of the longer of request and answer)

here for frames of 64 scattered cells, their zero bytes included. The board is a process around
the emulated 40 nm macro that takes its time as a line of 3 Mbaud would.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benches import Row
from rramhil.address import open_device
from rramhil.device import Cells, Device, Kind, Pulse, Spec
from rramhil_drivers import scales, wire
from rramhil_drivers.wire import Frame, Type

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import pytest  # noqa: E402  what tests are built on skips where there is no compiler
from faulty_line import (  # noqa: E402
    DOUBLED,
    FALSE_ACCEPTS,
    FAULTS,
    LOST,
    RESYNC,
    UNSAFE,
    FullDie,
    Line,
    exercise,
    firmware_end,
    python_end,
)
from silence import of_the_firmware, of_the_python_board  # noqa: E402

FRAMES = 1_000_000
KILLS = 200
STAGED_KILLS = 15
"""Of the kills, those that the board times; the others come at random."""
BAUD = 3_000_000
BITS_A_BYTE = 10
WINDOWS = (1, 2, 8)
CELLS_A_CALL = 1024
DIE = "emulator:40nm?tiles=1"


def rows(seed: int, quick: bool) -> Iterator[Row]:
    """All figures of the link; `quick`: few frames and kills, to see that it works."""
    yield from _shares(seed, 5 if quick else 50)
    yield from _silence(4 if quick else 25)
    yield from _faults(20_000 if quick else FRAMES, seed)
    yield from _kills(STAGED_KILLS + 5 if quick else KILLS)


# --------------------------------------------------------------------------- cells a second


def _shares(seed: int, calls: int) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    for window in WINDOWS:
        with _paced_board() as address, open_device(f"{address}?window={window}") as device:
            many = [rng.permutation(device.spec.size)[:CELLS_A_CALL] for _ in range(calls)]
            for name, call, limit in (
                ("write", _write, _line_writes(device.spec, many[0])),
                ("read", _read, _line_reads(many[0])),
            ):
                speeds = [_cells_per_second(call, device, cells) for cells in many]
                mean, spread = float(np.mean(speeds)), float(np.std(speeds))
                yield Row(f"link_{name}_cells_per_second_w{window}", mean, "1/s", spread, calls)
                share, of = mean / limit, spread / limit
                yield Row(f"link_{name}_share_w{window}", share, "of the line", of, calls)


def _read(device: Device, cells: Cells) -> None:
    device.read(cells)


def _write(device: Device, cells: Cells) -> None:
    device.apply(_pulse(cells))


def _pulse(cells: Cells) -> Pulse:
    return Pulse(Kind.SET, cells, 2.0, 1.6, seconds=1e-7)


def _cells_per_second(call: Callable[[Device, Cells], None], device: Device, cells: Cells) -> float:
    began = time.perf_counter()
    call(device, cells)
    return cells.size / (time.perf_counter() - began)


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


# --------------------------------------------------------------------------- silence


def _silence(repeats: int) -> Iterator[Row]:
    yield _worst("safe_after_silence_ms", of_the_python_board(DIE, repeats))
    try:
        with tempfile.TemporaryDirectory() as folder:
            measured = of_the_firmware(Path(folder), repeats)
    except pytest.skip.Exception as reason:
        print(f"no figures of the firmware: {reason}", file=sys.stderr)
        return
    yield _worst("safe_after_silence_ms_firmware", measured)


def _worst(name: str, milliseconds: list[float]) -> Row:
    return Row(name, max(milliseconds), "ms", float(np.std(milliseconds)), len(milliseconds))


# --------------------------------------------------------------------------- faults


def _faults(frames: int, seed: int) -> Iterator[Row]:
    """Both boards at the same time, a process each."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        waiting = [pool.submit(_on_a_bad_line, board, frames, seed) for board in ("", "_firmware")]
        for found in waiting:
            result = found.result()
            if isinstance(result, str):
                print(f"no figures of the firmware: {result}", file=sys.stderr)
            else:
                yield from result


def _on_a_bad_line(tail: str, frames: int, seed: int) -> list[Row] | str:
    """The rows of one board, or why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        made = (
            firmware_end(Path(folder), sanitized=False, noise=3, max_seconds=36_000)
            if tail
            else python_end(FullDie(seed))
        )
        try:
            with made as end:
                began, cpu = time.perf_counter(), time.process_time()
                tally = exercise(Line(end, FAULTS, seed), frames, seed)
        except pytest.skip.Exception as reason:
            return str(reason)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    n = tally.frames
    for what in (tally.faults, tally.calls, tally.broken, tally.violations()):
        print(f"{tail or '_python'}: {dict(what)}", file=sys.stderr)
    values = {
        "frames": n,
        "faults": sum(tally.faults.values()),
        "false_accepts": tally.count(FALSE_ACCEPTS),
        "doubled_pulses": tally.count(DOUBLED),
        "lost_doubts": tally.count(LOST),
        "resync_failures": tally.count(RESYNC),
        "unsafe_after_abort": tally.count(UNSAFE),
        "doubtful_cells": tally.doubts,
        "reopened": tally.reopened,
    }
    return [
        *(Row(name + tail, value, "", None, n) for name, value in values.items()),
        Row(f"frames_per_second{tail}", n / wall, "1/s"),
        Row(f"cpu_us_per_frame{tail}", 1e6 * cpu / n, "us"),
    ]


# --------------------------------------------------------------------------- kills


def _kills(kills: int) -> Iterator[Row]:
    """The test of kills with so many of them; it fails unless the equation holds."""
    test = ROOT / "tests" / "system" / "test_kill.py"
    environment = os.environ | {"RRAMHIL_KILLS": str(kills - STAGED_KILLS)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(test), "-s", "-p", "no:cacheprovider"],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = re.search(r"kills of the host: (\d+)", done.stdout)
    if done.returncode or said is None:
        raise RuntimeError(f"the test of kills failed:\n{done.stdout[-4000:]}")
    yield Row("kills", int(said[1]), "")
