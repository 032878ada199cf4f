"""Completions offer what fits and fail on nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_calls import made_up_result, stored

from rramhil.cli import complete


def test_run_ids_newest_first() -> None:
    for run in ("20260101-100000-a-0001", "20260101-110000-b-0002"):
        stored(made_up_result(run))
    assert complete.run_ids("") == ["last", "20260101-110000-b-0002", "20260101-100000-a-0001"]
    assert complete.run_ids("l") == ["last"]


def test_jobs_are_shipped_ones_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.toml").write_text("")
    assert "quickstart" in complete.jobs("q")
    assert complete.jobs("su") == ["sub/"]
    assert complete.jobs("sub/") == ["sub/mine.toml"]
    assert complete.jobs("nowhere/") == []


def test_addresses_and_data_sets() -> None:
    assert complete.addresses("emu") == ["emulator:"]
    assert complete.data_sets("mn") == ["mnist"]
    assert complete.stations("emulator") == ["emulator"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("rramhil re", ["recover", "resume", "replay", "report"]),
        ("rramhil recover cl", ["closed_form"]),
        ("rramhil run quick", ["quickstart"]),
        ("rramhil run --device emu", ["emulator:"]),
    ],
)
def test_the_shell_gets_them(line: str, offered: list[str]) -> None:
    words = line.split()
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", "from rramhil.cli import main; main()"],
        env={**os.environ, **asked, "_RRAMHIL_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == offered
