"""`show`, `report`, `export`: looking back at runs."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from cli_calls import Call, error_of, json_of, made_up_result, stored
from fakes import FakeDie

from rramhil.cli import look
from rramhil.cli.errors import WRONG_INPUT
from rramhil.cli.look import Format, _expectation
from rramhil.job.folder import runs_folder
from rramhil.job.result import Accuracies, Outcome, RunResult, StepResult
from rramhil.journal import Journal
from rramhil.ledger import Ledger


def test_no_runs_yet(rramhil: Call) -> None:
    assert "start one with: rramhil run" in rramhil("show").stdout


def test_the_list_names_each_run_and_passes_over_what_is_none(rramhil: Call) -> None:
    stored(made_up_result("20260101-100000-a-0001"))
    stored(made_up_result("20260101-110000-b-0002", outcome="failed", device=None))
    broken = runs_folder() / "20260101-120000-c-0003"
    broken.mkdir()
    (broken / "result.json").write_text("{}")
    result = rramhil("show")
    assert "20260101-100000-a-0001   finished   40nm-0" in result.stdout
    assert "96.0 %" in result.stdout.replace("\N{NO-BREAK SPACE}", " ")
    assert "20260101-110000-b-0002   failed" in result.stdout
    assert "left out: " in result.stderr
    runs = json_of(rramhil("show", "--json"))["runs"]
    assert [run["run"][-4:] for run in runs] == ["0001", "0002"]


def test_one_run_by_the_beginning_of_its_id(rramhil: Call) -> None:
    kept = stored(made_up_result("20260101-100000-a-0001", outcome="failed", error="link lost"))
    stored(made_up_result("20260101-110000-b-0002"))
    result = rramhil("show", "20260101-10")
    for text in ("failed", "link lost", "scan", "0 to 9", "rramhil resume 20260101-100000-a-0001"):
        assert text in result.stdout
    assert RunResult.model_validate(json_of(rramhil("show", kept.run, "--json"))) == kept
    assert json_of(rramhil("show", "last", "--json"))["run"].endswith("0002")


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_a_run_of_every_outcome_can_be_shown(rramhil: Call, outcome: Outcome) -> None:
    step = StepResult(index=0, name="scan", do="scan", outcome=outcome)
    stored(
        made_up_result(
            outcome=outcome, steps=[step], device=None, accuracy=Accuracies(), intervals={}, cost={}
        )
    )
    for words in (["show"], ["show", "last"]):
        result = rramhil(*words)
        assert result.exit_code == 0, result.stderr
        assert outcome in result.stdout


def test_an_ambiguous_or_mistyped_id_is_one_sentence(rramhil: Call) -> None:
    stored(made_up_result("20260101-100000-a-0001"))
    stored(made_up_result("20260101-110000-b-0002"))
    assert "write more of the id" in error_of(rramhil("show", "2026"))
    wrong = rramhil("show", "20260101-100000-a-0009")
    assert wrong.exit_code == WRONG_INPUT
    assert "did you mean '20260101-100000-a-0001'?" in error_of(wrong)


def test_the_report_is_built_again(rramhil: Call) -> None:
    kept = stored(made_up_result(report=None))
    path = Path(rramhil("report", "last").stdout.strip())
    assert path == Path(kept.folder) / "report.html"
    assert "<html" in path.read_text(encoding="utf-8")
    assert json_of(rramhil("show", "last", "--json"))["report"] == str(path)


def test_export_replaces_nothing_unasked(
    rramhil: Call, tmp_path: Path, ledger_of_a_run: RunResult
) -> None:
    target = tmp_path / "run.csv"
    done = rramhil("export", "last", "--to", "csv", "--out", str(target), "--json")
    assert json_of(done) == {
        "run": ledger_of_a_run.run,
        "ledger": ledger_of_a_run.ledger,
        "file": str(target),
        "cell_transactions": 6,
    }
    lines = target.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 6
    assert "--force" in error_of(rramhil("export", "last", "--to", "csv", "--out", str(target)))
    assert rramhil("export", "last", "--to", "csv", "--out", str(target), "--force").exit_code == 0


def test_export_takes_what_ledger_verify_takes(
    rramhil: Call, tmp_path: Path, ledger_of_a_run: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's lines alone for a run; all on the die for its serial, ledger or folder."""
    monkeypatch.chdir(tmp_path)
    with Journal(FakeDie(), Ledger.open(Path(ledger_of_a_run.ledger).parent, "fake-0"), "b") as die:
        die.read(np.arange(3))
    ledger = Path(ledger_of_a_run.ledger)
    for which, lines in (
        (ledger_of_a_run.run, 6), ("fake-0", 9), (str(ledger), 9), (str(ledger.parent), 9),
    ):  # fmt: skip
        done = rramhil("export", which, "--to", "csv", "--force", "--json")
        assert json_of(done)["cell_transactions"] == lines, done.stderr
        assert done.stderr == ""
    monkeypatch.setattr(look, "FEW_LINES", 5)
    done = rramhil("export", "fake-0", "--to", "csv", "--force")
    assert "9 cell-transactions, about 0 MB of csv" in done.stderr
    assert (tmp_path / "fake-0.csv").is_file()
    assert (tmp_path / f"{ledger_of_a_run.run}.csv").is_file()
    assert "is no ledger file, no die in" in error_of(rramhil("export", "fake-1", "--to", "csv"))


def test_a_large_csv_is_announced_with_what_would_be_smaller() -> None:
    assert "make" not in _expectation(1000, Format.csv)
    said = _expectation(2_400_000, Format.csv)
    assert "2,400,000 cell-transactions, about 322 MB of csv; --to parquet makes about 7 MB" in said
    assert "csv" not in _expectation(2_400_000, Format.parquet)


def test_export_to_parquet(rramhil: Call, tmp_path: Path, ledger_of_a_run: RunResult) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    target = tmp_path / "run.parquet"
    assert (
        "6 cell-transactions"
        in rramhil("export", "last", "--to", "parquet", "--out", str(target)).stdout
    )
    assert parquet.read_table(target).num_rows == 6


def test_a_run_without_a_ledger_has_nothing_to_export(rramhil: Call) -> None:
    stored(made_up_result(ledger=""))
    assert "never reached a device" in error_of(rramhil("export", "last", "--to", "csv"))


def test_a_table_is_not_written_under_the_name_of_the_other_format(
    rramhil: Call, tmp_path: Path, ledger_of_a_run: RunResult
) -> None:
    target = tmp_path / "run.parquet"
    result = rramhil("export", ledger_of_a_run.run, "--to", "csv", "--out", str(target))
    assert result.exit_code == WRONG_INPUT
    assert "give --to parquet, or a name that ends in .csv" in error_of(result)
    assert not target.exists()
