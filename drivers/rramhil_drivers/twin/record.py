"""The open-loop part of a ledger: the same calls on one sample of cells, and what was read.

A closed loop decides by what it reads, so its pulses on one die say nothing of another. What
was done to all cells of a sample alike, as a scan, a gate sweep or a RESET ramp does, can be
done again on an emulated die. The sample is the set of cells with the most such readings; its
record ends before the first pulse that leaves some of them out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rramhil.device import Cells, Floats, Kind, Pulse, Refused
from rramhil.ledger import LedgerReader, Row
from rramhil.schema import FileError
from rramhil.units import show

from ..emulator.chipfile import ChipFile
from ..emulator.die import EmulatedDie

LEAST_CELLS = 32
CANDIDATES = 8
_OPS = ("read", "apply", "program", "sleep")


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A pulse on all cells of the sample, or a reading of them; device seconds `before` it.

    `volts`, `gate_volts`, `siemens`: one a cell of the sample, None where it has none.
    """

    kind: Kind | None
    before: float
    seconds: float = 0.0
    volts: Floats | None = None
    gate_volts: Floats | None = None
    siemens: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """The open-loop calls on the sample `cells` of the die `serial`."""

    serial: str
    cells: Cells
    calls: tuple[Call, ...]

    @property
    def readings(self) -> list[Floats]:
        """What was read, one array (cells,) a reading."""
        return [call.siemens for call in self.calls if call.siemens is not None]

    def labels(self) -> list[str]:
        """What each reading followed: 'SET gate 2.30 V', 'RESET SL 1.20 V', '1 s later'."""
        texts, last, since = [], "as found", 0.0
        for call in self.calls:
            if call.siemens is None:
                last, since = _name(call), call.before
                continue
            waited = call.before - since
            texts.append(f"{last}, {waited:.2g} s later" if waited > 5e-3 else last)
        return texts


def read_record(reader: LedgerReader) -> Record:
    """The record of the die's present life. Raises `FileError` when nothing in it is open loop."""
    best: tuple[Cells, list[Call]] | None = None
    size = reader.spec().size
    for sample in _candidates(reader):
        calls = list(_calls_on(reader, sample, size))
        if best is None or _readings(calls) > _readings(best[1]):
            best = (sample, calls)
    if best is None or _readings(best[1]) < 2:
        raise FileError(
            f"{reader.path} has no readings of {LEAST_CELLS} or more cells after pulses on all of "
            "them; record some with the steps 'scan', 'tune' or 'characterise'"
        )
    return Record(reader.serial, best[0], tuple(best[1]))


def _readings(calls: list[Call]) -> int:
    return sum(call.siemens is not None for call in calls)


def _candidates(reader: LedgerReader) -> list[Cells]:
    """The sets of cells that were read most often."""
    counted: Counter[bytes] = Counter()
    for row in reader.life_rows(("read",)):
        if row.phase == "done" and row.cells >= LEAST_CELLS:
            counted[np.sort(row.decode("cells")["cells"]).tobytes()] += 1
    return [np.frombuffer(key, np.int64) for key, _ in counted.most_common(CANDIDATES)]


def _calls_on(reader: LedgerReader, sample: Cells, size: int) -> Iterator[Call]:
    inside = np.zeros(size, dtype=np.bool_)
    inside[sample] = True
    place = np.zeros(size, dtype=np.int64)
    intents: dict[int, Row] = {}
    for row in reader.life_rows(_OPS):
        if row.phase == "intent":
            intents[row.row] = row
            continue
        asked = intents.pop(row.intent or 0, row)
        if asked.op == "sleep" or row.phase == "refused":
            continue
        cells = asked.decode("cells")["cells"]
        covered = int(np.count_nonzero(inside[cells]))
        if not covered:
            continue
        if asked.op == "read" and (row.phase != "done" or covered < sample.size):
            continue
        if covered < sample.size or asked.op == "program" or row.phase != "done":
            return  # a closed loop, or a pulse that nobody knows to have landed
        place[cells] = np.arange(cells.size)
        yield _as_call(asked, row, place[sample])


def _as_call(asked: Row, outcome: Row, at: Cells) -> Call:
    before = float(asked.before or 0.0)
    if asked.op == "read":
        return Call(None, before, siemens=outcome.decode("siemens")["siemens"][at])
    pulse = asked.pulse()
    gate = None if pulse.gate_volts is None else pulse.gate_volts[at]
    return Call(pulse.kind, before, pulse.seconds, pulse.volts[at], gate)


def _name(call: Call) -> str:
    assert call.kind is not None
    assert call.volts is not None
    line = "SL" if call.kind is Kind.RESET else "BL"
    text = f"{call.kind.name} {line} {np.median(call.volts):.2f} V"
    if call.gate_volts is not None:
        text += f", gate {np.median(call.gate_volts):.2f} V"
    return f"{text}, {show(call.seconds, 's')}"


def do_again(record: Record, chip: ChipFile, copies: int, seed: int) -> Record:
    """The same calls on `copies` times as many cells of an emulated die of `chip`.

    Raises `FileError` when the chip does not allow what the record did.
    """
    count = record.cells.size * copies
    tile = chip.geometry.rows * chip.geometry.cols
    die = EmulatedDie(chip, die=seed, seed=seed, tiles=-(-count // tile))
    cells = np.arange(count)
    calls = []
    for call in record.calls:
        die.clock.set(max(die.clock.now(), call.before))
        try:
            calls.append(_again(die, cells, call, copies))
        except Refused as error:
            raise FileError(
                f"the chip {chip.name} does not allow what {record.serial} was given ({error}); "
                "name another chip to begin from with --base"
            ) from None
    return Record(die.spec.serial, cells, tuple(calls))


def _again(die: EmulatedDie, cells: Cells, call: Call, copies: int) -> Call:
    if call.kind is None:
        return Call(None, call.before, siemens=die.read(cells))
    assert call.volts is not None
    gate = None if call.gate_volts is None else np.tile(call.gate_volts, copies)
    volts = np.tile(call.volts, copies)
    die.apply(Pulse(call.kind, cells, volts, gate, seconds=call.seconds))
    return Call(call.kind, call.before, call.seconds, volts, gate)
