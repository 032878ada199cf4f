"""A device that lives in a process of its own, as it looks here."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rramhil.connected import Aborted, Connected
from rramhil.device import (
    NO_CELLS,
    Cells,
    Clock,
    DeviceError,
    Floats,
    Ints,
    Kind,
    LinkLost,
    Outputs,
    Programmed,
    Pulse,
    Refused,
)
from rramhil.ledger.specs import spec_from
from rramhil.process import signals
from rramhil.process.child import ABORT, CLOSE, ENDING_SECONDS
from rramhil.process.messages import Array, Gone, Message, failed, receive, send

PATIENCE_SECONDS = ENDING_SECONDS + 2.0
_CODE = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from {module} import {function}
{function}(sys.argv[1])
"""


@dataclass(frozen=True, slots=True)
class Child:
    """The device process and our ends of its sockets."""

    process: subprocess.Popen[bytes]
    calls: socket.socket
    orders: socket.socket

    @classmethod
    def spawn(cls, entry: str) -> Child:
        """A fresh interpreter in a session of its own that calls `entry` (module:function)."""
        module, _, function = entry.partition(":")
        calls, calls_there = socket.socketpair()
        orders, orders_there = socket.socketpair()
        signals.hear()
        page = signals.page()
        with calls_there, orders_there:
            ends = (calls_there.fileno(), orders_there.fileno(), page)
            given = ",".join(str(number) for number in (*ends, os.getpid()))
            code = _CODE.format(module=module, function=function)
            process = subprocess.Popen(
                [sys.executable, "-c", code, given, json.dumps(sys.path)],
                pass_fds=ends,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        return cls(process, calls, orders)

    def end(self) -> None:
        """Hang up, wait for the outputs to be off and the process to end; kill it if it hangs."""
        with suppress(OSError):
            self.orders.shutdown(socket.SHUT_RDWR)
        try:
            self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def hang_up(self) -> None:
        """Close our ends; nobody may be using them."""
        self.calls.close()
        self.orders.close()

    def fate(self) -> str:
        """How it ended, as people say it."""
        try:
            code = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return "it does not speak any more"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"it ended with exit code {code}"


class Remote(Connected):
    """A device in a process of its own, opened by `Remote.start`. Close it.

    Calls go through one thread, so that a Ctrl-C leaves no half message behind: the call that
    it broke off here is carried out there, is in the ledger, and the next call waits for it.
    """

    def __init__(self, child: Child, ready: Message) -> None:
        self.spec = spec_from(ready.values["spec"])
        self.clock = _RemoteClock(self)
        self.ledger = _RemoteLedger(self, Path(ready.values["ledger"]))
        self._child = child
        self._row, self._head, self._doubtful = 0, "", NO_CELLS
        self._ended = ""
        self._closing = threading.Lock()
        self._ordering = threading.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="rramhil-device")
        self._last: Future[Any] = Future()
        self._last.set_result(None)
        self._note_state(ready)
        _open_here.add(self)

    @classmethod
    def start(cls, entry: str, asked: Mapping[str, Any]) -> Remote:
        """Let a new process open what is `asked` for. Raises what opening it raised there."""
        child = Child.spawn(entry)
        try:
            ready = cls._opened(child, asked)
            return (Counted if ready.values["counts"] else cls)(child, ready)
        except BaseException:
            child.end()
            child.hang_up()
            raise

    @staticmethod
    def _opened(child: Child, asked: Mapping[str, Any]) -> Message:
        try:
            send(child.calls, Message("start", asked))
            ready = receive(child.calls)
        except Gone:
            raise LinkLost(
                f"the device process ended while it opened the device ({child.fate()}); what it "
                "printed stands above"
            ) from None
        if ready.what == "error":
            raise failed(ready)
        return ready

    @property
    def pid(self) -> int:
        """The id of the device process. SIGTERM to it: outputs off, and it ends."""
        return self._child.process.pid

    # ------------------------------------------------------------------ calls

    def read(self, cells: ArrayLike) -> Floats:
        return self._call("read", arrays={"cells": np.asarray(cells)}).arrays["siemens"]

    def apply(self, pulse: Pulse) -> None:
        arrays = {"cells": pulse.cells, "volts": pulse.volts}
        if pulse.gate_volts is not None:
            arrays["gate_volts"] = pulse.gate_volts
        if pulse.limit_amps is not None:
            arrays["limit_amps"] = pulse.limit_amps
        values = {"kind": pulse.kind, "seconds": pulse.seconds}
        self._call("apply", values, arrays, pulse.cells)

    def mvm(self, tile: int, inputs: ArrayLike) -> Ints:
        arrays = {"inputs": np.asarray(inputs)}
        return self._call("mvm", {"tile": int(tile)}, arrays).arrays["sums"]

    def program(self, cells: ArrayLike, low: ArrayLike, high: ArrayLike) -> Programmed:
        flat = np.asarray(cells)
        arrays = {"cells": flat, "low": np.asarray(low), "high": np.asarray(high)}
        possibly = flat if flat.dtype.kind in "iu" else NO_CELLS
        return Programmed(**self._call("program", None, arrays, possibly).arrays)

    def adjust(self, knob: str, values: ArrayLike) -> None:
        self._call("adjust", {"knob": knob}, {"values": np.asarray(values, dtype=np.float64)})

    def freeze(self) -> bytes:
        return self._call("freeze").arrays["state"].tobytes()

    @property
    def doubtful(self) -> Cells:
        wait([self._last])
        return self._doubtful

    def settle(self) -> Cells:
        return self._call("settle").arrays["cells"]

    def checkpoint(self) -> int:
        return int(self._call("checkpoint").values["row"])

    def finish(self, outcome: str, data: Mapping[str, Any] | None = None) -> int:
        return int(self._call("finish", {"outcome": outcome, "data": data}).values["row"])

    # ------------------------------------------------------------------ ends

    def abort(self) -> Outputs:
        """Outputs off now, whatever the device is doing, from any thread; what it answered, and
        what that took there. Later calls are refused; `finish` and `close` are still due."""
        if self._ended:
            return Outputs(self._ended == _CLOSED, self._ended)
        return self._order(ABORT)

    def close(self) -> None:
        with self._closing:
            if self._ended == _CLOSED:
                return
            try:
                self._order(CLOSE)
            finally:
                self._ended = _CLOSED
                self._child.end()
                self._worker.shutdown()
                self._child.hang_up()
                _open_here.discard(self)

    def _order(self, order: bytes) -> Outputs:
        line = self._child.orders
        with self._ordering:
            try:
                line.settimeout(PATIENCE_SECONDS)
                line.sendall(order)
                said = b""
                while not said.endswith(b"\n"):
                    more = line.recv(4096)
                    if not more:
                        raise OSError("it is gone")
                    said += more
                return Outputs(**json.loads(said.splitlines()[-1]))
            except OSError as error:
                return Outputs(False, f"the device process does not answer ({error})")

    # ------------------------------------------------------------------ inside

    def _call(
        self,
        what: str,
        values: Mapping[str, Any] | None = None,
        arrays: Mapping[str, Array] | None = None,
        possibly: Cells = NO_CELLS,
    ) -> Message:
        """One call and its answer. `possibly`: the cells that are in doubt if none comes."""
        if self._ended:
            raise self._refused()
        asked = Message(what, values or {}, arrays or {})
        try:
            self._last = future = self._worker.submit(self._exchange, asked, possibly)
        except RuntimeError:  # closed between those lines by another thread
            raise self._refused() from None
        answer = future.result()
        if answer.what == "error":
            raise failed(answer)
        return answer

    def _exchange(self, asked: Message, possibly: Cells) -> Message:
        if self._ended:
            raise self._refused()
        try:
            send(self._child.calls, asked)
            answer = receive(self._child.calls)
        except Gone:
            raise self._lost(asked.what, possibly) from None
        self._note_state(answer)
        return answer

    def _note_state(self, answer: Message) -> None:
        self._row, self._head = answer.values["last_row"], answer.values["head"]
        self._doubtful = answer.arrays.get("doubtful", NO_CELLS)

    def _lost(self, what: str, possibly: Cells) -> DeviceError:
        self._doubtful = np.union1d(self._doubtful, possibly)
        fate = self._child.fate()
        self._ended = self._ended or f"its device process is gone ({fate})"
        if self._child.process.returncode == 0 and not self._closing.locked():
            return Aborted(f"the device process of {self.spec.serial} was told to end", possibly)
        return LinkLost(
            f"the device process of {self.spec.serial} was lost during {what}: {fate}; connect "
            "again, which reads the cells in doubt first",
            possibly,
        )

    def _refused(self) -> Refused:
        return Refused(f"{self.spec.serial} cannot be used any more: {self._ended}; connect again")

    def _forget(self) -> None:
        """In a forked child: the device is the parent's, and hears when the parent is gone."""
        self._ended = _CLOSED
        self._child.hang_up()


