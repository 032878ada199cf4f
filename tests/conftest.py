"""What all tests share: each test has its own home folder, so no test sees another's dies."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Ctrl-C is what many tests are about: a shell that runs them in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("RRAMHIL_HOME", str(home))
    return home


@pytest.fixture(autouse=True)
def _no_thread_left_behind() -> Iterator[None]:
    """A thread that outlives its test takes the interpreter from all tests that follow.

    Except those of ledgers that a test abandons as a killed host would: they sleep.
    """
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    busy = [thread for thread in left if "_commit_late" not in thread.name]
    until = time.monotonic() + 5.0
    for thread in busy:
        thread.join(max(until - time.monotonic(), 0.0))
    alive = [thread.name for thread in busy if thread.is_alive()]
    assert not alive, f"threads still run after the test: {', '.join(alive)}"
