"""docs/commands.md tells every command and every option, and shows none that do not exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from rramhil.cli import app
from rramhil.cli.errors import Failure
from rramhil_drivers import emulate
from rramhil_drivers.twin import app as twin

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"(?ms)^## ([a-z ]+)\n(.*?)(?=^## |\Z)", PAGE))


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its words."""
    children = getattr(command, "commands", {})
    for name, child in children.items():
        yield from commands(child, (*words, name))
    if not children:
        yield " ".join(words), command


SERVERS = {"emulate board"}
"""They print an address and go on: no answer to give as JSON."""
OURS = {"emulate": emulate.app, "twin": twin.app}
"""Commands that our own drivers bring."""
EVERY = dict(commands(get_command(app)))
for word, brought in OURS.items():
    EVERY |= commands(get_command(brought), (word,))


def options(command: Any) -> set[str]:
    return {option for p in command.params for option in p.opts if option.startswith("-")}


@pytest.mark.parametrize("name", EVERY)
def test_each_command_and_each_of_its_options_is_documented(name: str) -> None:
    missing = options(EVERY[name]) - {"--help", "-h", "--json"} - _said(SECTIONS[name])
    assert not missing
    assert "--json" in options(EVERY[name]) or name in SERVERS


@pytest.mark.parametrize("name", EVERY)
def test_no_option_is_documented_that_does_not_exist(name: str) -> None:
    assert _said(SECTIONS[name]) <= options(EVERY[name])


def _said(section: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", section))


def test_each_command_line_that_is_shown_is_understood() -> None:
    shown = re.findall(r"(?m)^(rramhil [^#>\n]*)", PAGE)
    assert len(shown) >= len(EVERY)
    for line in shown:
        _, *words = shlex.split(line)
        name = next(n for n in EVERY if words[: len(n.split())] == n.split())
        EVERY[name].make_context(name, words[len(name.split()) :], resilient_parsing=False)


def test_the_error_document_is_the_one_that_is_printed() -> None:
    shown = re.search(r'\{"error": (\{.*\})\}', PAGE)
    assert shown is not None
    Failure.model_validate_json(shown.group(1))
    assert set(re.findall(r'"(\w+)":', shown.group(1))) == set(Failure.model_fields)
