"""`rramhil estimate`: what a job's network should take on a device, before anything is pulsed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rramhil.cli import complete
from rramhil.cli.options import Json
from rramhil.cli.terminal import Terminal

if TYPE_CHECKING:
    from rich.console import Console


def estimate(
    job: Annotated[
        str,
        typer.Argument(
            metavar="JOB",
            help="A job file, or the name of a job that comes with rramhil.",
            autocompletion=complete.jobs,
        ),
    ],
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="ADDRESS",
            help="Estimate for this device instead of the job's.",
            autocompletion=complete.addresses,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Area, current, energy and latency of a job's network. Reads nothing and pulses nothing."""
    terminal = Terminal(json=json)
    from rramhil.address import open_device
    from rramhil.estimate import product_limits
    from rramhil.job.estimating import estimates_of
    from rramhil.job.file import load_job
    from rramhil.job.row_tables import arranged
    from rramhil.job.subject import Material, Subject

    loaded, _ = load_job(job)
    address = device or loaded.device.address
    opened = open_device(address)
    try:
        spec = opened.spec
    finally:
        opened.close()
    product_limits(spec)
    material = Material.load(loaded)
    rows = arranged(material, loaded, spec, lambda _: None)
    subject = Subject(rows.material(material) if rows else material, loaded, spec)
    if subject.provisional:
        terminal.say(
            f"the mapping is decided by a scan; these are of {subject.scheme}, in natural order"
        )
    found = estimates_of(subject, spec)

    def show(out: Console) -> None:
        from rramhil.cli.terminal import table
        from rramhil.report.estimates import HEAD, estimate_lines

        out.print(table(HEAD, estimate_lines(found), foldable=True))

    terminal.answer({"job": loaded.name, "device": address, "estimates": found}, show)
