"""What `connect()` gives: a `Device` whose calls are in its die's ledger, wherever it runs.

`rramhil.journal.Journal` is one in this process, `rramhil.process.Remote` one whose lease, guard,
ledger and driver live in a process of their own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rramhil.device import Cells, Device, DeviceError, Refused


class Aborted(DeviceError):
    """The outputs were switched off on purpose under a call. No `LinkLost`: that one is opened
    again by who wants to go on, and nobody may go on here unasked. `maybe` as ever."""


class SessionLedger(Protocol):
    """What a session may ask of its die's ledger. `rramhil.ledger.Ledger` is one."""

    @property
    def path(self) -> Path:
        """The ledger's file; `rramhil.ledger.LedgerReader` reads it while it is written."""

    @property
    def row(self) -> int:
        """The number of the last row."""

    @property
    def head(self) -> str:
        """The hash of the last row, hex."""

    def note(self, event: str, data: Mapping[str, Any] | None = None) -> int:
        """Record an event (JSON data) and commit; its row. Raises `LedgerError`."""

    def flush(self) -> None:
        """Commit what waits. Raises `LedgerError`."""


class Connected(Device):
    """A device with a ledger, from `connect()` to `close()`. Calls from several threads take
    turns; `close` and `abort` may come from any thread. `ledger`: that of the die."""

    ledger: SessionLedger

    def thaw(self, state: bytes) -> None:
        raise Refused(
            f"{self.spec.serial} is journalled, and its ledger knows no jumps in state; thaw the "
            "bare device, or rebuild it from its ledger"
        )

    @property
    @abstractmethod
    def doubtful(self) -> Cells:
        """Cells possibly pulsed and not read since, whichever run left them; ascending."""

    @abstractmethod
    def settle(self) -> Cells:
        """Read the doubtful cells, so that pulses may go on. Returns the cells it read."""

    @abstractmethod
    def checkpoint(self) -> int:
        """Save the whole state of a volatile die; the ledger's row that names it."""

    @abstractmethod
    def finish(self, outcome: str, data: Mapping[str, Any] | None = None) -> int:
        """End the session with an outcome in a word or sentence; only `close` may follow."""
