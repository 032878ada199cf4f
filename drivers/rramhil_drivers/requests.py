"""Messages beyond reading and pulsing: product, program, knob, lease, abort, status, time.

As in `wire`: integers only, and `unpack` raises `Garbled` for anything that is not exactly
the message.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import wire
from .wire import Codes, Garbled, Outputs, unpack_struct

_PRODUCT = struct.Struct("<IB")
_PROGRAM = struct.Struct("<IB")
_KNOB = struct.Struct("<IB")
_ARM = struct.Struct("<IH")
_CALL = struct.Struct("<BI")
_TIME = struct.Struct("<IQ")
_NOW = struct.Struct("<Q")
_STATE = struct.Struct("<BBIHHIHBHB")
_TASK = np.dtype([("cell", "<u4"), ("low", "<u2"), ("high", "<u2")])
_RESULT = np.dtype(
    [("verdict", "u1"), ("code", "<u2"), ("sets", "<u2"), ("resets", "<u2"), ("reads", "<u2")]
)
_TEXT_LIMIT = 200

MAX_KNOB_VALUES = (wire.MAX_PAYLOAD - _KNOB.size) // 2


# --------------------------------------------------------------------------- product


def vectors_per_frame(rows: int, input_bits: int, cols: int, sum_bits: int) -> int:
    """Input vectors whose PRODUCT, and whose answer, fit into one frame; 0: not even one."""
    asked = (wire.MAX_PAYLOAD - _PRODUCT.size) // wire.vector_bytes(rows, input_bits)
    answered = wire.MAX_PAYLOAD // wire.vector_bytes(cols, sum_bits)
    return min(asked, answered, 255)


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """The product of tile `tile` with `inputs`, (vectors, rows) unsigned codes."""

    tile: int
    inputs: Codes

    def pack(self, bits: int) -> bytes:
        return _PRODUCT.pack(self.tile, len(self.inputs)) + wire.pack_bits(self.inputs, bits)

    @classmethod
    def unpack(cls, data: bytes, rows: int, bits: int) -> Product:
        tile, count = unpack_struct(_PRODUCT, data, exact=False)
        inputs = wire.unpack_bits(data[_PRODUCT.size :], rows, bits)
        if len(inputs) != count:
            raise Garbled(f"{len(inputs)} input vectors where {count} belong")
        return cls(tile, inputs)


def unpack_product_reply(data: bytes, vectors: int, cols: int, bits: int) -> Codes:
    """Sums, (vectors, cols). Raises `Garbled`. `wire.pack_bits` is the inverse."""
    sums = wire.unpack_bits(data, cols, bits)
    if len(sums) != vectors:
        raise Garbled(f"{len(sums)} sums where {vectors} belong")
    return sums


# --------------------------------------------------------------------------- program


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Write-verify by the board: each cell until its reading is a code in `low`..`high`."""

    session: int
    cells: Codes
    low: Codes
    high: Codes

    def pack(self) -> bytes:
        records = np.empty(wire.check_count(len(self.cells)), _TASK)
        for name, codes in (("cell", self.cells), ("low", self.low), ("high", self.high)):
            records[name] = wire.narrow(codes, records.dtype[name])
        return _PROGRAM.pack(self.session, len(records)) + records.tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> Program:
        session, count = unpack_struct(_PROGRAM, data, exact=False)
        records = _records(data[_PROGRAM.size :], wire.check_count(count), _TASK)
        columns = (records[name].astype(np.int64) for name in ("cell", "low", "high"))
        return cls(session, *columns)


@dataclass(frozen=True, slots=True, eq=False)
class ProgramReply:
    """What became of each cell: `wire.Verdict`, last reading (a read code), pulses and reads.

    `failed`: the board broke off, as `message` says; the session is halted.
    """

    verdicts: Codes
    codes: Codes
    sets: Codes
    resets: Codes
    reads: Codes
    failed: bool = False
    message: str = ""

    def pack(self) -> bytes:
        records = np.empty(wire.check_count(len(self.verdicts)), _RESULT)
        columns = (self.verdicts, self.codes, self.sets, self.resets, self.reads)
        for name, codes in zip(_RESULT.names or (), columns, strict=True):
            records[name] = wire.narrow(codes, records.dtype[name])
        text = self.message.encode()[:_TEXT_LIMIT] if self.failed else b""
        return bytes((len(records), self.failed)) + records.tobytes() + text

    @classmethod
    def unpack(cls, data: bytes) -> ProgramReply:
        if len(data) < 2 or data[1] not in (0, 1):
            raise Garbled("not a PROGRAM reply")
        count, failed = wire.check_count(data[0]), bool(data[1])
        end = 2 + count * _RESULT.itemsize
        if len(data) < end or (len(data) > end and not failed):
            raise Garbled(f"{len(data)} bytes are no results of {count} cells")
        records = _records(data[2:end], count, _RESULT)
        if (records["verdict"] > max(wire.Verdict)).any():
            raise Garbled("a verdict that does not exist")
        verdicts, codes, sets, resets, reads = (
            records[name].astype(np.int64) for name in _RESULT.names or ()
        )
        text = data[end:].decode(errors="replace")
        return cls(verdicts, codes, sets, resets, reads, failed, text)


