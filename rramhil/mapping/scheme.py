"""What every scheme answers: how a signed weight becomes conductances, which are never negative.

A scheme turns weights (rows, columns) in -1..1 into target siemens (rows, physical columns)
and measured siemens back into weights. Decoding is linear and unbounded: a cell that reads
beyond its levels gives a weight beyond 1, because that is what the array would compute.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rramhil.device import Floats, Ints
from rramhil.mapping.levels import Levels

Weights = NDArray[np.float64]


class Scheme(ABC):
    """Weights in -1..1 to siemens and back. `columns_per_weight` physical columns, adjacent.

    `low_is_zero`: whether a weight whose cells are all at the lowest level is 0.
    """

    name: ClassVar[str]
    columns_per_weight: int
    low_is_zero: ClassVar[bool] = False

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

    @abstractmethod
    def per_siemens(self, columns: int, levels: Levels) -> Weights:
        """What a siemens in each physical column adds to its weight, (physical columns,)."""

    def column_of(self, columns: int, levels: Levels) -> Ints:
        """The column of weights that each physical column serves, (physical columns,).

        -1: a reference, which serves all of them.
        """
        return np.repeat(np.arange(columns, dtype=np.int64), self.columns_per_weight)

    def physical_columns(self, columns: int, levels: Levels) -> int:
        """Physical columns of a layer with `columns` columns of weights."""
        return int(self.column_of(columns, levels).size)

    def stuck_error(self, weights: ArrayLike, levels: Levels, siemens: float) -> Weights:
        """The change of a weight when one of its cells is stuck at `siemens`, (rows, physical
        columns); that of a reference changes all weights of its row by as much."""
        targets = self.encode(weights, levels)
        columns = int(np.asarray(weights).shape[1])
        return np.asarray((siemens - targets) * self.per_siemens(columns, levels))

    def mean_siemens(self, weights: ArrayLike, levels: Levels) -> float:
        """Siemens of all cells together for each weight: times the reading voltage, the current
        that a weight draws while its row is driven."""
        return float(self.encode(weights, levels).sum() / np.asarray(weights).size)

    def compensated(
        self, targets: Floats, measured: ArrayLike, faulty: ArrayLike, levels: Levels
    ) -> Weights:
        """Targets that make up for `faulty` cells with others of the same weight.

        All (rows, physical columns), siemens and bools. A scheme that has no other cell for a
        weight leaves the targets as they are.
        """
        return np.asarray(targets, dtype=np.float64)


def filled(siemens: ArrayLike, highest: float) -> Weights:
    """Readings made finite: inf (above the range) as `highest` siemens, NaN (no answer) as 0.

    Both are stand-ins that the caller chooses knowingly: beyond the range nobody knows the
    conductance, and a cell that does not answer is taken for open.
    """
    return np.nan_to_num(np.asarray(siemens, dtype=np.float64), nan=0.0, posinf=highest)


def weights_inside(weights: ArrayLike) -> Weights:
    """`weights` as a matrix. Raises ValueError for another shape and beyond -1..1."""
    values = np.asarray(weights, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"weights must have shape (rows, columns), not {values.shape}")
    if not bool(np.all(np.abs(values) <= 1)):
        raise ValueError("weights must lie in -1..1; divide by the scale of the layer and clip")
    return values


def finite_siemens(siemens: ArrayLike, scheme: Scheme) -> NDArray[Any]:
    """`siemens` as a matrix of whole weights. Raises ValueError otherwise, and for NaN or inf."""
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
