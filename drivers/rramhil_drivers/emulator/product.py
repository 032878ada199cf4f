"""What an emulated macro multiplies with: its tiles as the converter sees them, kept for a while.

What a tile conducts changes with every pulse on it, and with time by relaxation, which goes with
the logarithm of time. So a tile is looked at anew after a pulse, and when its youngest cell has
aged by a two-hundredth of a decade: what is missed is a two-hundredth of the relaxation in a
decade, some 15 nS where a reading resolves 100. When that is depends on the state of the tile and
on nothing else.

Lines with resistance are a network that takes longer to solve: it is solved after a pulse and ten
times a decade. A product then is off by less than a thousandth of the largest one.
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
from rramhil_drivers.emulator.physics import F32, as_f32
from rramhil_drivers.emulator.thermal import Thermal
from rramhil_drivers.emulator.wires import effective, noise_share

LOOKS_A_DECADE = 200
SOLUTIONS_A_DECADE = 10
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
        self._wires = chip.wires
        self._crossed = chip.wires is not None and chip.wires.layout == "crossed"
        self._solved: dict[int, tuple[_Look, F32, F32]] = {}
        self._now: tuple[int, Seen] | None = None

    def forget(self, cells: Cells | None = None) -> None:
        """`cells` (None: all) are no longer what they were."""
        if cells is None:
            self._kept.clear()
            self._solved.clear()
            return
        if not (self._kept or self._solved):
            return
        for tile in np.flatnonzero(np.bincount(cells // self._cells.tile_cells)):
            self._kept.pop(int(tile), None)
            self._solved.pop(int(tile), None)

    def shift(self, tile: int, cells: Cells) -> None:
        """Some `cells` of `tile` moved a little: they alone are looked at anew, at the old time.

        Through crossed lines they show from the next solution on, at a tenth of a decade.
        """
        known = self._kept.get(tile)
        if known is None or self._crossed:
            return
        look, old = known
        siemens, variance = self._cells.expected(cells, look[1])
        assert self.converter is not None
        anew = seen_by(self.converter, self._thermal.siemens(siemens), variance, self._cells.rows)
        place = cells % self._cells.tile_cells
        seen = Seen(old.codes.copy(), old.variance.copy())  # a call under way goes on with the old
        seen.codes.reshape(-1)[place] = anew.codes
        seen.variance.reshape(-1)[place] = anew.variance
        self._kept[tile] = (look, seen)

    def settle(self) -> None:
        """The die's state is saved: solve crossed lines anew, as the die that takes it on does."""
        if self._crossed:
            self.forget()

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
        ladder = None if self._crossed else self._wires
        return Product(self.converter, response, seen, used, self._every_row.size, ladder)

    def _seen(self, tile: int, now: float) -> Seen:
        last = self._cells.last_write(tile)
        look = (last, _when(last, now), self._thermal.kelvin)
        known = self._kept.get(tile)
        if known is not None and known[0] == look:
            self._kept.move_to_end(tile)
            return known[1]
        if self._crossed:
            siemens, variance = self._solution(tile, last, now)
        else:
            siemens, variance = self._expected(tile, look[1])
        assert self.converter is not None
        seen = seen_by(self.converter, siemens, variance, self._cells.rows)
        self._kept[tile] = (look, seen)
        if len(self._kept) > KEPT_TILES:
            self._kept.popitem(last=False)
        return seen

    def _expected(self, tile: int, at: float) -> tuple[F32, F32]:
        """Conductances and variances of the cells of a tile, each (rows, cols)."""
        size, shape = self._cells.tile_cells, (self._cells.rows, self._cells.cols)
        cells = np.arange(tile * size, (tile + 1) * size)
        siemens, variance = self._cells.expected(cells, at)
        return self._thermal.siemens(siemens).reshape(shape), variance.reshape(shape)

    def _solution(self, tile: int, last: float, now: float) -> tuple[F32, F32]:
        """As `_expected`, seen through the crossed lines of the tile."""
        look = (last, _when(last, now, SOLUTIONS_A_DECADE), self._thermal.kelvin)
        known = self._solved.get(tile)
        if known is None or known[0] != look:
            assert self.converter is not None
            assert self._wires is not None
            cells, variance = self._expected(tile, look[1])
            seen = as_f32(effective(self._wires, cells, self.converter.rows_at_once))
            known = (look, seen, variance * noise_share(cells, seen) ** 2)
            self._solved[tile] = known
        return known[1], known[2]


def _when(last: float, now: float, a_decade: int = LOOKS_A_DECADE) -> float:
    """The time at which a tile last written at `last` was looked at, at or before `now`."""
    since = last if math.isfinite(last) else 0.0
    age = now - since
    if age < YOUNGEST_SECONDS:
        return since
    step = math.floor(math.log10(age) * a_decade)
    return min(since + 10 ** (step / a_decade), now)
