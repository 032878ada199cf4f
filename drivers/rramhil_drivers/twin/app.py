"""`rramhil twin fit|check`: an emulated chip that is true to measured ones.

This module is light: scipy and pandas are imported when a command runs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rramhil.cli.app import Commands
from rramhil.cli.errors import FAILED, UsageError
from rramhil.cli.options import Json
from rramhil.cli.terminal import Terminal

if TYPE_CHECKING:
    from .record import Record
    from .sources import Measured

app = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Fit the emulated chip to measurements; check it."
)

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A folder of Parquet tables, or a ledger: its file, a die's serial, or a run.",
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(metavar="TOPIC", help="Only this topic of a folder; may be given again."),
]


@app.callback()
def _twin() -> None:
    """Fit the emulated chip to measurements; check it."""


@app.command()
def fit(
    source: Source,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The chip file to write.")
    ],
    base: Annotated[
        str,
        typer.Option(metavar="CHIP", help="Preset or chip file that gives what is not fitted."),
    ] = "40nm",
    only: Only = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    json: Json = False,
) -> None:
    """Fit the cells of a chip to measured arrays, or to the ledger of any die.

    Half of the address blocks are used (`twin check` takes the other half). From a ledger the
    readings after pulses on whole samples are used (scan, tune, characterise).
    """
    from .commands import fit_source

    if output.exists() and not force:
        raise UsageError(f"{output} exists; name another file, or add --force to replace it")
    if not re.fullmatch(r"[A-Za-z0-9_.]+\.toml", output.name):
        raise UsageError(
            f"{output.name} cannot be the name of a chip file; letters, digits, _ and . can, and "
            ".toml at the end"
        )
    if not output.parent.is_dir():
        raise UsageError(f"the folder {output.parent} does not exist; make it, or name another")
    fit_source(_open(source), base, list(only or ()), output, Terminal(json=json))


@app.command()
def check(
    chip: Annotated[str, typer.Argument(metavar="CHIP", help="A preset, or a chip file.")],
    source: Source,
    only: Only = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE.md", help="Write the tables and pictures as a page, too."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the emulated cells.")] = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 when a required distance is exceeded.")
    ] = False,
    json: Json = False,
) -> None:
    """Compare a chip with measurements that it was not fitted to: each statistic, its distance.

    The interval of a distance is a bootstrap over addresses.
    """
    from .commands import check_source

    terminal = Terminal(json=json)
    holds = check_source(chip, _open(source), list(only or ()), seed, page, terminal)
    if strict and not holds:
        raise typer.Exit(FAILED)


def _open(source: str) -> Measured | Record:
    from rramhil.cli.ledger import find_ledger
    from rramhil.ledger import LedgerReader

    from .record import read_record
    from .sources import open_folder

    folder = Path(source)
    if folder.is_dir() and any(folder.glob("*.parquet")):
        return open_folder(folder)
    with LedgerReader(find_ledger(source)) as reader:
        return read_record(reader)
