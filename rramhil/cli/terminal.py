"""Where a command speaks: results on stdout, everything else on stderr.

With `--json` stdout holds one JSON document and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDE = 140
"""Columns of output that goes to a file or a pipe: tables are not folded there."""


@dataclass(frozen=True)
class Terminal:
    """The two streams of one command. `quiet`: nothing on stderr but errors."""

    json: bool = False
    quiet: bool = False

    @cached_property
    def out(self) -> Console:
        """Results for people."""
        return _console(sys.stdout)

    @cached_property
    def err(self) -> Console:
        """Progress, remarks and errors."""
        return _console(sys.stderr)

    def say(self, text: str) -> None:
        """A remark for people, unless they asked for quiet."""
        if not self.quiet:
            self.err.print(text, markup=False, highlight=False, soft_wrap=True)

    def answer(self, document: Any, show: Callable[[Console], None]) -> None:
        """The result: `document` as JSON where that was asked for, else what `show` prints."""
        if self.json:
            print_json(document)
        else:
            show(self.out)
            sys.stdout.flush()


def print_json(document: Any) -> None:
    """One JSON document on stdout; what is no finite number is null."""
    from pydantic_core import to_json

    sys.stdout.write(to_json(document, indent=2, inf_nan_mode="null").decode() + "\n")
    sys.stdout.flush()


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: int = 0,
    foldable: bool = False,
) -> Table:
    """A table without frame, its last `numbers` columns to the right and as narrow as they can be.

    `foldable`: the first column may be folded where there is little room; else never, so that
    what it names can be copied.
    """
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        is_number = index >= len(columns) - numbers
        texts = [*name.split(), *(row[index] for row in rows)]
        grid.add_column(
            name,
            justify="right" if is_number else "left",
            no_wrap=index == 0 and not foldable,
            width=max(map(len, texts)) if is_number else None,
        )
    for row in rows:
        grid.add_row(*row)
    return grid


def unbroken(text: str) -> str:
    """`text` with spaces at which no line is broken: a number stays with its unit."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def print_facts(console: Console, pairs: Mapping[str, str], indent: str = "") -> None:
    """Names and values below each other, one line each however long, so that they can be copied."""
    from rich.text import Text

    width = max(map(len, pairs), default=0) + 2
    for name, value in pairs.items():
        line = Text(indent).append(f"{name:<{width}}", style="bold").append(value)
        console.print(line, soft_wrap=True)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    console = Console(file=stream, highlight=False)
    if not console.is_terminal and "COLUMNS" not in console._environ:
        console = Console(file=stream, highlight=False, width=WIDE)
    return console
