"""What the journal costs: an ISPP-like closed loop with and without it.

A cell-transaction is one cell in one read or apply. The loop has what real ones have: active
sets that shrink, noisy readings on the converter's grid, a gate voltage of its own for each
cell, a few RESETs a round. The device behind it costs next to nothing. CPU of the journal is
the process's CPU time with it minus that without it; waiting for the disk is shown apart.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from benches import Row
from rramhil.device import (
    Clock,
    Device,
    Floats,
    Kind,
    Pulse,
    PulseLimits,
    Range,
    ReadLimits,
    Spec,
)
from rramhil.journal import Journal
from rramhil.ledger import Ledger, LedgerReader

LSB = 1e-7
GATE_STEP = 0.005
CALL_SECONDS = 0.3e-3


class BenchClock(Clock):
    """Device time that only pulses and readings move."""

    seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class CheapDie(Device):
    """Cells that rise by what the gate voltage gives; noise from a table drawn beforehand."""

    def __init__(self, side: int, seed: int, volatile: bool) -> None:
        gate = Range(0.0, 4.0, GATE_STEP)
        limits = PulseLimits(Range(0.0, 4.0, 0.01), Range(1e-7, 1e-5), gate, None, 1024)
        self.spec = Spec(
            "cheap", "bench-0", 1, side, side, ReadLimits(0.0, 400e-6, LSB, 0.2, 1e-6),
            {Kind.SET: limits, Kind.RESET: limits}, volatile=volatile,
        )  # fmt: skip
        rng = np.random.default_rng(seed)
        self.clock: BenchClock = BenchClock()
        self.codes = rng.integers(5, 60, self.spec.size).astype(np.float32)
        self.noise = rng.normal(0.0, 6.0, 4 * self.spec.size).astype(np.float32)
        self.slope = rng.normal(120.0, 30.0, self.spec.size).astype(np.float32)
        self.calls = self.transactions = 0

    def read(self, cells: ArrayLike) -> Floats:
        flat = np.asarray(cells)
        self._count(flat.size)
        start = (self.calls * 7919) % (self.noise.size - flat.size)
        noisy = self.codes[flat] + self.noise[start : start + flat.size]
        return (np.rint(np.maximum(noisy, 0.0)) * LSB).astype(np.float32)

    def apply(self, pulse: Pulse) -> None:
        self._count(len(pulse))
        cells = pulse.cells
        if pulse.kind is Kind.RESET:
            self.codes[cells] = 20.0
        else:
            assert pulse.gate_volts is not None
            aim = self.slope[cells] * (pulse.gate_volts - 1.0)
            self.codes[cells] = np.maximum(self.codes[cells], aim)

    def _count(self, cells: int) -> None:
        self.calls += 1
        self.transactions += cells
        self.clock.seconds += 1e-6 * cells


def closed_loop(device: Device, seed: int, rounds: int) -> None:
    """SET with a rising gate voltage until a reading reaches its target; RESET overshoots."""
    rng = np.random.default_rng(seed)
    size = device.spec.size
    target = rng.choice([60.0, 120.0, 180.0, 240.0], size).astype(np.float32) * np.float32(LSB)
    steps = np.full(size, 240, np.int64)
    active = np.arange(size)
    window = np.float32(16 * LSB)
    for _ in range(rounds):
        siemens = device.read(active)
        over = siemens > target[active] + window
        below = siemens < target[active] - window
        reset, grow = active[over], active[below]
        if reset.size:
            device.apply(Pulse(Kind.RESET, reset, 2.6, 4.0, seconds=1e-7))
            steps[reset] = 240
        if grow.size:
            device.apply(Pulse(Kind.SET, grow, 2.0, steps[grow] * GATE_STEP, seconds=1e-7))
            steps[grow] = np.minimum(steps[grow] + 8, 780)
        active = active[over | below]
        if not active.size:
            return


def _run(side: int, seed: int, rounds: int, folder: Path | None, volatile: bool) -> _Measured:
    die = CheapDie(side, seed, volatile)
    device: Device = die
    if folder is not None:
        device = Journal(die, Ledger.open(folder, "bench-0", volatile=volatile), "bench")
    gc.collect()
    began, wall = time.process_time(), time.perf_counter()
    closed_loop(device, seed, rounds)
    commits, waited = 0, 0.0
    if isinstance(device, Journal):
        device.ledger.flush()
        commits, waited = device.ledger.commits, device.ledger.commit_wait_seconds
    cpu, wall = time.process_time() - began, time.perf_counter() - wall
    device.close()
    size = 0 if folder is None else sum(p.stat().st_size for p in folder.rglob("*"))
    return _Measured(cpu, wall, die.calls, die.transactions, commits, waited, size)


class _Measured:
    def __init__(
        self, cpu: float, wall: float, calls: int, cells: int, commits: int, wait: float, size: int
    ) -> None:
        self.cpu, self.wall, self.calls, self.cells = cpu, wall, calls, cells
        self.commits, self.wait, self.size = commits, wait, size


def rows(seed: int, quick: bool) -> Iterator[Row]:
    """The figures of the journal, for a die that is fsynced and for a volatile one."""
    side, rounds, repeats = (64, 20, 2) if quick else (256, 60, 7)
    for volatile in (False, True):
        costs, waits, last = [], [], None
        for n in range(repeats):
            bare = _run(side, seed + n, rounds, None, volatile)
            with tempfile.TemporaryDirectory() as folder:
                last = _run(side, seed + n, rounds, Path(folder), volatile)
                if n == 0:
                    assert _counted(Path(folder)) == last.cells
            own = last.cpu - bare.cpu - CALL_SECONDS * last.calls
            costs.append(1e9 * own / last.cells)
            waits.append(last.wait)
        assert last is not None
        tail = "_volatile" if volatile else ""
        spread = float(np.std(costs, ddof=1))
        yield Row(f"ledger_cpu_ns_per_cell{tail}", float(np.mean(costs)), "ns", spread, repeats)
        raw = 1e9 * (last.cpu - bare.cpu) / last.cells
        yield Row(f"ledger_cpu_ns_per_cell_all{tail}", raw, "ns")
        yield Row(f"ledger_bytes_per_cell{tail}", last.size / last.cells, "B")
        yield Row(f"fsyncs{tail}", last.commits, "")
        yield Row(f"fsync_wait_s{tail}", float(np.mean(waits)), "s", float(np.std(waits)), repeats)
        yield Row(f"calls{tail}", last.calls, "")
        yield Row(f"cell_transactions{tail}", last.cells, "")


def _counted(folder: Path) -> int:
    with LedgerReader(folder) as reader:
        totals = reader.totals()
    return totals.reads + sum(totals.pulses.values())
