"""What a ledger is on disk: one table, one row a transaction, each row bound to the last.

The hash of a row is SHA-256 over the hash of the row before it (32 zero bytes before row 1),
the row's columns as a JSON list in the order of `COLUMNS`, and its body.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rramhil.device import Kind, Pulse, Refused
from rramhil.ledger.codec import Array, decode

FILE_NAME = "ledger.sqlite"
APPLICATION_ID = 0x7272616D
SCHEMA_VERSION = 1
GENESIS = bytes(32)
HIGH_VOLTS = 0.0
_compact = json.JSONEncoder(separators=(",", ":")).encode
COLUMNS = (
    "row", "run", "session", "op", "phase", "intent", "kind", "cells", "min_volts", "max_volts",
    "seconds", "volt_seconds", "before", "after", "at", "data",
)  # fmt: skip

_TABLE = """
CREATE TABLE entries (
  row          INTEGER PRIMARY KEY,
  run          TEXT NOT NULL,
  session      INTEGER NOT NULL,
  op           TEXT NOT NULL,
  phase        TEXT NOT NULL CHECK (phase IN ('intent', 'done', 'refused', 'unknown')),
  intent       INTEGER,
  kind         TEXT,
  cells        INTEGER NOT NULL,
  min_volts    REAL,
  max_volts    REAL,
  seconds      REAL,
  volt_seconds REAL,
  before       REAL,
  after        REAL,
  at           REAL NOT NULL,
  data         TEXT,
  hash         BLOB NOT NULL,
  body         BLOB
) STRICT;
CREATE UNIQUE INDEX outcome_of ON entries (intent) WHERE intent IS NOT NULL;
CREATE INDEX begins ON entries (row) WHERE op = 'begin';
CREATE UNIQUE INDEX ends ON entries (session) WHERE op = 'end';
CREATE INDEX states ON entries (row) WHERE op = 'state';
CREATE INDEX unknowns ON entries (row) WHERE phase = 'unknown';
CREATE INDEX intents ON entries (row) WHERE phase = 'intent';
CREATE TRIGGER no_update BEFORE UPDATE ON entries BEGIN
  SELECT RAISE(ABORT, 'a ledger is append only'); END;
CREATE TRIGGER no_delete BEFORE DELETE ON entries BEGIN
  SELECT RAISE(ABORT, 'a ledger is append only'); END;
CREATE TRIGGER in_order BEFORE INSERT ON entries
  WHEN NEW.row IS NOT (SELECT coalesce(max(row), 0) + 1 FROM entries) BEGIN
  SELECT RAISE(ABORT, 'rows of a ledger are numbered without gaps'); END;
CREATE VIEW runs AS
  SELECT b.run, b.session, b.row AS first,
    coalesce((SELECT min(n.row) - 1 FROM entries n WHERE n.op = 'begin' AND n.row > b.row),
             (SELECT max(row) FROM entries)) AS last,
    json_extract(b.data, '$.newborn') AS newborn, b.at AS began, e.at AS ended,
    json_extract(e.data, '$.outcome') AS outcome
  FROM entries b LEFT JOIN entries e ON e.op = 'end' AND e.session = b.session
  WHERE b.op = 'begin';
CREATE VIEW doubts AS
  SELECT * FROM entries WHERE phase = 'unknown'
  UNION ALL
  SELECT * FROM entries e WHERE phase = 'intent'
    AND NOT EXISTS (SELECT 1 FROM entries o WHERE o.intent = e.row);
"""


class LedgerError(Refused):
    """A ledger cannot be opened, read or written; one sentence with a remedy."""


class Entry(NamedTuple):
    """One row to append. Columns as documented in docs/ledger.md; None where they say nothing."""

    op: str
    phase: str = "done"
    intent: int | None = None
    kind: str | None = None
    cells: int = 0
    min_volts: float | None = None
    max_volts: float | None = None
    seconds: float | None = None
    volt_seconds: float | None = None
    before: float | None = None
    after: float | None = None
    data: Mapping[str, Any] | None = None
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in the ledger. `data` is the JSON object of the row, {} without one."""

    row: int
    run: str
    session: int
    op: str
    phase: str
    intent: int | None
    kind: str | None
    cells: int
    min_volts: float | None
    max_volts: float | None
    seconds: float | None
    volt_seconds: float | None
    before: float | None
    after: float | None
    at: float
    data: Mapping[str, Any]
    hash: str
    body: bytes | None

    def decode(self, *only: str) -> dict[str, Array]:
        """The arrays of the row by name (all, or those in `only`). Raises `LedgerError`."""
        if self.body is None:
            return {}
        try:
            return decode(self.body, frozenset(only) if only else None)
        except ValueError as error:
            raise LedgerError(
                f"row {self.row} of the ledger is damaged ({error}); "
                "`rramhil ledger verify` says what else is"
            ) from None

    def pulse(self) -> Pulse:
        """The pulse of an `apply` intent."""
        arrays = self.decode()
        assert self.seconds is not None
        return Pulse(
            Kind(self.kind),
            arrays["cells"],
            arrays["volts"],
            arrays.get("gate_volts"),
            seconds=self.seconds,
            limit_amps=arrays.get("limit_amps"),
        )


def next_hash(head: bytes, columns: Sequence[Any], body: bytes | None) -> bytes:
    """The hash of a row whose columns are `columns` (order of COLUMNS) after the row `head`."""
    digest = hashlib.sha256(head)
    digest.update(_compact(columns).encode())
    digest.update(body or b"")
    return digest.digest()


def create_tables(connection: sqlite3.Connection) -> None:
    """Make an empty ledger in an empty database, in one transaction."""
    connection.executescript(
        f"BEGIN; {_TABLE} PRAGMA application_id = {APPLICATION_ID};"
        f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )


def check_not_empty(path: Path) -> None:
    """Raise `LedgerError` when `path` is a file of 0 bytes: a ledger is made whole or not at all,
    so whatever emptied the file took a history with it."""
    if path.is_file() and path.stat().st_size == 0:
        raise LedgerError(
            f"the ledger {path} exists but is empty; restore it from a copy, or move it away to "
            "begin a new history"
        )


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `LedgerError` unless the open database is a ledger that this version knows."""
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise LedgerError(
            f"{path} is damaged or no ledger ({error}); take a backup of it, or name the "
            f"{FILE_NAME} of a die"
        ) from None
    if application != APPLICATION_ID:
        raise LedgerError(
            f"{path} is a database but no ledger of rramhil; name the {FILE_NAME} of a die"
        )
    if version > SCHEMA_VERSION:
        raise LedgerError(
            f"{path} was written by a newer version of rramhil (ledger schema {version}, this "
            f"version knows {SCHEMA_VERSION}); update rramhil"
        )
