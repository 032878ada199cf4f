"""`rramhil abort`: outputs off now, on a die that another program uses."""

from __future__ import annotations

from typing import Annotated

import typer

from rramhil.cli.errors import FAILED
from rramhil.cli.options import Json
from rramhil.cli.terminal import Terminal


def abort(
    serial: Annotated[str, typer.Argument(metavar="SERIAL", help="The die's serial.")],
    json: Json = False,
) -> None:
    """Switch off the outputs of a die that another program uses; that program's calls then fail.

    Exit code 1 when the device could not say that they are off.
    """
    from rramhil.station import abort as switch_off

    said = switch_off(serial)
    state = "off" if said.off else "NOT known to be off"
    Terminal(json=json).answer(
        said,
        lambda out: out.print(
            f"outputs of die {serial}: {state} ({said.said}; it took {1000 * said.seconds:.0f} ms)",
            markup=False, soft_wrap=True,
        ),
    )  # fmt: skip
    if not said.off:
        raise typer.Exit(FAILED)
