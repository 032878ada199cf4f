"""A recorded run played back as a device: `replay:FOLDER/ledger.sqlite?run=ID`.

The same calls get the same answers at the same device times; recorded failures are raised
again. A call that differs from the record is refused with the row where it departed.

What a wrapper may have added is stepped over when it is not asked for again: recorded refusals
(a guard may refuse before the call gets here) and the re-reading of doubtful cells. On real
hardware the length of a sleep comes from the host's clock, so there any length is accepted.

The replayed device is not the die: its serial ends in `.replay`, so that nothing that is done
to it can get into the ledger of the real one. Its frozen state is its place in the record.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rramhil.device import (
    Address,
    Clock,
    Device,
    DeviceFault,
    Driver,
    Floats,
    Ints,
    LinkLost,
    Programmed,
    Pulse,
    Refused,
)
from rramhil.ledger import LedgerReader, Row, Session
from rramhil.words import nearest

CALLS = ("read", "apply", "mvm", "program", "adjust", "sleep")
Arguments = Mapping[str, Any]


class Departed(Refused):
    """The call is not the recorded one; the message names the row and the difference."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One recorded call: the row with its arguments, and the row with its outcome, if any."""

    asked: Row
    outcome: Row | None

    @property
    def phase(self) -> str:
        return self.outcome.phase if self.outcome else "intent"

    @property
    def optional(self) -> bool:
        return self.phase == "refused" or self.asked.data.get("why") == "settle"

    @property
    def last(self) -> int:
        return self.outcome.row if self.outcome else self.asked.row


class Replay(Device):
    """The calls of `sessions` (of one run) of the ledger that `reader` has open."""

    def __init__(self, reader: LedgerReader, sessions: list[Session]) -> None:
        recorded = reader.spec(sessions[0].session)
        self.recorded_serial = recorded.serial
        self.spec = replace(
            recorded, serial=f"{recorded.serial}.replay", volatile=True, newborn=True, home=""
        )
        self.clock = _ReplayClock(self)
        self._any_sleep = not recorded.volatile
        self._reader = reader
        self._sessions = sessions
        self._closed = False
        self._go_to(sessions[0].session, reader.row(sessions[0].session).before or 0.0)

    def read(self, cells: ArrayLike) -> Floats:
        flat = self.spec.check_cells(cells)
        call = self._play("read", {"cells": flat})
        return np.asarray(call.asked.decode("siemens")["siemens"], dtype=np.float32)

    def apply(self, pulse: Pulse) -> None:
        self.spec.check_pulse(pulse)
        arguments = {
            "kind": pulse.kind.value,
            "seconds": pulse.seconds,
            "cells": pulse.cells,
            "volts": pulse.volts,
            "gate_volts": pulse.gate_volts,
            "limit_amps": pulse.limit_amps,
        }
        self._play("apply", arguments)

    def mvm(self, tile: int, inputs: ArrayLike) -> Ints:
        codes = self.spec.check_inputs(tile, inputs)
        call = self._play("mvm", {"tile": tile, "inputs": codes})
        return np.asarray(call.asked.decode("sums")["sums"], dtype=np.int64)

    def program(self, cells: ArrayLike, low: ArrayLike, high: ArrayLike) -> Programmed:
        flat = self.spec.check_cells(cells)
        windows = {"low": np.asarray(low, np.float64), "high": np.asarray(high, np.float64)}
        call = self._play("program", {"cells": flat, **windows})
        assert call.outcome is not None
        return Programmed(**call.outcome.decode())

    def adjust(self, knob: str, values: ArrayLike) -> None:
        self._play("adjust", {"knob": knob, "values": np.asarray(values, dtype=np.float64)})

    def freeze(self) -> bytes:
        return json.dumps({"replay_row": self._row, "device_seconds": self.time}).encode()

    def thaw(self, state: bytes) -> None:
        try:
            place = json.loads(state)
            self._go_to(int(place["replay_row"]), float(place["device_seconds"]))
        except (ValueError, KeyError, TypeError):
            raise Refused(
                "this is not the state of a replayed run; thaw what freeze() gave"
            ) from None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._reader.close()

    # ------------------------------------------------------------------ inside

    @property
    def ended(self) -> bool:
        """Whether every recorded call has been played."""
        return self._next is None

    def _go_to(self, row: int, time: float) -> None:
        self._row, self.time = row, time
        self._calls = self._recorded(row)
        self._next: _Call | None = next(self._calls, None)

    def _recorded(self, after: int) -> Iterator[_Call]:
        for session in self._sessions:
            intent: Row | None = None
            for row in self._reader.rows(
                after=max(after, session.first), session=session.session, ops=CALLS
            ):
                if row.phase == "intent":
                    if intent is not None:
                        yield _Call(intent, None)
                    intent = row
                else:
                    yield _Call(intent if intent is not None and row.intent else row, row)
                    intent = None
            if intent is not None:
                yield _Call(intent, None)

    def _play(self, op: str, arguments: Arguments) -> _Call:
        """Step to the recorded call, raise what it raised, or `Departed`."""
        if self._closed:
            raise Refused(f"{self.spec.serial} is closed; open the replay again")
        called = f"{op} with {_sketch(arguments)}"
        while (call := self._next) is not None:
            difference = self._difference(call, op, arguments)
            if difference is None:
                self._step_over(call)
                _raise_recorded(call)
                return call
            if not call.optional:
                raise Departed(
                    f"the run departs from its record at row {call.asked.row} of "
                    f"{self._reader.path}: {difference}"
                )
            self._step_over(call)
        raise Departed(
            f"the run departs from its record after row {self._row} of {self._reader.path}: the "
            f"record ends there, and the run goes on with {called}"
        )

    def _step_over(self, call: _Call) -> None:
        after = call.outcome.after if call.outcome else call.asked.before
        self._row, self.time = call.last, self.time if after is None else after
        self._next = next(self._calls, None)

    def _difference(self, call: _Call, op: str, arguments: Arguments) -> str | None:
        """None, or how the recorded call and the one made now differ, in words."""
        row = call.asked
        if row.op != op:
            return f"recorded is {row.op} ({row.cells} cells), called is {op}"
        if op == "sleep":
            same = self._any_sleep or row.seconds == arguments["seconds"]
            return None if same else f"recorded is a sleep of {row.seconds:g} s, not of this length"
        recorded = {**row.decode(), **row.data, "kind": row.kind, "seconds": row.seconds}
        for name, value in arguments.items():
            difference = _compare(name, recorded.get(name), value)
            if difference:
                return f"in this {op} {difference}"
        return None


