"""The cells of a die as arrays: what all kinds of emulated cells share.

A tile gets its fixed parameters when it is first touched, so a large die costs what is used
of it. All arrays are flat, one entry a cell.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Cells, Ints, Kind, Pulse
from rramhil_drivers.emulator.ageing import PARTS, Hops, hopped
from rramhil_drivers.emulator.ageing_laws import Disturb
from rramhil_drivers.emulator.chipfile import ChipFile
from rramhil_drivers.emulator.faults import FORMED, STUCK, Purpose, draw_faults, tile_generator
from rramhil_drivers.emulator.noise import Noise
from rramhil_drivers.emulator.physics import F32

_COUNTED: dict[Kind, type[np.generic]] = {
    Kind.SET: np.uint32,
    Kind.RESET: np.uint32,
    Kind.FORM: np.uint16,
}


class CellArray(ABC):
    """State of all cells of a die; subclasses say what pulses, time and readings do.

    `state`: the arrays that change in a cell's life (saved by freeze), name -> flat array.
    """

    def __init__(self, chip: ChipFile, die: int, tiles: int) -> None:
        self.chip = chip
        self.die = die
        self.rows, self.cols = chip.geometry.rows, chip.geometry.cols
        self.tile_cells = self.rows * self.cols
        self.trap_key = 0  # of what fluctuates by itself, from the noise seed
        self.hop_law: Disturb | None = None  # readings leave the cells alone
        self.hops = Hops()
        self.size = tiles * self.tile_cells
        self.awake = np.zeros(tiles, dtype=np.bool_)
        self.state: dict[str, NDArray[Any]] = {}
        self.flags = self._array("flags", np.uint8)
        self.written = self._array("written", np.float32)
        self.counts = {k: self._array(f"count_{k.value}", t) for k, t in _COUNTED.items()}

    def _array(self, name: str, dtype: type[np.generic]) -> NDArray[Any]:
        self.state[name] = np.zeros(self.size, dtype=dtype)
        return self.state[name]

    def wake(self, cells: Cells) -> None:
        """Give the tiles of `cells` their fixed parameters and birth state, once."""
        if self.awake.all():
            return
        first, last = int(cells.min()) // self.tile_cells, int(cells.max()) // self.tile_cells
        if self.awake[first : last + 1].all():
            return
        for tile in np.flatnonzero(np.bincount(cells // self.tile_cells)):
            if not self.awake[tile]:
                self._wake_tile(int(tile), born=True)

    def rewake(self, awake: NDArray[np.bool_]) -> None:
        """Draw the fixed parameters of the tiles that a saved state had awake."""
        for tile in np.flatnonzero(awake):
            self._wake_tile(int(tile), born=False)

    def _wake_tile(self, tile: int, born: bool) -> None:
        self.awake[tile] = True
        here = slice(tile * self.tile_cells, (tile + 1) * self.tile_cells)
        self.draw_fixed(here, tile_generator(self.die, tile, Purpose.FIXED))
        if not born:
            return
        rng = tile_generator(self.die, tile, Purpose.FAULTS)
        flags, siemens = draw_faults(self.chip.faults, self.rows, self.cols, rng)
        self.flags[here] = flags
        self.be_born(here, tile_generator(self.die, tile, Purpose.BIRTH))
        stuck = (flags & STUCK) > 0
        self.written[here][stuck] = siemens[stuck]

    def use(self, kind: Kind, pulses: int) -> None:
        """Count `pulses` more of `kind` on every cell. Raises ValueError."""
        counts = self.counts[kind]
        room = int(np.iinfo(counts.dtype).max) - int(counts.max())
        if not 0 <= pulses <= room:
            raise ValueError(
                f"{pulses} pulses cannot be added to the counts of {kind.name}; give 0 to {room}"
            )
        for tile in np.flatnonzero(~self.awake):  # a saved state holds the tiles that are awake
            self._wake_tile(int(tile), born=True)
        counts += pulses

    def count(self, pulse: Pulse) -> None:
        """The silicon's own count: one more pulse on each cell."""
        counts = self.counts[pulse.kind]
        counts[pulse.cells] = counts.take(pulse.cells) + counts.dtype.type(1)

    def counted(self, kind: Kind) -> Ints:
        """Pulses of `kind` that each cell has seen, int64 of shape (cells,)."""
        return self.counts[kind].astype(np.int64)

    def saved(self) -> dict[str, NDArray[Any]]:
        """What changes in a die's life, of the tiles that were touched."""
        cells = np.repeat(self.awake, self.tile_cells)
        arrays = {name: values[cells] for name, values in self.state.items()}
        return {"awake": self.awake.copy(), **arrays}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take on what `saved` gave."""
        self.awake[:] = False
        self.rewake(arrays["awake"])
        cells = np.repeat(self.awake, self.tile_cells)
        for name, values in self.state.items():
            values[:] = 0
            values[cells] = arrays[name]

    @abstractmethod
    def draw_fixed(self, here: slice, rng: np.random.Generator) -> None:
        """Draw what is fixed for life in the cells `here` (one tile)."""

    @abstractmethod
    def be_born(self, here: slice, rng: np.random.Generator) -> None:
        """Put the cells `here` (one tile) into the state that they leave the wafer test with."""

    @abstractmethod
    def conductance(self, cells: Cells, now: float) -> F32:
        """Conductance of `cells` at `now`, siemens, without read noise."""

    @abstractmethod
    def look(self, cells: Cells, now: float, noise: Noise) -> F32:
        """One noisy reading of `cells` at `now`, siemens, before the converter."""

    @abstractmethod
    def expected(self, cells: Cells, now: float) -> tuple[F32, F32]:
        """Mean and variance of such a reading: siemens, siemens squared. Draws nothing."""

    @abstractmethod
    def last_write(self, tile: int) -> float:
        """Device time of the last write that a cell of `tile` relaxes from, -inf without one."""

    @abstractmethod
    def pulse(self, pulse: Pulse, now: float, noise: Noise) -> None:
        """Apply a checked pulse that ends at `now`."""

    @abstractmethod
    def _shift(self, cells: Cells, before: F32, after: F32, now: float) -> None:
        """Move `cells`, which conduct `before` at `now`, to conduct `after`: no write."""

    def disturb(
        self, cells: Cells, volts: float, seconds: NDArray[np.float64], now: float, noise: Noise
    ) -> Cells:
        """What reading voltage on `cells` up to `now` does to them; the cells that it moved.

        `seconds` (times, parts): the cells are that many equal parts, one after the other, which
        bear those seconds, and all of it as many times. Without a law: nothing.
        """
        law = self.hop_law
        if law is None:
            return np.empty(0, dtype=np.int64)
        stress = (seconds * law.rate(volts)).reshape(-1)
        places = self.hops.among(stress, cells.size // seconds.shape[1], noise.hop) % cells.size
        return self._hop(law, cells[places], now)

    def disturb_lines(
        self, lines: Cells, codes: Ints, volts: float, seconds: float, now: float, noise: Noise
    ) -> Cells:
        """What products do to the word lines that begin at the cells `lines`; the cells moved.

        `codes` (vectors, lines): each bit that is 1 puts `volts` on its line for `seconds`. Without
        a law: nothing.
        """
        law = self.hop_law
        if law is None:
            return np.empty(0, dtype=np.int64)
        share = round(seconds * law.rate(volts) * PARTS)
        places = self.hops.along_lines(codes, share, self.cols, noise.hop)
        line, column = np.divmod(places, self.cols)
        return self._hop(law, lines[line % lines.size] + column, now)

    def disturb_long(
        self, cells: Cells, volts: float, seconds: float, now: float, noise: Noise
    ) -> None:
        """What `volts` on each of `cells` for so long does to them, all hops in one draw."""
        law = self.hop_law
        if law is None:
            return
        hops = noise.hop.poisson(seconds * law.rate(volts), cells.size)
        free = ((self.flags[cells] & STUCK) == 0) & ((self.flags[cells] & FORMED) > 0) & (hops > 0)
        moved = cells[free]
        g = self.conductance(moved, now)
        self._shift(moved, g, hopped(law, g, hops[free]), now)

    def _hop(self, law: Disturb, cells: Cells, now: float) -> Cells:
        """One hop of each of `cells`, in their order; a cell may be among them more than once."""
        left = cells
        while left.size:
            once, first = np.unique(left, return_index=True)
            left = np.delete(left, first)
            flags = self.flags[once]
            free = once[((flags & STUCK) == 0) & ((flags & FORMED) > 0)]
            g = self.conductance(free, now)
            self._shift(free, g, hopped(law, g), now)
        return cells

    def heat(self, kelvin: float, now: float) -> None:  # noqa: B027 (cells that do not age)
        """From `now` on the die is at `kelvin`."""
