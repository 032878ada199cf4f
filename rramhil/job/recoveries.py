"""The settings of the recovery steps: `do = "recover"` with a method each.

A method is a class here (or in a file beside this one), named in `Recover`, and a generator that
`rramhil.job.recovering` names.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rramhil.job.step import Delay, StepSettings
from rramhil.recover.rules import Rule
from rramhil.schema import Strict
from rramhil.verify import SDR, Recipe

ImageSets = Literal["calibration", "train", "both"]


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


class RecoverRVW(Recovery):
    """Read-verify-write of every cell outside its window."""

    method: Literal["rvw"]
    recipe: Recipe = SDR()
    passes: int = Field(3, ge=1, le=10, description="write-verify again for cells that relaxed")
    compensate: bool = Field(
        True, description="move the partner of a cell that was given up (after the first pass)"
    )

    @property
    def needs(self) -> tuple[str, ...]:
        return ("program", "tune")

    @property
    def host_pulses(self) -> bool:
        return True


class RecoverRSA(Learning):
    """Random sparse adaptation: train a few digital parameters, the array frozen.

    Mohanty et al., IEDM 2017; summed with the array's output as in Charan et al., JxCDC 2020.
    """

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


class Finish(Strict):
    """After a closed form: distillation without labels, from the numbers that it found."""

    epochs: int = Field(5, ge=1)
    images: int | None = Field(None, ge=1, description="how many (default: as the step)")
    learn_from: ImageSets = "both"
    temperature: float = Field(4.0, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    batch: int = Field(50, ge=1)


class RecoverClosedForm(Learning):
    """Gains, biases and a sparse memory by ridge least squares; no labels, no epochs."""

    method: Literal["closed_form"]
    fraction: float = Field(0.05, ge=0, le=1, description="of the network's weights")
    mask: Rule = "errx"
    images: int | None = Field(128, ge=1, description="how many (None: all)")
    learn_from: ImageSets = "both"
    ridge: float = Field(0.03, gt=0, description="strength, as a share of each second moment")
    products: Literal["readback"] = "readback"
    finish: Finish | None = None


Recover = Annotated[
    RecoverRVW | RecoverRSA | RecoverClosedForm,
    Field(discriminator="method"),
]
