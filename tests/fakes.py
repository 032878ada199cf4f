"""A deterministic array without physics, for tests of what stands around a device.

SET adds, RESET subtracts a fixed conductance; noise comes from a seed. It counts its own
pulses like silicon does, and breaks in the ways that a test asks for.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from rramhil.device import (
    Clock,
    Device,
    Floats,
    Ints,
    Kind,
    LinkLost,
    Pulse,
    PulseLimits,
    Range,
    ReadLimits,
    Refused,
    Spec,
)

LSB = 0.1e-6


class ManualClock(Clock):
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def fake_spec(**changes: object) -> Spec:
    pulse = PulseLimits(Range(0, 3, 0.01), Range(1e-7, 1e-5, 1e-8), Range(0, 4, 0.01))
    values: dict[str, object] = {
        "model": "fake-16",
        "serial": "fake-0",
        "tiles": 2,
        "rows": 16,
        "cols": 16,
        "reading": ReadLimits(0.5e-6, 200e-6, LSB, 0.2, 1e-6, 1.2, 16),
        "pulses": MappingProxyType({Kind.SET: pulse, Kind.RESET: pulse}),
        "volatile": True,
        "newborn": True,
    }
    return Spec(**{**values, **changes})  # type: ignore[arg-type]


class FakeDie(Device):
    """`landing` may raise: it is called with each pulse after its checks, before it lands."""

    def __init__(
        self,
        spec: Spec | None = None,
        *,
        noise: float = 0.2e-6,
        seed: int = 0,
        landing: Callable[[Pulse], None] | None = None,
    ) -> None:
        self.spec = spec or fake_spec()
        self.clock = ManualClock()
        self.noise = noise
        self.rng = np.random.default_rng(seed)
        self.siemens = self.rng.uniform(5e-6, 60e-6, self.spec.size)
        self.counted = {kind: np.zeros(self.spec.size, np.int64) for kind in Kind}
        self.landing = landing
        self.closed = threading.Event()

    def read(self, cells: ArrayLike) -> Floats:
        self.check_open()
        flat = self.spec.check_cells(cells)
        self.clock.sleep(self.spec.reading.seconds * -(-flat.size // 16))
        noisy = self.siemens[flat] + self.noise * self.rng.standard_normal(flat.size)
        reading = self.spec.reading
        codes = np.round(noisy / reading.lsb) * reading.lsb
        codes = np.where(noisy < reading.lowest, 0.0, codes)
        return np.where(noisy > reading.highest, np.inf, codes).astype(np.float32)

    def apply(self, pulse: Pulse) -> None:
        self.check_open()
        self.spec.check_pulse(pulse)
        if self.landing is not None:
            self.landing(pulse)
        self.clock.sleep(pulse.seconds * len(pulse))
        sign = -1.0 if pulse.kind is Kind.RESET else 1.0
        self.siemens[pulse.cells] += sign * 5e-6 * pulse.volts
        np.clip(self.siemens, 1e-6, 150e-6, out=self.siemens)
        self.counted[pulse.kind][pulse.cells] += 1

    def pulses_counted(self, kind: Kind) -> Ints:
        return self.counted[kind]

    def freeze(self) -> bytes:
        if not self.spec.volatile:
            return super().freeze()
        blob = io.BytesIO()
        state = self.rng.bit_generator.state["state"]
        words = [state["state"] >> 64, state["state"] % 2**64, state["inc"] >> 64]
        words.append(state["inc"] % 2**64)
        np.savez(blob, siemens=self.siemens, now=self.clock.seconds, words=np.array(words, "u8"))
        return blob.getvalue()

    def thaw(self, state: bytes) -> None:
        saved = np.load(io.BytesIO(state))
        self.siemens = saved["siemens"].copy()
        self.clock.seconds = float(saved["now"])
        high, low, inc_high, inc_low = (int(word) for word in saved["words"])
        now = self.rng.bit_generator.state
        now["state"] = {"state": (high << 64) + low, "inc": (inc_high << 64) + inc_low}
        now["has_uint32"] = 0
        self.rng.bit_generator.state = now

    def close(self) -> None:
        self.closed.set()

    def check_open(self) -> None:
        if self.closed.is_set():
            raise Refused(f"{self.spec.serial} is closed; open it again")


class SlowDie(FakeDie):
    """A reading blocks until the device is closed, as on a link that went silent."""

    def read(self, cells: ArrayLike) -> Floats:
        siemens = super().read(cells)
        if self.closed.wait(0.002):
            raise LinkLost(f"{self.spec.serial} was closed while it was read")
        return siemens
