"""`doctor` examines a device and says in its exit code whether it is well."""

from __future__ import annotations

import pytest
from cli_calls import Call, error_of, json_of
from fakes import fake_spec

from rramhil.cli.bench import parse_span, spanned
from rramhil.cli.errors import FAILED, WRONG_INPUT, UsageError
from rramhil.device import Refused
from rramhil.doctor import Examination

DIE = "emulator:statistical?tiles=1&die=3"


def test_a_well_device(rramhil: Call) -> None:
    result = rramhil("doctor", DIE, "--scratch", "0:7:0-15", "--rows", "2", "--json")
    found = Examination.model_validate(json_of(result))
    assert result.exit_code == (0 if found.healthy else FAILED)
    assert found.healthy, found.remarks
    assert len(found.census.rows) == 2
    assert any("16 scratch cells" in promise.detail for promise in found.promises)


def test_a_device_whose_cells_are_all_stuck_breaks_its_promises(rramhil: Call) -> None:
    result = rramhil("doctor", f"{DIE}&stuck_lrs=1", "--rows", "1")
    assert result.exit_code == FAILED
    assert "is not well" in result.stdout
    assert "- BROKEN: " in result.stdout


@pytest.mark.parametrize("text", ["7", "0:7:", "0:7:9-", "a:b", "0:7:1-2-3"])
def test_scratch_that_names_no_cells_is_one_sentence(rramhil: Call, text: str) -> None:
    result = rramhil("doctor", DIE, "--scratch", text)
    assert result.exit_code == WRONG_INPUT
    assert "names no cells" in error_of(result)


def test_spans() -> None:
    spec = fake_spec()
    spans = [parse_span("0:1:3-5"), parse_span("0:1:5"), parse_span("1:0")]
    assert spanned(spec, spans).tolist() == [19, 20, 21, *range(256, 272)]
    with pytest.raises(Refused, match="column 16"):
        spanned(spec, [parse_span("0:1:3-16")])
    with pytest.raises(UsageError, match="backwards"):
        parse_span("0:1:5-3")
