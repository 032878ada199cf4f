"""Arrays of a transaction as bytes: exact, compact, and fast to write.

A body is one zstd frame (level 1) around named arrays, each in the coding that is smallest
for what closed loops send: cells are ranges, bitmaps or steps; voltages and readings are
codes on a grid, or codes of a short list; whatever fits none of these is stored as it is.
A coding is taken only when it gives back every bit, NaN payloads and signed zeros included.
Multi-byte codes are stored low bytes first, then high bytes: the high ones compress well.
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

NAMES = (
    "cells", "volts", "gate_volts", "limit_amps", "siemens", "inputs", "sums", "low", "high",
    "ok", "sets", "resets", "reads", "values", "maybe", "done", "doubtful", "volt_seconds",
)  # fmt: skip
_DTYPES = ("u1", "<u2", "<u4", "<i4", "<i8", "<f4", "<f8", "?")
_DTYPE_OF = {np.dtype(t).newbyteorder("="): i for i, t in enumerate(_DTYPES)}
_BITS_OF: dict[int, np.dtype[Any]] = {4: np.dtype(np.int32), 8: np.dtype(np.int64)}
_RAW, _CONST, _RANGE, _BITS, _STEPS, _GRID, _LIST = range(7)
_HEAD = struct.Struct("<BBBBI")
_INF, _NAN = 0xFFFE, 0xFFFF
_BODY_VERSION = 1

Array = NDArray[Any]


class _Own(threading.local):
    """A compressor for each thread: one costs more to make than a small body to compress."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=1, write_checksum=False)


_own = _Own()


class CodecError(ValueError):
    """A body that this version did not write, or that was damaged."""


def encode(arrays: Mapping[str, Array], grids: Mapping[str, float] | None = None) -> bytes:
    """`arrays` by name (see NAMES) as one compressed body. `grids`: likely steps, by name."""
    parts = [bytes([_BODY_VERSION])]
    for name, values in arrays.items():
        array = np.asarray(values)
        array = np.asarray(array, dtype=_storable(array.dtype), order="C")
        coding, dtype, payload = _code(array.reshape(-1), grids.get(name, 0.0) if grids else 0.0)
        head = _HEAD.pack(NAMES.index(name), coding, dtype, array.ndim, len(payload))
        parts += [head, struct.pack(f"<{array.ndim}I", *array.shape), payload]
    return _own.compressor.compress(b"".join(parts))


def decode(body: bytes, only: frozenset[str] | None = None) -> dict[str, Array]:
    """The arrays of a body by name, or `only` some of them. Raises `CodecError`."""
    try:
        data = zstandard.ZstdDecompressor().decompress(body)
        return dict(_parts(data, only))
    except (zstandard.ZstdError, struct.error, IndexError, ValueError) as error:
        raise CodecError(f"the arrays of this row cannot be decoded ({error})") from None


def _parts(data: bytes, only: frozenset[str] | None) -> list[tuple[str, Array]]:
    if data[0] != _BODY_VERSION:
        raise CodecError(f"body version {data[0]}, known is {_BODY_VERSION}")
    at, found = 1, []
    while at < len(data):
        name, coding, dtype, ndim, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        shape = struct.unpack_from(f"<{ndim}I", data, at)
        at += 4 * ndim
        if only is None or NAMES[name] in only:
            count = int(np.prod(shape, dtype=np.int64))
            array = _decoders[coding](data[at : at + size], np.dtype(_DTYPES[dtype]), count)
            found.append((NAMES[name], array.reshape(shape)))
        at += size
    return found


