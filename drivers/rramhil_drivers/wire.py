"""What frames say: the messages of the board protocol, integers only, no input or output.

docs/board-protocol.md has each layout for a firmware author; `frames` has what is around
them, and what a code means in volts or siemens is in `scales`.

Versions. `VERSION`, in every frame, changes when something that was said before means another
thing: host and board of two versions part at HELLO. `MINOR` grows when types, HELLO fields or
reasons are added that the other side may ignore. `SCHEMA` is that of the HELLO fields: what
their integers mean.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .frames import MAX_FRAME as MAX_FRAME
from .frames import MAX_PAYLOAD as MAX_PAYLOAD
from .frames import REPLY as REPLY
from .frames import VERSION as VERSION
from .frames import Frame as Frame
from .frames import Garbled as Garbled
from .frames import Receiver as Receiver
from .frames import decode as decode
from .frames import encode as encode

MINOR = 0
SCHEMA = 1
MAX_CELLS = 64
LEASE_MS = 200
"""The lease that a board offers unless its hardware asks for another."""

READ_NOTHING = 0xFFFE
READ_ABOVE = 0xFFFF
HIGHEST_READ_CODE = 0xFFFD

Codes = NDArray[np.int64]


class Type(IntEnum):
    """What a frame asks."""

    HELLO = 1
    READ = 2
    APPLY = 3
    COUNT = 4
    PRODUCT = 5
    PROGRAM = 6
    KNOB = 7
    ARM = 8
    ABORT = 9
    STATUS = 10
    CALL = 11
    TIME = 12
    NAK = 0x7F


CHANGES_CELLS = frozenset({Type.APPLY, Type.PROGRAM})
"""Requests that pulse: they need the lease."""

ONCE = CHANGES_CELLS | {Type.KNOB, Type.TIME}
"""Requests that are executed at most once for each sequence number of a session."""

URGENT = frozenset({Type.ABORT, Type.STATUS})
"""Requests that are answered when they arrive, ahead of everything that waits. Their numbers
are counted apart, and do not move the memory of results."""


class Why(IntEnum):
    """Why a board answers NAK. Nothing of the request was done."""

    VERSION = 1
    TYPE = 2
    LAYOUT = 3
    REFUSED = 4
    SESSION = 5
    STALE = 6
    HALTED = 7
    FAULT = 8
    UNARMED = 9
    BUSY = 10


class Status(IntEnum):
    """What became of one cell of an APPLY."""

    PULSED = 0
    UNTOUCHED = 1
    UNKNOWN = 2


class Verdict(IntEnum):
    """What became of one cell of a PROGRAM."""

    ARRIVED = 0
    UNTOUCHED = 1
    UNKNOWN = 2
    GAVE_UP = 3


class Outputs(IntEnum):
    """The outputs of a board. ARMED: the pulse supplies are up, all lines at zero."""

    OFF = 0
    ARMED = 1
    DRIVEN = 2


class Off(IntEnum):
    """What last put the outputs off."""

    START = 0
    HOST = 1
    LEASE = 2
    ABORT = 3
    FAULT = 4
    HELLO = 5


# --------------------------------------------------------------------------- cells

_LIST, _RUN = 0, 1


def check_count(count: int) -> int:
    """`count`, if a frame may hold as many cells. Raises `Garbled`."""
    if not 1 <= count <= MAX_CELLS:
        raise Garbled(f"{count} cells in a frame; it holds 1 to {MAX_CELLS}")
    return count


def pack_cells(cells: Codes) -> bytes:
    """u8 count | u8 form | u32 each (form 0), or u32 first, u32 stride (form 1: a run)."""
    count = check_count(len(cells))
    if count > 2:
        strides = np.diff(cells)
        if strides[0] > 0 and bool(np.all(strides == strides[0])):
            return struct.pack("<BBII", count, _RUN, int(cells[0]), int(strides[0]))
    return struct.pack("<BB", count, _LIST) + narrow(cells, "<u4").tobytes()


def unpack_cells(data: bytes) -> Codes:
    """The inverse of `pack_cells`. Raises `Garbled`."""
    if len(data) < 2:
        raise Garbled("no cell count")
    count, form = check_count(data[0]), data[1]
    if form == _RUN and len(data) == 10:
        first, stride = struct.unpack_from("<II", data, 2)
        return np.asarray(first + stride * np.arange(count, dtype=np.int64))
    if form == _LIST:
        return _array(data, 2, "<u4", count)
    raise Garbled(f"{len(data)} bytes of cells in form {form}")


def _array(data: bytes, start: int, dtype: str, count: int) -> Codes:
    wide = np.dtype(dtype)
    if len(data) != start + count * wide.itemsize:
        raise Garbled(f"{len(data)} bytes where {start + count * wide.itemsize} belong")
    return np.frombuffer(data, wide, count, start).astype(np.int64)


def narrow(codes: Codes, dtype: str | np.dtype[Any]) -> NDArray[Any]:
    """`codes` as the wire's integers. Raises ValueError where one does not fit."""
    bounds = np.iinfo(dtype)
    if codes.size and (codes.min() < bounds.min or codes.max() > bounds.max):
        raise ValueError(f"{codes.min()} to {codes.max()} does not fit the wire's {bounds.dtype}")
    return codes.astype(dtype)


