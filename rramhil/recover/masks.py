"""Which weights get a digital number: a mask of flat entries (row-major) for each layer.

A mask is a function of the matrices, a fraction and a generator. A random one is drawn again
from its seed, so that its indices take no memory; any other must store them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rramhil.device import Ints


@dataclass(frozen=True, eq=False, slots=True)
class Mask:
    """`entries`: ascending flat indices of each layer's matrix; `index_bits`: to store them."""

    entries: Mapping[str, Ints]
    index_bits: int

    def __len__(self) -> int:
        return sum(len(index) for index in self.entries.values())


def random_mask(
    weights: Mapping[str, Tensor], fraction: float, random: np.random.Generator
) -> Mask:
    """A random `fraction` of each layer, rounded down: never more than asked for.

    Raises ValueError unless 0 <= fraction <= 1.
    """
    _check_fraction(fraction)
    entries = {name: _draw(weight.numel(), fraction, random) for name, weight in weights.items()}
    return Mask(entries, index_bits=0)


def _draw(count: int, fraction: float, random: np.random.Generator) -> NDArray[np.int64]:
    chosen = random.permutation(count)[: int(fraction * count + 1e-9)]
    return np.sort(chosen).astype(np.int64)


def ranked_mask(scores: Mapping[str, Tensor], fraction: float) -> Mask:
    """The `fraction` of all weights with the highest scores, whatever their layer.

    Its indices must be stored: a list of them or one bit a weight, in each layer whichever is
    less. Raises ValueError unless 0 <= fraction <= 1.
    """
    _check_fraction(fraction)
    flat = np.concatenate([score.reshape(-1).numpy() for score in scores.values()])
    count = int(fraction * flat.size + 1e-9)
    best = np.zeros(flat.size, dtype=bool)
    best[np.argsort(-flat, kind="stable")[:count]] = True
    ends = np.cumsum([score.numel() for score in scores.values()])[:-1]
    parts = dict(zip(scores, np.split(best, ends), strict=True))
    entries = {name: np.flatnonzero(part).astype(np.int64) for name, part in parts.items()}
    return Mask(entries, sum(_index_bits(len(entries[n]), len(parts[n])) for n in parts))


def _index_bits(count: int, total: int) -> int:
    return min(count * max(total - 1, 1).bit_length(), total)


def _check_fraction(fraction: float) -> None:
    if not 0 <= fraction <= 1:
        raise ValueError(f"a mask takes a fraction of 0 to 1 of the weights, not {fraction:g}")
