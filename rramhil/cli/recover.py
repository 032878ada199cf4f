"""`rramhil recover`: a job for one recovery, from the words of a command; run, or written."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rramhil.cli import complete
from rramhil.cli.errors import UsageError
from rramhil.cli.options import Json, Quiet, Station
from rramhil.cli.run import launch
from rramhil.cli.terminal import Terminal


def recover(
    method: Annotated[
        str,
        typer.Argument(
            metavar="METHOD",
            help="How: closed_form, rsa, rvw, ... as a job file calls it.",
            autocompletion=complete.methods,
        ),
    ],
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="ADDRESS",
            help="The device, for example emulator:40nm?die=7.",
            autocompletion=complete.addresses,
        ),
    ] = "emulator:40nm",
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            metavar="NAME",
            help="A trained network, by name or file (default: the job's).",
            autocompletion=complete.networks,
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            metavar="JOB",
            help="The job whose mapping, pulses and steps are taken (default: a shipped one).",
            autocompletion=complete.jobs,
        ),
    ] = None,
    fraction: Annotated[
        float | None, typer.Option("--fraction", help="Of the weights: how many are repaired.")
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            "--mask",
            metavar="RULE",
            help="Which weights get a digital number.",
            autocompletion=complete.rules,
        ),
    ] = None,
    select: Annotated[
        str | None,
        typer.Option(
            "--select",
            metavar="RULE",
            help="Which weights are written again.",
            autocompletion=complete.rules,
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", help="How many images it learns from.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="How long it trains.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other key of the method, as in a job file; may be repeated.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed of what the host draws.")
    ] = None,
    station: Station = None,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="FILE", help="Write the job into FILE and do not run it."),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Scan, program, evaluate and recover a network by one method, then report."""
    terminal = Terminal(json=json, quiet=quiet)
    from rramhil.address import parse_address
    from rramhil.job.making import base_for, recovery_job

    parse_address(device)
    words = {"fraction": fraction, "mask": mask, "select": select}
    words |= {"images": images, "epochs": epochs}
    keys = {key: value for key, value in words.items() if value is not None}
    job, text = recovery_job(
        method, keys | set_keys(settings or ()), like or base_for(device), device, network, seed
    )
    if write is None:
        launch(job, text, device, station, terminal)
        return
    if write.exists():
        raise UsageError(f"{write} exists and is not overwritten; name another file")
    write.write_text(text, encoding="utf-8")
    terminal.answer({"files": [write]}, lambda out: out.print(str(write), markup=False))
    terminal.say(f"next: rramhil run {write}")


def set_keys(settings: Sequence[str]) -> dict[str, Any]:
    """Each `key=value`, the value as TOML reads it, or as a text where it is no TOML.

    A key with dots is one of a table, as in TOML.
    """
    keys: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not (key and equals and value):
            raise UsageError(f"--set {setting!r} is no KEY=VALUE; write for example ridge=0.01")
        try:
            read = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            read = value
        *tables, last = key.split(".")
        inner = keys
        for name in tables:
            inner = inner.setdefault(name, {})
        inner[last] = read
    return keys