_CLOSED = "it is closed"
_open_here: weakref.WeakSet[Remote] = weakref.WeakSet()


def _forget_all() -> None:
    for device in list(_open_here):
        device._forget()


os.register_at_fork(after_in_child=_forget_all)


class Counted(Remote):
    """A device whose chip tells how many pulses it counted (see `rramhil.conformance`)."""

    def pulses_counted(self, kind: Kind) -> Ints:
        """Pulses of `kind` on each cell of the die, by the chip's own count."""
        return self._call("counts", {"kind": kind}).arrays["counts"]


class _RemoteClock(Clock):
    """The device's clock, which is that of its process; a sleep there is in the ledger."""

    def __init__(self, device: Remote) -> None:
        self._device = device

    def now(self) -> float:
        return float(self._device._call("now").values["seconds"])

    def sleep(self, seconds: float) -> None:
        self._device._call("sleep", {"seconds": float(seconds)})


class _RemoteLedger:
    """What a session may ask of the ledger that the device process writes."""

    def __init__(self, device: Remote, path: Path) -> None:
        self._device = device
        self.path = path

    @property
    def row(self) -> int:
        """The number of the last row, after the last call."""
        wait([self._device._last])
        return self._device._row

    @property
    def head(self) -> str:
        """The hash of the last row, after the last call."""
        wait([self._device._last])
        return self._device._head

    def note(self, event: str, data: Mapping[str, Any] | None = None) -> int:
        """Record an event (JSON data) and commit; its row."""
        return int(self._device._call("note", {"event": event, "data": data}).values["row"])

    def flush(self) -> None:
        """Commit what waits."""
        self._device._call("flush")


def abort_through(path: Path, serial: str) -> Outputs:
    """Ask the device process that listens at `path` for outputs off; its answer.

    Raises `Refused` when no process has the die, or it does not answer.
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(PATIENCE_SECONDS)
                line.connect(f"/proc/self/fd/{folder}/{path.name}")
                return Outputs(**json.loads(line.makefile().readline()))
        finally:
            os.close(folder)
    except (OSError, ValueError) as error:
        raise Refused(
            f"no process on this computer answers for die {serial} ({error}); a die that is "
            "emulated has no process of its own: stop the program that uses it"
        ) from None
