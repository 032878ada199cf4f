"""Trim of the columns: it takes out the errors that the die was born with, and says what it saw."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.address import open_device
from rramhil.column_fit import fit_columns
from rramhil.device import Kind, Pulse, Refused
from rramhil.job.file import load_job
from rramhil.ledger import LedgerReader
from rramhil.run import Run
from rramhil.trim import (
    Aim,
    TrimSettings,
    check_counts,
    check_trim,
    counting,
    read_tile,
    trim_tile,
)
from rramhil_drivers.emulator.die import EmulatedDie

FAST = TrimSettings(vectors=4096, rounds=2, reads=2)


@settings(deadline=None, max_examples=15)
@given(st.floats(0.75, 1.3), st.floats(-0.6, 0.6), st.floats(0.03, 0.3), st.integers(0, 99))
def test_a_staircase_gives_back_the_gain_and_offset_that_made_it(
    gain: float, offset: float, noise: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sums = rng.gamma(4.0, 0.6, (6000, 5))
    codes = np.clip(np.rint(gain * sums + offset + noise * rng.standard_normal(sums.shape)), 0, 7)
    fit = fit_columns(sums, codes, 7)
    assert fit.measured.all()
    np.testing.assert_allclose(fit.gain, gain, rtol=0.03)
    np.testing.assert_allclose(fit.offset, offset, atol=0.06)


def test_a_column_without_signal_is_not_measured_and_left_alone() -> None:
    rng = np.random.default_rng(0)
    sums = np.stack([rng.uniform(0, 7, 4000), rng.uniform(0, 0.3, 4000)], axis=1)
    codes = np.clip(np.rint(1.2 * sums), 0, 7)
    fit = fit_columns(sums, codes, 7)
    assert fit.measured.tolist() == [True, False]
    assert (fit.gain[1], fit.offset[1]) == (1.0, 0.0)


@pytest.mark.parametrize(("preset", "before"), [("40nm", 0.07), ("wide", 0.15)])
def test_trim_leaves_gain_and_offset_within_what_is_asked(preset: str, before: float) -> None:
    die = open_device(f"emulator:{preset}?tiles=2&die=3")
    assert isinstance(die, EmulatedDie)
    rng = np.random.default_rng(1)
    cells = np.arange(65536, 131072)
    gates = np.round(rng.uniform(1.9, 3.0, cells.size), 2)
    die.apply(Pulse(Kind.SET, cells, 2.0, gates, seconds=1e-7))
    siemens = read_tile(die, 1, FAST.reads)
    rounds = list(trim_tile(die, 1, siemens, FAST, rng))
    assert [r.number for r in rounds] == [0, 1, 2]
    assert rounds[0].fit.gain_cv > before
    assert rounds[-1].fit.measured.mean() > 0.98
    assert rounds[-1].fit.gain_cv <= 0.03
    real = die._trim.response(1)  # what the fit cannot flatter: the silicon's own numbers
    measured = rounds[-1].fit.measured
    assert real.gain[measured].std() / real.gain[measured].mean() <= 0.03
    assert np.abs(real.offset[measured]).max() <= 0.2
    untouched = die._trim.response(0)
    assert untouched.gain.std() > before


def test_a_die_without_products_or_references_cannot_be_trimmed() -> None:
    for preset, sentence in (("ember", "has no product"), ("statistical", "no knob column_gain")):
        with pytest.raises(Refused, match=sentence):
            check_trim(open_device(f"emulator:{preset}").spec)


JOB = """
name = "trimmed"
network = { name = "digits" }
data = { name = "digits" }
[device]
address = "emulator:40nm?die=5"
[[steps]]
do = "tune"
cells = 32
points = 15
[[steps]]
do = "program"
[[steps]]
do = "trim"
settings = { vectors = 2048, rounds = 2, reads = 2 }
"""


def test_the_step_trims_reports_and_is_recorded(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    run = Run.start(*load_job(str(path)))
    heard = []
    run.execute(heard.append, lambda: False)
    step = run.result.steps[2]
    assert step.outcome == "finished"
    assert step.findings["gain_cv_before"] > 0.07
    assert step.findings["gain_cv"] <= 0.03
    assert step.findings["offset_codes"] <= 0.2
    assert step.findings["unmeasured"] < step.findings["columns"]
    assert step.cost.device_seconds > 0
    assert any("gain CV" in p.text for p in heard if p.name == "trim")
    with LedgerReader(run.result.ledger) as reader:
        knobs = {row.data["knob"] for row in reader.rows(run.run, ops=("adjust",)) if row.data}
    assert knobs == {"trim_tile", "column_gain", "column_offset"}


def test_the_aim_of_counts_is_the_line_through_no_and_one_high_cell() -> None:
    with open_device("emulator:40nm?tiles=1") as die:
        high = np.random.default_rng(0).random((256, 256)) < 0.5
        siemens = np.where(high, 170e-6, 24e-6)
        aim = counting(die.spec, siemens, high, [(np.arange(5, 69), np.arange(3, 13))])
        few = counting(die.spec, siemens, high, [(np.arange(4), np.arange(10))])
    np.testing.assert_allclose(aim.gain[3:13], 200 / 146)
    np.testing.assert_allclose(aim.offset[3:13], -7 * 24 / 146)
    np.testing.assert_allclose(few.offset[:10], -4 * 24 / 146)
    assert (aim.gain[:3] == 1).all()
    assert (aim.offset[13:] == 0).all()


def test_a_trim_to_counts_makes_codes_the_numbers_of_high_cells(tmp_path: Path) -> None:
    """Seven high cells of 150 uS are five codes of 200 uS until the references count them."""
    text = (files("rramhil_fixtures") / "chips" / "40nm.toml").read_text("utf-8")
    head, table = text.split("[program]")
    table = table.replace("cells_at_once = 32", "cells_at_once = 4096", 1)
    (tmp_path / "chip.toml").write_text(f"{head}[program]{table}")
    faultless = "stuck_lrs=0&stuck_hrs=0&stuck_rows=0"
    die = open_device(f"emulator:{tmp_path / 'chip.toml'}?tiles=1&die=3&{faultless}")
    rng, side = np.random.default_rng(1), np.arange(64)
    high = np.zeros((256, 256), dtype=bool)
    high[:64, :64] = rng.random((64, 64)) < 0.5
    asked = high[:64, :64].reshape(-1)
    cells = die.spec.cells(0, side[:, None], side[None, :])
    die.program(cells, np.where(asked, 140e-6, 0.0), np.where(asked, 160e-6, 15e-6))
    siemens = read_tile(die, 0, 2)
    aim = counting(die.spec, siemens, high, [(side, side)])
    inputs = np.zeros((200, 256), dtype=np.int64)
    inputs[np.arange(200)[:, None], rng.random((200, 64)).argsort(axis=1)[:, :7]] = 1
    true = (inputs @ high)[:, :64]

    def wrong(aim: Aim | None) -> float:
        little = TrimSettings(vectors=1024, rounds=1, reads=1)
        for _ in trim_tile(die, 0, siemens, little, np.random.default_rng(2), aim):
            pass
        return float(np.mean(die.mvm(0, inputs)[:, :64] != true))

    assert wrong(None) > 0.5
    assert wrong(aim) < 0.25


def test_counts_are_refused_where_a_conversion_cannot_count() -> None:
    with open_device("emulator:40nm") as die:
        check_counts(die.spec, 2)
        with pytest.raises(Refused, match=r"at 2 levels, and \[mapping\] has 4; set levels = 2"):
            check_counts(die.spec, 4)
    with open_device("emulator:wide") as die, pytest.raises(Refused, match="cannot count cells"):
        check_counts(die.spec, 2)
