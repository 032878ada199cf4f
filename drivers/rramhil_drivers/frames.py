"""Frames: the bytes between host and board, whatever is in them. No input or output.

    frame    = COBS(u8 version | u8 type | u16 seq | payload | u32 crc32) 0x00
    reply    = the same seq, type of the request | 0x80, or NAK

All numbers are little endian. A frame that is not exactly right is dropped without an
answer: garbage is never executed, and the zero byte finds the next frame. Framing is that
of S. Cheshire and M. Baker, "Consistent overhead byte stuffing", IEEE/ACM Trans. Netw. 7(2),
1999; the checksum is the CRC-32 of IEEE 802.3 (zlib). docs/board-protocol.md says all of
this to a firmware author.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from cobs import cobs

VERSION = 2
MAX_FRAME = 1024
REPLY = 0x80

_HEAD = struct.Struct("<BBH")
_CRC = struct.Struct("<I")
_ENCODED_LIMIT = MAX_FRAME + MAX_FRAME // 254 + 1

MAX_PAYLOAD = MAX_FRAME - _HEAD.size - _CRC.size
"""Bytes of payload that a frame can hold."""


class Garbled(ValueError):
    """These bytes are not a frame, or its payload is not the message that its type says."""


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
