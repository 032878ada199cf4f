"""A run: the whole job on the emulated chip, stopped everywhere, resumed, killed, replayed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rramhil.device import Refused
from rramhil.job.file import JobFile, load_job
from rramhil.job.folder import RunFolder, run_ids
from rramhil.job.result import RunResult
from rramhil.ledger import LedgerReader
from rramhil.replay import Departed
from rramhil.rerun import replay
from rramhil.run import Run, runs
from rramhil.schema import FileError, check
from rramhil.session import Progress

JOB = """
name = "short"
seed = 3
[device]
address = "emulator:40nm?die=3&seed=3"
[network]
name = "digits"
[data]
name = "digits"
[[steps]]
do = "tune"
points = 23
[[steps]]
do = "program"
[[steps]]
do = "evaluate"
name = "open_loop"
[[steps]]
do = "recover"
method = "rsa"
epochs = 8
[[steps]]
do = "recover"
method = "rvw"
recipe = { algorithm = "sdr", max_pulses = 20 }
"""


def start(text: str = JOB) -> Run:
    import tomllib

    return Run.start(check(tomllib.loads(text), JobFile, "test"), text)


def nothing(_: Progress) -> None:
    """Watch without looking."""


def never() -> bool:
    return False


def stop_at(name: str, ticks: int) -> tuple[Callable[[Progress], None], Callable[[], bool]]:
    """A watcher that counts the ticks of a step, and a stop once there were `ticks`."""
    seen: list[Progress] = []

    def watch(progress: Progress) -> None:
        if progress.name == name:
            seen.append(progress)

    return watch, lambda: len(seen) >= ticks


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRAMHIL_HOME", str(tmp_path_factory.mktemp("finished")))
        run = start()
        run.execute(nothing, never)
    return run


def test_repairs_recover_what_open_loop_lost(finished: Run) -> None:
    accuracy = finished.result.accuracy
    assert accuracy.teacher is not None
    assert accuracy.ideal_mapping is not None
    assert accuracy.open_loop is not None
    assert finished.result.outcome == "finished"
    assert accuracy.teacher - accuracy.ideal_mapping < 0.01
    assert accuracy.open_loop < accuracy.ideal_mapping - 0.02
    for way in ("rsa", "rvw"):
        assert getattr(accuracy, way) > accuracy.open_loop + 0.5 * (
            accuracy.ideal_mapping - accuracy.open_loop
        )
        interval = finished.result.intervals[way]
        assert interval.low < getattr(accuracy, way) < interval.high


def test_rsa_sends_no_pulse_and_counts_its_memory(finished: Run) -> None:
    rsa, rvw = finished.result.cost["rsa"], finished.result.cost["rvw"]
    assert rsa.pulses == 0
    assert rsa.reads == 2 * 34_048
    assert 0 < rsa.sparse_share <= 0.05
    assert rsa.digital_parameters == rsa.sparse_parameters + rsa.retrained_biases
    assert rsa.index_bits == 0
    assert rsa.images == 900
    assert rvw.pulses > 34_048
    assert rvw.digital_parameters == 0


def test_partners_of_cells_that_were_given_up_are_moved(finished: Run) -> None:
    (found,) = [s.findings for s in finished.result.steps if s.name == "rvw"]
    assert 0 < int(found["compensating_cells"] or 0) <= 2 * int(found["given_up"] or 0)


def test_costs_are_those_of_the_ledger_and_the_common_part_is_in_open_loop(finished: Run) -> None:
    result = finished.result
    with LedgerReader(result.ledger) as reader:
        totals = reader.totals(result.run)
        verdict = reader.verify(result.ledger_head)
    assert sum(c.pulses for c in result.cost.values()) == sum(totals.pulses.values())
    assert sum(c.reads for c in result.cost.values()) == totals.reads
    spent = sum(c.device_seconds + c.waiting_seconds for c in result.cost.values())
    assert spent == pytest.approx(totals.device_seconds)
    assert totals.waiting_seconds == pytest.approx(6.0)
    assert result.cost["open_loop"].pulses > 2 * 34_048
    assert verdict.ok


def test_the_result_file_is_the_result_and_events_name_ledger_rows(finished: Run) -> None:
    stored = RunResult.model_validate_json((finished.folder / "result.json").read_text())
    assert stored == finished.result
    events = [
        json.loads(line) for line in (finished.folder / "events.jsonl").read_text().splitlines()
    ]
    rows = [event["row"] for event in events]
    assert rows == sorted(rows)
    assert {event["run"] for event in events} == {finished.run}
    assert [e["step"] for e in events if e["event"] == "step finished"] == [
        "tune", "program", "open_loop", "rsa", "rvw",
    ]  # fmt: skip


def test_the_same_job_gives_the_same_answers(finished: Run) -> None:
    again = start()
    again.execute(nothing, never)
    assert again.result.accuracy == finished.result.accuracy
    assert again.result.splits == finished.result.splits


def test_a_replay_needs_no_emulator_and_gives_the_same_accuracies(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RRAMHIL_HOME", str(finished.folder.parent.parent))
    monkeypatch.setattr("rramhil_drivers.emulator.opening.open_die", None)
    recorded, replayed = replay(finished.run, nothing, never)
    assert replayed.accuracy == recorded.accuracy == finished.result.accuracy
    assert Run.open(finished.run).result == finished.result


def test_a_replay_of_a_changed_job_departs_and_says_where(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RRAMHIL_HOME", str(finished.folder.parent.parent))
    job = (finished.folder / "job.json").read_text()
    try:
        (finished.folder / "job.json").write_text(job.replace('"points": 23', '"points": 24'))
        with pytest.raises(Departed, match=r"departs from its record at row \d+"):
            replay(finished.run, nothing, never)
    finally:
        (finished.folder / "job.json").write_text(job)


@pytest.mark.parametrize(
    "stops",
    [
        [("tune", 5), ("program", 3), ("rsa", 4), ("rvw", 6)],
        [("prepare", 1)],
        [("rvw", 2), ("rvw", 3), ("rvw", 4)],
    ],
    ids=["everywhere", "before the first step", "three times in one step"],
)
def test_a_stopped_run_is_resumed_without_losing_anything(stops: Sequence[tuple[str, int]]) -> None:
    run = start()
    for name, ticks in stops:
        result = run.execute(*stop_at(name, ticks))
        assert result.outcome == "stopped"
        run = Run.open(run.run)
    result = run.execute(nothing, never)
    assert result.outcome == "finished"
    assert result.accuracy.open_loop is not None
    assert getattr(result.accuracy, "rsa") > result.accuracy.open_loop  # noqa: B009
    with LedgerReader(result.ledger) as reader:
        assert reader.doubtful().size == 0
        assert len(reader.sessions(run.run)) == len(stops) + 1
        assert reader.verify(result.ledger_head).ok
    recorded, replayed = replay(run.run, nothing, never)
    assert replayed.accuracy == recorded.accuracy


def test_an_open_loop_write_that_was_stopped_goes_on_behind_the_written_cells() -> None:
    run = start()
    run.execute(*stop_at("program", 2))
    step = run.result.steps[1]
    assert step.done == 8192
    run = Run.open(run.run)
    run.execute(*stop_at("open_loop", 1))
    assert run.result.steps[1].cost.pulses == 2 * 34_048


KILLED = """
import os, signal, sys
from rramhil.run import Run

