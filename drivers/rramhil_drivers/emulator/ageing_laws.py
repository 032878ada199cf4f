"""The tables of a chip file that say what time, readings and use do to a cell.

Each has a `source`, as in `chipfile`. The laws themselves are in `ageing` and `fluctuation`.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, model_validator

from rramhil_drivers.emulator.periphery import (
    BOLTZMANN_EV,
    LnSpread,
    NotNegative,
    Positive,
    Sourced,
    TableSiemens,
)

Fraction = Annotated[float, Field(ge=0, le=1)]
Row = tuple[float, ...]
MOST_SIEMENS = 500e-6
"""What the emulated cells' small integers hold (see `pulsed`)."""
MOST_AGEING_EXPONENT = 600.0  # of a 64-bit float, with room
MOST_SINH = 300.0
MOST_HOPS = 1.0  # of a cell in one reading


class Noise(Sourced):
    """What a cell at rest fluctuates by; each list at `siemens`, straight between.

    `sd`: white, fresh for each reading. Each cell carries `traps` telegraph traps; a trap takes
    `step_siemens` (root mean square over traps; lognormal between traps with `step_ln_sd`) away
    while it is full. The times after which they are drawn anew lie evenly in the logarithm of
    `shortest_seconds` to `longest_seconds`, which makes 1/f noise of many; steps that grow with
    that time to the power `step_per_time` make it steeper, f^-(1 + 2 step_per_time).
    """

    siemens: tuple[TableSiemens, ...]
    sd: tuple[TableSiemens, ...]
    step_siemens: tuple[TableSiemens, ...]
    step_ln_sd: LnSpread
    step_per_time: Annotated[float, Field(ge=0, le=2)]
    traps: Annotated[int, Field(ge=0, le=8)]
    shortest_seconds: Positive
    longest_seconds: Positive

    @model_validator(mode="after")
    def _matching(self) -> Noise:
        if not len(self.siemens) == len(self.sd) == len(self.step_siemens) > 0:
            raise ValueError("siemens, sd and step_siemens need equally many entries, at least one")
        if list(self.siemens) != sorted(set(self.siemens)):
            raise ValueError("siemens must rise; sort the entries")
        if self.shortest_seconds >= self.longest_seconds:
            raise ValueError("longest_seconds must lie above shortest_seconds; swap them")
        return self


class Relaxation(Sourced):
    """Conductance change after a write, a distribution for each level and age.

    At a level of `siemens` and an age of `seconds` (one row of each table for each age, one
    entry for each level) the change is

        middle + n down exp(down_tail n^2 / 2)   for n < 0, with up and up_tail for n >= 0,
        n = early z1 + sqrt(1 - early^2) z2,

    z1, z2 standard normal, fresh for each write: Tukey's h distribution with a tail of its own
    on each side. Between levels and between ages (in log time) all numbers are straight; the
    change is 0 up to a tenth of the first age, and beyond the last the last slope of `middle`,
    `down` and `up` goes on, unless the spread falls. |n exp(...)| is cut at `largest`. The whole
    table of spreads is multiplied by `spread_factor`: 1 as fitted, other for a die of its own.
    """

    siemens: tuple[NotNegative, ...]
    seconds: tuple[Positive, ...]
    early: tuple[Fraction, ...]
    middle_siemens: tuple[Row, ...]
    down_siemens: tuple[Row, ...]
    up_siemens: tuple[Row, ...]
    down_tail: tuple[Row, ...]
    up_tail: tuple[Row, ...]
    largest: Annotated[float, Field(gt=0, le=1000)]
    spread_factor: NotNegative = 1.0

    @model_validator(mode="after")
    def _matching(self) -> Relaxation:
        if len(self.early) != len(self.seconds) or len(self.seconds) < 2:
            raise ValueError("seconds and early need two or more entries, equally many")
        for rising in (self.siemens, self.seconds):
            if list(rising) != sorted(set(rising)) or not rising:
                raise ValueError("siemens and seconds must rise; sort the entries")
        tables = (self.middle_siemens, *self.spreads())
        for table in tables:
            if [len(row) for row in table] != [len(self.siemens)] * len(self.seconds):
                raise ValueError("each table needs a row for each age, an entry for each level")
        if min(min(row) for table in self.spreads() for row in table) < 0:
            raise ValueError("spreads and tails must not lie below 0")
        return self

    def spreads(self) -> tuple[tuple[Row, ...], ...]:
        """down, up, down_tail, up_tail."""
        return self.down_siemens, self.up_siemens, self.down_tail, self.up_tail


class Retention(Sourced):
    """How much faster a cell ages at another temperature: Arrhenius' law.

    A second at T counts for exp(activation_ev / k (1 / reference_kelvin - 1 / T)) seconds of
    `Relaxation`, whose ages are at `reference_kelvin`.
    """

    activation_ev: NotNegative
    reference_kelvin: Positive

    @model_validator(mode="after")
    def _finite(self) -> Retention:
        if self.activation_ev / (BOLTZMANN_EV * self.reference_kelvin) > MOST_AGEING_EXPONENT:
            raise ValueError(
                f"activation_ev {self.activation_ev:g} about {self.reference_kelvin:g} K leaves no "
                "finite rate of ageing; lower it"
            )
        return self


class Disturb(Sourced):
    """What a reading does to the cell it reads: now and then an ion hops.

    `hops_per_second` at `volts`, growing as sinh(V / volts_per_e); each hop takes the cell by
    the share `step` of what it lacks to `saturation_siemens`, where the growth ends.
    0 hops per second: readings leave the state alone.
    """

    hops_per_second: NotNegative
    volts: Positive
    volts_per_e: Positive
    step: Fraction
    saturation_siemens: Annotated[float, Field(ge=0, le=MOST_SIEMENS)]

    def rate(self, volts: float) -> float:
        """Hops per second of a cell that is read at `volts`: sinh(V / volts_per_e).

        Drift by thermally activated hops in a field (N. F. Mott, R. W. Gurney, 1940); that the
        reading of HfO2 cells makes filaments grow towards a saturation, faster with the voltage,
        and that 0.3 V is the most for a two-bit cell: W. Shim, Y. Luo, J. Seo, S. Yu, IRPS 2020,
        doi 10.1109/IRPS45951.2020.9129252.
        """
        grown = math.sinh(abs(volts) / self.volts_per_e) / math.sinh(self.volts / self.volts_per_e)
        return self.hops_per_second * grown

    def check_reading(self, volts: float, seconds: float, table: str) -> None:
        """Raise ValueError where a reading of `seconds` at `volts` moves a cell more than once.

        `table`: where the law stands in its chip file.
        """
        if max(volts, self.volts) / self.volts_per_e > MOST_SINH:
            raise ValueError(
                f"{table}.volts_per_e {self.volts_per_e:g} is too small for "
                f"readings at {volts:g} V and the {self.volts:g} V of the law; raise it"
            )
        if self.rate(volts) * seconds > MOST_HOPS:
            raise ValueError(
                f"{table}.hops_per_second {self.hops_per_second:g} at {self.volts:g} V "
                f"moves a cell at every reading of {seconds:g} s at {volts:g} V; lower it"
            )


class Endurance(Sourced):
    """What use does to a cell, by its own count of RESET pulses N.

    Its fixed shift of the SET threshold grows by the factor 1 + widening log10(N / onset) for
    N > onset; it sticks for ever, at `stuck_siemens`, when N passes its life, which is Weibull
    distributed with scale `life` and `life_shape`.
    """

    onset: Positive
    widening: NotNegative
    life: Positive
    life_shape: Positive
    stuck_siemens: tuple[Positive, Positive]
