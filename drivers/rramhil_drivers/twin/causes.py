"""Why rows of a comparison miss: chance first, then what is known of the group.

A row whose 95 % interval reaches into what is allowed may miss by chance. Of the others each
group has its cause here, with the measurement that shows it; a group without one is said to have
none. When a group no longer misses, nothing is printed of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .rows import Compared


class Cause(NamedTuple):
    """Why rows of a topic miss: those whose "statistic: group" matches the expression `rows`."""

    topic: str
    rows: str
    why: str


CAUSES: tuple[Cause, ...] = ()


def causes(topic: str, rows: Sequence[Compared]) -> Iterator[str]:
    """A sentence for each group of `rows` that miss what is allowed; nothing when all hold."""
    missed = [row for row in rows if row.holds is False]
    certain = [row for row in missed if not _by_chance(row)]
    if chance := len(missed) - len(certain):
        yield (
            f"{_rows(chance)} of {len(missed)} that miss may do so by chance: their 95 % interval "
            "reaches into what is allowed."
        )
    left = certain
    for cause in CAUSES:
        here = [row for row in left if cause.topic == topic and re.search(cause.rows, _name(row))]
        if here:
            left = [row for row in left if row not in here]
            yield f"{_named(here)}: {cause.why}"
    if left:
        yield f"{_named(left)}: no cause was found."


def _by_chance(row: Compared) -> bool:
    return row.allowed is not None and row.low <= row.allowed and row.high >= -row.allowed


def _name(row: Compared) -> str:
    return f"{row.statistic}: {row.group}"


def _named(rows: Sequence[Compared]) -> str:
    statistics = ", ".join(dict.fromkeys(row.statistic for row in rows))
    return f"*{statistics}* ({_rows(len(rows))}, {rows[0].group}{' and on' if rows[1:] else ''})"


def _rows(count: int) -> str:
    return f"{count} row" + ("s" if count > 1 else "")
