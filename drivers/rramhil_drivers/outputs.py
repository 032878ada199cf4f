"""The outputs of a board and the lease that they need."""

from __future__ import annotations

from collections.abc import Callable

from .wire import Off, Outputs


class Supplies:
    """Armed for a while, or off. Times are seconds of `now`.

    `changed`: when the outputs last went on or off, `why` what last put them off; `expired`
    counts the leases that ran out since `forget`.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lease = 0.0
        self.until = float("inf")
        self.outputs = Outputs.OFF
        self.why = Off.START
        self.changed = now()
        self.expired = 0

    @property
    def armed(self) -> bool:
        """Whether pulses may go out now."""
        return self.outputs is not Outputs.OFF

    def arm(self, seconds: float) -> None:
        """Supplies up; from now on the host is to be heard every `seconds`."""
        if not self.armed:
            self.changed = self._now()
            self.outputs = Outputs.ARMED
        self._lease = seconds
        self.until = self._now() + seconds

    def renew(self) -> None:
        """The host was heard."""
        if self.armed:
            self.until = self._now() + self._lease

    def drive(self, on: bool) -> None:
        """A line is driven, or all are at zero again."""
        if self.armed:
            self.outputs = Outputs.DRIVEN if on else Outputs.ARMED

    def off(self, why: Off) -> None:
        """Everything off."""
        if self.armed:
            self.changed = self._now()
        self.outputs = Outputs.OFF
        self.why = why
        self.until = float("inf")

    def run_out(self) -> bool:
        """Off, if the lease has run out; whether it has."""
        if self._now() < self.until:
            return False
        self.expired = min(self.expired + 1, 2**16 - 1)
        self.off(Off.LEASE)
        return True

    def left_ms(self) -> int:
        """Milliseconds that are left of the lease."""
        return max(int((self.until - self._now()) * 1e3), 1) if self.armed else 0

    def since_ms(self) -> int:
        """Milliseconds since the outputs last went on or off."""
        return min(int((self._now() - self.changed) * 1e3), 2**32 - 1)
