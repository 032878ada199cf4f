"""The job file: which device, which network, which data, how it is mapped, which steps."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from rramhil.census import Thresholds
from rramhil.characterise import Plan, rising
from rramhil.mapping import Levels, find_scheme
from rramhil.schema import FileError, Seconds, Siemens, Strict, check, read_toml
from rramhil.trim import TrimSettings
from rramhil.tune import Forming
from rramhil.verify import SDR, Bias, PulseVolts, Recipe
from rramhil.words import nearest

NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,59}$"
RESERVED = ("teacher", "ideal_mapping")

Delay = Annotated[Seconds, Field(ge=0)]
Passes = Annotated[int, Field(ge=1, le=10, description="write-verify again for cells that relaxed")]
Compensate = Annotated[
    bool, Field(description="move the partner of a cell that was given up (after the first pass)")
]


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


class MappingTable(Strict):
    """[mapping]: how weights become conductances."""

    scheme: str = "two_column"
    levels: int = Field(10, ge=2, le=256)
    lowest: Siemens = 20e-6
    highest: Siemens = 200e-6
    tolerance: Siemens = Field(5e-6, description="a cell is at its level within +- this")
    percentile: float = Field(99.5, gt=50, le=100, description="of |w|: clipped beyond")
    scale: Literal["layer", "column"] = "layer"

    def as_levels(self) -> Levels:
        """The levels with their windows. Raises ValueError when they overlap."""
        return Levels(self.levels, self.lowest, self.highest, self.tolerance)

    @model_validator(mode="after")
    def _sensible(self) -> MappingTable:
        self.as_levels()
        find_scheme(self.scheme)
        return self


class _Step(Strict):
    model_config = ConfigDict(allow_inf_nan=False)

    name: str | None = Field(None, pattern=NAME)


def _check_sweep(step: _Step, what: str) -> None:
    """Raise ValueError where `first_<what>` of a sweep does not lie below `last_<what>`."""
    first, last = getattr(step, f"first_{what}"), getattr(step, f"last_{what}")
    if not first < last:
        raise ValueError(
            f"first_{what} {first:g} V does not lie below last_{what} {last:g} V; "
            "lower the one or raise the other"
        )


class Scan(_Step):
    """Readings after a RESET and after a strong SET: which cells are stuck, which are noisy."""

    do: Literal["scan"]
    reads: int = Field(3, ge=2)
    resets: int = Field(5, ge=1, description="RESETs that a cell may need before it is stuck")
    set_gate: PulseVolts = 3.0
    thresholds: Thresholds = Thresholds()


class Form(_Step):
    """FORM the cells that do not conduct yet."""

    do: Literal["form"]
    forming: Forming = Forming()


class Tune(_Step):
    """A gate sweep on a sample of cells: the gate voltage of each level on this die."""

    do: Literal["tune"]
    cells: int = Field(128, ge=8, le=4096)
    first_gate: PulseVolts = 1.4
    last_gate: PulseVolts = 3.6
    points: int = Field(45, ge=3)

    @model_validator(mode="after")
    def _rising(self) -> Tune:
        _check_sweep(self, "gate")
        return self


class Characterise(_Step):
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


OF_VERIFY = ("recipe", "passes", "compensate")
"""Keys of a programming step that only `how = "verify"` looks at."""


class Program(_Step):
    """The first programming: open loop, with one of the recipes, or by the chip itself."""

    do: Literal["program"]
    how: Literal["open_loop", "verify", "on_chip"] = "open_loop"
    recipe: Recipe = SDR(first_reset=True)
    passes: Passes = 1
    compensate: Compensate = True

    @model_validator(mode="after")
    def _of_verify(self) -> Program:
        defaults = {name: type(self).model_fields[name].default for name in OF_VERIFY}
        other = [name for name, value in defaults.items() if getattr(self, name) != value]
        if self.how != "verify" and other:
            raise ValueError(
                f"{other[0]} belongs to how = 'verify' and means nothing to {self.how!r}; "
                f"leave it out, or set how = 'verify'"
            )
        return self


class Refresh(_Step):
    """The chip's own write-verify once more: cells that left their windows are written again."""

    do: Literal["refresh"]
    delay: Delay = 1.0


class Trim(_Step):
    """Measure the columns in situ on what the cells hold, and set their references."""

    do: Literal["trim"]
    settings: TrimSettings = TrimSettings()


class Evaluate(_Step):
    """Accuracy on the test images from conductances read `delay` after the last write."""

    do: Literal["evaluate"]
    delay: Delay = 1.0


class RecoverRVW(_Step):
    """Read-verify-write of every cell outside its window."""

    do: Literal["recover"]
    method: Literal["rvw"]
    recipe: Recipe = SDR()
    passes: Passes = 3
    compensate: Compensate = True
    delay: Delay = 1.0


class RecoverRSA(_Step):
    """Random sparse adaptation: train a few digital parameters, the array frozen.

    Mohanty et al., IEDM 2017; summed with the array's output as in Charan et al., JxCDC 2020.
    """

    do: Literal["recover"]
    method: Literal["rsa"]
    fraction: float = Field(0.05, gt=0, le=1, description="of each layer's weights")
    gains: bool = Field(False, description="train a digital gain for each column as well")
    label_share: float = Field(
        0.3, ge=0, le=1, description="1: labels alone; below: the rest is distillation; 0: none"
    )
    temperature: float = Field(4.0, gt=0)
    epochs: int = Field(40, ge=1)
    learning_rate: float = Field(5e-3, gt=0)
    batch: int = Field(50, ge=1)
    images: int | None = Field(None, ge=1, description="of the train set (default: all)")
    delay: Delay = 1.0


class Report(_Step):
    """Write the report. Without this step the run keeps its data and no report."""

    do: Literal["report"]


Recover = Annotated[RecoverRVW | RecoverRSA, Field(discriminator="method")]
Step = Annotated[
    Scan | Form | Tune | Characterise | Program | Refresh | Trim | Evaluate | Recover | Report,
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
            if (
                isinstance(step, (Refresh, Trim, Evaluate, RecoverRVW, RecoverRSA))
                and "program" not in before
            ):
                raise ValueError(
                    f"the step {name!r} needs cells that hold the network; "
                    f"put a step 'program' before {name!r}"
                )
            by_the_chip = isinstance(step, Program) and step.how == "on_chip"
            gated = isinstance(step, (Program, RecoverRVW)) and not by_the_chip
            if gated and "tune" not in before:
                raise ValueError(
                    f"the step {name!r} needs the gate voltage of each level; "
                    f"put a step 'tune' before {name!r}"
                )
            before.add(step.do)
        return self

    def step_names(self) -> list[str]:
        """The name of each step: its own, or what it does (a repair by its method)."""
        return [step.name or default_name(step) for step in self.steps]


def default_name(step: Step) -> str:
    """'rvw' for a repair by that method, 'open_loop' for an open-loop programming, ..."""
    if isinstance(step, (RecoverRVW, RecoverRSA)):
        return step.method
    return step.do


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
