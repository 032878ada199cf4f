"""The periphery of an emulated macro behind the link: it answers as it does in this process."""

from __future__ import annotations

import numpy as np
import pytest
from boards import host, serving

from rramhil.address import open_device
from rramhil.device import Device, Kind, Programmed, Pulse
from rramhil.trim import TrimSettings, read_tile, trim_tile
from rramhil_drivers.virtual_board import Board


def prepared(device: Device) -> None:
    """Every third cell of tile 0 SET to something."""
    cells = np.arange(0, device.spec.rows * device.spec.cols, 3)
    gates = device.spec.pulses[Kind.SET].gate_volts
    assert gates is not None
    volts = gates.snap(np.random.default_rng(1).uniform(1.9, 3.0, cells.size))
    device.apply(Pulse(Kind.SET, cells, 2.0, volts, seconds=1e-6))


@pytest.mark.parametrize("address", ["emulator:40nm?tiles=2&seed=4", "emulator:wide?tiles=2"])
def test_products_and_knobs_are_the_same_behind_the_link(address: str) -> None:
    twin = open_device(address)
    with serving(Board(open_device(address), follow_wall_clock=False)) as url, host(url) as device:
        assert device.spec.mvm == twin.spec.mvm
        assert {k: v.size for k, v in device.spec.knobs.items()} == {
            k: v.size for k, v in twin.spec.knobs.items()
        }
        rng = np.random.default_rng(3)
        gain, offset = (
            twin.spec.knobs[name].range.snap(rng.uniform(*span, 256))
            for name, span in (("column_gain", (0.8, 1.2)), ("column_offset", (-1, 1)))
        )
        codes = rng.integers(0, 256, (37, 256)) * (rng.random((37, 256)) < 0.3)
        heard = []
        for each in (device, twin):
            prepared(each)
            first = each.mvm(0, codes)
            each.adjust("trim_tile", 0)
            each.adjust("column_gain", gain)
            each.adjust("column_offset", offset)
            each.adjust("temperature", 320.0)
            heard.append((first, each.mvm(0, codes), each.read(np.arange(100)), each.clock.now()))
        for over_link, here in zip(*heard, strict=True):
            np.testing.assert_allclose(over_link, here, rtol=1e-9, atol=0)
        assert (heard[1][0] != heard[1][1]).any()


@pytest.mark.parametrize("address", ["emulator:40nm?tiles=1", "emulator:ember"])
def test_a_write_verify_of_the_chip_is_the_same_behind_the_link(address: str) -> None:
    twin = open_device(address)
    cells = np.random.default_rng(2).permutation(4000)[:200]
    low = np.array([18.34e-6, 90.34e-6, 150.34e-6])[cells % 3]
    with (
        serving(Board(open_device(address), follow_wall_clock=False, lease_ms=5000)) as url,
        host(url) as device,
    ):
        assert device.spec.program == twin.spec.program
        assert device.spec.reading.references == pytest.approx(twin.spec.reading.references)
        over_link, here = (each.program(cells, low, low + 20.1e-6) for each in (device, twin))
        for name in Programmed.__slots__:
            np.testing.assert_array_equal(getattr(over_link, name), getattr(here, name), name)
        assert here.ok.mean() > 0.9
        for kind in (Kind.SET, Kind.RESET):
            counted = device.pulses_counted(kind)  # type: ignore[attr-defined]
            np.testing.assert_array_equal(counted, twin.pulses_counted(kind))  # type: ignore[attr-defined]


def test_columns_can_be_trimmed_over_the_link() -> None:
    settings = TrimSettings(vectors=256, rounds=1, reads=1)
    address = "emulator:wide?tiles=1"
    fits = []
    with serving(Board(open_device(address), follow_wall_clock=False)) as url, host(url) as device:
        for each in (device, open_device(address)):
            prepared(each)
            siemens = read_tile(each, 0, 1)
            rounds = list(trim_tile(each, 0, siemens, settings, np.random.default_rng(0)))
            fits.append([(r.fit.gain_cv, r.fit.offset_rms) for r in rounds])
    np.testing.assert_allclose(fits[0], fits[1], rtol=1e-6)
    assert fits[0][1][0] < fits[0][0][0] / 4
