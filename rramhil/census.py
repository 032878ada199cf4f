"""Which cells are stuck, noisy or drifting, and which rows are bad: from readings alone.

Names follow the physics: `stuck_lrs` stays conductive after a RESET, `stuck_hrs` stays
resistive after a SET (never SA0/SA1: papers disagree on which is which).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rramhil.device import Bools, Cells, Floats, Spec
from rramhil.schema import Siemens, Strict


class Thresholds(Strict):
    """What the census calls bad.

    A row is bad when more than `bad_row_share` of its cells are: on a measured 256-row core
    18 rows were listed as unformed, so faults cluster by row (NeuRRAM's public notebooks).
    """

    stuck_lrs_siemens: Annotated[Siemens, Field(ge=0)] = 120e-6
    stuck_hrs_siemens: Annotated[Siemens, Field(ge=0)] = 60e-6
    noisy_siemens: Annotated[Siemens, Field(ge=0)] = 4e-6
    bad_row_share: float = Field(0.25, ge=0, le=1)


@dataclass(frozen=True, slots=True, eq=False)
class Census:
    """Findings on `cells`: one bool for each, and the bad rows as (tile, row)."""

    cells: Cells
    stuck_lrs: Bools
    stuck_hrs: Bools
    noisy: Bools
    unreadable: Bools
    bad_rows: tuple[tuple[int, int], ...]

    @property
    def bad(self) -> Bools:
        """Cells that cannot be written to a level."""
        return self.stuck_lrs | self.stuck_hrs | self.unreadable

    def shares(self) -> dict[str, float]:
        """Share of the cells in each class."""
        count = max(self.cells.size, 1)
        names = ("stuck_lrs", "stuck_hrs", "noisy", "unreadable")
        return {name: float(np.count_nonzero(getattr(self, name))) / count for name in names}


def take_census(
    cells: Cells,
    after_reset: Floats,
    after_set: Floats,
    spec: Spec,
    thresholds: Thresholds | None = None,
) -> Census:
    """Classify `cells` from readings of shape (reads, cells) after a RESET and after a SET.

    The median of the readings decides, so that one telegraph jump condemns no cell. The
    noise is the standard deviation over the readings after the SET.
    """
    limits = thresholds or Thresholds()
    if after_reset.ndim != 2 or after_set.ndim != 2 or after_reset.shape[1] != cells.size:
        raise ValueError(
            f"readings must have shape (reads, {cells.size}), "
            f"not {after_reset.shape} and {after_set.shape}"
        )
    unreadable: Bools = np.isnan(np.vstack([after_reset, after_set])).any(axis=0)
    low = np.median(np.nan_to_num(after_reset, posinf=spec.reading.highest), axis=0)
    high = np.median(np.nan_to_num(after_set, posinf=spec.reading.highest), axis=0)
    noise = np.nan_to_num(after_set, posinf=spec.reading.highest).std(axis=0)
    stuck_lrs = ~unreadable & (low > limits.stuck_lrs_siemens)
    stuck_hrs = ~unreadable & (high < limits.stuck_hrs_siemens)
    bad = stuck_lrs | stuck_hrs | unreadable
    return Census(
        cells=cells,
        stuck_lrs=stuck_lrs,
        stuck_hrs=stuck_hrs,
        noisy=~bad & (noise > limits.noisy_siemens),
        unreadable=unreadable,
        bad_rows=_bad_rows(cells, bad, spec, limits.bad_row_share),
    )


def _bad_rows(cells: Cells, bad: Bools, spec: Spec, share: float) -> tuple[tuple[int, int], ...]:
    row_of: NDArray[np.int64] = cells // spec.cols
    size = spec.tiles * spec.rows
    total = np.bincount(row_of, minlength=size)
    count = np.bincount(row_of, weights=bad, minlength=size)
    rows = np.flatnonzero(count > share * np.maximum(total, 1))
    return tuple((int(row // spec.rows), int(row % spec.rows)) for row in rows)
