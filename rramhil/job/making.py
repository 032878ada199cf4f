"""A job for one recovery, made from an existing job and a few settings."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rramhil.job.file import JobFile, load_job
from rramhil.job.recoveries import methods
from rramhil.schema import FileError, check, toml_of
from rramhil.words import nearest

BASES = ("quickstart", "statistical")
"""Shipped jobs that a recovery is made from; the first where no other is for that chip."""


def base_for(address: str) -> str:
    """The shipped job that is for the chip at `address`."""
    chip = address.partition("?")[0]
    own = (n for n in BASES if load_job(n)[0].device.address.partition("?")[0] == chip)
    return next(own, BASES[0])


def recovery_job(
    method: str,
    settings: Mapping[str, Any],
    like: str,
    address: str | None = None,
    network: str | None = None,
    seed: int | None = None,
    station: str | None = None,
) -> tuple[JobFile, str]:
    """The job `like` with one recovery, by `method` with `settings`, in the place of its own.

    `network` by name or file; its data are those that it was trained on. The address, the seed and
    the station are those of `like` where none is given. Raises `FileError`.
    """
    if method not in methods():
        raise FileError(f"there is no recovery method {method!r}{nearest(method, methods())}")
    job, text = load_job(like)
    table = tomllib.loads(text)
    table["name"] = f"recover-{method}"
    table["seed"] = job.seed if seed is None else seed
    table["device"] = {
        "address": job.device.address if address is None else address,
        "station": station or job.device.station,
    }
    table["network"], table["data"] = _subject(job, network)
    step = {"do": "recover", "method": method, **settings}
    kept = [s for s in table["steps"] if s["do"] not in ("recover", "report")]
    table["steps"] = [*kept, step, {"do": "report"}]
    made = toml_of(table)
    return check(tomllib.loads(made), JobFile, f"recover {method}"), made


def _subject(job: JobFile, network: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tables [network] and [data]."""
    if network is None:
        return job.network.model_dump(), job.data.model_dump()
    from rramhil.nn.network import load_network

    data = load_network(network).card.data
    folder = job.data.folder if data == job.data.name else None
    name = str(Path(network).resolve()) if Path(network).suffix else network
    return {"name": name}, {"name": data, "folder": folder}
