"""The recovery steps at work: which generator carries out which method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rramhil.job.adapting import recover_closed_form, recover_low_rank, recover_rsa
from rramhil.job.climbing import climb
from rramhil.job.fine_tuning import recover_fine_tune
from rramhil.job.progressing import recover_progressive
from rramhil.job.recoveries import (
    RecoverAuto,
    RecoverClosedForm,
    RecoverFineTune,
    RecoverLowRank,
    RecoverProgressive,
    RecoverRSA,
    RecoverRVW,
    Recovery,
)
from rramhil.job.rewriting import recover_rvw
from rramhil.job.work import Ticks, Work

Method = Callable[[Work, Any, np.random.Generator], Ticks]

METHODS: dict[type[Recovery], Method] = {
    RecoverRVW: recover_rvw,
    RecoverRSA: recover_rsa,
    RecoverClosedForm: recover_closed_form,
    RecoverLowRank: recover_low_rank,
    RecoverProgressive: recover_progressive,
    RecoverAuto: climb,
    RecoverFineTune: recover_fine_tune,
}


def recover(work: Work, step: Recovery, generator: np.random.Generator) -> Ticks:
    """Carry out one recovery step."""
    return METHODS[type(step)](work, step, generator)
