"""The job `weinstock` on the digits, run end to end on a chip that writes more cells at once."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from rramhil.device import Refused
from rramhil.job.file import load_job
from rramhil.ledger import LedgerReader
from rramhil.run import Run


def quick_chip(folder: Path) -> str:
    """The preset 40nm without faults, whose write-verify takes 4,096 cells at once, not 32."""
    text = (files("rramhil_fixtures") / "chips" / "40nm.toml").read_text("utf-8")
    head, table = text.split("[program]")
    table = table.replace("cells_at_once = 32", "cells_at_once = 4096", 1)
    (folder / "chip.toml").write_text(f"{head}[program]{table}")
    return f"emulator:{folder / 'chip.toml'}?tiles=1&stuck_lrs=0&stuck_hrs=0&stuck_rows=0"


def test_an_integer_network_is_computed_by_the_macro_itself(tmp_path: Path) -> None:
    job, text = load_job("weinstock-digits")
    one_cell = job.mapping.model_copy(update={"scheme": "one_column"})
    job = job.model_copy(update={"mapping": one_cell})
    run = Run.start(job, text, address=quick_chip(tmp_path))
    result = run.execute(lambda _: None, lambda: False)
    assert result.outcome == "finished"
    shares = result.accuracy.model_dump()
    assert shares["ideal_mapping"] == shares["teacher"] > 0.85
    assert shares["trimmed"] > shares["teacher"] - 0.06
    assert shares["columns"] > shares["teacher"] - 0.05
    estimated = {one.name: one.value for one in result.estimates}
    judged = next(step for step in result.steps if step.name == "trimmed")
    images = result.intervals["trimmed"].images
    took = judged.cost.device_seconds / images
    assert estimated["latency of an image"] == pytest.approx(took, rel=0.25)
    joules = judged.cost.product_joules_estimate / images
    assert estimated["energy of an image"] == pytest.approx(joules, rel=0.25)
    page = Path(str(result.report)).read_text("utf-8")
    assert "97.8 GOPS/mm2" in page


def test_codes_that_the_die_does_not_take_are_refused_before_the_first_pulse(
    tmp_path: Path,
) -> None:
    text = (files("rramhil_fixtures") / "chips" / "40nm.toml").read_text("utf-8")
    (tmp_path / "chip.toml").write_text(text.replace("input_bits = 8", "input_bits = 1", 1))
    run = Run.start(*load_job("weinstock-digits"), address=f"emulator:{tmp_path / 'chip.toml'}")
    with pytest.raises(Refused, match="takes codes up to 3, but the array those up to 1; train"):
        run.execute(lambda _: None, lambda: False)
    with LedgerReader(run.result.ledger) as reader:
        assert sum(reader.totals().pulses.values()) == 0
