"""The benchmarks behind `scripts/bench`."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One measured figure over `n` repetitions.

    `spread`: the standard deviation, unless the benchmark says another; None without one.
    """

    row: str
    value: float
    unit: str
    spread: float | None = None
    n: int = 1
    threads: int = 1
