"""Commands that drivers bring, and what `devices` says of drivers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cli_calls import Call, error_of, json_of

FORGE = """
import typer

app = typer.Typer()

@app.command()
def heat(celsius: float) -> None:
    print(f"{celsius} degrees")

@app.command()
def cool() -> None:
    raise ValueError("it is cold already")

@app.command()
def melt() -> None:
    raise KeyboardInterrupt

nothing = 3
"""


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with commands and a broken driver."""
    (tmp_path / "forge_commands.py").write_text(FORGE)
    info = tmp_path / "forge-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: forge\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[rramhil.commands]\nforge = forge_commands:app\nnought = forge_commands:nothing\n"
        "[rramhil.drivers]\nbroken = forge_missing:driver\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "forge_commands", raising=False)


@pytest.mark.usefixtures("forge")
def test_a_drivers_command_is_listed_unloaded_and_runs(rramhil: Call) -> None:
    listed = rramhil("--help").stdout
    assert "Comes with forge." in listed
    assert "forge_commands" not in sys.modules
    assert "heat" in rramhil("forge", "--help").stdout
    assert rramhil("forge", "heat", "20").stdout == "20.0 degrees\n"
    assert error_of(rramhil("forge", "cool")) == "it is cold already"
    stopped = rramhil("forge", "melt")
    assert (stopped.exit_code, stopped.stderr) == (130, "stopped\n")
    assert "did you mean 'forge'?" in error_of(rramhil("froge"))


@pytest.mark.usefixtures("forge")
def test_what_is_no_command_is_one_sentence(rramhil: Call) -> None:
    assert "forge_commands:nothing is no typer.Typer" in error_of(rramhil("nought"))


@pytest.mark.usefixtures("forge")
def test_a_broken_driver_does_not_hide_the_others(rramhil: Call) -> None:
    found = {entry["scheme"]: entry for entry in json_of(rramhil("devices", "--json"))["drivers"]}
    assert "forge_missing" in found["broken"]["error"]
    assert found["emulator"]["example"].startswith("emulator:")
    shown = rramhil("devices").stdout
    assert "cannot be loaded" in shown
    assert "example: " + found["serial"]["example"] in shown


def test_each_example_address_is_understood(rramhil: Call) -> None:
    from rramhil.address import parse_address

    for entry in json_of(rramhil("devices", "--scan", "--json"))["drivers"]:
        parsed = parse_address(entry["example"])
        assert parsed.scheme == entry["scheme"]
