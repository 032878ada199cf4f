"""The chip file: every parameter of an emulated die, and where its number comes from.

A chip file is TOML with SI numbers (or texts with a unit, "0.2 V"). Every table has a
`source`: a citation, or the script and the data that the numbers were fitted to. An unknown
key is an error that names the nearest known one.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from rramhil.device import Kind
from rramhil.schema import FileError, Siemens, Volts, check, read_toml
from rramhil.words import nearest
from rramhil_drivers.emulator.ageing_laws import (
    MOST_SIEMENS,
    Disturb,
    Endurance,
    Fraction,
    Noise,
    Relaxation,
    Retention,
)
from rramhil_drivers.emulator.periphery import (
    Columns,
    Converter,
    Geometry,
    LnSpread,
    NotNegative,
    NotNegativeVolts,
    OnChip,
    Positive,
    PositiveSeconds,
    PositiveSiemens,
    PulseSettings,
    Reading,
    Sourced,
    Table,
    TableSiemens,
    Temperature,
    Wires,
)

MOST_LOST_VOLTS = 3.0
MOST_FLOOR_EXPONENT = 70.0
"""e to this, times `depth`, is still a float32."""
MOST_LN_SCALE = 127 / 64
"""Of what the emulated cells' small integers hold (see `pulsed`), as `MOST_SIEMENS`."""
Law = Literal["multiplicative", "lognormal", "share_of_range"]


