"""`rramhil ledger verify`: is the record of a die what was written?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rramhil.cli import complete
from rramhil.cli.app import Commands
from rramhil.cli.errors import FAILED, UsageError
from rramhil.cli.options import Json
from rramhil.cli.terminal import Terminal, print_facts
from rramhil.words import nearest

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Check the record of a die.")


@app.callback()
def _ledger() -> None:
    """Check the record of a die."""


@app.command("verify")
def verify(
    which: Annotated[
        str,
        typer.Argument(
            metavar="PATH|SERIAL|RUN",
            help="A ledger file or its folder, a die's serial, or a run.",
            autocompletion=complete.run_ids,
        ),
    ] = "last",
    head: Annotated[
        str | None,
        typer.Option(
            metavar="HASH",
            help="A head hash from a report: only with it is a tail that was cut off noticed.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Recompute the hash chain; name the first row that was damaged, altered or removed.

    Exit code 1 when there is one.
    """
    from rramhil.ledger import LedgerReader

    if head is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", head):
        raise UsageError(
            f"--head {head!r} is no hash; copy the 64 hex digits from the report or from `show`"
        )
    head = head.lower() if head else None
    with LedgerReader(find_ledger(which)) as ledger:
        verdict = ledger.verify(head=head)
        path, serial = ledger.path, ledger.serial
    document = {
        "ok": verdict.ok,
        "row": verdict.row,
        "rows": verdict.rows,
        "head": verdict.head,
        "sentence": verdict.sentence,
        "ledger": path,
        "serial": serial,
    }

    def show(out: Console) -> None:
        style = "green" if verdict.ok else "red"
        out.print(verdict.sentence, style=style, markup=False, soft_wrap=True)
        print_facts(out, {"die": serial or "?", "ledger": str(path), "head": verdict.head})

    terminal = Terminal(json=json)
    terminal.answer(document, show)
    if not verdict.ok:
        raise typer.Exit(FAILED)
    if head is None:
        terminal.say("without --head a tail that was cut off cannot be noticed")


def find_ledger(which: str) -> Path:
    """The ledger of a path, a die's serial, or a run. Raises `UsageError` or `FileError`."""
    return find_record(which)[0]


def find_record(which: str) -> tuple[Path, str | None]:
    """A ledger as `find_ledger` finds it, and the run where it was a run that was named."""
    from rramhil.job.folder import RunFolder, run_ids
    from rramhil.station import file_name, home

    path = Path(which)
    if path.exists():
        return path, None
    dies = home() / "dies"
    serials = sorted(p.name for p in dies.iterdir()) if dies.is_dir() else []
    if file_name(which) in serials:
        return dies / file_name(which), None
    runs = run_ids()
    if which == "last" or any(run.startswith(which) for run in runs):
        result = RunFolder.find(which).load_result()
        if not result.ledger:
            raise UsageError(f"run {result.run} never reached a device, so it has no ledger")
        return Path(result.ledger), result.run
    raise UsageError(
        f"{which!r} is no ledger file, no die in {dies} and no run"
        + nearest(which, serials + runs[-5:])
    )
