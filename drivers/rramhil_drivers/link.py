"""One request at a time over a pyserial port, and the answer that belongs to it."""

from __future__ import annotations

import os
import select
import threading
import time

import serial as pyserial

from . import wire
from .wire import Frame, Type


class Down(Exception):
    """The port cannot be opened, broke, or was closed."""


class Silent(Exception):
    """No answer came in time."""


class Link:
    """The port at `url` (a device path or a pyserial URL such as socket://host:port).

    Answers are told by their sequence number, so one that comes too late is passed over.
    `close` may be called from another thread: a request that waits then raises `Down`.
    """

    def __init__(self, url: str, baud: int, timeout: float) -> None:
        try:
            self._port = pyserial.serial_for_url(
                url, baudrate=baud, timeout=0, write_timeout=timeout, exclusive=True
            )
        except (OSError, ValueError) as error:
            raise Down(str(error)) from None
        try:
            self._fd = self._port.fileno()
        except OSError:
            self._port.close()
            raise Down("this kind of port cannot be waited for") from None
        self._receiver = wire.Receiver()
        self._seq = 0
        self._lock = threading.RLock()
        self._wake_read, self._wake_write = os.pipe()
        self._open = True

    def request(self, kind: Type, payload: bytes, seconds: float) -> Frame:
        """Send a request once and return its answer. Raises `Silent` or `Down`.

        The frame starts with a zero byte as well, so that whatever an earlier host or an
        interrupted call left on the line ends there.
        """
        with self._lock:
            if not self._open:
                raise Down("it is closed")
            self._seq = (self._seq + 1) % 2**16
            self._write(b"\0" + wire.encode(Frame(kind, self._seq, payload)))
            return self._answer(kind, time.monotonic() + seconds)

    def _write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except pyserial.SerialTimeoutException:
            raise Silent("it takes no more bytes") from None
        except OSError as error:
            raise Down(str(error)) from None

    def _answer(self, kind: Type, deadline: float) -> Frame:
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Silent("it does not answer")
            for frame in self._receiver.feed(self._available(left)):
                if frame.seq == self._seq and frame.type in (kind | wire.REPLY, Type.NAK):
                    return frame

    def _available(self, seconds: float) -> bytes:
        try:
            ready, _, _ = select.select([self._fd, self._wake_read], [], [], seconds)
            if not self._open:
                raise Down("it was closed under a pending call")
            return bytes(self._port.read(wire.MAX_FRAME)) if self._fd in ready else b""
        except (OSError, ValueError) as error:
            raise Down(str(error)) from None

    def close(self) -> None:
        """Give the port back. Callable twice and from another thread."""
        if not self._open:
            return
        self._open = False
        os.write(self._wake_write, b"x")
        with self._lock:
            # pyserial 3.5 leaves its socket open when the other side closed it first
            socket = getattr(self._port, "_socket", None)
            self._port.close()
            if socket is not None:
                socket.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
