"""What a die is born with: its faults and the fixed parameters of its cells.

Everything here is drawn from the die's number alone, tile by tile, so it depends neither on
the noise seed nor on the order of calls.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from rramhil_drivers.emulator.chipfile import Faults

FORMED = np.uint8(1)
STUCK_LRS = np.uint8(2)
STUCK_HRS = np.uint8(4)
STUCK = STUCK_LRS | STUCK_HRS


class Purpose(IntEnum):
    """What a stream of random numbers is for. Not 0: numpy pads its seeds with zeros."""

    FAULTS = 1
    FIXED = 2
    BIRTH = 3
    FORMING = 4
    NOISE = 5
    COLUMNS = 11
    LIFE = 16


def tile_generator(die: int, tile: int, purpose: Purpose) -> np.random.Generator:
    """The generator of one purpose (faults, birth, ...) of one tile of one die."""
    return _generator(die, purpose, tile)


def noise_generator(die: int, seed: int, kind: int) -> np.random.Generator:
    """The generator of one kind of noise of a die (see `Noise`)."""
    return _generator(die, Purpose.NOISE, seed, kind)


def _generator(die: int, purpose: Purpose, *numbers: int) -> np.random.Generator:
    # A spawn key is appended to a die's number that fills a whole pool, so that no two keys meet.
    seed = np.random.SeedSequence(die, spawn_key=(purpose, *numbers))
    return np.random.Generator(np.random.SFC64(seed))


def draw_faults(
    law: Faults, rows: int, cols: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(flags, stuck conductance) of the cells of a tile, each of shape (rows * cols,).

    Independent faults come first; a clustered row then overrides them. Row clusters follow
    what public test chips show (several failing cells on one word line).
    """
    flags = np.zeros((rows, cols), dtype=np.uint8)
    pick = rng.random((rows, cols))
    flags[pick < law.stuck_lrs] = STUCK_LRS
    flags[(pick >= law.stuck_lrs) & (pick < law.stuck_lrs + law.stuck_hrs)] = STUCK_HRS
    in_row = rng.random(rows) < law.stuck_rows
    struck = in_row[:, None] & (rng.random((rows, cols)) < law.row_share)
    is_lrs = rng.random((rows, cols)) < law.row_lrs_share
    flags[struck] = np.where(is_lrs[struck], STUCK_LRS, STUCK_HRS)
    place = rng.random((rows, cols))
    lrs = _between(law.lrs_siemens, place)
    hrs = _between(law.hrs_siemens, place)
    siemens = np.where(flags == STUCK_LRS, lrs, np.where(flags == STUCK_HRS, hrs, 0.0))
    return flags.reshape(-1), siemens.astype(np.float32).reshape(-1)


def _between(ends: tuple[float, float], place: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.log(ends)
    return np.asarray(np.exp(low + place * (high - low)), dtype=np.float64)
