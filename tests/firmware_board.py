"""The reference firmware, compiled and run as a process on a pseudo-terminal.

with firmware_board(folder, pulse_ms=50) as board, host(board.url) as device: ...
"""

from __future__ import annotations

import atexit
import functools
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from boards import host

from rramhil.device import Ints
from rramhil_drivers.scales import KINDS
from rramhil_drivers.wire import LEASE_MS

FIRMWARE = Path(__file__).parent.parent / "drivers" / "firmware"
BUILD_SECONDS = 100
_HEAD = struct.Struct("=8sIIQQQIi")
"""magic, cells, outputs, pulses begun, off and heard at (monotonic ns): `struct sim_die`."""


def compiler() -> str:
    """The system's C compiler; skips the test where there is none."""
    found = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if found is None or shutil.which("make") is None:
        pytest.skip("no C compiler and make here, so the firmware cannot be built")
    return found


def built(sanitized: bool = True, lease_ms: int = LEASE_MS) -> Path:
    """The folder with `board` and `test_core`, built once a test run; skips without a compiler.

    `lease_ms`: the longest lease that the board is compiled for.
    """
    return _build(sanitized, lease_ms)


@functools.cache
def _build(sanitized: bool, lease_ms: int) -> Path:
    cc = compiler()
    folder = Path(tempfile.mkdtemp(prefix="rramhil-firmware-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    done = subprocess.run(
        [
            "make", "-C", FIRMWARE, f"CC={cc}", f"BUILD={folder}", f"SANITIZE={int(sanitized)}",
            "OPTIMIZE=-O1", f"CFLAGS=-DRR_LEASE_MS={lease_ms}u",
        ],
        capture_output=True, text=True, timeout=BUILD_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@dataclass(frozen=True)
class Silicon:
    """What the die in a state file shows: outputs driven, pulses begun, monotonic seconds."""

    outputs: int
    pulses: int
    off_at: float
    heard_at: float


@dataclass
class FirmwareBoard:
    """A board process. `url`: of the port, without the scheme `serial:`."""

    process: subprocess.Popen[str]
    url: str
    state: Path

    @property
    def address(self) -> str:
        return f"serial:{self.url}"

    def silicon(self) -> Silicon:
        """The die as it is now, also while the board is busy or dead."""
        with self.state.open("rb") as file, mmap.mmap(
            file.fileno(), 0, access=mmap.ACCESS_READ
        ) as view:  # fmt: skip
            _, _, outputs, pulses, off, heard, _, _ = _HEAD.unpack_from(view)
        return Silicon(outputs, pulses, off / 1e9, heard / 1e9)

    def counts(self) -> Ints:
        """Pulses that the chip counted, (kind, cell)."""
        with host(self.url) as device:
            cells = np.arange(device.spec.size)
            return np.stack([device.counts(kind, cells) for kind in KINDS])


def options(**chosen: object) -> list[str]:
    """`pulse_ms=5` as `--pulse-ms 5`."""
    words = [(f"--{name.replace('_', '-')}", str(value)) for name, value in chosen.items()]
    return [word for pair in words for word in pair]


@contextmanager
def firmware_board(
    folder: Path, *, sanitized: bool = True, lease_ms: int = LEASE_MS, **chosen: object
) -> Iterator[FirmwareBoard]:
    """A board whose die lives in `folder`; `chosen` as in `board --help`. Checks how it ends.

    A board that was told to die in a pulse has status 3; any other must end with 0.
    """
    state = folder / "die"
    command = [str(built(sanitized, lease_ms) / "board"), "--until-eof", "--state", str(state)]
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    with subprocess.Popen(
        [*command, *options(**chosen)], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        url = process.stdout.readline().strip().removeprefix("serial:")
        try:
            yield FirmwareBoard(process, url, state)
        finally:
            _, said = process.communicate(timeout=20)
    assert process.returncode == (3 if "die_at_pulse" in chosen else 0), said
    assert said == ""
