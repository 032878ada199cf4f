"""The transport trace: every byte of a link with its direction and the host's time.

One JSON document a line. The first says what was opened and when; then, for each piece that
went over the line,

    {"t": 12.000345, "way": "out", "bytes": "00 04 02 ...", "frames": [{"type": "READ", "seq": 7,
     "payload": 10}]}

`t`: seconds since the first line, `way`: "out" (to the board) or "in"; `frames`: those that
the piece completes, as far as they decode; `garbled`: pieces between two zero bytes that are
no frame. {"unsent": n}: the line did not take the last n bytes of the piece before; they
stand again in a later one. Each line is in the file before its bytes leave, so that a host
that is killed leaves it.
"""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rramhil.device import Refused

from . import wire
from .wire import Frame, Type


class Trace:
    """Writes what it is told to `path`, a new file each time. Raises `Refused`."""

    def __init__(self, path: Path, url: str, baud: int) -> None:
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise Refused(
                f"the trace cannot be written to {path} ({error.strerror}); name another file"
            ) from None
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._ways = {"out": wire.Receiver(), "in": wire.Receiver()}
        opened = datetime.now(UTC).isoformat(timespec="microseconds")
        self._write({"trace": 1, "url": url, "baud": baud, "time": opened})

    def sent(self, data: bytes) -> None:
        """`data` is about to leave."""
        self._piece("out", data)

    def received(self, data: bytes) -> None:
        """`data` has arrived."""
        self._piece("in", data)

    def unsent(self, count: int) -> None:
        """The line did not take the last `count` bytes of what was sent."""
        self._write({"t": self._now(), "unsent": count})

    def close(self) -> None:
        """No more lines."""
        self._file.close()

    def _now(self) -> float:
        return round(time.monotonic() - self._start, 6)

    def _piece(self, way: str, data: bytes) -> None:
        receiver = self._ways[way]
        before = receiver.dropped
        line: dict[str, Any] = {"t": self._now(), "way": way, "bytes": data.hex(" ")}
        line["frames"] = [_named(frame) for frame in receiver.feed(data)]
        if receiver.dropped > before:
            line["garbled"] = receiver.dropped - before
        self._write(line)

    def _write(self, line: dict[str, Any]) -> None:
        with self._lock:
            if not self._file.closed:
                self._file.write(json.dumps(line).encode() + b"\n")


def _named(frame: Frame) -> dict[str, Any]:
    kind = frame.type if frame.type == Type.NAK else frame.type & ~wire.REPLY
    name = Type(kind).name if kind in list(Type) else f"{kind:#04x}"
    reply = " reply" if frame.type & wire.REPLY else ""
    named = {"type": name + reply, "seq": frame.seq, "payload": len(frame.payload)}
    return named if frame.version == wire.VERSION else {**named, "version": frame.version}
