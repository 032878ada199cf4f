"""The open-loop part of a ledger: the same calls on one sample of cells, and what was read.

A closed loop decides by what it reads: its pulses on one die say nothing of another, and the
cells that it goes on with were chosen by what they did. What was done to all cells of a sample
alike, as in a scan, a gate sweep or a RESET ramp, can be done again on an emulated die. So only
the job steps in `OPEN_LOOP` count, and what was called from Python outside of a job. A sample is
what the first call of a step or of a session named. Its record begins with the first pulse there
and ends before the first pulse that leaves some of its cells out. Calls on disjoint cells that
follow each other, alike in kind and width, are one call in pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from rramhil.device import Bools, Cells, Floats, Kind, Pulse, Refused
from rramhil.ledger import LedgerReader, Row
from rramhil.schema import FileError
from rramhil.units import show

from ..emulator.chipfile import ChipFile
from ..emulator.die import EmulatedDie
from .sources import BLOCK, Part, of_part

LEAST_CELLS = 32
OPEN_LOOP = ("scan", "tune", "characterise")


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
    limit_amps: Floats | None = None
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

    def part(self, name: Part) -> Record:
        """The same calls on the cells of one half of the blocks of addresses: "fit" or "check".

        Raises `FileError` when the sample has too few cells there.
        """
        if name == "all":
            return self
        kept = of_part(self.cells, name)
        if np.count_nonzero(kept) < LEAST_CELLS:
            halves = "even" if name == "fit" else "odd"
            raise FileError(
                f"the record of {self.serial} has {np.count_nonzero(kept)} of its "
                f"{self.cells.size} cells in {halves} blocks of {BLOCK} addresses, at least "
                f"{LEAST_CELLS} are needed there; record cells that are spread over the die"
            )
        calls = tuple(_kept(call, kept) for call in self.calls)
        return Record(self.serial, self.cells[kept], calls)

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


def _kept(call: Call, kept: Bools) -> Call:
    names = ("volts", "gate_volts", "limit_amps", "siemens")
    arrays = {name: getattr(call, name) for name in names}
    return replace(call, **{n: a[kept] for n, a in arrays.items() if a is not None})


def read_record(reader: LedgerReader) -> Record:
    """The record of the die's present life. Raises `FileError` when nothing in it is open loop."""
    pieces = list(_together(_open_loop(reader)))
    anew = _begun_anew(reader)
    pieces = [group for group in pieces if group[0].segment not in anew]
    firsts = {group[0].segment: number for number, group in reversed(list(enumerate(pieces)))}
    place = np.full(reader.spec().size, -1, dtype=np.int64)
    records = []
    for number in firsts.values():
        cells = np.sort(np.concatenate([piece.cells for piece in pieces[number]]))
        if cells.size >= LEAST_CELLS:
            calls = tuple(_calls_on(pieces[number:], cells, place))
            records.append(Record(reader.serial, cells, calls))
    best = max(records, key=lambda record: len(record.readings), default=None)
    if best is None or len(best.readings) < 2:
        raise FileError(
            f"{reader.path} has no readings of {LEAST_CELLS} or more cells after pulses on all of "
            "them; record some with a job of the steps 'scan', 'tune' or 'characterise'"
        )
    return best


def _begun_anew(reader: LedgerReader) -> set[int]:
    """Segments of steps that were stopped and begun again later in the same run."""
    anew, segment = set(), 0
    last: dict[tuple[str, str], int] = {}
    for row in reader.life_rows(("begin", "note")):
        if row.op == "note" and row.data.get("event") != "step":
            continue
        segment += 1
        if row.op == "note":
            step = (row.run, str(row.data.get("name")))
            anew |= {last[step]} if step in last else set()
            last[step] = segment
    return anew


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """One call that returned: on `cells`, values a cell; `segment`: which step or session."""

    segment: int
    kind: Kind | None
    cells: Cells
    before: float
    seconds: float
    values: dict[str, Floats]


def _open_loop(reader: LedgerReader) -> Iterator[_Piece]:
    """The calls of the present life until a step begins that decides by what it reads."""
    intents: dict[int, Row] = {}
    segment = 0
    for row in reader.life_rows(("begin", "read", "apply", "program", "note")):
        if row.op == "begin":
            segment += 1
        elif row.op == "note":
            if row.data.get("event") != "step":
                continue
            if row.data.get("do") not in OPEN_LOOP:
                return
            segment += 1
        elif row.phase == "intent":
            intents[row.row] = row
        elif row.op == "program" or row.phase == "unknown":
            return
        elif row.op in ("read", "apply") and row.phase == "done":
            yield _piece(segment, intents.pop(row.intent or 0, row), row)


def _piece(segment: int, asked: Row, outcome: Row) -> _Piece:
    arrays = asked.decode()
    cells = arrays.pop("cells")
    before = float(asked.before or 0.0)
    if asked.op == "read":
        siemens = outcome.decode("siemens")["siemens"]
        return _Piece(segment, None, cells, before, 0.0, {"siemens": siemens})
    return _Piece(segment, Kind(asked.kind), cells, before, asked.seconds or 0.0, arrays)


def _together(pieces: Iterator[_Piece]) -> Iterator[list[_Piece]]:
    """Pieces in groups that are one call: alike, one after the other, no cell twice."""
    group: list[_Piece] = []
    seen: set[int] = set()
    for piece in pieces:
        alike = group and _what(piece) == _what(group[0])
        if not alike or not seen.isdisjoint(piece.cells.tolist()):
            if group:
                yield group
            group, seen = [], set()
        group.append(piece)
        seen.update(piece.cells.tolist())
    if group:
        yield group


def _what(piece: _Piece) -> tuple[int, Kind | None, float]:
    return piece.segment, piece.kind, piece.seconds


def _calls_on(pieces: list[list[_Piece]], sample: Cells, place: Cells) -> Iterator[Call]:
    """The calls on all of `sample`; `place`: -1 for every cell of the die, left as it was."""
    place[sample] = np.arange(sample.size)
    pulsed = False
    try:
        for together in pieces:
            values: dict[str, Floats] = {}
            covered = 0
            for piece in together:
                at = place[piece.cells]
                covered += int(np.count_nonzero(at >= 0))
                for name, array in piece.values.items():
                    values.setdefault(name, np.full(sample.size, np.nan, np.float32))
                    values[name][at[at >= 0]] = array[at >= 0]
            first = together[0]
            pulsed |= first.kind is not None
            if covered == sample.size and pulsed:
                yield Call(first.kind, first.before, first.seconds, **values)
            elif covered and first.kind is not None:
                return
    finally:
        place[sample] = -1


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
