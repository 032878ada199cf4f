"""A recorded run carried out again without its chip: same job, answers from the ledger.

A run that was stopped and resumed consists of several sessions. Each is played as it was: the
job is stopped where the session's record ends and resumed with the next one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from rramhil.device import Address, LinkLost
from rramhil.job.folder import RunFolder
from rramhil.job.result import RunResult
from rramhil.journal import Journal
from rramhil.ledger import Ledger, LedgerError, LedgerReader, Session
from rramhil.replay import Departed, Replay, open_replay
from rramhil.run import Run
from rramhil.schema import FileError
from rramhil.session import ShouldStop, Watch


def replay(run: str, watch: Watch, should_stop: ShouldStop) -> tuple[RunResult, RunResult]:
    """(recorded, replayed) results of a run. Nothing of the recorded run is changed.

    Raises `Departed` when the job asks for something that is not on record, `FileError` when
    there is no record.
    """
    recorded = Run.open(run)
    ledger = Path(recorded.result.ledger)
    if not recorded.result.ledger:
        raise FileError(
            f"the run {recorded.run} never reached a device; there is nothing to replay"
        )
    with LedgerReader(ledger) as reader:
        verdict = reader.verify()
        if not verdict.ok:
            raise LedgerError(f"the record cannot be replayed: {verdict.sentence}")
        sessions = reader.sessions(recorded.run)
    if not sessions:
        raise FileError(f"the ledger {ledger} holds no session of the run {recorded.run}")
    with tempfile.TemporaryDirectory(prefix="rramhil-replay-") as folder:
        place = RunFolder(Path(folder) / recorded.run)
        (place.path / "arrays").mkdir(parents=True)
        text = (recorded.folder / "job.toml").read_text(encoding="utf-8")
        again = Run.start(recorded.job, text, address=f"replay:{ledger}", folder=place)
        for number, session in enumerate(sessions, start=1):
            if not _play(
                again, ledger, session, number, Path(folder) / "ledger", watch, should_stop
            ):
                break
        return recorded.result, again.result


def _play(
    again: Run,
    ledger: Path,
    session: Session,
    number: int,
    copy: Path,
    watch: Watch,
    should_stop: ShouldStop,
) -> bool:
    """Play the session that is the run's `number`-th; False when the caller asked to stop."""
    options = {"run": session.run, "session": str(number)}
    partial_before = [step.partial for step in again.result.steps]
    device = open_replay(Address("replay", str(ledger), options))

    def connected(run: Run) -> Journal:
        return Journal(device, Ledger.open(copy, device.spec.serial, volatile=True), run.run)

    def ended(device: Replay = device) -> bool:
        return should_stop() or (session.outcome not in (None, "finished") and device.ended)

    try:
        again.execute(watch, ended, connected, link_tries=0)
    except (Departed, LinkLost):
        if not device.ended:
            raise
        # A killed process could not save what its closed loop had so far, so neither may this.
        for step, partial in zip(again.result.steps, partial_before, strict=True):
            step.partial = partial
    return not should_stop()
