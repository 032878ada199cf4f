"""The benchmark of the journal runs, and prints the rows that the issues name."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent / "scripts" / "bench"


def test_rows_of_the_journal_benchmark():
    ran = subprocess.run(
        [sys.executable, str(BENCH), "journal", "--quick", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = {row["row"]: row for row in map(json.loads, ran.stdout.splitlines())}
    assert {"bench", "row", "value", "unit", "spread", "n", "threads"} == set(rows["fsyncs"])
    assert rows["ledger_bytes_per_cell"]["value"] <= 4
    assert {"ledger_cpu_ns_per_cell", "fsync_wait_s"} <= set(rows)
    assert rows["fsyncs_volatile"]["value"] == 0
    assert 0 < rows["fsyncs"]["value"] < rows["calls"]["value"]
