"""How a cell at rest fluctuates: white noise and telegraph traps, for one look at it.

A trap's state is no memory of the die but a function of time: time is cut into pieces of the
trap's own length and phase, and in each piece a hash of (die, noise seed, cell, trap, piece)
says whether the trap is full. So the noise costs no byte a cell, does not depend on how often
or in which order cells were read, and is the same whether a call comes whole or in parts.

A telegraph signal that is drawn anew every T seconds stays for 2 T in the mean (geometric, the
discrete form of the exponential law of S. Machlup, J. Appl. Phys. 25, 341, 1954). Its spectrum
is flat up to 1/T and falls with f^-2. With T even in log time, as from traps with evenly
spread barriers, the sum over many is 1/f (A. L. McWhorter, 1957); for telegraph noise in
resistive memory, and steps that depend on the resistance: D. Ielmini, F. Nardi, C. Cagli,
Appl. Phys. Lett. 96, 053503 (2010).
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from rramhil_drivers.emulator.ageing_laws import Noise
from rramhil_drivers.emulator.noise import lanes, normals_of
from rramhil_drivers.emulator.physics import F32, LevelTable, as_f32

U32 = NDArray[np.uint32]
TIMES = 32  # lengths of pieces
STEPS = 64  # step sizes between traps
PHASES = 256
CHUNK = 8192  # cells at once: their arrays stay in the processor's cache
LARGEST_SHARE = 0.9  # of the conductance that traps can take or give


class Fluctuation:
    """The noise of a chip file, prepared for arrays."""

    def __init__(self, law: Noise) -> None:
        self.law = law
        self.white = LevelTable(law.siemens, law.sd)
        self.step = LevelTable(law.siemens, law.step_siemens)
        ends = (law.shortest_seconds, law.longest_seconds)
        self.seconds = np.geomspace(*ends, TIMES)
        ln_sd = law.step_ln_sd
        sizes = np.exp(ln_sd * _normal_quantiles(STEPS))
        lengths = (self.seconds / self.seconds[0]) ** law.step_per_time
        factors = np.outer(lengths / np.sqrt(np.mean(lengths**2)), sizes)
        # Half a step up or down about the mean of the two states, by length and size.
        self._half = as_f32(0.5 * factors / np.sqrt(np.mean(sizes**2))).reshape(-1)
        total = np.sqrt(np.square(law.sd) + law.traps * np.square(law.step_siemens) / 4)
        self.total_sd = LevelTable(law.siemens, tuple(float(v) for v in total))

    def look(
        self, cells: NDArray[np.int64], g: F32, now: float, key: int, rng: np.random.Generator
    ) -> F32:
        """One noisy look at cells that conduct `g` at `now`; `rng` draws the white part."""
        seen = self.white(g)
        seen *= normals_of(lanes(rng, g.size)[0])
        seen += self.offset(cells, g, now, key)
        seen += g
        return seen

    def variance(self, g: F32) -> F32:
        """Variance of a look at cells that conduct `g`, over all states of their traps."""
        limit = np.float32(LARGEST_SHARE) * g
        slow = np.minimum(np.float32(self.law.traps / 4) * self.step(g) ** 2, limit * limit)
        return as_f32(self.white(g) ** 2 + slow)

    def offset(self, cells: NDArray[np.int64], g: F32, now: float, key: int) -> F32:
        """What the traps add to `g` at `now`, siemens. Draws nothing: the key is the seed."""
        total = np.zeros(g.size, dtype=np.float32)
        if not self.law.traps or not any(self.law.step_siemens):
            return total
        pieces = (now / self.seconds * PHASES).astype(np.uint64).astype(np.uint32)
        pieces = np.repeat(pieces, STEPS)  # by length and size, as `_half`
        traps = np.arange(1, self.law.traps + 1, dtype=np.uint32)[:, None]
        salts = traps * np.uint32(0x9E3779B9) + np.uint32(key & 0xFFFFFFFF)
        for start in range(0, g.size, CHUNK):
            here = slice(start, start + CHUNK)
            steps = self._steps(cells[here].astype(np.uint32), pieces, salts)
            share, level = steps[0], g[here]
            for step in steps[1:]:
                share += step
            share *= self.step(level)
            limit = np.float32(LARGEST_SHARE) * level
            np.clip(share, -limit, limit, out=total[here])
        return total

    def _steps(self, index: U32, pieces: U32, salts: U32) -> F32:
        """Steps of the traps of each cell, in units of the level's step: (traps, cells)."""
        own = _mixed(index ^ salts)
        kind = (own >> np.uint32(21)).astype(np.intp)
        piece = pieces.take(kind)
        piece += own & np.uint32(PHASES - 1)
        piece >>= np.uint32(8)
        piece *= np.uint32(0x85EBCA6B)
        piece ^= own
        sign = _mixed(piece)
        sign &= np.uint32(0x80000000)
        sign ^= self._half.take(kind).view(np.uint32)
        return sign.view(np.float32)


def _normal_quantiles(count: int) -> NDArray[np.float64]:
    law = NormalDist()
    return np.array([law.inv_cdf((i + 0.5) / count) for i in range(count)])


def _mixed(x: U32) -> U32:
    """A hash of each number, in place: multiply and shift (C. Wellons' lowbias32 constants)."""
    shifted = x >> np.uint32(16)
    x ^= shifted
    x *= np.uint32(0x7FEB352D)
    x ^= np.right_shift(x, np.uint32(15), out=shifted)
    x *= np.uint32(0x846CA68B)
    x ^= np.right_shift(x, np.uint32(16), out=shifted)
    return x


def hash_key(generator: np.random.Generator) -> int:
    """The key of a generator from which nothing is drawn, so that it stays what it was seeded."""
    return int(generator.bit_generator.state["state"]["state"][0]) & 0xFFFFFFFF


def uniforms(cells: NDArray[np.int64], key: int) -> NDArray[np.float64]:
    """A number in (0, 1) for each of `cells`, always the same for the same key."""
    own = _mixed(cells.astype(np.uint32) ^ np.uint32(key & 0xFFFFFFFF))
    return (own.astype(np.float64) + 0.5) / 2.0**32


def uniforms_of(
    cells: NDArray[np.int64], times: NDArray[np.uint32], key: int
) -> NDArray[np.float64]:
    """A number in (0, 1) for each of `cells` and its n-th time, always the same for the same key.

    `times`: of shape (cells,).
    """
    nth = _mixed(times * np.uint32(0x9E3779B9) + np.uint32(key & 0xFFFFFFFF))
    own = _mixed(cells.astype(np.uint32) ^ nth)
    return (own.astype(np.float64) + 0.5) / 2.0**32
