"""Device time of the repairs: by the ledger, or by timings and parallelism that a job gives."""

from __future__ import annotations

import pytest

from rramhil.cost import Cost
from rramhil.device import Kind, PulseLimits, Range, ReadLimits, Spec
from rramhil.job.result import RunResult, StepResult
from rramhil.job.timing import TimingTable, timings_of

READING = ReadLimits(0.0, 100e-6, 1e-8, volts=0.2, seconds=10e-9, cells_at_once=8)
PULSES = {Kind.SET: PulseLimits(Range(0, 3), Range(1e-7, 1e-5), cells_at_once=16)}
DIE = Spec("test", "T-1", 1, 64, 64, READING, pulses=PULSES)
REPAIRS = {"rsa": "rsa", "closed": "closed_form", "rewritten": "rvw"}

PROGRAMMED = Cost(pulses=2000, reads=800, device_seconds=2000 * 1e-6 / 16 + 800 * 10e-9 / 8)
COSTS = {
    "rsa": Cost(reads=800, device_seconds=1e-6, memory_writes=5000),
    "rewritten": Cost(pulses=8000, reads=4000, device_seconds=8000 * 1e-6 / 16 + 4000 * 10e-9 / 8),
}


def result(costs: dict[str, Cost] = COSTS, programmed: Cost = PROGRAMMED) -> RunResult:
    step = StepResult(index=0, name="first", do="program", cost=programmed)
    return RunResult(
        run="r",
        name="r",
        outcome="running",
        address="",
        folder="",
        seed=0,
        cost=costs,
        steps=[step],
    )


def test_the_ledger_is_what_counts_unless_the_job_says_otherwise() -> None:
    found = timings_of(result(), TimingTable(), DIE, REPAIRS)
    assert found is not None
    assert (found.source, found.compared_with) == ("ledger", "rewritten")
    assert found.write_seconds == pytest.approx(1e-6)
    assert (found.writes_at_once, found.reads_at_once) == (16, 8)
    assert list(found.ways) == ["rsa", "rewritten"]
    rsa, rewritten = found.ways["rsa"], found.ways["rewritten"]
    assert rsa.device_seconds == pytest.approx(1e-6 + 5000 * 1e-9)
    assert rewritten.device_seconds == pytest.approx(505e-6)
    assert rsa.with_programming_seconds == pytest.approx(126e-6 + 6e-6)
    assert rsa.speed_up == pytest.approx(505 / 6)
    assert rsa.speed_up_with_programming == pytest.approx((505 + 126) / (6 + 126))
    assert rewritten.speed_up == rewritten.speed_up_with_programming == 1


def test_other_timings_stretch_the_writes_and_nothing_else() -> None:
    table = TimingTable.model_validate({"write_seconds": "6.5 us", "writes_at_once": 1})
    found = timings_of(result(), table, DIE, REPAIRS)
    assert found is not None
    assert found.source == "job"
    assert found.ways["rsa"].device_seconds == pytest.approx(6e-6)
    assert found.ways["rewritten"].device_seconds == pytest.approx(8000 * 6.5e-6 + 5e-6)
    assert found.programming_seconds == pytest.approx(2000 * 6.5e-6 + 1e-6)


def test_what_was_neither_write_nor_read_keeps_its_time() -> None:
    products = COSTS["rsa"].model_copy(update={"device_seconds": 1e-6 + 0.25})
    table = TimingTable(read_seconds=20e-9, sram_write_seconds=1e-30)
    found = timings_of(result({"rsa": products}), table, DIE, REPAIRS)
    assert found is not None
    assert found.compared_with is None
    assert found.ways["rsa"].device_seconds == pytest.approx(0.25 + 2e-6)
    assert found.ways["rsa"].speed_up is None


def test_before_the_first_programming_there_is_nothing_to_compare() -> None:
    assert timings_of(result({}), TimingTable(), DIE, REPAIRS) is None
    assert timings_of(result(programmed=Cost()), TimingTable(), DIE, REPAIRS) is None