class _ReplayClock(Clock):
    """Device time as it was recorded at the end of the last call."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    def now(self) -> float:
        return self._replay.time

    def sleep(self, seconds: float) -> None:
        self._replay._play("sleep", {"seconds": float(seconds)})


def _compare(name: str, recorded: Any, called: Any) -> str | None:
    if recorded is None or called is None or not isinstance(called, np.ndarray):
        if recorded is called or (not isinstance(recorded, np.ndarray) and recorded == called):
            return None
        return f"{name} was {_short(recorded)} and is {_short(called)} now"
    if recorded.shape != called.shape:
        if called.ndim == 0 and bool(np.all(recorded == called)):
            return None
        return f"{name} had shape {recorded.shape} and has {called.shape} now"
    differs = (recorded != called) & ~((recorded != recorded) & (called != called))
    if not differs.any():
        return None
    first = int(np.flatnonzero(differs.reshape(-1))[0])
    was, now = recorded.reshape(-1)[first], called.reshape(-1)[first]
    return f"{name} number {first} was {was:.6g} and is {now:.6g} now"


def _short(value: Any) -> str:
    return f"{value.size} values" if isinstance(value, np.ndarray) else str(value)


def _sketch(arguments: Arguments) -> str:
    return ", ".join(f"{name}: {_short(value)}" for name, value in arguments.items())


def _raise_recorded(call: _Call) -> None:
    if call.phase == "done":
        return
    if call.outcome is None:
        cells = call.asked.decode("cells").get("cells", ())
        raise LinkLost(f"the recorded process ended during this {call.asked.op}", cells)
    data = call.outcome.data
    message = str(data.get("message", ""))
    if call.phase == "refused":
        raise Refused(message)
    raises: Callable[[str, Any], Exception] = (
        LinkLost if data.get("error") == "LinkLost" else DeviceFault
    )
    if data.get("error") not in ("LinkLost", "DeviceFault"):
        message = f"recorded was {data.get('error')}: {message}"
    raise raises(message, call.outcome.decode("maybe").get("maybe", ()))


def open_replay(address: Address) -> Replay:
    """Open `replay:PATH?run=ID&session=N`. Raises `Refused` in one sentence.

    A ledger that does not verify is not played. Without `run` the last one is taken. A run that
    was resumed has several sessions: then `session=` says which (1 is the first), or
    `session=all` plays them one after the other.
    """
    reader = LedgerReader(address.path)
    try:
        verdict = reader.verify()
        if not verdict.ok:
            raise Refused(
                f"{verdict.sentence}, so no run of it can be played; restore the ledger from a copy"
            )
        return Replay(reader, _choose(reader, address.options))
    except BaseException:
        reader.close()
        raise


def _choose(reader: LedgerReader, options: Mapping[str, str]) -> list[Session]:
    runs = reader.runs()
    if not runs:
        raise Refused(f"{reader.path} holds no run yet; record one first")
    run = options.get("run", runs[-1])
    if run not in runs:
        raise Refused(f"{reader.path} has no run {run!r}{nearest(run, runs)}")
    sessions = reader.sessions(run)
    wanted = options.get("session", "" if len(sessions) > 1 else "all")
    if wanted == "all":
        return sessions
    if wanted.isdigit() and 1 <= int(wanted) <= len(sessions):
        return [sessions[int(wanted) - 1]]
    raise Refused(
        f"run {run} has {len(sessions)} sessions, because it was resumed; choose one with "
        f"session=1 to session={len(sessions)}, or session=all"
    )


driver = Driver(
    summary="a recorded run, played back from the ledger of its die",
    example="replay:./ledger.sqlite?run=ID",
    open=open_replay,
    options={
        "run": "the run to play (default: the last one)",
        "session": "which session of a resumed run: 1, 2, ... or all",
    },
    volatile=True,
)
