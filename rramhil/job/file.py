"""The job file: which device, which network, which data, how it is mapped, which steps."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from rramhil.census import Thresholds
from rramhil.characterise import Plan, rising
from rramhil.job.after_care import Care, Recalibrate, Wait, Watch
from rramhil.job.recoveries import Recover, RecoverLowRank, Recovery
from rramhil.job.step import NAME, Compensate, Delay, Passes, StepSettings, refuse_keys
from rramhil.job.timing import TimingTable
from rramhil.mapping import SCHEMES, Levels, Scheme, find_scheme
from rramhil.mapping.conversions import LawName
from rramhil.schema import FileError, Siemens, Strict, check, read_toml
from rramhil.trim import TrimSettings
from rramhil.tune import Forming
from rramhil.verify import SDR, Bias, PulseVolts, Recipe
from rramhil.words import nearest

AUTO = "auto"
CHOICES = ("two_column", "differential", "one_column")
"""What `auto` chooses from, as far as they fit the die."""
RESERVED = ("teacher", "ideal_mapping")
BUILDS_ON = {
    "program": "needs cells that hold the network",
    "tune": "needs the gate voltage of each level",
}


class DeviceTable(Strict):
    """[device]: an address, and optionally a station file with the bench's own limits."""

    address: str = "emulator:40nm"
    station: str | None = None


class NetworkTable(Strict):
    """[network]: a trained network, by the name of a fixture or the path of its file."""

    name: str


class DataTable(Strict):
    """[data]: a data set by name, and where it lies if it does not come with rramhil.

    The split into train, calibration, validation and test images is the one that the network
    was trained with: otherwise its test images would be among those it learned from.
    """

    name: str
    folder: str | None = None


class InSituTable(Strict):
    """[in_situ]: how products on the array are taken, by every step that asks for some."""

    repeats: int = Field(1, ge=1, le=64, description="times a product is measured; their mean")
    input_percentile: float = Field(
        100.0, gt=50, le=100, description="of a layer's inputs above 0: what a full code stands for"
    )


class ReorderTable(Strict):
    """[mapping] reorder: the noise of a conversion in codes at a sum of S codes, and the search.

    `noise`: constant (strength), sqrt (strength x sqrt S) or linear (strength x S); `floor` is
    added in squares. `layers`: all by default.
    """

    noise: LawName = "sqrt"
    strength: float = Field(0.1, ge=0, le=10)
    floor: float = Field(0.05, ge=0, le=10)
    iterations: int = Field(3000, ge=1, le=1_000_000)
    images: int = Field(200, ge=1, le=5000)
    layers: list[str] | None = Field(None, min_length=1)


