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
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from rramhil.address import absolute_address
from rramhil.connected import Connected
from rramhil.cost import Cost
from rramhil.device import DeviceError, LinkLost, Refused
from rramhil.job.events import EventLog, open_log
from rramhil.job.file import JobFile
from rramhil.job.folder import RunFolder, new_run_id, run_ids
from rramhil.job.result import Outcome, RunResult, StepResult
from rramhil.ledger import LedgerReader
from rramhil.schema import FileError
from rramhil.session import Progress, Session, ShouldStop, Watch
from rramhil.station import connect, load_station

if TYPE_CHECKING:
    from rramhil.job.subject import Material


LINK_TRIES = 3
LINK_DELAY_SECONDS = 1.0

Connect = Callable[["Run"], Connected]


class Run:
    """One run and its folder. `start` makes a new one, `open` finds an old one."""

    def __init__(self, folder: RunFolder, job: JobFile, result: RunResult) -> None:
        self._made_here = False
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
        address = absolute_address(address or job.device.address)
        run = new_run_id(job.name)
        place = folder or RunFolder.create(run)
        result = RunResult(
            run=run,
            name=job.name,
            outcome="running",
            address=address,
            station=station or job.device.station,
            folder=str(place.path.resolve()),
            seed=job.seed,
            steps=[
                StepResult(index=i, name=name, do=step.do)
                for i, (name, step) in enumerate(zip(job.step_names(), job.steps, strict=True))
            ],
        )
        place.save_job(job, text)
        place.save_result(result)
        made = cls(place, job, result)
        made._made_here = True
        return made

    @classmethod
    def open(cls, run: str) -> Run:
        """A run by id, by the beginning of its id, or 'last'. Raises `FileError`."""
        folder = RunFolder.find(run)
        return cls(folder, folder.load_job(), folder.load_result())

    @property
    def is_finished(self) -> bool:
        """Whether every step is done."""
        return self.result.is_finished

    def execute(
        self,
        watch: Watch,
        should_stop: ShouldStop,
        connect_to: Connect | None = None,
        link_tries: int = LINK_TRIES,
        material: Material | None = None,
    ) -> RunResult:
        """Carry out the steps that are not finished yet; the result is also in result.json.

        `watch` hears of every safe point; when `should_stop` turns True the run stops at the
        next one. A link that is lost is opened again at most `link_tries` times. `material`: the
        network and data of the job, where the caller has loaded them for several runs. Raises
        `DeviceError`, `FileError` or `KeyboardInterrupt` after the outputs are off and the
        state is saved.
        """
        if self.is_finished:
            raise FileError(
                f"the run {self.run} is finished; look at it with: rramhil show {self.run}"
            )
        with self.folder_of.locked(self.run):
            try:
                self._carry_out(watch, should_stop, connect_to or _connect, link_tries, material)
            finally:
                if self._made_here and not self.result.ledger:
                    # It never reached a device: there is nothing to keep.
                    rmtree(self.folder, ignore_errors=True)
            if self.is_finished and self.result.report:
                self._draw_report(watch)
        return self.result

    def _carry_out(
        self,
        watch: Watch,
        should_stop: ShouldStop,
        connect_to: Connect,
        link_tries: int,
        material: Material | None,
    ) -> None:
        from rramhil.job.learning import check_lessons
        from rramhil.job.row_tables import check_rows
        from rramhil.job.subject import Material
        from rramhil.nn.repeatable import repeatable

        watch(Progress(0, len(self.result.steps), "prepare", 0, 1, "loading network and data"))
        if material is None:
            material = Material.load(self.job)
        material.check(self.job)
        check_lessons(self.job, material)
        check_rows(self.job, material)
        log = open_log(self.folder / "events.jsonl", self.run)
        try:
            with repeatable():
                self._sessions(connect_to, link_tries, material, log, watch, should_stop)
        finally:
            log.close()

    def _sessions(
        self,
        connect_to: Connect,
        tries: int,
        material: Material,
        log: EventLog,
        watch: Watch,
        should_stop: ShouldStop,
    ) -> None:
        """One session, and another one each time the link was lost and came back.

        A lost link is never patched up: everything is closed, opened and identified anew,
        doubtful cells are read, and the step that was under way runs again.
        """
        for tries_left in reversed(range(tries + 1)):
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
    def _session(self, connect_to: Connect, log: EventLog) -> Iterator[Session]:
        result = self.result
        result.outcome, result.error = "running", None
        try:
            device = connect_to(self)
        except (DeviceError, FileError, OSError) as error:
            if result.ledger:
                self._end("failed", str(error))
            raise
        outcome: Outcome = "stopped"
        reason: str | None = None
        try:
            try:
                self._check_silicon(device)
                yield Session(self.job, self.folder_of, result, device, log)
                outcome = "finished" if self.is_finished else "stopped"
            except KeyboardInterrupt:
                reason = "interrupted at once"
                raise
            except Exception as error:
                outcome, reason = "failed", str(error)
                raise
            finally:
                self._end_session(device, log, outcome, reason)
        finally:
            # Whatever could not be noted, on a full disk say, the outputs go off; and whatever
            # breaks off closing, the second Ctrl-C say, the run does not stay "running".
            try:
                device.close()
            finally:
                self._end(outcome, reason if outcome == "failed" else None)

    def _check_silicon(self, device: Connected) -> None:
        """Refuse to go on with a chip that has never been pulsed when this run pulsed one."""
        pulsed = any(step.cost.pulses for step in self.result.steps)
        if pulsed and device.spec.newborn and not device.spec.volatile:
            raise Refused(
                f"die {device.spec.serial} has never been pulsed, so it is not the one that "
                f"{self.run} worked on; connect that one, or run the job again"
            )

    def _end_session(
        self, device: Connected, log: EventLog, outcome: Outcome, reason: str | None
    ) -> None:
        """Save the state of a volatile die and end the session in the ledger."""
        try:
            if outcome != "finished" and device.spec.volatile and device.doubtful.size == 0:
                device.checkpoint()
            device.finish(outcome, {"reason": reason} if reason else None)
            self.result.ledger_head = device.ledger.head
        except DeviceError as error:
            self.result.warnings.append(str(error))
        log.info("ended", row=device.ledger.row, outcome=outcome, reason=reason)

    def _end(self, outcome: Outcome, error: str | None) -> None:
        self.result.outcome, self.result.error = outcome, error
        try:
            self.folder_of.save_result(self.result)
        except KeyboardInterrupt:  # it is raised once
            self.folder_of.save_result(self.result)
            raise


