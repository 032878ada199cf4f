"""Knobs, products and write-verify of an emulated macro in its ledger: rebuilt and played back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rramhil.address import open_device
from rramhil.device import Kind
from rramhil.ledger import LedgerReader
from rramhil.rebuild import rebuild
from rramhil.station import connect

CODES = np.random.default_rng(1).integers(0, 256, (20, 256))
CELLS = np.arange(100)


def test_a_die_is_rebuilt_with_its_references_and_what_it_programmed(tmp_path: Path) -> None:
    address = "emulator:40nm?tiles=2"
    gain = np.full(256, 1.2)
    with connect(address, ledger=tmp_path, run="one") as device:
        done = device.program(CELLS, 80e-6, 100e-6)
        device.adjust("trim_tile", 1)
        device.adjust("column_gain", gain)
        device.adjust("temperature", 350.0)
        recorded = [device.mvm(tile, CODES) for tile in (0, 1)]
        wear = done.sets
        path = device.ledger.path
    with LedgerReader(path) as reader:
        assert rebuild(open_device(address), reader).calls == 6
        np.testing.assert_array_equal(reader.wear().done[Kind.SET][CELLS], wear)
    with open_device(f"replay:{path}") as replay:
        again = replay.program(CELLS, 80e-6, 100e-6)
        np.testing.assert_array_equal(again.sets, done.sets)
        replay.adjust("trim_tile", 1)
        replay.adjust("column_gain", gain)
        replay.adjust("temperature", 350.0)
        for tile in (0, 1):
            np.testing.assert_array_equal(replay.mvm(tile, CODES), recorded[tile])


def test_the_cost_counts_what_products_and_readings_take(tmp_path: Path) -> None:
    with connect("emulator:40nm?tiles=1", ledger=tmp_path, run="one") as device:
        device.read(CELLS)
        ones = np.zeros((4, 256), dtype=np.int64)
        ones[:, :9] = 5  # two bits, two groups each: 4 conversions a vector
        device.mvm(0, ones)
        path, spec = device.ledger.path, device.spec
    assert spec.mvm is not None
    with LedgerReader(path) as reader:
        totals = reader.totals("one")
        siemens = next(iter(reader.rows("one", ops=("read",)))).decode("siemens")["siemens"]
    assert totals.product_joules == np.float64(4 * 4 * 256 * spec.mvm.joules)
    held = float(siemens.sum()) * spec.reading.volts**2 * spec.reading.seconds
    assert abs(totals.read_joules / held - 1) < 1e-6
