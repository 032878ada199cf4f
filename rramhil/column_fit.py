"""How the columns of a macro convert: gain and offset, from known sums and the codes they gave.

The model is code = round(gain * sum + offset + noise), cut at 0 and at the converter's top. Where
a converter has many codes, rounding hardly shows: a straight line by least squares, without the
sums near its ends (as W. Wan et al., Nature 608, 504, 2022, correct columns on the host). Where it
has few, what a sum gives on average is a staircase smoothed by the noise,

    mean code(sum) = sum over k of Phi((gain * sum + offset - (k - 1/2)) / noise),  k = 1 .. top

(an ordered probit model: P. McCullagh, J. R. Stat. Soc. B 42, 109, 1980), fitted by Gauss-Newton.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Bools, Floats

F64 = NDArray[np.float64]
MARGIN_CODES = 0.5  # from the ends of the converter: beyond, codes saturate
FEWEST_SUMS = 64
GAIN_ERROR, OFFSET_ERROR = 0.02, 0.08  # standard errors of a fit that is worth setting
LINE_PASSES, STAIR_PASSES = 4, 8
COARSE_TOP = 15  # a converter of four bits or fewer is a staircase
BIN_CODES = 0.05
NOISES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.45)  # codes; the best one of a column is taken
LOGISTIC = 1.702  # Phi(x) is 1 / (1 + exp(-1.702 x)) within 0.01 (Haley 1952)


@dataclass(frozen=True, slots=True, eq=False)
class ColumnFit:
    """How the columns of a tile convert; every array has shape (cols,).

    `measured`: columns whose fit is good to the standard errors `GAIN_ERROR` and `OFFSET_ERROR`;
    elsewhere `gain` is 1 and `offset` 0. `offset` in codes of one conversion.
    """

    gain: F64
    offset: F64
    measured: Bools

    @property
    def gain_cv(self) -> float:
        """Coefficient of variation of the gain over the measured columns; NaN without one."""
        found = self.gain[self.measured]
        return float(found.std() / found.mean()) if found.size else float("nan")

    @property
    def offset_rms(self) -> float:
        """Root mean square of the offset over the measured columns, codes; NaN without one."""
        found = self.offset[self.measured]
        return float(np.sqrt(np.mean(found**2))) if found.size else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """Gain, offset and their standard errors, each (cols,)."""

    gain: F64
    offset: F64
    gain_error: F64
    offset_error: F64
    count: NDArray[np.int64]


def fit_columns(sums: Floats, codes: Floats, top: int) -> ColumnFit:
    """Gain and offset of each column from `sums` in codes without error and the mean codes that a
    conversion gave, both (vectors, cols); `top` is the highest code of a conversion."""
    found = _line(sums, codes, top)
    if top <= COARSE_TOP:
        found = _stairs(sums, codes, top, found)
    measured = (found.count >= FEWEST_SUMS) & (found.gain > 0)
    measured &= (found.gain_error < GAIN_ERROR * found.gain) & (found.offset_error < OFFSET_ERROR)
    gain = np.where(measured, found.gain, 1.0)
    return ColumnFit(gain, np.where(measured, found.offset, 0.0), measured)


def _line(sums: Floats, codes: Floats, top: int) -> _Fit:
    gain, offset = np.ones(sums.shape[1]), np.zeros(sums.shape[1])
    for _ in range(LINE_PASSES):
        foreseen = gain * sums + offset
        use = (foreseen > MARGIN_CODES) & (foreseen < top - MARGIN_CODES)
        count = use.sum(axis=0)
        some = np.maximum(count, 1)
        mean_sum, mean_code = (sums * use).sum(axis=0) / some, (codes * use).sum(axis=0) / some
        away = (sums - mean_sum) * use
        power = np.maximum((away * away).sum(axis=0), 1e-12)
        slope = (away * codes).sum(axis=0) / power
        known = (count >= FEWEST_SUMS) & (slope > 0)
        gain = np.where(known, slope, 1.0)
        offset = np.where(known, mean_code - gain * mean_sum, 0.0)
    left = ((codes - gain * sums - offset) * use) ** 2
    error = np.sqrt(left.sum(axis=0) / some / power)
    return _Fit(gain, offset, error, error * np.hypot(np.sqrt(power / some), mean_sum), count)


def _stairs(sums: Floats, codes: Floats, top: int, start: _Fit) -> _Fit:
    """A smoothed staircase through the mean codes of narrow bins of the sums."""
    count, mean_sum, mean_code = _binned(sums, codes, top)
    best: _Fit | None = None
    least = np.full(sums.shape[1], np.inf)
    for noise in NOISES:
        fit, misfit = _stairs_of(noise, count, mean_sum, mean_code, top, start)
        better = misfit < least
        least = np.where(better, misfit, least)
        best = fit if best is None else _where(better, fit, best)
    assert best is not None
    every = np.full(sums.shape[1], len(sums))
    return _Fit(best.gain, best.offset, best.gain_error, best.offset_error, every)


def _where(better: Bools, one: _Fit, other: _Fit) -> _Fit:
    return _Fit(
        gain=np.where(better, one.gain, other.gain),
        offset=np.where(better, one.offset, other.offset),
        gain_error=np.where(better, one.gain_error, other.gain_error),
        offset_error=np.where(better, one.offset_error, other.offset_error),
        count=other.count,
    )


def _binned(sums: Floats, codes: Floats, top: int) -> tuple[F64, F64, F64]:
    """(count, mean sum, mean code) of bins of the sums of each column, each (bins, cols)."""
    cols = sums.shape[1]
    bins = int((top + 1) / BIN_CODES)
    place = np.clip((sums / BIN_CODES).astype(np.int64), 0, bins - 1) * cols + np.arange(cols)
    flat = place.reshape(-1)

    def total(weights: Floats | None) -> F64:
        values = None if weights is None else weights.reshape(-1)
        return np.bincount(flat, values, bins * cols).reshape(bins, cols).astype(np.float64)

    count = total(None)
    some = np.maximum(count, 1)
    return count, total(sums) / some, total(codes) / some


def _stairs_of(
    noise: float, count: F64, sums: F64, codes: F64, top: int, start: _Fit
) -> tuple[_Fit, F64]:
    """The fit with a converter of `noise` codes, and its mean squared misfit, (cols,)."""
    gain, offset = start.gain.copy(), start.offset.copy()
    degrees = np.maximum((count > 0).sum(axis=0) - 2, 1)
    for number in range(STAIR_PASSES + 1):
        mean, slope = _staircase(gain * sums + offset, noise, top)
        left = codes - mean
        misfit = (count * left**2).sum(axis=0) / degrees
        weight = count * slope
        aa, ab, bb = (
            (weight * slope * sums**power).sum(axis=0) + (1e-9 if power != 1 else 0.0)
            for power in (2, 1, 0)
        )
        wide = np.maximum(aa * bb - ab**2, 1e-12)
        if number == STAIR_PASSES:
            break
        ga, gb = (weight * sums * left).sum(axis=0), (weight * left).sum(axis=0)
        gain = np.clip(gain + np.clip((bb * ga - ab * gb) / wide, -0.1, 0.1), 0.05, 5.0)
        offset = np.clip(offset + np.clip((aa * gb - ab * ga) / wide, -0.2, 0.2), -top, top)
    gain_error, offset_error = np.sqrt(misfit * bb / wide), np.sqrt(misfit * aa / wide)
    return _Fit(gain, offset, gain_error, offset_error, start.count), misfit


def _staircase(level: F64, noise: float, top: int) -> tuple[F64, F64]:
    """The mean code at an analog `level`, and its derivative."""
    mean, slope = np.zeros((2, *level.shape))
    for step in range(1, top + 1):
        x = np.clip((level - (step - 0.5)) * (LOGISTIC / noise), -30, 30)
        share = 1 / (1 + np.exp(-x))
        mean += share
        slope += share * (1 - share) * (LOGISTIC / noise)
    return mean, slope
