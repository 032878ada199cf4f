"""Distillation as a criterion for `rramhil.nn.hardened`: a student that is written open loop.

G. Charan et al., IEEE JxCDC 2020 (10.1109/JXCDC.2020.2987605) distil at temperature 2 into a
student with the levels and the variation of the array.
"""

from __future__ import annotations

from torch import Tensor

from rramhil.nn.hardened import Criterion
from rramhil.recover.losses import Answers, distillation


def distilled(temperature: float = 2.0, label_share: float = 0.3) -> Criterion:
    """Distillation (see `losses.distillation`) of logits from the teacher's."""
    loss = distillation(temperature, label_share)

    def criterion(logits: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
        return loss(Answers(logits), labels, Answers(teacher))

    return criterion
