"""What one needs at a bench: a trace, a paced board, a scan, the command that emulates one."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from boards import host, serving
from fakes import FakeDie
from typer.testing import CliRunner

from rramhil.address import open_device
from rramhil.device import Kind, Pulse, Refused
from rramhil_drivers import scanning, serial, wire
from rramhil_drivers.emulate import app
from rramhil_drivers.serving import Pace
from rramhil_drivers.virtual_board import Board


def test_a_trace_holds_every_byte_of_both_directions(tmp_path: Path) -> None:
    path = tmp_path / "link.jsonl"
    with serving(Board(FakeDie())) as url, host(url, more=f"&trace={path}") as device:
        device.apply(Pulse(Kind.SET, [3], 1.0, 1.5, seconds=1e-6))
        device.read(np.arange(100))
    first, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert first["url"] == url
    assert first["trace"] == 1
    for way, kind in (("out", "APPLY"), ("in", "APPLY reply")):
        data = b"".join(bytes.fromhex(line["bytes"]) for line in lines if line["way"] == way)
        frames = wire.Receiver().feed(data)
        named = [frame for line in lines if line["way"] == way for frame in line["frames"]]
        assert [frame["seq"] for frame in named] == [frame.seq for frame in frames]
        assert [frame["payload"] for frame in named] == [len(frame.payload) for frame in frames]
        assert kind in [frame["type"] for frame in named]
    times = [line["t"] for line in lines]
    assert times == sorted(times)
    assert all(time_ >= 0 for time_ in times)


def test_a_host_that_is_killed_leaves_its_trace(tmp_path: Path) -> None:
    path = tmp_path / "link.jsonl"
    code = (
        "import os, sys, numpy as np\n"
        "from rramhil.address import open_device\n"
        "device = open_device(sys.argv[1])\n"
        "device.read(np.arange(100))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    with serving(Board(FakeDie())) as url:
        address = f"serial:{url}?trace={path}"
        done = subprocess.run([sys.executable, "-c", code, address], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kinds = [frame["type"] for line in lines[1:] for frame in line["frames"]]
    assert kinds.count("READ") == kinds.count("READ reply") == 2


def test_a_trace_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"trace cannot be written to .* name another file"):
        open_device(f"serial:socket://127.0.0.1:1?trace={tmp_path}")
    with pytest.raises(Refused, match="names no file"):
        open_device("serial:/dev/null?trace=")


def test_a_paced_byte_takes_ten_bits_and_waits_for_those_before() -> None:
    line = Pace(1e6)
    assert line.passed(100, 5.0) == pytest.approx(5.001)
    assert line.passed(100, 5.0) == pytest.approx(5.002)
    assert line.passed(1, 9.0) == pytest.approx(9.00001)
    assert Pace(0).passed(10**6, 3.0) == 3.0


def test_a_paced_board_is_as_slow_as_its_line() -> None:
    """Bytes both ways can overlap, so the slower direction is the least that it can take."""
    die, cells = FakeDie(noise=0.0), np.random.default_rng(0).permutation(512)
    board = Board(die, follow_wall_clock=False)
    with serving(board, baud=200_000.0) as url, host(url) as device:
        start = time.monotonic()
        got = device.read(cells)
        seconds = time.monotonic() - start
        assert got.tolist() == die.read(cells).tolist()
    asked = sum(len(wire.pack_cells(part)) + 10 for part in cells.reshape(8, 64))
    assert seconds > asked * 10 / 200_000
    print(f"{seconds / (asked * 10 / 200_000):.2f} times what the line takes")


@contextmanager
def terminal(board: Board | None, noise: bytes = b"") -> Iterator[str]:
    """A pseudo-terminal with a board behind it, or something that only makes `noise`."""
    master, slave = pty.openpty()
    receiver, heard = wire.Receiver(), []

    def serve() -> None:
        while True:
            try:
                data = os.read(master, 1024)
            except OSError:
                return
            if board is None:
                os.write(master, noise)
                continue
            for frame in receiver.feed(data):
                heard.append(frame.type)
                os.write(master, wire.encode(board.answer(frame)))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        os.close(slave)
        thread.join(5)
        os.close(master)
    assert set(heard) <= {wire.Type.HELLO}


def test_a_scan_says_who_answers_and_asks_nothing_but_hello(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with terminal(Board(FakeDie())) as good, terminal(None, b"login: \r\n\0") as bad:
        ports = [type("Port", (), {"device": name}) for name in (good, bad, "/dev/none")]
        monkeypatch.setattr(scanning.list_ports, "comports", lambda: ports)
        monkeypatch.setattr("builtins.sorted", lambda values, **_: list(values))
        found = serial.scan()
    assert found[0] == (
        f"serial:{good} (fake-16, serial board-fake-0, firmware rramhil virtual board)"
    )
    assert found[1].startswith(f"serial:{bad} (what arrives from {bad} is garbage")
    assert "cannot be opened" in found[2]
    assert serial.driver.scan is serial.scan


def test_what_speaks_at_another_rate_is_called_garbage() -> None:
    with (
        terminal(None, b"\x8e\x13\0\xf0\x55" * 4) as port,
        pytest.raises(Refused, match=r"is garbage \(\d+ bytes, no frame\); check baud=3000000"),
    ):
        open_device(f"serial:{port}?timeout=0.2")


def test_emulate_board_is_a_command_that_others_can_talk_to() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "from rramhil_drivers.emulate import app; app()", "board",
         "emulator:statistical?tiles=1", "--until-eof", "--max-seconds", "60", "--baud", "3e6"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        with open_device(process.stdout.readline().strip()) as device:
            assert device.read([1, 2]).shape == (2,)
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_emulate_imports_no_board_before_it_runs() -> None:
    code = (
        "import sys, rramhil_drivers.emulate\n"
        "assert not {'numpy', 'serial', 'rramhil_drivers.board'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_emulate_help_names_what_the_board_process_takes() -> None:
    shown = CliRunner().invoke(app, ["board", "--help"], env={"COLUMNS": "120"}).output
    for option in ("--listen", "--serial", "--state", "--clock", "--baud", "--max-seconds"):
        assert option in shown
