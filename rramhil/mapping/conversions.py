"""What a sparsity-aware macro sums in one conversion, and how wrong it is expected to be.

Inputs go in bit by bit. For each bit the controller takes the next `rows_at_once` rows with a
non-zero input bit, in the order in which they lie (W. Li et al., IEEE JSSC 2022, doi
10.1109/JSSC.2022.3163197), and a converter turns each column's sum S into a code:
clip(round(S + sigma(S) z), 0, 2^bits - 1). Which rows meet in a conversion, and so what S is,
depends on the order of the rows; that is what `rramhil.mapping.reorder` changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rramhil.device import Floats, Ints

STEPS = 16
"""Sums are counted in sixteenths of a code, so that expected errors come from a table."""

LawName = Literal["constant", "sqrt", "linear"]


@dataclass(frozen=True, slots=True)
class NoiseLaw:
    """The standard deviation of a conversion, in codes, at a sum of S codes.

    constant: sd = strength; sqrt: sd^2 = strength^2 S (shot noise, whose power grows with the
    current: W. Schottky, Ann. Phys. 362, 541, 1918); linear: sd = strength S (noise of a reference
    or of the read voltage). `floor` codes are added in squares.
    """

    law: LawName
    strength: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.strength < np.inf and 0 <= self.floor < np.inf):
            raise ValueError(
                f"a noise of strength {self.strength:g} and floor {self.floor:g} codes is none; "
                "give finite numbers of at least 0"
            )

    def sigma(self, sums: ArrayLike) -> Floats:
        """Standard deviation in codes, shape of `sums` (codes)."""
        codes = np.maximum(np.asarray(sums, dtype=np.float64), 0)
        power = {"constant": 0.0, "sqrt": 1.0, "linear": 2.0}[self.law]
        return np.asarray(np.sqrt(self.strength**2 * codes**power + self.floor**2))


@dataclass(frozen=True)
class Conversion:
    """The sum of at most `rows_at_once` rows, turned into a code of `bits` bits."""

    rows_at_once: int
    bits: int
    noise: NoiseLaw

    def errors(self, sums: ArrayLike) -> tuple[Floats, Floats]:
        """(mean, variance) of code - S at each of `sums` (codes), shapes of `sums`.

        Exact: a code k is given with the probability that S + sigma z rounds to it, the first and
        the last with all that lies beyond.
        """
        exact = np.asarray(sums, dtype=np.float64)
        sigma = np.maximum(self.noise.sigma(exact), 1e-9)
        codes = np.arange(2**self.bits)
        edges = (codes[:-1] + 0.5 - exact[..., None]) / sigma[..., None]
        below = np.vectorize(NormalDist().cdf)(np.clip(edges, -37, 37))
        ends = np.zeros((*exact.shape, 1)), np.ones((*exact.shape, 1))
        share = np.diff(np.concatenate([ends[0], below, ends[1]], axis=-1), axis=-1)
        mean = share @ codes
        variance = (share * (codes - mean[..., None]) ** 2).sum(-1)
        return mean - exact, variance

    def table(self, largest: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`errors` at 0, 1/STEPS, ... up to `largest`/STEPS codes."""
        mean, variance = self.errors(np.arange(largest + 1) / STEPS)
        return mean.astype(np.float32), variance.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Conversions:
    """The conversions of some input vectors on a block of rows, whatever the order of its rows.

    `inputs` (vectors, rows): unsigned codes. `cells` (rows, columns): what each cell adds to a
    sum, in codes (siemens over siemens per code). `readout` (columns, outputs): how the host adds
    up columns, the difference of pairs for one; `compared` takes from it what all outputs have in
    common, where only their order matters (the last layer). Raises ValueError for inputs that are
    negative and for shapes that do not fit.
    """

    inputs: Ints
    cells: Floats
    readout: Floats
    conversion: Conversion
    compared: bool = False

    def __post_init__(self) -> None:
        rows, columns = self.cells.shape
        if self.inputs.ndim != 2 or self.inputs.shape[1] != rows or not len(self.inputs):
            raise ValueError(
                f"inputs of shape {self.inputs.shape} do not fit {rows} rows; give some vectors "
                "with a code for each row"
            )
        if self.inputs.min() < 0 or self.cells.min() < 0:
            raise ValueError("input codes and conductances are unsigned; shift them first")
        if len(self.readout) != columns:
            raise ValueError(f"a readout of {len(self.readout)} columns does not fit {columns}")

    @property
    def input_bits(self) -> int:
        """Bits that go in one after the other."""
        return max(int(self.inputs.max()).bit_length(), 1)

    @cached_property
    def bits(self) -> NDArray[np.bool_]:
        """Input bits (vectors x bits, rows), the lowest bit first within each vector."""
        shifted = self.inputs[:, None, :] >> np.arange(self.input_bits)[None, :, None]
        return np.ascontiguousarray((shifted & 1).astype(bool).reshape(-1, self.inputs.shape[1]))

    @cached_property
    def bit_weights(self) -> Floats:
        """What each row of `bits` counts, a power of two."""
        return np.tile(2.0 ** np.arange(self.input_bits), len(self.inputs))

    @cached_property
    def counts(self) -> Ints:
        """Conversions of each row of `bits`."""
        return np.asarray(-(-self.bits.sum(1) // self.conversion.rows_at_once), dtype=np.int64)

    @cached_property
    def line(self) -> Ints:
        """The row of `bits` that each conversion belongs to."""
        return np.repeat(np.arange(self.counts.size), self.counts)

    @cached_property
    def _starts(self) -> Ints:
        """Where each conversion begins among all non-zero bits, in the order vector, bit, rank."""
        filled = self.bits.sum(1)
        rank = np.arange(self.line.size) - (np.cumsum(self.counts) - self.counts)[self.line]
        begins = (np.cumsum(filled) - filled)[self.line]
        return np.asarray(begins + rank * self.conversion.rows_at_once, dtype=np.int64)

    @cached_property
    def _first_of_vector(self) -> Ints:
        """The first conversion of each vector that has any."""
        vector = self.line // self.input_bits
        return np.flatnonzero(np.diff(vector, prepend=-1))

    @cached_property
    def _weights(self) -> NDArray[np.float32]:
        """What a code of each conversion counts, (conversions, 1)."""
        return self.bit_weights[self.line, None].astype(np.float32)

    @cached_property
    def _sixteenths(self) -> NDArray[np.uint16]:
        return np.rint(self.cells * STEPS).astype(np.uint16)

    @cached_property
    def _table(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        most = np.sort(self._sixteenths, axis=0)[-self.conversion.rows_at_once :]
        return self.conversion.table(int(most.sum(0, dtype=np.int64).max()))

    @cached_property
    def _judged(self) -> NDArray[np.float32]:
        """The readout without what is common to all outputs, if they are compared."""
        readout = np.asarray(self.readout, dtype=np.float64)
        if self.compared:
            readout = readout - readout.mean(axis=1, keepdims=True)
        return readout.astype(np.float32)

    def sums(self, order: Ints) -> NDArray[np.uint16]:
        """Sums of all conversions in sixteenths of a code, (conversions, columns).

        `order` (rows,): the row that lies first, second, ...
        """
        taken = np.flatnonzero(self.bits.take(order, axis=1)) % order.size
        cells = self._sixteenths.take(order[taken], axis=0)
        if not len(cells):
            return cells
        return np.add.reduceat(cells, self._starts, axis=0, dtype=np.uint16)

    def expected_error(self, order: Ints) -> float:
        """Expected squared error of an output in this order of rows, the mean over vectors and
        outputs, in (input code x converter code) squared.

        Noise of conversions is independent, so that variances add; what a conversion errs on
        average (a sum that is cut off, rounding) adds up before it is squared.
        """
        sums = self.sums(order)
        if not len(sums):
            return 0.0
        mean, variance = self._table
        noise = (self._weights**2 * variance.take(sums)).sum(0) @ (self._judged**2).sum(1)
        bias = np.add.reduceat(self._weights * mean.take(sums), self._first_of_vector, axis=0)
        outputs = len(self.inputs) * self.readout.shape[1]
        squared = float(np.square(bias @ self._judged).sum(dtype=np.float64))
        return float((float(noise) + squared) / outputs)
