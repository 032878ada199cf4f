"""The board side of the protocol around any bare `Device`: frames in, frames out, no I/O.

What firmware has to do stands here in the shortest form; docs/board-protocol.md explains it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from rramhil.device import Device, DeviceError, Refused

from . import scales, wire
from .wire import Frame, Garbled, Nak, Status, Type, Why

FIRMWARE = "rramhil virtual board"
MINOR = 0
WINDOW = 1
REMEMBERED = 64
"""Sequence numbers whose results are kept: a window as against replay in IPsec (RFC 4303)."""

_SEQUENCE = 2**16


@dataclass(frozen=True, slots=True)
class _Result:
    seq: int
    payload: bytes
    answer: Frame


class _Session:
    """The results of the newest requests that change cells, by sequence number."""

    def __init__(self, number: int, seq: int) -> None:
        self.number = number
        self.halted = ""
        self._newest = seq
        self._results: list[_Result | None] = [None] * REMEMBERED

    def advance(self, seq: int) -> None:
        """Note `seq`; a number newer than any before frees the places of those it passes."""
        ahead = (seq - self._newest) % _SEQUENCE
        if 0 < ahead < _SEQUENCE // 2:
            for passed in range(min(ahead, REMEMBERED)):
                self._results[(seq - passed) % REMEMBERED] = None
            self._newest = seq

    def result(self, frame: Frame) -> Frame | None:
        """The answer that `frame` had before, a NAK if it is too old, None if it is new."""
        if (self._newest - frame.seq) % _SEQUENCE >= REMEMBERED:
            return nak(frame, Why.STALE, f"request {frame.seq} is too old to be known")
        known = self._results[frame.seq % REMEMBERED]
        if known is None:
            return None
        if known.payload != frame.payload:
            return nak(frame, Why.STALE, f"number {frame.seq} was given to another request")
        return known.answer

    def remember(self, frame: Frame, answer: Frame) -> None:
        """Keep `answer`: the same request gets it again, and is not executed again."""
        self._results[frame.seq % REMEMBERED] = _Result(frame.seq, frame.payload, answer)


def nak(frame: Frame, why: Why, message: str) -> Frame:
    """The answer to a request of which nothing was done."""
    return Frame(Type.NAK, frame.seq, Nak(why, message).pack())


class Board:
    """A board around `device`, which it alone uses from now on.

    `spec` is what it announces; `counts` (kind, cell) the pulses that it sent, in the order
    of `scales.KINDS`. `follow_wall_clock`: a die on a virtual clock ages with the clock of
    the wall, as on a bench; without it, only by what is done to it. Raises `Refused` when
    the die does not fit the protocol.
    """

    def __init__(self, device: Device, *, serial: str = "", follow_wall_clock: bool = True) -> None:
        self._device = device
        plain = scales.announced(device.spec)
        self.spec = replace(plain, serial=serial or f"board-{device.spec.serial}")
        self.counts = np.zeros((len(scales.KINDS), self.spec.size), np.uint32)
        self._fields = scales.pack_spec(self.spec, FIRMWARE)
        self._session: _Session | None = None
        self._follow = follow_wall_clock
        self._ahead = device.clock.now() - time.monotonic()

    def answer(self, frame: Frame) -> Frame:
        """Do what `frame` asks and say what became of it. Never raises for what is in it."""
        if frame.version != wire.VERSION:
            mine = f"this board speaks version {wire.VERSION}, not {frame.version}"
            return nak(frame, Why.VERSION, mine)
        try:
            return self._do(frame)
        except Garbled as error:
            return nak(frame, Why.LAYOUT, str(error))
        except Refused as error:
            return nak(frame, Why.REFUSED, str(error))
        except DeviceError as error:
            return nak(frame, Why.FAULT, str(error))

    def _do(self, frame: Frame) -> Frame:
        if frame.type == Type.HELLO:
            return self._hello(frame)
        if frame.type not in (Type.READ, Type.APPLY, Type.COUNT):
            return nak(frame, Why.TYPE, f"this board knows no request of type {frame.type}")
        if self._session is None:
            return nak(frame, Why.SESSION, "no session since this board started; say HELLO")
        self._session.advance(frame.seq)
        self._let_time_pass()
        if frame.type == Type.READ:
            return _reply(frame, self._read(frame.payload))
        if frame.type == Type.COUNT:
            return _reply(frame, self._count(frame.payload))
        return self._apply_once(frame, self._session)

    def _hello(self, frame: Frame) -> Frame:
        number = wire.Hello.unpack(frame.payload).session
        if self._session is None or self._session.number != number:
            self._session = _Session(number, frame.seq)
        flags = scales.NEWBORN if self.spec.newborn and not self.counts.any() else 0
        reply = wire.HelloReply(number, MINOR, WINDOW, wire.MAX_CELLS, self._fields, flags)
        return _reply(frame, reply.pack())

    def _read(self, payload: bytes) -> bytes:
        cells = self.spec.check_cells(wire.unpack_cells(payload))
        siemens = self._device.read(cells)
        return wire.pack_read_reply(scales.read_codes(siemens, self.spec.reading.lsb))

    def _count(self, payload: bytes) -> bytes:
        kind, cells = wire.unpack_count(payload)
        scales.kind_of(kind)
        counts = self.counts[kind, self.spec.check_cells(cells)]
        return wire.pack_count_reply(counts.astype(np.int64))

    def _apply_once(self, frame: Frame, session: _Session) -> Frame:
        apply = wire.Apply.unpack(frame.payload)
        if apply.session != session.number:
            return nak(frame, Why.SESSION, "another host opened a session since; say HELLO")
        known = session.result(frame)
        if known is not None:
            return known
        if session.halted:
            return nak(frame, Why.HALTED, f"halted since a fault ({session.halted}); say HELLO")
        try:
            answer = _reply(frame, self._apply(apply, session).pack())
        except Refused as error:
            answer = nak(frame, Why.REFUSED, str(error))
        session.remember(frame, answer)
        return answer

    def _apply(self, apply: wire.Apply, session: _Session) -> wire.ApplyReply:
        pulse = scales.unpack_pulse(apply, self.spec)
        self.spec.check_pulse(pulse)
        try:
            self._device.apply(pulse)
        except Refused:
            raise
        except DeviceError as error:
            session.halted = str(error)
            doubtful = np.isin(pulse.cells, error.maybe)
            statuses = np.where(doubtful, Status.UNKNOWN, Status.UNTOUCHED)
            return wire.ApplyReply(len(pulse), tuple(statuses.tolist()), str(error))
        self.counts[apply.kind, pulse.cells] += 1
        return wire.ApplyReply(len(pulse))

    def _let_time_pass(self) -> None:
        if self._follow:
            behind = time.monotonic() + self._ahead - self._device.clock.now()
            if behind > 0:
                self._device.clock.sleep(behind)

    # ---------------------------------------------------------------------- state

    def freeze(self) -> dict[str, np.ndarray]:
        """The die and its counts, as arrays. Raises `Refused` if the die keeps its own state."""
        state = np.frombuffer(self._device.freeze(), np.uint8)
        return {"serial": np.array(self.spec.serial), "state": state, "counts": self.counts}

    def thaw(self, saved: dict[str, np.ndarray]) -> None:
        """Take on what `freeze` gave. Raises `Refused` when it is of another die."""
        if str(saved["serial"]) != self.spec.serial or saved["counts"].shape != self.counts.shape:
            raise Refused(f"this is the state of {saved['serial']}, not of {self.spec.serial}")
        self._device.thaw(saved["state"].tobytes())
        self._ahead = self._device.clock.now() - time.monotonic()
        self.counts[:] = saved["counts"]
        self.spec = replace(self.spec, newborn=False)


def _reply(frame: Frame, payload: bytes) -> Frame:
    return Frame(frame.type | wire.REPLY, frame.seq, payload)
