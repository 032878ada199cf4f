"""What a twin is fitted to: a folder of Parquet tables, or a ledger.

Cells are split by address: even blocks of `BLOCK` addresses fit, odd blocks check. Not by rows,
since a cell appears in many of them; and not address by address, since neighbours share lines.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from rramhil.schema import FileError
from rramhil.words import nearest

if TYPE_CHECKING:
    import pandas as pd

BLOCK = 64
Part = Literal["all", "fit", "check"]


def of_part(addresses: NDArray[np.integer], part: Part) -> NDArray[np.bool_]:
    """Which of `addresses` (cells,) belong to a part."""
    if part == "all":
        return np.ones(addresses.shape, dtype=np.bool_)
    return np.asarray((addresses // BLOCK % 2 == 1) == (part == "check"))


class Measured:
    """The tables of a folder, of all addresses or one part of them (see `part`)."""

    def __init__(self, folder: Path, part: Part = "all") -> None:
        self.folder = folder
        self._part = part
        self.names = sorted(file.stem for file in folder.glob("*.parquet"))

    def has(self, name: str) -> bool:
        """Whether there is a table of that name."""
        return name in self.names

    def table(self, name: str) -> pd.DataFrame:
        """A table by name, its rows those of this part. Raises `FileError`.

        A table without addresses comes whole.
        """
        if not self.has(name):
            raise FileError(
                f"{self.folder} has no table {name}.parquet{nearest(name, self.names)}; "
                "docs/twin.md says which tables a source may have"
            )
        table = _read(self.folder / f"{name}.parquet")
        if self._part == "all" or "addr" not in table:
            return table
        return table[of_part(table["addr"].to_numpy(), self._part)]

    def part(self, name: Part) -> Measured:
        """The same source, seen in part: "fit", "check" or "all"."""
        return Measured(self.folder, name)


@cache
def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise FileError(f"{path} is no Parquet table ({error}); restore it") from None


def open_folder(path: Path) -> Measured:
    """The folder `path` as a source. Raises `FileError` when it holds no Parquet table."""
    found = Measured(path)
    if not found.names:
        raise FileError(
            f"{path} holds no Parquet table; name a folder of them, or the ledger of a die "
            "(docs/twin.md says which tables there may be)"
        )
    return found
