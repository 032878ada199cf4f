"""What an emulated macro multiplies with: its tiles as the converter sees them, kept for a while.

What a tile conducts changes with every pulse on it, and with time by relaxation, which goes with
the logarithm of time. So a tile is looked at anew after a pulse, and when its youngest cell has
aged by a two-hundredth of a decade: what is missed is a two-hundredth of the relaxation in a
decade, some 15 nS where a reading resolves 100. When that is depends on the state of the tile and
on nothing else.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np

from rramhil.device import Cells, Ints
from rramhil_drivers.emulator.cells import CellArray
from rramhil_drivers.emulator.chipfile import ChipFile
from rramhil_drivers.emulator.columns import ColumnTrim
from rramhil_drivers.emulator.converter import Product, Seen, seen_by
from rramhil_drivers.emulator.thermal import Thermal

LOOKS_A_DECADE = 200
YOUNGEST_SECONDS = 1e-9
KEPT_TILES = 32

_Look = tuple[float, float, float]  # last write, when it was looked at, kelvin


class Products:
    """The products of a die: `cells` through the converter of `chip`, if it has one."""

    def __init__(
        self, chip: ChipFile, cells: CellArray, trim: ColumnTrim, thermal: Thermal
    ) -> None:
        self.converter = chip.converter
        self._cells, self._trim, self._thermal = cells, trim, thermal
        self._every_row = np.arange(chip.geometry.rows)
        self._kept: OrderedDict[int, tuple[_Look, Seen]] = OrderedDict()
        self._now: tuple[int, Seen] | None = None

    def forget(self, cells: Cells | None = None) -> None:
        """`cells` (None: all) are no longer what they were."""
        if cells is None:
            self._kept.clear()
            return
        for tile in np.flatnonzero(np.bincount(cells // self._cells.tile_cells)):
            self._kept.pop(int(tile), None)

    def look(self, tile: int, now: float) -> None:
        """A call begins: its products see `tile` as it is at `now`."""
        self._now = (tile, self._seen(tile, now))

    def product(self, rows: Ints | None, columns: Ints | None) -> Product:
        """The product of the tile that was looked at last; rows and columns None: all."""
        assert self.converter is not None
        assert self._now is not None
        tile, seen = self._now
        response = self._thermal.converted(self._trim.response(tile))
        if rows is not None or columns is not None:
            lines = self._every_row if rows is None else rows
            picked = np.arange(self._cells.cols) if columns is None else columns
            seen, response = seen.take(lines, picked), response.take(picked)
        used = self._every_row if rows is None else rows
        return Product(self.converter, response, seen, used, self._every_row.size)

    def _seen(self, tile: int, now: float) -> Seen:
        last = self._cells.last_write(tile)
        look = (last, _when(last, now), self._thermal.kelvin)
        known = self._kept.get(tile)
        if known is not None and known[0] == look:
            self._kept.move_to_end(tile)
            return known[1]
        size = self._cells.tile_cells
        cells = np.arange(tile * size, (tile + 1) * size)
        siemens, variance = self._cells.expected(cells, look[1])
        shape = (self._cells.rows, self._cells.cols)
        warm = self._thermal.siemens(siemens)
        assert self.converter is not None
        seen = seen_by(self.converter, warm.reshape(shape), variance.reshape(shape))
        self._kept[tile] = (look, seen)
        if len(self._kept) > KEPT_TILES:
            self._kept.popitem(last=False)
        return seen


def _when(last: float, now: float) -> float:
    """The time at which a tile last written at `last` was looked at, at or before `now`."""
    since = last if math.isfinite(last) else 0.0
    age = now - since
    if age < YOUNGEST_SECONDS:
        return since
    step = math.floor(math.log10(age) * LOOKS_A_DECADE)
    return min(since + 10 ** (step / LOOKS_A_DECADE), now)
