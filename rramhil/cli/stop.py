"""Ctrl-C once: stop at the next safe point. Twice: at once. SIGTERM counts as one Ctrl-C.

The second Ctrl-C is for the device process, too, which does not wait until this one is free to
hear it (`rramhil.process.signals`).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from rramhil.process import signals

SOON = "stopping at the next safe point; press Ctrl-C again to stop at once"
NOW = "stopping at once"
WAIT = "the outputs are being switched off; one moment"


class Stop:
    """Counts requests to stop while it is entered (main thread only).

    `tell` is called inside a signal handler with the line to show: it must neither lock nor
    write to a buffered stream. After the second Ctrl-C no further one interrupts, so that
    whoever switches the outputs off is left to do it.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._tell = tell or write_stderr
        self._asked = False
        self._at_once = False
        self._before: dict[signal.Signals, Any] = {}
        self._requests = signals.Requests()
        self._looked = 0

    @property
    def at_once(self) -> bool:
        """Whether the work was to end at once, by a second Ctrl-C."""
        return self._at_once

    def telling(self, tell: Callable[[str], None]) -> Stop:
        """This one, with another way to show its lines."""
        self._tell = tell
        return self

    def asked(self) -> bool:
        """Whether the work should end at the next point where no pulse is in flight."""
        return self._asked

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
            self._looked = signals.count(begin=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            signals.count(begin=False)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        twice = self._twice() or (self._asked and number == signal.SIGINT)
        if self._at_once:
            self._tell(WAIT)
        elif twice:
            self._asked = self._at_once = True
            self._tell(NOW)
            raise KeyboardInterrupt
        elif not self._asked:
            self._asked = True
            self._tell(SOON)

    def _twice(self) -> bool:
        """Whether the signals so far mean at once. Two that came during one long C call are one
        to Python, which calls a handler when that call is over; the page knows both."""
        data = signals.since(self._looked)
        self._looked += len(data)
        return self._requests.at_once(data, 0.0)


def write_stderr(line: str) -> None:
    """One line straight to file descriptor 2: safe in a signal handler."""
    os.write(2, f"\n{line}\n".encode())
