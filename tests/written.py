"""Dies that hold a network, each cell at its level without the pulses that bring it there."""

from __future__ import annotations

import numpy as np

from rramhil.address import open_device
from rramhil.device import Cells, Floats
from rramhil.mapping import Levels, MappedNetwork, find_scheme, map_network
from rramhil.nn.network import Network
from rramhil_drivers.emulator.die import EmulatedDie
from rramhil_drivers.emulator.faults import STUCK
from rramhil_drivers.emulator.pulsed import PulsedCells

LEVELS = Levels(16, 20e-6, 200e-6, 5e-6)


def conducting(
    address: str, network: Network, levels: Levels = LEVELS
) -> tuple[EmulatedDie, MappedNetwork]:
    """A die that holds the network, cells that are not stuck just written; a second later."""
    die = open_device(address)
    assert isinstance(die, EmulatedDie)
    assert isinstance(die._cells, PulsedCells)
    mapped = map_network(network.matrices(), die.spec, levels, find_scheme("two_column"))
    die.read(mapped.cells)
    place(die, mapped.cells, mapped.siemens)
    die.clock.sleep(1.0)
    return die, mapped


def place(die: EmulatedDie, cells: Cells, siemens: Floats) -> None:
    """Cells that are not stuck, just written to `siemens`."""
    assert isinstance(die._cells, PulsedCells)
    free = (die._cells.flags[cells] & STUCK) == 0
    die._cells.place(cells[free], siemens[free].astype(np.float32), die.clock.now(), die._noise)
    die._products.forget()
