"""The fine-tuning step in a run: faults, stops, kills, refusals before the first pulse."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from rramhil.device import Kind, Refused
from rramhil.job.file import JobFile
from rramhil.ledger import LedgerReader
from rramhil.run import Run
from rramhil.schema import FileError, check
from rramhil.session import Progress

JOB = """
name = "tuned"
seed = 1
[device]
address = "emulator:statistical?sigma=0.3&stuck_lrs=0.0175&stuck_hrs=0.0904&disturb=5&die=1"
[network]
name = "digits"
[data]
name = "digits"
[mapping]
lowest = "1 uS"
highest = "40 uS"
tolerance = "2 uS"
[[steps]]
do = "scan"
set_gate = "3 V"
thresholds = { stuck_lrs_siemens = "20 uS", stuck_hrs_siemens = "2 uS", noisy_siemens = "4 uS" }
[[steps]]
do = "tune"
first_gate = "1 V"
last_gate = "3 V"
cells = 4096
[[steps]]
do = "program"
[[steps]]
do = "stress"
reads = 100_000
[[steps]]
do = "evaluate"
name = "before"
[[steps]]
do = "recover"
method = "fine_tune"
images = 400
rounds = 2
epochs = 1
"""


def nothing(_: Progress) -> None:
    """Watch without looking."""


def start(text: str = JOB) -> Run:
    return Run.start(check(tomllib.loads(text), JobFile, "test"), text)


def run_until(run: Run, count: int) -> None:
    """Until so many ticks of the fine-tuning have come."""
    seen: list[Progress] = []

    def watch(progress: Progress) -> None:
        if progress.name == "fine_tune":
            seen.append(progress)

    run.execute(watch, lambda: len(seen) >= count)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRAMHIL_HOME", str(tmp_path_factory.mktemp("whole")))
        run = start()
        run.execute(nothing, lambda: False)
    return run


def findings(run: Run) -> dict[str, float]:
    (found,) = [s.findings for s in run.result.steps if s.name == "fine_tune"]
    return {name: float(value or 0) for name, value in found.items()}


def test_it_recovers_a_faulty_stressed_die_and_its_cost_is_the_ledgers(whole: Run) -> None:
    accuracy, cost = whole.result.accuracy, whole.result.cost["fine_tune"]
    assert accuracy.ideal_mapping is not None
    before, after = (getattr(accuracy, name) for name in ("before", "fine_tune"))
    assert accuracy.ideal_mapping - before > 0.2
    assert accuracy.ideal_mapping - after < 0.04
    found = findings(whole)
    assert cost.sets == cost.resets == round(found["writes_per_cell"] * 34_048)
    assert 0 < found["writes_per_cell"] <= 0.75
    assert found["stuck_cells"] > 0.1 * 34_048
    assert (cost.images, cost.labels, cost.digital_parameters) == (400, 400, 202)
    assert cost.memory_writes == (2 * 1 + 2) * 8 * 202  # two rounds, then the refresh


def test_stopped_at_every_few_ticks_it_ends_where_the_whole_run_ends(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RRAMHIL_HOME", str(tmp_path))
    run, stops = start(), 0
    while not run.result.is_finished:
        run_until(run, 3)
        run, stops = Run.open(run.run), stops + 1
    assert stops >= 4
    assert run.result.accuracy == whole.result.accuracy
    assert findings(run) == findings(whole)


def test_what_a_killed_process_had_not_stored_is_found_in_the_ledger(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RRAMHIL_HOME", str(tmp_path))
    run = start()
    run_until(run, 6)
    stale = Run.open(run.run)
    (record,) = [s for s in stale.result.steps if s.name == "fine_tune"]
    kept = (stale.folder / record.partial).read_bytes() if record.partial else b""
    run_until(stale, 4)
    again = Run.open(run.run)
    (record,) = [s for s in again.result.steps if s.name == "fine_tune"]
    (again.folder / str(record.partial)).write_bytes(kept)
    again.execute(nothing, lambda: False)
    with LedgerReader(again.result.ledger) as reader:
        sets = reader.totals(again.run, record.first_row).pulses[Kind.SET]
    assert findings(again)["writes_per_cell"] == pytest.approx(sets / 34_048)
    assert getattr(again.result.accuracy, "fine_tune") > 0.9  # noqa: B009


def test_rounds_that_begin_anew_keep_to_the_writes_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RRAMHIL_HOME", str(tmp_path))
    run = start(JOB.replace("rounds = 2", "rounds = 2\nwrites_a_cell = 0.76"))
    run_until(run, 10)
    again = Run.open(run.run)
    (record,) = [s for s in again.result.steps if s.name == "fine_tune"]
    record.partial = None  # killed before it could store what it had done
    with LedgerReader(again.result.ledger) as reader:
        before = reader.totals().pulses
        assert reader.totals(again.run, record.first_row).pulses[Kind.SET] > 0.01 * 34_048
    with pytest.raises(Refused, match=r"more than the 0\.76 of writes_a_cell; run"):
        again.execute(nothing, lambda: False)
    with LedgerReader(again.result.ledger) as reader:
        assert reader.totals().pulses == before


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('do = "program"', 'do = "program"\nhow = "verify"', "how open-loop writes err"),
        ("&disturb=5", "", "100000 readings of every cell would all be recorded one by one"),
        ("rounds = 2", "rounds = 2\nwrites_a_cell = 0.6", "take rounds = 1, allow 0.75"),
        ("images = 400", "images = 4000", "asks for 4000 images"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_first_pulse(
    old: str, new: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RRAMHIL_HOME", str(tmp_path))
    text = JOB.replace(old, new)
    with pytest.raises((Refused, FileError), match=sentence):
        start(text).execute(nothing, lambda: False)
    for ledger in tmp_path.rglob("*.sqlite"):
        with LedgerReader(ledger) as reader:
            assert not any(reader.totals().pulses.values())
