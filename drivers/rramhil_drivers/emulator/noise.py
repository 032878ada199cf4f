"""What is random while a die works: one generator for each purpose.

n numbers drawn from a generator at once are the n that it gives in pieces. So with a
generator for each purpose, and cells in the order of the call, what a cell draws does not
depend on how the call was cut into parts: through a link that carries 64 cells a frame a die
does what it does in one call. With one generator for all purposes each part would draw
numbers that were another purpose's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rramhil_drivers.emulator.faults import noise_generator


@dataclass(frozen=True, slots=True)
class Noise:
    """Generators of read noise, SETs and RESETs, FORM, relaxation, products and read disturb.

    A reading, a pulse or a write takes one word of its generator for each cell (see `lanes`). From
    `telegraph` nothing is drawn: it is the key of the traps' hash (see `fluctuation`).
    """

    read: np.random.Generator
    telegraph: np.random.Generator
    pulse: np.random.Generator
    form: np.random.Generator
    relax: np.random.Generator
    product: np.random.Generator
    hop: np.random.Generator

    @classmethod
    def seeded(cls, seed: int, die: int) -> Noise:
        """All of them, of one seed and die."""
        return cls(*(noise_generator(die, seed, kind) for kind in range(len(fields(cls)))))

    def saved(self) -> dict[str, Any]:
        """Where each generator is."""
        return {f.name: getattr(self, f.name).bit_generator.state for f in fields(self)}

    def restore(self, states: Mapping[str, Any]) -> None:
        """Take on what `saved` gave, numbers as JSON has them. Raises KeyError."""
        for field in fields(self):
            state = dict(states[field.name])
            inner = {k: np.array(v, dtype=np.uint64) for k, v in state["state"].items()}
            getattr(self, field.name).bit_generator.state = {**state, "state": inner}


@cache
def _quantiles() -> NDArray[np.float32]:
    normal = NormalDist()
    values = np.array([normal.inv_cdf((i + 0.5) / 65536) for i in range(65536)])
    return np.asarray(values / values.std(), dtype=np.float32)


@cache
def _waits() -> NDArray[np.float32]:
    shares = (np.arange(65536) + 0.5) / 65536
    values = -np.log1p(-shares)
    return np.asarray(values / values.mean(), dtype=np.float32)


def lanes(rng: np.random.Generator, count: int) -> list[NDArray[np.uint16]]:
    """One word of 64 random bits for each of `count` cells, as four arrays of 16 bits."""
    words: NDArray[np.uint64] = rng.bit_generator.random_raw(count)
    return [words.view(np.uint16)[first::4] for first in range(4)]


def table_words(rng: np.random.Generator, count: int, size: int) -> NDArray[np.uint16]:
    """16 random bits for each of (count, size) numbers. Each of the `count` lines takes whole words
    of the generator, so that lines may be drawn in pieces."""
    words = -(-size // 4)
    drawn: NDArray[np.uint64] = rng.bit_generator.random_raw(count * words)
    return drawn.view(np.uint16).reshape(count, 4 * words)[:, :size]


def normals_of(words: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Standard normal numbers from 16 random bits each: quantiles of a table of 65,536.

    No quantile is off by more than 1/131,072 in probability, and the variance is 1; beyond 4.3
    standard deviations there is nothing. Six times as fast as a ziggurat.
    """
    return _quantiles().take(words)


def exponentials_of(words: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Standard exponential numbers from 16 random bits each, as `normals_of`; the mean is 1."""
    return _waits().take(words)
