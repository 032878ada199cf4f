"""A ledger as a table for other tools: one line for each cell of each read, apply and program."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rramhil.ledger.codec import Array
from rramhil.ledger.reader import LedgerReader
from rramhil.ledger.schema import LedgerError, Row

FORMATS = ("parquet", "csv")
PER_CALL = ("row", "run", "session", "op", "phase", "kind", "seconds", "before", "after", "at")
PER_CELL = ("cell", "volts", "gate_volts", "limit_amps", "siemens")
_TEXTS = {"run", "op", "phase", "kind"}
_INTEGERS = {"row", "session", "cell"}
_OPS = ("read", "apply", "program")
_ROW_GROUP = 200_000

BYTES_PER_LINE = {"csv": 134, "parquet": 3}
"""About what a cell-transaction takes in a file: the quickstart's, measured."""

Table = Mapping[str, Any]


def lines_of(reader: LedgerReader, run: str | None = None) -> int:
    """How many cell-transactions `export` would write, without decoding any."""
    return reader.cell_count(_OPS, run)


def export(
    reader: LedgerReader,
    path: Path | str,
    to: str,
    run: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write the cell-transactions of a ledger (of one run) to `path`; returns how many.

    Columns: PER_CALL and PER_CELL, in SI units. `row` and `phase` of a pulse are the row of its
    intent and the phase of its outcome ('intent' where there is none); `siemens` is empty for
    pulses and refused calls. `progress` hears of the lines written so far. Raises `LedgerError` in
    one sentence, also for a ledger that does not verify; then `path` is as it was.
    """
    if to not in FORMATS:
        raise LedgerError(f"cannot export to {to!r}; choose {' or '.join(FORMATS)}")
    verdict = reader.verify()
    if not verdict.ok:
        raise LedgerError(
            f"{verdict.sentence}, so nothing is exported from it; restore the ledger from a copy"
        )
    tables = _tables(reader.rows(run, ops=_OPS))
    if progress is not None:
        tables = _followed(tables, progress)
    write = _write_csv if to == "csv" else _write_parquet
    try:
        with _whole_or_not_at_all(Path(path)) as file:
            return write(file, tables)
    except OSError as error:
        raise LedgerError(
            f"{path} cannot be written ({error.strerror or error}); choose another file"
        ) from None


@contextlib.contextmanager
def _whole_or_not_at_all(path: Path) -> Iterator[Path]:
    """A file to write that takes the place of `path` only when all went well."""
    if path.exists() and not path.is_file():
        yield path  # a pipe or a device has no place that could be taken
        return
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _tables(rows: Iterable[Row]) -> Iterator[Table]:
    intent: Row | None = None
    for row in rows:
        if intent is not None and row.intent != intent.row:
            yield _table(intent, None)
        if row.phase == "intent":
            intent = row
            continue
        yield _table(intent, row) if intent and row.intent else _table(row, row)
        intent = None
    if intent is not None:
        yield _table(intent, None)


def _followed(tables: Iterable[Table], progress: Callable[[int], None]) -> Iterator[Table]:
    written = 0
    for table in tables:
        yield table
        written += table["count"]
        progress(written)


def _table(asked: Row, outcome: Row | None) -> Table:
    arrays: dict[str, Array] = asked.decode()
    if outcome is not None and outcome is not asked:
        arrays = {**outcome.decode(), **arrays}
    count = arrays["cells"].size if "cells" in arrays else 0
    call = {name: getattr(asked, name) for name in PER_CALL}
    call["phase"] = outcome.phase if outcome else asked.phase
    call["after"] = outcome.after if outcome else None
    cells = {"cell": arrays.get("cells", np.empty(0, np.int64))}
    return {"count": count, **call, **cells, **{n: arrays.get(n) for n in PER_CELL[1:]}}


def _write_csv(path: Path, tables: Iterable[Table]) -> int:
    written = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow((*PER_CALL, *PER_CELL))
        for table in tables:
            count = table["count"]
            call = [table[name] for name in PER_CALL]
            columns = [
                [""] * count if table[name] is None else table[name].tolist() for name in PER_CELL
            ]
            lines.writerows([*call, *cells] for cells in zip(*columns, strict=True))
            written += count
    return written


def _write_parquet(path: Path, tables: Iterable[Table]) -> int:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise LedgerError(
            "exporting to Parquet needs pyarrow; install it with pip install 'rramhil[export]', "
            "or export to csv"
        ) from None

    def kind(name: str) -> Any:
        if name in _TEXTS:
            return arrow.dictionary(arrow.int32(), arrow.string())
        return arrow.int64() if name in _INTEGERS else arrow.float64()

    schema = arrow.schema([(name, kind(name)) for name in (*PER_CALL, *PER_CELL)])
    written, waiting = 0, []
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in tables:
            count = table["count"]
            columns = [
                arrow.array([table[name]] * count, schema.field(name).type) for name in PER_CALL
            ]
            for name in PER_CELL:
                values = [None] * count if table[name] is None else table[name]
                columns.append(arrow.array(values, schema.field(name).type, from_pandas=False))
            waiting.append(arrow.table(columns, schema=schema))
            written += count
            if sum(part.num_rows for part in waiting) >= _ROW_GROUP:
                writer.write_table(_joined(arrow, waiting))
                waiting.clear()
        if waiting:
            writer.write_table(_joined(arrow, waiting))
    return written


def _joined(arrow: Any, tables: list[Any]) -> Any:
    return arrow.concat_tables(tables).unify_dictionaries()
