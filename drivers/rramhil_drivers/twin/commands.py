"""What `rramhil twin` does once a source is open: fit, compare, and say it."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rramhil.cli.terminal import Terminal, table
from rramhil.schema import FileError

from ..emulator.chipfile import ChipFile, PulsedLaws, load_chip
from . import topics
from .chipwriter import write_chip
from .rows import Compared, Curve
from .sources import BLOCK, Measured

if TYPE_CHECKING:
    from rich.console import Console

    from .moments import Fitted
    from .record import Record


def fit_source(
    source: Measured | Record, base: str, only: list[str], output: Path, terminal: Terminal
) -> None:
    """Fit the cells of `base` to a source and write the chip file `output`."""
    if isinstance(source, Measured):
        _fit_folder(source, base, only, output, terminal)
    elif only:
        raise FileError("--only chooses topics of a folder; a ledger is fitted as a whole")
    else:
        _fit_ledger(source, base, output, terminal)


def _fit_folder(
    data: Measured, base: str, only: list[str], output: Path, terminal: Terminal
) -> None:
    chip = _pulsed(base)
    laws = chip.cells
    assert laws is not None
    names = topics.chosen(data, only)
    for number, name in enumerate(names, 1):
        terminal.say(f"[{number}/{len(names)}] fitting {name}")
        with _tables_of(data, name):
            fitted = topics.module(name).fit(data.part("fit"), laws, terminal.say)
        laws = _with_sources(laws, fitted, name, data)
    written = write_chip(chip.model_copy(update={"cells": laws, "name": output.stem}), output)
    document = {"chip": str(written), "base": base, "topics": names}
    terminal.answer(document, lambda out: out.print(f"wrote {written}; now: twin check"))


def _fit_ledger(record: Record, base: str, output: Path, terminal: Terminal) -> None:
    from .moments import fit

    part = record.part("fit")
    terminal.say(
        f"{part.cells.size} of {record.cells.size} cells of {record.serial}, "
        f"{len(record.readings)} readings"
    )
    chip, fitted = fit(part, _pulsed(base), terminal.say)
    written = write_chip(_named(chip, output.stem, record, fitted), output)
    document = {
        "chip": str(written),
        "base": base,
        "die": record.serial,
        "parameters": [_as_json(one) for one in fitted],
    }

    def show(out: Console) -> None:
        rows = [[f.parameter.path, *_move_texts(f)] for f in fitted]
        out.print(table(["parameter", "moved by", "95 % interval"], rows, numbers=2))
        out.print(f"wrote {written}", markup=False, soft_wrap=True)

    terminal.answer(document, show)


def check_source(
    chip_name: str,
    source: Measured | Record,
    only: list[str],
    seed: int,
    page: Path | None,
    terminal: Terminal,
) -> bool:
    """Compare, show, and write `page`; whether everything that is required holds."""
    chip = _pulsed(chip_name)
    found: dict[str, list[Compared]] = {}
    curves: list[Curve] = []
    for name, rows, lines in _comparisons(chip, source, only, seed, terminal):
        found[name] = rows
        curves += lines
    every = [one for rows in found.values() for one in rows]
    if page is not None:
        from .page import write_page

        write_page(page, chip, found, curves, f"rramhil twin check {chip_name} SOURCE")
        terminal.say(f"wrote {page}")
    document = [
        {"topic": name, **dataclasses.asdict(one), "holds": one.holds}
        for name, rows in found.items()
        for one in rows
    ]
    terminal.answer(document, lambda out: _show(out, found))
    required = [one for one in every if one.holds is not None]
    missed = sum(not one.holds for one in required)
    terminal.say(f"{len(required) - missed} of {len(required)} required distances hold")
    return bool(required) and not missed


def _comparisons(
    chip: ChipFile, source: Measured | Record, only: list[str], seed: int, terminal: Terminal
) -> Iterator[tuple[str, list[Compared], list[Curve]]]:
    if isinstance(source, Measured):
        held_out = source.part("check")
        for name in topics.chosen(source, only):
            terminal.say(f"comparing {name}")
            module = topics.module(name)
            with _tables_of(source, name):
                lines = list(module.curves(held_out, chip, seed))
                rows = list(module.compare(held_out, chip, seed))
            yield name, rows, lines
        return
    if only:
        raise FileError("--only chooses topics of a folder; a ledger is compared as a whole")
    from .moments import compare, curves

    held = source.part("check")
    yield "record", list(compare(held, chip, seed)), list(curves(held, chip, seed))


@contextmanager
def _tables_of(data: Measured, topic: str) -> Iterator[None]:
    """Say it in one sentence when a table lacks a column, or has too few rows to compare."""
    tables = ", ".join(f"{name}.parquet" for name in topics.TOPICS[topic].tables)
    try:
        yield
    except FileError:
        raise
    except KeyError as error:
        raise FileError(
            f"{tables} in {data.folder}: the column {error} is missing, which the topic {topic!r} "
            "needs; docs/twin.md lists the columns"
        ) from error
    except (IndexError, ValueError) as error:
        raise FileError(
            f"{tables} in {data.folder} cannot be used for the topic {topic!r} ({error}); is "
            "a part of it missing? docs/twin.md says what it must hold"
        ) from error


def _with_sources(before: PulsedLaws, after: PulsedLaws, topic: str, data: Measured) -> PulsedLaws:
    """`after`, where each law that the fit changed says what it was fitted to."""
    tables = ", ".join(topics.TOPICS[topic].tables)
    text = (
        f"fitted by `rramhil twin fit` ({topic}) to {tables} of the folder {data.folder.name}, "
        f"even blocks of 64 addresses, on {_today()}"
    )
    laws = after
    for name in type(after).model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if new is not None and new != old:
            origin = f"{text}; not fitted: as in {old.source}" if old is not None else text
            laws = laws.model_copy(update={name: new.model_copy(update={"source": origin})})
    return laws


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _pulsed(name: str) -> ChipFile:
    chip = load_chip(name)
    if chip.cells is None:
        raise FileError(
            f"{name} has statistical cells, which no pulse-level data can be compared with; "
            "name a chip with [cells] tables, such as 40nm"
        )
    return chip


def _named(chip: ChipFile, name: str, record: Record, fitted: list[Fitted]) -> ChipFile:
    laws = chip.cells
    assert laws is not None
    today = _today()
    for table_name in {f.parameter.path.split(".")[0] for f in fitted if f.told}:
        law = getattr(laws, table_name)
        keys = ", ".join(
            f.parameter.path.split(".")[1]
            for f in fitted
            if f.told and f.parameter.path.startswith(f"{table_name}.")
        )
        text = (
            f"{keys} fitted to the ledger of {record.serial}, even blocks of {BLOCK} addresses, "
            f"on {today}; before: {law.source}"
        )
        laws = laws.model_copy(update={table_name: law.model_copy(update={"source": text})})
    about = f"{chip.about} Cells moved to the ledger of {record.serial}."
    return chip.model_copy(update={"cells": laws, "name": name, "about": about})


def _move_texts(fitted: Fitted) -> list[str]:
    if fitted.low is None or fitted.high is None:
        return ["not told by this ledger", ""]
    if fitted.parameter.how == "shift":
        return [f"{fitted.move:+.3f} V", f"{fitted.low:+.3f} to {fitted.high:+.3f}"]
    return [f"{100 * fitted.move:+.1f} %", f"{100 * fitted.low:+.1f} to {100 * fitted.high:+.1f}"]


def _as_json(fitted: Fitted) -> dict[str, Any]:
    return {
        "parameter": fitted.parameter.path,
        "how": fitted.parameter.how,
        "move": fitted.move,
        "low": fitted.low,
        "high": fitted.high,
    }


def _show(out: Console, found: dict[str, list[Compared]]) -> None:
    for name, rows in found.items():
        out.print(f"{name}", style="bold")
        out.print(table(HEADINGS, [texts(one) for one in rows], numbers=5))


HEADINGS = ["statistic", "of", "measured", "predicted", "distance", "95 % interval", "allowed"]


def texts(one: Compared) -> list[str]:
    """A comparison as the cells of a table, in the order of `HEADINGS`."""
    allowed = "" if one.allowed is None else f"{one.allowed:.3g} {'✓' if one.holds else '✗'}"
    return [
        one.statistic,
        one.group,
        f"{one.measured:.4g} {one.unit}".strip(),
        f"{one.predicted:.4g} {one.unit}".strip(),
        f"{one.distance:.3g}",
        f"{one.low:.3g} to {one.high:.3g}",
        allowed,
    ]
