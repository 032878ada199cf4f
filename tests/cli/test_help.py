"""`--help` of every command is quick because it imports nothing that is slow."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest
from cli_calls import Call, error_of

EVERY_HELP = """
import sys
from typer.main import get_command
from rramhil.cli import app

def walk(command, words):
    yield words
    for name, child in getattr(command, "commands", {}).items():
        yield from walk(child, [*words, name])

for words in walk(get_command(app), []):
    try:
        app([*words, "--help"])
    except SystemExit as end:
        assert end.code == 0, words
    print("HELP OF", " ".join(words), file=sys.stderr)

slow = {"torch", "numpy", "matplotlib", "pandas", "pyarrow", "scipy", "serial"}
print(sorted(slow & {name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def test_help_of_every_command_imports_neither_torch_nor_numpy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EVERY_HELP], capture_output=True, text=True, check=True
    )
    said = done.stderr.splitlines()
    assert said[-1] == "[]"
    helped = {line.removeprefix("HELP OF ") for line in said[:-1]}
    wanted = [
        "run",
        "recover",
        "resume",
        "replay",
        "show",
        "report",
        "export",
        "devices",
        "doctor",
        "init",
    ]
    assert helped >= {*wanted, "doctor", "init", "ledger verify", "data list", "data fetch"}


def test_version(rramhil: Call) -> None:
    assert rramhil("--version").stdout == f"rramhil {version('rramhil')}\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["rnu"], "did you mean 'run'?"),
        (["data", "lst"], "did you mean 'list'?"),
        (["ledger", "verfy"], "did you mean 'verify'?"),
        (["show", "--jso"], "did you mean '--json'?"),
        (["run", "quickstrat"], "did you mean 'quickstart'?"),
        (["run", "--device", "emulatr:40nm"], "did you mean 'emulator'?"),
        (["run", "--device", "emulator:40nm?dei=3"], "did you mean 'die'?"),
        (["data", "fetch", "mnits"], "did you mean 'mnist'?"),
        (["export", "last", "--to", "xlsx"], "'parquet', 'csv'"),
        (["export"], "see 'rramhil export --help'"),
        (["run", "--seed", "-1"], "seed"),
        (["show", "last"], "there are no runs yet"),
    ],
)
def test_what_is_mistyped_is_one_sentence_with_a_hint(
    rramhil: Call, words: list[str], hint: str
) -> None:
    result = rramhil(*words)
    assert result.exit_code != 0
    assert hint in error_of(result)
    assert result.stdout == ""
