"""The host of the reference firmware is killed at random moments, and so is its board.

For each cell and kind: done <= pulses that the chip counted <= done + doubtful, and the
outputs are off within 250 ms of the host's last byte: by the ABORT of the device process that
outlives the host for a moment or, where that is killed as well, by the end of the lease.
RRAMHIL_KILLS=50 does so many kills.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from firmware_board import FirmwareBoard, built, firmware_board
from processes import (
    BoardProcess,
    Books,
    device_processes,
    finish,
    go,
    start_host,
    wait_for_devices,
)

from rramhil.ledger import LedgerReader

KILLS = int(os.environ.get("RRAMHIL_KILLS", "5"))
OFF_SECONDS = 0.25


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    """Compiled before the time limit of a test begins to run."""
    built()


def wait_for_pulses(board: FirmwareBoard, host: subprocess.Popen[str], count: int) -> None:
    """Wait until the board has begun `count` pulses more."""
    deadline, enough = time.monotonic() + 60.0, board.silicon().pulses + count
    while board.silicon().pulses < enough:
        assert time.monotonic() < deadline
        assert host.poll() is None
        time.sleep(0.002)


def silence_until_off(board: FirmwareBoard) -> float:
    """Seconds from the last byte that the board heard until its outputs were off."""
    deadline = time.monotonic() + 5.0
    while (seen := board.silicon()).outputs != 0:
        assert time.monotonic() < deadline, "the outputs stay on"
        time.sleep(0.005)
    return max(seen.off_at - seen.heard_at, 0.0)


@pytest.mark.system
@pytest.mark.timeout(120 + 20 * KILLS)
def test_a_killed_host_leaves_books_that_agree_and_outputs_off(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    ledger, silences = tmp_path / "ledger", []
    with firmware_board(tmp_path) as board:
        process = BoardProcess(board.process, board.address)
        assert finish(process, ledger)["doubtful"] == 0
        before = Books.look(process, ledger)
        before.agree("at first")
        for number in range(KILLS):
            with start_host(process, ledger, 1000) as victim:
                try:
                    go(victim)
                    wait_for_pulses(board, victim, int(rng.integers(1, 4000)))
                finally:
                    if number % 2:  # and the process that would have sent an ABORT
                        for pid in device_processes(victim.pid):
                            os.kill(pid, signal.SIGKILL)
                    victim.kill()
                assert victim.wait(60) != 0
            wait_for_devices(victim.pid)
            silences.append(silence_until_off(board))
            books = Books.look(process, ledger)
            books.agree(f"kill {number}")
            assert books.counted.sum() > before.counted.sum()
            before = books
        report = finish(process, ledger)
        after = Books.look(process, ledger)
    print(f"kills {KILLS}; safe_after_silence_ms at most {1e3 * max(silences):.0f}")
    assert all(seconds < 0.05 for seconds in silences[::2]), "an ABORT puts the outputs off"
    assert max(silences) <= OFF_SECONDS
    assert report["doubtful"] == 0
    after.agree("at last")
    assert ((after.done - before.done) == (after.counted - before.counted)).all()
    with LedgerReader(ledger / "ledger.sqlite") as reader:
        assert reader.verify().ok


@pytest.mark.system
@pytest.mark.timeout(120)
def test_a_board_that_dies_under_a_host_leaves_books_that_agree(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    for number in range(2):
        with firmware_board(tmp_path, die_at_pulse=777 + 1000 * number) as board:
            process = BoardProcess(board.process, board.address)
            with start_host(process, ledger, 1000, stderr=subprocess.DEVNULL) as host:
                go(host)
                assert board.process.wait(60) == 3
                host.communicate(timeout=60)
            assert host.returncode != 0
        with firmware_board(tmp_path) as board:
            books = Books.look(BoardProcess(board.process, board.address), ledger)
            books.agree(f"death {number}")
            assert books.counted.sum() > 0
    with firmware_board(tmp_path) as board:
        process = BoardProcess(board.process, board.address)
        assert finish(process, ledger)["doubtful"] == 0
        Books.look(process, ledger).agree("at last")
