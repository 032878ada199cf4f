"""What of a ledger is open loop, and that it can be done again."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

import rramhil
from rramhil.characterise import Plan, characterise
from rramhil.device import Kind, Pulse
from rramhil.job.file import JobFile
from rramhil.ledger import LedgerReader
from rramhil.run import Run
from rramhil.schema import FileError, check
from rramhil.verify import Bias
from rramhil_drivers.emulator.chipfile import load_chip
from rramhil_drivers.twin.record import Record, do_again, read_record

PLAN = Plan((2.1, 3.1, 5), (0.5, 2.5, 4), 3.2, (2.6,), (0.01, 1.0))
ADDRESS = "emulator:40nm?die=4&seed=4&tiles=1"


def recorded(tmp_path: Path, cells: np.ndarray, after: str = "") -> Record:
    with rramhil.connect(ADDRESS, ledger=tmp_path) as device:
        list(characterise(device, cells, PLAN, Bias()))
        if after == "some":
            device.apply(Pulse(Kind.SET, cells[:5], 2.0, 3.0, seconds=1e-7))
            device.read(cells)
    with LedgerReader(next(tmp_path.rglob("ledger.sqlite"))) as reader:
        return read_record(reader)


def test_all_calls_on_the_sample_are_there_with_what_was_read(tmp_path: Path) -> None:
    record = recorded(tmp_path, np.arange(40, 104))
    assert record.cells.tolist() == list(range(40, 104))
    assert len(record.readings) == PLAN.total
    assert record.labels()[-1].endswith("1 s later")
    pulses = [call for call in record.calls if call.kind is not None]
    # a RESET and a SET for each gate point and for the settling, a full SET, the ramp
    assert len(pulses) == 2 * 5 + 1 + 4 + 2


def test_the_record_ends_before_a_pulse_on_some_of_the_cells(tmp_path: Path) -> None:
    whole = recorded(tmp_path / "a", np.arange(64))
    cut = recorded(tmp_path / "b", np.arange(64), after="some")
    assert len(cut.readings) == len(whole.readings)


def test_the_same_chip_die_and_noise_answer_the_same(tmp_path: Path) -> None:
    record = recorded(tmp_path, np.arange(64))
    chip = load_chip("40nm")
    again = do_again(record, chip, copies=1, seed=4)
    assert len(again.readings) == len(record.readings)
    for here, there in zip(record.readings, again.readings, strict=True):
        assert np.array_equal(here, there, equal_nan=True)


def test_copies_are_more_cells_of_the_same_kind(tmp_path: Path) -> None:
    record = recorded(tmp_path, np.arange(64))
    again = do_again(record, load_chip("40nm"), copies=3, seed=9)
    assert again.readings[0].size == 3 * 64
    assert np.median(again.readings[4]) == pytest.approx(np.median(record.readings[4]), rel=0.1)


JOB = """
name = "job"
network = { name = "digits" }
data = { name = "digits" }
[[steps]]
do = "tune"
cells = 64
points = 5
first_gate = 2.0
[[steps]]
do = "program"
"""


def test_of_a_job_only_open_loop_steps_count() -> None:
    run = Run.start(check(tomllib.loads(JOB), JobFile, "job"), JOB, address=ADDRESS)
    result = run.execute(lambda _: None, lambda: False)
    with LedgerReader(result.ledger) as reader:
        record = read_record(reader)
    assert record.cells.size == 64
    assert len(record.readings) == 5


def test_a_step_that_was_stopped_and_begun_again_counts_once() -> None:
    run = Run.start(check(tomllib.loads(JOB), JobFile, "job"), JOB, address=ADDRESS)
    ticks = iter(range(100))
    assert run.execute(lambda _: None, lambda: next(ticks) == 3).outcome == "stopped"
    result = Run.open(run.run).execute(lambda _: None, lambda: False)
    assert result.outcome == "finished"
    with LedgerReader(result.ledger) as reader:
        assert len(read_record(reader).readings) == 5


def test_a_ledger_of_closed_loops_alone_is_refused(tmp_path: Path) -> None:
    with rramhil.connect(ADDRESS, ledger=tmp_path) as device:
        device.read(np.arange(4))
    with (
        LedgerReader(next(tmp_path.rglob("ledger.sqlite"))) as reader,
        pytest.raises(FileError, match="record some with a job of the steps"),
    ):
        read_record(reader)


def test_a_chip_that_does_not_allow_the_pulses_is_refused(tmp_path: Path) -> None:
    record = recorded(tmp_path, np.arange(64))
    chip = load_chip("40nm")
    tight = chip.set.model_copy(
        update={"gate_volts": chip.set.gate_volts.model_copy(update={"high": 2.5})}
    )
    with pytest.raises(FileError, match=r"gate voltage .* outside .*name another chip"):
        do_again(record, chip.model_copy(update={"set": tight}), copies=1, seed=1)
