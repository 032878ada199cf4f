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
from rramhil.ledger import LedgerError
from rramhil.nn.data import DataError
from rramhil.replay import Departed
from rramhil.schema import FileError

WHOLE = """\
name = "x"
network = { name = "digits" }
data = { name = "digits" }
steps = [{ do = "scan" }]
"""


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (FileError("the key 'name' is missing"), WRONG_INPUT, "the key 'name' is missing"),
        (Refused("9 V is outside 0 to 4 V"), WRONG_INPUT, "9 V is outside 0 to 4 V"),
        (LedgerError("the ledger cannot be written"), FAILED, "the ledger cannot be written"),
        (Departed("the run departs at row 3"), FAILED, "departs at row 3"),
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
    error.add_note("rramhil resume r")
    failure = explain(error)
    assert failure.doubtful_cells == 3
    assert failure.remedy == "rramhil resume r"


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
    assert result.exit_code == FAILED
    assert "RRAMHIL_HOME" in error_of(result)


@pytest.mark.parametrize(
    "words",
    [
        ("run",),
        ("doctor", "emulator:40nm?tiles=1"),
        ("init", "FILE/bench"),
        ("export", "last", "--to", "csv", "--out", "FILE/run.csv"),
        ("data", "fetch", "mnist", "--quiet", "--folder", "FILE/data"),
    ],
)
@pytest.mark.usefixtures("ledger_of_a_run")
def test_a_folder_that_cannot_be_written_is_the_same_everywhere(
    rramhil: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("")
    if "FILE" not in "".join(words):
        monkeypatch.setenv("RRAMHIL_HOME", str(tmp_path / "file"))
    result = rramhil(*(word.replace("FILE", str(tmp_path / "file")) for word in words))
    assert result.exit_code == FAILED
    assert str(tmp_path / "file") in error_of(result)


def test_a_ledger_that_another_process_has_is_no_broken_one() -> None:
    def held() -> None:
        try:
            raise TimeoutError
        except TimeoutError:
            raise LedgerError("die 7 is in use by process 1") from None

    with pytest.raises(LedgerError) as caught:
        held()
    assert explain(caught.value).exit_code == WRONG_INPUT


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("run", "--device", ""), "--device"),
        (("run", "--station="), "--station"),
        (("init", ""), "an argument"),
        (("show", ""), "an argument"),
        (("data", "list", "--folder", ""), "--folder"),
    ],
)
def test_an_empty_word_is_an_error(
    rramhil: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = rramhil(*words)
    assert result.exit_code == WRONG_INPUT
    assert error_of(result) == f"{named} is empty; give it a value or leave it out"
    assert not list(tmp_path.glob("*.toml"))


@pytest.mark.parametrize("words", [[], ["ledger"], ["data"]])
def test_a_group_without_a_command_ends_in_one_sentence(rramhil: Call, words: list[str]) -> None:
    result = rramhil(*words)
    path = " ".join(["rramhil", *words])
    assert result.exit_code == WRONG_INPUT
    assert error_of(result) == f"{path} needs a command; see '{path} --help'"
    assert "Usage" in result.stdout


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
