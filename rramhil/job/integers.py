"""Which steps of a job an integer network can take: those that follow no gradient."""

from __future__ import annotations

from rramhil.job.recoveries import (
    RecoverAuto,
    RecoverClosedForm,
    RecoverFineTune,
    RecoverLowRank,
    RecoverProgressive,
    RecoverRSA,
    RecoverRVW,
    Sparse,
)
from rramhil.job.step import StepSettings
from rramhil.schema import FileError

TRAINED = (RecoverRSA, RecoverLowRank, RecoverProgressive, RecoverFineTune, RecoverAuto)


def check_gradients(step: StepSettings, name: str) -> None:
    """Refuse a step that follows gradients through activations, which codes do not have.

    Raises `FileError` in one sentence, with what does it without.
    """
    where = f"step {name!r}: an integer network has no gradient through its codes, and"
    if isinstance(step, TRAINED):
        raise FileError(
            f"{where} {step.method} trains by it; use method = 'closed_form', 'rvw', or a network "
            "in floating point"
        )
    if isinstance(step, RecoverClosedForm) and step.finish is not None:
        raise FileError(f"{where} 'finish' trains by it; leave 'finish' out")
    rule = step.mask if isinstance(step, Sparse) else getattr(step, "select", None)
    if rule in ("fisher", "sensitivity", "taylor"):
        key = "select" if isinstance(step, RecoverRVW) else "mask"
        raise FileError(f"{where} {key} = {rule!r} asks for it; set {key} = 'errx'")
