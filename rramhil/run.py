"""One run: a job carried out on a device, step by step, stoppable, resumable, repeatable.

    run = Run.start(*load_job("quickstart"))
    result = run.execute(watch=print, should_stop=lambda: False)

A run stops only at a safe point (no pulse in flight, outputs off) and is resumed by running
the step again that was not finished. Every pulse, reading and product is in the die's ledger;
the run's folder holds what was made of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

import numpy as np

from rramhil.cost import Cost
from rramhil.device import DeviceError, Kind, LinkLost
from rramhil.job.events import EventLog, open_log
from rramhil.job.file import JobFile, Report, Step
from rramhil.job.folder import RunFolder, new_run_id, run_ids
from rramhil.job.result import DeviceInfo, Outcome, RunResult, StepResult
from rramhil.journal import Journal
from rramhil.ledger import LedgerReader
from rramhil.schema import FileError
from rramhil.station import connect, load_station
from rramhil.versions import versions

if TYPE_CHECKING:
    from rramhil.job.steps import Work
    from rramhil.job.subject import Material


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is: step `step` of `steps` (from 0), `done` of `total` of it, and a text."""

    step: int
    steps: int
    name: str
    done: int
    total: int
    text: str


LINK_TRIES = 3
LINK_DELAY_SECONDS = 1.0

Watch = Callable[[Progress], None]
ShouldStop = Callable[[], bool]
Connect = Callable[["Run"], Journal]


class Run:
    """One run and its folder. `start` makes a new one, `open` finds an old one."""

    def __init__(self, folder: RunFolder, job: JobFile, result: RunResult) -> None:
        self.folder_of = folder
        self.job = job
        self.result = result

    @property
    def run(self) -> str:
        """The run's id."""
        return self.result.run

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.folder_of.path

    @classmethod
    def start(
        cls,
        job: JobFile,
        text: str,
        *,
        address: str | None = None,
        station: str | None = None,
        folder: RunFolder | None = None,
    ) -> Run:
        """A new run of `job` (`text`: its file), on `address` where given. Touches no device."""
        if address is None and station is not None:
            address = load_station(station)[0].address
        run = new_run_id(job.name)
        place = folder or RunFolder.create(run)
        result = RunResult(
            run=run,
            name=job.name,
            outcome="running",
            address=address or job.device.address,
            station=station or job.device.station,
            folder=str(place.path),
            seed=job.seed,
            steps=[
                StepResult(index=i, name=name, do=step.do)
                for i, (name, step) in enumerate(zip(job.step_names(), job.steps, strict=True))
            ],
        )
        place.write("job.toml", text.encode())
        place.save_result(result)
        return cls(place, job, result)

    @classmethod
    def open(cls, run: str) -> Run:
        """A run by id, by the beginning of its id, or 'last'. Raises `FileError`."""
        folder = RunFolder.find(run)
        return cls(folder, folder.load_job(), folder.load_result())

    @property
    def is_finished(self) -> bool:
        """Whether every step is done."""
        return all(step.outcome == "finished" for step in self.result.steps)

    def execute(
        self, watch: Watch, should_stop: ShouldStop, connect_to: Connect | None = None
    ) -> RunResult:
        """Carry out the steps that are not finished yet; the result is also in result.json.

        `watch` hears of every safe point; when `should_stop` turns True the run stops at the
        next one. Raises `DeviceError`, `FileError` or `KeyboardInterrupt` after the outputs
        are off and the state is saved.
        """
        if self.is_finished:
            raise FileError(
                f"the run {self.run} is finished; look at it with: rramhil show {self.run}"
            )
        from rramhil.job.subject import Material
        from rramhil.nn.repeatable import repeatable

        watch(Progress(0, len(self.result.steps), "prepare", 0, 1, "loading network and data"))
        material = Material.load(self.job)
        log = open_log(self.folder / "events.jsonl", self.run)
        try:
            with repeatable():
                self._sessions(connect_to or _connect, material, log, watch, should_stop)
        finally:
            log.close()
        if self.is_finished and self.result.report:
            self._draw_report(watch)
        return self.result

    def _sessions(
        self,
        connect_to: Connect,
        material: Material,
        log: EventLog,
        watch: Watch,
        should_stop: ShouldStop,
    ) -> None:
        """One session, and another one each time the link was lost and came back.

        A lost link is never patched up: everything is closed, opened and identified anew,
        doubtful cells are read, and the step that was under way runs again.
        """
        for tries_left in reversed(range(LINK_TRIES + 1)):
            try:
                with self._session(connect_to, log) as session:
                    session.carry_out(material, watch, should_stop)
                return
            except LinkLost as error:
                if tries_left == 0 or should_stop():
                    raise
                log.warning(
                    "link lost", row=self._last_row(), reason=str(error), tries_left=tries_left
                )
                text = f"the link was lost; connecting again ({tries_left} tries left)"
                watch(Progress(0, len(self.result.steps), "link", 0, 1, text))
                time.sleep(LINK_DELAY_SECONDS)
                connect_to = _patient(connect_to, should_stop)

    def _last_row(self) -> int:
        return max((step.last_row for step in self.result.steps), default=0)

    def _draw_report(self, watch: Watch) -> None:
        from rramhil import report

        steps = self.result.steps
        index = next(step.index for step in steps if step.do == "report")
        name, began = steps[index].name, time.perf_counter()
        watch(Progress(index, len(steps), name, 0, 1, "drawing the report"))
        report.build(self.folder)
        steps[index].cost = Cost(host_seconds=time.perf_counter() - began)
        self.folder_of.save_result(self.result)
        watch(Progress(index, len(steps), name, 1, 1, "report written"))

    @contextmanager
    def _session(self, connect_to: Connect, log: EventLog) -> Iterator[_Session]:
        result = self.result
        result.outcome, result.error = "running", None
        try:
            device = connect_to(self)
        except (DeviceError, FileError, OSError) as error:
            if result.ledger:
                self._end("failed", str(error))
            else:  # it never reached a device: there is nothing to keep
                rmtree(self.folder, ignore_errors=True)
            raise
        session = _Session(self, device, log)
        outcome: Outcome = "stopped"
        reason: str | None = None
        try:
            yield session
            outcome = "finished" if self.is_finished else "stopped"
        except KeyboardInterrupt:
            reason = "interrupted at once"
            raise
        except Exception as error:
            outcome, reason = "failed", str(error)
            raise
        finally:
            session.finish(outcome, reason)
            self._end(outcome, reason if outcome == "failed" else None)

    def _end(self, outcome: Outcome, error: str | None) -> None:
        self.result.outcome, self.result.error = outcome, error
        self.folder_of.save_result(self.result)


