"""Why rows of a comparison miss: chance first, then what is known of the group.

The causes are those of the shipped cells (preset 40nm); of other cells none is known.

A row whose 95 % interval reaches into what is allowed may miss by chance. Of the others each
group has its cause here, with the measurement that shows it; a group without one is said to have
none. When a group no longer misses, nothing is printed of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..emulator.chipfile import PulsedLaws, load_chip
from .rows import Compared


class Cause(NamedTuple):
    """Why rows of a topic miss: those whose "statistic: group" matches the expression `rows`."""

    topic: str
    rows: str
    why: str


CAUSES = (
    Cause(
        "write_verify",
        r"^success: (FPPV|ISPP), level 0",
        "stuck cells of the chip (clustered rows of them too) count as failures; of the measured "
        "array every fresh cell reached level 0 (success 1 in both tables)",
    ),
    Cause(
        "write_verify",
        r"^mean pulses: SDR",
        "stuck cells of the chip run into the cap of 80 pulses; without clustered ones, on the "
        "chip radar, `scripts/bench writeverify` gives 2.9 and 13.8 pulses at levels 0 and 1 "
        "(2.6 and 12.9 measured). What is left at level 0 is the onset (next cause)",
    ),
    Cause(
        "write_verify",
        r"ISPP, level 0",
        "the measured onset is sharper and its tail longer: ramps of 0.05 V take 12, 13 and 33 "
        "pulses at 20, 50 and 95 %, emulated ones 12, 15 and 22. A part of the slow cells is slow "
        "in one attempt only, which these cells do not do (docs/decisions/0011-cell-model.md)",
    ),
    Cause(
        "write_verify",
        r"ISPP, 3 bits, level 0",
        "the cells end near 242 uS and the window begins at 238 uS. Other cells than those of 2 "
        "bits (addresses 4,096 to 8,191 against 28,500 up); with an end that lets these in, level "
        "0 of 2 bits misses (docs/decisions/0011-cell-model.md)",
    ),
    Cause(
        "write_verify",
        r"ISPP, 3 bits",
        "the windows are 0.8 to 3 % of a level wide, where pulses scatter and cells differ at the "
        "foot of the gate curve decide; levels 5 and 6 are the widest off. The scan of 2020-07-13 "
        "on other cells (3,800 to 4,055) differs from this run as well: 73 and 80 pulses at "
        "level 3",
    ),
    Cause(
        "sweeps",
        r"SET spread.*: (100 ns|1000 ns, WL 1|10000 ns, WL 1)",
        "at the foot of a curve: weak cells and the shape of the scatter are one for all widths, "
        "fitted to counts of 200 ns pulses on other cells; the 22 cells at 100 ns differ by 30 uS "
        "among themselves (10 to 90 % of their means) where these differ by 54 uS with the scatter",
    ),
    Cause(
        "sweeps",
        r"SET spread.*: (1000|10000) ns",
        "where a curve has ended every emulated cell conducts the same; measured ones end at their "
        "own: at 10 us, WL 2.5 to 3.0 V, the median stands at 220 uS and cells spread by 28 to 36 "
        "uS. `highest_cell_sd` would do it and is 0 here (docs/decisions/0011-cell-model.md)",
    ),
    Cause(
        "retention",
        r": 0-4 µS",
        "of the fitted half 22, 33, 48 and 75 cells lie there in the four bakes, and a bin needs "
        "50 in each, so it has the numbers of the bin above",
    ),
    Cause(
        "retention",
        r"^tails",
        "no measured cell lies that far out, so that the bootstrap has no width; a share of 0.2 % "
        "was expected",
    ),
    Cause(
        "cycling",
        r"^mean pulses after 8,000 cycles",
        "wear is one number, the widening of the cells' gate thresholds. Used cells need 2.3 times "
        "the pulses by FPPV, 1.15 times by ISPP, and by SDR 1.6 times at level 0 and no more at "
        "level 2 (9.3 after, 9.9 before): a wider threshold makes all of them slower",
    ),
)
"""In this order: a row takes the first that matches."""
NOTES = {
    "write_verify": "The laws of writing of these cells were not found by `rramhil twin fit`: they "
    "were fitted on even blocks of all word lines, and chosen among six sets with a look at the "
    "addresses compared here, which flatters the distances a little "
    "(docs/decisions/0011-cell-model.md).",
}
"""What has to be known of the shipped cells to read the rows of a topic."""


def shipped(laws: PulsedLaws | None) -> bool:
    """Whether these are the cells that the causes are of."""
    preset = load_chip("40nm").cells
    tables = ("set", "reset", "hrs", "relaxation", "endurance")
    return laws is not None and all(getattr(laws, t) == getattr(preset, t) for t in tables)


def causes(topic: str, rows: Sequence[Compared], *, known: bool) -> Iterator[str]:
    """A sentence for each group of `rows` that miss what is allowed; nothing when all hold.

    `known`: these are the cells that the causes are of (see `shipped`).
    """
    missed = [row for row in rows if row.holds is False]
    certain = [row for row in missed if not _by_chance(row)]
    if chance := len(missed) - len(certain):
        yield (
            f"{_rows(chance)} of {len(missed)} that miss may do so by chance: their 95 % interval "
            "reaches into what is allowed."
        )
    left = certain
    for cause in CAUSES if known else ():
        here = [row for row in left if cause.topic == topic and re.search(cause.rows, _name(row))]
        if here:
            left = [row for row in left if row not in here]
            yield f"{_named(here)}: {cause.why}."
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
