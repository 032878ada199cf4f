"""A line with faults between host and board, and what must hold on it whatever it does.

    with python_end(FullDie()) as end:
        tally = exercise(Line(end, FAULTS, seed=1), frames=20_000, seed=1)
    assert tally.violations() == {}

The host is the driver that users have, over a port of pyserial's (`faulty://`), so all that it
does about damage is its own. Tests and `scripts/bench wires` use the same code.
"""

from .books import DOUBLED, FALSE_ACCEPTS, LOST, POLICY, RESYNC, Tally
from .damage import FAULTS, NO_FAULTS
from .dies import FullDie
from .ends import BoardEnd, firmware_end, python_end
from .exercise import exercise
from .line import Line

__all__ = [
    "DOUBLED",
    "FALSE_ACCEPTS",
    "FAULTS",
    "LOST",
    "NO_FAULTS",
    "POLICY",
    "RESYNC",
    "BoardEnd",
    "FullDie",
    "Line",
    "Tally",
    "exercise",
    "firmware_end",
    "python_end",
]
