"""Whoever changes a ledger afterwards is found out, and the first wrong row is named."""

import shutil
import sqlite3

import numpy as np
import pytest
from fakes import FakeDie, fake_spec

from rramhil.device import Kind, Pulse
from rramhil.journal import Journal
from rramhil.ledger import Ledger, LedgerError, LedgerReader
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
