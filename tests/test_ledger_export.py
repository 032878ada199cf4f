"""Tables for other tools, and every query that docs/ledger.md shows."""

import contextlib
import csv
import io
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
from fakes import FakeDie, fake_spec
from test_journal import FULL, FullDie

from rramhil.device import Kind, LinkLost, Pulse, Refused
from rramhil.journal import Journal
from rramhil.ledger import Ledger, LedgerError, LedgerReader, export, lines_of
from rramhil.ledger import table as table_module

CELLS = np.arange(10, 30)
DOCS = Path(__file__).resolve().parent.parent / "docs" / "ledger.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with everything in it: noise, pulses, a refusal, a lost link, an open intent."""
    folder = tmp_path_factory.mktemp("export")
    die = FullDie(fake_spec(**FULL))

    def landing(pulse):
        raise LinkLost("pulled", pulse.cells[:3])

    ledger = Ledger.open(folder, "fake-0", volatile=True)
    with Journal(die, ledger, "r", {"job": "name = 'x'"}) as device:
        device.read(CELLS)
        device.apply(Pulse(Kind.SET, CELLS, 1.25, np.linspace(1, 2, 20).round(2), seconds=1e-6))
        with pytest.raises(Refused):
            device.apply(Pulse(Kind.RESET, CELLS, 9.0, 2.0, seconds=1e-6))
        device.program(CELLS, 10e-6, 12e-6)
        device.mvm(0, np.ones((2, 16), np.int64))
        device.clock.sleep(1.0)
        die.landing = landing
        with pytest.raises(LinkLost):
            device.apply(Pulse(Kind.RESET, CELLS, 1.0, 2.0, seconds=1e-6))
    return folder


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_one_line_a_cell_of_a_call(folder, tmp_path, to):
    path = tmp_path / f"cells.{to}"
    with LedgerReader(folder) as reader:
        heard: list[int] = []
        assert export(reader, path, to, progress=heard.append) == lines_of(reader) == 100
        assert heard == sorted(heard)
        assert heard[-1] == 100
        assert lines_of(reader, "r") == 100
        assert lines_of(reader, "other") == 0
        assert export(reader, tmp_path / "none", to, run="other") == 0
        read = next(reader.rows(ops=("read",)))
    table = pandas.read_csv(path) if to == "csv" else pandas.read_parquet(path)
    assert len(table) == 100
    assert table.groupby(["op", "phase"], observed=True).size().to_dict() == {
        ("apply", "done"): 20,
        ("apply", "refused"): 20,
        ("apply", "unknown"): 20,
        ("program", "done"): 20,
        ("read", "done"): 20,
    }
    siemens = table[table.op == "read"].siemens.to_numpy()
    np.testing.assert_array_equal(siemens.astype(np.float32), read.decode()["siemens"])
    done = table[(table.op == "apply") & (table.phase == "done")]
    assert done.cell.tolist() == CELLS.tolist()
    assert done.gate_volts.iloc[-1] == 2.0
    assert (done.volts == 1.25).all()
    assert done.siemens.isna().all()
    assert (done.kind == "set").all()


def test_an_open_intent_and_many_small_calls(tmp_path, monkeypatch):
    monkeypatch.setattr("rramhil.ledger.table._ROW_GROUP", 30)
    device = Journal(FakeDie(fake_spec()), Ledger.open(tmp_path, "fake-0", volatile=True), "r")
    device.ledger._closing.set()  # no late commit: the last outcome stays in the transaction
    for n in range(9):
        device.read(CELLS[n:])
    device.apply(Pulse(Kind.SET, CELLS, 1.0, 2.0, seconds=1e-6))
    with LedgerReader(tmp_path) as reader:
        count = export(reader, tmp_path / "a.parquet", "parquet")
        assert count == export(reader, tmp_path / "a.csv", "csv") == 164
    device.close()
    table = pandas.read_parquet(tmp_path / "a.parquet")
    assert set(table[table.op == "apply"].phase) == {"intent"}
    with (tmp_path / "a.csv").open() as file:
        assert len(list(csv.DictReader(file))) == count


def test_export_errors_are_one_sentence(folder, tmp_path):
    with LedgerReader(folder) as reader:
        with pytest.raises(LedgerError, match="cannot export to 'xlsx'; choose parquet or csv"):
            export(reader, tmp_path / "x", "xlsx")
        for to in ("csv", "parquet"):
            with pytest.raises(LedgerError, match=r"cannot be written .*choose another file"):
                export(reader, tmp_path / "none" / "x", to)


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_a_table_that_cannot_be_finished_replaces_none(folder, tmp_path, monkeypatch, to):
    path = tmp_path / "cells"
    path.write_text("the last one")

    def full(rows):
        yield next(tables(rows))
        raise OSError(28, "No space left on device")

    tables = table_module._tables
    monkeypatch.setattr(table_module, "_tables", full)
    with (
        LedgerReader(folder) as reader,
        pytest.raises(LedgerError, match=r"cannot be written \(No space left on device\)"),
    ):
        export(reader, path, to)
    assert path.read_text() == "the last one"
    assert list(tmp_path.iterdir()) == [path]


def test_without_pyarrow_the_remedy_is_named(folder, tmp_path):
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from rramhil.ledger import LedgerReader, export\n"
        f"export(LedgerReader({str(folder)!r}), {str(tmp_path / 'x')!r}, 'parquet')"
    )
    failed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install 'rramhil[export]'" in failed.stderr.splitlines()[-1]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("query", blocks("sql"))
def test_the_documented_queries_answer(folder, query):
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite")) as ledger:
        assert ledger.execute(query).fetchall()


@pytest.mark.parametrize("code", blocks("python"))
def test_the_documented_python_runs(folder, tmp_path, monkeypatch, code):
    (tmp_path / "ledger.sqlite").write_bytes((folder / "ledger.sqlite").read_bytes())
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue().strip()


def test_the_documented_columns_are_the_columns(folder):
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite")) as ledger:
        columns = [column[1] for column in ledger.execute("PRAGMA table_info(entries)")]
        (version,) = ledger.execute("PRAGMA user_version").fetchone()
    text = DOCS.read_text(encoding="utf-8")
    documented = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)))
    assert documented == columns
    assert f"Schema version {version}" in text
