"""`rramhil abort`: another program's outputs."""

from __future__ import annotations

from pathlib import Path

import process_driver
import pytest
from cli_calls import Call, error_of, json_of

from rramhil.device import Outputs, Refused
from rramhil.station import connect


def test_it_switches_off_what_another_program_uses(
    rramhil: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(process_driver.install(tmp_path / "site"))
    with connect(f"bench:lot 3/7?folder={tmp_path}") as device:
        said = rramhil("abort", "lot 3/7")
        assert said.exit_code == 0
        assert "outputs of die lot 3/7: off (its driver closed it; it took" in said.stdout
        again = rramhil("abort", "lot 3/7", "--json")
        assert json_of(again)["off"] is True
        with pytest.raises(Refused, match="another process asked for it"):
            device.read([0])


def test_a_die_that_nobody_has(rramhil: Call) -> None:
    result = rramhil("abort", "nobody")
    assert result.exit_code == 2
    assert error_of(result).startswith("no process on this computer answers for die nobody")


def test_what_is_not_known_to_be_off_is_exit_code_1(
    rramhil: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Outputs(False, "the cable is out", 0.2)
    monkeypatch.setattr("rramhil.station.abort", lambda _: answer)
    result = rramhil("abort", "7")
    assert result.exit_code == 1
    assert "NOT known to be off (the cable is out; it took 200 ms)" in result.stdout
