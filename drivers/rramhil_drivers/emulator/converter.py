"""The in-situ product of a macro: which rows are summed together, and what a conversion gives.

Inputs go in by slices of `bits_at_once` bits. The rows of a slice are summed in groups of at most
`rows_at_once`: fixed ones ("index"), or the next rows with a non-zero input bit ("next_nonzero",
the sparsity-aware input control of the 40 nm macro: W. Li et al., IEEE JSSC 2022, doi
10.1109/JSSC.2022.3163197). Seven binary rows fill three bits (A. Lu et al., Front. AI 4, 659060,
2021). Each conversion draws the noise of the cells that it sums and its own; codes are then added
digitally with the weight of their slice.

Conductances enter on a grid so fine that no noise shows it and so coarse that every sum is exact
in floating point, in any order: a product cut into parts gives the bits of the whole one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Ints
from rramhil_drivers.emulator.columns import Response
from rramhil_drivers.emulator.noise import normals_of, table_words
from rramhil_drivers.emulator.periphery import Converter, ConverterNoise, Wires
from rramhil_drivers.emulator.wires import Ladder

F32 = NDArray[np.float32]
AnyFloat = NDArray[np.floating[Any]]
ENTRIES = 65536  # entries of the inputs or the sums of the vectors that are planned at once
CONVERSIONS = 512  # at once: what a cache holds
LARGEST_SIEMENS, LARGEST_SD = 512e-6, 32e-6  # of a cell, for the grid of exact sums
BLOCK = 64  # conversions of one matrix product, of neighbouring rows


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A tile as its converter sees it, in codes for an input code of 1.

    `codes` (rows, cols): the conductances; `variance` (rows, cols): of a fresh look at each.
    float32 for bit-serial inputs, else float64; see `seen_by`.
    """

    codes: AnyFloat
    variance: AnyFloat

    def take(self, rows: Ints, columns: Ints) -> Seen:
        """Some of the rows and columns."""
        if _is_run(rows) and _is_run(columns):  # a view, which a matrix product takes as it is
            corner = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            return Seen(self.codes[corner], self.variance[corner])
        block = np.ix_(rows, columns)
        return Seen(self.codes[block], self.variance[block])


def _is_run(places: Ints) -> bool:
    """Whether rising `places` follow each other without a gap."""
    return bool(places[-1] - places[0] + 1 == places.size)


def seen_by(converter: Converter, siemens: F32, variance: F32, rows: int) -> Seen:
    """Conductances and variances of cells, in siemens and siemens squared, of tiles of `rows`."""
    unit = 1 / converter.siemens_per_code
    largest = 2**converter.bits_at_once - 1
    count = min(converter.rows_at_once, rows) * largest
    digits = 24 if converter.bits_at_once == 1 else 53
    return Seen(
        _exact(siemens, unit, LARGEST_SIEMENS, count, digits),
        _exact(variance, unit**2, LARGEST_SD**2, count * largest, digits),
    )


