"""The emulator's benchmark runs from its command line; what it says is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROWS = {
    "mvm_noisy": "vectors/s",
    "mvm_macro_exact": "vectors/s",
    "rvw_converged": "cells/s",
    "rvw_cell_pulses": "cell-pulses/s",
    "wires_solve": "s",
    "wires_mvm": "vectors/s",
    "lenet5": "images/s",
    "die_bytes_per_cell": "bytes",
}


def test_every_row_of_the_table_is_measured() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "bench"), "emulator", "--quick", "--json"],
        check=True,
        capture_output=True,
        text=True,
        timeout=240,
    )
    rows = {row["row"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert {name: rows[name]["unit"] for name in ROWS} == ROWS
    assert all(row["value"] > 0 for row in rows.values())
    assert rows["rvw_inside"]["value"] > 80