def _connect(run: Run) -> Journal:
    result = run.result
    return connect(
        result.address,
        station=result.station,
        ledger=Path(result.ledger).parent if result.ledger else None,
        run=run.run,
        header={"job": (run.folder / "job.toml").read_text(encoding="utf-8"), "seed": run.job.seed},
        resume=bool(result.ledger),
    )


def _patient(connect_to: Connect, should_stop: ShouldStop) -> Connect:
    """`connect_to` for a link that was just lost: its port may need a while to come back."""

    def connected(run: Run) -> Journal:
        for _ in range(LINK_TRIES):
            try:
                return connect_to(run)
            except (DeviceError, OSError):
                if should_stop():
                    raise
                time.sleep(LINK_DELAY_SECONDS)
        return connect_to(run)

    return connected


class _Session:
    """One process's share of a run: from the connected device to the closed one."""

    def __init__(self, run: Run, device: Journal, log: EventLog) -> None:
        self.run, self.device, self.log = run, device, log
        self.result = run.result
        spec = device.spec
        self.result.device = DeviceInfo(
            model=spec.model, serial=spec.serial, tiles=spec.tiles, rows=spec.rows, cols=spec.cols
        )
        self.result.ledger = str(device.ledger.path)
        self.result.versions = versions()
        run.folder_of.save_result(self.result)
        log.info(
            "connected", row=device.ledger.row, serial=spec.serial, address=self.result.address
        )

    def carry_out(self, material: Material, watch: Watch, should_stop: ShouldStop) -> None:
        """Prepare, then the steps that are open, until done or asked to stop."""
        work = self._prepare(material)
        for record, step in zip(self.result.steps, self.run.job.steps, strict=True):
            if record.outcome == "finished":
                continue
            if isinstance(step, Report):
                self._report(record)
            elif not self._step(work, record, step, watch, should_stop):
                return

    def _prepare(self, material: Material) -> Work:
        from rramhil.job.steps import Work, restore
        from rramhil.job.subject import Subject, wilson

        subject = Subject(material, self.run.job, self.device.spec)
        work = Work(self.run.job, self.device, subject)
        result, folder = self.result, self.run.folder_of
        if result.accuracy.teacher is None:
            folder.save_arrays("layout", subject.layout())
            result.splits = subject.splits.digests()
            result.accuracy.teacher = subject.teacher
            result.accuracy.ideal_mapping = subject.ideal
            for name in ("teacher", "ideal_mapping"):
                share = getattr(result.accuracy, name)
                result.intervals[name] = wilson(share, len(subject.test))
            loss = 100 * (subject.teacher - subject.ideal)
            if loss > 1:
                result.warnings.append(
                    f"the ideal mapping lies {loss:.1f} points below the teacher: use more levels, "
                    "a scale for each column, or a network trained for these levels"
                )
            self.device.ledger.note(
                "prepared",
                {
                    "network": subject.network.card.name,
                    "network_sha256": subject.network.sha256,
                    "splits": result.splits,
                    "teacher": subject.teacher,
                    "ideal_mapping": subject.ideal,
                },
            )
        for record in result.steps:
            if record.outcome == "finished" and record.arrays:
                restore(work, record.do, folder.load_arrays(record.arrays))
        return work

    def _step(
        self, work: Work, record: StepResult, step: Step, watch: Watch, should_stop: ShouldStop
    ) -> bool:
        """Carry out one step; False when it was stopped at a safe point."""
        from rramhil.job.steps import run_step

        ledger = self.device.ledger
        record.outcome = "running"
        record.first_row = record.first_row or ledger.row + 1
        ledger.note("step", {"index": record.index, "name": record.name})
        self.log.info("step started", row=ledger.row, step=record.name)
        work.begin_step(record.done)
        generator = np.random.default_rng([self.run.job.seed, record.index])
        began = time.perf_counter()
        stopped = False
        ticks = run_step(work, step, generator)
        try:
            for tick in ticks:
                watch(self._progress(record, tick.done, tick.total, tick.text))
                if tick.done < tick.total and should_stop():
                    stopped = True
                    break
        finally:
            ticks.close()
            record.done = work.done
            record.last_row = ledger.row
            record.outcome = "stopped"
            self._add_cost(record, time.perf_counter() - began, work)
        if stopped:
            self.log.warning("stopped", row=ledger.row, step=record.name)
            return False
        self._finish_step(record, work)
        return not should_stop() or self.run.is_finished

    def _progress(self, record: StepResult, done: int, total: int, text: str) -> Progress:
        return Progress(record.index, len(self.result.steps), record.name, done, total, text)

    def _add_cost(self, record: StepResult, host_seconds: float, work: Work) -> None:
        """Device time, pulses and reads of the step's ledger rows; host time of all sessions."""
        host = record.cost.host_seconds + host_seconds
        try:
            self.device.ledger.flush()
            with LedgerReader(self.device.ledger.path) as reader:
                totals = reader.totals(self.run.run, record.first_row, record.last_row)
        except DeviceError:
            return  # the ledger is broken: the run is failing with that sentence already
        record.cost = Cost(
            device_seconds=totals.device_seconds - totals.waiting_seconds,
            waiting_seconds=totals.waiting_seconds,
            host_seconds=host,
            pulses=sum(totals.pulses.values()),
            sets=totals.pulses[Kind.SET],
            resets=totals.pulses[Kind.RESET],
            forms=totals.pulses[Kind.FORM],
            reads=totals.reads,
            high_voltage_volt_seconds=totals.volt_seconds,
            joules_estimate=totals.joules,
            **work.digital,
        )

    def _finish_step(self, record: StepResult, work: Work) -> None:
        from rramhil.job.subject import wilson

        result, folder = self.result, self.run.folder_of
        record.findings = work.findings
        if work.arrays:
            name = f"{record.index:02d}-{record.name}"
            record.arrays = folder.save_arrays(name, work.arrays)
        record.outcome = "finished"
        if work.accuracy is not None:
            setattr(result.accuracy, record.name, work.accuracy)
            result.intervals[record.name] = wilson(work.accuracy, len(work.subject.test))
            result.cost[record.name] = self._cost_since_last_accuracy(record)
        ledger = self.device.ledger
        ledger.note("step finished", {"index": record.index, "findings": dict(record.findings)})
        self._checkpoint()
        result.ledger_head = ledger.head
        folder.save_result(result)
        self.log.info("step finished", row=ledger.row, step=record.name, **record.findings)

    def _cost_since_last_accuracy(self, record: StepResult) -> Cost:
        total = Cost()
        for earlier in self.result.steps[: record.index + 1]:
            total = total + earlier.cost
            if earlier is not record and earlier.name in self.result.cost:
                total = Cost()
        return total

    def _checkpoint(self) -> None:
        if self.device.spec.volatile:
            self.device.checkpoint()

    def _report(self, record: StepResult) -> None:
        """The page itself is drawn when the session has ended, so that it names the last row."""
        record.outcome = "finished"
        self.result.report = str(self.run.folder / "report.html")
        self.run.folder_of.save_result(self.result)

    def finish(self, outcome: Outcome, reason: str | None) -> None:
        """Save what can be saved, end the session in the ledger, outputs off, close."""
        ledger = self.device.ledger
        try:
            if outcome != "finished" and self.device.doubtful.size == 0:
                self._checkpoint()
            self.device.finish(outcome, {"reason": reason} if reason else None)
            self.result.ledger_head = ledger.head
        except DeviceError as error:
            self.result.warnings.append(str(error))
        finally:
            self.log.info("ended", row=ledger.row, outcome=outcome, reason=reason)
            self.device.close()


def runs() -> list[RunResult]:
    """The results of all runs, oldest first; a folder that holds none is passed over."""
    found = []
    for name in run_ids():
        try:
            found.append(RunFolder.find(name).load_result())
        except FileError:
            continue
    return found
