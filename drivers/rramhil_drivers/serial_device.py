"""The host side of the board protocol: a `Device` over a `Link`."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from rramhil.device import (
    NO_CELLS,
    Cells,
    Device,
    DeviceError,
    DeviceFault,
    Floats,
    Ints,
    Kind,
    LinkLost,
    Pulse,
    Refused,
    WallClock,
)

from . import scales, wire
from .link import Down, Link, Silent
from .wire import Frame, Nak, Status, Type, Why

Answer = TypeVar("Answer")

ATTEMPTS = 3
"""Times that a request which changes nothing is sent before the link is given up."""

_FATAL = frozenset({Why.VERSION, Why.SESSION, Why.STALE, Why.HALTED})


class SerialDevice(Device):
    """A chip on the board at `url`; `timeout` in seconds, over the time that pulses take.

    A read is asked again when no answer comes; a pulse never is: its cells are in `maybe`.
    After a timeout the link is not used any more (a late answer could be taken for that of
    another request): every call raises `Refused` until the device is opened again.
    """

    def __init__(self, url: str, baud: int, timeout: float) -> None:
        self.url = url
        self.clock = WallClock()
        self._timeout = timeout
        self._session = secrets.randbits(32)
        self._ended = ""
        try:
            self._link = Link(url, baud, timeout)
        except Down as error:
            raise Refused(
                f"cannot open {url} ({error}); check the port, and who else uses it"
            ) from None
        try:
            self._greet(baud)
        except BaseException:
            self._link.close()
            raise

    def _greet(self, baud: int) -> None:
        try:
            frame = self._repeat(Type.HELLO, wire.Hello(self._session).pack(), self._timeout)
            if frame.type == Type.NAK:
                said = Nak.unpack(frame.payload).message
                raise Refused(
                    f"the board at {self.url} refuses to talk ({said}); update the older of the two"
                )
            if frame.version != wire.VERSION:
                raise Refused(
                    f"the board at {self.url} speaks protocol version {frame.version}, this "
                    f"driver {wire.VERSION}; update the older of the two"
                )
            reply = wire.HelloReply.unpack(frame.payload)
            if reply.session != self._session or not 1 <= reply.cells <= wire.MAX_CELLS:
                raise wire.Garbled("it answers another HELLO")
            self.spec, self.firmware = scales.unpack_spec(reply)
            self._cells_per_frame = reply.cells
        except (Down, Silent) as error:
            raise Refused(
                f"no board answers at {self.url} ({error}); check its power, the cable and "
                f"baud={baud}"
            ) from None
        except wire.Garbled as error:
            raise Refused(
                f"the board at {self.url} answers HELLO with nonsense ({error}); check its firmware"
            ) from None

    # ------------------------------------------------------------------ requests

    def read(self, cells: ArrayLike) -> Floats:
        flat = self.spec.check_cells(cells)
        self._check_open()
        codes = np.empty(flat.size, np.int64)
        reading = self.spec.reading
        for part in self._parts(flat.size):
            some = flat[part]
            groups = math.ceil(some.size / reading.cells_at_once)
            payload = self._ask(Type.READ, wire.pack_cells(some), groups * reading.seconds)
            codes[part] = self._trust(wire.unpack_read_reply, payload, some.size)
        return scales.siemens(codes, reading.lsb)

    def counts(self, kind: Kind, cells: ArrayLike) -> Ints:
        """Pulses of `kind` that the board has sent to each of `cells`, by its own count."""
        flat = self.spec.check_cells(cells)
        counts = np.empty(flat.size, np.int64)
        for part in self._parts(flat.size):
            question = wire.pack_count(scales.KINDS.index(kind), flat[part])
            payload = self._ask(Type.COUNT, question, 0.0)
            counts[part] = self._trust(wire.unpack_count_reply, payload, flat[part].size)
        return counts

    def apply(self, pulse: Pulse) -> None:
        self.spec.check_pulse(pulse)
        self._check_open()
        for part in self._parts(len(pulse)):
            self._apply_frame(pulse.take(part), pulse.cells[: part.start])

    def close(self) -> None:
        self._ended = self._ended or "it is closed"
        self._link.close()

    def _parts(self, count: int) -> Iterator[slice]:
        step = self._cells_per_frame
        return (slice(i, min(i + step, count)) for i in range(0, count, step))

    def _apply_frame(self, pulse: Pulse, before: Cells) -> None:
        """Send one frame of an apply, once. `before`: cells of its frames that were pulsed."""
        payload = scales.pack_pulse(pulse, self.spec, self._session).pack()
        seconds = self._timeout + len(pulse) * pulse.seconds
        possibly = np.concatenate([before, pulse.cells])
        try:
            frame = self._link.request(Type.APPLY, payload, seconds)
        except (Silent, Down) as error:
            raise self._lost(error, possibly) from None
        if frame.type == Type.NAK:
            refusal = self._refusal(frame)
            if not before.size:
                raise refusal
            raise DeviceFault(f"{refusal}; {before.size} cells had been pulsed before", before)
        reply = self._trust(wire.ApplyReply.unpack, frame.payload, maybe=possibly)
        if reply.count != len(pulse):
            raise self._nonsense(f"it speaks of {reply.count} cells, not {len(pulse)}", possibly)
        if reply.statuses:
            touched = pulse.cells[np.array(reply.statuses) != Status.UNTOUCHED]
            self._ended = f"the board reported a fault: {reply.message}"
            raise DeviceFault(
                f"the board at {self.url} failed during a {pulse.kind.name}: {reply.message}",
                np.concatenate([before, touched]),
            )

    def _ask(self, kind: Type, payload: bytes, device_seconds: float) -> bytes:
        """The answer to a request that changes nothing."""
        self._check_open()
        try:
            frame = self._repeat(kind, payload, self._timeout + device_seconds)
        except (Silent, Down) as error:
            raise self._lost(error, NO_CELLS) from None
        if frame.type == Type.NAK:
            raise self._refusal(frame)
        return frame.payload

    def _repeat(self, kind: Type, payload: bytes, seconds: float) -> Frame:
        for _ in range(ATTEMPTS - 1):
            try:
                return self._link.request(kind, payload, seconds)
            except Silent:
                continue
        return self._link.request(kind, payload, seconds)

    # ------------------------------------------------------------------ failures

    def _check_open(self) -> None:
        if self._ended:
            raise Refused(
                f"the link to {self.url} cannot be used any more ({self._ended}); "
                "open the device again"
            )

    def _lost(self, error: Exception, maybe: Cells) -> LinkLost:
        self._ended = self._ended or str(error)
        return LinkLost(
            f"the link to {self.url} is lost: {error}; open the device again and read the "
            "cells in doubt",
            maybe,
        )

    def _nonsense(self, what: str, maybe: Cells) -> DeviceFault:
        self._ended = what
        return DeviceFault(
            f"the board at {self.url} answers nonsense ({what}); check its firmware", maybe
        )

    def _refusal(self, frame: Frame) -> DeviceError:
        """What a NAK means: nothing of its request was done."""
        try:
            nak = Nak.unpack(frame.payload)
        except wire.Garbled as error:
            return self._nonsense(str(error), NO_CELLS)
        if nak.why in _FATAL:
            self._ended = nak.message
        if nak.why == Why.FAULT:
            return DeviceFault(f"the board at {self.url} failed: {nak.message}")
        return Refused(f"the board at {self.url} refused: {nak.message}")

    def _trust(
        self, unpack: Callable[..., Answer], payload: bytes, *count: int, maybe: Cells = NO_CELLS
    ) -> Answer:
        try:
            return unpack(payload, *count)
        except wire.Garbled as error:
            raise self._nonsense(str(error), maybe) from None
