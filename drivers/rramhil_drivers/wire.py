"""The bytes between host and board: frames and messages, integers only, no input or output.

    frame    = COBS(u8 version | u8 type | u16 seq | payload | u32 crc32) 0x00
    reply    = the same seq, type of the request | 0x80, or NAK

All numbers are little endian. A frame that is not exactly right is dropped without an
answer: garbage is never executed, and the zero byte finds the next frame. Framing is that
of S. Cheshire and M. Baker, "Consistent overhead byte stuffing", IEEE/ACM Trans. Netw. 7(2),
1999; the checksum is the CRC-32 of IEEE 802.3 (zlib). docs/board-protocol.md says all of
this to a firmware author; what a code means in volts or siemens is in `scales`.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from cobs import cobs
from numpy.typing import NDArray

VERSION = 1
MAX_FRAME = 1024
MAX_CELLS = 64
REPLY = 0x80

READ_NOTHING = 0xFFFE
READ_ABOVE = 0xFFFF
HIGHEST_READ_CODE = 0xFFFD

_HEAD = struct.Struct("<BBH")
_CRC = struct.Struct("<I")
_ENCODED_LIMIT = MAX_FRAME + MAX_FRAME // 254 + 1

Codes = NDArray[np.int64]


class Type(IntEnum):
    """What a frame asks. 5 to 9 are kept for product, program, knob, lease and abort."""

    HELLO = 1
    READ = 2
    APPLY = 3
    COUNT = 4
    NAK = 0x7F


CHANGES_CELLS = frozenset({Type.APPLY})
"""Requests that are executed at most once for each sequence number of a session."""


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


class Status(IntEnum):
    """What became of one cell of an APPLY."""

    PULSED = 0
    UNTOUCHED = 1
    UNKNOWN = 2


class Garbled(ValueError):
    """These bytes are not a frame, or its payload is not the message that its type says."""


# --------------------------------------------------------------------------- frames


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `type` is a plain integer: a type that is unknown here is answered, too."""

    type: int
    seq: int
    payload: bytes = b""
    version: int = VERSION


def encode(frame: Frame) -> bytes:
    """A frame as it goes over the line, its closing zero byte included."""
    body = _HEAD.pack(frame.version, frame.type, frame.seq) + frame.payload
    body += _CRC.pack(zlib.crc32(body))
    if len(body) > MAX_FRAME:
        raise ValueError(f"a frame of {len(body)} bytes is longer than {MAX_FRAME}")
    return bytes(cobs.encode(body)) + b"\0"


def decode(encoded: bytes) -> Frame:
    """The frame between two zero bytes. Raises `Garbled` unless every byte is right."""
    try:
        body = cobs.decode(encoded)
    except cobs.DecodeError as error:
        raise Garbled(f"not a COBS frame: {error}") from None
    if not _HEAD.size + _CRC.size <= len(body) <= MAX_FRAME:
        raise Garbled(f"a frame of {len(body)} bytes")
    if zlib.crc32(body[: -_CRC.size]) != _CRC.unpack_from(body, len(body) - _CRC.size)[0]:
        raise Garbled("the checksum is wrong")
    version, kind, seq = _HEAD.unpack_from(body)
    return Frame(kind, seq, bytes(body[_HEAD.size : -_CRC.size]), version)


class Receiver:
    """Frames out of a stream of bytes that arrives in pieces of any size.

    `dropped` counts what was no frame. Memory stays bounded on a line that never sends a
    zero byte: what is longer than a frame can be is thrown away up to the next one.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self._overlong = False
        self.dropped = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take in `data`; return the frames that it completes, in order."""
        frames = []
        *ended, rest = data.split(b"\0")
        for piece in ended:
            self._keep(piece)
            frame = self._take()
            if frame is not None:
                frames.append(frame)
        self._keep(rest)
        return frames

    def _keep(self, piece: bytes) -> None:
        self._pending += piece
        if len(self._pending) > _ENCODED_LIMIT:
            self._overlong = True
            self._pending.clear()

    def _take(self) -> Frame | None:
        encoded, overlong = bytes(self._pending), self._overlong
        self._pending.clear()
        self._overlong = False
        if not encoded and not overlong:
            return None
        try:
            if overlong:
                raise Garbled("no zero byte within the length of a frame")
            return decode(encoded)
        except Garbled:
            self.dropped += 1
            return None


