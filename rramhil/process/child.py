"""The device process: one thread does what the host asks, one watches the host.

The watcher switches the outputs off when the host asks for it (here, by a second Ctrl-C, or
from another process), when the host is gone, and on SIGTERM; it needs no answer of the worker.
It never waits for the worker to come out of a call: switching off ends the call.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rramhil.conformance.bench import bare
from rramhil.device import Device, Outputs, Refused
from rramhil.journal import Journal
from rramhil.ledger import LedgerError
from rramhil.ledger.specs import plain
from rramhil.process import signals
from rramhil.process.calls import CALLS
from rramhil.process.messages import Gone, Message, failure, receive, send
from rramhil.process.switch import Switched

ABORT, CLOSE = b"A", b"C"
ENDING_SECONDS = 10
"""A device process that has to end and cannot is killed by its own alarm after this time."""

Opening = Callable[[Mapping[str, Any], Callable[[Device], Device]], Journal]


@dataclass(frozen=True, slots=True)
class Ends:
    """What the host left open for this process: `calls` and `orders`, its ends of two sockets,
    and `page`, the signals of the host whose id is `host`."""

    calls: socket.socket
    orders: socket.socket
    page: int
    host: int

    @classmethod
    def given(cls, arguments: str) -> Ends:
        calls, orders, page, host = (int(number) for number in arguments.split(","))
        return cls(socket.socket(fileno=calls), socket.socket(fileno=orders), page, host)


def run(arguments: str, connect: Opening, abort_socket: Callable[[str], Path]) -> None:
    """Be a device process: `connect` opens what the first message asks for, and `abort_socket`
    names the socket at which other processes may ask for outputs off."""
    ends = Ends.given(arguments)
    with suppress(ProcessLookupError):
        alive = os.pidfd_open(ends.host)
        if os.getppid() == ends.host:  # else it was gone, and another has its number
            host = _Host(ends, alive, abort_socket)
            signal.signal(signal.SIGINT, host.terminated)
            signal.signal(signal.SIGTERM, host.terminated)
            threading.Thread(target=host.work, args=(connect,), daemon=True).start()
            host.watch()


@dataclass(slots=True)
class _Host:
    """The host as this process sees it, and the device that it was given."""

    ends: Ends
    alive: int
    abort_socket: Callable[[str], Path]
    switch: Switched | None = None
    journal: Journal | None = None
    listener: socket.socket | None = None
    ended: str = ""
    requests: signals.Requests = field(default_factory=signals.Requests)
    _looked: int = 0

    def terminated(self, *_: object) -> None:
        self.ended = self.ended or "the device process was told to end"

    # ---------------------------------------------------------------- working

    def work(self, connect: Opening) -> None:
        """Open the device, then do what is asked, one call after the other."""
        line = self.ends.calls
        try:
            if self._start(connect):
                while True:
                    send(line, self._answer(receive(line)))
        except Gone:
            return  # the watcher sees it too

    def _start(self, connect: Opening) -> bool:
        try:
            start = receive(self.ends.calls).values
            self.journal = connect(start, self._switched)
            # A volatile die has no lease, and its serial no owner.
            if not self.journal.spec.volatile:
                self._listen(self.journal.spec.serial)
            values = {"spec": self.journal.spec, "ledger": str(self.journal.ledger.path)}
            counts = hasattr(bare(self.journal), "pulses_counted")
            ready = Message("ready", {**values, "counts": counts})
            send(self.ends.calls, self._with_state(ready))
        except Gone:
            raise
        except BaseException as error:
            send(self.ends.calls, failure(error))
            return False
        return True

    def _switched(self, bare: Device) -> Device:
        self.switch = Switched(bare)
        if self.ended:
            self.switch.switch_off(self.ended)
        return self.switch

    def _answer(self, asked: Message) -> Message:
        assert self.journal is not None
        try:
            values, arrays = CALLS[asked.what](self.journal, asked.values, asked.arrays)
            answer = Message("answer", values, arrays)
        except BaseException as error:
            answer = failure(error)
        return self._with_state(answer)

    def _with_state(self, answer: Message) -> Message:
        """An answer, and what has become of the ledger and the doubt meanwhile."""
        assert self.journal is not None
        ledger, doubtful = self.journal.ledger, self.journal.doubtful
        more = {"doubtful": doubtful} if doubtful.size else {}
        values = {**answer.values, "last_row": ledger.row, "head": ledger.head}
        return Message(answer.what, values, {**answer.arrays, **more})

    # ---------------------------------------------------------------- watching

    def watch(self) -> None:
        """Wait for orders, signals, the host's end; return when there is no more to do."""
        self.requests.at_once(self._new_signals(), float("-inf"))
        while not self.ended:
            waiting: list[socket.socket | int] = [self.ends.orders, self.alive]
            waiting += [self.listener] if self.listener else []
            ready, _, _ = select.select(waiting, [], [], signals.LOOK_SECONDS)
            if self.ends.orders in ready and self._obey() == CLOSE:
                self._end("")
                self._tell(self.ends.orders)
                return
            if self.alive in ready:
                self.ended = "the host is gone"
            if self.listener in ready and self.listener is not None:
                self._abort_for(self.listener)
            if self.requests.at_once(self._new_signals(), time.monotonic()):
                self._switch_off("Ctrl-C was pressed twice")
        self._end(self.ended)

    def _new_signals(self) -> bytes:
        data = signals.since(self._looked, self.ends.page)
        self._looked += len(data)
        return data

    def _obey(self) -> bytes:
        order = b""
        with suppress(OSError):
            order = self.ends.orders.recv(1)
        if order == ABORT:
            self._switch_off("the host asked for it", self.ends.orders)
        elif order != CLOSE:
            self.ended = "the host is gone"
        return order

    def _switch_off(self, why: str, asker: socket.socket | None = None) -> None:
        """Outputs off; tell who asked, write it down, and close what is off."""
        first = self.switch is not None and self.switch.outputs is None
        if self.switch is None:
            self.ended = why
        else:
            self.switch.switch_off(why)
        if asker is not None:
            self._tell(asker)
        if first and self.journal is not None:
            with suppress(LedgerError):
                self.journal.ledger.note("outputs off", {"why": why, **plain(self._outputs())})
        if first and self.switch is not None:
            with suppress(Exception):  # it has answered already, and is closed once more at the end
                self.switch.close()

    def _outputs(self) -> Outputs:
        if self.switch is None:
            return Outputs(True, "the device was not open yet")
        return self.switch.outputs or Outputs(True, "its driver closed it")

    def _tell(self, line: socket.socket) -> None:
        with suppress(OSError):
            line.sendall(json.dumps(plain(self._outputs())).encode() + b"\n")

    def _listen(self, serial: str) -> None:
        """A socket beside the lease; who may write to the leases may end what they lease."""
        path = self.abort_socket(serial)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        listener = socket.socket(socket.AF_UNIX)
        try:
            path.unlink(missing_ok=True)
            listener.bind(f"/proc/self/fd/{folder}/{path.name}")  # a path may have 107 characters
            path.chmod(0o600)
            listener.listen()
        except OSError:
            listener.close()
            raise
        finally:
            os.close(folder)
        self.listener = listener

    def _abort_for(self, listener: socket.socket) -> None:
        caller, _ = listener.accept()
        with caller:
            self._switch_off("another process asked for it", caller)

    def _end(self, why: str) -> None:
        """Outputs off, the session's end in the ledger, the lease given back."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(ENDING_SECONDS)
        if why:
            self._switch_off(why)
        if self.listener is not None:
            self.listener.close()
        if self.journal is not None:
            if self.listener is not None:
                self.abort_socket(self.journal.spec.serial).unlink(missing_ok=True)
            with suppress(Refused):  # a ledger that breaks now: what it holds stays valid
                self.journal.close()
