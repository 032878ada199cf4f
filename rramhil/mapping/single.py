"""Schemes of one cell a weight, and something that it is compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

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
