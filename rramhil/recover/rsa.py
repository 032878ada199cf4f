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
from rramhil.recover.losses import distillation, label_loss
from rramhil.recover.masks import random_mask
from rramhil.recover.places import Biases, ColumnGains, Computed, Place, SparseMemory
from rramhil.schema import Strict


class RsaSettings(Strict):
    """`fraction` of each layer's weights gets a digital number; biases are trained as well.

    `label_share` 1 is training with labels alone; below 1 the rest is distillation at
    `temperature` from the network in floating point; 0 needs no labels.
    """

    fraction: float = Field(default=0.05, gt=0, le=1)
    gains: bool = False
    label_share: float = Field(default=0.3, ge=0, le=1)
    temperature: float = Field(default=4.0, gt=0)
    epochs: int = Field(default=40, ge=1)
    learning_rate: float = Field(default=5e-3, gt=0)
    batch: int = Field(default=50, ge=1)
    seed: int = Field(default=0, ge=0)


def random_sparse_adaptation(settings: RsaSettings, array: Computed) -> Recovery:
    """The recovery that `settings` describe, its mask drawn from their seed."""
    random = np.random.default_rng(settings.seed)
    places: list[Place] = [ColumnGains()] if settings.gains else []
    places.append(SparseMemory(random_mask(array.weights, settings.fraction, random)))
    places.append(Biases())
    labels_only = settings.label_share == 1
    return Recovery(
        places=tuple(places),
        loss=label_loss()
        if labels_only
        else distillation(settings.temperature, settings.label_share),
        schedule=Schedule(settings.epochs, settings.learning_rate, settings.batch, settings.seed),
    )
