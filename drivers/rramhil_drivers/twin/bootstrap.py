"""Distances between measured and predicted samples, with intervals over addresses.

A cell appears in several rows, so rows are not independent: the bootstrap draws addresses with
replacement (B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 8), and
all rows of an address go together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
DRAWS = 200


class Sample:
    """Measured values with their addresses; `weights` are how often an address was drawn."""

    def __init__(self, values: NDArray[Any], addresses: NDArray[Any]) -> None:
        self.values = np.asarray(values, dtype=np.float64)
        self.addresses, self._cell = np.unique(addresses, return_inverse=True)
        self._order = np.argsort(self.values, kind="stable")
        self._sorted = self.values[self._order]

    def mean(self, weights: F64 | None = None) -> float:
        """The mean, of the drawn addresses if there are `weights`."""
        return float(np.average(self.values, weights=self._rows(weights)))

    def distance(self, predicted: NDArray[Any], weights: F64 | None = None) -> float:
        """Kolmogorov-Smirnov distance to the sample `predicted`: at most 1."""
        other = np.sort(np.asarray(predicted, dtype=np.float64))
        at = np.unique(np.concatenate([self._sorted, other]))
        rows = self._rows(weights)
        ordered = np.ones(self.values.size) if rows is None else rows[self._order]
        total = np.concatenate([[0.0], np.cumsum(ordered)])
        here = total[np.searchsorted(self._sorted, at, side="right")] / total[-1]
        there = np.searchsorted(other, at, side="right") / other.size
        return float(np.abs(here - there).max())

    def drawn(self, weights: F64) -> F64:
        """The values of the drawn addresses, each as often as it was drawn."""
        return np.repeat(self.values, weights[self._cell].astype(np.int64))

    def interval(
        self, statistic: Callable[[F64], float], rng: np.random.Generator
    ) -> tuple[float, float]:
        """2.5 and 97.5 % of `statistic(weights)` over drawings of the addresses."""
        count = self.addresses.size
        drawn = [
            statistic(np.bincount(rng.integers(0, count, count), minlength=count).astype(float))
            for _ in range(DRAWS)
        ]
        low, high = np.quantile(drawn, [0.025, 0.975])
        return float(low), float(high)

    def _rows(self, weights: F64 | None) -> F64 | None:
        return None if weights is None else weights[self._cell]
