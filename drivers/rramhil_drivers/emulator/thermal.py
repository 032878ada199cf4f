"""The temperature of a die: what it does to conductances and to the converter's references."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rramhil.device import KnobLimits
from rramhil_drivers.emulator.columns import Response
from rramhil_drivers.emulator.periphery import BOLTZMANN_EV, Temperature

TEMPERATURE = "temperature"


class Thermal:
    """A die at `kelvin`. Without a law nothing depends on it, and there is no knob."""

    def __init__(self, law: Temperature | None) -> None:
        self._law = law
        self.kelvin = law.reference_kelvin if law else 0.0

    def knobs(self) -> dict[str, KnobLimits]:
        """The knob of the temperature, by name."""
        if self._law is None:
            return {}
        return {TEMPERATURE: KnobLimits(self._law.kelvin.as_range(), 1, "of the die, kelvin")}

    def siemens(self, at_reference: NDArray[np.float32]) -> NDArray[np.float32]:
        """Conductances at this temperature of cells that conduct `at_reference` at the reference.

        G(T) = G exp(-E(G)/k (1/T - 1/T_ref)), Arrhenius' law with an activation energy that
        depends on the state (see `Temperature`).
        """
        law = self._law
        if law is None or self.kelvin == law.reference_kelvin or not any(law.activation_ev):
            return at_reference
        energy = np.interp(at_reference, law.siemens, law.activation_ev)
        colder = (1 / self.kelvin - 1 / law.reference_kelvin) / BOLTZMANN_EV
        return np.asarray(at_reference * np.exp(-energy * colder), dtype=np.float32)

    def converted(self, columns: Response) -> Response:
        """How the columns convert when their references are at this temperature."""
        if self._law is None or self.kelvin == self._law.reference_kelvin:
            return columns
        grown = 1 + self._law.references_per_kelvin * (self.kelvin - self._law.reference_kelvin)
        return Response((columns.gain / np.float32(grown)).astype(np.float32), columns.offset)
