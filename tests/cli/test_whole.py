"""A short job from `run` to `replay`, on the emulated chip."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from cli_calls import Call, json_of

from rramhil.cli.errors import FAILED, WRONG_INPUT
from rramhil.job.result import RunResult

SHORT = """\
name = "short"
device = { address = "emulator:40nm?tiles=1&die=5" }
network = { name = "digits" }
data = { name = "digits" }

[[steps]]
do = "scan"
reads = 2

[[steps]]
do = "tune"
cells = 32
points = 23

[[steps]]
do = "program"

[[steps]]
do = "evaluate"
name = "open_loop"
"""


@pytest.fixture
def finished(rramhil: Call, tmp_path: Path) -> RunResult:
    """Run under the station file that `init` writes, which must not stand in the way."""
    assert rramhil("init", str(tmp_path)).exit_code == 0
    path, station = tmp_path / "short.toml", tmp_path / "station.toml"
    path.write_text(SHORT)
    done = rramhil("run", str(path), "--station", str(station), "--seed", "11", "--json")
    assert done.exit_code == 0, done.stderr
    return RunResult.model_validate(json_of(done))


def test_what_was_run_can_be_shown_verified_exported_and_replayed(
    rramhil: Call, finished: RunResult, tmp_path: Path
) -> None:
    assert (finished.outcome, finished.seed) == ("finished", 11)
    assert 0.3 < (finished.accuracy.open_loop or 0) < 1
    assert finished.cost["open_loop"].pulses > 0
    assert json_of(rramhil("show", "last", "--json")) == finished.model_dump(mode="json")

    verdict = rramhil("ledger", "verify", finished.run, "--head", finished.ledger_head, "--json")
    assert json_of(verdict)["ok"]
    table = tmp_path / "short.csv"
    assert rramhil("export", "last", "--to", "csv", "--out", str(table)).exit_code == 0
    assert table.stat().st_size > 10_000

    played = rramhil("replay", "last", "--json")
    assert played.exit_code == 0, played.stderr
    assert json_of(played)["same"]

    claim = Path(finished.folder) / "result.json"
    altered = json.loads(claim.read_text(encoding="utf-8"))
    altered["accuracy"]["open_loop"] = 0.999
    claim.write_text(json.dumps(altered), encoding="utf-8")
    differs = rramhil("replay", "last")
    assert differs.exit_code == FAILED
    assert "differs" in differs.stdout
    assert "0.999000" in differs.stdout

    with sqlite3.connect(finished.ledger) as db:
        for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            db.execute(f"DROP TRIGGER {trigger}")
        db.execute("DELETE FROM entries WHERE row = 9")
    db.close()
    for words in (["replay", "last"], ["export", "last", "--to", "csv", "--force"]):
        damaged = rramhil(*words)
        assert damaged.exit_code == FAILED
        assert "row 9 of" in damaged.stderr


def test_a_finished_run_is_not_resumed(rramhil: Call, finished: RunResult) -> None:
    result = rramhil("resume", "last")
    assert result.exit_code == 2
    assert f"{finished.run} is finished" in result.stderr
    assert "go on with" not in result.stderr


def test_a_job_refused_before_its_first_step_is_not_to_be_resumed(
    rramhil: Call, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(SHORT.replace("reads = 2", "set_gate = 9"))
    result = rramhil("run", str(path), "--json")
    assert result.exit_code == WRONG_INPUT
    error = json_of(result)["error"]
    assert "set_gate is 9 V" in error["message"]
    assert error["remedy"] is None
    assert "resume" not in result.stderr
    shown = rramhil("show", "last")
    assert "failed" in shown.stdout
    assert "rramhil resume" not in shown.stdout
