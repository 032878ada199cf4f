"""The clock of a device: part of the contract in `rramhil.device`, which gives these names."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod


class Clock(ABC):
    """Time belongs to the device. Algorithms ask its clock and never import `time`."""

    @abstractmethod
    def now(self) -> float:
        """Device time in seconds."""

    @abstractmethod
    def sleep(self, seconds: float) -> None:
        """Let `seconds` of device time pass."""


class WallClock(Clock):
    """The clock of hardware on a bench: seconds of this host's monotonic clock."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
