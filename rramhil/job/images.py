"""Which images a recovery learns from, and a refusal in one sentence when there are too few."""

from __future__ import annotations

from typing import Protocol

import torch

from rramhil.job.recoveries import ImageSets
from rramhil.nn.network import Images
from rramhil.schema import FileError


class Sets(Protocol):
    """What has images to learn from."""

    @property
    def train(self) -> Images: ...
    @property
    def calibration(self) -> Images: ...


def learning_images(sets: Sets, learn_from: ImageSets, count: int | None, where: str) -> Images:
    """The first `count` images (all: None) of a set; of both, those of the calibration set first.

    Raises `FileError` when there are fewer; `where` names who asks.
    """
    parts = {
        "calibration": (sets.calibration,),
        "train": (sets.train,),
        "both": (sets.calibration, sets.train),
    }[learn_from]
    there = sum(len(part) for part in parts)
    wanted = there if count is None else count
    if wanted > there:
        whose = f"{learn_from} set has" if len(parts) == 1 else "calibration and train sets have"
        more = "" if learn_from == "both" else ", or set learn_from = 'both'"
        raise FileError(
            f"{where} asks for {wanted} images, but the {whose} {there}; ask for fewer{more}"
        )
    return Images(
        torch.cat([part.pixels for part in parts])[:wanted],
        torch.cat([part.labels for part in parts])[:wanted],
    )
