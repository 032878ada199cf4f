"""Calls and answers on a stream socket between two processes of one user.

A message is the length of its head (four bytes, little-endian), the head as JSON, and the raw
bytes of its arrays, one after the other, as the head lists them. Arrays are read from the socket
straight into their memory. Nothing is pickled: what comes in is data, whoever wrote it.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rramhil.connected import Aborted
from rramhil.device import DeviceError, DeviceFault, LinkLost, Refused
from rramhil.ledger import LedgerError
from rramhil.ledger.specs import plain
from rramhil.schema import FileError

Array = NDArray[Any]
JOINED_BYTES = 1 << 16
MAX_HEAD_BYTES = 1 << 26
MAX_ARRAY_BYTES = 1 << 34
_LENGTH = struct.Struct("<I")
_PLAIN: dict[str, type[Exception]] = {
    "Refused": Refused,
    "LedgerError": LedgerError,
    "FileError": FileError,
    "ValueError": ValueError,
}
_POSSIBLY: dict[str, type[DeviceError]] = {
    "DeviceError": DeviceError,
    "LinkLost": LinkLost,
    "DeviceFault": DeviceFault,
    "Aborted": Aborted,
}


class Gone(Exception):
    """The other end of the socket does not exist any more, or does not speak this language."""


class InDeviceProcess(Exception):
    """The traceback of an error, as the device process printed it."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """What is asked or answered, JSON values that belong to it, and arrays of numbers."""

    what: str
    values: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    arrays: Mapping[str, Array] = field(default_factory=lambda: MappingProxyType({}))


def send(line: socket.socket, message: Message) -> None:
    """Send all of `message`. Raises `Gone`, and ValueError for arrays that hold no numbers."""
    ready = {name: _numbers(name, array) for name, array in message.arrays.items()}
    shapes = [(name, array.dtype.str, array.shape) for name, array in ready.items()]
    head = json.dumps([message.what, plain(message.values), shapes], separators=(",", ":")).encode()
    parts: list[bytes | memoryview] = [_LENGTH.pack(len(head)), head]
    parts += [_bytes(array) for array in ready.values()]
    try:
        if sum(len(part) for part in parts) <= JOINED_BYTES:
            line.sendall(b"".join(parts))
        else:
            for part in parts:
                line.sendall(part)
    except OSError as error:
        raise Gone(str(error)) from None


def receive(line: socket.socket) -> Message:
    """The next message. Raises `Gone`."""
    try:
        (size,) = _LENGTH.unpack(_exactly(line, bytearray(_LENGTH.size)))
        if size > MAX_HEAD_BYTES:
            raise Gone(f"a head of {size} bytes")
        what, values, shapes = json.loads(bytes(_exactly(line, bytearray(size))))
        arrays = {name: _array(line, dtype, shape) for name, dtype, shape in shapes}
    except (OSError, ValueError, TypeError) as error:
        raise Gone(str(error)) from None
    return Message(what, values, arrays)


def _numbers(name: str, values: Any) -> Array:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise ValueError(f"{name} must hold numbers, not {array.dtype}")
    return np.ascontiguousarray(array).reshape(array.shape)


def _bytes(array: Array) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8).data)


def _array(line: socket.socket, dtype: str, shape: list[int]) -> Array:
    kind = np.dtype(dtype)
    if kind.kind not in "biuf" or math.prod(shape) * kind.itemsize > MAX_ARRAY_BYTES:
        raise Gone(f"an array of {dtype} {shape}")
    array = np.empty(shape, kind)
    _exactly(line, _bytes(array))
    return array


def _exactly(line: socket.socket, buffer: bytearray | memoryview) -> bytearray | memoryview:
    view = memoryview(buffer)
    while view:
        count = line.recv_into(view)
        if not count:
            raise Gone("end of file")
        view = view[count:]
    return buffer


# --------------------------------------------------------------------------- errors


def failure(error: BaseException) -> Message:
    """`error` as an answer: its class where both ends know it, else the nearest that they do."""
    maybe = error.maybe if isinstance(error, DeviceError) else np.empty(0, np.int64)
    values: dict[str, Any] = {"message": str(error)}
    for known in type(error).__mro__:
        if known.__name__ in _PLAIN or known.__name__ in _POSSIBLY:
            return Message("error", {"class": known.__name__, **values}, {"maybe": maybe})
    if isinstance(error, OSError):
        values |= {"errno": error.errno, "file": str(error.filename or "")}
        values["message"] = error.strerror or str(error)
        return Message("error", {"class": "OSError", **values})
    values["message"] = (
        f"the driver failed ({type(error).__name__}: {error or 'no text'}); connect again, and "
        "report it to whoever wrote the driver"
    )
    values["traceback"] = "".join(traceback.format_exception(error))
    return Message("error", {"class": "DeviceFault", **values})


def failed(answer: Message) -> Exception:
    """The error that `failure` took apart."""
    name, message = answer.values["class"], answer.values["message"]
    error: Exception
    if name in _PLAIN:
        return _PLAIN[name](message)
    if name == "OSError":
        return OSError(answer.values["errno"], message, answer.values["file"] or None)
    error = _POSSIBLY[name](message, answer.arrays.get("maybe", np.empty(0, np.int64)))
    if "traceback" in answer.values:
        error.__cause__ = InDeviceProcess(answer.values["traceback"])
    return error
