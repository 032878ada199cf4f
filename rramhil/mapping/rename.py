"""Row rename: rows of a layer that are equal, or nearly so, share one physical row.

A layer of few columns and few values has few distinct rows; each needs to be stored once, and a
table says where each row of the matrix is (R. Weinstock et al., ORSS 2023, who save 45.24 % of a
fully connected layer's area; the definition is ours). Inputs of rows that share are added
digitally, which may take more input bits. Rows that are not equal can be merged: those whose inputs
carry little, or that differ in few places, take the values that cost the product least.

    renaming = equal_rows(weights)                   # nothing changes but the area
    renaming = merged_rows(weights, inputs, 46)      # down to 46 rows, at some cost

What merging adds to an output on average is known, and the digital bias takes it away (`shift`).
Rows that are equal but for their sign are left apart: their inputs would have to be subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rramhil.device import Floats, Ints
from rramhil.mapping.row_table import first_rows

UNFED = 1e-6
"""Energy of a row that no input reached, over the mean one: it goes to the nearest row."""

MOST_VALUES = 256
SWEEPS = 50
LEAST_GAIN = 1e-9
"""Of a row's own variance: what a move must gain, so that rounding does not move rows for ever."""


@dataclass(frozen=True, eq=False, slots=True)
class Renaming:
    """`row_of` (rows,): the physical row of each row; `weights` (rows, columns): equal where rows
    share one. `shift` (columns,): what to add to the outputs, because the mean of what changed is
    known. `error`: variance of the outputs' change over the variance of the outputs.
    """

    row_of: Ints
    weights: Floats
    shift: Floats
    error: float = 0.0

    @property
    def rows(self) -> int:
        """Rows of the matrix."""
        return int(self.row_of.size)

    @property
    def physical_rows(self) -> int:
        """Rows of the array."""
        return int(self.row_of.max()) + 1

    @property
    def saved(self) -> float:
        """Share of the layer's array that is not needed any more."""
        return 1 - self.physical_rows / self.rows

    @property
    def index_bits(self) -> int:
        """Bits of the table: a physical row for each row; none where every row has its own."""
        if self.physical_rows == self.rows:
            return 0
        return self.rows * max((self.physical_rows - 1).bit_length(), 1)

    @property
    def most_shared(self) -> int:
        """The most rows that share a physical one."""
        return int(np.bincount(self.row_of).max())

    def input_bits(self, largest: int) -> int:
        """Bits of the largest sum of inputs of rows that share, inputs being up to `largest`."""
        return (self.most_shared * largest).bit_length()


def equal_rows(weights: ArrayLike) -> Renaming:
    """Rows (rows, columns) that are equal share one; physical rows in the order of first use."""
    matrix = np.asarray(weights, dtype=np.float64)
    place = np.unique(matrix, axis=0, return_inverse=True)[1]
    return Renaming(_by_first_use(place.reshape(-1)), matrix, np.zeros(matrix.shape[1]))


def merged_rows(weights: ArrayLike, inputs: ArrayLike, target: int) -> Renaming:
    """Merge rows until `target` physical ones are left.

    `weights` (rows, columns): of few values, as of a binary or an integer network; merged rows
    take values among these. `inputs` (vectors, rows): from calibration images. Pairs are merged
    that cost least (agglomerative), the cost of a merged row being the energy-weighted squares of
    what changes (for binary weights, four times the flipped bits), its values the
    energy-weighted majority. Then rows and values are moved as long as the variance of the
    outputs' change falls. Raises ValueError for a target of more rows than there are,
    or none, for weights of many values, and for inputs that do not fit.
    """
    matrix, fed = np.asarray(weights, dtype=np.float64), np.asarray(inputs, dtype=np.float64)
    values = check_mergeable(matrix, target)
    if fed.ndim != 2 or fed.shape[1] != matrix.shape[0] or not len(fed):
        raise ValueError(
            f"inputs of shape {fed.shape} do not fit {matrix.shape[0]} rows; give some vectors "
            "with a number for each row"
        )
    energy = np.square(fed).mean(axis=0)
    energy = energy + UNFED * (float(energy.mean()) or 1.0)
    apart = np.cov(fed, rowvar=False, bias=True).reshape(len(matrix), len(matrix))
    apart[np.diag_indices(len(apart))] += energy * UNFED
    row_of = _agglomerated(matrix, energy, values, target)
    codewords = _majority(matrix, energy, row_of, values)
    row_of, codewords = _settled(matrix, apart, values, row_of, codewords)
    merged = codewords[row_of]
    change = merged - matrix
    error, power = (float(np.sum(w * (apart @ w))) for w in (change, matrix))
    shift = -fed.mean(axis=0) @ change
    return Renaming(_by_first_use(row_of), merged, shift, error / power if power > 0 else 0.0)


def check_mergeable(weights: ArrayLike, target: int) -> Floats:
    """The values of `weights` (rows, columns), ascending.

    Raises ValueError for a target of more rows than there are, or none, and for more values than
    an integer network has.
    """
    matrix = np.asarray(weights, dtype=np.float64)
    rows = len(matrix)
    if not 1 <= target <= rows:
        raise ValueError(
            f"{rows} rows cannot be merged to {target}; give a number from 1 to {rows}"
        )
    values: Floats = np.unique(matrix)
    if values.size > MOST_VALUES:
        raise ValueError(
            f"the weights have {values.size} values, and rows are merged where there are at most "
            f'{MOST_VALUES}, as in an integer network; set "equal" to share equal rows alone'
        )
    return values


