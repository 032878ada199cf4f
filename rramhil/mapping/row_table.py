"""Row tables: which physical row of a layer's matrix holds each logical row.

A permutation reorders rows; rows that name the same physical row share it (row rename: rows of a
binary layer that are equal need no cells of their own; the idea is S. Weinstock et al., ORSS
2023, whose abstract alone is public, so that the definition here is ours). What a product needs
then is the sum of the inputs of rows that share: added digitally before, where the sum is still
an input code, and in several products ("shots") otherwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rramhil.device import Bools, Ints


def checked_table(layer: str, rows: ArrayLike | None, count: int) -> Ints:
    """A table (count,) of physical rows; without `rows` each row is its own.

    Raises ValueError for another shape or type, and where a physical row is left out.
    """
    if rows is None:
        return np.arange(count, dtype=np.int64)
    table = np.asarray(rows)
    if table.shape != (count,) or table.dtype.kind not in "iu":
        raise ValueError(
            f"the row table of layer {layer} must name one physical row for each of its {count} "
            f"rows, but it is {table.dtype} of shape {table.shape}"
        )
    used = np.unique(table)
    if used[0] < 0 or used[-1] >= used.size:
        hole = -1 if used[0] < 0 else int(np.flatnonzero(used != np.arange(used.size))[0])
        what = f"names row {used[0]}" if hole < 0 else f"leaves out row {hole}"
        raise ValueError(
            f"the row table of layer {layer} {what}; number the physical rows from 0 without gaps"
        )
    return table.astype(np.int64)


def first_rows(table: Ints) -> Ints:
    """The first logical row of each physical one, (physical rows,)."""
    return np.asarray(np.unique(table, return_index=True)[1], dtype=np.int64)


def by_physical_row(layer: str, matrix: NDArray[np.float64], table: Ints) -> NDArray[np.float64]:
    """`matrix` (logical rows, columns) as (physical rows, columns).

    Raises ValueError where rows that share a physical row differ.
    """
    first = first_rows(table)
    held = matrix[first]
    differ = np.flatnonzero((held[table] != matrix).any(axis=1))
    if differ.size:
        row = int(differ[0])
        raise ValueError(
            f"rows {first[table[row]]} and {row} of layer {layer} share a physical row, but their "
            "weights differ; give them the same weights, or rows of their own"
        )
    return held


def tied(matrix: NDArray[np.float64], table: Ints) -> NDArray[np.float64]:
    """`matrix` (logical rows, columns) with the mean of those rows that share a physical one."""
    count = np.bincount(table)
    if count.max() == 1:
        return matrix
    sums = np.zeros((count.size, matrix.shape[1]))
    np.add.at(sums, table, matrix)
    return np.asarray((sums / count[:, None])[table])


def marked_rows(marked: Bools, table: Ints) -> Bools:
    """Which weights (physical rows, columns) hold one that is `marked` (logical rows, columns)."""
    held = np.zeros((int(table.max()) + 1, marked.shape[1]), dtype=bool)
    np.logical_or.at(held, table, marked)
    return held


def shots(table: Ints, largest: int, highest: int) -> tuple[tuple[Ints, ...], ...]:
    """The products that rows sharing physical rows need, and what each adds before it.

    `largest`: the largest code of a logical row; `highest`: the highest that the macro takes. A
    shot is a tuple of logical rows (indices), no two of one tuple in the same physical row; the
    codes of its tuples are added. One shot of one tuple where nothing is shared. Raises
    ValueError when a code alone is more than the macro takes.
    """
    if not 0 < largest <= highest:
        raise ValueError(
            f"codes up to {largest} do not fit a macro that takes 1 to {highest}; "
            "take fewer bits an activation"
        )
    together = highest // largest
    order = np.argsort(table, kind="stable")
    count = np.bincount(table)
    rank = np.empty(table.size, dtype=np.int64)
    rank[order] = np.arange(table.size) - np.repeat(np.cumsum(count) - count, count)
    tuples = [np.flatnonzero(rank == n).astype(np.int64) for n in range(int(count.max()))]
    return tuple(
        tuple(tuples[start : start + together]) for start in range(0, len(tuples), together)
    )


def fed(codes: Ints, table: Ints, shot: tuple[Ints, ...]) -> Ints:
    """Codes (batch, physical rows) of one shot from those of logical rows (batch, rows).

    `shots` sees to it that no sum is more than the macro's highest code, of 16 bits at most.
    """
    kind = codes.dtype if len(shot) == 1 else np.promote_types(codes.dtype, np.uint16)
    sums: Ints = np.zeros((len(codes), int(table.max()) + 1), dtype=kind)
    for rows in shot:
        sums[:, table[rows]] += codes[:, rows]
    return sums
