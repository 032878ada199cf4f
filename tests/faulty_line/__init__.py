"""A line with faults between host and board, and what must hold on it whatever it does.

    line = Line(PythonEnd(Board(FakeDie())), FAULTS, seed=1)
    tally = exercise(line, frames=20_000, seed=1)
    assert tally.violations() == {}

The host is the driver that users have, over a port of pyserial's (`faulty://`), so all that it
does about damage is its own. Tests and `scripts/bench wires` use the same code.
"""

from .damage import FAULTS, NO_FAULTS
from .ends import BoardEnd, DescriptorEnd, PythonEnd
from .exercise import Tally, exercise
from .line import Line

__all__ = [
    "FAULTS",
    "NO_FAULTS",
    "BoardEnd",
    "DescriptorEnd",
    "Line",
    "PythonEnd",
    "Tally",
    "exercise",
]
