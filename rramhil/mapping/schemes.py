"""Schemes: how a signed weight becomes conductances, which are never negative.

A scheme turns weights (rows, columns) in -1..1 into target siemens (rows, physical columns)
and measured siemens back into weights. Decoding is linear and unbounded: a cell that reads
beyond its levels gives a weight beyond 1, because that is what the array would compute.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rramhil.device import Floats
from rramhil.mapping.levels import Levels
from rramhil.words import nearest

Weights = NDArray[np.float64]


class Scheme(ABC):
    """Weights in -1..1 to siemens and back. `columns_per_weight` physical columns, adjacent."""

    name: ClassVar[str]
    columns_per_weight: ClassVar[int]

    @abstractmethod
    def encode(self, weights: ArrayLike, levels: Levels) -> Weights:
        """Targets in siemens, (rows, columns) -> (rows, physical columns), each on a level.

        Raises ValueError when a weight is outside -1..1 or not finite.
        """

    @abstractmethod
    def decode(self, siemens: ArrayLike, levels: Levels) -> Weights:
        """Weights, (rows, physical columns) -> (rows, columns), linear and not clipped.

        Raises ValueError for NaN or inf (see `filled`) and for half a pair.
        """

    @abstractmethod
    def step(self, levels: Levels) -> float:
        """Distance between neighbouring weights that the levels can hold."""

    def compensated(
        self, targets: Floats, measured: ArrayLike, faulty: ArrayLike, levels: Levels
    ) -> Weights:
        """Targets that make up for `faulty` cells with others of the same weight.

        All (rows, physical columns), siemens and bools. A scheme that has no other cell for a
        weight leaves the targets as they are.
        """
        return np.asarray(targets, dtype=np.float64)


class TwoColumn(Scheme):
    """Differential pair: w = (G+ - G-) / span, the unused cell at the lowest level.

    Physical column 2j holds the positive part of column j, 2j + 1 the negative part; zero is
    both cells at the lowest level, so n levels a cell give 2n - 1 weights.

    >>> levels = Levels(5, 0.0, 40e-6, 1e-6)
    >>> (1e6 * TwoColumn().encode([[0.5, -1.0, 0.0]], levels)).round()
    array([[20.,  0.,  0., 40.,  0.,  0.]])
    """

    name = "two_column"
    columns_per_weight = 2

    def encode(self, weights: ArrayLike, levels: Levels) -> Weights:
        inside = _weights_inside(weights)
        rows, cols = inside.shape
        siemens = np.empty((rows, 2 * cols))
        siemens[:, 0::2] = levels.quantised(levels.lowest + levels.span * np.maximum(inside, 0))
        siemens[:, 1::2] = levels.quantised(levels.lowest + levels.span * np.maximum(-inside, 0))
        return siemens

    def decode(self, siemens: ArrayLike, levels: Levels) -> Weights:
        measured = _measured(siemens, self)
        return np.asarray((measured[:, 0::2] - measured[:, 1::2]) / levels.span)

    def step(self, levels: Levels) -> float:
        return levels.step / levels.span

    def compensated(
        self, targets: Floats, measured: ArrayLike, faulty: ArrayLike, levels: Levels
    ) -> Weights:
        """The good cell of a pair is moved by the error of the faulty one.

        Only the difference is the weight, so a stuck cell costs nothing as long as its
        partner's new target lies between the lowest and the highest level; beyond, the nearest
        of the two is the least error that is left. A pair of two faulty cells stays as it is.
        """
        bad = np.asarray(faulty, dtype=bool)
        error = np.where(bad, _measured(measured, self) - targets, 0.0)
        partner_error = np.empty_like(error)
        partner_error[:, 0::2], partner_error[:, 1::2] = error[:, 1::2], error[:, 0::2]
        moved = np.clip(targets + partner_error, levels.lowest, levels.highest)
        return np.where(bad, targets, np.where(partner_error != 0, moved, targets))


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
        inside = _weights_inside(weights)
        return levels.quantised(levels.middle + inside * levels.span / 2)

    def decode(self, siemens: ArrayLike, levels: Levels) -> Weights:
        measured = _measured(siemens, self)
        return np.asarray((measured - levels.middle) / (levels.span / 2))

    def step(self, levels: Levels) -> float:
        return 2 * levels.step / levels.span


SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in (TwoColumn(), OneColumn())}


def find_scheme(name: str) -> Scheme:
    """The scheme called `name`. Raises ValueError naming the nearest one."""
    if name not in SCHEMES:
        raise ValueError(f"there is no mapping scheme {name!r}{nearest(name, SCHEMES)}")
    return SCHEMES[name]


def filled(siemens: ArrayLike, highest: float) -> Weights:
    """Readings made finite: inf (above the range) as `highest` siemens, NaN (no answer) as 0.

    Both are stand-ins that the caller chooses knowingly: beyond the range nobody knows the
    conductance, and a cell that does not answer is taken for open.
    """
    return np.nan_to_num(np.asarray(siemens, dtype=np.float64), nan=0.0, posinf=highest)


def _weights_inside(weights: ArrayLike) -> Weights:
    values = np.asarray(weights, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"weights must have shape (rows, columns), not {values.shape}")
    if not bool(np.all(np.abs(values) <= 1)):
        raise ValueError("weights must lie in -1..1; divide by the scale of the layer and clip")
    return values


def _measured(siemens: ArrayLike, scheme: Scheme) -> NDArray[Any]:
    values = np.asarray(siemens, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] % scheme.columns_per_weight:
        raise ValueError(
            f"siemens must have shape (rows, {scheme.columns_per_weight} x columns), "
            f"not {values.shape}"
        )
    if not np.isfinite(values).all():
        count = int(np.count_nonzero(~np.isfinite(values)))
        raise ValueError(
            f"{count} readings are NaN or infinite; decide with filled() what they are"
        )
    return values
