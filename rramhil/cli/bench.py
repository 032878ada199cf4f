"""`rramhil devices` and `rramhil doctor`: what can be reached, and is it well?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rramhil.cli import complete
from rramhil.cli.errors import FAILED, UsageError, explain
from rramhil.cli.options import Json, Station
from rramhil.cli.terminal import Terminal, print_facts

if TYPE_CHECKING:
    from rich.console import Console

    from rramhil.device import Cells, Spec


def devices(
    scan: Annotated[
        bool, typer.Option("--scan", help="Ask each driver which devices are connected now.")
    ] = False,
    json: Json = False,
) -> None:
    """The installed drivers, an example address of each, and its options."""
    from rramhil.address import driver_names

    found = [_driver(name, scan) for name in driver_names()]

    def show(out: Console) -> None:
        for entry in found:
            out.print(f"[bold]{entry['scheme']}[/]  {entry.get('summary', '')}")
            if "error" in entry:
                out.print(f"  cannot be loaded: {entry['error']}", style="red", markup=False)
                continue
            out.print(f"  example: {entry['example']}", markup=False)
            for address in entry["connected"]:
                out.print(f"  connected: {address}", markup=False)
            print_facts(out, entry["options"], indent="  ?")
            out.print()

    Terminal(json=json).answer({"drivers": found}, show)


def _driver(scheme: str, scan: bool) -> dict[str, Any]:
    """What a driver says of itself; one that is broken is listed with its error."""
    from rramhil.address import find_driver

    try:
        driver = find_driver(scheme)
        connected = list(driver.scan()) if scan and driver.scan else []
    except Exception as error:  # a driver of somebody else may fail in any way
        return {"scheme": scheme, "error": explain(error).message}
    return {
        "scheme": scheme,
        "summary": driver.summary,
        "example": driver.example,
        "options": dict(driver.options),
        "faults": sorted(driver.faults),
        "connected": connected,
    }


def doctor(
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS",
            help="A device address, for example serial:/dev/ttyUSB0.",
            autocompletion=complete.addresses,
        ),
    ],
    scratch: Annotated[
        list[str] | None,
        typer.Option(
            "--scratch",
            metavar="TILE:ROW[:FIRST-LAST]",
            help="Cells that may be pulsed (columns FIRST to LAST); may be repeated. "
            "Without it no cell of real silicon is pulsed.",
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many rows to read.")] = 4,
    station: Station = None,
    json: Json = False,
) -> None:
    """Examine a device: who it is, a few rows, noise, timing, and every promise of a driver.

    Exit code 1 when it is not well.
    """
    from rramhil.doctor import examine
    from rramhil.station import connect

    spans = [parse_span(text) for text in scratch or []]
    with connect(address, station=station) as device:
        cells = spanned(device.spec, spans) if spans else None
        found = examine(device, scratch=cells, rows=rows)

    def show(out: Console) -> None:
        verdict = "[green]well[/]" if found.healthy else "[red]not well[/]"
        out.print(f"{found.identity.serial} is {verdict}")
        for remark in found.remarks:
            out.print(f"- {remark}", markup=False, soft_wrap=True)

    Terminal(json=json).answer(found, show)
    if not found.healthy:
        raise typer.Exit(FAILED)


Span = tuple[int, int, int | None, int | None]
_SPAN = re.compile(r"(\d+):(\d+)(?::(\d+)(?:-(\d+))?)?")


def parse_span(text: str) -> Span:
    """'0:7:3-9' as (tile 0, row 7, columns 3 to 9); '0:7' is the whole row. Raises `UsageError`."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{text!r} names no cells; write TILE:ROW or TILE:ROW:FIRST-LAST, for example 0:7:0-15"
        )
    tile, row, first, last = match.groups()
    if first is None:
        return int(tile), int(row), None, None
    if int(last or first) < int(first):
        raise UsageError(f"{text!r} runs backwards; write the first column first")
    return int(tile), int(row), int(first), int(last or first)


def spanned(spec: Spec, spans: list[Span]) -> Cells:
    """The cells of all spans, ascending. Raises `Refused` where the die has no such cell."""
    import numpy as np

    cells = []
    for tile, row, first, last in spans:
        columns = range(first or 0, spec.cols if last is None else last + 1)
        cells.append(spec.cells(tile, row, np.array(columns, dtype=np.int64)))
    return np.unique(np.concatenate(cells))
