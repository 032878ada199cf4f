"""Random sparse adaptation: a setting of the loop.

A. Mohanty, X. Du, P.-Y. Chen, J. Seo, S. Yu, Y. Cao, "Random sparse adaptation for accurate
inference with inaccurate multi-level RRAM arrays", IEDM 2017; joined with distillation in
G. Charan et al., IEEE JxCDC 2020 (10.1109/JXCDC.2020.2987605). The array is read once and
not written; a random part of the weights gets a number in digital memory, added to it.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from rramhil.recover.loop import Recovery, Schedule
from rramhil.recover.losses import Loss, distillation, matching
from rramhil.recover.masks import Mask, random_mask
from rramhil.recover.places import (
    Biases,
    ColumnGains,
    Computed,
    Place,
    ReplacingMemory,
    SparseMemory,
)
from rramhil.schema import Strict


class RsaSettings(Strict):
    """`fraction` of each layer's weights gets a digital number; biases are trained as well.

    `label_share` 1 is training with labels alone; below 1 the rest is distillation at
    `temperature` from the network in floating point; 0 needs no labels. `match` times the
    matching of layer outputs comes on top. `replacing`: the number stands in for the weight.
    """

    fraction: float = Field(default=0.05, gt=0, le=1)
    gains: bool = False
    label_share: float = Field(default=0.3, ge=0, le=1)
    temperature: float = Field(default=4.0, gt=0)
    match: float = Field(default=0.0, ge=0)
    replacing: bool = False
    epochs: int = Field(default=40, ge=1)
    learning_rate: float = Field(default=5e-3, gt=0)
    batch: int = Field(default=50, ge=1)
    seed: int = Field(default=0, ge=0)


def random_sparse_adaptation(
    settings: RsaSettings, array: Computed, mask: Mask | None = None
) -> Recovery:
    """The recovery that `settings` describe; without a `mask` it is drawn from their seed."""
    if mask is None:
        random = np.random.default_rng(settings.seed)
        mask = random_mask(array.weights, settings.fraction, random)
    gains: list[Place] = [ColumnGains()] if settings.gains else []
    if settings.replacing:
        places = [ReplacingMemory(mask, array), *gains, Biases()]
    else:
        places = [*gains, SparseMemory(mask), Biases()]
    return Recovery(
        places=tuple(places),
        loss=_loss(settings),
        schedule=Schedule(settings.epochs, settings.learning_rate, settings.batch, settings.seed),
    )


def _loss(settings: RsaSettings) -> Loss:
    answer = distillation(settings.temperature, settings.label_share)
    return answer + matching(settings.match) if settings.match else answer
