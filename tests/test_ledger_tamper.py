"""Whoever changes a ledger afterwards is found out, and the first wrong row is named."""

import shutil
import sqlite3

import numpy as np
import pytest
from fakes import FakeDie, fake_spec

from rramhil.address import open_device
from rramhil.device import Kind, Pulse, Refused
from rramhil.journal import Journal
from rramhil.ledger import Ledger, LedgerError, LedgerReader, export
from rramhil.ledger.schema import FILE_NAME

CELLS = np.arange(40)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    with Journal(FakeDie(fake_spec()), Ledger.open(folder, "fake-0"), "r") as device:
        for _ in range(20):
            device.read(CELLS)
            device.apply(Pulse(Kind.SET, CELLS, 1.0, 2.0, seconds=1e-6))
    return folder


@pytest.fixture
def folder(recorded, tmp_path):
    shutil.copytree(recorded, tmp_path / "copy")
    return tmp_path / "copy"


def change(folder, *statements):
    db = sqlite3.connect(folder / FILE_NAME, isolation_level=None)
    for trigger in ("no_update", "no_delete", "in_order"):
        db.execute(f"DROP TRIGGER {trigger}")
    for statement in statements:
        db.execute(statement)
    db.close()


def verdict(folder, head=None):
    with LedgerReader(folder) as reader:
        return reader.verify(head)


def test_an_untouched_ledger_is_whole(folder):
    found = verdict(folder)
    assert found.ok
    assert found.rows == 63
    assert verdict(folder, found.head).ok


@pytest.mark.parametrize(
    ("statement", "row", "says"),
    [
        ("UPDATE entries SET volt_seconds = volt_seconds * 2 WHERE row = 10", 10, "altered"),
        ("UPDATE entries SET data = '{}' WHERE row = 2", 2, "altered"),
        ("UPDATE entries SET at = at + 1 WHERE row = 63", 63, "altered"),
        ("UPDATE entries SET run = 'other' WHERE row = 7", 7, "altered"),
        ("UPDATE entries SET hash = zeroblob(32) WHERE row = 7", 7, "altered"),
        ("UPDATE entries SET body = NULL WHERE row = 3", 3, "altered"),
        ("DELETE FROM entries WHERE row = 31", 31, "missing"),
        ("DELETE FROM entries WHERE row <= 2", 1, "missing"),
    ],
)
def test_a_changed_row_is_named(folder, statement, row, says):
    change(folder, statement)
    found = verdict(folder)
    assert found.row == row
    assert says in found.sentence
    assert f"row {row} " in found.sentence


def test_changed_order_is_found(folder):
    change(
        folder,
        "UPDATE entries SET row = 1000 WHERE row = 12",
        "UPDATE entries SET row = 12 WHERE row = 15",
        "UPDATE entries SET row = 15 WHERE row = 1000",
    )
    assert verdict(folder).row == 12


def test_a_cut_tail_is_found_by_the_head_only(folder):
    head = verdict(folder).head
    change(folder, "DELETE FROM entries WHERE row > 40")
    assert verdict(folder).ok
    cut = verdict(folder, head)
    assert cut.row == 41
    assert "cut off" in cut.sentence


def test_a_head_from_before_later_rows_is_fine(folder):
    head = verdict(folder).head
    with Ledger.open(folder, "fake-0") as ledger:
        ledger.note("more")
    assert verdict(folder, head).ok


def test_flipped_bytes_are_found_wherever_they_are(folder):
    """Any byte of a stored body; sizes and pages of the file itself are SQLite's to notice."""
    path = folder / FILE_NAME
    whole = path.read_bytes()
    with LedgerReader(folder) as reader:
        places = [(row.row, whole.find(row.body) + 3) for row in reader.rows(ops=("read",))]
    assert len(places) == 20
    for row, place in places[::5]:
        broken = bytearray(whole)
        broken[place] ^= 0x10
        path.write_bytes(broken)
        assert verdict(folder).row == row


def test_a_wiped_page_is_a_verdict_and_not_a_crash(folder):
    path = folder / FILE_NAME
    whole = bytearray(path.read_bytes())
    with LedgerReader(folder) as reader:
        place = whole.find(next(reader.rows(after=30, ops=("read",))).body)
    start = place // 4096 * 4096
    whole[start : start + 4096] = bytes(4096)
    path.write_bytes(whole)
    found = verdict(folder)
    assert not found.ok
    assert "row" in found.sentence


