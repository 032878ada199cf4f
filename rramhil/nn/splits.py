"""Four disjoint sets of images: train, calibration, validation, test.

Train teaches the network, and a recovery may learn from it again. Calibration is kept apart for
recoveries that must get by with few images which the network has not seen. Validation chooses
(the epoch, masks, hyper-parameters). Test is read once for each reported figure; nothing is ever
chosen, scaled or ranged by it. A network that was trained belongs to the seed of its splits, or
its test images would be among those it was trained on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np

from rramhil.device import Ints
from rramhil.nn.data import DataSet


@dataclass(frozen=True, slots=True)
class Sizes:
    """Images of each set; train takes the rest. `test` is ignored where a set has its own."""

    calibration: int
    validation: int
    test: int


SIZES: dict[str, Sizes] = {
    "digits": Sizes(calibration=147, validation=150, test=600),
    "mnist": Sizes(calibration=5_000, validation=5_000, test=10_000),
    "fashion-mnist": Sizes(calibration=5_000, validation=5_000, test=10_000),
    "cifar-10": Sizes(calibration=2_000, validation=1_000, test=10_000),
}


@dataclass(frozen=True, eq=False, slots=True)
class Splits:
    """Indices of each set, ascending, disjoint."""

    train: Ints
    calibration: Ints
    validation: Ints
    test: Ints

    def digests(self) -> dict[str, str]:
        """SHA-256 of each set's indices (little-endian int64), for the ledger."""
        sets = {field.name: getattr(self, field.name) for field in fields(self)}
        return {n: hashlib.sha256(i.astype("<i8").tobytes()).hexdigest() for n, i in sets.items()}


def make_splits(data: DataSet, seed: int, sizes: Sizes | None = None) -> Splits:
    """Splits of `data`, the same for the same seed. `sizes`: those of SIZES by default.

    The test set is the data set's own where it has one, whatever the seed. Raises ValueError
    when fewer images than one are left to train with.
    """
    wanted = sizes or SIZES[data.name]
    count = len(data) if data.test_start is None else data.test_start
    order = np.random.default_rng(seed).permutation(count)
    test_count = wanted.test if data.test_start is None else 0
    left = count - test_count - wanted.calibration - wanted.validation
    if left < 1 or min(test_count, wanted.calibration, wanted.validation) < 0:
        raise ValueError(
            f"{data.name} has {count} images to divide; test {test_count}, calibration "
            f"{wanted.calibration} and validation {wanted.validation} leave {left} to train with"
        )
    ends = np.cumsum([test_count, wanted.calibration, wanted.validation])
    test, calibration, validation, train = (np.sort(part) for part in np.split(order, ends))
    if data.test_start is not None:
        test = np.arange(data.test_start, len(data), dtype=np.int64)
    return Splits(train, calibration, validation, test)
