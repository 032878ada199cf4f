"""The tests in `tests/bench` do nothing unless asked, and pass on a virtual board when asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import killer_board, small_chip

BENCH = Path(__file__).parent.parent / "bench"


def run(home: Path, *arguments: str, scratch: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"RRAMHIL_HOME": str(home), "RRAMHIL_SCRATCH": scratch}
    command = [sys.executable, "-m", "pytest", str(BENCH), "-rs", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *arguments], env=environment, cwd=BENCH.parent.parent,
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip


def test_nothing_is_done_without_a_board(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0
    assert "3 skipped" in done.stdout
    assert "no chip on a bench" in done.stdout


@pytest.mark.system
@pytest.mark.timeout(240)
def test_on_a_virtual_board(tmp_path: Path) -> None:
    with killer_board(small_chip(tmp_path)) as board:
        address = f"--rram-device={board.address}?timeout=10"
        done = run(tmp_path / "home", address)
        assert (done.returncode, done.stdout.count("SKIPPED")) == (0, 2), done.stdout
        assert "no cell may be pulsed" in done.stdout
        assert board.counts().sum() == 0
        done = run(tmp_path / "home", address, scratch="64-95")
        assert done.returncode == 0, done.stdout
        assert "3 passed" in done.stdout
        pulsed = np.flatnonzero(board.counts().sum(axis=0))
    assert pulsed.size > 16
    assert pulsed.min() >= 64
    assert pulsed.max() <= 95
