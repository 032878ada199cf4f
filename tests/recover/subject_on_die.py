"""The digits network written open loop on an emulated statistical die, ready to be fine-tuned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from digits_network import network
from numpy.typing import NDArray

from rramhil.address import open_device
from rramhil.device import Cells, Device, Floats, Kind
from rramhil.mapping import Levels, find_scheme, map_network
from rramhil.nn.written import WrittenNetwork, measure_errors
from rramhil.recover.fine_tune import Chip, FineTuning
from rramhil.verify import Bias, settled_reading, write_open_loop

HIGHEST = 400e-6


def gates(siemens: NDArray[np.float64]) -> NDArray[np.float64]:
    """The gate voltage that the statistical chip wants for a target."""
    return 1.0 + 2.0 * (siemens - 1e-6) / 39e-6


@dataclass
class OnDie:
    device: Device
    cells: Cells
    chip: Chip
    first: Floats

    def begun(self) -> FineTuning:
        return FineTuning.begun(network(), self.chip.written, self.first)

    def sets(self) -> NDArray[np.int64]:
        counted: NDArray[np.int64] = self.device.pulses_counted(Kind.SET)  # type: ignore[attr-defined]
        return counted[self.cells]


def on_die(
    options: str, scheme: str = "two_column", lowest: float = 1e-6, readings: int = 0
) -> OnDie:
    """Written once, then read that often; the cells that do not move are known."""
    device = open_device(f"emulator:statistical?{options}")
    levels = Levels(10, lowest, 40e-6, 2e-6)
    mapped = map_network(network().matrices(), device.spec, levels, find_scheme(scheme))
    extremes = []
    for siemens in (40e-6, 1e-6):
        target = np.full(mapped.cells.size, siemens)
        for _ in write_open_loop(device, mapped.cells, gates(target)):
            pass
        extremes.append(device.read(mapped.cells))
    bad = (np.abs(extremes[0] - extremes[1]) < 2e-6) & ("stuck" in options)
    for _ in write_open_loop(device, mapped.cells, gates(mapped.siemens)):
        pass
    written_once = settled_reading(device, mapped.cells)
    errors = measure_errors(levels, mapped.siemens, written_once, ~bad)
    if readings:
        device.adjust("readings", readings)
    first = settled_reading(device, mapped.cells)
    stuck = np.where(bad, first, np.nan).astype(np.float64)
    chip = Chip(device, WrittenNetwork(mapped, errors, stuck), gates, HIGHEST, Bias())
    return OnDie(device, mapped.cells, chip, first)
