"""The bench of the differential mapping: its interpolation, and that it runs from a command."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benches import differential

    return differential


def test_the_tolerable_rate_lies_where_the_loss_reaches_a_point(bench) -> None:  # type: ignore[no-untyped-def]
    rates = (1e-3, 1e-2, 1e-1)
    assert bench.tolerated_rate(np.array([0.0, 2.0, 9.0]), rates) == pytest.approx(1e-3 * 10**0.5)
    assert bench.tolerated_rate(np.array([0.8, 0.2, 1.2]), rates) == pytest.approx(10**-1.5)
    assert bench.tolerated_rate(np.array([3.0, 4.0, 5.0]), rates) == 1e-3
    assert bench.tolerated_rate(np.array([0.0, 0.1, 0.2]), rates) == 1e-1


def test_a_ratio_of_curves_that_are_shifted_is_their_shift(bench) -> None:  # type: ignore[no-untyped-def]
    rates = bench.RATES
    dies = [
        {"two_column": [900 * s * r for r in rates], "differential": [180 * s * r for r in rates]}
        for s in (0.9, 1.0, 1.1)
    ]
    found = {row.row: row.value for row in bench.ratio_rows("x", dies, rates)}
    assert found["x_failure_rate_ratio"] == pytest.approx(5, rel=0.1)
    low, high = (found[f"x_failure_rate_ratio_{end}"] for end in ("low", "high"))
    assert low <= found["x_failure_rate_ratio"] <= high


def test_a_quick_run_has_curves_for_both_mappings(tmp_path: Path) -> None:
    words = ["differential", "--quick", "--json", "--keep", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "bench"), *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=200,
    )
    rows = {row["row"]: row["value"] for row in map(json.loads, done.stdout.splitlines())}
    assert all(math.isfinite(value) for value in rows.values())
    assert rows["digits_pruned_two_column_clean"] > 90
    assert rows["digits_pruned_current_ratio"] > 4
    kept = json.loads((tmp_path / "digits_pruned-0.json").read_text("utf-8"))
    assert len(kept["two_column"]) == len(kept["differential"])
    assert len(list(tmp_path.glob("digits_pruned-*.json"))) == 2