class MappingTable(Strict):
    """[mapping]: how weights become conductances."""

    scheme: str = Field("two_column", description="auto: decided by what a scan finds")
    slices: int | None = Field(None, ge=2, le=12, description="digits a weight, of bit_slices")
    levels: int = Field(10, ge=2, le=256)
    lowest: Siemens = 20e-6
    highest: Siemens = 200e-6
    tolerance: Siemens = Field(5e-6, description="a cell is at its level within +- this")
    percentile: float = Field(99.5, gt=50, le=100, description="of |w|: clipped beyond")
    scale: Literal["layer", "column"] = "layer"
    around_faults: bool = Field(False, description="place rows and columns by what a scan finds")
    rename: dict[str, Literal["equal"] | int] = Field(
        default_factory=dict, description="by layer: equal, or so many rows at most"
    )
    reorder: ReorderTable | None = None

    @field_validator("rename", mode="before")
    @classmethod
    def _rows_or_equal(cls, value: Any) -> Any:
        for name, rows in value.items() if isinstance(value, dict) else ():
            if rows != "equal" and (type(rows) is not int or rows < 1):
                raise ValueError(f'{name} = {rows!r}: give "equal", or a number of rows from 1')
        return value

    def as_levels(self) -> Levels:
        """The levels with their windows. Raises ValueError when they overlap."""
        return Levels(self.levels, self.lowest, self.highest, self.tolerance)

    def as_scheme(self, name: str | None = None) -> Scheme:
        """The scheme, or the one called `name`. Raises ValueError for one that is unknown or has
        no slices."""
        return find_scheme(name or self.scheme, self.slices)

    @model_validator(mode="after")
    def _sensible(self) -> MappingTable:
        levels = self.as_levels()
        if self.scheme != AUTO and self.scheme not in SCHEMES:
            hint = nearest(self.scheme, [*SCHEMES, AUTO])
            raise ValueError(f"there is no mapping scheme {self.scheme!r}{hint}")
        if self.reorder is not None and self.is_decided_by_scan:
            raise ValueError(
                "reorder chooses an order of the rows, and what a scan decides gives them other "
                "word lines; leave out reorder, or around_faults and the scheme 'auto'"
            )
        if self.scheme == AUTO and self.slices is not None:
            raise ValueError("slices belongs to the scheme 'bit_slices', not to 'auto'")
        for name in self.schemes():
            scheme = self.as_scheme(name)
            scheme.step(levels)
            if self.around_faults and (scheme.column_of(1, levels) < 0).any():
                raise ValueError(
                    f"the scheme {name!r} has a reference column, which around_faults cannot move; "
                    "use two_column, or around_faults = false"
                )
        return self

    def schemes(self) -> tuple[str, ...]:
        """The scheme, or those that are chosen from, the provisional one first."""
        return CHOICES if self.scheme == AUTO else (self.scheme,)

    @property
    def is_decided_by_scan(self) -> bool:
        """Whether something of the mapping is open until a scan has been done."""
        return self.scheme == AUTO or self.around_faults


def _check_sweep(step: StepSettings, what: str) -> None:
    """Raise ValueError where `first_<what>` of a sweep does not lie below `last_<what>`."""
    first, last = getattr(step, f"first_{what}"), getattr(step, f"last_{what}")
    if not first < last:
        raise ValueError(
            f"first_{what} {first:g} V does not lie below last_{what} {last:g} V; "
            "lower the one or raise the other"
        )


class Scan(StepSettings):
    """Readings after a RESET and after a strong SET: which cells are stuck, which are noisy."""

    do: Literal["scan"]
    reads: int = Field(3, ge=2)
    resets: int = Field(5, ge=1, description="RESETs that a cell may need before it is stuck")
    set_gate: PulseVolts = 3.0
    thresholds: Thresholds = Thresholds()

    @property
    def host_pulses(self) -> bool:
        return True


class Form(StepSettings):
    """FORM the cells that do not conduct yet."""

    do: Literal["form"]
    forming: Forming = Forming()

    @property
    def host_pulses(self) -> bool:
        return True


class Tune(StepSettings):
    """A gate sweep on a sample of cells: the gate voltage of each level on this die."""

    do: Literal["tune"]
    cells: int = Field(128, ge=8, le=4096)
    first_gate: PulseVolts = 1.4
    last_gate: PulseVolts = 3.6
    points: int = Field(45, ge=3)

    @property
    def host_pulses(self) -> bool:
        return True

    @model_validator(mode="after")
    def _rising(self) -> Tune:
        _check_sweep(self, "gate")
        return self


