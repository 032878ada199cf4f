"""What every step of a job declares of itself, whatever it does."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rramhil.schema import Seconds, Strict

NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,59}$"

Delay = Annotated[Seconds, Field(ge=0)]
Passes = Annotated[int, Field(ge=1, le=10, description="write-verify again for cells that relaxed")]
Compensate = Annotated[
    bool, Field(description="move the partner of a cell that was given up (after the first pass)")
]


class StepSettings(Strict):
    """The settings of a step. `do` names what it does."""

    do: str
    name: str | None = Field(None, pattern=NAME)

    @property
    def default_name(self) -> str:
        """What the step is called when the job gives it no name."""
        return self.do

    @property
    def needs(self) -> tuple[str, ...]:
        """What must have been done before, as the `do` of earlier steps."""
        return ()

    @property
    def host_pulses(self) -> bool:
        """Whether it sends pulses of [writing]; what the chip writes by itself does not."""
        return False

    @property
    def writes(self) -> bool:
        """Whether it may write cells, so that what was fitted to them before is void."""
        return self.host_pulses


def refuse_keys(step: StepSettings, keys: tuple[str, ...], belongs_to: str, given: str) -> None:
    """Raise ValueError for the first of `keys` that is set though it means nothing as `given`."""
    for key in keys:
        if getattr(step, key) != type(step).model_fields[key].default:
            raise ValueError(
                f"{key} belongs to {belongs_to} and means nothing to {given!r}; leave it out, "
                f"or set {belongs_to.removeprefix('a selection such as ')}"
            )
