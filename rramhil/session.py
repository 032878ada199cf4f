"""One process's share of a run: the steps between a device connected and a device closed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rramhil.connected import Connected
from rramhil.cost import Cost
from rramhil.device import DeviceError, Kind
from rramhil.job.events import EventLog
from rramhil.job.file import JobFile, Report, Step
from rramhil.job.folder import RunFolder
from rramhil.job.preflight import check_places, preflight
from rramhil.job.result import DeviceInfo, RunResult, StepResult
from rramhil.job.timing import timings_of
from rramhil.ledger import LedgerReader
from rramhil.versions import versions

if TYPE_CHECKING:
    from rramhil.job.subject import Material, Subject
    from rramhil.job.work import Tick, Work


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is: step `step` of `steps` (from 0), `done` of `total` of it, and a text."""

    step: int
    steps: int
    name: str
    done: int
    total: int
    text: str


Watch = Callable[[Progress], None]
ShouldStop = Callable[[], bool]


class Session:
    """One process's share of a run: from the connected device to the closed one."""

    def __init__(
        self, job: JobFile, folder: RunFolder, result: RunResult, device: Connected, log: EventLog
    ) -> None:
        self.job, self.folder, self.result = job, folder, result
        self.device, self.log = device, log
        spec = device.spec
        self.result.device = DeviceInfo(
            model=spec.model, serial=spec.serial, tiles=spec.tiles, rows=spec.rows, cols=spec.cols
        )
        self.result.ledger = str(device.ledger.path.resolve())
        self.result.versions = versions()
        folder.save_result(self.result)
        log.info(
            "connected", row=device.ledger.row, serial=spec.serial, address=self.result.address
        )

    def carry_out(self, material: Material, watch: Watch, should_stop: ShouldStop) -> None:
        """Prepare, then the steps that are open, until done or asked to stop."""
        preflight(self.job, self.device.spec)
        work = self._prepare(self._arranged(material, watch))
        for record, step in zip(self.result.steps, self.job.steps, strict=True):
            if record.outcome == "finished":
                continue
            if isinstance(step, Report):
                self._report(record)
            elif not self._step(work, record, step, watch, should_stop):
                return

    def _arranged(self, material: Material, watch: Watch) -> Material:
        """`material` with the rows of its layers renamed and reordered, where the job asks."""
        from rramhil.job.row_tables import arranged, restored

        kept, total = "arrays/rows.npz", len(self.result.steps)
        if (self.folder.path / kept).exists():
            return restored(material, self.folder.load_arrays(kept)).material(material)

        def told(tick: Tick) -> None:
            watch(Progress(0, total, "prepare", tick.done, tick.total, tick.text))

        arrangement = arranged(material, self.job, self.device.spec, told)
        if arrangement is None:
            return material
        self.result.rows = arrangement.told
        self.folder.save_arrays("rows", arrangement.as_arrays())
        tables = {name: table.tolist() for name, table in arrangement.rows.items()}
        self.device.ledger.note("rows", {"tables": tables})
        return arrangement.material(material)

    def _prepare(self, material: Material) -> Work:
        from rramhil.job.steps import remember
        from rramhil.job.subject import Subject, wilson
        from rramhil.job.work import Work

        subject = Subject(material, self.job, self.device.spec)
        work = Work(self.job, self.device, subject, run=self.result.run)
        result, folder = self.result, self.folder
        check_places(self.job, subject.cells, self.device.spec)
        if result.accuracy.teacher is None:
            result.splits = subject.splits.digests()
            result.accuracy.teacher = subject.teacher
            result.intervals["teacher"] = wilson(subject.teacher, len(subject.test))
            self._note_mapping(subject)
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
        for record, step in zip(result.steps, self.job.steps, strict=True):
            if record.outcome == "finished" and record.arrays:
                remember(work, step, folder.load_arrays(record.arrays))
        return work

    def _note_mapping(self, subject: Subject) -> None:
        """Where the weights lie, and what the mapping itself costs; a scan may change both."""
        from rramhil.job.estimating import estimates_of
        from rramhil.job.subject import wilson

        result = self.result
        self.folder.save_arrays("layout", subject.layout())
        if self.device.spec.mvm is not None and self.job.is_in_situ:
            result.estimates = estimates_of(subject, self.device.spec)
        result.accuracy.ideal_mapping = subject.ideal
        result.intervals["ideal_mapping"] = wilson(subject.ideal, len(subject.test))
        loss = 100 * (subject.teacher - subject.ideal)
        if loss > 1 and not subject.provisional:
            result.warnings.append(
                f"the ideal mapping lies {loss:.1f} points below the teacher: use more levels, "
                "a scale for each column, or a network trained for these levels"
            )

    def _step(
        self, work: Work, record: StepResult, step: Step, watch: Watch, should_stop: ShouldStop
    ) -> bool:
        """Carry out one step; False when it was stopped at a safe point."""
        from rramhil.job.steps import run_step

        ledger = self.device.ledger
        record.outcome = "running"
        written = self._written(record)
        record.first_row = record.first_row or ledger.row + 1
        ledger.note("step", {"index": record.index, "name": record.name, "do": record.do})
        self.log.info("step started", row=ledger.row, step=record.name)
        work.begin_step(written)
        self.folder.save_result(self.result)
        if record.partial:
            work.partial = self.folder.load_arrays(record.partial)
        generator = np.random.default_rng([self.job.seed, record.index])
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
            if work.partial:
                name = f"{record.index:02d}-{record.name}.partial"
                record.partial = self.folder.save_arrays(name, work.partial)
            self._add_cost(record, time.perf_counter() - began, work)
        if stopped:
            self.log.warning("stopped", row=ledger.row, step=record.name)
            return False
        self._finish_step(record, step, work)
        return not should_stop() or self.result.is_finished

    def _written(self, record: StepResult) -> int:
        """Cells that an interrupted open-loop step has SET, by the ledger, whatever ended it."""
        if not record.first_row:
            return 0
        self.device.ledger.flush()
        with LedgerReader(self.device.ledger.path) as reader:
            return reader.totals(self.result.run, record.first_row).pulses[Kind.SET]

    def _progress(self, record: StepResult, done: int, total: int, text: str) -> Progress:
        return Progress(record.index, len(self.result.steps), record.name, done, total, text)

    def _add_cost(self, record: StepResult, host_seconds: float, work: Work) -> None:
        """Device time, pulses and reads of the step's ledger rows; host time of all sessions."""
        host = record.cost.host_seconds + host_seconds
        try:
            self.device.ledger.flush()
            with LedgerReader(self.device.ledger.path) as reader:
                totals = reader.totals(self.result.run, record.first_row, record.last_row)
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
            unpriced_pulses=totals.unpriced,
            reads=totals.reads,
            high_voltage_volt_seconds=totals.volt_seconds,
            joules_estimate=totals.joules,
            read_joules_estimate=totals.read_joules,
            products=totals.products,
            product_joules_estimate=totals.product_joules,
            **work.digital,
        )

    def _finish_step(self, record: StepResult, step: Step, work: Work) -> None:
        from rramhil.job.steps import remember
        from rramhil.job.subject import wilson

        result, folder = self.result, self.folder
        record.findings = work.findings
        if work.arrays:
            name = f"{record.index:02d}-{record.name}"
            record.arrays = folder.save_arrays(name, work.arrays)
            was_open = work.subject.provisional
            remember(work, step, work.arrays)
            if was_open and not work.subject.provisional:
                self._note_mapping(work.subject)
        record.outcome = "finished"
        if work.accuracy is not None:
            result.accuracy.add(record.name, work.accuracy)
            result.intervals[record.name] = wilson(work.accuracy, len(work.subject.test))
            result.cost[record.name] = self._cost_since_last_accuracy(record)
            spec, repairs = self.device.spec, self.job.repairs()
            result.timing = timings_of(result, self.job.timing, spec, repairs)
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
        self.result.report = str(self.folder.path / "report.html")
        self.folder.save_result(self.result)