name, ticks = sys.argv[2], int(sys.argv[3])

def watch(progress):
    global ticks
    ticks -= progress.name == name
    if ticks == 0:
        os.kill(os.getpid(), signal.SIGKILL)

Run.open(sys.argv[1]).execute(watch, lambda: False)
"""


@pytest.mark.timeout(900)
def test_a_run_that_was_killed_is_resumed_and_none_of_its_cost_is_lost() -> None:
    run = start()
    for name, ticks in (("program", 4), ("rvw", 9)):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, run.run, name, str(ticks)], check=False, timeout=300
        )
        assert done.returncode == -signal.SIGKILL
    run = Run.open(run.run)
    result = run.execute(nothing, never)
    assert result.outcome == "finished"
    with LedgerReader(result.ledger) as reader:
        totals = reader.totals(run.run)
        assert len(reader.sessions(run.run)) == 3
        assert reader.doubtful().size == 0
        assert reader.verify(result.ledger_head).ok
    assert sum(step.cost.pulses for step in result.steps) == sum(totals.pulses.values())
    assert sum(step.cost.reads for step in result.steps) == totals.reads
    recorded, replayed = replay(run.run, nothing, never)
    assert replayed.accuracy == recorded.accuracy


def test_a_repair_that_was_stopped_reports_all_that_it_did() -> None:
    run = start()
    run.execute(*stop_at("rvw", 7))
    result = Run.open(run.run).execute(nothing, never)
    rvw = result.steps[4]
    found = rvw.findings["pulses_per_cell"]
    assert isinstance(found, float)
    assert found * 34_048 == pytest.approx(rvw.cost.pulses)
    arrays = run.folder_of.load_arrays(rvw.arrays or "")
    assert arrays["open_cells"].size == rvw.findings["rounds"]
    assert (arrays["siemens_before"] != 0).mean() > 0.9


def test_a_disk_that_is_full_leaves_no_device_open() -> None:
    run = start()
    (run.folder / "events.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        run.execute(nothing, never)
    (run.folder / "events.jsonl").unlink()
    assert Run.open(run.run).execute(nothing, never).outcome == "finished"


def test_later_passes_do_not_rewrite_cells_that_are_in_their_windows() -> None:
    steps = JOB.split("[[steps]]")
    verify = 'do = "program"\nhow = "verify"\nrecipe = { algorithm = "sdr", first_reset = true }\n'
    cells = []
    for passes in (1, 3):
        run = start("[[steps]]".join([*steps[:2], f"\n{verify}passes = {passes}\n", steps[3]]))
        run.execute(nothing, never)
        cells.append(run.result.steps[1].findings["pulses_per_cell"])
    assert isinstance(cells[0], float)
    assert isinstance(cells[1], float)
    assert cells[1] < 2 * cells[0]


def test_a_resumed_run_goes_on_with_its_own_silicon_whatever_ran_in_between() -> None:
    results = []
    for interrupted in (False, True):
        run = start()
        run.execute(*stop_at("rsa", 2))
        if interrupted:
            start().execute(*stop_at("rvw", 5))
        results.append(Run.open(run.run).execute(nothing, never))
    assert results[0].accuracy == results[1].accuracy
    assert results[0].cost["rvw"].pulses == results[1].cost["rvw"].pulses


def test_a_die_that_another_run_has_pulsed_since_is_not_taken_for_the_same(tmp_path: Path) -> None:
    job = JOB.replace("die=3&seed=3", f"die=3&seed=3&state={tmp_path}")
    run = start(job)
    run.execute(*stop_at("rsa", 2))
    other = start(job)
    other.execute(*stop_at("program", 1))
    with pytest.raises(Refused, match=f"the run {other.run} has pulsed die .* run the job again"):
        Run.open(run.run).execute(nothing, never)


def test_an_error_of_the_device_ends_the_run_as_failed_and_it_can_go_on() -> None:
    run = start()

    def fails(progress: Progress) -> None:
        if progress.name == "rvw" and progress.done:
            raise Refused("the interlock is open; close it")

    with pytest.raises(Refused, match="interlock"):
        run.execute(fails, never)
    stored = Run.open(run.run).result
    assert (stored.outcome, stored.error) == ("failed", "the interlock is open; close it")
    assert Run.open(run.run).execute(nothing, never).outcome == "finished"


def test_a_finished_run_is_not_run_again(finished: Run) -> None:
    with pytest.raises(FileError, match="is finished"):
        finished.execute(nothing, never)


def test_runs_are_found_by_id_beginning_or_last(
    finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RRAMHIL_HOME", str(finished.folder.parent.parent))
    assert run_ids() == [finished.run]
    assert [r.run for r in runs()] == [finished.run]
    assert Run.open(finished.run[:12]).run == finished.run
    assert Run.open("last").run == finished.run
    with pytest.raises(FileError, match="there is no run 'nonsense'"):
        Run.open("nonsense")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("points = 23", "pionts = 23"),
            r"unknown key 'steps\.0\.tune\.pionts'; did you mean 'points'",
        ),
        (('name = "digits"', 'name = "digitz"'), "there is no network 'digitz'; did you mean"),
        (('do = "tune"', 'do = "toon"'), "toon"),
        (("seed = 3", 'seed = "three"'), "seed"),
        (("points = 23", "points = 23\nname = 'rsa'"), "two steps are called 'rsa'"),
        (("points = 23", 'points = 23\nfirst_gate = "1.4 S"'), "not a quantity in V"),
        (("points = 23", 'points = 23\nname = "../tune"'), "should match pattern"),
        (('name = "open_loop"', 'name = "teacher"'), "cannot be called 'teacher'"),
    ],
)
def test_a_wrong_job_is_one_sentence(change: tuple[str, str], message: str) -> None:
    with pytest.raises((FileError, Refused), match=message):
        start(JOB.replace(*change)).execute(nothing, never)


def test_programming_without_a_gate_curve_is_refused_when_the_job_is_loaded() -> None:
    with pytest.raises(FileError, match="put a step 'tune' before 'open_loop_write'"):
        start(JOB.replace('do = "tune"\npoints = 23', 'do = "program"\nname = "open_loop_write"'))


def test_a_folder_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RRAMHIL_HOME", str(tmp_path / "file"))
    with pytest.raises(FileError, match="set RRAMHIL_HOME to a folder"):
        start()


def test_the_quickstart_runs_under_the_shipped_bench_station() -> None:
    job, text = load_job("quickstart")
    job = job.model_copy(update={"steps": [s for s in job.steps if s.do != "report"]})
    address = "emulator:40nm?stuck_lrs=0&stuck_rows=0"
    run = Run.start(job, text, address=address, station="bench")
    for name in ("scan", "tune", "program", "rvw"):
        run.execute(*stop_at(name, 8))
        run = Run.open(run.run)
    assert run.result.steps[3].outcome == "finished"


def test_a_station_given_with_a_run_says_which_device_it_is_for(tmp_path: Path) -> None:
    station = tmp_path / "mine.toml"
    station.write_text('name = "mine"\naddress = "emulator:40nm?die=9"\n')
    job, text = load_job("quickstart")
    assert Run.start(job, text, station=str(station)).result.address == "emulator:40nm?die=9"


def test_a_run_is_carried_out_by_one_process_and_the_other_touches_nothing() -> None:
    run = start()
    refused: list[str] = []

    def meddle(progress: Progress) -> None:
        if progress.name == "prepare" or (progress.name == "program" and progress.done):
            with pytest.raises(FileError) as caught:
                Run.open(run.run).execute(nothing, never)
            refused.append(str(caught.value))

    assert run.execute(meddle, never).outcome == "finished"
    assert len(refused) > 1
    assert f"being carried out by process {os.getpid()}" in refused[0]


def test_a_home_that_was_moved_takes_its_ledgers_with_it(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished.folder.parent.parent, tmp_path / "moved")
    monkeypatch.setenv("RRAMHIL_HOME", str(tmp_path / "moved"))
    found = Run.open(finished.run).result
    assert found.ledger.startswith(str(tmp_path / "moved"))
    assert found.folder.startswith(str(tmp_path / "moved"))


def test_a_kept_die_is_the_same_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = start(JOB.replace("die=3&seed=3", "die=3&seed=3&state=kept"))
    run.execute(*stop_at("rsa", 2))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = Run.open(run.run).execute(nothing, never)
    assert result.outcome == "finished"
    assert result.cost["rsa"].reads == 2 * 34_048  # the reading before the stop is kept
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_paths_in_a_job_are_relative_to_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "mine.toml").write_text('name = "mine"\n')
    text = JOB.replace("[network]", 'station = "mine.toml"\n[network]')
    (tmp_path / "bench" / "job.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    job, _ = load_job("bench/job.toml")
    assert job.device.station == str(tmp_path / "bench" / "mine.toml")


def test_a_record_that_was_changed_is_not_replayed(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    shutil.copytree(finished.folder.parent.parent, tmp_path / "copy")
    monkeypatch.setenv("RRAMHIL_HOME", str(tmp_path / "copy"))
    with contextlib.closing(sqlite3.connect(Run.open(finished.run).result.ledger)) as db:
        for (name,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.execute("DELETE FROM entries WHERE row = 40")
        db.commit()
    with pytest.raises(Refused, match=r"cannot be replayed: .*row 4"):
        replay(finished.run, nothing, never)


def test_a_run_that_never_reached_its_device_leaves_nothing_behind() -> None:
    job, text = load_job("quickstart")
    with pytest.raises(Refused, match="nowhere"):
        Run.start(job, text, address="emulator:nowhere").execute(nothing, never)
    assert run_ids() == []


def test_all_shipped_jobs_load() -> None:
    for name in ("quickstart", "statistical", "mnist"):
        job, text = load_job(name)
        assert job.name in text


def test_arrays_of_a_run_are_whole_files(tmp_path: Path) -> None:
    import numpy as np

    (tmp_path / "arrays").mkdir()
    folder = RunFolder(tmp_path)
    name = folder.save_arrays("x", {"a": np.arange(3)})
    assert folder.load_arrays(name)["a"].tolist() == [0, 1, 2]
    assert [p.name for p in (tmp_path / "arrays").iterdir()] == ["x.npz"]