class Characterise(StepSettings):
    """An open-loop record of a sample: gate sweep, RESET ramp, relaxation; for `twin fit`."""

    do: Literal["characterise"]
    cells: int = Field(512, ge=32, le=4096)
    first_gate: PulseVolts = 1.8
    last_gate: PulseVolts = 3.4
    gate_points: int = Field(33, ge=3)
    first_sl: PulseVolts = 0.4
    last_sl: PulseVolts = 3.0
    sl_points: int = Field(27, ge=3)
    full_gate: PulseVolts = 3.2
    settle_gates: list[PulseVolts] = Field([2.3, 2.6], min_length=1)
    delays: list[Delay] = Field([0.01, 0.1, 1.0, 10.0, 100.0], min_length=1)

    @property
    def host_pulses(self) -> bool:
        return True

    def plan(self) -> Plan:
        """What is done, in order."""
        return Plan(
            (self.first_gate, self.last_gate, self.gate_points),
            (self.first_sl, self.last_sl, self.sl_points),
            self.full_gate,
            tuple(self.settle_gates),
            tuple(self.delays),
        )

    @model_validator(mode="after")
    def _rising(self) -> Characterise:
        _check_sweep(self, "gate")
        _check_sweep(self, "sl")
        if not rising(self.delays):
            raise ValueError("delays must rise, from more than 0 s; sort them")
        return self


class Program(StepSettings):
    """The first programming: open loop, with one of the recipes, or by the chip itself."""

    do: Literal["program"]
    how: Literal["open_loop", "verify", "on_chip"] = "open_loop"
    recipe: Recipe = SDR(first_reset=True)
    passes: Passes = 1
    compensate: Compensate = True

    @property
    def needs(self) -> tuple[str, ...]:
        return () if self.how == "on_chip" else ("tune",)

    @property
    def host_pulses(self) -> bool:
        return self.how != "on_chip"

    @property
    def writes(self) -> bool:
        return True

    @model_validator(mode="after")
    def _of_verify(self) -> Program:
        if self.how != "verify":
            refuse_keys(self, ("recipe", "passes", "compensate"), "how = 'verify'", self.how)
        return self


class Refresh(StepSettings):
    """The chip's own write-verify once more: cells that left their windows are written again."""

    do: Literal["refresh"]
    delay: Delay = 1.0

    @property
    def needs(self) -> tuple[str, ...]:
        return ("program",)

    @property
    def writes(self) -> bool:
        return True


class Trim(StepSettings):
    """Measure the columns in situ on what the cells hold, and set their references."""

    do: Literal["trim"]
    settings: TrimSettings = TrimSettings()

    @property
    def needs(self) -> tuple[str, ...]:
        return ("program",)


class Evaluate(StepSettings):
    """Accuracy on the test images from conductances read `delay` after the last write.

    `how` in_situ: from products that the array computes itself.
    """

    do: Literal["evaluate"]
    how: Literal["readback", "in_situ"] = "readback"
    delay: Delay = 1.0

    @property
    def needs(self) -> tuple[str, ...]:
        return ("program",)


class Stress(StepSettings):
    """Readings of every mapped cell for what they do to it, not for what they say."""

    do: Literal["stress"]
    reads: int = Field(1_000_000, ge=1, le=100_000_000)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("program",)


class Report(StepSettings):
    """Write the report. Without this step the run keeps its data and no report."""

    do: Literal["report"]


Step = Annotated[
    Scan
    | Form
    | Tune
    | Characterise
    | Program
    | Refresh
    | Trim
    | Evaluate
    | Stress
    | Recover
    | Wait
    | Watch
    | Recalibrate
    | Care
    | Report,
    Field(discriminator="do"),
]


