"""The topics of a twin: what of a chip is fitted to which tables, in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from types import ModuleType
from typing import NamedTuple, Protocol, cast

from rramhil.schema import FileError
from rramhil.words import nearest

from ..emulator.chipfile import ChipFile, PulsedLaws
from .rows import Compared, Curve
from .sources import Measured


class Topic(NamedTuple):
    """A topic: its module in this package, and the tables that it cannot do without."""

    module: str
    tables: tuple[str, ...]


TOPICS = {
    "write_verify": Topic("write_verify", ("write_verify_eval",)),
    "sweeps": Topic("sweeps", ("sweeps_set_reset",)),
    "noise": Topic("noise", ("noise_time_series_400hz",)),
    "relaxation": Topic("relaxation", ("relaxation",)),
    "retention": Topic("retention", ("bake_1h", "relaxation")),
    "forming": Topic("forming", ("forming",)),
    "cycling": Topic("cycling", ("cycling_300",)),
}
"""In the order of fitting: later ones may start from what earlier ones found."""


class _Module(Protocol):
    def fit(self, data: Measured, laws: PulsedLaws, say: Callable[[str], None]) -> PulsedLaws: ...
    def compare(self, data: Measured, chip: ChipFile, seed: int) -> Iterator[Compared]: ...
    def curves(self, data: Measured, chip: ChipFile, seed: int) -> Iterator[Curve]: ...


def module(topic: str) -> _Module:
    """The module of a topic, imported when it is needed (scipy and pandas come with it)."""
    found: ModuleType = import_module(f".{TOPICS[topic].module}", __package__)
    return cast(_Module, found)


def chosen(data: Measured, only: Iterable[str]) -> list[str]:
    """The topics for which `data` has tables; those in `only` if any. Raises `FileError`."""
    wanted = list(only)
    for name in wanted:
        if name not in TOPICS:
            raise FileError(
                f"there is no topic {name!r}{nearest(name, TOPICS)}; topics: {', '.join(TOPICS)}"
            )
    able = [n for n, t in TOPICS.items() if all(data.has(table) for table in t.tables)]
    lacking = [name for name in wanted if name not in able]
    if lacking:
        tables = ", ".join(f"{t}.parquet" for t in TOPICS[lacking[0]].tables)
        raise FileError(f"{data.folder} lacks {tables}, which the topic {lacking[0]!r} needs")
    found = [name for name in able if not wanted or name in wanted]
    if not found:
        raise FileError(
            f"{data.folder} has none of the tables that a twin can be fitted to; docs/twin.md "
            "lists them"
        )
    return found
