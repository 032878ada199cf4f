"""Statistical cells: a write lands at its target times a named law (see docs/emulator.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Cells, Kind, Pulse
from rramhil_drivers.emulator.cells import CellArray
from rramhil_drivers.emulator.chipfile import ChipFile, StatisticalLaw
from rramhil_drivers.emulator.faults import FORMED, STUCK
from rramhil_drivers.emulator.noise import Noise
from rramhil_drivers.emulator.physics import (
    F32,
    as_f32,
    normals,
    statistical_landing,
    statistical_target,
)


class StatisticalCells(CellArray):
    """Open-loop writes with a named error law, part of it fixed in each cell."""

    def __init__(self, chip: ChipFile, law: StatisticalLaw, die: int, tiles: int) -> None:
        super().__init__(chip, die, tiles)
        self.law = law
        self.fixed = np.zeros(self.size, dtype=np.float16)
        self.hop_law = law.hops

    def draw_fixed(self, here: slice, rng: np.random.Generator) -> None:
        self.fixed[here] = normals(rng, self.tile_cells)

    def be_born(self, here: slice, rng: np.random.Generator) -> None:
        z = self._errors(self.fixed[here].astype(np.float32), rng)
        self.written[here] = statistical_landing(self.law, self._lowest(self.tile_cells), z)
        self.flags[here] |= FORMED

    def saved(self) -> dict[str, NDArray[Any]]:
        left = {} if self.hop_law is None else {"hops": np.array([self.hops.left])}
        return {**super().saved(), **left}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        super().restore(arrays)
        self.hops.left = int(arrays["hops"][0]) if "hops" in arrays else 0

    def conductance(self, cells: Cells, now: float) -> F32:
        return as_f32(self.written[cells])

    def look(self, cells: Cells, now: float, noise: Noise) -> F32:
        return as_f32(
            self.written[cells] + np.float32(self.law.read_sd) * normals(noise.read, cells.size)
        )

    def expected(self, cells: Cells, now: float) -> tuple[F32, F32]:
        variance = np.full(cells.size, self.law.read_sd**2, dtype=np.float32)
        return self.conductance(cells, now), variance

    def last_write(self, tile: int) -> float:
        return -math.inf

    def pulse(self, pulse: Pulse, now: float, noise: Noise) -> None:
        z = self._errors(self.fixed[pulse.cells].astype(np.float32), noise.pulse)
        if pulse.kind is Kind.RESET:
            target = self._lowest(pulse.cells.size)
        else:
            target = statistical_target(self.law, np.asarray(pulse.gate_volts, dtype=np.float32))
        free = (self.flags[pulse.cells] & STUCK) == 0
        self.written[pulse.cells[free]] = statistical_landing(self.law, target, z)[free]

    def _shift(self, cells: Cells, before: F32, after: F32, now: float) -> None:
        self.written[cells] = after

    def _lowest(self, count: int) -> F32:
        return np.full(count, self.law.lowest, dtype=np.float32)

    def _errors(self, fixed: F32, rng: np.random.Generator) -> F32:
        share = self.law.fixed_share
        fresh = normals(rng, fixed.size)
        return as_f32(np.float32(share**0.5) * fixed + np.float32((1 - share) ** 0.5) * fresh)
