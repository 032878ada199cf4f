"""More requests in flight use more of the line; how much of it is `scripts/bench wires`."""

from __future__ import annotations

import pytest
from throughput import cells_per_second

CALLS = 8


@pytest.mark.system
def test_more_in_flight_uses_more_of_a_line_of_3_mbaud() -> None:
    """The best of a few calls, for a machine that does other things as well."""
    best = {}
    for window in (1, 8):
        for name, speeds in cells_per_second(window, CALLS, seed=5).items():
            best[name, window] = max(speeds.cells) / speeds.limit
            print(f"{name} at window {window}: {best[name, window]:.2f} of the line")
    for name in ("write", "read"):
        assert best[name, 8] > best[name, 1]
        assert best[name, 8] < 1.1  # the board keeps the pace of the line
