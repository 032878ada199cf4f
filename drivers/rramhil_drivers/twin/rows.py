"""What a comparison of a chip file with measurements gives: figures and curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Compared:
    """One statistic, measured and predicted.

    `distance` is what is compared with `allowed` (None: reported only); `low`..`high` is its
    95 % interval, by bootstrap over addresses, since a cell appears more than once. `data`
    names the table and the part of it that was looked at.
    """

    statistic: str
    group: str
    measured: float
    predicted: float
    distance: float
    allowed: float | None
    low: float
    high: float
    unit: str
    data: str

    @property
    def holds(self) -> bool | None:
        """Whether the distance is allowed; None when nothing is required."""
        return None if self.allowed is None else abs(self.distance) <= self.allowed


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One line of a picture; lines of the same `figure` share its axes.

    `logarithmic`: the axes that are, "x", "y" or "xy".
    """

    figure: str
    label: str
    x: NDArray[Any]
    y: NDArray[Any]
    measured: bool
    x_label: str
    y_label: str
    logarithmic: str = ""
