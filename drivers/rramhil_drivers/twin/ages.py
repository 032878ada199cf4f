"""What conductance changes after a write are compared by: bins, robust statistics, intervals.

A bin holds cells of about the same first reading; the spread is the interquartile range over
1.349, so that it is the standard deviation of a normal law and the tails do not decide it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..emulator.chipfile import ChipFile, PulsedLaws, load_chip
from ..emulator.noise import Noise
from ..emulator.pulsed import PulsedCells
from .rows import Compared

F64 = NDArray[np.float64]
MICRO = 1e-6
EDGES = np.array([-1.0, 1 / 60, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1.3])
"""Of conductance bins, in shares of the full scale."""

BEYOND = 3.0  # robust standard deviations: what lies further out is a tail
FEWEST = 50  # cells of a bin, below which it is left out
DRAWS = 200
START = 1000.0  # device time of the write: traps have lived for a while
SPREAD_ALLOWED = 0.15
TAIL_ALLOWED = float(np.log(1.5))
DRIFT_ALLOWED = 0.15  # of the spread


@dataclass(frozen=True, slots=True)
class Shape:
    """Five numbers of a sample of changes, siemens and shares."""

    middle: float
    down: float
    up: float
    low_tail: float
    high_tail: float

    @property
    def spread(self) -> float:
        """Robust standard deviation."""
        return (self.down + self.up) / 2

    @property
    def tails(self) -> float:
        """Share beyond `BEYOND` robust standard deviations of the median."""
        return self.low_tail + self.high_tail


def shape(changes: NDArray[Any]) -> Shape:
    """Median, half spreads below and above, and the shares far below and above."""
    low, middle, high = np.quantile(changes, [0.25, 0.5, 0.75])
    down, up = (middle - low) / 0.6745, (high - middle) / 0.6745
    far = BEYOND * (down + up) / 2
    low_tail = float(np.mean(changes < middle - far))
    high_tail = float(np.mean(changes > middle + far))
    return Shape(float(middle), float(down), float(up), low_tail, high_tail)


def binned(siemens: NDArray[Any], full_scale: float) -> NDArray[np.int64]:
    """The bin of each first reading, -1 outside all."""
    found = np.digitize(siemens, EDGES * full_scale) - 1
    return np.where((found >= 0) & (found < len(EDGES) - 1), found, -1)


def bare_chip(laws: PulsedLaws) -> ChipFile:
    """A chip of these cells, with geometry and periphery of the preset."""
    return load_chip("40nm").model_copy(update={"cells": laws})


def later_readings(
    chip: ChipFile, siemens: NDArray[Any], ages: list[float], seed: int, kelvin: float | None = None
) -> tuple[F64, list[F64]]:
    """First reading of emulated cells just written to `siemens`, and one at each age.

    With `kelvin` the die is at that temperature between the readings. It is the emulator's own
    cells that age and are read, without its converter's steps.
    """
    laws = chip.cells
    assert laws is not None
    tile = chip.geometry.rows * chip.geometry.cols
    cells = PulsedCells(chip, laws, seed, -(-siemens.size // tile), formed=True)
    noise, which = Noise.seeded(seed, seed), np.arange(siemens.size)
    cells.place(which, siemens.astype(np.float32), START, noise)
    first = cells.look(which, START, noise).astype(np.float64)
    if kelvin is not None:
        cells.heat(kelvin, START)
    later = [cells.look(which, START + age, noise).astype(np.float64) for age in ages]
    return first, later


def compare_shapes(
    group: str, measured: NDArray[Any], predicted: NDArray[Any], data: str, required: bool,
    rng: np.random.Generator,
) -> Iterator[Compared]:  # fmt: skip
    """Spread, tails and drift of changes; one value per address, so drawing rows draws cells."""
    there = shape(predicted)
    here = shape(measured)
    draws = [shape(rng.choice(measured, measured.size)) for _ in range(DRAWS)]

    def row(
        statistic: str, of: Callable[[Shape], float], distance: Callable[[Shape], float],
        allowed: float, unit: str,
    ) -> Compared:  # fmt: skip
        low, high = np.quantile([distance(one) for one in draws], [0.025, 0.975])
        scale = 1 / MICRO if unit == "µS" else 1.0
        return Compared(
            statistic, group, of(here) * scale, of(there) * scale, distance(here),
            allowed if required else None, float(low), float(high), unit, data,
        )  # fmt: skip

    def tail(one: Shape) -> float:
        least = 1 / measured.size
        return float(np.log(max(there.tails, least) / max(one.tails, least)))

    yield row("spread", lambda s: s.spread, lambda s: there.spread / s.spread - 1,
              SPREAD_ALLOWED, "µS")  # fmt: skip
    yield row("tails, ln ratio", lambda s: s.tails, tail, TAIL_ALLOWED, "")
    yield row("median drift", lambda s: s.middle, lambda s: (there.middle - s.middle) / s.spread,
              DRIFT_ALLOWED, "µS")  # fmt: skip


def seconds_text(seconds: float) -> str:
    """An age as people say it."""
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
