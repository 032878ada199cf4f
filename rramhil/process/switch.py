"""The outputs of a device, switched off once, from any thread, and timed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from numpy.typing import ArrayLike

from rramhil.connected import Aborted
from rramhil.device import (
    NO_CELLS,
    Clock,
    Device,
    DeviceError,
    Floats,
    Ints,
    LinkLost,
    Outputs,
    Programmed,
    Pulse,
    Refused,
    WallClock,
)
from rramhil.wrap import Wrapped


class Switched(Wrapped):
    """A bare device that `abort` ends for good, whatever call is under way.

    A wait on the clock of the wall ends as well; other clocks sleep as their devices do.
    """

    def __init__(self, inner: Device) -> None:
        super().__init__(inner)
        self.outputs: Outputs | None = None
        self._off = threading.Event()
        self._once = threading.Lock()
        self._why = ""
        self._ordered = False
        if isinstance(inner.clock, WallClock):
            self.clock = _Awake(self, inner.clock)

    def read(self, cells: ArrayLike) -> Floats:
        with self._call():
            return self.inner.read(cells)

    def apply(self, pulse: Pulse) -> None:
        with self._call():
            self.inner.apply(pulse)

    def mvm(self, tile: int, inputs: ArrayLike) -> Ints:
        with self._call():
            return self.inner.mvm(tile, inputs)

    def program(self, cells: ArrayLike, low: ArrayLike, high: ArrayLike) -> Programmed:
        with self._call():
            return self.inner.program(cells, low, high)

    def adjust(self, knob: str, values: ArrayLike) -> None:
        with self._call():
            self.inner.adjust(knob, values)

    def abort(self) -> Outputs:
        return self.switch_off("it was asked to")

    def switch_off(self, why: str) -> Outputs:
        """Outputs off because of `why`; what the device answered the first time."""
        began = time.monotonic()
        self._why = self._why or why
        self._ordered = True
        self._off.set()
        with self._once:
            if self.outputs is None:
                said = _asked(self.inner)
                self.outputs = Outputs(said.off, said.said, time.monotonic() - began)
            return self.outputs

    def close(self) -> None:
        self._why = self._why or "it is closed"
        self._off.set()
        self.inner.close()

    @contextmanager
    def _call(self) -> Iterator[None]:
        if self._off.is_set():
            raise Refused(
                f"the outputs of {self.spec.serial} were switched off ({self._why}); connect again"
            )
        try:
            yield
        except LinkLost as error:
            raise self._ended(str(error), error.maybe) from None

    def _ended(self, how: str, maybe: ArrayLike = NO_CELLS) -> DeviceError:
        """What a call raises that lost its link: an order to do so is none to try again."""
        if not self._ordered:
            return LinkLost(how, maybe)
        why = f"the outputs of {self.spec.serial} were switched off ({self._why}): {how}"
        return Aborted(why, maybe)


class _Awake(Clock):
    """The clock of the wall, but nobody sleeps on it any longer than the device is on."""

    def __init__(self, device: Switched, inner: Clock) -> None:
        self._device = device
        self._inner = inner

    def now(self) -> float:
        return self._inner.now()

    def sleep(self, seconds: float) -> None:
        if self._device._off.wait(seconds):
            raise self._device._ended("a wait was ended")


def _asked(device: Device) -> Outputs:
    """What the device says to an abort. A driver that breaks its promise is no reason to stop."""
    try:
        return device.abort()
    except DeviceError as error:
        return Outputs(False, str(error))
    except Exception as error:
        return Outputs(False, f"its driver failed ({type(error).__name__}: {error})")
