"""A way to call the command line, with data and settings of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_calls import Call
from typer.testing import CliRunner, Result

from rramhil.cli import app


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RRAMHIL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("RRAMHIL_DEBUG", raising=False)


@pytest.fixture
def rramhil() -> Call:
    """Calls the command line in this process: `rramhil("show", "last").stdout`."""

    def call(*words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    return call
