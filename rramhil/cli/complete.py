"""Shell completions. A completion never fails: where nothing can be read, nothing is offered."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

Completion = Callable[[str], list[str]]


def _quietly(complete: Completion) -> Completion:
    @wraps(complete)
    def offer(incomplete: str) -> list[str]:
        try:
            return [word for word in complete(incomplete) if word.startswith(incomplete)]
        except (OSError, ValueError):
            return []

    return offer


@_quietly
def run_ids(incomplete: str) -> list[str]:
    """Ids of runs, newest first, and 'last'."""
    from rramhil.job.folder import run_ids

    return ["last", *reversed(run_ids())]


@_quietly
def jobs(incomplete: str) -> list[str]:
    """Shipped jobs and the job files at hand."""
    from rramhil.job.file import shipped_jobs

    return shipped_jobs() + _paths(incomplete, ".toml")


@_quietly
def stations(incomplete: str) -> list[str]:
    """Shipped stations and the station files at hand."""
    from rramhil.station import shipped_stations

    return shipped_stations() + _paths(incomplete, ".toml")


@_quietly
def addresses(incomplete: str) -> list[str]:
    """Schemes of the installed drivers, each with its colon."""
    return [f"{entry.name}:" for entry in entry_points(group="rramhil.drivers")]


@_quietly
def data_sets(incomplete: str) -> list[str]:
    """Data sets that can be fetched."""
    from rramhil.nn.data import SOURCES

    return sorted(SOURCES)


@_quietly
def methods(incomplete: str) -> list[str]:
    """Methods of recovery."""
    from rramhil.job.recoveries import methods

    return sorted(methods())


@_quietly
def rules(incomplete: str) -> list[str]:
    """Rules by which weights are chosen."""
    from rramhil.recover.rules import RULES

    return sorted(RULES)


@_quietly
def networks(incomplete: str) -> list[str]:
    """Shipped networks and the network files at hand."""
    folder = files("rramhil_fixtures") / "networks"
    shipped = [Path(entry.name) for entry in folder.iterdir()]
    names = sorted(path.stem for path in shipped if path.suffix == ".safetensors")
    return names + _paths(incomplete, ".safetensors")


def _paths(incomplete: str, suffix: str) -> list[str]:
    """Folders, and files that end with `suffix`, that begin like `incomplete`."""
    folder = incomplete[: incomplete.rfind("/") + 1]
    found = sorted(Path(folder or ".").iterdir())
    return [f"{folder}{p.name}/" for p in found if p.is_dir() and p.name[0] != "."] + [
        f"{folder}{p.name}" for p in found if p.name.endswith(suffix)
    ]
