"""What is random while a die works: one generator for each purpose.

n numbers drawn from a generator at once are the n that it gives in pieces. So with a
generator for each purpose, and cells in the order of the call, what a cell draws does not
depend on how the call was cut into parts: through a link that carries 64 cells a frame a die
does what it does in one call. With one generator for all purposes each part would draw
numbers that were another purpose's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from rramhil_drivers.emulator.faults import noise_generator


@dataclass(frozen=True, slots=True)
class Noise:
    """Generators of read noise, pulses, levels after RESET, FORM, relaxation, read disturb.

    From `telegraph` nothing is drawn: it is the key of the traps' hash (see `fluctuation`).
    """

    read: np.random.Generator
    telegraph: np.random.Generator
    pulse: np.random.Generator
    cycle: np.random.Generator
    form: np.random.Generator
    early: np.random.Generator
    late: np.random.Generator
    hop: np.random.Generator

    @classmethod
    def seeded(cls, seed: int, die: int) -> Noise:
        """All of them, of one seed and die."""
        return cls(*(noise_generator(die, seed, kind) for kind in range(len(fields(cls)))))

    def saved(self) -> dict[str, Any]:
        """Where each generator is."""
        return {f.name: getattr(self, f.name).bit_generator.state for f in fields(self)}

    def restore(self, states: Mapping[str, Any]) -> None:
        """Take on what `saved` gave, numbers as JSON has them. Raises KeyError."""
        for field in fields(self):
            state = dict(states[field.name])
            inner = {k: np.array(v, dtype=np.uint64) for k, v in state["state"].items()}
            getattr(self, field.name).bit_generator.state = {**state, "state": inner}
