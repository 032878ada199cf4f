"""Where a command speaks: results on stdout, everything else on stderr.

With `--json` stdout holds one JSON document and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
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


def table(*columns: str, title: str | None = None, numbers: int = 0) -> Table:
    """An empty table without frame; the last `numbers` columns are aligned to the right."""
    from rich import box
    from rich.table import Table

    empty = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for index, name in enumerate(columns):
        right = index >= len(columns) - numbers
        empty.add_column(name, justify="right" if right else "left", no_wrap=index == 0)
    return empty


def unbroken(text: str) -> str:
    """`text` with spaces at which no line is broken: a number stays with its unit."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def facts(pairs: dict[str, str]) -> RenderableType:
    """Names and values below each other; a value is never folded into its name's column."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs.items():
        grid.add_row(name, Text(value))
    return grid


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    console = Console(file=stream, highlight=False)
    if not console.is_terminal and "COLUMNS" not in console._environ:
        console = Console(file=stream, highlight=False, width=WIDE)
    return console
