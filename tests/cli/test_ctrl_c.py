"""Ctrl-C on a real terminal: once stops at a safe point, and the run can be resumed."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

LONG = """\
name = "long"
device = { address = "emulator:40nm?tiles=1" }
network = { name = "digits" }
data = { name = "digits" }
steps = [{ do = "scan", reads = 20000 }]
"""
CTRL_C = b"\x03"
PATIENCE_SECONDS = 60.0
RRAMHIL = "from rramhil.cli import main; main()"


class TerminalProcess:
    """The command line as the foreground process of a terminal of its own."""

    def __init__(self, *words: str, **environment: str) -> None:
        self.screen, inside = pty.openpty()
        self.seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", RRAMHIL, *words],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", **environment},
        )
        os.close(inside)

    def read_until(self, text: bytes | None) -> None:
        """Read until `text` was shown; None: until the process has closed the terminal."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text is None or text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, self.seen[-2000:]
            if select.select([self.screen], [], [], left)[0]:
                try:
                    part = os.read(self.screen, 65536)
                except OSError:  # EIO: nobody holds the other end any more
                    part = b""
                if not part:
                    assert text is None, self.seen[-2000:]
                    return
                self.seen += part

    def press(self, key: bytes) -> None:
        os.write(self.screen, key)

    def end(self) -> int:
        """The exit code, after the rest of the output was read."""
        self.read_until(None)
        os.close(self.screen)
        return self.process.wait(PATIENCE_SECONDS)


@pytest.fixture
def long_job(tmp_path: Path) -> str:
    path = tmp_path / "long.toml"
    path.write_text(LONG)
    return str(path)


@pytest.mark.system
def test_ctrl_c_once_stops_safely_and_twice_at_once(long_job: str) -> None:
    first = TerminalProcess("run", long_job)
    first.read_until(b"of 40,000")
    first.press(CTRL_C)
    first.read_until(b"press Ctrl-C again")
    assert first.end() == 130
    assert b"go on with: rramhil resume" in first.seen
    assert b"Traceback" not in first.seen
    run = stored_result()
    assert run["outcome"] == "stopped"

    second = TerminalProcess("resume", "last")
    second.read_until(b"of 40,000")
    second.process.send_signal(2)
    second.process.send_signal(2)
    assert second.end() == 130
    assert b"Traceback" not in second.seen
    assert b"rramhil resume" in second.seen
    assert stored_result()["run"] == run["run"]
    assert stored_result()["outcome"] == "stopped"


def stored_result() -> dict[str, str]:
    (path,) = Path(os.environ["RRAMHIL_HOME"]).glob("runs/*/result.json")
    result: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return result


@pytest.mark.system
@pytest.mark.parametrize("pause_seconds", [0.05, 0.3])
def test_ctrl_c_again_and_again_until_it_ends_is_130(long_job: str, pause_seconds: float) -> None:
    running = TerminalProcess("run", long_job, "--quiet")
    events = Path(os.environ["RRAMHIL_HOME"])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(
        "step started" in path.read_text() for path in events.glob("runs/*/events.jsonl")
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while running.process.poll() is None:
        running.process.send_signal(2)
        time.sleep(pause_seconds)
        assert time.monotonic() < deadline
    assert running.end() == 130
    assert b"Traceback" not in running.seen
    assert stored_result()["outcome"] == "stopped"