def _exact(values: F32, unit: float, largest: float, count: int, digits: int) -> AnyFloat:
    """`values` times `unit`, on a power of two on which sums of `count` up to `largest` are exact.

    Cells beyond `largest` are rare, and make sums inexact only where many meet.
    """
    dtype: type[np.floating[Any]] = np.float32 if digits == 24 else np.float64
    grid = 2.0 ** (np.ceil(np.log2(largest * unit * count)) + 1 - digits)
    return np.asarray(np.rint(values * np.float64(unit / grid)) * grid, dtype=dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The conversions of some vectors, in the order vector, slice, group.

    `slices`: those in which a conversion takes place. `count`: conversions of each vector and
    slice, (vectors * slices,). `conversion`, `row`, `value`: an entry for each non-zero input
    digit, in the order of conversions.
    """

    slices: Ints
    count: Ints
    conversion: Ints
    row: Ints
    value: NDArray[np.uint16]

    @property
    def conversions(self) -> int:
        """Conversions of all these vectors."""
        return int(self.count.sum())


def plan_conversions(converter: Converter, codes: Ints, rows: Ints, last_row: int) -> Plan:
    """Which of `rows` (word lines up to `last_row`) of `codes` are summed in which conversion.

    `codes` (vectors, rows): only these rows have inputs, the others none.
    """
    vectors, width = len(codes), converter.bits_at_once
    small = codes.astype(np.uint16)
    in_order = converter.row_order == "index"
    every = np.arange(converter.slices)
    if not in_order:
        seen = int(np.bitwise_or.reduce(small, axis=None)) if small.size else 0
        every = every[((seen >> (every * width)) & (2**width - 1)) > 0]
    flat = _digits(small, every, width).reshape(-1)
    at = np.flatnonzero(flat)
    line, row = np.divmod(at, rows.size)
    lines = vectors * every.size
    if in_order:
        groups = last_row // converter.rows_at_once + 1
        count = np.full(lines, groups, dtype=np.int64)
        conversion = line * groups + rows[row] // converter.rows_at_once
    else:
        filled = np.bincount(line, minlength=lines)
        rank = np.arange(at.size) - (np.cumsum(filled) - filled)[line]
        count = -(-filled // converter.rows_at_once)
        conversion = (np.cumsum(count) - count)[line] + rank // converter.rows_at_once
    return Plan(every, count, conversion, row, flat[at])


def _digits(codes: NDArray[np.uint16], slices: Ints, width: int) -> NDArray[np.uint16]:
    """The input digits (vectors, slices, rows) of codes (vectors, rows)."""
    shifts = (slices * width).astype(np.uint16)
    return (codes[:, None, :] >> shifts[:, None]) & np.uint16(2**width - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """A converter and what it looks at: `response` of its columns, the tile as `seen`.

    `rows`: the word lines of `seen`, of `word_lines` in all; the others have no input. `ladder`:
    the wires of its columns, where inputs gate the word lines.
    """

    converter: Converter
    response: Response
    seen: Seen
    rows: Ints
    word_lines: int
    ladder: Wires | None = None

    def convert(self, codes: Ints, rng: np.random.Generator) -> tuple[Ints, int]:
        """Sums of converter codes, (batch, cols), of `codes` (batch, rows); and conversions.

        `rng` draws the noise of each conversion and column, in the order vector, slice, group.
        """
        converter = self.converter
        cols = self.seen.codes.shape[1]
        sums = np.zeros((len(codes), cols), dtype=np.int64)
        whole = converter.row_order == "index" and converter.rows_at_once >= self.word_lines
        whole = whole and self.ladder is None
        conversions = 0
        step = max(ENTRIES // max(self.rows.size, cols), 1)
        for start in range(0, len(codes), step):
            part = slice(start, min(start + step, len(codes)))
            if whole:
                slices = np.arange(converter.slices)
                added = self._all_rows(codes[part], slices, rng)
                conversions += len(added)
            else:
                last = self.word_lines - 1
                plan = plan_conversions(converter, codes[part], self.rows, last)
                slices, added = plan.slices, self._in_groups(plan, rng)
                conversions += plan.conversions
            by_slice = added.reshape(-1, slices.size, cols)
            if slices.size == 1 and not slices[0]:
                sums[part] = by_slice[:, 0]
            else:
                weights = 2.0 ** (slices * converter.bits_at_once)
                sums[part] = np.einsum("vsc,s->vc", by_slice, weights)
        return sums, conversions

    def _all_rows(self, codes: Ints, slices: Ints, rng: np.random.Generator) -> F32:
        """Codes where one conversion takes all rows, (vectors * slices, cols)."""
        seen, width = self.seen, self.converter.bits_at_once
        digits = codes if slices.size == 1 else _digits(codes.astype(np.uint16), slices, width)
        lines: AnyFloat = digits.reshape(-1, self.rows.size).astype(seen.codes.dtype)
        mean = (lines @ seen.codes).astype(np.float32)
        if width > 1:
            lines *= lines
        variance = (lines @ seen.variance).astype(np.float32)
        noise = normals_of(table_words(rng, *mean.shape))
        return _converted(self.converter, self.response, mean, variance, noise)

    def _in_groups(self, plan: Plan, rng: np.random.Generator) -> F32:
        """Codes of all groups of each vector and slice added up, (vectors * slices, cols)."""
        ends = np.cumsum(plan.count)
        added = np.zeros((ends.size, self.seen.codes.shape[1]), dtype=np.float32)
        first = 0
        while first < ends.size:
            before = int(ends[first - 1]) if first else 0
            last = max(int(np.searchsorted(ends, before + CONVERSIONS, "right")), first + 1)
            after = int(ends[last - 1])
            if after > before:
                words = table_words(rng, after - before, added.shape[1])
                if self.ladder is None:
                    order, mean, variance = _analog_sums(plan, before, after, self.seen)
                else:
                    order = np.arange(after - before)
                    mean, variance = self._gated_sums(self.ladder, plan, before, after)
                noise = normals_of(words.take(order, axis=0))
                values = _converted(self.converter, self.response, mean, variance, noise)
                place = np.empty_like(order)
                place[order] = np.arange(order.size)
                added[first:last] = _added_up(values, place, plan.count[first:last])
            first = last
        return added

    def _gated_sums(self, law: Wires, plan: Plan, before: int, after: int) -> tuple[F32, F32]:
        """As `_analog_sums`, through the lines of the columns.

        Noise of the cells is taken through them with the square of the attenuation, the slope of
        s / (1 + s R): exact for what lines share at their ends, close for their segments.
        """
        seen, unit = self.seen, np.float32(self.converter.siemens_per_code)
        count, cols = after - before, seen.codes.shape[1]
        low, high = np.searchsorted(plan.conversion, (before, after))
        conversion, row = plan.conversion[low:high] - before, plan.row[low:high]
        filled = np.bincount(conversion, minlength=count)
        place = np.arange(row.size) - (np.cumsum(filled) - filled)[conversion]
        ladder = Ladder(law, count, cols, self.word_lines)
        ideal, variance = np.zeros((2, count, cols), dtype=np.float32)
        for turn in range(int(filled.max(initial=0))):
            here = np.flatnonzero(place == turn)
            which, picked = conversion[here], row[here]
            codes = seen.codes[picked].astype(np.float32)
            ladder.add(which, self.rows[picked], codes * unit)
            ideal[which] += codes
            variance[which] += seen.variance[picked].astype(np.float32)
        mean = ladder.at_edge() * (1 / unit)
        share = np.divide(mean, ideal, out=np.ones_like(mean), where=ideal > 0)
        return mean, variance * share**4


def _analog_sums(plan: Plan, before: int, after: int, seen: Seen) -> tuple[Ints, F32, F32]:
    """What the conversions `before` to `after` sum: codes and variances, each (count, cols).

    A conversion sums few rows near each other, so conversions in the order of their first row
    make a band, and blocks of it small matrix products. They come in that order, the first result.
    """
    count, (rows, cols) = after - before, seen.codes.shape
    low, high = np.searchsorted(plan.conversion, (before, after))
    conversion, row = plan.conversion[low:high] - before, plan.row[low:high]
    first = np.full(count, rows - 1, dtype=np.uint16)
    starts = np.flatnonzero(np.diff(conversion, prepend=-1))
    first[conversion[starts]] = row[starts]
    order = np.argsort(first, kind="stable")
    place = np.empty(count, dtype=np.int64)
    place[order] = np.arange(count) * rows
    chosen = np.zeros((count, rows), dtype=seen.codes.dtype)
    chosen.reshape(-1)[place[conversion] + row] = plan.value[low:high]
    last = np.zeros(count, dtype=np.int64)
    last[conversion] = row  # rows rise within a conversion: its last entry stays
    first, last = first[order], last[order]
    squared = chosen * chosen if seen.codes.dtype == np.float64 else chosen
    mean, variance = np.empty((2, count, cols), dtype=seen.codes.dtype)
    for start in range(0, count, BLOCK):
        block = slice(start, start + BLOCK)
        span = slice(int(first[start]), int(last[block].max()) + 1)
        np.matmul(chosen[block, span], seen.codes[span], out=mean[block])
        np.matmul(squared[block, span], seen.variance[span], out=variance[block])
    return order, np.asarray(mean, np.float32), np.asarray(variance, np.float32)


def _converted(
    converter: Converter, response: Response, mean: F32, variance: F32, noise: F32
) -> F32:
    """Codes of conversions of the analog sums `mean` (count, cols); overwrites its arguments.

    `noise`: standard normal numbers.
    """
    add_noise_power(converter.noise, mean, variance)
    np.sqrt(variance, out=variance)
    variance *= noise
    mean += variance
    mean *= response.gain
    mean += response.offset
    np.rint(mean, out=mean)
    return np.clip(mean, np.float32(0), np.float32(2**converter.bits - 1), out=mean)


def add_noise_power(law: ConverterNoise, codes: F32, variance: F32) -> None:
    """Add the variance of a conversion's own noise at sums of `codes` to `variance`, in place."""
    if law.law == "sqrt":
        variance += np.float32(law.strength**2) * codes
    elif law.law == "linear":
        variance += np.square(np.float32(law.strength) * codes)
    variance += np.float32(law.floor_codes**2)


def _added_up(values: F32, place: Ints, count: Ints) -> F32:
    """Codes of each vector and slice, (lines, cols): `count` conversions of each line added up.

    Conversion i, in the order of lines, is row `place[i]` of `values`.
    """
    starts = np.cumsum(count) - count
    longest_first = np.argsort(-count, kind="stable")
    start, left = starts[longest_first], count[longest_first]
    added = np.zeros((count.size, values.shape[1]), dtype=np.float32)
    for turn in range(int(left[0])):
        lines = int(np.searchsorted(-left, -turn))
        added[:lines] += values.take(place[start[:lines] + turn], axis=0)
    sums = np.empty_like(added)
    sums[longest_first] = added
    return sums
