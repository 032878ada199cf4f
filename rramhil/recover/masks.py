"""Which weights get a digital number: a mask of flat entries (row-major) for each layer.

A mask is a function of the matrices, a fraction and a generator. A random one is drawn again
from its seed, so that its indices take no memory; any other must store them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


MaskRule = Callable[[Mapping[str, Tensor], float, np.random.Generator], Mask]


def random_mask(
    weights: Mapping[str, Tensor], fraction: float, random: np.random.Generator
) -> Mask:
    """A random `fraction` of each layer, rounded down: never more than asked for.

    Raises ValueError unless 0 <= fraction <= 1.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"a mask takes a fraction of 0 to 1 of the weights, not {fraction:g}")
    entries = {name: _draw(weight.numel(), fraction, random) for name, weight in weights.items()}
    return Mask(entries, index_bits=0)


def _draw(count: int, fraction: float, random: np.random.Generator) -> NDArray[np.int64]:
    chosen = random.permutation(count)[: int(fraction * count + 1e-9)]
    return np.sort(chosen).astype(np.int64)
