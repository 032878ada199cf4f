"""Schemes of two cells a weight: the weight is the difference of their conductances."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rramhil.device import Floats
from rramhil.mapping.levels import Levels
from rramhil.mapping.scheme import Scheme, Weights, finite_siemens, weights_inside


class Pair(Scheme):
    """w = (G+ - G-) / span. Physical column 2j holds G+ of column j, 2j + 1 holds G-.

    What the two cells are at for a weight is up to the scheme.
    """

    columns_per_weight = 2
    low_is_zero = True

    def decode(self, siemens: ArrayLike, levels: Levels) -> Weights:
        measured = finite_siemens(siemens, self)
        return np.asarray((measured[:, 0::2] - measured[:, 1::2]) / levels.span)

    def step(self, levels: Levels) -> float:
        return levels.step / levels.span

    def per_siemens(self, columns: int, levels: Levels) -> Weights:
        return np.tile([1 / levels.span, -1 / levels.span], columns)

    def compensated(
        self, targets: Floats, measured: ArrayLike, faulty: ArrayLike, levels: Levels
    ) -> Weights:
        """The good cell of a pair is moved by the error of the faulty one.

        Only the difference is the weight, so a stuck cell costs nothing as long as its
        partner's new target lies between the lowest and the highest level; beyond, the nearest
        of the two is the least error that is left. A pair of two faulty cells stays as it is.
        """
        bad = np.asarray(faulty, dtype=bool)
        error = np.where(bad, finite_siemens(measured, self) - targets, 0.0)
        partner_error = np.empty_like(error)
        partner_error[:, 0::2], partner_error[:, 1::2] = error[:, 1::2], error[:, 0::2]
        moved = np.clip(targets + partner_error, levels.lowest, levels.highest)
        return np.where(bad, targets, np.where(partner_error != 0, moved, targets))


class TwoColumn(Pair):
    """The unused cell of the pair at the lowest level: G+ carries w > 0, G- carries w < 0.

    Zero is both cells at the lowest level, so n levels a cell give 2n - 1 weights.

    >>> levels = Levels(5, 0.0, 40e-6, 1e-6)
    >>> (1e6 * TwoColumn().encode([[0.5, -1.0, 0.0]], levels)).round()
    array([[20.,  0.,  0., 40.,  0.,  0.]])
    """

    name = "two_column"

    def encode(self, weights: ArrayLike, levels: Levels) -> Weights:
        inside = weights_inside(weights)
        rows, cols = inside.shape
        siemens = np.empty((rows, 2 * cols))
        siemens[:, 0::2] = levels.quantised(levels.lowest + levels.span * np.maximum(inside, 0))
        siemens[:, 1::2] = levels.quantised(levels.lowest + levels.span * np.maximum(-inside, 0))
        return siemens


class Differential(Pair):
    """The unused cell of the pair at the highest level: G- falls for w > 0, G+ for w < 0.

    G. Yuan et al., "Improving DNN fault tolerance using weight pruning and differential crossbar
    mapping for ReRAM-based edge AI" (ISQED 2021, arXiv:2106.09166): zero is both cells at the
    highest level, where a cell stuck there does no harm; a pruned network is mostly zeros. The
    price is current: every zero conducts with both cells.

    >>> levels = Levels(5, 0.0, 40e-6, 1e-6)
    >>> (1e6 * Differential().encode([[0.5, -1.0, 0.0]], levels)).round()
    array([[40., 20.,  0., 40., 40., 40.]])
    """

    name = "differential"

    def encode(self, weights: ArrayLike, levels: Levels) -> Weights:
        inside = weights_inside(weights)
        rows, cols = inside.shape
        index = np.empty((rows, 2 * cols), dtype=np.int64)
        index[:, 0::2] = levels.nearest(levels.lowest + levels.span * np.maximum(-inside, 0))
        index[:, 1::2] = levels.nearest(levels.lowest + levels.span * np.maximum(inside, 0))
        return np.asarray(levels.siemens[levels.count - 1 - index])