def _nearest(values: Floats, wanted: Floats) -> Floats:
    """The nearest of `values`, ascending, to each number `wanted`; the lower one of two."""
    middles = (values[1:] + values[:-1]) / 2
    return np.asarray(values[np.searchsorted(middles, wanted)])


def _agglomerated(matrix: Floats, energy: Floats, values: Floats, target: int) -> Ints:
    """The cluster of each row when the cheapest pairs have been merged, numbered from 0."""
    rows = len(matrix)
    total, first, second = energy.copy(), energy[:, None] * matrix, energy[:, None] * matrix**2

    def costs(one: int, others: Ints) -> Floats:
        """What merging cluster `one` with each of `others` adds to the cost."""
        sums = first[one] + first[others]
        both = (total[one] + total[others])[:, None]
        word = _nearest(values, sums / both)
        joint = (second[one] + second[others] - 2 * word * sums + word**2 * both).sum(1)
        return np.asarray(joint - own[one] - own[others])

    own, cluster = np.zeros(rows), np.arange(rows)
    alive = np.ones(rows, dtype=bool)
    pair = np.full((rows, rows), np.inf)
    for row in range(rows - 1):
        pair[row, row + 1 :] = costs(row, np.arange(row + 1, rows))
    for _ in range(rows - target):
        one, other = np.unravel_index(int(np.argmin(pair)), pair.shape)
        own[one] += own[other] + pair[one, other]
        for sums in (total, first, second):
            sums[one] += sums[other]
        cluster[cluster == other] = one
        alive[other] = False
        pair[other, :] = pair[:, other] = np.inf
        others = np.flatnonzero(alive & (np.arange(rows) != one))
        found = costs(int(one), others)
        pair[np.minimum(one, others), np.maximum(one, others)] = found
    return np.unique(cluster, return_inverse=True)[1].reshape(-1)


def _majority(matrix: Floats, energy: Floats, row_of: Ints, values: Floats) -> Floats:
    """The values (clusters, columns) that change least, weighted by energy."""
    clusters = int(row_of.max()) + 1
    total = np.bincount(row_of, energy, clusters)
    sums = np.zeros((clusters, matrix.shape[1]))
    np.add.at(sums, row_of, energy[:, None] * matrix)
    return _nearest(values, sums / total[:, None])


def _settled(
    matrix: Floats, apart: Floats, values: Floats, row_of: Ints, codewords: Floats
) -> tuple[Ints, Floats]:
    """Rows and values moved, one at a time, while the variance of their effect falls.

    That is the sum over columns of d' C d, d being the change of the weights and C the covariance
    of the inputs: changes of inputs that come together can make up for each other.
    """
    row_of, codewords = row_of.copy(), codewords.copy()
    for _ in range(SWEEPS):
        moved = _move_rows(matrix, apart, row_of, codewords)
        changed = _change_values(matrix, apart, values, row_of, codewords)
        if not moved + changed:
            break
    return row_of, codewords


def _move_rows(matrix: Floats, apart: Floats, row_of: Ints, codewords: Floats) -> int:
    """Move each row to the cluster that it is best in, in place; how many were moved."""
    change = codewords[row_of] - matrix
    moved = 0
    for row in range(len(matrix)):
        if np.count_nonzero(row_of == row_of[row]) == 1:
            continue  # the last of its cluster: moving it would give up a physical row
        around = apart[row] @ change - apart[row, row] * change[row]
        steps = codewords - matrix[row]
        costs = apart[row, row] * (steps**2).sum(1) + 2 * steps @ around
        best = int(np.argmin(costs))
        if costs[best] < costs[row_of[row]] - LEAST_GAIN * apart[row, row]:
            row_of[row], change[row] = best, steps[best]
            moved += 1
    return moved


def _change_values(
    matrix: Floats, apart: Floats, values: Floats, row_of: Ints, codewords: Floats
) -> int:
    """Set each value of each cluster to the one that is best there, in place; how many changed."""
    change = codewords[row_of] - matrix
    changed = 0
    for cluster in range(len(codewords)):
        rows = np.flatnonzero(row_of == cluster)
        inner = apart[np.ix_(rows, rows)]
        around = apart[rows] @ change - inner @ change[rows]
        weight = inner.sum()
        wanted = (inner.sum(0) @ matrix[rows] - around.sum(0)) / weight
        best = _nearest(values, wanted)
        gain = weight * ((codewords[cluster] - wanted) ** 2 - (best - wanted) ** 2)
        better = gain > LEAST_GAIN * weight
        codewords[cluster, better] = best[better]
        change[rows] = codewords[cluster] - matrix[rows]
        changed += int(np.count_nonzero(better))
    return changed


def _by_first_use(place: Ints) -> Ints:
    """Physical rows renumbered in the order in which rows first use them."""
    rank = np.argsort(np.argsort(first_rows(place)))
    return np.asarray(rank[place], dtype=np.int64)