class Faults(Sourced):
    """Cells that never move.

    `stuck_lrs`, `stuck_hrs`: share of all cells, independent of each other. `stuck_rows`:
    share of the rows that carry a cluster; in such a row `row_share` of the cells are stuck,
    `row_lrs_share` of them in LRS. Stuck conductances are uniform in the logarithm.
    """

    stuck_lrs: Fraction
    stuck_hrs: Fraction
    stuck_rows: Fraction
    row_share: Fraction
    row_lrs_share: Fraction
    lrs_siemens: tuple[Positive, Positive]
    hrs_siemens: tuple[Positive, Positive]

    @model_validator(mode="after")
    def _possible(self) -> Faults:
        if self.stuck_lrs + self.stuck_hrs > 1:
            raise ValueError(
                f"stuck_lrs {self.stuck_lrs:g} and stuck_hrs {self.stuck_hrs:g} are more than all "
                "cells; lower one of them"
            )
        for name in ("lrs_siemens", "hrs_siemens"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must rise, from {low:g} to {high:g} it falls; swap them")
        return self


class SetWidth(Table):
    """How conductance follows gate overdrive at one pulse width: highest (1 - exp(-x^shape)).

    x = overdrive / scale; the overdrive is counted from `threshold_volts`. `cell_sd_volts`:
    spread of the threshold between cells; `pulse_sd_volts`: from pulse to pulse.
    """

    seconds: PositiveSeconds
    threshold_volts: Volts
    scale_volts: Annotated[Volts, Field(gt=0)]
    shape: Annotated[float, Field(ge=0.1, le=10)]
    highest_siemens: Annotated[Siemens, Field(gt=0)]
    cell_sd_volts: NotNegativeVolts
    pulse_sd_volts: NotNegativeVolts


class SetLaw(Sourced):
    """SET: a ratchet that grows with the logarithm of the time spent at an overdrive.

    `widths` in rising order of `seconds`, interpolated in log(seconds). `kinetic_volts`: one
    e-fold of further pulses counts as so much gate voltage. The scatter from pulse to pulse is
    Tukey h (`pulse_tail`) downwards, `pulse_upwards` times that upwards. `bl_shift_volts`:
    gate-voltage equivalent of one e-fold of BL voltage about `bl_reference_volts`; above
    `bl_threshold_volts` each volt on BL counts as `bl_gate_share` volts of overdrive, and the
    smaller of both counts, softly within `corner_volts`; `bl_cell_sd_volts`,
    `bl_pulse_sd_volts`: its spread between cells and from pulse to pulse. The scale of a cell
    is that of the array times exp(`scale_cell_sd` z), z normal; in a `weak_share` of the cells
    times exp(`weak_ln_scale` (1 - `weak_tail` + `weak_tail` e) + `weak_cell_sd` z), e exponential
    of mean 1. Of what the logarithm of a scale lies above 0 a `fresh_share` is drawn anew by each
    RESET, exponentially about the cell's own. The highest conductance of a cell is that of the
    array times exp(`highest_cell_sd` z).
    `limit_siemens`: no cell ever conducts more.
    """

    widths: Annotated[tuple[SetWidth, ...], Field(min_length=2)]
    kinetic_volts: Annotated[Volts, Field(gt=0)]
    pulse_tail: Annotated[float, Field(ge=0, le=2)]
    pulse_upwards: NotNegative
    bl_reference_volts: Annotated[Volts, Field(gt=0)]
    bl_shift_volts: NotNegativeVolts
    bl_threshold_volts: Volts
    bl_gate_share: Positive
    bl_cell_sd_volts: NotNegativeVolts
    bl_pulse_sd_volts: NotNegativeVolts
    corner_volts: Annotated[Volts, Field(gt=0)]
    scale_cell_sd: Annotated[float, Field(ge=0, le=MOST_LN_SCALE)]
    weak_share: Fraction
    weak_ln_scale: Annotated[float, Field(ge=-MOST_LN_SCALE, le=MOST_LN_SCALE)]
    weak_cell_sd: Annotated[float, Field(ge=0, le=MOST_LN_SCALE)]
    weak_tail: Fraction = 0.0
    fresh_share: Fraction = 0.0
    highest_cell_sd: LnSpread = 0.0
    limit_siemens: Annotated[Siemens, Field(gt=0, le=MOST_SIEMENS)]

    @model_validator(mode="after")
    def _rising(self) -> SetLaw:
        times = [w.seconds for w in self.widths]
        if times != sorted(set(times)):
            raise ValueError("the widths must stand in rising order of seconds; sort them")
        return self


class ResetLaw(Sourced):
    """RESET: an abrupt drop once the source line passes a threshold, else a small drop.

    The transistor passes at most `gate - body_volts` from the source line (source follower).
    The threshold belongs to the filament that the last SET built: `threshold_volts` at the
    conductance `siemens` that it had then (rising, interpolated), times (G / G then) to the
    power `broken_power` once part of it is gone. `width_volts_per_decade`: how much lower it
    lies for a pulse ten times `reference_seconds`. A drop covers a random share of ln G down
    to where a full RESET would land, 1 - exp(-k E) with E exponential and k = `least_share`
    + (overdrive / `share_volts`)^2.
    """

    reference_seconds: PositiveSeconds
    width_volts_per_decade: NotNegative
    body_volts: Volts
    follower_softness_volts: Annotated[Volts, Field(gt=0)]
    siemens: tuple[Annotated[TableSiemens, Field(gt=0)], ...]
    threshold_volts: tuple[float, ...]
    broken_power: NotNegative
    cell_sd: NotNegative
    pulse_sd: NotNegative
    least_share: Positive
    share_volts: Positive
    creep: Fraction
    creep_volts: Positive

    @model_validator(mode="after")
    def _matching(self) -> ResetLaw:
        if len(self.siemens) != len(self.threshold_volts) or len(self.siemens) < 2:
            raise ValueError("siemens and threshold_volts need two or more entries, equally many")
        if list(self.siemens) != sorted(set(self.siemens)):
            raise ValueError("siemens must rise; sort the entries")
        return self


class HighResistance(Sourced):
    """Where a full RESET lands: lognormal, deeper with voltage.

    Median floor(V) = siemens (1 + depth exp(-(V - reference_volts)/scale_volts))
    exp(-(V - reference_volts) per_volt). `cell_sd`, `cycle_sd`: standard deviations of ln G
    between cells and from one full RESET to the next; `repeat_sd`: for further pulses on a
    cell that lies below `full_siemens` already. In a `hard_share` of the cells
    `hard_volts` of the drive are lost, with a spread of `hard_cell_sd_volts` (the persistent
    hard-to-RESET share). No landing lies outside `lowest_siemens` to `highest_siemens`.
    """

    siemens: PositiveSiemens
    reference_volts: Volts
    depth: NotNegative
    scale_volts: Annotated[Volts, Field(gt=0)]
    per_volt: NotNegative
    cell_sd: LnSpread
    cycle_sd: LnSpread
    repeat_sd: LnSpread
    full_siemens: PositiveSiemens
    hard_share: Fraction
    hard_volts: Annotated[Volts, Field(ge=0, le=MOST_LOST_VOLTS)]
    hard_cell_sd_volts: NotNegativeVolts
    lowest_siemens: PositiveSiemens
    highest_siemens: PositiveSiemens

    @model_validator(mode="after")
    def _ordered(self) -> HighResistance:
        if not self.lowest_siemens < self.highest_siemens:
            raise ValueError(
                f"lowest_siemens {self.lowest_siemens:g} does not lie below highest_siemens "
                f"{self.highest_siemens:g}; swap them"
            )
        reach = abs(self.reference_volts) + MOST_LOST_VOLTS
        if reach * (1 / self.scale_volts + self.per_volt) > MOST_FLOOR_EXPONENT:
            raise ValueError(
                f"the floor {self.reference_volts:g} V below reference_volts is not finite; lower "
                "reference_volts or per_volt, or raise scale_volts"
            )
        return self


class FormLaw(Sourced):
    """Forming: at or above the cell's forming voltage, with the gate at `gate_volts` or more.

    It is normal with `volts` and `cell_sd`, and for `easy_share` of the cells lower by an
    exponentially distributed voltage of mean `easy_volts`, never below `lowest_volts`.
    """

    volts: Volts
    cell_sd: NotNegative
    easy_share: Fraction = 0.0
    easy_volts: NotNegative = 0.0
    lowest_volts: NotNegativeVolts = 0.0
    gate_volts: Volts
    siemens: PositiveSiemens
    ln_sd: LnSpread
    unformed_siemens: PositiveSiemens
    birth_reset_volts: NotNegativeVolts


class PulsedLaws(Table):
    """The pulse-level cell: what each kind of pulse and time do to it.

    Without `retention`, `disturb` or `endurance` a cell ages alike at all temperatures, is left
    alone by readings, or does not wear.
    """

    set: SetLaw
    reset: ResetLaw
    hrs: HighResistance
    form: FormLaw
    noise: Noise
    relaxation: Relaxation
    retention: Retention | None = None
    disturb: Disturb | None = None
    endurance: Endurance | None = None


class StatisticalLaw(Sourced):
    """An open-loop write that lands at its target times a named law.

    A SET pulse with gate voltage v aims at lowest + (v - gate_low) / (gate_high - gate_low)
    (highest - lowest), whatever the cell held before; RESET aims at `lowest`.
    multiplicative: target (1 + sigma z); lognormal: target exp(sigma z); share_of_range:
    target + sigma (highest - lowest) z. `fixed_share` of the variance of z belongs to the
    cell for life, the rest is fresh for each write. `disturb`: what readings do, if anything.
    """

    law: Law
    sigma: NotNegative
    fixed_share: Fraction
    lowest: Siemens
    highest: Siemens
    gate_low: Volts
    gate_high: Volts
    read_sd: Annotated[Siemens, Field(ge=0)]
    ceiling: PositiveSiemens
    disturb: Disturb | None = None

    @property
    def hops(self) -> Disturb | None:
        """The law of read disturb, None where it moves nothing."""
        return self.disturb if self.disturb is not None and self.disturb.hops_per_second else None

    @model_validator(mode="after")
    def _ordered(self) -> StatisticalLaw:
        if not self.gate_low < self.gate_high:
            raise ValueError(
                f"gate_low {self.gate_low:g} V does not lie below gate_high {self.gate_high:g} V; "
                "lower the one or raise the other"
            )
        return self


class ChipFile(Table):
    """A whole chip file: exactly one of `cells` (pulse level) and `statistical`.

    In the file `cells_from` may name a preset whose [cells.*] these are. Without `converter` the
    macro computes no product, without `columns` its columns have no errors and no trim, without
    `wires` its lines are ideal, without `program` it has no write-verify of its own.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$")]
    about: str
    geometry: Geometry
    reading: Reading
    set: PulseSettings
    reset: PulseSettings
    form: PulseSettings | None = None
    converter: Converter | None = None
    columns: Columns | None = None
    temperature: Temperature | None = None
    wires: Wires | None = None
    program: OnChip | None = None
    faults: Faults
    cells: PulsedLaws | None = None
    statistical: StatisticalLaw | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> ChipFile:
        if (self.cells is None) == (self.statistical is None):
            raise ValueError("a chip has either [cells.*] or [statistical]; write one of them")
        retention = self.cells.retention if self.cells is not None else None
        if retention is not None and self.temperature is not None:
            here, there = self.temperature.reference_kelvin, retention.reference_kelvin
            if here != there:
                raise ValueError(
                    f"temperature.reference_kelvin {here:g} is not the {there:g} of "
                    "cells.retention; a die at its reference temperature must age at rate 1"
                )
        laws = self.cells or self.statistical
        if laws is not None and laws.disturb is not None:
            table = "cells.disturb" if self.cells is not None else "statistical.disturb"
            laws.disturb.check_reading(self.reading.volts, self.reading.seconds, table)
            if self.converter is not None:
                laws.disturb.check_reading(self.reading.volts, self.converter.seconds, table)
        if self.cells is not None:
            times = [w.seconds for w in self.cells.set.widths]
            allowed = self.set.seconds
            if allowed.low < times[0] * 0.999 or allowed.high > times[-1] * 1.001:
                raise ValueError(
                    f"set.seconds {allowed.low:g} to {allowed.high:g} s leaves the fitted widths "
                    f"{times[0]:g} to {times[-1]:g} s; narrow it or fit more widths"
                )
            if self.form is not None and self.form.seconds.low < times[0] * 0.999:
                raise ValueError(
                    f"form.seconds.low {self.form.seconds.low:g} s lies below the shortest width "
                    f"{times[0]:g} s of cells.set, which a formed cell would follow; raise it"
                )
        return self

    @model_validator(mode="after")
    def _periphery(self) -> ChipFile:
        if self.columns is not None and self.converter is None:
            raise ValueError("[columns] belong to a [converter]; write one or leave them out")
        if self.wires is not None and self.converter is not None:
            self.wires.check_converter(self.converter, self.geometry.rows)
        own = self.program
        if own is None:
            return self
        for name, value, limit in (
            ("set_volts", own.set_volts, self.set.volts),
            ("set_gate.start", own.set_gate.start, self.set.gate_volts),
            ("set_gate.stop", own.set_gate.stop, self.set.gate_volts),
            ("set_seconds", own.set_seconds, self.set.seconds),
            ("reset_volts.start", own.reset_volts.start, self.reset.volts),
            ("reset_volts.stop", own.reset_volts.stop, self.reset.volts),
            ("reset_gate_volts", own.reset_gate_volts, self.reset.gate_volts),
            ("reset_seconds", own.reset_seconds, self.reset.seconds),
        ):
            if limit.as_range().first_outside(value) is not None:
                raise ValueError(
                    f"program.{name} {value:g} is outside {limit.low:g} to {limit.high:g} or off "
                    "the grid of its pulses; move it there"
                )
        return self

    def settings(self) -> dict[Kind, PulseSettings]:
        """Pulse settings of each kind that the chip does."""
        kinds = {Kind.SET: self.set, Kind.RESET: self.reset, Kind.FORM: self.form}
        return {kind: value for kind, value in kinds.items() if value is not None}


def preset_names() -> list[str]:
    """Chip files that come with rramhil, by name."""
    folder = files("rramhil_fixtures") / "chips"
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if _is_toml(p.name))


def load_chip(path: str) -> ChipFile:
    """The chip `path`: a preset name such as '40nm', or the path of a .toml file.

    Raises `FileError` in one sentence that names the file, the key and the nearest known one.
    """
    if is_file(path):
        return _load(Path(path))
    if path not in preset_names():
        raise FileError(
            f"the emulator has no preset {path!r}{nearest(path, preset_names())} "
            "(a chip file of your own is named by its path, ./chip.toml)"
        )
    with as_file(files("rramhil_fixtures") / "chips" / f"{path}.toml") as file:
        return _load(file)


def _load(path: Path) -> ChipFile:
    """The chip at `path`, with the [cells.*] of the preset that it names in `cells_from`."""
    table = read_toml(path)
    if "cells_from" in table:
        other = table.pop("cells_from")
        if "cells" in table or other not in preset_names():
            raise FileError(
                f"{path}: cells_from = {other!r} needs a preset with [cells.*] "
                f"({', '.join(preset_names())}), and no [cells.*] beside it"
            )
        with as_file(files("rramhil_fixtures") / "chips" / f"{other}.toml") as file:
            table["cells"] = read_toml(file).get("cells")
    return check(table, ChipFile, str(path))


def is_file(path: str) -> bool:
    """Whether `path` of an address names a file, not a preset."""
    return _is_toml(path) or "/" in path


def content_mark(path: str) -> str:
    """Six hexadecimal digits of what the chip file at `path` says; comments do not count.

    Raises `FileError` like `load_chip`.
    """
    text = json.dumps(read_toml(Path(path)), sort_keys=True, default=str)
    return blake2b(text.encode(), digest_size=3).hexdigest()


def _is_toml(name: str) -> bool:
    return name.endswith(".toml")
