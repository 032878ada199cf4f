"""Every failure is one sentence, with an exit code that says whose it was."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_calls import Call, error_of, json_of

from rramhil.cli.errors import FAILED, STOPPED, WRONG_INPUT, Interrupted, explain
from rramhil.device import DeviceFault, LinkLost, Refused
from rramhil.nn.data import DataError
from rramhil.schema import FileError

WHOLE = """\
name = "x"
network = { name = "digits" }
data = { name = "digits" }
steps = [{ do = "evaluate" }]
"""


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (FileError("the key 'name' is missing"), WRONG_INPUT, "the key 'name' is missing"),
        (Refused("9 V is outside 0 to 4 V"), WRONG_INPUT, "9 V is outside 0 to 4 V"),
        (LinkLost("the board fell silent", [3, 4]), FAILED, "2 cells were possibly pulsed"),
        (DeviceFault("overcurrent"), FAILED, "overcurrent"),
        (DataError("mnist is not here"), FAILED, "mnist is not here"),
        (Interrupted("stopped at once"), STOPPED, "stopped at once"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), FAILED, "/x/y: no space left"),
        (OSError(errno.EACCES, "Permission denied", "/x"), FAILED, "RRAMHIL_HOME"),
        (TimeoutError("timed out"), FAILED, "timed out"),
        (KeyError("gone"), FAILED, "rramhil itself failed (KeyError: 'gone')"),
        (ValueError("two\n  lines"), WRONG_INPUT, "two lines"),
    ],
)
def test_explain(error: Exception, code: int, words: str) -> None:
    failure = explain(error)
    assert words in failure.message
    assert failure.exit_code == code
    assert "\n" not in failure.message
    assert failure.kind == type(error).__name__


def test_doubtful_cells_and_remedy_are_told_to_scripts() -> None:
    error = LinkLost("gone", [1, 2, 3])
    error.add_note("go on with: rramhil resume r")
    failure = explain(error)
    assert failure.doubtful_cells == 3
    assert failure.remedy == "go on with: rramhil resume r"


def test_with_json_the_error_is_the_document(rramhil: Call) -> None:
    result = rramhil("run", "quickstrat", "--json")
    assert result.exit_code == WRONG_INPUT
    error = json_of(result)["error"]
    assert error["kind"] == "FileError"
    assert error["message"] == error_of(result)


def test_a_usage_error_too(rramhil: Call) -> None:
    result = rramhil("resume", "--json")
    assert json_of(result)["error"]["exit_code"] == result.exit_code == WRONG_INPUT


def test_debugging_shows_the_traceback(rramhil: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RRAMHIL_DEBUG", "1")
    assert isinstance(rramhil("run", "quickstrat").exception, FileError)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "x"\nstep = []\n', "did you mean 'steps'?"),
        ("name = 'x\n", "not valid TOML"),
        (f'{WHOLE}[mapping]\nlowest = "20 V"\n', "mapping.lowest: '20 V' is not a quantity in S"),
    ],
)
def test_a_wrong_job_file_is_one_sentence_and_makes_no_run(
    rramhil: Call, tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "job.toml"
    path.write_text(text, encoding="utf-8")
    result = rramhil("run", str(path))
    assert result.exit_code == WRONG_INPUT
    assert words in error_of(result)
    assert json.loads(rramhil("show", "--json").stdout) == {"runs": []}


def test_a_home_that_is_a_file_is_one_sentence(
    rramhil: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RRAMHIL_HOME", str(tmp_path / "file"))
    result = rramhil("run")
    assert result.exit_code != 0
    assert "RRAMHIL_HOME" in error_of(result)


@pytest.mark.parametrize("words", [["show"], ["show", "--json"]])
def test_a_full_disk_under_stdout_is_one_sentence(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from rramhil.cli import main; main()", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == FAILED
    assert done.stderr.startswith("error: no space left on device")
    assert len(done.stderr.splitlines()) == 1
