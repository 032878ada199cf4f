"""Reading a ledger, also while another process writes it, also in a copied folder."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rramhil.device import Cells, Kind, Spec
from rramhil.ledger.schema import (
    COLUMNS,
    FILE_NAME,
    GENESIS,
    HIGH_VOLTS,
    LedgerError,
    Row,
    check_not_empty,
    check_schema,
    next_hash,
)
from rramhil.ledger.specs import spec_from
from rramhil.ledger.tally import Energy, Totals, Wear, add_wear, no_wear

_PAGE = 256
_SELECT = f"SELECT {', '.join(COLUMNS)}, hash, body FROM entries"


@dataclass(frozen=True, slots=True)
class Session:
    """One session of a run: its rows, how it ended (None: it still runs or was killed).

    `newborn`: a life of the die began with it, from nothing or from an earlier row (`spans`).
    """

    run: str
    session: int
    first: int
    last: int
    newborn: bool
    began: float
    ended: float | None
    outcome: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found: the first row that is wrong (None: all good) and one sentence."""

    row: int | None
    rows: int
    head: str
    sentence: str

    @property
    def ok(self) -> bool:
        """True when every row is as it was written."""
        return self.row is None


class LedgerReader:
    """The ledger at `path` (the file, or the folder that holds it), read only.

    Reads in short transactions, so that it never stands in the way of the writer. Raises
    `LedgerError` in one sentence when there is no ledger or a newer version wrote it.
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        self.path = path / FILE_NAME if path.is_dir() else path
        if not self.path.is_file():
            raise LedgerError(f"there is no ledger at {self.path}; name the {FILE_NAME} of a die")
        check_not_empty(self.path)
        self._db = self._open()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> LedgerReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ------------------------------------------------------------------ rows

    @property
    def head(self) -> str:
        """The hash of the last row, hex."""
        found = self._query("SELECT hash FROM entries ORDER BY row DESC LIMIT 1")
        return bytes(found[0][0]).hex() if found else GENESIS.hex()

    @property
    def last_row(self) -> int:
        """The number of the last row."""
        return int(self._query("SELECT coalesce(max(row), 0) FROM entries")[0][0])

    @property
    def serial(self) -> str:
        """The serial of the die; empty where row 1, which tells it, is gone or damaged."""
        valid = "CASE WHEN json_valid(data) THEN json_extract(data, '$.serial') END"
        try:
            found = self._db.execute(f"SELECT {valid} FROM entries WHERE row = 1").fetchone()
        except sqlite3.DatabaseError:
            return ""
        return str(found[0] or "") if found else ""

    def sessions(self, run: str | None = None) -> list[Session]:
        """All sessions in order, or those of one run."""
        where, values = ("", ()) if run is None else (" WHERE run = ?", (run,))
        found = self._query(f"SELECT * FROM runs{where} ORDER BY session", values)
        return [
            Session(name, session, first, last, bool(newborn), began, ended, outcome)
            for name, session, first, last, newborn, began, ended, outcome in found
        ]

    def runs(self) -> list[str]:
        """The runs in the order in which they began."""
        return list(dict.fromkeys(session.run for session in self.sessions()))

    def row(self, number: int) -> Row:
        """One row. Raises `LedgerError` when there is no such row."""
        found = self._query(f"{_SELECT} WHERE row = ?", (number,))
        if not found:
            raise LedgerError(f"{self.path} has no row {number}; its last is {self.last_row}")
        return _as_row(found[0])

    def cell_count(self, ops: tuple[str, ...], run: str | None = None) -> int:
        """Cells of all calls of the kinds `ops` (of one run), each call counted once."""
        marks = ", ".join("?" * len(ops))
        mine = "" if run is None else " AND run = ?"
        sql = (
            f"SELECT coalesce(sum(cells), 0) FROM entries WHERE op IN ({marks}) AND intent IS NULL"
        )
        return int(self._query(sql + mine, (*ops, *(() if run is None else (run,))))[0][0])

    def rows(
        self,
        run: str | None = None,
        after: int = 0,
        upto: int | None = None,
        session: int | None = None,
        ops: tuple[str, ...] | None = None,
        backwards: bool = False,
    ) -> Iterator[Row]:
        """Rows with `after` < row <= `upto`, in order, of one run, session or kind of call."""
        terms, values = [], []
        for column, wanted in (("run", run), ("session", session)):
            if wanted is not None:
                terms.append(f" AND {column} = ?")
                values.append(wanted)
        if ops is not None and len(ops) == 1:
            terms.append(f" AND op = '{ops[0]}'")  # the text of a partial index's condition
        elif ops is not None:
            terms.append(f" AND op IN ({', '.join('?' * len(ops))})")
            values += ops
        low, high = after, self.last_row if upto is None else upto
        order = "DESC" if backwards else "ASC"
        query = f"{_SELECT} WHERE row > ? AND row <= ?{''.join(terms)} ORDER BY row {order}"
        while low < high:
            page = self._query(f"{query} LIMIT {_PAGE}", (low, high, *values))
            yield from map(_as_row, page)
            if len(page) < _PAGE:
                return
            low, high = (low, page[-1][0] - 1) if backwards else (page[-1][0], high)

    def spec(self, session: int | None = None) -> Spec:
        """The spec that a session (by default the last one) began with."""
        return spec_from(self._begin(session).data["spec"])

    def header(self, session: int | None = None) -> Mapping[str, Any]:
        """The header that a session (by default the last one) was given: versions, job, seeds."""
        header: Mapping[str, Any] = self._begin(session).data["header"]
        return header

    def session_at(self, row: int) -> int | None:
        """The last session that had begun by `row`; None before the first."""
        found = self._query("SELECT max(row) FROM entries WHERE op = 'begin' AND row <= ?", (row,))
        return None if found[0][0] is None else int(found[0][0])

    def last_row_of(self, run: str) -> int:
        """The last row before another run began, of the last session of `run`: where that run
        left the die. Raises `LedgerError` when there is no such run."""
        sessions = self.sessions(run)
        if not sessions:
            raise LedgerError(f"{self.path} has no run {run!r}; it has {', '.join(self.runs())}")
        return sessions[-1].last

    def pulsed_since(self, row: int, other_than: str) -> tuple[str, ...]:
        """The runs that sent pulses after `row`, in order, but for the run `other_than`."""
        found = self._query(
            "SELECT run FROM entries WHERE phase = 'intent' AND op IN ('apply', 'program') "
            "AND row > ? AND run != ? GROUP BY run ORDER BY min(row)", (row, other_than),
        )  # fmt: skip
        return tuple(str(run) for (run,) in found)

    # ------------------------------------------------------------------ lives

    @property
    def life(self) -> int:
        """The row that began the die's present life: its last newborn session, else row 1."""
        return self.life_at(self.last_row)

    def life_at(self, row: int) -> int:
        """The row that began the life of the die to which `row` belongs."""
        born = self._query(
            "SELECT max(row) FROM entries WHERE op = 'begin' AND json_extract(data, '$.newborn') "
            "AND row <= ?", (row,),
        )  # fmt: skip
        return int(born[0][0] or 1)

    def spans(self, upto: int | None = None) -> list[tuple[int, int]]:
        """The rows (first, last) that the die's life up to row `upto` is made of, in order.

        One span as a rule. A life may go on from an earlier row, however (`Ledger.begin_run`):
        then what led to that row comes first, and the rows between belong to other lives.
        """
        last = self.last_row if upto is None else upto
        spans: list[tuple[int, int]] = []
        while True:
            first = self.life_at(last)
            spans.insert(0, (first, last))
            found = self._query(
                "SELECT json_extract(data, '$.continues') FROM entries WHERE row = ?", (first,)
            )
            if not found or found[0][0] is None:
                return spans
            last = int(found[0][0])
            if not 0 < last < first:
                raise LedgerError(
                    f"row {first} of {self.path} goes on from row {last}, which is none before "
                    "it; `rramhil ledger verify` says what is damaged"
                )

    def life_rows(
        self,
        ops: tuple[str, ...],
        after: int = 0,
        upto: int | None = None,
        backwards: bool = False,
    ) -> Iterator[Row]:
        """Rows of the die's life up to row `upto`, as `rows` gives them."""
        for first, last in self.spans(upto)[:: -1 if backwards else 1]:
            yield from self.rows(
                after=max(after, first - 1), upto=last, ops=ops, backwards=backwards
            )

    # ------------------------------------------------------------------ sums

    def doubtful(self, upto: int | None = None) -> Cells:
        """Cells possibly pulsed and not read since, in the present life (the life up to row
        `upto`), ascending."""
        doubtful: set[int] = set()
        for first, last in self.spans(upto):
            after = first - 1
            for number in (*self._doubts(first, last), None):
                following = last if number is None else number
                reads = self.rows(after=after, upto=following, ops=("read",)) if doubtful else ()
                for read in reads:
                    doubtful.difference_update(_settled(read).tolist())
                    if not doubtful:
                        break
                if number is not None:
                    doubtful.update(_doubted(self.row(number)).tolist())
                    after = number
        return np.array(sorted(doubtful), dtype=np.int64)

    def _doubts(self, first: int, last: int) -> list[int]:
        """Rows that leave doubt. As the view `doubts`, but seen from row `last`."""
        found = self._query(
            "SELECT row FROM entries WHERE phase = 'unknown' AND row BETWEEN ? AND ? UNION ALL "
            "SELECT row FROM entries e WHERE phase = 'intent' AND row BETWEEN ? AND ? AND NOT "
            "EXISTS (SELECT 1 FROM entries o WHERE o.intent = e.row AND o.row <= ?) ORDER BY row",
            (first, last, first, last, last),
        )
        return [int(row[0]) for row in found]

    def wear(self, high_volts: float = HIGH_VOLTS, upto: int | None = None) -> Wear:
        """What each cell has suffered in the present life (the life up to row `upto`).

        Starts from the last wear that an `end` row holds, when that is for `high_volts`.
        """
        upto = self.last_row if upto is None else upto
        spec = self.spec(self.session_at(upto))
        wear, after = no_wear(spec.size, high_volts), 0
        held = self._held_wear(high_volts, upto)
        if held is not None:
            arrays, after = held.decode(), held.row
            for n, kind in enumerate(Kind):
                wear.done[kind][:] = arrays["done"][n]
                wear.doubtful[kind][:] = arrays["doubtful"][n]
            wear.volt_seconds[:] = arrays["volt_seconds"]
        attempts = spec.program.attempts if spec.program else 0
        add_wear(wear, self.life_rows(("apply", "program"), after, upto), attempts)
        return wear

    def _held_wear(self, high_volts: float, upto: int) -> Row | None:
        """The newest `end` row of the life up to `upto` that holds its wear."""
        for first, last in reversed(self.spans(upto)):
            found = self._query(
                "SELECT max(row) FROM entries WHERE op = 'end' AND row BETWEEN ? AND ? "
                "AND json_extract(data, '$.high_volts') = ?",
                (first, last, high_volts),
            )
            if found[0][0] is not None:
                return self.row(int(found[0][0]))
        return None

    def pulses_since_wear(self) -> int:
        """Cell pulses in the present life that no `end` row has summed up yet."""
        upto = self.last_row
        held = self._held_wear(HIGH_VOLTS, upto)
        after = 0 if held is None else held.row
        counts = [
            self._query(
                "SELECT coalesce(sum(cells), 0) FROM entries WHERE phase = 'intent' "
                "AND row > ? AND row <= ?",
                (max(after, first - 1), last),
            )
            for first, last in self.spans(upto)
        ]
        return sum(int(count[0][0]) for count in counts)

    def totals(self, run: str | None = None, first: int = 1, last: int | None = None) -> Totals:
        """What the rows `first` to `last` (of one run) cost. Refused and unknown calls cost time
        but count no pulses."""
        last = self.last_row if last is None else last
        where, values = "row BETWEEN ? AND ?", (first, last)
        if run is not None:
            where, values = f"{where} AND run = ?", (*values, run)  # type: ignore[assignment]
        sums = self._query(
            "SELECT op, phase, kind, count(*), sum(cells), coalesce(sum(volt_seconds), 0), "
            f"coalesce(sum(after - before), 0) FROM entries WHERE {where} AND phase != 'intent' "
            "AND op IN ('read', 'apply', 'mvm', 'program', 'adjust', 'sleep') "
            "GROUP BY op, phase, kind", values,
        )  # fmt: skip
        done = [row for row in sums if row[1] == "done"]
        pulses = {k: sum(r[4] for r in done if r[0] == "apply" and r[2] == k.value) for k in Kind}
        reads = sum(r[4] for r in done if r[0] == "read")
        sent = sum(pulses.values())
        for row in self.rows(run, first - 1, last, ops=("program",)):
            counts = row.decode("sets", "resets", "reads") if row.phase == "done" else {}
            pulses[Kind.SET] += int(counts["sets"].sum()) if counts else 0
            pulses[Kind.RESET] += int(counts["resets"].sum()) if counts else 0
            reads += int(counts["reads"].sum()) if counts else 0
        return Totals(
            device_seconds=float(sum(r[6] for r in sums)),
            waiting_seconds=float(sum(r[6] for r in sums if r[0] == "sleep")),
            pulses=pulses,
            unpriced=sum(pulses.values()) - sent,
            reads=int(reads),
            products=int(sum(r[4] for r in done if r[0] == "mvm")),
            calls=int(sum(r[3] for r in sums)),
            volt_seconds=float(sum(r[5] for r in done)),
            **self._joules(run, first, last),
        )

    def _joules(self, run: str | None, first: int, last: int) -> dict[str, float]:
        names = ("joules", "read_joules", "product_joules")
        if not self.sessions():
            return dict.fromkeys(names, 0.0)
        energy = Energy(self.spec())
        for row in self.rows(run, first - 1, last, ops=("read", "apply", "mvm")):
            energy.add(row)
        earlier = self.life_rows(("read",), upto=first, backwards=True)
        energy.settle(row for row in earlier if row.phase == "done")
        return {name: getattr(energy, name) for name in names}

    # ------------------------------------------------------------------ trust

    def verify(self, head: str | None = None) -> Verdict:
        """Recompute the chain. Names the first row that is damaged, altered or missing.

        A tail that was cut off leaves a whole chain behind: only `head` (hex, as a report
        prints it) tells. A head from before the last rows is fine.
        """
        chain, count, seen = GENESIS, 0, False
        try:
            for found in self._stored():
                number, stored = found[0], found[-2]
                if number != count + 1:
                    return self._wrong(count + 1, count, chain, "is missing")
                if not _chained(chain, found):
                    return self._wrong(number, count, chain, "was altered or damaged")
                chain, count = stored, number
                seen = seen or stored.hex() == head
        except sqlite3.DatabaseError as error:
            return self._wrong(count + 1, count, chain, f"cannot be read ({error})")
        if head is not None and not seen:
            sentence = (
                f"no row has the hash {head}: rows after {count} were cut off, or this is not "
                "the ledger that the head was taken from"
            )
            return Verdict(count + 1, count, chain.hex(), sentence)
        return Verdict(None, count, chain.hex(), f"all {count} rows are as they were written")

    def _stored(self) -> Iterator[tuple[Any, ...]]:
        """All rows as they lie there, up to the first that SQLite cannot read."""
        number, size = 0, _PAGE
        query = f"{_SELECT} WHERE row > ? ORDER BY row LIMIT ?"
        while True:
            try:
                page = self._db.execute(query, (number, size)).fetchall()
            except sqlite3.DatabaseError:
                if size == 1:
                    raise
                size = 1  # an error loses its whole answer: go row by row up to it
                continue
            if not page:
                return
            yield from page
            number = page[-1][0]

    def _wrong(self, row: int, rows: int, head: bytes, what: str) -> Verdict:
        return Verdict(row, rows, head.hex(), f"row {row} of {self.path} {what}")

    # ------------------------------------------------------------------ inside

    def _begin(self, session: int | None) -> Row:
        if session is None:
            known = self.sessions()
            if not known:
                raise LedgerError(f"{self.path} holds no run yet; run something on the die first")
            session = known[-1].session
        return self.row(session)

    def _open(self) -> sqlite3.Connection:
        """Read only; a write-ahead log that was left behind is read along where it can be."""
        plain = f"{self.path.resolve().as_uri()}?mode=ro"
        wal = self.path.with_name(self.path.name + "-wal")
        ways = [plain] if wal.exists() and wal.stat().st_size else [plain, f"{plain}&immutable=1"]
        failed: sqlite3.Error | None = None
        for way in ways:
            db = sqlite3.connect(
                way, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0
            )
            try:
                db.execute("PRAGMA query_only = ON")
                db.execute("SELECT count(*) FROM sqlite_master").fetchone()
                check_schema(db, self.path)
                return db
            except sqlite3.OperationalError as error:
                failed = error
            except sqlite3.DatabaseError as error:
                db.close()
                raise LedgerError(
                    f"{self.path} is damaged or no ledger ({error}); take a backup of it, or name "
                    f"the {FILE_NAME} of a die"
                ) from None
            except LedgerError:
                db.close()
                raise
            db.close()
        raise LedgerError(
            f"the ledger {self.path} cannot be read ({failed}); copy its folder to a place where "
            "you may write"
        )

    def _query(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise LedgerError(
                f"the ledger {self.path} is damaged ({error}); `rramhil ledger verify` says where"
            ) from None


def _chained(chain: bytes, found: tuple[Any, ...]) -> bool:
    """Whether a stored row follows `chain`. Damaged pages may hold values of any type."""
    try:
        return bool(next_hash(chain, found[:-2], found[-1]) == found[-2])
    except (TypeError, ValueError):
        return False


def _as_row(found: tuple[Any, ...]) -> Row:
    data = json.loads(found[15]) if found[15] is not None else {}
    columns = dict(zip(COLUMNS, found, strict=False))
    return Row(**{**columns, "data": data}, hash=bytes(found[16]).hex(), body=found[17])


def _doubted(row: Row) -> Cells:
    arrays = row.decode("cells", "maybe")
    empty = np.empty(0, dtype=np.int64)
    return arrays.get("cells" if row.phase == "intent" else "maybe", empty)


def _settled(row: Row) -> Cells:
    settles = row.phase == "done"
    return row.decode("cells")["cells"] if settles else np.empty(0, dtype=np.int64)
