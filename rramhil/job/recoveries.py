"""The settings of the recovery steps: `do = "recover"` with a method each.

A method is a class here (or in a file beside this one), named in `Recover`, and a generator that
`rramhil.job.recovering` names.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from rramhil.job.step import Compensate, Delay, Passes, StepSettings, refuse_keys
from rramhil.recover.fine_tune import Strategy
from rramhil.recover.ladder import RUNGS, Budget, Goal, Preference, Rung
from rramhil.recover.rules import Rule
from rramhil.schema import Seconds, Siemens, Strict
from rramhil.verify import SDR, Recipe
from rramhil.words import nearest

ImageSets = Literal["calibration", "train", "both"]
Products = Literal["readback", "array"]


class Recovery(StepSettings):
    """A repair of the network that the cells hold; it is judged from a fresh reading."""

    do: Literal["recover"]
    method: str
    delay: Delay = 1.0

    @property
    def default_name(self) -> str:
        return self.method

    @property
    def needs(self) -> tuple[str, ...]:
        return ("program",)


class Learning(Recovery):
    """A repair that learns from images. `learn_from` both: of the calibration set first."""

    images: int | None = Field(None, ge=1, description="how many (default: all)")
    learn_from: ImageSets = "train"

    @property
    def looks_at_images(self) -> bool:
        """Whether it looks at any as it is set."""
        return True


class Sparse(Learning):
    """A repair that keeps numbers in digital memory: for masked weights, and for each column."""

    fraction: float = Field(0.05, gt=0, le=1, description="of the weights")
    mask: Rule = "random"
    memory_bits: int | None = Field(
        None, ge=1, description="of digital memory at most, numbers and indices"
    )

    @property
    def numbers_a_column(self) -> int:
        """Trained numbers for each column: its bias, its gain."""
        return 2


RewriteWhich = Literal["all", "random", "magnitude", "known_bad", "errx", "sensitivity", "taylor"]


class RecoverRVW(Learning):
    """Read-verify-write of cells outside their window: all, or those of the weights that matter.

    Selective: Z. Yan, X. S. Hu, Y. Shi, "SWIM", DAC 2022 (`select` = sensitivity).
    """

    method: Literal["rvw"]
    how: Literal["verify", "on_chip"] = "verify"
    select: RewriteWhich = "all"
    fraction: float = Field(0.05, gt=0, le=1, description="of the weights, when selected")
    images: int | None = Field(128, ge=1, description="to select by (None: all)")
    learn_from: ImageSets = "both"
    tolerance: list[Annotated[Siemens, Field(gt=0)]] | None = Field(
        None, description="of each level, lowest first (default: the mapping's)"
    )
    tolerance_factor: float = Field(1.0, gt=0, description="times the mapping's tolerance")
    recipe: Recipe = SDR()
    passes: Passes = 3
    compensate: Compensate = True

    @property
    def needs(self) -> tuple[str, ...]:
        return ("program",) if self.how == "on_chip" else ("program", "tune")

    @property
    def host_pulses(self) -> bool:
        return self.how == "verify"

    @property
    def writes(self) -> bool:
        return True

    @property
    def looks_at_images(self) -> bool:
        return self.select in ("errx", "sensitivity", "taylor")

    @model_validator(mode="after")
    def _belongs(self) -> RecoverRVW:
        if self.how != "verify":
            refuse_keys(self, ("recipe", "passes", "compensate"), "how = 'verify'", self.how)
        if self.select == "all":
            keys = ("fraction", "images", "learn_from")
            refuse_keys(self, keys, "a selection such as select = 'errx'", "all")
        if self.tolerance is not None and self.tolerance_factor != 1.0:
            raise ValueError("tolerance and tolerance_factor say the same thing; keep one of them")
        return self


class RecoverRSA(Sparse):
    """Random sparse adaptation: train a few digital parameters, the array frozen.

    Mohanty et al., IEDM 2017; summed with the array's output as in Charan et al., JxCDC 2020.
    """

    method: Literal["rsa"]
    gains: bool = Field(False, description="train a digital gain for each column as well")
    label_share: float = Field(
        0.3, ge=0, le=1, description="1: labels alone; below: the rest is distillation; 0: none"
    )
    temperature: float = Field(4.0, gt=0)
    match: float = Field(0.0, ge=0, description="share of the matching of layer outputs")
    replacing: bool = Field(
        False, description="the digital number is the whole weight, not added to the analog one"
    )
    switch_off: bool = Field(
        False, description="RESET the cells of replaced weights, so that they carry no current"
    )
    start: Literal["no_effect", "exact", "closed_form"] = Field(
        "no_effect", description="where the numbers begin; exact: masked weights are put right"
    )
    products: Products = Field("readback", description="array: forward passes in situ")
    epochs: int = Field(40, ge=1)
    learning_rate: float = Field(5e-3, gt=0)
    batch: int = Field(50, ge=1)

    @property
    def numbers_a_column(self) -> int:
        return 2 if self.gains else 1

    @property
    def host_pulses(self) -> bool:
        return self.switch_off

    @model_validator(mode="after")
    def _belongs(self) -> RecoverRSA:
        if self.switch_off and not self.replacing:
            raise ValueError(
                "switch_off takes the analog part of a weight away, and an added number needs it; "
                "set replacing = true as well"
            )
        if self.start == "closed_form" and (self.replacing or not self.gains):
            raise ValueError(
                "a start from the closed form has gains and adds its numbers to the weights; "
                "set gains = true and replacing = false"
            )
        return self


class Finish(Strict):
    """After a closed form: distillation without labels, from the numbers that it found."""

    epochs: int = Field(5, ge=1)
    images: int | None = Field(None, ge=1, description="how many (default: as the step)")
    learn_from: ImageSets = "both"
    temperature: float = Field(4.0, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    batch: int = Field(50, ge=1)
    shift: int = Field(0, ge=0, description="pixels that images are moved by at most")
    mirror: bool = Field(False, description="half of the images mirrored in each epoch")


class RecoverClosedForm(Sparse):
    """Gains, biases and a sparse memory by ridge least squares; no labels, no epochs."""

    method: Literal["closed_form"]
    fraction: float = Field(0.05, ge=0, le=1, description="of the network's weights")
    mask: Rule = "errx"
    images: int | None = Field(128, ge=1, description="how many (None: all)")
    learn_from: ImageSets = "both"
    ridge: float = Field(0.03, gt=0, description="strength, as a share of each second moment")
    products: Products = Field("readback", description="array: measured, also to judge by")
    finish: Finish | None = None


class BudgetTable(Strict):
    """What a recovery may cost at most; what is left out is no limit.

    Device time and pulses are those of all rungs that were carried out; `labels` those of the
    validation images that rungs are judged with.
    """

    device_seconds: Seconds | None = Field(None, ge=0)
    pulses: int | None = Field(None, ge=0)
    digital_fraction: float | None = Field(None, ge=0, le=1, description="of the weights")
    memory_bits: int | None = Field(None, ge=0)
    images: int | None = Field(None, ge=0)
    labels: int | None = Field(None, ge=1)

    def as_budget(self) -> Budget:
        """For the decision."""
        return Budget(**self.model_dump())


class RecoverAuto(Recovery):
    """The cheapest recovery that should reach a target, carried out, verified, climbed from."""

    method: Literal["auto"]
    target_accuracy: float | None = Field(None, gt=0, lt=1, description="as a fraction")
    target_loss: float | None = Field(None, gt=0, lt=100, description="points under the ideal")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the lower end that must reach it")
    budget: BudgetTable = BudgetTable()
    prefer: Preference = "writes"
    rungs: list[str] | None = Field(None, min_length=1, description="some of them (default: all)")
    learn_from: ImageSets = "both"
    recipe: Recipe = SDR()
    passes: int = Field(3, ge=1, le=10, description="of a rung that rewrites")

    @field_validator("rungs")
    @classmethod
    def _known(cls, names: list[str] | None) -> list[str] | None:
        known = [rung.name for rung in RUNGS]
        for name in names or []:
            if name not in known:
                raise ValueError(f"unknown rung {name!r}{nearest(name, known)}")
        return names

    @model_validator(mode="after")
    def _one_target(self) -> RecoverAuto:
        if (self.target_accuracy is None) == (self.target_loss is None):
            raise ValueError(
                "a ladder climbs to one target; give either target_accuracy (a fraction) or "
                "target_loss (points under the ideal mapping)"
            )
        return self

    @model_validator(mode="after")
    def _something_left(self) -> RecoverAuto:
        if not self.chosen_rungs():
            raise ValueError(
                "every rung named writes cells, and budget.pulses is 0; name a rung that does not "
                "write, or allow pulses"
            )
        return self

    def goal(self) -> Goal:
        """For the decision."""
        loss = None if self.target_loss is None else self.target_loss / 100
        return Goal(self.target_accuracy, loss, self.confidence)

    def labels(self, there: int) -> int:
        """How many of the validation images that are `there` rungs are judged with."""
        return there if self.budget.labels is None else min(self.budget.labels, there)

    def chosen_rungs(self) -> tuple[Rung, ...]:
        """The rungs that the job allows: those named, without writing where no pulse may be."""
        named = [rung for rung in RUNGS if self.rungs is None or rung.name in self.rungs]
        return tuple(rung for rung in named if not rung.rewrite or self.budget.pulses != 0)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("program", "tune") if self.host_pulses else ("program",)

    @property
    def host_pulses(self) -> bool:
        return any(rung.rewrite for rung in self.chosen_rungs())


class RecoverLowRank(Learning):
    """Two thin digital matrices beside each layer, its gains and its biases; no cell is written.

    W. Dong et al., "Efficient calibration for RRAM-based in-memory computing using DoRA", 2025.
    """

    method: Literal["low_rank"]
    rank: int = Field(2, ge=1, description="of each layer's correction")
    gains: bool = Field(True, description="train a digital gain for each column as well")
    label_share: float = Field(
        0.3, ge=0, le=1, description="1: labels alone; below: the rest is distillation; 0: none"
    )
    temperature: float = Field(4.0, gt=0)
    match: float = Field(0.3, ge=0, description="share of the matching of layer outputs")
    products: Products = Field("readback", description="array: forward passes in situ")
    epochs: int = Field(40, ge=1)
    learning_rate: float = Field(5e-3, gt=0)
    batch: int = Field(50, ge=1)


class RecoverProgressive(Learning):
    """Layer after layer: measured, the layers behind trained on it, the next one written.

    W. Wan et al., Nature 608, 504 (2022), chip-in-the-loop progressive fine-tuning.
    """

    method: Literal["progressive"]
    how: Literal["open_loop", "verify"] = Field("open_loop", description="later layers' writes")
    recipe: Recipe = SDR()
    products: Products = Field("readback", description="array: measured, also to judge by")
    affine: bool = Field(True, description="a digital gain and offset for each measured column")
    label_share: float = Field(
        0.3, ge=0, le=1, description="1: labels alone; below: the rest is distillation; 0: none"
    )
    temperature: float = Field(4.0, gt=0)
    weight_noise: float = Field(
        0.1, ge=0, le=1, description="of weights not written yet, of their layer's largest"
    )
    epochs: int = Field(10, ge=1, description="behind each layer")
    learning_rate: float = Field(3e-3, gt=0)
    batch: int = Field(50, ge=1)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("program", "tune")

    @property
    def host_pulses(self) -> bool:
        return True

    @model_validator(mode="after")
    def _belongs(self) -> RecoverProgressive:
        if self.how != "verify":
            refuse_keys(self, ("recipe",), "how = 'verify'", self.how)
        return self


class RecoverFineTune(Learning):
    """Fine-tuning of the device with open-loop writes (see `rramhil.recover.fine_tune`).

    Its other keys are those of `FineTuneSettings`.
    """

    method: Literal["fine_tune"]
    images: int | None = Field(1500, ge=1, description="to train with (None: all)")
    learn_from: ImageSets = "both"
    strategy: Strategy = "halving"
    rounds: int = Field(4, ge=1, le=20, description="of training, writing and reading")
    epochs: int = Field(2, ge=1, description="of each round")
    learning_rate: float = Field(2e-3, gt=0)
    refresh_epochs: int = Field(2, ge=1, description="of the digital biases, at the end")
    refresh_rate: float = Field(3e-3, gt=0)
    batch: int = Field(50, ge=1)
    label_share: float = Field(0.3, ge=0, le=1, description="0: no labels")
    temperature: float = Field(4.0, gt=0)
    match: float = Field(0.3, ge=0, description="share of the matching of layer outputs")
    gains: bool | None = Field(None, description="at the end train column gains as well")
    rank: Literal["error", "output_error"] = "error"
    sigmas: float | None = Field(None, ge=0, description="nearer cells are left alone")
    writes_a_cell: float | None = Field(None, gt=0, description="more is refused")

    @property
    def needs(self) -> tuple[str, ...]:
        return ("program",) if self.strategy == "biases_and_norms" else ("program", "tune")

    @property
    def host_pulses(self) -> bool:
        return self.strategy != "biases_and_norms"


Recover = Annotated[
    RecoverRVW
    | RecoverRSA
    | RecoverClosedForm
    | RecoverLowRank
    | RecoverProgressive
    | RecoverFineTune
    | RecoverAuto,
    Field(discriminator="method"),
]


def methods() -> dict[str, type[Recovery]]:
    """The settings of each method by its name, as a job file calls it."""
    union, *_ = get_args(Recover)
    return {get_args(kind.model_fields["method"].annotation)[0]: kind for kind in get_args(union)}
