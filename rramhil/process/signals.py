"""Signals that reach the device process although the host's interpreter is busy.

A Python signal handler waits for the C call that is running; CPython's own C handler does not:
it writes the signal's number to the wake-up descriptor at once (`signal.set_wakeup_fd`). Here
that descriptor is a file in memory that all device processes of this host share and look at.
A socket would be emptied by the first that reads it, and a full one loses what comes next.

This module is light: `rramhil.cli.stop` uses it as well.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass, field

LOOK_SECONDS = 0.02
"""How often a device process looks at the file."""

TOGETHER_SECONDS = 10.0
"""A second Ctrl-C within this time means outputs off, where nobody counts them."""

COUNTED, UNCOUNTED = 0xFE, 0xFD
"""Written among the signals: from here on somebody counts, and the second means at once."""

_page = -1


def page() -> int:
    """The descriptor of the file that this process's signals are written to, made when needed."""
    global _page
    if _page < 0:
        _page = os.memfd_create("rramhil-signals")
        os.set_blocking(_page, False)
        os.register_at_fork(after_in_child=_leave)
    return _page


def hear() -> bool:
    """Let this process's signals be written to the page; whether they are now.

    Only the main thread may ask for that, and another owner of the wake-up descriptor (an
    asyncio loop that handles signals) is left alone: then `abort()` is the quick way.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    before = signal.set_wakeup_fd(page(), warn_on_full_buffer=False)
    if before in (-1, page()):
        return True
    signal.set_wakeup_fd(before)
    return False


def count(begin: bool) -> int:
    """Somebody in the main thread begins (or ends) to count requests to stop: the first
    gracefully, the second at once, however long after. Where on the page that stands."""
    hear()
    at = os.fstat(page()).st_size
    os.write(page(), bytes([COUNTED if begin else UNCOUNTED]))
    return at


def since(place: int, page: int | None = None) -> bytes:
    """What was written to the page (a descriptor; None: this process's) after `place`."""
    return os.pread(_page if page is None else page, 1 << 20, place)


def _leave() -> None:
    """A forked child writes its signals nowhere: one Ctrl-C reaches the whole group."""
    global _page
    if _page < 0:
        return
    if threading.current_thread() is threading.main_thread():
        other = signal.set_wakeup_fd(-1)
        if other != _page:
            signal.set_wakeup_fd(other)
    os.close(_page)
    _page = -1


@dataclass(slots=True)
class Requests:
    """What the bytes on the page ask for. Pure: bytes and times in, a decision out."""

    counted: bool = False
    _stops: list[float] = field(default_factory=list)

    def at_once(self, data: bytes, now: float) -> bool:
        """Whether `data`, seen at `now` seconds, asks for outputs off: a SIGINT after an earlier
        SIGINT or SIGTERM. The first of them is the host's business."""
        answers = [self._one(byte, now) for byte in data]
        return any(answers)

    def _one(self, byte: int, now: float) -> bool:
        if byte in (COUNTED, UNCOUNTED):
            self.counted = byte == COUNTED
            self._stops.clear()
            return False
        if byte not in (signal.SIGINT, signal.SIGTERM):
            return False
        recent = [at for at in self._stops if self.counted or now - at <= TOGETHER_SECONDS]
        self._stops = [*recent, now]
        return bool(recent) and byte == signal.SIGINT