def _storable(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "b" or dtype in (np.float32, np.float64):
        return dtype
    return np.dtype(np.int64 if dtype.kind in "iu" else np.float64)


def _code(flat: Array, grid: float) -> tuple[int, int, bytes]:
    """(coding, index of the dtype, payload) of a flat array."""
    if flat.dtype.kind == "b":
        return _RAW, 7, np.packbits(flat, bitorder="little").tobytes()
    dtype = _DTYPE_OF[flat.dtype]
    if flat.size and _is_constant(flat):
        return _CONST, dtype, flat[:1].tobytes()
    coded = _code_integers(flat) if flat.dtype.kind == "i" else _code_floats(flat, grid)
    return (coded[0], dtype, coded[1]) if coded else (_RAW, dtype, _shuffled(flat))


def _is_constant(flat: Array) -> bool:
    bits = flat.view(_BITS_OF[flat.itemsize])
    return bool(bits[0] == bits[-1] and (bits == bits[0]).all())


# --------------------------------------------------------------------------- integers


def _code_integers(flat: Array) -> tuple[int, bytes] | None:
    if flat.size < 2:
        return None
    least, most = int(flat.min()), int(flat.max())
    if most - least >= 2**63:
        return None  # steps would wrap
    first, last = int(flat[0]), int(flat[-1])
    steps = flat[1:] - flat[:-1]
    low, high = int(steps.min()), int(steps.max())
    if low == high:
        return _RANGE, struct.pack("<qq", first, low)
    if low > 0 and last - first < 8 * flat.size:
        mask = np.zeros(last - first + 1, dtype=np.bool_)
        mask[flat - first] = True
        return _BITS, struct.pack("<q", first) + np.packbits(mask, bitorder="little").tobytes()
    listed = _width(least, most)
    stepped = _width(low, high)
    if stepped is not None and (listed is None or stepped < listed):
        narrow = steps.astype(_DTYPES[stepped])
        return _STEPS, struct.pack("<Bq", stepped, first) + _shuffled(narrow)
    if listed is not None:
        return _LIST, bytes([listed, 0]) + _shuffled(flat.astype(_DTYPES[listed]))
    return None


def _width(low: int, high: int) -> int | None:
    """Index of the narrowest unsigned dtype that holds low..high, None without one."""
    if low < 0:
        return None
    return next((i for i in range(3) if high < 256 ** (1 << i)), None)


def _decode_range(payload: bytes, dtype: np.dtype[Any], count: int) -> Array:
    first, step = struct.unpack("<qq", payload)
    return np.asarray(first + step * np.arange(count), dtype=dtype)


def _decode_bits(payload: bytes, dtype: np.dtype[Any], count: int) -> Array:
    (first,) = struct.unpack_from("<q", payload)
    bits = np.unpackbits(np.frombuffer(payload, np.uint8, offset=8), bitorder="little")
    return np.asarray(np.flatnonzero(bits) + first, dtype=dtype)


def _decode_steps(payload: bytes, dtype: np.dtype[Any], count: int) -> Array:
    width, first = struct.unpack_from("<Bq", payload)
    flat = np.empty(count, dtype=dtype)
    flat[0] = first
    flat[1:] = _unshuffled(payload[9:], np.dtype(_DTYPES[width]), count - 1)
    return np.cumsum(flat, out=flat)


# --------------------------------------------------------------------------- floats


def _code_floats(flat: Array, grid: float) -> tuple[int, bytes] | None:
    if flat.size < 2 or grid <= 0:
        return None
    with np.errstate(all="ignore"):
        scaled = np.rint(flat * flat.dtype.type(1 / grid))
        low, high = float(scaled.min()), float(scaled.max())
        finite = None
        if not (math.isfinite(low) and math.isfinite(high)):
            finite = np.isfinite(flat)
            scaled[~finite] = 0
            low, high = float(scaled.min()), float(scaled.max())
        if not (high - low < _INF):
            return None
        if low >= 0 and high < _INF:
            coded = _on_grid(flat, scaled, finite, high, grid)
            if coded:
                return coded
        return _short_list(flat, scaled, low) if finite is None else None


def _on_grid(
    flat: Array, scaled: Array, finite: Array | None, high: float, grid: float
) -> tuple[int, bytes] | None:
    """Codes of multiples of `grid`, the product rounded once or to the array's own width."""
    codes, plain = scaled.astype(np.uint16), finite is None
    if finite is not None:
        codes[~finite] = np.where(np.isnan(flat[~finite]), _NAN, _INF)
    for double in (1, 0) if flat.itemsize == 4 else (1,):
        if _same_bits(_from_grid(codes, grid, double, flat.dtype, plain), flat):
            narrow = plain and high < 256
            stored = codes.astype(np.uint8) if narrow else codes
            head = struct.pack("<BBBd", 0 if narrow else 1, double, plain, grid)
            return _GRID, head + _shuffled(stored)
    return None


def _from_grid(codes: Array, grid: float, double: int, dtype: np.dtype[Any], plain: bool) -> Array:
    wide = np.dtype(np.float64) if double else dtype
    values = (codes.astype(wide) * wide.type(grid)).astype(dtype, copy=False)
    if not plain:
        values[codes == _INF] = np.inf
        values[codes == _NAN] = np.nan
    return values


def _decode_grid(payload: bytes, dtype: np.dtype[Any], count: int) -> Array:
    width, double, plain, grid = struct.unpack_from("<BBBd", payload)
    codes = _unshuffled(payload[11:], np.dtype(_DTYPES[width]), count)
    return _from_grid(codes, grid, double, dtype, bool(plain))


def _short_list(flat: Array, scaled: Array, low: float) -> tuple[int, bytes] | None:
    """Values near a grid but not its multiples (0.1 + 0.05 n): one stored value a code."""
    codes = (scaled - low).astype(np.uint16)
    values = np.zeros(int(codes.max()) + 1, dtype=flat.dtype)
    values[codes] = flat
    if values.size > flat.size or not _same_bits(values[codes], flat):
        return None
    width = 0 if values.size <= 256 else 1
    head = bytes([width, 1]) + struct.pack("<I", values.size) + values.tobytes()
    return _LIST, head + _shuffled(codes.astype(_DTYPES[width]))


def _decode_list(payload: bytes, dtype: np.dtype[Any], count: int) -> Array:
    width, listed = payload[0], payload[1]
    if not listed:
        return _unshuffled(payload[2:], np.dtype(_DTYPES[width]), count).astype(dtype)
    (size,) = struct.unpack_from("<I", payload, 2)
    end = 6 + size * dtype.itemsize
    values = np.frombuffer(payload[6:end], dtype)
    return np.asarray(values[_unshuffled(payload[end:], np.dtype(_DTYPES[width]), count)])


def _same_bits(a: Array, b: Array) -> bool:
    return bool((a.view(_BITS_OF[a.itemsize]) == b.view(_BITS_OF[b.itemsize])).all())


# --------------------------------------------------------------------------- bytes


def _shuffled(flat: Array) -> bytes:
    if flat.itemsize == 1:
        return flat.tobytes()
    if flat.dtype == np.uint16:
        return flat.astype(np.uint8).tobytes() + (flat >> 8).astype(np.uint8).tobytes()
    return flat.view(np.uint8).reshape(-1, flat.itemsize).T.tobytes()


def _unshuffled(payload: bytes, dtype: np.dtype[Any], count: int) -> Array:
    planes = np.frombuffer(payload, np.uint8).reshape(dtype.itemsize, count)
    return np.ascontiguousarray(planes.T).reshape(-1).view(dtype)


def _decode_raw(payload: bytes, dtype: np.dtype[Any], count: int) -> Array:
    if dtype.kind == "b":
        bits = np.frombuffer(payload, np.uint8)
        return np.unpackbits(bits, count=count, bitorder="little").astype(np.bool_)
    return _unshuffled(payload, dtype, count)


def _decode_const(payload: bytes, dtype: np.dtype[Any], count: int) -> Array:
    return np.full(count, np.frombuffer(payload, dtype)[0], dtype=dtype)


_decoders = {
    _RAW: _decode_raw,
    _CONST: _decode_const,
    _RANGE: _decode_range,
    _BITS: _decode_bits,
    _STEPS: _decode_steps,
    _GRID: _decode_grid,
    _LIST: _decode_list,
}
