"""What cannot be computed in situ is refused in one sentence, before the first pulse."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from cli_calls import Call, error_of, json_of

from rramhil.cli.errors import WRONG_INPUT
from rramhil.ledger import LedgerReader

JOB = """\
name = "wrong"
device = { address = "emulator:ADDRESS" }
network = { name = "digits-1b2b" }
data = { name = "digits" }
[mapping]
scheme = "two_column"
levels = LEVELS
lowest = "8 uS"
highest = "200 uS"
tolerance = "HALF uS"
[[steps]]
do = "program"
how = "on_chip"
[[steps]]
do = "TRIM"
[[steps]]
do = "evaluate"
how = "in_situ"
"""

WRONG = [
    ("SMALL?tiles=1", "2", "trim", "needs 3 tiles of 128 x 128 cells, but 1", "a die with 3 tiles"),
    ("40nm", "32", "trim", "holds 16 windows", "map to fewer levels"),
    ("ember", "2", "refresh", "computes no product on the array", 'set how = "readback"'),
    ("ember", "2", "trim", "so its columns cannot be trimmed", "leave out the step 'trim'"),
]


@pytest.mark.parametrize(("address", "levels", "step", "reason", "remedy"), WRONG)
def test_a_wrong_combination_is_refused_with_what_works(
    rramhil: Call,
    tmp_path: Path,
    address: str,
    levels: str,
    step: str,
    reason: str,
    remedy: str,
) -> None:
    path = tmp_path / "job.toml"
    chip = (files("rramhil_fixtures") / "chips" / "40nm.toml").read_text("utf-8")
    small = chip.replace("rows = 256", "rows = 128").replace("cols = 256", "cols = 128")
    (tmp_path / "small.toml").write_text(small)
    address = address.replace("SMALL", str(tmp_path / "small.toml"))
    text = JOB.replace("ADDRESS", address).replace("LEVELS", levels).replace("TRIM", step)
    text = text.replace("HALF", "2" if levels == "32" else "8")
    path.write_text(text)
    refused = rramhil("run", str(path), "--quiet")
    assert refused.exit_code == WRONG_INPUT
    sentence = error_of(refused)
    assert reason in sentence
    assert remedy in sentence
    last = json_of(rramhil("show", "last", "--json"))
    with LedgerReader(last["ledger"]) as reader:
        assert sum(reader.totals().pulses.values()) == 0


def test_estimates_are_told_with_their_sources(rramhil: Call) -> None:
    answer = rramhil("estimate", "weinstock-digits")
    assert answer.exit_code == 0, answer.stderr
    for words in ("latency of an image", "97.8 GOPS/mm2", "not known", "conversions"):
        assert words in answer.stdout
    told = json_of(rramhil("estimate", "weinstock-digits", "--json"))["estimates"]
    named = {one["name"]: one for one in told}
    weights = 64 * 128 + 128 * 64 + 64 * 10
    assert (named["weights"]["value"], named["cells"]["value"]) == (weights, 2 * weights)
    assert named["energy of an image"]["low"] < named["energy of an image"]["value"]


def test_an_estimate_counts_rows_that_are_renamed_and_refuses_what_a_run_would(
    rramhil: Call, tmp_path: Path
) -> None:
    def asked(rename: str) -> Any:
        path = tmp_path / "job.toml"
        text = JOB.replace("ADDRESS", "40nm").replace("LEVELS", "2").replace("HALF", "8")
        text = text.replace("TRIM", "trim")
        path.write_text(text.replace("levels =", f"rename = {{ {rename} }}\nlevels ="))
        return rramhil("estimate", str(path), "--json")

    cells = [
        {one["name"]: one["value"] for one in json_of(asked(f"fc3 = {rows}"))["estimates"]}["cells"]
        for rows in (64, 20)
    ]
    assert cells[0] - cells[1] == 2 * 10 * (64 - 20)
    refused = asked("fc9 = 20")
    assert refused.exit_code == WRONG_INPUT
    assert "rename names 'fc9'" in error_of(refused)


def test_an_estimate_needs_a_die_with_products(rramhil: Call) -> None:
    refused = rramhil("estimate", "weinstock-digits", "--device", "emulator:ember")
    assert refused.exit_code == WRONG_INPUT
    assert "emulator:40nm" in error_of(refused)