# --------------------------------------------------------------------------- cells

_LIST, _RUN = 0, 1


def _check_count(count: int) -> int:
    if not 1 <= count <= MAX_CELLS:
        raise Garbled(f"{count} cells in a frame; it holds 1 to {MAX_CELLS}")
    return count


def pack_cells(cells: Codes) -> bytes:
    """u8 count | u8 form | u32 each (form 0), or u32 first, u32 stride (form 1: a run)."""
    count = _check_count(len(cells))
    if count > 2:
        strides = np.diff(cells)
        if strides[0] > 0 and bool(np.all(strides == strides[0])):
            return struct.pack("<BBII", count, _RUN, int(cells[0]), int(strides[0]))
    return struct.pack("<BB", count, _LIST) + _narrow(cells, "<u4").tobytes()


def unpack_cells(data: bytes) -> Codes:
    """The inverse of `pack_cells`. Raises `Garbled`."""
    if len(data) < 2:
        raise Garbled("no cell count")
    count, form = _check_count(data[0]), data[1]
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


def _narrow(codes: Codes, dtype: str | np.dtype[Any]) -> NDArray[Any]:
    bounds = np.iinfo(dtype)
    if codes.size and (codes.min() < bounds.min or codes.max() > bounds.max):
        raise ValueError(f"{codes.min()} to {codes.max()} does not fit the wire's {bounds.dtype}")
    return codes.astype(dtype)


def unpack_struct(layout: struct.Struct, data: bytes, *, exact: bool = True) -> tuple[Any, ...]:
    """`layout` out of all of `data` (or its beginning). Raises `Garbled`."""
    if len(data) < layout.size or (exact and len(data) != layout.size):
        raise Garbled(f"{len(data)} bytes where {layout.size} belong")
    return layout.unpack_from(data)


# --------------------------------------------------------------------------- messages

_HELLO = struct.Struct("<I")
_HELLO_REPLY = struct.Struct("<IBBBB")
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

    `fields` maps a tag (see `scales`) to its contents; a tag may stand more than once, and
    a host passes over those that it does not know: that is how minor versions grow.
    """

    session: int
    minor: int
    window: int
    cells: int
    fields: tuple[tuple[int, bytes], ...]
    flags: int = 0

    def pack(self) -> bytes:
        head = _HELLO_REPLY.pack(self.session, self.minor, self.window, self.cells, self.flags)
        return head + b"".join(struct.pack("<BH", t, len(v)) + v for t, v in self.fields)

    @classmethod
    def unpack(cls, data: bytes) -> HelloReply:
        session, minor, window, cells, flags = unpack_struct(_HELLO_REPLY, data, exact=False)
        fields, at = [], _HELLO_REPLY.size
        while at < len(data):
            tag, length = unpack_struct(struct.Struct("<BH"), data[at:], exact=False)
            at += 3
            if at + length > len(data):
                raise Garbled(f"field {tag} is cut off")
            fields.append((tag, data[at : at + length]))
            at += length
        return cls(session, minor, window, cells, tuple(fields), flags)


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
        records = np.empty(_check_count(len(self.cells)), _record(flags))
        for name, codes in columns:
            records[name] = _narrow(codes, records.dtype[name])
        head = _APPLY.pack(self.session, self.kind, flags, self.width_ns, len(records))
        return head + records.tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> Apply:
        session, kind, flags, width_ns, count = unpack_struct(_APPLY, data, exact=False)
        if flags & ~(_GATE | _LIMIT):
            raise Garbled(f"unknown flags {flags:#x} in APPLY")
        dtype = _record(flags)
        if len(data) != _APPLY.size + _check_count(count) * dtype.itemsize:
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
    return _narrow(codes, "<u2").tobytes()


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
    return _narrow(counts, "<u4").tobytes()


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
