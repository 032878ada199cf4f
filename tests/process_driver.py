"""The driver `bench`, for tests of device processes: a fake die that fails on request.

    bench:SERIAL?folder=FOLDER&trouble=segv

`folder` is where it writes when its outputs went off (seconds of the monotonic clock), and what
its process had loaded. `install` makes it known to this process and to those that it starts.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import numpy as np
from fakes import FakeDie, fake_spec
from numpy.typing import ArrayLike

from rramhil.device import (
    Address,
    Device,
    Driver,
    Floats,
    Ints,
    Kind,
    LinkLost,
    Pulse,
    Refused,
    WallClock,
)

TROUBLES = ("segv", "slow", "bug", "unplugged", "missing", "deaf", "os")


class OddLoss(LinkLost):
    """An error of the driver's own, which a host does not know."""


class BenchDie(FakeDie):
    def __init__(self, serial: str, folder: Path, trouble: str) -> None:
        super().__init__(fake_spec(serial=serial, volatile=False, newborn=False))
        self.clock = WallClock()  # type: ignore[assignment]
        self.folder, self.trouble = folder, trouble
        heavy = {"torch", "matplotlib", "rich", "typer", "sklearn", "scipy"}
        (folder / "loaded").write_text(" ".join(sorted(heavy & set(sys.modules))))

    def read(self, cells: ArrayLike) -> Floats:
        self.check_open()
        if self.trouble == "slow":
            self.closed.wait(60)
            raise LinkLost(f"{self.spec.serial} was closed while it was read")
        if self.trouble == "deaf":
            time.sleep(60)
        flat = self.spec.check_cells(cells)
        return np.round(self.siemens[flat] / 1e-7).astype(np.float32) * np.float32(1e-7)

    def apply(self, pulse: Pulse) -> None:
        self.check_open()
        self.spec.check_pulse(pulse)
        if self.trouble == "segv":
            signal.raise_signal(signal.SIGSEGV)
        if self.trouble == "bug":
            _ = 1 // len(pulse.cells[:0])
        if self.trouble == "os":
            raise OSError(28, "no space left on device", "/dev/bench")
        if self.trouble == "unplugged":
            raise OddLoss("the cable is out", pulse.cells[:2])
        if self.trouble == "slow":
            self.closed.wait(60)
            raise LinkLost("closed under a pulse", pulse.cells)
        self.counted[pulse.kind][pulse.cells] += 1

    def pulses_counted(self, kind: Kind) -> Ints:
        return self.counted[kind]

    def close(self) -> None:
        if not self.closed.is_set():
            (self.folder / "off").write_text(repr(time.monotonic()))
        super().close()


def open_bench(address: Address) -> Device:
    trouble = address.options.get("trouble", "")
    if trouble == "missing":
        raise Refused("there is no bench; build one")
    assert trouble in ("", *TROUBLES)
    return BenchDie(address.path, Path(address.options["folder"]), trouble)


driver = Driver(
    summary="a fake die in a process of its own",
    example="bench:7?folder=.",
    open=open_bench,
    options={"folder": "where it leaves traces", "trouble": "how it fails"},
)


def install(folder: Path) -> str:
    """Announce the driver `bench` in `folder`, which then belongs on sys.path."""
    place = folder / "process_driver-1.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: process-driver\nVersion: 1\n")
    (place / "entry_points.txt").write_text("[rramhil.drivers]\nbench = process_driver:driver\n")
    return str(folder)
