"""`rramhil emulate`: simulated hardware as a process of its own, to try a bench without one.

This module is light: a board is imported when the command runs.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Simulated hardware in a process of its own.")


class Ages(StrEnum):
    """What a simulated die ages with."""

    wall = "wall"
    own = "own"


@app.callback()
def _emulate() -> None:
    """Simulated hardware in a process of its own."""


@app.command()
def board(
    device: Annotated[
        str, typer.Argument(metavar="DIE", help="Address of the die, e.g. emulator:40nm?die=7.")
    ],
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Loopback address; port 0: any.")
    ] = "127.0.0.1:0",
    serial: Annotated[str, typer.Option(help="Serial of the die. Default: board-DIE.")] = "",
    state: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File that keeps the die between runs.")
    ] = None,
    clock: Annotated[
        Ages, typer.Option(help="The die ages with the wall clock, or only by what is done to it.")
    ] = Ages.wall,
    baud: Annotated[
        float, typer.Option(min=0.0, help="Bytes take their time at so many bits per second.")
    ] = 0.0,
    max_seconds: Annotated[float | None, typer.Option(min=0.0, help="End after that long.")] = None,
    until_eof: Annotated[
        bool, typer.Option("--until-eof", help="End when standard input ends.")
    ] = False,
) -> None:
    """A board around a simulated die, behind the board protocol. Prints its address.

    Give that address to any other command: rramhil doctor serial:socket://127.0.0.1:PORT
    """
    from .board import run

    arguments = [device, "--listen", listen, "--clock", clock.value, "--baud", str(baud)]
    arguments += ["--serial", serial] if serial else []
    arguments += ["--state", str(state)] if state else []
    arguments += ["--max-seconds", str(max_seconds)] if max_seconds is not None else []
    arguments += ["--until-eof"] if until_eof else []
    run(arguments)
