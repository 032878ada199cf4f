"""The board side of the protocol around any bare `Device`: frames in, frames out, no I/O.

What firmware has to do stands here in the shortest form; docs/board-protocol.md explains it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import numpy as np

from rramhil.device import Device, DeviceError, DeviceFault, Pulse, Refused

from . import requests, scales, wire
from .outputs import Supplies
from .requests import Program, ProgramReply, State
from .session import REMEMBERED as REMEMBERED
from .session import Session, nak
from .wire import ApplyReply, Frame, Garbled, Off, Status, Type, Verdict, Why

FIRMWARE = "rramhil virtual board"
WINDOW = 8

Steps = Generator[float, None, Frame]
"""Work on one request: yields until when (monotonic seconds) it is busy, returns the answer."""

_SLICE_SECONDS = 2e-3
_SHORT_SECONDS = 1e-3


class Stopped(Exception):
    """An ABORT, or the end of the lease, stopped what was under way."""


class Board:
    """A board around `device`, which it alone uses from now on.

    `spec` is what it announces; `counts` (kind, cell) the pulses that it sent, in the order
    of `scales.KINDS`. `follow_wall_clock`: a die on a virtual clock ages with the clock of
    the wall, as on a bench, and the board is busy for as long as the die is; without it, the
    die ages only by what is done to it. Raises `Refused` when the die does not fit the
    protocol.

    Whoever serves it gives it each frame as it arrives (`arrive`), lets it `work` on those
    that wait their turn, and calls `tick` when `supplies.until` has come.
    """

    def __init__(
        self,
        device: Device,
        *,
        serial: str = "",
        follow_wall_clock: bool = True,
        lease_ms: int = wire.LEASE_MS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device = device
        self._now = now
        plain = scales.announced(device.spec)
        self.spec = replace(plain, serial=serial or f"board-{device.spec.serial}")
        self.counts = np.zeros((len(scales.KINDS), self.spec.size), np.uint32)
        self.supplies = Supplies(now)
        self.aborts = 0
        self._lease_ms = lease_ms
        self._session: Session | None = None
        self._under_way: tuple[int, int] | None = None
        self._finished = 0
        self._stop = ""
        self._expect: Callable[[int], None] | None = getattr(device, "expect", None)
        self._expected = 0
        self._follow = follow_wall_clock
        self._ahead = device.clock.now() - now()
        self._known = self._known_types()

    @property
    def stopping(self) -> bool:
        """Whether what is under way is to end now."""
        return bool(self._stop)

    def answer(self, frame: Frame) -> Frame:
        """Do what `frame` asks, at once and to its end, and say what became of it.

        Never raises for what is in it.
        """
        urgent = self.arrive(frame)
        if urgent is not None:
            return urgent
        work = self.work(frame, self.aborts)
        while True:
            try:
                next(work)
            except StopIteration as end:
                answer: Frame = end.value
                return answer

    def arrive(self, frame: Frame) -> Frame | None:
        """A frame has come in: the answer to an urgent one; None: it is to wait for its turn."""
        self.tick()
        if frame.version != wire.VERSION and frame.type != Type.ABORT:
            return None
        if frame.type not in (Type.HELLO, Type.ABORT):
            self.supplies.renew()
        if frame.type == Type.ABORT:
            return _reply(frame, self._abort().pack())
        if frame.type == Type.STATUS:
            return _reply(frame, self._state().pack())
        return None

    def tick(self) -> None:
        """Outputs off, if the lease has run out."""
        if self.supplies.run_out() and self._under_way:
            self._stop = "the lease ran out"

    def work(self, frame: Frame, aborts: int) -> Steps:
        """Work on a frame whose turn has come; `aborts`: how many there were when it arrived."""
        if frame.version != wire.VERSION:
            mine = f"this board speaks version {wire.VERSION}, not {frame.version}"
            return nak(frame, Why.VERSION, mine)
        if aborts != self.aborts:
            return nak(frame, Why.HALTED, "an ABORT came while it waited; say HELLO")
        self._under_way, self._finished, self._stop = (frame.type, frame.seq), 0, ""
        try:
            return (yield from self._do(frame))
        except Garbled as error:
            return nak(frame, Why.LAYOUT, str(error))
        except Refused as error:
            return nak(frame, Why.REFUSED, str(error))
        except Stopped as error:
            return nak(frame, Why.HALTED, f"{error}; say HELLO")
        except DeviceError as error:
            return nak(frame, Why.FAULT, str(error))
        finally:
            self._under_way = None
            self.supplies.drive(False)

    def _do(self, frame: Frame) -> Steps:
        if frame.type == Type.HELLO:
            return self._hello(frame)
        if frame.type not in self._known:
            return nak(frame, Why.TYPE, f"this board knows no request of type {frame.type}")
        if self._session is None:
            return nak(frame, Why.SESSION, "no session since this board started; say HELLO")
        self._session.advance(frame.seq)
        self._let_time_pass()
        self._end_call(frame.type)
        if frame.type in wire.ONCE:
            return (yield from self._once(frame, self._session))
        if frame.type == Type.READ:
            return _reply(frame, (yield from self._read(frame.payload)))
        if frame.type == Type.PRODUCT:
            return _reply(frame, (yield from self._product(frame.payload)))
        if frame.type == Type.COUNT:
            return _reply(frame, self._count(frame.payload))
        if frame.type == Type.CALL:
            return _reply(frame, self._begin_call(frame.payload))
        return self._arm(frame, self._session)

    def _known_types(self) -> frozenset[int]:
        """What this board can do beyond HELLO."""
        known: dict[Type, bool] = {
            Type.READ: True,
            Type.APPLY: True,
            Type.COUNT: True,
            Type.ARM: True,
            Type.PRODUCT: self.spec.mvm is not None,
            Type.PROGRAM: self.spec.program is not None,
            Type.KNOB: bool(self.spec.knobs),
            Type.CALL: self._expect is not None,
            Type.TIME: not self._follow,
        }
        return frozenset(kind for kind, does in known.items() if does)

    def _hello(self, frame: Frame) -> Frame:
        number = wire.Hello.unpack(frame.payload).session
        if self._session is None or self._session.number != number:
            if self.supplies.armed:
                return nak(frame, Why.BUSY, "its lease is held by another session")
            self._session = Session(number, frame.seq)
            self.supplies.off(Off.HELLO)
            self.supplies.expired = 0
        flags = scales.NEWBORN if self.spec.newborn and not self.counts.any() else 0
        flags |= scales.JOINS if self._expect is not None else 0
        flags |= 0 if self._follow else scales.OWN_CLOCK
        fields = scales.pack_spec(self.spec, FIRMWARE)
        reply = wire.HelloReply(
            number, wire.MINOR, WINDOW, wire.MAX_CELLS, fields, flags, lease_ms=self._lease_ms
        )
        return _reply(frame, reply.pack())

    # ------------------------------------------------------------------ outputs

    def _arm(self, frame: Frame, session: Session) -> Frame:
        asked = requests.Arm.unpack(frame.payload)
        if asked.session != session.number:
            return _other_session(frame)
        if session.halted:
            return _halted(frame, session)
        if asked.milliseconds > self._lease_ms:
            raise Refused(f"a lease of {asked.milliseconds} ms; at most {self._lease_ms} ms here")
        if asked.milliseconds:
            self.supplies.arm(asked.milliseconds / 1e3)
        else:
            self.supplies.off(Off.HOST)
        self._under_way = None
        return _reply(frame, self._state().pack())

    def _abort(self) -> State:
        self.supplies.off(Off.ABORT)
        self.aborts += 1
        if self._session is not None:
            self._session.halted = self._session.halted or "an ABORT"
        if self._under_way:
            self._stop = "an ABORT stopped it"
        return self._state()

    def _state(self) -> State:
        supplies, session = self.supplies, self._session
        kind, seq = self._under_way or (0, 0)
        return State(
            outputs=supplies.outputs,
            why=supplies.why,
            since_ms=supplies.since_ms(),
            lease_ms=supplies.left_ms(),
            expired=supplies.expired,
            session=session.number if session else 0,
            newest=session.newest if session else 0,
            type=kind,
            seq=seq,
            cells=self._finished if self._under_way else 0,
        )

    # ------------------------------------------------------------------ what changes nothing

    def _read(self, payload: bytes) -> Generator[float, None, bytes]:
        cells = self.spec.check_cells(wire.unpack_cells(payload))
        siemens = self._device.read(cells)
        yield from self._busy()
        return wire.pack_read_reply(scales.read_codes(siemens, self.spec.reading.lsb))

    def _product(self, payload: bytes) -> Generator[float, None, bytes]:
        limits = self.spec.mvm
        assert limits is not None  # the type is not known otherwise
        asked = requests.Product.unpack(payload, self.spec.rows, limits.input_bits)
        sums = self._device.mvm(asked.tile, asked.inputs)
        yield from self._busy()
        try:
            return wire.pack_bits(sums, scales.product_sum_bits(limits, self.spec.rows))
        except ValueError as error:
            raise DeviceFault(f"sums beyond what its converter can give: {error}") from None

    def _count(self, payload: bytes) -> bytes:
        kind, cells = wire.unpack_count(payload)
        scales.kind_of(kind)
        counts = self.counts[kind, self.spec.check_cells(cells)]
        return wire.pack_count_reply(counts.astype(np.int64))

    # ------------------------------------------------------------------ what is done once

    def _once(self, frame: Frame, session: Session) -> Steps:
        unpack = {
            Type.APPLY: wire.Apply.unpack,
            Type.PROGRAM: Program.unpack,
            Type.KNOB: requests.Knob.unpack,
            Type.TIME: requests.Time.unpack,
        }[Type(frame.type)]
        asked: Any = unpack(frame.payload)
        if asked.session != session.number:
            return _other_session(frame)
        known = session.result(frame)
        if known is not None:
            return known
        if session.halted:
            return _halted(frame, session)
        if frame.type in wire.CHANGES_CELLS and not self.supplies.armed:
            # Remembered: a copy that comes when the board is armed again must not be executed.
            answer = nak(frame, Why.UNARMED, "its lease ran out, or it was never armed; ARM first")
        else:
            try:
                answer = _reply(frame, (yield from self._execute(asked, session)))
            except Refused as error:
                answer = nak(frame, Why.REFUSED, str(error))
        session.remember(frame, answer)
        return answer

    def _execute(self, asked: Any, session: Session) -> Generator[float, None, bytes]:
        if isinstance(asked, wire.Apply):
            return (yield from self._apply(asked, session)).pack()
        if isinstance(asked, Program):
            return (yield from self._program(asked, session)).pack()
        if isinstance(asked, requests.Knob):
            return self._knob(asked)
        return self._time(asked)

    def _apply(self, apply: wire.Apply, session: Session) -> Generator[float, None, ApplyReply]:
        pulse = scales.unpack_pulse(apply, self.spec)
        statuses = np.full(len(pulse), Status.UNTOUCHED)
        parts = self._slices(pulse)
        if len(parts) > 1:
            self.spec.check_pulse(pulse)  # as the device does with a pulse that it gets whole
        for part in parts:
            some = pulse.take(part) if len(parts) > 1 else pulse
            self.supplies.drive(True)
            try:
                self._device.apply(some)
            except DeviceError as error:
                if isinstance(error, Refused) and part.start == 0:
                    raise
                statuses[part][np.isin(some.cells, error.maybe)] = Status.UNKNOWN
                return self._failed(session, str(error), statuses)
            self.counts[apply.kind, some.cells] += 1
            statuses[part] = Status.UNKNOWN
            try:
                yield from self._busy()
            except Stopped as stopped:
                return self._failed(session, str(stopped), statuses)
            statuses[part] = Status.PULSED
            self._finished = part.stop
        return ApplyReply(len(pulse))

    def _failed(self, session: Session, why: str, statuses: np.ndarray) -> ApplyReply:
        self._halt(session, why)
        return ApplyReply(len(statuses), tuple(statuses.tolist()), why)

    def _halt(self, session: Session, why: str) -> None:
        session.halted = session.halted or why
        if self.supplies.armed:
            self.supplies.off(Off.FAULT)

    def _slices(self, pulse: Pulse) -> list[slice]:
        """Parts of a pulse that take about two milliseconds each, for an ABORT in between."""
        count = len(pulse)
        step = count
        if self._follow and count:
            at_once = self.spec.pulses[pulse.kind].cells_at_once
            step = max(int(_SLICE_SECONDS / pulse.seconds), 1) * at_once
        return [slice(i, min(i + step, count)) for i in range(0, count, step)]

    def _program(self, task: Program, session: Session) -> Generator[float, None, ProgramReply]:
        limits, lsb = self.spec.program, self.spec.reading.lsb
        assert limits is not None  # the type is not known otherwise
        cells = self.spec.check_cells(task.cells)
        if (task.low > task.high).any():
            raise Refused("a window upside down")
        count = len(cells)
        # A quarter step wider: a float32 reading at the edge is not exactly its code times lsb.
        low, high = (task.low - 0.25) * lsb, (task.high + 0.25) * lsb
        verdicts = np.full(count, Verdict.UNTOUCHED)
        codes = np.full(count, wire.READ_NOTHING)
        numbers = np.zeros((3, count), np.int64)
        step = limits.cells_at_once if self._follow else count
        why = ""
        for part in (slice(i, i + step) for i in range(0, count, step)):
            self.supplies.drive(True)
            try:
                done = self._device.program(cells[part], low[part], high[part])
            except DeviceError as error:
                if isinstance(error, Refused) and part.start == 0:
                    raise
                verdicts[part][np.isin(cells[part], error.maybe)] = Verdict.UNKNOWN
                why = str(error)
                break
            self._count_program(cells[part], done.sets, done.resets)
            codes[part] = scales.read_codes(done.siemens, lsb)
            numbers[:, part] = done.sets, done.resets, done.reads
            verdicts[part] = Verdict.UNKNOWN
            try:
                yield from self._busy()
            except Stopped as stopped:
                why = str(stopped)
                break
            verdicts[part] = np.where(done.ok, Verdict.ARRIVED, Verdict.GAVE_UP)
            self._finished = min(part.stop, count)
        if why:
            self._halt(session, why)
        sets, resets, reads = numbers
        return ProgramReply(verdicts, codes, sets, resets, reads, bool(why), why)

    def _count_program(self, cells: Any, sets: Any, resets: Any) -> None:
        self.counts[0, cells] += np.asarray(sets, np.uint32)
        self.counts[1, cells] += np.asarray(resets, np.uint32)

    def _knob(self, asked: requests.Knob) -> bytes:
        names = list(self.spec.knobs)
        if asked.knob >= len(names):
            raise Refused(f"there is no knob {asked.knob}; this board has {len(names)}")
        name = names[asked.knob]
        limits = self.spec.knobs[name]
        if len(asked.values) != limits.size:
            raise Refused(f"knob {name} takes {limits.size} values, not {len(asked.values)}")
        values = asked.values * limits.range.step
        scales.knob_codes(name, values, self.spec)
        self._device.adjust(name, values)
        return b""

    # ------------------------------------------------------------------ time

    def _time(self, asked: requests.Time) -> bytes:
        if asked.wait_ns:
            self._device.clock.sleep(asked.wait_ns / 1e9)
        return requests.pack_time_reply(round(self._device.clock.now() * 1e9))

    def _begin_call(self, payload: bytes) -> bytes:
        call = requests.Call.unpack(payload)
        if self._expect is not None and (not self._follow or call.type == Type.PRODUCT):
            self._expect(call.count)
            self._expected = call.type
        return b""

    def _end_call(self, kind: int) -> None:
        """A request of another type ends a call that was announced and never finished.

        ARM does not: a call whose lease ran out in between goes on after it.
        """
        if kind == Type.ARM:
            return
        if self._expected and kind != self._expected and self._expect is not None:
            self._expect(0)
            self._expected = 0

    def _let_time_pass(self) -> None:
        if self._follow:
            behind = self._now() + self._ahead - self._device.clock.now()
            if behind > 0:
                self._device.clock.sleep(behind)

    def _busy(self) -> Generator[float, None, None]:
        """Until the wall's clock is where the die's is. Raises `Stopped`."""
        until = self._device.clock.now() - self._ahead
        if self._follow and until - self._now() > _SHORT_SECONDS:
            yield until
        if self._stop:
            raise Stopped(self._stop)

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
        self._ahead = self._device.clock.now() - self._now()
        self.counts[:] = saved["counts"]
        self.spec = replace(self.spec, newborn=False)


def _reply(frame: Frame, payload: bytes) -> Frame:
    return Frame(frame.type | wire.REPLY, frame.seq, payload)


def _other_session(frame: Frame) -> Frame:
    return nak(frame, Why.SESSION, "another host opened a session since; say HELLO")


def _halted(frame: Frame, session: Session) -> Frame:
    return nak(frame, Why.HALTED, f"halted since a fault ({session.halted}); say HELLO")
