"""Outputs off within 250 ms of the request, whatever the host is doing, or that it is gone.

RRAMHIL_ABORTS=100 does that many for each of the three kinds of work, and kills the host as often.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from boards import serving
from processes import (
    SCRIPTS,
    Books,
    device_processes,
    finish,
    go,
    killer_board,
    small_chip,
    start_host,
    wait_for_devices,
)

from rramhil.address import open_device
from rramhil.ledger import LedgerReader
from rramhil.station import connect
from rramhil_drivers import board, requests, wire
from rramhil_drivers.virtual_board import Board
from rramhil_drivers.wire import Frame, Type

ABORTS = int(os.environ.get("RRAMHIL_ABORTS", "7"))
BOUND_SECONDS = 0.25
WORKS = ("training step", "sparse solve", "device calls")
STAGES = ("received", "pulsed", "replied")


class Witness(board.Watch):
    """When the board answered an ABORT, in seconds since the epoch, and with which outputs."""

    def __init__(self) -> None:
        self.aborts: list[tuple[float, int]] = []

    def answered(self, frame: Frame, answer: Frame) -> None:
        if frame.type == Type.ABORT:
            outputs = requests.State.unpack(answer.payload).outputs
            self.aborts.append((time.time(), outputs))

    def off_after(self, moment: float) -> float:
        """Seconds from `moment` to the first ABORT after it, whose answer says: off."""
        deadline = time.monotonic() + 30
        while not (since := [answer for answer in self.aborts if answer[0] >= moment]):
            assert time.monotonic() < deadline, "no ABORT reached the board"
            time.sleep(0.002)
        assert since[0][1] == wire.Outputs.OFF
        return since[0][0] - moment


@contextmanager
def witnessed(folder: Path) -> Iterator[tuple[Witness, str]]:
    """A board in a thread of this process, and what it saw."""
    witness = Witness()
    with (
        open_device(small_chip(folder)) as die,
        serving(Board(die), witness) as url,
    ):
        yield witness, f"serial:{url}"


@contextmanager
def busy_host(work: str, address: str, ledger: Path, times: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(SCRIPTS / "busy_host.py"), work, address, str(ledger)]
    with subprocess.Popen([*command, str(times)], stdout=subprocess.PIPE, text=True) as host:
        try:
            yield host
        finally:
            host.kill()


def line(host: subprocess.Popen[str]) -> str:
    assert host.stdout is not None
    return host.stdout.readline().strip()


def press_twice(pid: int, rng: np.random.Generator) -> float:
    """Ctrl-C, and again; the moment of the second, seconds since the epoch."""
    time.sleep(rng.uniform(0.05, 0.5))
    os.kill(pid, signal.SIGINT)
    time.sleep(0.05)  # two signals of a kind that come together are one
    moment = time.time()
    os.kill(pid, signal.SIGINT)
    return moment


def in_words(what: str, seconds: list[float]) -> str:
    low, middle, high = 1000 * np.percentile(seconds, [0, 50, 100])
    return f"{what}: {low:.0f} to {high:.0f} ms, median {middle:.0f}"


@pytest.mark.system
@pytest.mark.timeout(120 + 10 * ABORTS)
@pytest.mark.parametrize("work", WORKS)
def test_the_second_ctrl_c_is_outputs_off_while_the_host_is_busy(work: str, tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="one of the works is a sparse solve of scipy")
    rng = np.random.default_rng(3)
    at_board, reported, heard = [], [], []
    with (
        witnessed(tmp_path) as (witness, address),
        busy_host(work, address, tmp_path / "ledger", ABORTS) as host,
    ):
        for _ in range(ABORTS):
            assert line(host) == "busy"
            moment = press_twice(host.pid, rng)
            at_board.append(witness.off_after(moment))
            told = json.loads(line(host))
            assert told["off"] is True, told
            heard.append(told["heard"] - moment)
            reported.append(reported_at(tmp_path / "ledger") - moment)
        assert host.wait(30) == 0
    print(
        f"\n{ABORTS} aborts during {work}: {in_words('off at the board', at_board)}; "
        f"{in_words('reported off', reported)}; {in_words('heard by the host', heard)}"
    )
    assert max(at_board) <= max(reported) <= BOUND_SECONDS
    if work != "device calls":  # else the host's own handler would have done
        assert max(heard) > BOUND_SECONDS
    with LedgerReader(tmp_path / "ledger") as reader:
        assert reader.verify().ok


def reported_at(ledger: Path) -> float:
    """When the last session was told that its outputs are off, seconds since the epoch."""
    with LedgerReader(ledger) as reader:
        notes = [row for row in reader.rows(ops=("note",)) if row.data["event"] == "outputs off"]
        assert notes[-1].data["off"] is True
        assert notes[-1].data["why"] in ("Ctrl-C was pressed twice", "the host asked for it")
        return notes[-1].at


@pytest.mark.system
@pytest.mark.timeout(120 + 10 * ABORTS)
def test_the_end_of_the_host_is_outputs_off_and_the_lease_is_free(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    took = []
    with witnessed(tmp_path) as (witness, address):
        for _ in range(ABORTS):
            with busy_host("device calls", address, tmp_path / "ledger", 1) as host:
                assert line(host) == "busy"
                time.sleep(rng.uniform(0.0, 0.5))
                (device,) = device_processes(host.pid)
                assert device != host.pid
                moment = time.time()
                host.kill()
                took.append(witness.off_after(moment))
                host.wait(10)
                wait_for_devices(host.pid)
        with connect(address, ledger=tmp_path / "ledger") as device_again:
            assert device_again.doubtful.size == 0
    print(f"\n{ABORTS} kills of the host: {in_words('off at the board', took)}")
    assert max(took) <= BOUND_SECONDS
    with LedgerReader(tmp_path / "ledger") as reader:
        assert reader.verify().ok


@pytest.mark.system
@pytest.mark.timeout(120 + 10 * ABORTS)
def test_the_end_of_the_device_process_leaves_only_doubt(tmp_path: Path) -> None:
    """Killed by the board at a frame, or at random: the host is told, the ledger is right."""
    rng = np.random.default_rng(5)
    ledger = tmp_path / "ledger"
    seen: list[str] = []
    with killer_board(small_chip(tmp_path)) as victim_board:
        assert finish(victim_board, ledger)["doubtful"] == 0
        for moment in [*STAGES, *["at random"] * ABORTS]:
            with start_host(victim_board, ledger, 1000, stderr=subprocess.PIPE) as host:
                try:
                    go(host)
                    device = wait_for_one(host.pid)
                    if moment in STAGES:
                        victim_board.order(device, moment, int(rng.integers(1, 40)))
                        assert victim_board.told()["stage"] == moment
                    else:
                        time.sleep(rng.uniform(0.3, 1.0))
                        os.kill(device, signal.SIGKILL)
                    _, said = host.communicate(timeout=60)
                finally:
                    host.kill()
            assert host.returncode == 1
            assert "LinkLost" in said
            assert "killed by SIGKILL" in said
            Books.look(victim_board, ledger).agree(moment)
            seen.append(moment)
        report = finish(victim_board, ledger)
        last = Books.look(victim_board, ledger)
    print(f"\nkills of the device process: {len(seen)}; the job then ended: {report}")
    last.agree("at last")
    assert last.open_doubt.size == 0
    assert report["inside"] > 0.9
    with LedgerReader(ledger) as reader:
        assert reader.verify().ok


def wait_for_one(host: int) -> int:
    """The device process of `host`, once it has one."""
    deadline = time.monotonic() + 30
    while not (found := device_processes(host)):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found[0]
