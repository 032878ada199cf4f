"""A ledger that an earlier version wrote stays readable, verifiable and replayable."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np

from rramhil.address import open_device
from rramhil.device import Device
from rramhil.ledger import LedgerReader, Row

GOLDEN = Path(str(files("rramhil_fixtures") / "ledgers" / "golden.sqlite"))
HEAD = "5e2a383e451a6a1081cebedd7b9599ee6574ccbbe5587f3830753f48cd5f2123"


def test_its_rows_are_as_they_were_written() -> None:
    with LedgerReader(GOLDEN) as reader:
        verdict = reader.verify(HEAD)
        assert verdict.ok, verdict.sentence
        assert reader.runs() == ["golden"]
        assert reader.doubtful().size == 0
        totals = reader.totals("golden")
    assert totals.reads > 500
    assert min(totals.pulses[kind] for kind in totals.pulses if kind.value != "form") > 300


def test_every_recorded_call_is_answered_again() -> None:
    device = open_device(f"replay:{GOLDEN}?run=golden")
    played = 0
    with LedgerReader(GOLDEN) as reader:
        for row in reader.rows("golden", ops=("read", "apply", "sleep")):
            if row.phase in ("intent", "done") and not (row.op == "apply" and row.intent):
                _again(device, row)
                played += 1
    assert played > 50
    assert device.ended  # type: ignore[attr-defined]


def _again(device: Device, row: Row) -> None:
    if row.op == "sleep":
        device.clock.sleep(row.seconds or 0.0)
    elif row.op == "apply":
        device.apply(row.pulse())
    else:
        arrays = row.decode()
        assert np.array_equal(device.read(arrays["cells"]), arrays["siemens"], equal_nan=True)
