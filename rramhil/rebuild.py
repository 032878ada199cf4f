"""Rebuild a volatile die from its ledger: thaw its last saved state, do again what came after.

Only calls that returned are done again, in their order: a refused one did nothing, and a call
without an outcome stays in doubt until its cells are read. Every reading and product is
compared with the record, so that a die with another seed or of another version is found out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rramhil.device import Device, DeviceError, Refused
from rramhil.ledger import LedgerReader, Row
from rramhil.ledger.states import load_state

CALLS = ("read", "apply", "mvm", "program", "adjust", "sleep")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did: the row of the saved state that it began from (None: from the
    beginning of the die's life), the calls it did again, and the last row it looked at."""

    state: int | None
    calls: int
    last: int


def rebuild(device: Device, reader: LedgerReader, upto: int | None = None) -> Rebuilt:
    """Bring a fresh, bare, volatile `device` to where its ledger says the die is.

    `upto`: to where it was at that row, in the life of the die to which that row belongs; rows
    of other lives are left alone. A session that goes on from there must be recorded as one
    that `continues` it (`Journal`), unless `upto` is the last row. Raises `Refused` in one
    sentence when the die is another one, or departs from the record.
    """
    last = reader.last_row if upto is None else upto
    if not reader.sessions():
        return Rebuilt(None, 0, last)
    _check_same_die(device, reader, last)
    state = _thaw_last(device, reader, last)
    intents: dict[int, Row] = {}
    calls = 0
    for row in reader.life_rows(CALLS, after=state or 0, upto=last):
        if row.phase == "intent":
            intents[row.row] = row
        elif row.phase == "done":
            _again(device, reader.path, intents.pop(row.intent or 0, row), row)
            calls += 1
    return Rebuilt(state, calls, last)


def _check_same_die(device: Device, reader: LedgerReader, upto: int) -> None:
    recorded, spec = reader.spec(reader.session_at(upto)), device.spec
    for name in ("serial", "model", "tiles", "rows", "cols"):
        was, is_now = getattr(recorded, name), getattr(spec, name)
        if was != is_now:
            raise Refused(
                f"{reader.path} is the ledger of a die with {name} {was}, but this one has "
                f"{name} {is_now}; open the die with the options it was made with"
            )


def _thaw_last(device: Device, reader: LedgerReader, upto: int) -> int | None:
    """Thaw the newest state of this life whose file is whole; its row, None without one."""
    for row in reader.life_rows(("state",), upto=upto, backwards=True):
        state = load_state(reader.path.parent / "states", row)
        if state is not None:
            device.thaw(state)
            return row.row
    return None


def _again(device: Device, path: Path, asked: Row, outcome: Row) -> None:
    try:
        recorded, now = _call(device, asked, outcome)
    except DeviceError as error:
        raise Refused(
            f"the die cannot be rebuilt: row {asked.row} of {path} ({asked.op}) was done then and "
            f"fails now ({error}); open it with the options and the version it was made with"
        ) from error
    differs = ~np.isclose(recorded, now, rtol=0, atol=0, equal_nan=True)
    if differs.any():
        first = int(np.flatnonzero(differs.reshape(-1))[0])
        raise Refused(
            f"the die cannot be rebuilt: at row {outcome.row} of {path} ({asked.op}) value {first} "
            f"was {recorded.reshape(-1)[first]:.6g} and is {now.reshape(-1)[first]:.6g} now; use "
            "the seed, options and version it was made with, or begin a new die"
        )


def _call(device: Device, asked: Row, outcome: Row) -> tuple[Any, Any]:
    """Do one call again; (what it gave then, what it gives now)."""
    nothing = np.empty(0)
    arrays = asked.decode()
    if asked.op == "read":
        return arrays["siemens"], device.read(arrays["cells"])
    if asked.op == "mvm":
        return arrays["sums"], device.mvm(int(asked.data["tile"]), arrays["inputs"])
    if asked.op == "program":
        now = device.program(arrays["cells"], arrays["low"], arrays["high"])
        return outcome.decode("siemens")["siemens"], now.siemens
    if asked.op == "apply":
        device.apply(asked.pulse())
    elif asked.op == "adjust":
        device.adjust(asked.data["knob"], arrays["values"])
    else:
        assert asked.seconds is not None
        device.clock.sleep(asked.seconds)
    return nothing, nothing
