"""The columns of a macro: the errors that they are born with, and the references that trim them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rramhil.device import KnobLimits, Range
from rramhil_drivers.emulator.chipfile import ChipFile
from rramhil_drivers.emulator.faults import Purpose, tile_generator
from rramhil_drivers.emulator.periphery import Columns

F32 = NDArray[np.float32]
TILE, GAIN, OFFSET = "trim_tile", "column_gain", "column_offset"


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """How the columns of a tile convert: code = round(gain * sum + offset), each (cols,)."""

    gain: F32
    offset: F32

    def take(self, columns: NDArray[np.int64]) -> Response:
        """Some of the columns."""
        return Response(self.gain[columns], self.offset[columns])


def born_response(law: Columns | None, cols: int, full_scale: int, die: int, tile: int) -> Response:
    """The columns of a tile before trim: fixed for the die. `full_scale`: the highest code."""
    if law is None:
        return Response(np.ones(cols, np.float32), np.zeros(cols, np.float32))
    rng = tile_generator(die, tile, Purpose.COLUMNS)
    z = rng.standard_normal((2, cols))
    spread = np.log1p(law.gain_cv**2)
    gain = np.exp(np.sqrt(spread) * z[0] - spread / 2)
    offset = full_scale * (law.offset_mean + law.offset_sd * z[1])
    return Response(gain.astype(np.float32), offset.astype(np.float32))


class ColumnTrim:
    """The references of all columns of a die, and the knobs that set them.

    The knob `trim_tile` says which tile's columns the next settings are for.
    """

    def __init__(self, chip: ChipFile, die: int, tiles: int) -> None:
        self._law = chip.columns
        self._die = die
        self._tiles, self._cols = tiles, chip.geometry.cols
        self._full_scale = 2**chip.converter.bits - 1 if chip.converter else 0
        self._tile = 0
        self._set: dict[tuple[int, str], NDArray[np.float64]] = {}
        self._responses: dict[int, Response] = {}

    def knobs(self) -> dict[str, KnobLimits]:
        """What can be set, by name; nothing on a chip without column references."""
        if self._law is None:
            return {}
        tiles = Range(0, self._tiles - 1, 1)
        gain, offset = self._law.gain_trim.as_range(), self._law.offset_trim.as_range()
        return {
            TILE: KnobLimits(tiles, 1, "the tile whose columns are set next"),
            GAIN: KnobLimits(gain, self._cols, "factor on the codes of each column"),
            OFFSET: KnobLimits(offset, self._cols, "codes added in each conversion of a column"),
        }

    def set(self, knob: str, values: NDArray[np.float64]) -> None:
        """Take on checked settings of one of `knobs`."""
        if knob == TILE:
            self._tile = round(float(values[0]))
            return
        self._set[self._tile, knob] = values.copy()
        self._responses.pop(self._tile, None)

    def response(self, tile: int) -> Response:
        """How the columns of `tile` convert, trimmed as they are."""
        if tile not in self._responses:
            born = born_response(self._law, self._cols, self._full_scale, self._die, tile)
            gain = born.gain * self._set.get((tile, GAIN), 1.0)
            offset = born.offset + self._set.get((tile, OFFSET), 0.0)
            self._responses[tile] = Response(gain.astype(np.float32), offset.astype(np.float32))
        return self._responses[tile]

    def saved(self) -> dict[str, NDArray[Any]]:
        """All settings, for `restore`."""
        named = {f"knob {name} {tile}": values for (tile, name), values in self._set.items()}
        return {f"knob {TILE}": np.array(self._tile), **named}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take on what `saved` gave, of arrays among which it is."""
        self._tile = int(arrays[f"knob {TILE}"])
        self._responses = {}
        self._set = {
            (int(name.split()[2]), name.split()[1]): values
            for name, values in arrays.items()
            if name.startswith(("knob " + GAIN, "knob " + OFFSET))
        }
