"""`rramhil data list` and `rramhil data fetch`: the data sets that networks are judged with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rramhil.cli import complete
from rramhil.cli.app import Commands
from rramhil.cli.errors import UsageError
from rramhil.cli.options import Json, Quiet
from rramhil.cli.terminal import Terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

BUILT_IN = "digits"

app = typer.Typer(cls=Commands, no_args_is_help=True, help="List data sets and fetch them.")

Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        metavar="FOLDER",
        help="The folder of all data sets. Default: RRAMHIL_DATA, else the user's data folder.",
    ),
]


@app.callback()
def _data() -> None:
    """List data sets and fetch them."""


@app.command("list")
def list_sets(folder: Folder = None, json: Json = False) -> None:
    """Which data sets there are, which of them are here, and on what terms."""
    from rramhil.nn.data import SOURCES, data_folder, is_complete

    place = data_folder(folder)
    sets = [
        {
            "name": source.name,
            "here": is_complete(source, place / source.name),
            "megabytes": source.megabytes,
            "terms": source.terms,
        }
        for source in SOURCES.values()
    ]
    sets.insert(0, {"name": BUILT_IN, "here": True, "megabytes": 0.0, "terms": "with rramhil"})

    def show(out: Console) -> None:
        from rramhil.cli.terminal import table, unbroken

        rows = [
            [
                str(entry["name"]),
                "[green]yes[/]" if entry["here"] else "no",
                unbroken(f"{entry['megabytes']:.1f} MB") if entry["megabytes"] else "–",
                str(entry["terms"]),
            ]
            for entry in sets
        ]
        out.print(table(("name", "here", "download", "terms"), rows))
        out.print(f"data folder: {place}", markup=False, soft_wrap=True)

    Terminal(json=json).answer({"folder": place, "sets": sets}, show)


@app.command("fetch")
def fetch(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The data set.", autocompletion=complete.data_sets),
    ],
    folder: Folder = None,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="URL", help="Another address that serves the same files."),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Download a data set; what was broken off is resumed, and every file is checked."""
    from rramhil.nn.data import DataError, data_folder, find_source
    from rramhil.nn.fetch import fetch as download

    terminal = Terminal(json=json, quiet=quiet)
    place = data_folder(folder)
    if name == BUILT_IN:
        target = place
        terminal.say("digits come with rramhil; there is nothing to fetch")
    else:
        try:
            source = find_source(name)
        except DataError as error:
            raise UsageError(str(error)) from None
        terminal.say(f"{name}: {source.megabytes:.1f} MB; terms: {source.terms}")
        with Download(terminal) as progress:
            target = download(name, place, base=base, progress=progress.report)
    terminal.answer(
        {"name": name, "folder": target},
        lambda out: out.print(str(target), markup=False, soft_wrap=True),
    )


class Download:
    """A bar for each file on a terminal, a line for each file elsewhere."""

    def __init__(self, terminal: Terminal) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._terminal = terminal
        self._seen: set[str] = set()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=terminal.err,
            disable=terminal.quiet or not terminal.err.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Download:
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def report(self, name: str, so_far: int, total: int | None) -> None:
        """Called as bytes arrive."""
        if self._bars.disable:
            if name not in self._seen:
                self._terminal.say(f"fetching {name}")
            self._seen.add(name)
            return
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name)
        self._bars.update(self._tasks[name], completed=so_far, total=total)