def unpack_struct(layout: struct.Struct, data: bytes, *, exact: bool = True) -> tuple[Any, ...]:
    """`layout` out of all of `data` (or its beginning). Raises `Garbled`."""
    if len(data) < layout.size or (exact and len(data) != layout.size):
        raise Garbled(f"{len(data)} bytes where {layout.size} belong")
    return layout.unpack_from(data)


# --------------------------------------------------------------------------- packed bits


def pack_bits(codes: Codes, bits: int) -> bytes:
    """Unsigned codes of `bits` bits each, (vectors, n): least significant bit first, without
    gaps within a vector; each vector begins with a byte of its own."""
    if codes.size and (codes.min() < 0 or codes.max() >= 1 << bits):
        raise ValueError(f"{codes.min()} to {codes.max()} does not fit {bits} bits")
    planes = (codes[:, :, None] >> np.arange(bits)) & 1
    flat = planes.astype(np.uint8).reshape(len(codes), -1)
    return np.packbits(flat, axis=1, bitorder="little").tobytes()


def unpack_bits(data: bytes, count: int, bits: int) -> Codes:
    """The inverse of `pack_bits`, int64 of shape (vectors, `count`). Raises `Garbled`."""
    size = vector_bytes(count, bits)
    if not data or len(data) % size:
        raise Garbled(f"{len(data)} bytes are no vectors of {size}")
    rows = np.frombuffer(data, np.uint8).reshape(-1, size)
    flat = np.unpackbits(rows, axis=1, count=count * bits, bitorder="little")
    planes = flat.reshape(len(rows), count, bits).astype(np.int64)
    return np.asarray(planes @ (1 << np.arange(bits, dtype=np.int64)))


def vector_bytes(count: int, bits: int) -> int:
    """Bytes of one vector of `count` codes of `bits` bits."""
    return (count * bits + 7) // 8


# --------------------------------------------------------------------------- messages

_HELLO = struct.Struct("<I")
_HELLO_REPLY = struct.Struct("<IBHBBBH")
_APPLY = struct.Struct("<IBBIB")
_GATE, _LIMIT = 1, 2


@dataclass(frozen=True, slots=True)
class Hello:
    """Opens session `session`, a number that the host draws; asking again changes nothing."""

    session: int

    def pack(self) -> bytes:
        return _HELLO.pack(self.session)

    @classmethod
    def unpack(cls, data: bytes) -> Hello:
        return cls(*unpack_struct(_HELLO, data))


@dataclass(frozen=True, slots=True)
class HelloReply:
    """Who answers: session, minor version, frames in flight, cells a frame, and tagged fields.

    `lease_ms`: how long an ARM holds after the last right frame. `schema`: that of `fields`.

    `fields` maps a tag (see `scales`) to its contents; a tag may stand more than once, and
    a host passes over those that it does not know: that is how minor versions grow.
    """

    session: int
    minor: int
    window: int
    cells: int
    fields: tuple[tuple[int, bytes], ...]
    flags: int = 0
    schema: int = SCHEMA
    lease_ms: int = LEASE_MS

    def pack(self) -> bytes:
        head = _HELLO_REPLY.pack(
            self.session, self.minor, self.schema, self.window, self.cells, self.flags,
            self.lease_ms,
        )  # fmt: skip
        return head + b"".join(struct.pack("<BH", t, len(v)) + v for t, v in self.fields)

    @classmethod
    def unpack(cls, data: bytes) -> HelloReply:
        session, minor, schema, window, cells, flags, lease = unpack_struct(
            _HELLO_REPLY, data, exact=False
        )
        fields, at = [], _HELLO_REPLY.size
        while at < len(data):
            tag, length = unpack_struct(struct.Struct("<BH"), data[at:], exact=False)
            at += 3
            if at + length > len(data):
                raise Garbled(f"field {tag} is cut off")
            fields.append((tag, data[at : at + length]))
            at += length
        return cls(session, minor, window, cells, tuple(fields), flags, schema, lease)


