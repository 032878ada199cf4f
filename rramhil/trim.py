"""Trim of a macro's columns: measure each one's gain and offset in situ, set its references.

    for round_ in trim_tile(device, tile, siemens, TrimSettings(), rng):
        print(round_.fit.gain_cv)

Known inputs are multiplied with known conductances (`siemens`, as read back), and what comes out
is compared with what should (`column_fit`). The errors are taken out before the conversion, where
they cost no codes: the knobs `column_gain` (factor) and `column_offset` (codes a conversion) are
the column's references; `trim_tile` chooses the tile where a die has several.

A code is coarse, but the sums of random rows are not: they act as dither, so that a fit resolves
a small part of a code.

What a code should stand for is the caller's to say (`Aim`): by default its share of the full scale.
Of cells at two levels it can be one high cell: low cells conduct too, and high ones relax, so that
sums of seven rows otherwise lie between codes, where noise decides (see `counting`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rramhil.column_fit import ColumnFit, fit_columns
from rramhil.device import Bools, Device, Floats, Ints, KnobLimits, MvmLimits, Refused, Spec
from rramhil.schema import Strict

TILE, GAIN, OFFSET = "trim_tile", "column_gain", "column_offset"
BEST_ROWS = 4  # times the rows of a conversion: the well-conducting rows of a column


class TrimSettings(Strict):
    """`vectors` a measurement; `rounds` of measuring and setting; `reads` of each cell.

    `aim`: what a code shall stand for, see `Aim`; counts are of cells at the higher of two levels.
    """

    vectors: int = Field(8192, ge=256, le=65536)
    rounds: int = Field(2, ge=1, le=8)
    reads: int = Field(4, ge=1, le=64)
    aim: Literal["siemens", "counts"] = "siemens"


@dataclass(frozen=True, slots=True, eq=False)
class Aim:
    """What the columns of a tile shall give: code = `gain` x sum + `offset`, each (cols,)."""

    gain: NDArray[np.float64]
    offset: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TrimRound:
    """A measurement of `tile`: number 0 with neutral references, then after each setting, where
    `fit` is relative to the aim.

    `beyond`: columns whose references would have to leave their range; they are at its end.
    """

    tile: int
    number: int
    fit: ColumnFit
    beyond: int


def check_trim(spec: Spec) -> tuple[MvmLimits, KnobLimits, KnobLimits]:
    """The product and the column references of a die. Raises `Refused` where it lacks them."""
    missing = [name for name in (GAIN, OFFSET) if name not in spec.knobs]
    if spec.mvm is None or missing:
        lacks = f"no knob {missing[0]}" if spec.mvm is not None else "no product"
        raise Refused(
            f"{spec.model} has {lacks}, so its columns cannot be trimmed; leave out the step 'trim'"
        )
    for name in (GAIN, OFFSET):
        if spec.knobs[name].size != spec.cols:
            raise Refused(
                f"the knob {name} of {spec.model} has {spec.knobs[name].size} values for "
                f"{spec.cols} columns; its driver must give one a column"
            )
    return spec.mvm, spec.knobs[GAIN], spec.knobs[OFFSET]


def read_tile(device: Device, tile: int, reads: int) -> NDArray[np.float64]:
    """Siemens of a tile, (rows, cols), mean of `reads`; above the range its end, NaN as 0."""
    spec = device.spec
    cells = spec.cells(tile, np.arange(spec.rows)[:, None], np.arange(spec.cols)[None, :])
    total = np.zeros(cells.size)
    for _ in range(reads):
        siemens = np.minimum(device.read(cells).astype(np.float64), spec.reading.highest)
        total += np.nan_to_num(siemens, nan=0.0)
    return (total / reads).reshape(spec.rows, spec.cols)


def test_inputs(limits: MvmLimits, siemens: Floats, count: int, rng: np.random.Generator) -> Ints:
    """Input codes (count, rows) that make sums of all sizes on a tile of `siemens` (rows, cols).

    Bit by bit, all bits of a row are the same, and a vector has as many rows as one conversion
    takes, or fewer: half of them random, half among those that conduct most in one column after
    another, so that a column of few good cells shows. Where a conversion takes several bits, or
    fixed groups of rows, the share of rows or their amplitude is random.
    """
    highest, rows = 2**limits.input_bits - 1, len(siemens)
    if limits.bits_at_once > 1:
        tops = highest * rng.random((count, 1))
        return np.asarray(np.rint(tops * rng.random((count, rows))), dtype=np.int64)
    if limits.row_order == "index":
        return np.where(rng.random((count, rows)) < rng.random((count, 1)), highest, 0)
    at_once = min(limits.rows_at_once, rows)
    urge = rng.random((count, rows))
    best = np.argsort(-siemens, axis=0)[: BEST_ROWS * at_once]
    for number in range(0, count, 2):
        urge[number, best[:, number // 2 % siemens.shape[1]]] += 1.0
    ranks = (-urge).argsort(axis=1).argsort(axis=1)
    return np.where(ranks < rng.integers(1, at_once + 1, (count, 1)), highest, 0)


def measure_columns(
    device: Device, tile: int, siemens: Floats, vectors: int, rng: np.random.Generator
) -> ColumnFit:
    """Gain and offset of the columns of `tile`, whose cells conduct `siemens` (rows, cols).

    Raises `Refused` on a die without a product.
    """
    limits = device.spec.mvm
    if limits is None:
        raise Refused(f"{device.spec.model} computes no product, so no column can be measured")
    inputs = test_inputs(limits, siemens, vectors, rng)
    codes = device.mvm(tile, inputs).astype(np.float64)
    slices = limits.input_bits // limits.bits_at_once
    weight = (2**limits.input_bits - 1) if slices > 1 else 1
    digits = inputs / weight
    groups = -(-device.spec.rows // limits.rows_at_once) if limits.row_order == "index" else 1
    sums = digits @ (siemens * (device.spec.reading.volts / limits.amps_per_code)) / groups
    return fit_columns(sums, codes / weight / groups, 2**limits.converter_bits - 1)


def check_counts(spec: Spec, levels: int) -> None:
    """Refuse `aim` "counts" where a conversion cannot count the high cells of `levels`."""
    limits, _, _ = check_trim(spec)
    if levels != 2:
        raise Refused(
            f'aim = "counts" is for cells at 2 levels, and [mapping] has {levels}; set levels = 2, '
            'or aim = "siemens"'
        )
    most = 2**limits.converter_bits - 1
    if limits.bits_at_once > 1 or limits.rows_at_once > most:
        raise Refused(
            f"{spec.model} sums {limits.rows_at_once} rows of {limits.bits_at_once} input bits in "
            f'a conversion of {most} codes, which cannot count cells; set aim = "siemens"'
        )


def counting(spec: Spec, siemens: Floats, high: Bools, blocks: Sequence[tuple[Ints, Ints]]) -> Aim:
    """The references with which a full conversion of each column counts its high cells.

    `siemens`, `high` (rows, cols) of a tile: what its cells conduct, and which should be high;
    `blocks`: (word lines, columns) that are multiplied together. With the means H and L of the
    column's high and low cells in codes, k high cells of n rows make k H + (n - k) L, so

        code = (sum - n L) / (H - L)

    A column that lacks either takes the means of the tile; one outside of the blocks is neutral.
    """
    assert spec.mvm is not None
    codes = siemens * (spec.reading.volts / spec.mvm.amps_per_code)
    used = np.zeros(high.shape, dtype=bool)
    rows = np.ones(spec.cols)
    for lines, columns in blocks:
        used[np.ix_(lines, columns)] = True
        rows[columns] = np.maximum(rows[columns], min(spec.mvm.rows_at_once, lines.size))
    top, bottom = _column_means(codes, used & high, 1.0), _column_means(codes, used & ~high, 0.0)
    usable = used.any(axis=0) & (top > bottom)
    gain = 1 / np.where(usable, top - bottom, 1.0)
    return Aim(gain, np.where(usable, -rows * bottom * gain, 0.0))


def _column_means(codes: Floats, where: Bools, none: float) -> NDArray[np.float64]:
    """Mean of `codes` of each column `where` it is True; without any that of all, then `none`."""
    every = float(codes[where].mean()) if where.any() else none
    count = where.sum(axis=0)
    return np.where(count > 0, (codes * where).sum(axis=0) / np.maximum(count, 1), every)


def trim_tile(
    device: Device,
    tile: int,
    siemens: Floats,
    settings: TrimSettings,
    rng: np.random.Generator,
    aim: Aim | None = None,
) -> Iterator[TrimRound]:
    """Set the references of the columns of `tile`; yield every measurement.

    `siemens` (rows, cols): what its cells conduct, see `read_tile`. `aim`: what the codes shall
    be, by default their share of the full scale. Columns with too little signal keep neutral
    references, or those of `aim`. Raises `Refused` on a die without products or references.
    """
    _, gains, offsets = check_trim(device.spec)
    cols = device.spec.cols
    aim = aim or Aim(np.ones(cols), np.zeros(cols))
    factor, added = np.ones(cols), np.zeros(cols)
    beyond = 0
    for number in range(settings.rounds + 1):
        _set(device, tile, gains.range.snap(factor), offsets.range.snap(added))
        fit = measure_columns(device, tile, siemens, settings.vectors, rng)
        found, first = fit.measured, number == 0
        yield TrimRound(tile, number, fit if first else _beside(fit, aim), beyond)
        wanted = np.where(found, factor / fit.gain * aim.gain, aim.gain if first else factor)
        # The gain comes before the references' offset, so that an offset is taken out as it shows.
        shift = np.where(found, added - fit.offset + aim.offset, aim.offset if first else added)
        factor = np.clip(wanted, gains.range.low, gains.range.high)
        added = np.clip(shift, offsets.range.low, offsets.range.high)
        beyond = int(np.count_nonzero((factor != wanted) | (added != shift)))


def _beside(fit: ColumnFit, aim: Aim) -> ColumnFit:
    """What is left of `fit` beside its `aim`: gain 1 and offset 0 where the aim is met."""
    gain = np.where(fit.measured, fit.gain / aim.gain, 1.0)
    return ColumnFit(gain, np.where(fit.measured, fit.offset - aim.offset, 0.0), fit.measured)


def _set(device: Device, tile: int, gain: Floats, offset: Floats) -> None:
    if TILE in device.spec.knobs:
        device.adjust(TILE, tile)
    device.adjust(GAIN, gain)
    device.adjust(OFFSET, offset)
