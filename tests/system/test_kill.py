"""The host is killed at every bad moment; the ledger never says more or less than the chip.

For each cell and kind: done <= pulses that the chip counted <= done + doubtful.
RRAMHIL_KILLS=50 does that many kills at random moments, besides those timed by the board.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import (
    BoardProcess,
    Books,
    finish,
    go,
    killer_board,
    small_chip,
    start_host,
    wait_for_devices,
)

from rramhil.ledger import LedgerReader

STAGES = ("received", "pulsed", "replied")
KILLS_A_STAGE = 5
RANDOM_KILLS = int(os.environ.get("RRAMHIL_KILLS", "8"))


def hire(hosts: ExitStack, board: BoardProcess, ledger: Path) -> subprocess.Popen[str]:
    """A host with more to do than it will live to see."""
    process = hosts.enter_context(start_host(board, ledger, 1000))
    hosts.callback(process.kill)
    return process


def undone(books: Books, before: Books, told: dict[str, Any]) -> set[int]:
    """Pulses that the chip counted and the ledger does not know as done, in the frame told of."""
    cells = told["kind"], np.array(told["cells"])
    since = (books.counted - before.counted)[cells] - (books.done - before.done)[cells]
    return set(since.tolist())


@pytest.mark.system
@pytest.mark.timeout(120 + 5 * RANDOM_KILLS)
def test_no_pulse_is_lost_from_the_ledger_and_none_is_doubled(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    ledger = tmp_path / "ledger"
    plan = [*STAGES] * KILLS_A_STAGE + ["at random"] * RANDOM_KILLS
    seen: Counter[str] = Counter()
    with killer_board(small_chip(tmp_path)) as board, ExitStack() as hosts:
        assert finish(board, ledger)["doubtful"] == 0
        before = Books.look(board, ledger)
        before.agree("at first")
        waiting = hire(hosts, board, ledger)
        for moment in rng.permutation(plan).tolist():
            victim, waiting = waiting, hire(hosts, board, ledger)
            if moment in STAGES:
                board.order(victim.pid, moment, int(rng.integers(1, 40)))
                go(victim)
                told = board.told()
            else:
                go(victim)
                time.sleep(rng.uniform(0.0, 0.6))
                victim.kill()
            assert victim.wait(60) == -9
            wait_for_devices(victim.pid)
            books = Books.look(board, ledger)
            books.agree(moment)
            if moment in STAGES:
                assert told["stage"] == moment
                undone_pulses = undone(books, before, told)
                expected = {"received": {0}, "pulsed": {0, 1}, "replied": {0, 1}}[moment]
                assert undone_pulses <= expected
                in_doubt = set(told["cells"]) <= set(books.open_doubt.tolist())
                assert in_doubt or (moment != "received" and undone_pulses == {0})
            seen[moment] += 1
            before = books
        report = finish(board, ledger)
        after = Books.look(board, ledger)
    print(f"kills of the host: {sum(seen.values())} ({dict(seen)}); the job then ended: {report}")
    assert sum(seen.values()) >= 20
    assert all(seen[stage] == KILLS_A_STAGE for stage in STAGES)
    assert report["inside"] > 0.9
    assert report["doubtful"] == 0
    assert report["torch"] is False
    after.agree("at last")
    assert after.open_doubt.size == 0
    assert ((after.done - before.done) == (after.counted - before.counted)).all()
    with LedgerReader(ledger / "ledger.sqlite") as reader:
        assert reader.verify().ok
