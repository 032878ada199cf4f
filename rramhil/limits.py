"""What a chip may be asked: ranges and tables of limits. Part of the contract in
`rramhil.device`, which gives these names. Plain data in SI units; `Spec` refuses by them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

GRID_SLACK = 1e-3  # of a step: so far off the grid a setting may lie


@dataclass(frozen=True, slots=True)
class Range:
    """A closed interval on a grid: `low <= value <= high`, value a multiple of `step`.

    `step` 0 means a continuous setting. SI units, those of the quantity it limits.
    """

    low: float
    high: float
    step: float = 0.0

    def snap(self, values: ArrayLike) -> NDArray[np.float64]:
        """Round `values` to the grid. The caller asks for it: a device never rounds."""
        floats = np.asarray(values, dtype=np.float64)
        return np.round(floats / self.step) * self.step if self.step > 0 else floats

    def first_outside(self, values: ArrayLike) -> float | None:
        """The first value that is out of range, off the grid or not a number, or None."""
        slack = 1e-9 * max(abs(self.low), abs(self.high))
        low, high = self.low - slack, self.high + slack
        if isinstance(values, float) and self.step <= 0:  # a pulse width
            return None if low <= values <= high else values
        floats = np.asarray(values, dtype=np.float64).reshape(-1)
        if not floats.size or self._are_good(floats, low, high):
            return None
        good = (floats >= low) & (floats <= high)
        if self.step > 0:
            with np.errstate(invalid="ignore"):
                codes = floats * (1 / self.step)
                good &= np.abs(codes - np.rint(codes), out=codes) < GRID_SLACK
        return None if good.all() else float(floats[np.argmin(good)])

    def _are_good(self, floats: NDArray[np.float64], low: float, high: float) -> bool:
        """Whether all lie within `low`..`high` and on the grid, in few passes. NaN never does."""
        least, most = float(np.minimum.reduce(floats)), float(np.maximum.reduce(floats))
        if not (low <= least and most <= high):
            return False
        if self.step <= 0:
            return True
        if least == most:
            code = least * (1 / self.step)
            return abs(code - round(code)) < GRID_SLACK
        codes = floats * (1 / self.step)
        codes -= np.rint(codes)
        off = max(float(np.maximum.reduce(codes)), -float(np.minimum.reduce(codes)))
        return off < GRID_SLACK


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How conductance is read: `lowest`..`highest` siemens in steps of `lsb` siemens.

    Below `lowest` a cell reads 0, above `highest` (or in compliance) inf, no answer is NaN.
    `volts` and `gate_volts` are the read bias, `seconds` the time of a group of `cells_at_once`
    cells at most. `references`: of a threshold reader (a comparator), empty for a linear one.
    """

    lowest: float
    highest: float
    lsb: float
    volts: float
    seconds: float
    gate_volts: float | None = None
    cells_at_once: int = 1
    references: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PulseLimits:
    """What a pulse of one kind may be. None: the hardware has no such terminal or limit."""

    volts: Range
    seconds: Range
    gate_volts: Range | None = None
    limit_amps: Range | None = None
    cells_at_once: int = 1


@dataclass(frozen=True, slots=True)
class MvmLimits:
    """The in-situ product: unsigned input codes of `input_bits`, sums of converter codes out.

    At most `rows_at_once` rows are summed in one conversion, in `row_order` ("index": fixed
    groups of rows; "next_nonzero": the next rows with a non-zero input bit). A converter
    code is `amps_per_code` and saturates at 2**converter_bits - 1. `bits_at_once`: input bits of
    one conversion (1: bit by bit). `seconds` and `joules` (of a column; 0: unknown) of one.
    """

    input_bits: int
    rows_at_once: int
    converter_bits: int
    amps_per_code: float
    row_order: str = "index"
    seconds: float = 0.0
    bits_at_once: int = 1
    joules: float = 0.0


@dataclass(frozen=True, slots=True)
class ProgramLimits:
    """Device-side write-verify: distinct windows at once, attempts a cell, cells at once."""

    levels: int
    attempts: int
    cells_at_once: int = 1


@dataclass(frozen=True, slots=True)
class KnobLimits:
    """A setting of the periphery: its range, how many values it takes (1: the whole die)."""

    range: Range
    size: int = 1
    meaning: str = ""
