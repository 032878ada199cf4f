"""No pulse leaves the host before the disk has said that its intent is written."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from processes import finish, killer_board, small_chip

from rramhil.ledger import LedgerReader
from rramhil_drivers import wire
from rramhil_drivers.wire import Type

TRACE = ["-f", "-qq", "-y", "-xx", "-s", "4096", "-e", "signal=none"]
TRACE += ["-e", "trace=fdatasync,fsync,sendto,write,pwrite64"]
_CALL = re.compile(r'^(\d+) +(\w+)\(\d+<([^>]*)>(?:, "([^"]*)")?(.*)$')
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (?:fdatasync|fsync) resumed>.*= 0$")
SYNCS = ("fdatasync", "fsync")
SENDS = ("sendto", "write")

Event = tuple[str, bytes]


def events(trace: str) -> Iterator[Event]:
    """("wrote" | "synced", b"") of the write-ahead log and ("sent to ...", bytes) of sockets.

    A sync counts when it has returned, a write or a send when it begins.
    """
    syncing: dict[str, bool] = {}
    for line in trace.splitlines():
        if resumed := _RESUMED.match(line):
            if syncing.pop(resumed[1], False):
                yield "synced", b""
        elif call := _CALL.match(line):
            thread, name, path, data, rest = call.groups()
            to_log = _plain(path).endswith(b"ledger.sqlite-wal")
            if name in SYNCS and rest.endswith("<unfinished ...>"):
                syncing[thread] = to_log
            elif name in SYNCS and to_log and rest.endswith("= 0"):
                yield "synced", b""
            elif name in ("write", "pwrite64") and to_log:
                yield "wrote", b""
            elif name in SENDS and _plain(path).startswith((b"socket:", b"TCP:")):
                yield f"sent to {path}", _plain(data or "")


def _plain(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def pulses(seen: Iterator[Event]) -> Iterator[tuple[wire.Apply, bool, bool]]:
    """Every APPLY that was sent, whether the log was written and then synced since the one
    before it, and whether all that was written to the log had been synced when it left."""
    receivers: defaultdict[str, wire.Receiver] = defaultdict(wire.Receiver)
    fresh, clean = False, True
    for what, data in seen:
        if what == "wrote":
            clean = False
        elif what == "synced":
            fresh, clean = fresh or not clean, True
        for frame in receivers[what].feed(data):
            if frame.type == Type.APPLY:
                yield wire.Apply.unpack(frame.payload), fresh, clean
                fresh = False


def needs_strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed; with it, the order of fdatasync and send is tested")
    trial = subprocess.run(["strace", "-f", "true"], capture_output=True, text=True, check=False)
    if trial.returncode:
        pytest.skip(f"strace may not trace here: {trial.stderr.splitlines()[-1:]}")


@pytest.mark.system
def test_every_intent_is_on_disk_before_its_pulses_leave(tmp_path: Path) -> None:
    needs_strace()
    ledger, log = tmp_path / "ledger", tmp_path / "trace"
    with killer_board(small_chip(tmp_path)) as board:
        report = finish(board, ledger, 1, ["strace", *TRACE, "-o", str(log)])
    assert report["inside"] > 0.9
    trace = log.read_text()
    sent = list(pulses(events(trace)))

    with LedgerReader(ledger / "ledger.sqlite") as reader:
        intents = [r for r in reader.rows(ops=("apply",)) if r.phase == "intent"]
    frames = iter(sent)
    for intent in intents:
        cells = intent.decode("cells")["cells"]
        for start in range(0, cells.size, wire.MAX_CELLS):
            apply, fresh, clean = next(frames)
            assert apply.cells.tolist() == cells[start : start + wire.MAX_CELLS].tolist()
            assert clean
            assert fresh or start > 0
    assert next(frames, None) is None
    assert len(intents) > 20
    assert len(sent) > len(intents)

    # The test itself: without its syncs the same trace would not pass.
    without = "\n".join(line for line in trace.splitlines() if "sync" not in line)
    assert not any(fresh or clean for _, fresh, clean in pulses(events(without)))


def test_a_sync_counts_when_it_returned() -> None:
    def hexed(text: bytes) -> str:
        return "".join(f"\\x{byte:02x}" for byte in text)

    log, socket = hexed(b"/x/ledger.sqlite-wal"), hexed(b"TCP:[1]")
    one = np.array([1])
    payload = wire.Apply(1, 0, 100, one, one).pack()
    frame = hexed(wire.encode(wire.Frame(Type.APPLY, 1, payload)))
    send = f'7  sendto(3<{socket}>, "{frame}", 9, 0, NULL, 0) = 9'
    write = f'7  pwrite64(9<{log}>, "{hexed(b"row")}", 3, 0) = 3'
    begun = f"8  fdatasync(9<{log}> <unfinished ...>"
    ended = "8  <... fdatasync resumed>) = 0"
    other = f"7  fdatasync(9<{hexed(b'/x/else')}>) = 0"

    def seen(*lines: str) -> list[tuple[bool, bool]]:
        return [pulse[1:] for pulse in pulses(events("\n".join(lines)))]

    assert seen(write, begun, ended, send, send) == [(True, True), (False, True)]
    assert seen(write, begun, send, ended, send) == [(False, False), (True, True)]
    assert seen(write, other, send) == [(False, False)]
    assert seen(begun, ended, write, send) == [(False, False)]
