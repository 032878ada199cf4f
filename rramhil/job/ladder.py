"""Settings of `method = "auto"`: the ladder of recoveries, its target and its budget."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from rramhil.job.recoveries import ImageSets, Recovery
from rramhil.recover.ladder import RUNGS, Budget, Goal, Preference, Rung
from rramhil.schema import Seconds, Strict
from rramhil.verify import SDR, Recipe
from rramhil.words import nearest


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
