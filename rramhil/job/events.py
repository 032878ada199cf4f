"""What happened in a run, as JSON lines in its folder, and to whoever listens.

Each event carries the time (UTC), the run's id and the number of the last ledger row, so
that a line of the log leads to the transaction that it is about:

    with hear(print_line):
        log = open_log(folder / "events.jsonl", run)
        log.info("step finished", row=ledger.row, step="scan", stuck_lrs=12)
        log.close()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import Lock
from typing import Any

import structlog
from pydantic_core import to_json

Event = Mapping[str, Any]
Listener = Callable[[Event], None]

_listener: ContextVar[Listener | None] = ContextVar("rramhil_events_listener", default=None)


@contextmanager
def hear(listener: Listener) -> Iterator[None]:
    """Call `listener` with every event that logs of this context write."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class EventLog(structlog.BoundLoggerBase):
    """A structlog logger bound to one run. `row` is the ledger's last row at the event."""

    def info(self, event: str, *, row: int, **data: Any) -> None:
        """Something that was expected."""
        self._proxy_to_logger("info", event, row=row, **data)

    def warning(self, event: str, *, row: int, **data: Any) -> None:
        """Something that somebody should look at; the run goes on."""
        self._proxy_to_logger("warning", event, row=row, **data)

    def error(self, event: str, *, row: int, **data: Any) -> None:
        """Something that ends the run."""
        self._proxy_to_logger("error", event, row=row, **data)

    def close(self) -> None:
        """Close the file; callable twice."""
        self._logger.close()


class _Lines:
    """Appends one JSON line for each event, whole lines even after a kill in mid-line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab+")
        self._lock = Lock()
        if self._file.tell():
            self._file.seek(-1, 2)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")

    def write(self, event: dict[str, Any]) -> None:
        line = to_json(event, inf_nan_mode="null", fallback=_plain)
        with self._lock:
            self._file.write(line + b"\n")
            self._file.flush()
        listener = _listener.get()
        if listener is not None:
            listener(event)

    info = warning = error = write

    def close(self) -> None:
        self._file.close()


def open_log(path: Path, run: str) -> EventLog:
    """The log of `run` in the file `path`, continued where it exists. Raises OSError."""
    log: EventLog = structlog.wrap_logger(
        _Lines(path),
        processors=[structlog.processors.add_log_level, _stamp, _in_order],
        wrapper_class=EventLog,
        cache_logger_on_first_use=False,
        context_class=dict,
        run=run,
    ).bind()
    return log


_stamp = structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")
_FIRST = ("time", "level", "event", "run", "row")


def _in_order(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> tuple[tuple[dict[str, Any]], dict[str, Any]]:
    """The common keys first, so that the lines are read easily."""
    rest = {key: value for key, value in event.items() if key not in _FIRST}
    return ({**{key: event[key] for key in _FIRST}, **rest},), {}


def _plain(value: Any) -> Any:
    """Numbers of numpy as Python's; anything else by its text."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else str(value)
