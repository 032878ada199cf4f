"""What time, temperature, readings and use do to cells: pure functions on arrays.

Conductances are in siemens, float32 of shape (cells,). The parameters are in `ageing_laws`, the
laws and their sources in docs/emulator.md.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Ints
from rramhil_drivers.emulator.ageing_laws import Disturb, Endurance, Relaxation, Retention
from rramhil_drivers.emulator.periphery import BOLTZMANN_EV
from rramhil_drivers.emulator.physics import F32, as_f32

ROWS_PER_DECADE = 16
DECADES = 18  # of age that the table holds, from a tenth of the first on
LEVELS = 256
PARTS = 2**44  # of a hop: stress is counted in whole ones


class RelaxationLaw:
    """The relaxation of a chip file as tables over age (rows) and conductance (columns)."""

    def __init__(self, law: Relaxation) -> None:
        self.law = law
        self._first = math.log10(law.seconds[0]) - 1.0
        x = self._first + np.arange(DECADES * ROWS_PER_DECADE + 1) / ROWS_PER_DECADE
        at = np.concatenate([[self._first], np.log10(law.seconds)])
        self._per_siemens = np.float32((LEVELS - 1) / law.siemens[-1])
        grid = np.linspace(0.0, law.siemens[-1], LEVELS)
        over = [np.array([np.interp(grid, law.siemens, row) for row in t]) for t in _tables(law)]
        middle, down, up = (_in_time(x, at, t, goes_on=True) for t in over[:3])
        tails = [_in_time(x, at, t, goes_on=False) for t in over[3:]]
        self._middle = as_f32(middle).reshape(-1)
        self._spread = as_f32(law.spread_factor * np.stack([down, up], axis=-1)).reshape(-1)
        self._tail = as_f32(np.stack(tails, axis=-1) / 2).reshape(-1)
        early = np.interp(x, at, [law.early[0], *law.early])
        self._early, self._late = as_f32(early), as_f32(np.sqrt(1 - early**2))

    def rows(self, age_seconds: NDArray[np.float64]) -> NDArray[np.intp]:
        """The row of each age; 0: no change yet. Ages beyond the table are at its end."""
        row = np.log10(np.maximum(age_seconds, 10.0**self._first))
        row -= self._first
        row *= ROWS_PER_DECADE
        np.rint(row, out=row)
        np.minimum(row, DECADES * ROWS_PER_DECADE, out=row)
        return np.asarray(row, dtype=np.intp)

    def change(self, g: F32, z: tuple[F32, F32], rows: NDArray[np.intp]) -> F32:
        """Conductance change of cells written at `g` with their draws `z`, at the age of `rows`.

        In row 0 it is 0.
        """
        level = g * self._per_siemens
        level += np.float32(0.5)
        index = np.minimum(level, np.float32(LEVELS - 0.5), out=level).astype(np.intp)
        index += rows * LEVELS
        n = self._early.take(rows)
        n *= z[0]
        late = self._late.take(rows)
        late *= z[1]
        n += late
        sided = index + index
        sided += n > 0
        change = np.multiply(n, n, out=late)
        change *= self._tail.take(sided)
        np.exp(np.minimum(change, np.float32(30), out=change), out=change)
        change *= n
        largest = np.float32(self.law.largest)
        np.clip(change, -largest, largest, out=change)
        change *= self._spread.take(sided)
        change += self._middle.take(index)
        return change


def _tables(law: Relaxation) -> list[NDArray[np.float64]]:
    return [np.array(t) for t in (law.middle_siemens, *law.spreads())]


def _in_time(
    x: NDArray[np.float64], at: NDArray[np.float64], table: NDArray[np.float64], goes_on: bool
) -> NDArray[np.float64]:
    """`table` (ages, levels) at the log ages `x`.

    `goes_on`: from 0 to its first age, and beyond the last with the last slope where the magnitude
    grows. Else both ends are held: they are tails, and where the spread is 0 a tail does nothing.
    """
    start = np.zeros_like(table[:1]) if goes_on else table[:1]
    known = np.concatenate([start, table])
    columns = [np.interp(x, at, column) for column in known.T]
    if goes_on:
        beyond = np.maximum(x - at[-1], 0.0)
        slopes = (known[-1] - known[-2]) / (at[-1] - at[-2])
        grows = slopes * known[-1] > 0
        columns = [c + beyond * s * g for c, s, g in zip(columns, slopes, grows, strict=True)]
    return np.array(columns).T


# ------------------------------------------------------------------------- temperature


def ageing_rate(law: Retention, kelvin: float) -> float:
    """Seconds at the reference temperature that a second at `kelvin` counts for.

    S. Arrhenius, Z. phys. Chem. 4, 226 (1889). Raises ValueError for a temperature of 0 or less.
    """
    if kelvin <= 0:
        raise ValueError(f"{kelvin:g} K is no temperature; give kelvin above 0")
    return math.exp(law.activation_ev / BOLTZMANN_EV * (1 / law.reference_kelvin - 1 / kelvin))


class EffectiveTime:
    """The age of a die, in seconds at the reference temperature, that grows with the clock."""

    def __init__(self) -> None:
        self._since, self._then, self._rate = 0.0, 0.0, 1.0

    def at(self, now: float) -> float:
        """Effective seconds at device time `now`: itself, as long as nothing was heated.

        A time before the last change of temperature counts as that.
        """
        if self._rate == 1.0 and self._since == self._then:
            return now
        return self._then + max(now - self._since, 0.0) * self._rate

    def run_at(self, rate: float, now: float) -> None:
        """From `now` on each second counts for `rate` seconds."""
        self._since, self._then, self._rate = now, self.at(now), rate

    def saved(self) -> NDArray[np.float64]:
        """Its three numbers."""
        return np.array([self._since, self._then, self._rate])

    def restore(self, saved: NDArray[np.float64]) -> None:
        """Take on what `saved` gave."""
        self._since, self._then, self._rate = (float(v) for v in saved)


# ------------------------------------------------------------------------ read disturb


class Hops:
    """Which of the cells that are read hop: a Poisson process along the sequence of readings.

    The stress that is left until the next hop is kept, in whole parts of a hop, so that cells in
    the order of the call hop alike whether a call comes whole or in parts, bit for bit; and
    readings without a hop cost nothing.
    """

    def __init__(self) -> None:
        self.left = 0  # of PARTS; 0: nothing drawn yet

    def among(
        self, stress: NDArray[np.float64], each: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Places, rising, once for each hop, in a sequence of readings.

        `stress`: hops expected of each reading of a group, for groups of `each` readings.
        """
        shares = np.rint(stress * PARTS).astype(np.int64)
        if not each or not shares.any():
            return np.empty(0, dtype=np.int64)
        if self.left <= 0:
            self.left = _until_next(rng)
        # Beyond 2**62 parts whole numbers of Python go on where those of 64 bits would wrap.
        wide = float(shares.sum(dtype=np.float64)) * each >= 2.0**62
        ends = np.cumsum(shares.astype(object) if wide else shares) * each
        total, places = int(ends[-1]), []
        while self.left <= total:
            group = int(np.searchsorted(ends, self.left, side="left"))
            share = int(shares[group])
            within = (self.left - (int(ends[group]) - share * each) - 1) // share
            places.append(group * each + within)
            self.left += _until_next(rng)
        self.left -= total
        return np.array(places, dtype=np.int64)

    def along_lines(
        self, codes: Ints, share: int, each: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """As `among`, for lines of `each` cells: bits of `codes` (vectors, lines) times `share`."""
        flat = np.ascontiguousarray(codes).reshape(-1)
        words = flat.view(np.uint64) if flat.nbytes % 8 == 0 else flat
        ones, unit = np.bitwise_count(words), share * each
        total = int(ones.sum(dtype=np.int64)) * unit
        if total and self.left <= 0:
            self.left = _until_next(rng)
        places: list[int] = []
        if total and self.left <= total:
            ends, in_word = np.cumsum(ones.astype(np.int64)), flat.size // words.size
        while total and self.left <= total:
            passed = (self.left - 1) // unit
            word = int(np.searchsorted(ends, passed, side="right"))
            bits = np.bitwise_count(flat[word * in_word : (word + 1) * in_word])
            upto = np.cumsum(bits, dtype=np.int64) + int(ends[word]) - int(ones[word])
            code = int(np.searchsorted(upto, passed, side="right"))
            start, count = int(upto[code]) - int(bits[code]), int(bits[code])
            within = (self.left - 1 - start * unit) // (share * count)
            places.append((word * in_word + code) * each + within)
            self.left += _until_next(rng)
        self.left -= total
        return np.array(places, dtype=np.int64)


def _until_next(rng: np.random.Generator) -> int:
    return 1 + int(rng.standard_exponential() * PARTS)


def hopped(law: Disturb, g: F32, hops: NDArray[np.int64] | None = None) -> F32:
    """Conductance after one hop, or as many of each: nearer to the saturation, never beyond."""
    lacks = np.maximum(np.float32(law.saturation_siemens) - g, np.float32(0))
    share = np.float32(law.step) if hops is None else as_f32(1 - (1 - law.step) ** hops)
    return as_f32(g + share * lacks)


# ----------------------------------------------------------------------------- wear


def wear(law: Endurance, resets: NDArray[np.unsignedinteger]) -> F32:
    """The factor by which use has widened the fixed SET shift of cells with so many RESETs."""
    used = np.maximum(resets.astype(np.float32) * np.float32(1 / law.onset), np.float32(1))
    return as_f32(1 + np.float32(law.widening) * np.log10(used))


def lives(law: Endurance, uniforms: NDArray[np.float64]) -> NDArray[np.float64]:
    """RESET pulses that cells stand: Weibull (J. Appl. Mech. 18, 293, 1951) of their `uniforms`."""
    return np.asarray(law.life * (-np.log1p(-uniforms)) ** (1 / law.life_shape))


def first_to_die(law: Endurance, share: float) -> float:
    """The RESET count before which less than `share` of the cells have died."""
    return float(lives(law, np.array([share]))[0])


def stuck_at(law: Endurance, uniforms: NDArray[np.float64]) -> F32:
    """Where worn cells stick, evenly in the logarithm."""
    low, high = np.log(law.stuck_siemens)
    return as_f32(np.exp(low + uniforms * (high - low)))
