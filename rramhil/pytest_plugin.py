"""Tests against a resistive memory array: fixtures, `--rram-device`, and fault markers.

    def test_set_raises(rram_device):
        cells = rram_device.spec.cells(0, 0, range(8))
        ...

    @pytest.mark.rram_faults(stuck_lrs=0.01)
    def test_survives_stuck_cells(rram_programmed): ...

    pytest --rram-device="emulator:40nm?die=3"      the default is emulator:40nm
    pytest --rram-device=serial:/dev/ttyUSB0 --rram-station=bench.toml

A volatile die is fresh for each test, and its ledger lies in the test's own folder. A die on
the bench is the same one for all tests: it is leased, and whatever a test does to it is in the
die's own ledger. Faults are asked for by their names in the driver's record; a device that
cannot have them skips the test.

pytest imports this module whenever rramhil is installed, so it loads nothing until it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from rramhil.connected import Connected
    from rramhil.device import Device
    from rramhil.mapping import MappedNetwork
    from rramhil.mapping.scheme import Weights

DEFAULT_ADDRESS = "emulator:40nm"


@dataclass(frozen=True, slots=True, eq=False)
class ProgrammedNetwork:
    """A small network in the cells of `device`, written open loop 1 s before the test."""

    device: Device
    network: MappedNetwork

    def read_weights(self) -> dict[str, Weights]:
        """The weights of each layer as the cells hold them now, shape (rows, columns)."""
        return self.network.weights_from(self.device.read(self.network.cells))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rramhil", "resistive memory arrays")
    group.addoption(
        "--rram-device",
        metavar="ADDRESS",
        default=DEFAULT_ADDRESS,
        help=f"device under test, scheme:address (default: {DEFAULT_ADDRESS})",
    )
    group.addoption(
        "--rram-station",
        metavar="FILE",
        default=None,
        help="station file with the limits of the bench (default: the chip's own limits)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "rram_faults(**shares): faults that the emulated die has, such as stuck_lrs=0.01; "
        "skipped on a device that cannot have them",
    )


def pytest_report_header(config: pytest.Config) -> str:
    return f"rramhil: {config.getoption('--rram-device')}"


@pytest.fixture
def rram_address(request: pytest.FixtureRequest) -> str:
    """The address of the device under test, with the faults that the test's marker asks for."""
    from rramhil.address import find_driver, parse_address
    from rramhil.device import Address
    from rramhil.words import nearest

    parsed = parse_address(request.config.getoption("--rram-device"))
    faults: dict[str, str] = {}
    for marker in reversed(list(request.node.iter_markers("rram_faults"))):
        faults.update({name: str(share) for name, share in marker.kwargs.items()})
    known = find_driver(parsed.scheme).faults
    for name in faults:
        if not known:
            pytest.skip(f"{parsed.scheme}: devices cannot be given the fault {name}")
        if name not in known:
            pytest.fail(f"{parsed.scheme} has no fault {name!r}{nearest(name, known)}")
    return str(Address(parsed.scheme, parsed.path, {**parsed.options, **faults}))


@pytest.fixture
def rram_device(rram_address: str, tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[Device]:
    """A guarded device: a fresh volatile die, or the die on the bench with its ledger."""
    from rramhil.address import is_volatile, open_device
    from rramhil.guard import Guard
    from rramhil.station import load_station

    with ExitStack() as stack:
        if not is_volatile(rram_address):
            yield stack.enter_context(_connect(rram_address, None, pytestconfig))
            return
        bare = stack.enter_context(open_device(rram_address))
        station = pytestconfig.getoption("--rram-station")
        if station is None:
            yield stack.enter_context(Guard(bare))
        else:
            bench, whose = load_station(station)
            yield stack.enter_context(Guard(bare, bench.limits(bare.spec, whose)))


@pytest.fixture
def rram_journalled(
    rram_address: str, tmp_path: Path, pytestconfig: pytest.Config
) -> Iterator[Connected]:
    """A guarded and journalled device; the ledger of a volatile die lies in `tmp_path`."""
    from rramhil.address import is_volatile

    ledger = tmp_path / "ledger" if is_volatile(rram_address) else None
    device = _connect(rram_address, ledger, pytestconfig)
    with device:
        yield device


@pytest.fixture
def rram_programmed(rram_device: Device) -> ProgrammedNetwork:
    """Two layers of weights (16 x 8 and 8 x 4) in the cells of `rram_device`, written open loop.

    One RESET, then one SET at each level's nominal gate voltage, without verifying: the weights
    have the errors of the device. Skipped where there is no gate to write levels with.
    """
    import numpy as np

    from rramhil.device import Kind
    from rramhil.mapping import Levels, TwoColumn, map_network
    from rramhil.tune import gate_curve, gate_sweep
    from rramhil.verify import Bias, write_open_loop

    spec = rram_device.spec
    limits = spec.pulses.get(Kind.SET)
    if limits is None or limits.gate_volts is None or Kind.RESET not in spec.pulses:
        pytest.skip(f"{spec.model} has no gate voltage to write levels with")
    rng = np.random.default_rng(0)
    weights = {"first": rng.normal(size=(16, 8)), "last": rng.normal(size=(8, 4))}
    bias = Bias()
    sample = spec.cells(0, spec.rows - 1, range(min(spec.cols, 64)))
    top = min(limits.gate_volts.high, 3.0)
    curve = gate_curve(list(gate_sweep(rram_device, sample, 0.8, top, 12, bias)))
    highest = 0.8 * float(curve.siemens[-1])
    levels = Levels(8, 0.1 * highest, highest, 0.02 * highest)
    network = map_network(weights, spec, levels, TwoColumn())
    gates = curve.nominal_gate(network.siemens)
    for _ in write_open_loop(rram_device, network.cells, gates, bias):
        pass
    rram_device.clock.sleep(1.0)
    return ProgrammedNetwork(rram_device, network)


def _connect(address: str, ledger: Path | None, config: pytest.Config) -> Connected:
    from rramhil.station import connect

    station = config.getoption("--rram-station")
    return connect(address, station=station, ledger=ledger, header={"purpose": "tests"})
