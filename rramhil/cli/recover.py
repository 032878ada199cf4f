"""`rramhil recover`: a job for one recovery, from the words of a command; run, or written."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rramhil.cli import complete
from rramhil.cli.errors import UsageError
from rramhil.cli.options import Json, Quiet, Station
from rramhil.cli.run import launch
from rramhil.cli.terminal import Terminal

DEVICE = "emulator:40nm"


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
        str | None,
        typer.Option(
            "--device",
            metavar="ADDRESS",
            help="The device (default: the station's, else that of --like, else emulator:40nm).",
            autocompletion=complete.addresses,
        ),
    ] = None,
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
    from rramhil.station import load_station

    if station is not None:
        bench, _ = load_station(station)
        device = bench.address if device is None else device
        station = str(Path(station).resolve()) if Path(station).exists() else station
    if device is None and like is None:
        device = DEVICE
    words = {"fraction": fraction, "mask": mask, "select": select}
    words |= {"images": images, "epochs": epochs}
    keys = {key: value for key, value in words.items() if value is not None}
    keys |= set_keys(settings or (), given=keys)
    pattern = like or base_for(device or DEVICE)
    job, text = recovery_job(method, keys, pattern, device, network, seed, station)
    parse_address(job.device.address)
    if write is None:
        launch(job, text, job.device.address, station, terminal)
        return
    if write.exists():
        raise UsageError(f"{write} exists and is not overwritten; name another file")
    write.write_text(text, encoding="utf-8")
    terminal.answer({"files": [write]}, lambda out: out.print(str(write), markup=False))
    terminal.say(f"next: rramhil run {write}")


def set_keys(settings: Sequence[str], given: Iterable[str] = ()) -> dict[str, Any]:
    """Each `key=value`, the value as TOML reads it, or as a text where it is no TOML.

    A key with dots is one of a table, as in TOML. Raises `UsageError` for one that is there
    already, also among those `given` otherwise, and for what METHOD says.
    """
    keys: dict[str, Any] = {}
    taken = list(given)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not (key and equals and value):
            raise UsageError(f"--set {setting!r} is no KEY=VALUE; write for example ridge=0.01")
        try:
            read = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            read = value
        *tables, last = key.split(".")
        if key.split(".")[0] in ("do", "method"):
            raise UsageError(f"--set {setting!r} changes what METHOD says; give another METHOD")
        for other in taken:
            if f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}."):
                both = f"{key!r} is" if key == other else f"{other!r} and {key!r} are one key"
                raise UsageError(f"{both} given twice; keep one of the two")
        taken.append(key)
        inner = keys
        for name in tables:
            inner = inner.setdefault(name, {})
        inner[last] = read
    return keys
