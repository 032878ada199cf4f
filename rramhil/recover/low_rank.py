"""Adaptation of low rank: a setting of the loop, two thin digital matrices beside each layer.

After W. Dong et al. (arXiv 2504.03763), who calibrate arrays with "DoRA" and layer-wise matching
of what the layers give: the array is read once and not written.
"""

from __future__ import annotations

from pydantic import Field

from rramhil.recover.loop import Recovery, Schedule
from rramhil.recover.losses import distillation, matching
from rramhil.recover.places import Biases, ColumnGains, Computed, LowRank, Place
from rramhil.schema import Strict


class LowRankSettings(Strict):
    """`rank` of the correction of each layer; gains (the magnitudes) and biases are trained too.

    `label_share` and `temperature` as in `RsaSettings`; `match` is the weight of the error of
    each layer's outputs beside them (0: not looked at).
    """

    rank: int = Field(default=2, ge=1)
    gains: bool = True
    label_share: float = Field(default=0.3, ge=0, le=1)
    temperature: float = Field(default=4.0, gt=0)
    match: float = Field(default=0.3, ge=0)
    epochs: int = Field(default=40, ge=1)
    learning_rate: float = Field(default=5e-3, gt=0)
    batch: int = Field(default=50, ge=1)
    seed: int = Field(default=0, ge=0)


def low_rank_adaptation(settings: LowRankSettings, array: Computed) -> Recovery:
    """The recovery that `settings` describe. Raises ValueError where a layer is too small."""
    low_rank = LowRank(settings.rank, settings.seed)
    low_rank.start(array)
    places: list[Place] = [low_rank, ColumnGains()] if settings.gains else [low_rank]
    loss = distillation(settings.temperature, settings.label_share)
    if settings.match:
        loss = loss + matching(settings.match)
    return Recovery(
        places=(*places, Biases()),
        loss=loss,
        schedule=Schedule(settings.epochs, settings.learning_rate, settings.batch, settings.seed),
    )
