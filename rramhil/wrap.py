"""The one class that forwards a `Device` to another: wrappers override what they change."""

from __future__ import annotations

from numpy.typing import ArrayLike

from rramhil.device import Device, Floats, Ints, Outputs, Programmed, Pulse


class Wrapped(Device):
    """A device around a device, unchanged. Guard and journal are built on it."""

    def __init__(self, inner: Device) -> None:
        self.inner = inner
        self.spec = inner.spec
        self.clock = inner.clock

    def read(self, cells: ArrayLike) -> Floats:
        return self.inner.read(cells)

    def apply(self, pulse: Pulse) -> None:
        self.inner.apply(pulse)

    def mvm(self, tile: int, inputs: ArrayLike) -> Ints:
        return self.inner.mvm(tile, inputs)

    def program(self, cells: ArrayLike, low: ArrayLike, high: ArrayLike) -> Programmed:
        return self.inner.program(cells, low, high)

    def adjust(self, knob: str, values: ArrayLike) -> None:
        self.inner.adjust(knob, values)

    def freeze(self) -> bytes:
        return self.inner.freeze()

    def thaw(self, state: bytes) -> None:
        self.inner.thaw(state)

    def abort(self) -> Outputs:
        return self.inner.abort()

    def close(self) -> None:
        self.inner.close()
