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
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benches import Row

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import pytest  # noqa: E402  what tests are built on skips where there is no compiler
from faulty_line import (  # noqa: E402
    DOUBLED,
    FALSE_ACCEPTS,
    FAULTS,
    LOST,
    POLICY,
    RESYNC,
    FullDie,
    Line,
    exercise,
    firmware_end,
    python_end,
)
from silence import of_the_firmware, of_the_python_board  # noqa: E402
from throughput import DIE, cells_per_second  # noqa: E402

FRAMES = 1_000_000
KILLS = 200
STAGED_KILLS = 15
"""Of the kills, those that the board times; the others come at random."""
WINDOWS = (1, 2, 8)


def rows(seed: int, quick: bool) -> Iterator[Row]:
    """All figures of the link; `quick`: few frames and kills, to see that it works."""
    yield from _shares(seed, 5 if quick else 50)
    yield from _silence(4 if quick else 25)
    yield from _faults(20_000 if quick else FRAMES, seed)
    yield from _kills(STAGED_KILLS + 5 if quick else KILLS)


# --------------------------------------------------------------------------- cells a second


def _shares(seed: int, calls: int) -> Iterator[Row]:
    for window in WINDOWS:
        for name, speeds in cells_per_second(window, calls, seed).items():
            mean, spread = float(np.mean(speeds.cells)), float(np.std(speeds.cells))
            yield Row(f"link_{name}_cells_per_second_w{window}", mean, "1/s", spread, calls)
            share, of = mean / speeds.limit, spread / speeds.limit
            yield Row(f"link_{name}_share_w{window}", share, "of the line", of, calls)


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
        "policy_breaches": tally.count(POLICY),
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
