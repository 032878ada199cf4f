"""The tables of a chip file that describe what stands around the cells.

Each has a `source` that says where its numbers come from, as in `chipfile`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from rramhil.device import Range
from rramhil.schema import Seconds, Siemens, Strict, Volts

MOST_TABLE_SIEMENS = 1023e-6
"""Where the emulator's tables of conductance end (see `physics.LevelTable`)."""
MOST_CELLS = 2**24
"""Cells of a tile at most."""
MOST_EXPONENT = 50.0
"""e to this times a conductance is still a float32."""
BOLTZMANN_EV = 8.617333e-5  # per kelvin (CODATA 2018)

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
PositiveSiemens = Annotated[Siemens, Field(gt=0)]
PositiveSeconds = Annotated[Seconds, Field(gt=0)]
CallSeconds = Annotated[Seconds, Field(ge=0, le=1000)]
NotNegativeVolts = Annotated[Volts, Field(ge=0, le=1000)]
TableSiemens = Annotated[float, Field(ge=0, le=MOST_TABLE_SIEMENS)]
LnSpread = Annotated[float, Field(ge=0, le=5)]
Count = Annotated[int, Field(ge=1)]
NoiseLaw = Literal["constant", "sqrt", "linear"]
RowOrder = Literal["index", "next_nonzero"]