@dataclass(frozen=True, slots=True, eq=False)
class Apply:
    """One pulse on each of at most 64 cells: settings in steps of the board's scales.

    `gate` and `limit`: None where the hardware has no such terminal.
    """

    session: int
    kind: int
    width_ns: int
    cells: Codes
    volts: Codes
    gate: Codes | None = None
    limit: Codes | None = None

    def pack(self) -> bytes:
        columns = [("cell", self.cells), ("volts", self.volts)]
        columns += [("gate", self.gate)] if self.gate is not None else []
        columns += [("limit", self.limit)] if self.limit is not None else []
        flags = (self.gate is not None) * _GATE | (self.limit is not None) * _LIMIT
        records = np.empty(check_count(len(self.cells)), _record(flags))
        for name, codes in columns:
            records[name] = narrow(codes, records.dtype[name])
        head = _APPLY.pack(self.session, self.kind, flags, self.width_ns, len(records))
        return head + records.tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> Apply:
        session, kind, flags, width_ns, count = unpack_struct(_APPLY, data, exact=False)
        if flags & ~(_GATE | _LIMIT):
            raise Garbled(f"unknown flags {flags:#x} in APPLY")
        dtype = _record(flags)
        if len(data) != _APPLY.size + check_count(count) * dtype.itemsize:
            raise Garbled(f"{len(data)} bytes are no APPLY of {count} cells")
        records = np.frombuffer(data, dtype, count, _APPLY.size)
        columns = {name: records[name].astype(np.int64) for name in dtype.names or ()}
        cells, volts = columns["cell"], columns["volts"]
        return cls(session, kind, width_ns, cells, volts, columns.get("gate"), columns.get("limit"))


def _record(flags: int) -> np.dtype[Any]:
    names = ["volts"] + ["gate"] * bool(flags & _GATE) + ["limit"] * bool(flags & _LIMIT)
    return np.dtype([("cell", "<u4"), *((name, "<i2") for name in names)])


@dataclass(frozen=True, slots=True)
class ApplyReply:
    """`statuses`: one `Status` a cell when something failed; empty: all `count` were pulsed."""

    count: int
    statuses: tuple[int, ...] = ()
    message: str = ""

    def pack(self) -> bytes:
        text = self.message.encode()[:200]
        return bytes((self.count, bool(self.statuses), *self.statuses)) + text

    @classmethod
    def unpack(cls, data: bytes) -> ApplyReply:
        if len(data) < 2 or data[1] not in (0, 1) or len(data) < 2 + data[0] * data[1]:
            raise Garbled("not an APPLY reply")
        if data[1] == 0:
            return cls(data[0])
        text = data[2 + data[0] :].decode(errors="replace")
        return cls(data[0], tuple(data[2 : 2 + data[0]]), text)


def pack_read_reply(codes: Codes) -> bytes:
    """u16 a cell: multiples of the lsb, `READ_NOTHING`, or `READ_ABOVE`."""
    return narrow(codes, "<u2").tobytes()


def unpack_read_reply(data: bytes, count: int) -> Codes:
    """Codes of `count` cells. Raises `Garbled`."""
    return _array(data, 0, "<u2", count)


def pack_count(kind: int, cells: Codes) -> bytes:
    """Asks how many pulses of `kind` the board has sent to each of `cells`."""
    return bytes((kind,)) + pack_cells(cells)


def unpack_count(data: bytes) -> tuple[int, Codes]:
    """The inverse of `pack_count`. Raises `Garbled`."""
    if not data:
        raise Garbled("an empty COUNT")
    return data[0], unpack_cells(data[1:])


def pack_count_reply(counts: Codes) -> bytes:
    """u32 a cell."""
    return narrow(counts, "<u4").tobytes()


def unpack_count_reply(data: bytes, count: int) -> Codes:
    """Pulse counts of `count` cells. Raises `Garbled`."""
    return _array(data, 0, "<u4", count)


@dataclass(frozen=True, slots=True)
class Nak:
    """Nothing of the request was done: why, and a sentence for people.

    This layout, and the frame around it, hold for every version of the protocol.
    """

    why: int
    message: str

    def pack(self) -> bytes:
        return bytes((self.why,)) + self.message.encode()[:200]

    @classmethod
    def unpack(cls, data: bytes) -> Nak:
        if not data:
            raise Garbled("an empty NAK")
        return cls(data[0], data[1:].decode(errors="replace"))
