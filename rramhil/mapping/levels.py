"""Levels: the target conductances that a cell is written to, and their windows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rramhil.device import Ints
from rramhil.units import show


@dataclass(frozen=True, slots=True)
class Levels:
    """`count` target conductances, evenly spaced in siemens from `lowest` to `highest`.

    A cell is at its level when it reads within +- `tolerance` siemens of it (the window).
    Raises ValueError for fewer than two levels, an empty span, or windows that overlap.

    >>> Levels(10, 1e-6, 40e-6, 1e-6).siemens[1].round(9)
    np.float64(5.333e-06)
    """

    count: int
    lowest: float
    highest: float
    tolerance: float

    def __post_init__(self) -> None:
        numbers = (self.lowest, self.highest, self.tolerance)
        if self.count < 2:
            raise ValueError(f"{self.count} levels cannot hold a weight; give at least 2")
        if not all(map(math.isfinite, numbers)) or not 0 <= self.lowest < self.highest:
            raise ValueError(
                f"levels from {show(self.lowest, 'S')} to {show(self.highest, 'S')} have no span; "
                "the lowest must be at least 0 S and below the highest"
            )
        if not 0 < self.tolerance <= self.step / 2:
            raise ValueError(
                f"a tolerance of {show(self.tolerance, 'S')} does not fit {self.count} levels "
                f"that lie {show(self.step, 'S')} apart; give more than 0 S, at most half of that"
            )

    @property
    def span(self) -> float:
        """Siemens from the lowest level to the highest."""
        return self.highest - self.lowest

    @property
    def step(self) -> float:
        """Siemens between neighbouring levels."""
        return self.span / (self.count - 1)

    @property
    def middle(self) -> float:
        """Siemens half-way between the lowest and the highest level (a level if count is odd)."""
        return (self.lowest + self.highest) / 2

    @property
    def siemens(self) -> NDArray[np.float64]:
        """All levels, ascending, shape (count,)."""
        return np.linspace(self.lowest, self.highest, self.count)

    def nearest(self, siemens: ArrayLike) -> Ints:
        """Index of the nearest level, shape of `siemens`. Raises ValueError for NaN or inf."""
        values = np.asarray(siemens, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("a conductance that is NaN or infinite has no nearest level")
        index = np.clip(np.rint((values - self.lowest) / self.step), 0, self.count - 1)
        return np.asarray(index, dtype=np.int64)

    def quantised(self, siemens: ArrayLike) -> NDArray[np.float64]:
        """The nearest level in siemens, shape of `siemens`."""
        return np.asarray(self.siemens[self.nearest(siemens)])

    def windows(
        self, targets: ArrayLike, tolerance: ArrayLike | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(low, high) siemens of the window around each target; never below 0 S.

        `tolerance`: siemens for each target, where it is not the levels' own.
        """
        values = np.asarray(targets, dtype=np.float64)
        half = np.asarray(self.tolerance if tolerance is None else tolerance, dtype=np.float64)
        return np.maximum(values - half, 0.0), values + half