def _connect(run: Run) -> Connected:
    result = run.result
    resumed = bool(result.ledger)
    return connect(
        result.address,
        station=result.station,
        ledger=Path(result.ledger).parent if resumed else None,
        run=run.run,
        header={"job": (run.folder / "job.toml").read_text(encoding="utf-8"), "seed": run.job.seed},
        resume=resumed,
        continues=_own_row(run) if resumed else None,
    )


def _own_row(run: Run) -> int | None:
    """The row from which a run goes on when the ledger has gone on without it, else None.

    A die that is born new for each run has a life of its own in each, and goes on in its own.
    Any other die is one and the same: raises `Refused` when another run has pulsed it since.
    """
    with LedgerReader(run.result.ledger) as reader:
        last = reader.last_row_of(run.run)
        if last == 0 or last == reader.last_row:
            return None
        if reader.sessions(run.run)[0].newborn:
            return last
        others = reader.pulsed_since(last, other_than=run.run)
        if others:
            raise Refused(
                f"the run {others[-1]} has pulsed die {reader.serial} since {run.run} stopped, so "
                "what is left to do would start from other conductances; run the job again"
            )
    return None


def _patient(connect_to: Connect, should_stop: ShouldStop) -> Connect:
    """`connect_to` for a link that was just lost: its port may need a while to come back."""

    def connected(run: Run) -> Connected:
        for _ in range(LINK_TRIES):
            try:
                return connect_to(run)
            except (DeviceError, OSError):
                if should_stop():
                    raise
                time.sleep(LINK_DELAY_SECONDS)
        return connect_to(run)

    return connected


def runs() -> list[RunResult]:
    """The results of all runs, oldest first; a folder that holds none is passed over."""
    found = []
    for name in run_ids():
        try:
            found.append(RunFolder.find(name).load_result())
        except FileError:
            continue
    return found
