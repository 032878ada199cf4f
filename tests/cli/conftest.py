"""A way to call the command line, with data and settings of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_calls import Call, made_up_result, stored
from fakes import FakeDie
from typer.testing import CliRunner, Result

from rramhil.cli import app
from rramhil.device import Kind, Pulse
from rramhil.job.result import RunResult
from rramhil.journal import Journal
from rramhil.ledger import Ledger
from rramhil.station import home


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


@pytest.fixture
def ledger_of_a_run() -> RunResult:
    """A stored run whose ledger holds a reading of four cells and a SET of two."""
    run = "20260101-120000-quickstart-ab12"
    die = FakeDie()
    ledger = Ledger.open(home() / "dies" / die.spec.serial, die.spec.serial, volatile=True)
    with Journal(die, ledger, run) as device:
        device.read(np.arange(4))
        device.apply(Pulse(Kind.SET, np.arange(2), volts=1.0, gate_volts=1.0, seconds=1e-6))
        device.finish("finished")
        head = ledger.head
    return stored(made_up_result(run, ledger=str(ledger.path), ledger_head=head))