def _records(data: bytes, count: int, dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    if len(data) != count * dtype.itemsize:
        raise Garbled(f"{len(data)} bytes where {count * dtype.itemsize} belong")
    return np.frombuffer(data, dtype, count)


# --------------------------------------------------------------------------- the periphery


@dataclass(frozen=True, slots=True, eq=False)
class Knob:
    """Knob number `knob` of the HELLO reply is to have `values`: steps of its range, all of it."""

    session: int
    knob: int
    values: Codes

    def pack(self) -> bytes:
        return _KNOB.pack(self.session, self.knob) + wire.narrow(self.values, "<i2").tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> Knob:
        session, knob = unpack_struct(_KNOB, data, exact=False)
        if len(data) == _KNOB.size or len(data[_KNOB.size :]) % 2:
            raise Garbled(f"{len(data)} bytes are no KNOB")
        return cls(session, knob, np.frombuffer(data, "<i2", -1, _KNOB.size).astype(np.int64))


@dataclass(frozen=True, slots=True)
class Arm:
    """Lets pulses through for `milliseconds` after each right frame; 0: outputs off."""

    session: int
    milliseconds: int

    def pack(self) -> bytes:
        return _ARM.pack(self.session, self.milliseconds)

    @classmethod
    def unpack(cls, data: bytes) -> Arm:
        return cls(*unpack_struct(_ARM, data))


@dataclass(frozen=True, slots=True)
class State:
    """The answer to ARM, ABORT and STATUS.

    `why` (`wire.Off`) last put the outputs off; they are as they are since `since_ms`.
    `lease_ms` are left (0: not armed); the lease ran out `expired` times in this session.
    `session`, `newest`: the open session and its newest number. `type`, `seq`, `cells`: the
    request under way and how many of its cells are finished; in the answer to ABORT, the one
    that it stopped; type 0: none.
    """

    outputs: int
    why: int
    since_ms: int
    lease_ms: int
    expired: int
    session: int
    newest: int
    type: int
    seq: int
    cells: int

    def pack(self) -> bytes:
        return _STATE.pack(
            self.outputs, self.why, self.since_ms, self.lease_ms, self.expired, self.session,
            self.newest, self.type, self.seq, self.cells,
        )  # fmt: skip

    @classmethod
    def unpack(cls, data: bytes) -> State:
        state = cls(*unpack_struct(_STATE, data))
        if state.outputs > max(Outputs):
            raise Garbled(f"outputs in a state {state.outputs} that does not exist")
        return state


# --------------------------------------------------------------------------- simulated dies


@dataclass(frozen=True, slots=True)
class Call:
    """The frames of type `type` that follow are one call of `count` cells or vectors."""

    type: int
    count: int

    def pack(self) -> bytes:
        return _CALL.pack(self.type, self.count)

    @classmethod
    def unpack(cls, data: bytes) -> Call:
        return cls(*unpack_struct(_CALL, data))


@dataclass(frozen=True, slots=True)
class Time:
    """Lets `wait_ns` of the die's own time pass."""

    session: int
    wait_ns: int

    def pack(self) -> bytes:
        return _TIME.pack(self.session, self.wait_ns)

    @classmethod
    def unpack(cls, data: bytes) -> Time:
        return cls(*unpack_struct(_TIME, data))


def pack_time_reply(now_ns: int) -> bytes:
    """u64: nanoseconds of the die's own clock."""
    return _NOW.pack(now_ns)


def unpack_time_reply(data: bytes) -> int:
    """The inverse of `pack_time_reply`. Raises `Garbled`."""
    (now,) = unpack_struct(_NOW, data)
    return int(now)
