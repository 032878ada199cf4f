"""The benchmarks behind `scripts/bench`."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One measured figure. `spread`: standard deviation over `n` repetitions, None without one."""

    row: str
    value: float
    unit: str
    spread: float | None = None
    n: int = 1
    threads: int = 1
