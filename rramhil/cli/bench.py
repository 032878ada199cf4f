"""`rramhil devices` and `rramhil doctor`: what can be reached, and is it well?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rramhil.cli.options import Json
from rramhil.cli.terminal import Terminal, print_facts

if TYPE_CHECKING:
    from rich.console import Console


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
        from rramhil.cli.errors import explain

        return {"scheme": scheme, "error": explain(error).message}
    return {
        "scheme": scheme,
        "summary": driver.summary,
        "example": driver.example,
        "options": dict(driver.options),
        "faults": sorted(driver.faults),
        "connected": connected,
    }
