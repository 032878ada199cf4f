"""All figures of co-design: the benches of its parts one after the other.

    scripts/bench codesign --workers 2 --keep FOLDER

Each part keeps its dies and networks in a folder of its own below FOLDER. The whole takes hours on
two cores; the parts can be run by their own names.
"""

from __future__ import annotations

from collections.abc import Iterator

from benches import Row, differential, insitu_integer, integer, placement, rename, reorder
from benches.dies import Scale

PARTS = (integer, rename, reorder, insitu_integer, differential, placement)


def rows(seed: int, quick: bool, scale: Scale) -> Iterator[Row]:
    """The rows of every part; the digits and few dies when `quick`."""
    for part in PARTS:
        keep = scale.keep and scale.keep / part.__name__.rpartition(".")[2]
        yield from part.rows(seed, quick, scale._replace(keep=keep))
