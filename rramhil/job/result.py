"""The documented result of a run: what `rramhil run --json` prints and `result.json` holds."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rramhil.cost import Cost
from rramhil.estimate import Quantity

Outcome = Literal["waiting", "running", "stopped", "finished", "failed"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DeviceInfo(_Model):
    """The die that the run worked on."""

    model: str
    serial: str
    tiles: int
    rows: int
    cols: int


class Accuracies(_Model):
    """Fractions of the test images; repairs are added under their own names (rsa, rvw, ...)."""

    model_config = ConfigDict(extra="allow")

    teacher: float | None = Field(None, description="the network in floating point")
    ideal_mapping: float | None = Field(
        None, description="same levels, scale and clipping; no variation, noise, fault or drift"
    )
    open_loop: float | None = Field(None, description="as first programmed, by readback")

    def add(self, name: str, share: float) -> None:
        """Keep `share` under `name`, also where the model has an attribute of that name."""
        if name in type(self).model_fields or self.model_extra is None:
            setattr(self, name, share)
        else:
            self.model_extra[name] = share


class Interval(_Model):
    """A 95 % Wilson interval within this die, and the number of test images."""

    low: float
    high: float
    images: int


class WayTime(_Model):
    """Device time of one repair, and how many times faster it is than read-verify-write."""

    device_seconds: float
    with_programming_seconds: float = Field(description="the first programming included")
    speed_up: float | None = Field(None, description="of the repair alone")
    speed_up_with_programming: float | None = None


class Timings(_Model):
    """Device time of the repairs, and what it was reckoned with (see `rramhil.job.timing`)."""

    source: Literal["ledger", "job"] = Field(description="job: by its table [timing]")
    write_seconds: float = Field(description="of one pulse, a group of cells")
    read_seconds: float = Field(description="of one reading, a group of cells")
    writes_at_once: int
    reads_at_once: int
    sram_write_seconds: float = Field(description="of a number in digital memory")
    programming_seconds: float = Field(description="the first programming, common to all")
    compared_with: str | None = Field(None, description="the repair that speed-ups are over")
    ways: dict[str, WayTime] = Field(default_factory=dict)


class ConverterError(_Model):
    """Expected squared error of a layer's outputs for the converter's noise, by a law of it."""

    noise: str
    strength: float
    floor: float
    before: float = Field(description="rows in the order in which they came")
    after: float = Field(description="rows reordered")


class RowsOfLayer(_Model):
    """Rows of a layer that share physical ones, or were reordered (see `rramhil.mapping`)."""

    rows: int
    physical_rows: int
    saved_share: float = Field(description="of the layer's array")
    index_bits: int = Field(description="of the digital table of rows")
    most_shared: int = Field(description="rows that share one, at most")
    input_bits: int | None = Field(None, description="of added inputs, of an integer network")
    output_error: float = Field(0.0, description="of merging: its share of the outputs' variance")
    converter_error: list[ConverterError] = Field(default_factory=list)


class StepResult(_Model):
    """One step of the job: what it was, the ledger rows it spans, its price, its findings."""

    index: int
    name: str
    do: str
    outcome: Outcome = "waiting"
    first_row: int = 0
    last_row: int = 0
    done: int = Field(0, description="cells that an interrupted open-loop step had written")
    cost: Cost = Cost()
    partial: str | None = Field(None, description="file of what a stopped step had so far")
    findings: dict[str, float | int | str | bool | None] = Field(
        default_factory=dict, description="scalars of the step, in SI units"
    )
    arrays: str | None = Field(None, description="file of the step's arrays in the run's folder")


class RunResult(_Model):
    """Everything a script needs to know of a run."""

    run: str
    name: str
    outcome: Outcome
    address: str
    station: str | None = None
    device: DeviceInfo | None = Field(None, description="unknown until it was first connected")
    ledger: str = ""
    ledger_head: str = Field("", description="hash of the last row, for `ledger verify --head`")
    report: str | None = None
    folder: str
    seed: int
    versions: dict[str, str] = Field(default_factory=dict)
    splits: dict[str, str] = Field(default_factory=dict, description="sha256 of each set's indices")
    accuracy: Accuracies = Accuracies()
    intervals: dict[str, Interval] = Field(default_factory=dict)
    rows: dict[str, RowsOfLayer] = Field(
        default_factory=dict, description="layers whose rows are renamed or reordered"
    )
    cost: dict[str, Cost] = Field(
        default_factory=dict,
        description="open_loop carries the common scan and programming; then one a repair",
    )
    timing: Timings | None = Field(None, description="the repairs in device time, compared")
    estimates: list[Quantity] = Field(
        default_factory=list, description="of the network on the array, where a step is in situ"
    )
    steps: list[StepResult] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    error: str | None = Field(None, description="one sentence, when the run failed")

    @property
    def is_finished(self) -> bool:
        """Whether every step is done."""
        return all(step.outcome == "finished" for step in self.steps)

    @property
    def failed_before_a_step(self) -> bool:
        """Whether it failed before its first step began: there is nothing to go on from."""
        return self.outcome == "failed" and all(step.outcome == "waiting" for step in self.steps)
