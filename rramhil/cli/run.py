"""`rramhil run`, `resume` and `replay`: carry a job out, watch it, stop it, go on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from rramhil.cli import complete
from rramhil.cli.errors import FAILED, STOPPED, Interrupted, Underway
from rramhil.cli.options import Json, Quiet, RunId, Station
from rramhil.cli.progress import View, view_for
from rramhil.cli.stop import Stop
from rramhil.cli.terminal import Terminal, print_facts

if TYPE_CHECKING:
    from rich.console import Console

    from rramhil.job.file import JobFile
    from rramhil.job.result import RunResult
    from rramhil.session import Progress

QUICKSTART = "quickstart"


class Executable(Protocol):
    """What is needed of a run here; `rramhil.run.Run` is one."""

    @property
    def run(self) -> str:
        """The run's id."""

    @property
    def result(self) -> RunResult:
        """What it has come to so far."""

    def execute(
        self, watch: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> RunResult:
        """Carry out what is left to do."""


def run(
    job: Annotated[
        str,
        typer.Argument(
            metavar="JOB",
            help="A job file, or the name of a job that comes with rramhil.",
            autocompletion=complete.jobs,
        ),
    ] = QUICKSTART,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="ADDRESS",
            help="Run on this device instead of the job's, for example serial:/dev/ttyUSB0.",
            autocompletion=complete.addresses,
        ),
    ] = None,
    station: Station = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Seed of what the host draws, instead of the job's."),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Write every byte on the link to the chip into FILE, with times.",
        ),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Carry out a job: scan, program, evaluate, repair, report. No JOB: the quickstart."""
    terminal = Terminal(json=json, quiet=quiet)
    from rramhil.job.file import load_job

    loaded, text = load_job(job)
    if seed is not None:
        loaded, text = with_seed(text, seed, job)

    from rramhil.address import parse_address, with_option

    if trace is not None:
        device = with_option(device or loaded.device.address, "trace", str(trace.resolve()))
    parse_address(loaded.device.address if device is None else device)
    launch(loaded, text, device, station, terminal)


def launch(
    job: JobFile, text: str, address: str | None, station: str | None, terminal: Terminal
) -> None:
    """Start a run of `job`, carry it out, print its result."""
    from rramhil.run import Run
    from rramhil.station import load_station

    if station is not None:
        load_station(station)
        station = str(Path(station).resolve()) if Path(station).exists() else station
    started = Run.start(job, text, address=address, station=station)
    where = started.result.address
    terminal.say(f"run {started.run} on {where}: {', '.join(job.step_names())}")
    finish(carry_out(started, terminal), terminal)


def resume(run: RunId, quiet: Quiet = False, json: Json = False) -> None:
    """Go on with a run that was stopped, killed or failed; doubtful cells are read first."""
    terminal = Terminal(json=json, quiet=quiet)
    from rramhil.run import Run

    opened = Run.open(run)
    terminal.say(f"resuming {opened.run} on {opened.result.address}")
    finish(carry_out(opened, terminal), terminal)


def replay(run: RunId, quiet: Quiet = False, json: Json = False) -> None:
    """Run again from the ledger's record instead of a device; say whether all came out the same.

    Exit code 1 when an accuracy differs.
    """
    terminal = Terminal(json=json, quiet=quiet)
    from rramhil.rerun import replay as play

    stop = Stop()
    try:
        with view_for(terminal) as view, stop.telling(view.tell), _heard_by(view):
            recorded, replayed = play(run, view.watch, stop.asked)
    except Exception as error:
        if stop.at_once:
            raise Interrupted("stopped at once") from error
        raise
    same = recorded.accuracy == replayed.accuracy
    document = {"same": same, "recorded": recorded, "replayed": replayed}

    def show(out: Console) -> None:
        from rramhil.cli.tables import comparison

        out.print(comparison(recorded, replayed))

    terminal.answer(document, show)
    if stop.asked():
        raise typer.Exit(STOPPED)
    if not same:
        raise typer.Exit(FAILED)


def carry_out(run: Executable, terminal: Terminal) -> RunResult:
    """Execute `run` under a view that can be stopped; say how to go on if it does not finish."""
    stop, before = Stop(), sent(run.result)
    try:
        with view_for(terminal) as view, stop.telling(view.tell), _heard_by(view):
            return run.execute(view.watch, stop.asked)
    except BaseException as error:
        # The second Ctrl-C switches the outputs off in the device process as well: what that
        # breaks here, before or while the interrupt is under way, is no failure of its own.
        if isinstance(error, KeyboardInterrupt) or stop.at_once:
            failed: BaseException = Interrupted("stopped at once, outputs are off")
        elif isinstance(error, Exception) and sent(run.result) > before:
            failed = Underway()
        else:
            failed = error
        # What is wrong in a file stays wrong, and a run without a ledger never reached a device.
        if run.result.ledger and not isinstance(error, ValueError):
            failed.add_note(f"rramhil resume {run.run}")
        if failed is error:
            raise
        raise failed from error


def sent(result: RunResult) -> int:
    """How many cells the run has pulsed or read so far."""
    return sum(step.cost.pulses + step.cost.reads for step in result.steps)


def finish(result: RunResult, terminal: Terminal) -> None:
    """Print the result and end with the exit code that it calls for."""

    def show(out: Console) -> None:
        from rramhil.cli.tables import summary, whereabouts

        out.print(summary(result))
        for warning in result.warnings:
            out.print(f"warning: {warning}", style="yellow", markup=False)
        print_facts(out, whereabouts(result))

    terminal.answer(result, show)
    if result.outcome == "stopped":
        terminal.say(f"stopped at a safe point; go on with: rramhil resume {result.run}")
        raise typer.Exit(STOPPED)
    if result.outcome != "finished":
        raise typer.Exit(FAILED)


def with_seed(text: str, seed: int, source: str) -> tuple[JobFile, str]:
    """The job in `text` with another seed, and its text: the record shows what was run."""
    import tomllib

    from rramhil.job.file import JobFile
    from rramhil.schema import check

    head, table, rest = text.partition("\n[")
    changed, count = re.subn(r"(?m)^seed\s*=.*$", f"seed = {seed}", head)
    whole = (changed if count else f"seed = {seed}\n{head}") + table + rest
    return check(tomllib.loads(whole), JobFile, source), whole


def _heard_by(view: View) -> Any:
    from rramhil.job.events import hear

    return hear(view.hear)
