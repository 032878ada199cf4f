"""Hosts and boards as processes of their own, for the tests in `system`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from boards import host

from rramhil.device import Ints
from rramhil.ledger import LedgerReader
from rramhil_drivers.scales import KINDS

SCRIPTS = Path(__file__).parent / "system"
CALL_CELLS = 200
"""Cells of a call of `host_job`: the most that may be in doubt."""


def small_chip(folder: Path) -> str:
    """The address of the 40 nm macro cut down to 64 x 64 cells, so that counts are quick."""
    lines = (files("rramhil_fixtures") / "chips/40nm.toml").read_text().splitlines()
    sizes = {"rows": "64", "cols": "64", "tiles": "1"}
    cut = [f"{k} = {sizes[k]}" if (k := line.split(" =")[0]) in sizes else line for line in lines]
    chip = folder / "small.toml"
    chip.write_text("\n".join(cut))
    return f"emulator:{chip}"


@dataclass
class BoardProcess:
    process: subprocess.Popen[str]
    address: str

    def order(self, pid: int, stage: str, number: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{pid} {stage} {number}\n")
        self.process.stdin.flush()

    def told(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline()))

    def counts(self) -> Ints:
        """Pulses that the chip counted, (kind, cell)."""
        with host(self.address.removeprefix("serial:")) as device:
            cells = np.arange(device.spec.size)
            return np.stack([device.counts(kind, cells) for kind in KINDS])


@contextmanager
def killer_board(device: str) -> Iterator[BoardProcess]:
    with subprocess.Popen(
        [sys.executable, str(SCRIPTS / "killer_board.py"), device, "--max-seconds", "600"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield BoardProcess(process, process.stdout.readline().strip())
        finally:
            process.communicate(timeout=20)


@dataclass
class Books:
    """What the ledger says and what the chip counted, (kind, cell), at one moment."""

    done: Ints
    doubtful: Ints
    counted: Ints
    open_doubt: Ints

    @classmethod
    def look(cls, board: BoardProcess, ledger: Path) -> Books:
        with LedgerReader(ledger / "ledger.sqlite") as reader:
            wear, open_doubt = reader.wear(), reader.doubtful()
        done = np.stack([wear.done[kind] for kind in KINDS])
        doubtful = np.stack([wear.doubtful[kind] for kind in KINDS])
        return cls(done, doubtful, board.counts(), open_doubt)

    def agree(self, moment: str) -> None:
        """Fail, naming the first kinds and cells, unless the equation holds."""
        wrong = (self.done > self.counted) | (self.counted > self.done + self.doubtful)
        table = np.stack([self.done, self.counted, self.doubtful], axis=-1)[wrong][:5]
        where = np.argwhere(wrong)[:5].tolist()
        assert not wrong.any(), f"{moment}: {wrong.sum()} wrong; (kind, cell) {where}: {table}"
        assert self.open_doubt.size <= CALL_CELLS


def start_host(
    board: BoardProcess,
    ledger: Path,
    passes: int,
    under: Sequence[str] = (),
    stderr: int | None = None,
) -> subprocess.Popen[str]:
    """A host that waits for `go`; `under`: the command line of a tracer to run it under."""
    script, address = str(SCRIPTS / "host_job.py"), f"{board.address}?timeout=10"
    return subprocess.Popen(
        [*under, sys.executable, script, address, str(ledger), str(passes)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
    )  # fmt: skip


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


def device_processes(host: int) -> list[int]:
    """The processes in which the devices of the process `host` live, by their command lines."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(b"import device_process" in word for word in words):
            found += [int(folder.name)] * any(word.endswith(b",%d" % host) for word in words)
    return found


def wait_for_devices(host: int, seconds: float = 30.0) -> None:
    """Wait until the devices of the process `host`, which is gone, are closed."""
    deadline = time.monotonic() + seconds
    while device_processes(host):
        assert time.monotonic() < deadline, "a device process outlives its host"
        time.sleep(0.005)


def finish(
    board: BoardProcess, ledger: Path, passes: int = 2, under: Sequence[str] = ()
) -> dict[str, Any]:
    """Do the job to its end, in a process that nobody kills, and return what it says."""
    with start_host(board, ledger, passes, under) as last:
        go(last)
        out, _ = last.communicate(timeout=60)
    assert last.returncode == 0
    return dict(json.loads(out))
