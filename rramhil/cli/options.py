"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from rramhil.cli import complete

Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document on stdout, everything else on stderr."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks.")]
RunId = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run's id, its unique beginning, or 'last'.",
        autocompletion=complete.run_ids,
    ),
]
Station = Annotated[
    str | None,
    typer.Option(
        "--station",
        metavar="FILE",
        help="Station file with the limits of the bench.",
        autocompletion=complete.stations,
    ),
]
