"""The recovery step that writes cells again: read-verify-write."""

from __future__ import annotations

import numpy as np

from rramhil.job.closed_loop import closed_loop
from rramhil.job.learning import judge
from rramhil.job.recoveries import RecoverRVW
from rramhil.job.work import Tick, Ticks, Work


def recover_rvw(work: Work, step: RecoverRVW, _: np.random.Generator) -> Ticks:
    """Read-verify-write every cell into its window, then evaluate from a fresh reading."""
    yield from closed_loop(work, step.recipe, step.passes, step.delay, step.compensate)
    judge(work, work.arrays["siemens"])
    assert work.accuracy is not None
    size = work.subject.cells.size
    yield Tick(size, size, f"accuracy {work.accuracy:.2%}")
