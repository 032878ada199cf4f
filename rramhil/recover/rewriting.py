"""Which cells an open-loop rewrite frees, and training against the errors that it will make.

Pure: it looks at what was measured and says what to write. `fine_tune` acts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rramhil.device import Bools
from rramhil.nn.network import Matrices
from rramhil.nn.written import Kept, WrittenNetwork
from rramhil.recover.places import Computed, Place

Freed = dict[str, Tensor]
"""Of each layer a bool matrix (rows, columns): the weights that are trained and written."""


def all_weights(weights: Mapping[str, Tensor]) -> Freed:
    """Every weight."""
    return {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}


def last_layer(weights: Mapping[str, Tensor]) -> Freed:
    """The weights of the last layer alone."""
    last = list(weights)[-1]
    return {name: torch.full_like(w, name == last, dtype=torch.bool) for name, w in weights.items()}


def worst_weights(scores: Mapping[str, Tensor], share: float) -> Freed:
    """The `share` of all weights with the highest scores, whatever their layer; rounded down."""
    flat = torch.cat([score.reshape(-1) for score in scores.values()])
    best = torch.zeros(flat.numel(), dtype=torch.bool)
    count = int(share * flat.numel() + 1e-9)
    best[torch.argsort(flat, descending=True, stable=True)[:count]] = True
    parts = torch.split(best, [score.numel() for score in scores.values()])
    return {n: p.reshape(s.shape) for (n, s), p in zip(scores.items(), parts, strict=True)}


class RewrittenCells(Place):
    """The freed weights, as one more open-loop write will leave them; the rest as measured.

    Its parameters are whole matrices, of which only the freed entries count. Training sees a
    fresh draw of the write errors in each step, the same ones whenever an epoch is repeated;
    validation always the same draw. `noisy` False: as if each write landed at its target.
    `kept`: cells near enough to their targets, which will not be written.
    """

    name = "cells"

    def __init__(
        self,
        written: WrittenNetwork,
        freed: Freed,
        wanted: Matrices,
        kept: Kept,
        noisy: bool,
        seed: int,
    ) -> None:
        self.written, self.wanted = written, wanted
        self.freed = {
            layer.name: torch.from_numpy(layer.sharing(freed[layer.name].numpy()))
            for layer in written.mapped.layers
        }
        self.kept, self.noisy, self.seed = kept, noisy, seed
        self._random = np.random.default_rng([seed, 0])

    def begin(self, epoch: int) -> None:
        self._random = np.random.default_rng([self.seed, epoch])

    def start(self, array: Computed) -> Matrices:
        return {name: weight.detach().clone() for name, weight in self.wanted.items()}

    def correct(self, parameters: Mapping[str, Tensor], computed: Computed) -> Computed:
        random, kept = (self._random, self.kept) if self.noisy else (None, None)
        drawn = self.written.drawn(parameters, random, kept)
        weights = {
            name: torch.where(self.freed[name], drawn[name], measured)
            for name, measured in computed.weights.items()
        }
        return Computed(weights, computed.biases)


def cells_of(written: WrittenNetwork, freed: Freed) -> Bools:
    """Which of `written.mapped.cells` hold the freed weights, without those known to be stuck."""
    parts = [
        layer.cells_of(freed[layer.name].numpy()).reshape(-1) for layer in written.mapped.layers
    ]
    return np.concatenate(parts) & ~np.isfinite(written.stuck)


def worth_writing(
    written: WrittenNetwork, freed: Freed, kept: Kept, aimed: NDArray[np.float64]
) -> Bools:
    """Which cells (cells,) of freed weights to write: those that are not `kept`."""
    return cells_of(written, freed) & ~written.near(kept, aimed)
