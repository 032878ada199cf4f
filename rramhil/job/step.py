"""What every step of a job declares of itself, whatever it does."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from rramhil.schema import Seconds, Strict

NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,59}$"

Delay = Annotated[Seconds, Field(ge=0)]


class StepSettings(Strict):
    """The settings of a step. `do` names what it does."""

    model_config = ConfigDict(allow_inf_nan=False)

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


def refuse_keys(step: StepSettings, keys: tuple[str, ...], belongs_to: str, given: str) -> None:
    """Raise ValueError for the first of `keys` that is set though it means nothing as `given`."""
    for key in keys:
        if getattr(step, key) != type(step).model_fields[key].default:
            raise ValueError(
                f"{key} belongs to {belongs_to} and means nothing to {given!r}; leave it out, "
                f"or set {belongs_to.removeprefix('a selection such as ')}"
            )
