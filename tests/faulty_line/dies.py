"""A die that does all that the wire can ask for, quickly and without physics."""

from __future__ import annotations

import numpy as np
from fakes import LSB, FakeDie, fake_spec
from numpy.typing import ArrayLike

from rramhil.device import Ints, Kind, MvmLimits, ProgramLimits, Programmed


class FullDie(FakeDie):
    """Product and write-verify besides, noisy both; `counted` has the pulses of both."""

    def __init__(self, seed: int = 0) -> None:
        mvm, program = MvmLimits(4, 8, 6, 1e-6), ProgramLimits(4, 9, 64)
        super().__init__(fake_spec(mvm=mvm, program=program), seed=seed)

    def mvm(self, tile: int, inputs: ArrayLike) -> Ints:
        codes = self.spec.check_inputs(tile, inputs)
        some = self.rng.integers(0, 4, (self.spec.rows, self.spec.cols))
        return np.asarray(codes @ some)

    def program(self, cells: ArrayLike, low: ArrayLike, high: ArrayLike) -> Programmed:
        flat = self.spec.check_cells(cells)
        sets, resets = self.rng.integers(0, 5, (2, flat.size))
        self.counted[Kind.SET][flat] += sets
        self.counted[Kind.RESET][flat] += resets
        ends = np.asarray(low), np.asarray(high)
        siemens = np.rint(np.mean(ends, axis=0) / LSB) * LSB
        ok = self.rng.random(flat.size) < 0.9
        return Programmed(siemens, ok, sets, resets, sets + resets + 1)