def test_a_torn_file_is_refused_in_one_sentence(folder):
    path = folder / FILE_NAME
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(LedgerError, match=r"is damaged or no ledger .*backup"):
        LedgerReader(folder)
    with pytest.raises(LedgerError, match=r"is damaged or no ledger|cannot be"):
        Ledger.open(folder, "fake-0")


def random_page(folder, row):
    """The page where the body of `row` lies, filled with random bytes."""
    path = folder / FILE_NAME
    whole = bytearray(path.read_bytes())
    with LedgerReader(folder) as reader:
        start = whole.find(reader.row(row).body) // 4096 * 4096
    whole[start : start + 4096] = np.random.default_rng(row).bytes(4096)
    path.write_bytes(whole)


@pytest.mark.parametrize("row", [2, 15, 31, 43])
def test_the_first_row_of_an_unreadable_page_is_named(folder, row):
    """63 rows are far less than SQLite is asked for at once."""
    with LedgerReader(folder) as reader:
        row = next(reader.rows(after=row, ops=("read",))).row
    random_page(folder, row)
    found = verdict(folder)
    rows = range(1, found.row)
    assert found.row <= row
    assert found.row > 1 or row < 20
    assert found.sentence.startswith(f"row {found.row} of ")
    with LedgerReader(folder) as reader:
        assert [reader.row(n).row for n in rows] == list(rows)
        with pytest.raises(LedgerError):
            reader.row(found.row)


def test_values_of_other_types_are_a_verdict_and_not_a_crash(folder):
    change(
        folder,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(sql, ') STRICT', ')') WHERE name = 'entries'",
    )
    db = sqlite3.connect(folder / FILE_NAME, isolation_level=None)
    db.execute("UPDATE entries SET hash = -1, op = x'00ff', data = x'00ff' WHERE row = 9")
    db.close()
    assert verdict(folder).row == 9


def test_an_emptied_ledger_is_refused_and_stays_as_it_is(folder):
    (folder / FILE_NAME).write_bytes(b"")
    says = r"exists but is empty; restore it from a copy, or move it away"
    with pytest.raises(LedgerError, match=says):
        Ledger.open(folder, "fake-0")
    with pytest.raises(LedgerError, match=says):
        LedgerReader(folder)
    assert (folder / FILE_NAME).stat().st_size == 0
    (folder / FILE_NAME).unlink()
    with Ledger.open(folder, "fake-0") as ledger:
        assert ledger.row <= 1


def test_a_ledger_that_is_gone_but_for_its_log_is_refused(folder):
    (folder / FILE_NAME).unlink()
    (folder / f"{FILE_NAME}-wal").write_bytes(b"rows")
    with pytest.raises(LedgerError, match=r"is missing but its log ledger\.sqlite-wal is there"):
        Ledger.open(folder, "fake-0")
    assert not (folder / FILE_NAME).exists()


def test_what_a_kill_left_of_a_creation_is_no_ledger(tmp_path):
    (tmp_path / f"{FILE_NAME}.new").write_bytes(b"half a page")
    with Ledger.open(tmp_path, "fake-0") as ledger:
        ledger.note("all well")
    assert not (tmp_path / f"{FILE_NAME}.new").exists()
    assert verdict(tmp_path).ok


DAMAGE = [
    ("UPDATE entries SET body = NULL WHERE row = 3", "row 3 of .* was altered or damaged"),
    ("UPDATE entries SET body = x'00' WHERE row = 4", "row 4 of .* was altered or damaged"),
    ("DELETE FROM entries WHERE row = 5", "row 5 of .* is missing"),
]


@pytest.mark.parametrize(("statement", "says"), DAMAGE)
def test_a_damaged_run_is_not_played(folder, statement, says):
    change(folder, statement)
    with pytest.raises(Refused, match=rf"^{says}, so no run of it can be played; restore"):
        open_device(f"replay:{folder}/{FILE_NAME}")


@pytest.mark.parametrize("to", ["csv", "parquet"])
@pytest.mark.parametrize(("statement", "says"), DAMAGE)
def test_a_damaged_ledger_is_not_exported(folder, tmp_path, statement, says, to):
    change(folder, statement)
    table = tmp_path / "table" / "cells"
    table.parent.mkdir()
    with (
        LedgerReader(folder) as reader,
        pytest.raises(LedgerError, match=rf"^{says}, so nothing is exported from it; restore"),
    ):
        export(reader, table, to)
    assert list(table.parent.iterdir()) == []
