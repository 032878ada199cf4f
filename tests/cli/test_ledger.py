"""`ledger verify`: found by path, serial or run; damage and cut tails are named."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from cli_calls import Call, error_of, json_of

from rramhil.cli.errors import FAILED, WRONG_INPUT
from rramhil.job.result import RunResult


def test_a_whole_ledger_by_run_serial_file_and_folder(
    rramhil: Call, ledger_of_a_run: RunResult
) -> None:
    ledger = Path(ledger_of_a_run.ledger)
    for which in ("last", ledger_of_a_run.run, "fake-0", str(ledger), str(ledger.parent)):
        found = json_of(rramhil("ledger", "verify", which, "--json"))
        assert (found["ok"], found["serial"]) == (True, "fake-0")
        assert found["head"] == ledger_of_a_run.ledger_head
    result = rramhil("ledger", "verify", "--head", ledger_of_a_run.ledger_head)
    assert result.exit_code == 0
    assert "as they were written" in result.stdout
    assert result.stderr == ""


def test_without_a_head_it_says_what_cannot_be_seen(
    rramhil: Call, ledger_of_a_run: RunResult
) -> None:
    assert "--head" in rramhil("ledger", "verify").stderr


@pytest.mark.parametrize(
    ("damage", "row"),
    [
        ("UPDATE entries SET cells = 9", 3),
        ("DELETE FROM entries", 3),
        ("UPDATE entries SET data = 'no json'", 1),
        ("UPDATE entries SET data = '{}'", 1),
    ],
)
def test_damage_is_named_and_the_exit_code_tells(
    rramhil: Call, ledger_of_a_run: RunResult, tmp_path: Path, damage: str, row: int
) -> None:
    copy = tmp_path / "copy.sqlite"
    shutil.copy(ledger_of_a_run.ledger, copy)
    with sqlite3.connect(copy) as db:
        for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            db.execute(f"DROP TRIGGER {trigger}")
        db.execute(f"{damage} WHERE row = {row}")
    db.close()
    result = rramhil("ledger", "verify", str(copy))
    assert result.exit_code == FAILED
    assert f"row {row} of" in result.stdout
    assert ("die     fake-0" in result.stdout) == (row > 1)  # row 1 tells whose ledger it is


def test_a_first_page_that_cannot_be_read_is_named_as_well(
    rramhil: Call, ledger_of_a_run: RunResult, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.sqlite"
    whole = bytearray(Path(ledger_of_a_run.ledger).read_bytes())
    with sqlite3.connect(ledger_of_a_run.ledger) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'entries'").fetchone()
    db.close()
    size = int.from_bytes(whole[16:18], "big")
    whole[(root - 1) * size : root * size] = b"\xa5" * size
    copy.write_bytes(whole)
    result = rramhil("ledger", "verify", str(copy))
    assert result.exit_code == FAILED
    assert "row 1 of" in result.stdout
    assert "cannot be read" in result.stdout


def test_a_cut_tail_is_seen_with_the_head(
    rramhil: Call, ledger_of_a_run: RunResult, tmp_path: Path
) -> None:
    result = rramhil("ledger", "verify", "--head", "00" * 32, "--json")
    assert result.exit_code == FAILED
    assert json_of(result)["ok"] is False


def test_what_is_no_ledger_is_one_sentence(
    rramhil: Call, ledger_of_a_run: RunResult, tmp_path: Path
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no ledger")
    assert rramhil("ledger", "verify", str(text)).exit_code != 0
    assert "notes.txt" in error_of(rramhil("ledger", "verify", str(text)))
    result = rramhil("ledger", "verify", "fake-1")
    assert result.exit_code == WRONG_INPUT
    assert "did you mean 'fake-0'?" in error_of(result)


@pytest.mark.usefixtures("ledger_of_a_run")
@pytest.mark.parametrize("head", ["abc", "0" * 63, "g" * 64])
def test_a_head_that_is_no_hash_is_wrong_input(rramhil: Call, head: str) -> None:
    result = rramhil("ledger", "verify", "--head", head)
    assert result.exit_code == WRONG_INPUT
    assert error_of(result).startswith(f"--head {head!r} is no hash; copy the 64 hex digits")


def test_a_head_in_capitals_is_the_same(rramhil: Call, ledger_of_a_run: RunResult) -> None:
    head = ledger_of_a_run.ledger_head.upper()
    assert rramhil("ledger", "verify", "--head", head).exit_code == 0


def test_a_damaged_ledger_is_not_wrong_input(
    rramhil: Call, ledger_of_a_run: RunResult, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(b"x" * 5000)
    result = rramhil("ledger", "verify", str(copy))
    assert result.exit_code == FAILED
    assert "is damaged or no ledger" in error_of(result)
