"""Schemes of one cell a weight, and something that it is compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rramhil.device import Floats, Ints
from rramhil.mapping.levels import Levels
from rramhil.mapping.scheme import Scheme, Weights, finite_siemens, weights_inside


class OneColumn(Scheme):
    """One cell and a reference: w = (G - middle) / (span / 2).

    The reference is the number `levels.middle`; in a product the host subtracts it times the
    sum of the inputs, which it knows exactly. Half the cells of the differential pair, twice
    the weight step; with an even number of levels no weight is exactly zero.

    >>> levels = Levels(5, 0.0, 40e-6, 1e-6)
    >>> (1e6 * OneColumn().encode([[0.5, -1.0, 0.0]], levels)).round()
    array([[30.,  0., 20.]])
    """

    name = "one_column"
    columns_per_weight = 1

    def encode(self, weights: ArrayLike, levels: Levels) -> Weights:
        inside = weights_inside(weights)
        return levels.quantised(levels.middle + inside * levels.span / 2)

    def decode(self, siemens: ArrayLike, levels: Levels) -> Weights:
        measured = finite_siemens(siemens, self)
        return np.asarray((measured - levels.middle) / (levels.span / 2))

    def step(self, levels: Levels) -> float:
        return 2 * levels.step / levels.span

    def per_siemens(self, columns: int, levels: Levels) -> Weights:
        return np.full(columns, 2 / levels.span)


class ReferenceColumn(Scheme):
    """One cell a weight and a reference column of cells a layer: w = (G - G_ref) / (span / 2).

    The reference column is the last of the layer, its cells at the middle level; where the number
    of levels is even there are two, at the levels on either side of the middle, and their mean is
    it. It is read and multiplied with the rest, so that what is common to a row or to all cells
    (drift, temperature) cancels; its own error reaches all weights of its row.

    >>> levels = Levels(5, 0.0, 40e-6, 1e-6)
    >>> (1e6 * ReferenceColumn().encode([[0.5, -1.0, 0.0]], levels)).round()
    array([[30.,  0., 20., 20.]])
    """

    name = "reference_column"
    columns_per_weight = 1

    def encode(self, weights: ArrayLike, levels: Levels) -> Weights:
        inside = weights_inside(weights)
        cells = levels.quantised(levels.middle + inside * levels.span / 2)
        references = np.tile(_middle_levels(levels), (len(inside), 1))
        return np.hstack([cells, references])

    def decode(self, siemens: ArrayLike, levels: Levels) -> Weights:
        measured = finite_siemens(siemens, self)
        references = _middle_levels(levels).size
        if measured.shape[1] <= references:
            raise ValueError(
                f"siemens must have shape (rows, columns + {references}) with the reference last, "
                f"not {measured.shape}"
            )
        cells, reference = measured[:, :-references], measured[:, -references:]
        middle = reference.mean(axis=1, keepdims=True)
        return np.asarray((cells - middle) / (levels.span / 2))

    def step(self, levels: Levels) -> float:
        return 2 * levels.step / levels.span

    def column_of(self, columns: int, levels: Levels) -> Ints:
        references = np.full(_middle_levels(levels).size, -1, dtype=np.int64)
        return np.append(np.arange(columns, dtype=np.int64), references)

    def per_siemens(self, columns: int, levels: Levels) -> Weights:
        references = _middle_levels(levels).size
        share = np.append(np.ones(columns), np.full(references, -1 / references))
        return np.asarray(share * 2 / levels.span)

    def compensated(
        self, targets: Floats, measured: ArrayLike, faulty: ArrayLike, levels: Levels
    ) -> Weights:
        """All good cells of a row follow the error of its reference, as far as levels reach; a
        faulty cell of a weight has no partner."""
        bad = np.asarray(faulty, dtype=bool)
        error = np.where(bad, finite_siemens(measured, self) - targets, 0.0)
        references = _middle_levels(levels).size
        row_error = error[:, -references:].mean(axis=1, keepdims=True)
        moved = np.asarray(targets, dtype=np.float64).copy()
        follows = ~bad & (row_error != 0)
        follows[:, -references:] = False
        moved[follows] = np.clip(targets + row_error, levels.lowest, levels.highest)[follows]
        return moved


def _middle_levels(levels: Levels) -> Weights:
    """The middle level, or the two on either side of the middle."""
    first, last = (levels.count - 1) // 2, levels.count // 2
    return np.asarray(levels.siemens[sorted({first, last})])