class JobFile(Strict):
    """A whole job. `seed` is the seed of everything that the host draws."""

    name: str = Field(pattern=NAME)
    seed: int = Field(0, ge=0)
    device: DeviceTable = DeviceTable()
    network: NetworkTable
    data: DataTable
    mapping: MappingTable = MappingTable()
    writing: Bias = Bias()
    timing: TimingTable = TimingTable()
    in_situ: InSituTable = InSituTable()
    steps: list[Step] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique_names(self) -> JobFile:
        names = self.step_names()
        twice = sorted({n for n in names if names.count(n) > 1})
        taken = [name for name in RESERVED if name in names]
        if taken:
            raise ValueError(f"a step cannot be called {taken[0]!r}, which the result uses itself")
        if twice:
            raise ValueError(f"two steps are called {twice[0]!r}; give one of them a name")
        return self

    @model_validator(mode="after")
    def _in_order(self) -> JobFile:
        before: set[str] = set()
        for name, step in zip(self.step_names(), self.steps, strict=True):
            for other in step.needs:
                if other not in before:
                    raise ValueError(
                        f"the step {name!r} {BUILDS_ON[other]}; "
                        f"put a step {other!r} before {name!r}"
                    )
            before.add(step.do)
        return self

    @model_validator(mode="after")
    def _scans_before_it_maps(self) -> JobFile:
        if not self.mapping.is_decided_by_scan:
            return self
        key = 'scheme = "auto"' if self.mapping.scheme == AUTO else "around_faults = true"
        for name, step in zip(self.step_names(), self.steps, strict=True):
            if step.do == "scan":
                return self
            if step.do == "program":
                raise ValueError(
                    f"[mapping] {key} is decided by what a scan finds, but none comes before the "
                    f"step {name!r}; put a step 'scan' before it, or leave {key} out"
                )
        raise ValueError(
            f"[mapping] {key} is decided by what a scan finds, and the job has none; put a step "
            f"'scan' before 'program', or leave {key} out"
        )

    @model_validator(mode="after")
    def _calibrates_what_it_can(self) -> JobFile:
        low_rank = ""
        for name, step in zip(self.step_names(), self.steps, strict=True):
            if isinstance(step, Recovery) or step.writes:
                low_rank = name if isinstance(step, RecoverLowRank) else ""
            elif low_rank and isinstance(step, (Recalibrate, Care)):
                raise ValueError(
                    f"the step {name!r} cannot fit gains on top of the two thin matrices of "
                    f"{low_rank!r}; recover by another method, or by low_rank again"
                )
        return self

    @property
    def is_in_situ(self) -> bool:
        """Whether a step lets the array compute products."""
        return any(
            getattr(step, "products", None) == "array" or getattr(step, "how", None) == "in_situ"
            for step in self.steps
        )

    def repairs(self) -> dict[str, str]:
        """The method of each recovery step, by the step's name."""
        named = zip(self.step_names(), self.steps, strict=True)
        return {name: step.method for name, step in named if isinstance(step, Recovery)}

    def step_names(self) -> list[str]:
        """The name of each step: its own, or what it does (a repair by its method)."""
        return [step.name or step.default_name for step in self.steps]


def shipped_jobs() -> list[str]:
    """Names of the jobs that come with rramhil."""
    folder = files("rramhil_fixtures") / "jobs"
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith("toml"))


def load_job(name: str) -> tuple[JobFile, str]:
    """A job by path or by the name of a shipped one, and its text. Raises `FileError`."""
    path = Path(name)
    if not path.suffix and not path.exists():
        if name not in shipped_jobs():
            raise FileError(f"there is no job file {name!r}{nearest(name, shipped_jobs())}")
        path = Path(str(files("rramhil_fixtures") / "jobs" / f"{name}.toml"))
    table = read_toml(path)
    return _resolved(check(table, JobFile, str(path)), path.parent), path.read_text("utf-8")


def _resolved(job: JobFile, beside: Path) -> JobFile:
    """`job` with the files that it names found beside it, wherever it is run from."""

    def found(name: str | None, *, folder: bool = False) -> str | None:
        """A name without a suffix is that of something shipped, unless a folder is meant."""
        if not name or not (folder or Path(name).suffix):
            return name
        path = beside.resolve() / name
        return str(path) if path.exists() else name

    return job.model_copy(
        update={
            "device": job.device.model_copy(update={"station": found(job.device.station)}),
            "network": job.network.model_copy(update={"name": found(job.network.name)}),
            "data": job.data.model_copy(update={"folder": found(job.data.folder, folder=True)}),
        }
    )
