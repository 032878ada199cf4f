"""Lines with resistance: what a tile conducts as seen from its edge.

Cells are ohmic at read voltage, so a tile is a linear network of resistors. Two layouts:

`crossed`   Inputs are voltages on the row lines; a column line gathers the current of its cells;
            all gates of a group are on. A row line begins at its driver (`driver_ohms`) and has
            `row_ohms` before each cell; a column line has `column_ohms` after each cell and ends
            in `sense_ohms` at virtual ground, beyond the last row. Because the network does not
            depend on the inputs, it has one effective conductance matrix E, with the currents
            E^T V: solved once for each programming state, then a product is a matrix product.
`columns`   Inputs gate the word lines; both lines of a column run along it and end in the same
            column multiplexer, beyond the last row. Here E does not exist: a cell that is gated
            off is no part of the network, so the network changes with the input. But columns share
            no line, so that each is a ladder, and a continued fraction gives its exact current.

Groups of fewer rows than the tile has: with `crossed`, the rows outside the group are gated off
and their lines carry nothing, so each group is a network of its own, and E is put together from
the groups. That needs groups that are the same for all inputs.

How E is solved. The transfer resistance of a column line between rows a and b is
R[a, b] = sense + column * (segments that both share), so that the cells of column j, seen from
their row lines at voltages u, take the currents Y u with Y = (D^-1 + R)^-1, D = diag(g[:, j]). That
leaves a chain of columns, joined by the row segments: block tridiagonal, with one block a column
(block elimination as in G. H. Golub, C. F. Van Loan, Matrix Computations, section 4.5). From the
last column to the first, with A what is seen to the right of a segment r,

    A_j = Y_j + A_(j+1) T_(j+1),    T_j = (1 + r A_j)^-1,
    row j of E^T = 1^T Y_j T_j T_(j-1) ... T_0

One sweep gives all rows of E; a sparse factorisation of the 2 x 256 x 256 nodes needs 256
right-hand sides instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Cells, Ints
from rramhil_drivers.emulator.periphery import Wires
from rramhil_drivers.emulator.physics import F32, as_f32

F64 = NDArray[np.float64]
SMALLEST_SPLIT = 64


def effective(law: Wires, siemens: NDArray[Any], rows_at_once: int | None = None) -> F64:
    """The effective matrix (rows, cols), siemens, of a tile of cells `siemens` (rows, cols).

    Current of column j for 1 V on row i, all other rows of its group at 0 V. Groups are
    `rows_at_once` rows in index order (None: all rows).
    """
    rows, cols = siemens.shape
    at_once = min(rows_at_once or rows, rows)
    whole = rows // at_once * at_once
    where = np.arange(rows)
    groups = siemens[:whole].reshape(-1, at_once, cols)
    parts = [_solve(law, groups, where[:whole].reshape(-1, at_once), rows).reshape(whole, cols)]
    if whole < rows:
        parts.append(_solve(law, siemens[None, whole:], where[None, whole:], rows)[0])
    return np.concatenate(parts)


def _solve(law: Wires, siemens: NDArray[Any], where: NDArray[np.int64], rows: int) -> F64:
    """(groups, n, cols) effective conductances of groups of n rows that stand at `where`."""
    groups, count, cols = siemens.shape
    shared = rows - np.maximum(where[:, :, None], where[:, None, :])
    line = law.sense_ohms + law.column_ohms * shared.astype(np.float64)
    root = np.sqrt(np.maximum(siemens, 0.0).astype(np.float64).transpose(2, 0, 1))
    seen = np.zeros((groups, count, count))
    found = np.empty((groups, cols, count))
    for col in range(cols - 1, -1, -1):
        before, after = root[col][:, :, None], root[col][:, None, :]
        cells = _one_plus(line * before * after)
        cells = _inverse(cells) * before * after
        found[:, col] = cells.sum(axis=1)
        seen += cells
        ohms = law.row_ohms + (law.driver_ohms if col == 0 else 0.0)
        passed = _inverse(_one_plus(ohms * seen))
        seen = seen @ passed
        found[:, col:] = found[:, col:] @ passed
    return found.transpose(0, 2, 1)


def _one_plus(matrices: F64) -> F64:
    """1 + each of `matrices` (..., n, n), in place."""
    diagonal = np.arange(matrices.shape[-1])
    matrices[..., diagonal, diagonal] += 1.0
    return matrices


def _inverse(matrices: F64) -> F64:
    """Inverses of symmetric positive definite matrices (..., n, n).

    By halves: all but the smallest blocks are products of matrices, which libraries do several
    times faster than a factorisation of this size. Such matrices need no pivoting.
    """
    size = matrices.shape[-1]
    if size <= SMALLEST_SPLIT:
        return np.asarray(np.linalg.inv(matrices), dtype=np.float64)
    half = size // 2
    beside = matrices[..., :half, half:]
    first = _inverse(matrices[..., :half, :half])
    across = first @ beside
    last = _inverse(matrices[..., half:, half:] - beside.swapaxes(-1, -2) @ across)
    corner = across @ last
    whole = np.empty_like(matrices)
    whole[..., :half, :half] = first + corner @ across.swapaxes(-1, -2)
    whole[..., :half, half:] = -corner
    whole[..., half:, :half] = -corner.swapaxes(-1, -2)
    whole[..., half:, half:] = last
    return whole


class Ladder:
    """Conductance of gated columns at their multiplexer, `columns` layout, many at once.

    Exact: from the far end, y <- y / (1 + y R) + g. `count` cases of `cols` columns of `rows` rows.
    """

    def __init__(self, law: Wires, count: int, cols: int, rows: int) -> None:
        self._segment = np.float32(2 * law.column_ohms)
        self._ends = np.float32(law.driver_ohms + law.sense_ohms)
        self._rows = rows
        self._last = np.zeros(count, dtype=np.int64)
        self._seen = np.zeros((count, cols), dtype=np.float32)

    def add(self, which: Ints, where: Ints, siemens: F32) -> None:
        """In the cases `which`, the row `where` is gated on, above those added before.

        `siemens`: its cells (which, cols). Rows of a case come in rising order.
        """
        ohms = self._segment * (where - self._last[which]).astype(np.float32)
        seen = self._seen[which]
        self._seen[which] = seen / (1 + seen * ohms[:, None]) + siemens
        self._last[which] = where

    def at_edge(self) -> F32:
        """What the multiplexer sees, siemens (count, cols)."""
        ohms = self._segment * (self._rows - self._last).astype(np.float32) + self._ends
        return as_f32(self._seen / (1 + self._seen * ohms[:, None]))


def path_ohms(law: Wires, rows: int, cols: int) -> F32:
    """Series resistance (rows, cols) of the path through one cell with all others gated off."""
    to_edge = rows - np.arange(rows)[:, None]
    if law.layout == "columns":
        line = np.broadcast_to(2 * law.column_ohms * to_edge, (rows, cols))
    else:
        line = law.row_ohms * (1 + np.arange(cols)) + law.column_ohms * to_edge
    return as_f32(line + law.driver_ohms + law.sense_ohms)


class TileWires:
    """The wires of the tiles of a die, for single cells."""

    def __init__(self, law: Wires, rows: int, cols: int) -> None:
        self._path = path_ohms(law, rows, cols).reshape(-1)

    def read(self, cells: Cells, siemens: F32) -> F32:
        """What a reading of `cells`, one at a time, sees of their conductances `siemens`.

        Exact for one cell with all others gated off or floating.
        """
        return as_f32(siemens / (1 + siemens * self._path[cells % self._path.size]))


def noise_share(siemens: F32, seen: F32) -> F32:
    """What share of a cell's own noise the edge of a `crossed` tile sees, (rows, cols).

    An estimate: effective over cell conductance, at most 1 (a cell that conducts next to nothing
    carries what sneaks past it). How noise of a cell moves the currents of others is left out.
    """
    share = seen / np.maximum(siemens, np.float32(1e-12))
    return as_f32(np.minimum(share, np.float32(1)))