class Table(Strict):
    """Parameters of a chip file: all numbers finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class Sourced(Table):
    """A group of parameters with one origin."""

    source: Annotated[str, Field(min_length=1)]


class Limits(Table):
    """A closed interval of settings on a grid; `step` 0 is continuous."""

    low: float
    high: float
    step: NotNegative = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} lies above high {self.high:g}; swap them")
        if self.low < self.high < self.low + self.step:
            raise ValueError(
                f"step {self.step:g} is wider than the range {self.low:g} to {self.high:g}; "
                "lower it"
            )
        return self

    def as_range(self) -> Range:
        return Range(self.low, self.high, self.step)


class Geometry(Sourced):
    """Cells of a tile and tiles of a die."""

    rows: Count
    cols: Count
    tiles: Annotated[int, Field(ge=1, le=4096)]

    @model_validator(mode="after")
    def _in_memory(self) -> Geometry:
        if self.rows * self.cols > MOST_CELLS:
            raise ValueError(
                f"{self.rows} rows x {self.cols} cols are more than the {MOST_CELLS} cells of a "
                "tile that the emulator holds; take more tiles"
            )
        return self


class Reading(Sourced):
    """How a conductance is read; `seconds` for one group of `cells_at_once` cells.

    `references`, rising: a threshold reader gives the highest one that the cell reaches, 0 below
    the first; they replace `lowest`, `highest` and `lsb` as its grid and must lie on them.
    """

    lowest: Annotated[Siemens, Field(ge=0)]
    highest: PositiveSiemens
    lsb: PositiveSiemens
    volts: NotNegativeVolts
    gate_volts: Volts
    seconds: CallSeconds
    cells_at_once: Count
    references: tuple[Siemens, ...] = ()

    @model_validator(mode="after")
    def _on_grid(self) -> Reading:
        if not self.lowest < self.highest:
            raise ValueError(
                f"lowest {self.lowest:g} S does not lie below highest {self.highest:g} S; swap them"
            )
        if list(self.references) != sorted(set(self.references)):
            raise ValueError("references must rise; sort them")
        grid = Range(self.lowest, self.highest, self.lsb)
        off = grid.first_outside(self.references) if self.references else None
        if off is not None:
            raise ValueError(
                f"the reference {off:g} S is no multiple of the lsb from lowest to highest; move it"
            )
        return self


class PulseSettings(Sourced):
    """What a pulse of one kind may be, and the time that a group takes beside its width."""

    volts: Limits
    gate_volts: Limits
    seconds: Limits
    overhead_seconds: CallSeconds
    cells_at_once: Count

    @model_validator(mode="after")
    def _takes_time(self) -> PulseSettings:
        if self.seconds.low <= 0:
            raise ValueError(f"seconds.low {self.seconds.low:g} s is no pulse width; raise it")
        return self


class ConverterNoise(Sourced):
    """Noise of a conversion in codes, at a sum of s codes, by a named law.

    constant: sd = floor_codes; sqrt: sd^2 = floor_codes^2 + strength^2 s (shot noise, whose power
    grows with the current: W. Schottky, Ann. Phys. 362, 541, 1918); linear: sd^2 = floor_codes^2 +
    (strength s)^2 (noise of a reference or of the read voltage).
    """

    law: NoiseLaw
    floor_codes: NotNegative
    strength: NotNegative


class Converter(Sourced):
    """The product: `bits` per conversion of at most `rows_at_once` rows, in `row_order`.

    `bits_at_once` input bits are in one conversion: 1 for bit-serial inputs, all of them where
    the input is an amplitude or accumulated on a capacitor. A code is `siemens_per_code` times an
    input code of 1. `joules`: one conversion of one column.
    """

    input_bits: Annotated[int, Field(ge=1, le=16)]
    bits_at_once: Annotated[int, Field(ge=1, le=16)]
    rows_at_once: Count
    row_order: RowOrder
    bits: Annotated[int, Field(ge=1, le=16)]
    siemens_per_code: Annotated[Siemens, Field(gt=0)]
    seconds: CallSeconds
    joules: NotNegative
    noise: ConverterNoise

    @model_validator(mode="after")
    def _whole_slices(self) -> Converter:
        if self.bits_at_once not in (1, self.input_bits):
            raise ValueError(
                f"bits_at_once {self.bits_at_once} is neither 1 nor the {self.input_bits} of "
                "input_bits; choose 1 or all of them"
            )
        return self

    @property
    def slices(self) -> int:
        """Conversions that the bits of one input need."""
        return self.input_bits // self.bits_at_once


class Wires(Sourced):
    """Resistance of lines, drivers and sense inputs; without this table they are ideal.

    `crossed`: inputs drive row lines, columns gather; `columns`: inputs gate the word lines, and
    both lines of a cell run along its column (see docs/emulator.md). `row_ohms`, `column_ohms`:
    one segment, from cell to cell.
    """

    layout: Literal["crossed", "columns"]
    row_ohms: NotNegative = 0.0
    column_ohms: NotNegative
    driver_ohms: NotNegative
    sense_ohms: NotNegative

    @model_validator(mode="after")
    def _along(self) -> Wires:
        if self.layout == "columns" and self.row_ohms:
            raise ValueError(
                f"row_ohms {self.row_ohms:g}: with layout 'columns' no current flows along a row; "
                "leave row_ohms out, or take layout 'crossed'"
            )
        return self

    def check_converter(self, converter: Converter, rows: int) -> None:
        """Raise ValueError for a converter whose groups these wires cannot have."""
        if self.layout == "columns" and converter.bits_at_once > 1:
            raise ValueError(
                f"bits_at_once {converter.bits_at_once}: with wires of layout 'columns' an input "
                "opens a gate or does not; set bits_at_once 1, or take layout 'crossed'"
            )
        if (
            self.layout == "crossed"
            and converter.row_order == "next_nonzero"
            and converter.rows_at_once < rows
        ):
            raise ValueError(
                "row_order 'next_nonzero': with wires of layout 'crossed' each group of rows is a "
                "network that must not change with the input; set row_order 'index', or take "
                "layout 'columns'"
            )


class Columns(Sourced):
    """Errors of the columns of a die before trim, and the references that trim them.

    A column's gain is lognormal about 1 with coefficient of variation `gain_cv`; its offset is
    normal about `offset_mean` with `offset_sd`, both as a share of the converter's full scale.
    The references multiply by `gain_trim` and add `offset_trim` codes.
    """

    gain_cv: NotNegative
    offset_mean: float
    offset_sd: NotNegative
    gain_trim: Limits
    offset_trim: Limits

    @model_validator(mode="after")
    def _trims(self) -> Columns:
        for name, trim, neutral in (
            ("gain_trim", self.gain_trim, 1.0),
            ("offset_trim", self.offset_trim, 0.0),
        ):
            if trim.step <= 0 or trim.as_range().first_outside(neutral) is not None:
                raise ValueError(f"{name} needs a step, and {neutral:g} on its grid")
        if self.gain_trim.low <= 0:
            raise ValueError("gain_trim must stay above 0; raise low")
        return self


class Temperature(Sourced):
    """What the temperature does, about `reference_kelvin`, where every other table holds.

    The conductance follows Arrhenius' law, as hopping between neighbours does (A. Miller,
    E. Abrahams, Phys. Rev. 120, 745, 1960), with `activation_ev` at `siemens`, interpolated. The
    converter's references grow by the share `references_per_kelvin`: 0 is temperature-stable.
    """

    reference_kelvin: Positive
    kelvin: Limits
    siemens: Annotated[tuple[NotNegative, ...], Field(min_length=1)]
    activation_ev: tuple[float, ...]
    references_per_kelvin: float

    @model_validator(mode="after")
    def _in_range(self) -> Temperature:
        if len(self.siemens) != len(self.activation_ev):
            raise ValueError("siemens and activation_ev need equally many entries")
        if self.kelvin.low <= 0 or self.kelvin.step <= 0:
            raise ValueError("kelvin needs a low above 0 and a step")
        if self.kelvin.as_range().first_outside(self.reference_kelvin) is not None:
            raise ValueError("reference_kelvin must lie in kelvin, on its grid")
        for kelvin in (self.kelvin.low, self.kelvin.high):
            if 1 + self.references_per_kelvin * (kelvin - self.reference_kelvin) <= 0:
                raise ValueError("references_per_kelvin leaves no reference at the ends of kelvin")
            per_ev = (1 / kelvin - 1 / self.reference_kelvin) / BOLTZMANN_EV
            if any(abs(energy * per_ev) > MOST_EXPONENT for energy in self.activation_ev):
                raise ValueError(
                    f"an activation_ev changes conductances at {kelvin:g} K by more than a factor "
                    f"exp({MOST_EXPONENT:g}); lower it, or narrow kelvin"
                )
        return self


class SteppedVolts(Table):
    """A voltage that rises by `step` a pulse from `start` to `stop`, and stays there."""

    start: NotNegativeVolts
    step: Annotated[Volts, Field(gt=0)]
    stop: NotNegativeVolts

    @model_validator(mode="after")
    def _rising(self) -> SteppedVolts:
        if self.stop < self.start:
            raise ValueError(f"stop {self.stop:g} V lies below start {self.start:g} V; swap them")
        return self


class OnChip(Sourced):
    """The write-verify that the macro does by itself, `cells_at_once` cells after another.

    A cell below its window is SET with a gate voltage that rises with each pulse, one above it
    RESET with a rising source line; each ramp starts anew when the direction turns. `attempts`:
    pulses a cell at most; `levels`: windows that the macro holds at once.
    """

    levels: Count
    attempts: Count
    cells_at_once: Count
    set_volts: NotNegativeVolts
    set_gate: SteppedVolts
    set_seconds: PositiveSeconds
    reset_volts: SteppedVolts
    reset_gate_volts: NotNegativeVolts
    reset_seconds: PositiveSeconds
