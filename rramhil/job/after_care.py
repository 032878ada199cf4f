"""Settings of the steps after a recovery: wait, watch, recalibrate, and all three on a schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rramhil.job.recoveries import ImageSets
from rramhil.job.step import StepSettings
from rramhil.schema import Seconds

Later = Annotated[Seconds, Field(gt=0)]


class Wait(StepSettings):
    """Let time pass on the device's clock."""

    do: Literal["wait"]
    seconds: Later


class _Cared(StepSettings):
    @property
    def needs(self) -> tuple[str, ...]:
        return ("program",)


class _Watching(_Cared):
    columns: int = Field(4, ge=1, description="physical columns of each layer that are read")
    threshold: float = Field(
        0.01, gt=0, description="share of a layer's output variance that movement may make"
    )


class _Calibrating(_Cared):
    images: int | None = Field(128, ge=1, description="unlabelled ones to learn from (None: all)")
    learn_from: ImageSets = "both"
    fraction: float | None = Field(
        None, ge=0, le=1, description="sparse numbers if gains do not do (default: as many as now)"
    )
    tolerance: float = Field(
        0.5, ge=0, description="validation points that gains and biases alone may leave lost"
    )


class Watch(_Watching):
    """Read a few columns: how far have cells moved since they were calibrated?"""

    do: Literal["watch"]
    images: int | None = Field(128, ge=1, description="whose activations weight the movement")
    learn_from: ImageSets = "both"


class Recalibrate(_Calibrating):
    """Fit gains and biases anew to what the cells hold now, and sparse numbers if need be."""

    do: Literal["recalibrate"]


class Care(_Watching, _Calibrating):
    """Watch at times until a horizon, recalibrate where cells moved, and judge both ways."""

    do: Literal["care"]
    first: Later = 1.0
    horizon: Later = 1e5
    points: int = Field(6, ge=2, description="times, evenly spaced in their logarithm")
    every: Later | None = Field(None, description="seconds between times instead")

    @model_validator(mode="after")
    def _later(self) -> Care:
        for key in ("first", "points"):
            default = type(self).model_fields[key].default
            if self.every is not None and getattr(self, key) != default:
                raise ValueError(
                    f"{key} says how times are spaced in their logarithm, and 'every' that they "
                    "are evenly spaced; keep one of the two"
                )
        start = self.every or self.first
        if not start < self.horizon:
            raise ValueError(
                f"the schedule begins at {start:g} s, not before its horizon of "
                f"{self.horizon:g} s; lower the one or raise the other"
            )
        if self.every and self.horizon / self.every > 1000:
            raise ValueError(
                f"every {self.every:g} s until {self.horizon:g} s makes more than 1000 checks; "
                "make them rarer or leave out 'every' for times spaced in their logarithm"
            )
        return self
