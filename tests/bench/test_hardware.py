"""A chip on the bench: every promise of a device, and a short write. Opt-in.

    RRAMHIL_SCRATCH=0-31 pytest tests/bench --rram-device=serial:/dev/ttyUSB0

Without a board's address nothing happens here, and only the cells of RRAMHIL_SCRATCH (flat
numbers, first-last) are ever pulsed: without it no cell is. Whatever is done stands in the
die's own ledger, and the limits of `--rram-station` hold.
"""

from __future__ import annotations

import os
import re

import numpy as np
import pytest

from rramhil.address import parse_address
from rramhil.conformance import Outcome, check
from rramhil.device import Cells, Device, Kind
from rramhil.verify import ISPP, Target, program

pytestmark = pytest.mark.timeout(1800)

RECIPE = ISPP(gate_start_volts=1.0, max_pulses=60)
TOP_GATE_VOLTS = 2.4
WINDOWS = ((0.10, 0.25), (0.30, 0.60))
"""Shares of the highest conductance that the chip can read."""


@pytest.fixture(autouse=True)
def _only_on_a_bench(pytestconfig: pytest.Config) -> None:
    address = pytestconfig.getoption("--rram-device")
    if parse_address(address).scheme in ("emulator", "replay"):
        pytest.skip("no chip on a bench; give --rram-device=serial:/dev/ttyUSB0, for example")


@pytest.fixture
def scratch() -> Cells:
    """The cells that may be pulsed."""
    text = os.environ.get("RRAMHIL_SCRATCH", "")
    if not text:
        pytest.skip("no cell may be pulsed; RRAMHIL_SCRATCH=0-31 names the cells that may")
    ends = re.fullmatch(r"(\d+)-(\d+)", text)
    if ends is None or int(ends[1]) > int(ends[2]):
        pytest.fail(f"RRAMHIL_SCRATCH={text} is not first-last; write for example 0-31")
    return np.arange(int(ends[1]), int(ends[2]) + 1)


def test_a_row_can_be_read_and_nothing_else_is_done(rram_device: Device) -> None:
    row = rram_device.spec.cells(0, 0, range(rram_device.spec.cols))
    siemens = rram_device.read(row)
    print(f"row 0: {np.isnan(siemens).sum()} of {siemens.size} cells gave no answer")
    assert np.isfinite(siemens).mean() > 0.5


def test_every_promise(rram_device: Device, scratch: Cells) -> None:
    findings = list(check(rram_device, scratch))
    print(*findings, sep="\n")
    assert [str(f) for f in findings if f.outcome is Outcome.FAILED] == []


def test_a_short_write(rram_device: Device, scratch: Cells) -> None:
    limits = rram_device.spec.pulses.get(Kind.SET)
    if limits is None or limits.gate_volts is None or Kind.RESET not in rram_device.spec.pulses:
        pytest.skip(f"{rram_device.spec.model} has no gate voltage to write windows with")
    for low, high in WINDOWS:
        ends = [np.full(scratch.size, e * rram_device.spec.reading.highest) for e in (low, high)]
        target = Target(*ends, np.full(scratch.size, TOP_GATE_VOLTS))
        inside = np.zeros(scratch.size, bool)
        for turn in program(rram_device, scratch, target, RECIPE):
            inside = turn.inside
        print(f"{low:.0%} to {high:.0%} of the range: {inside.mean():.0%} of the cells")
        assert inside.mean() > 0.5
