"""What open-loop writes make of a network: errors measured on the device, drawn in training.

A write aims at a level and lands somewhere about it. `WriteErrors` says where, from readings of
cells that were written; `WrittenNetwork` draws whole arrays from it, with gradients straight
through levels and errors (Y. Bengio, N. Leonard, A. Courville, arXiv:1308.3432, 2013). Training
against it hardens a network before deployment and plans rewrites after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from rramhil.device import Bools, Floats
from rramhil.mapping import MappedNetwork
from rramhil.mapping.levels import Levels
from rramhil.nn.network import Matrices
from rramhil.units import show

FEWEST_CELLS = 16
"""Good cells of a level below which its spread says nothing."""


@dataclass(frozen=True, eq=False, slots=True)
class WriteErrors:
    """Where one open-loop write lands: at `aimed` siemens (rising) a middle and a spread.

    `middle`: median siemens; `spread`: half of the central 68 %, a standard deviation if normal.
    Between the entries both are straight, beyond them they stay.
    """

    aimed: NDArray[np.float64]
    middle: NDArray[np.float64]
    spread: NDArray[np.float64]

    def spread_at(self, siemens: NDArray[np.float64]) -> NDArray[np.float64]:
        """Spread in siemens of writes that aim at `siemens`."""
        return np.interp(siemens, self.aimed, self.spread)

    def landed(
        self, siemens: NDArray[np.float64], random: np.random.Generator
    ) -> NDArray[np.float64]:
        """One draw of where writes that aim at `siemens` land, never below 0."""
        middle = np.interp(siemens, self.aimed, self.middle)
        luck = random.standard_normal(middle.shape, dtype=np.float32)
        return np.maximum(middle + self.spread_at(siemens) * luck, 0.0)


def measure_errors(levels: Levels, aimed: Floats, siemens: Floats, good: Bools) -> WriteErrors:
    """The errors of cells that were written at `aimed` siemens and read `siemens`, (cells,) each.

    `good`: cells to learn from, without those known to be stuck; unreadable ones are left out.
    A level with fewer than 16 such cells is bridged by its neighbours. Raises ValueError when
    fewer than two levels are left.
    """
    use = good & np.isfinite(siemens)
    level = levels.nearest(aimed[use])
    values = siemens[use].astype(np.float64)
    known = [n for n in range(levels.count) if np.count_nonzero(level == n) >= FEWEST_CELLS]
    if len(known) < 2:
        raise ValueError(
            f"only {len(known)} of {levels.count} levels have {FEWEST_CELLS} good cells, too few "
            f"to know how writes from {show(levels.lowest, 'S')} to {show(levels.highest, 'S')} "
            "err; map the network with fewer levels"
        )
    low, middle, high = np.transpose(
        [np.percentile(values[level == n], [15.87, 50, 84.13]) for n in known]
    )
    return WriteErrors(levels.siemens[known], middle, (high - low) / 2)


@dataclass(frozen=True, eq=False, slots=True)
class Kept:
    """Cells that read `siemens` (cells,), finite, and are not written again where that is within
    `spreads` spreads of the target. A write lands about one spread away: it would gain little."""

    siemens: NDArray[np.float64]
    spreads: float


@dataclass(frozen=True, eq=False, slots=True)
class WrittenNetwork:
    """A mapped network whose cells are written with `errors`.

    `stuck`: siemens of each cell of `mapped.cells` that no write moves, NaN for all others.
    `known`: whether that is known when targets are chosen, or only befalls them.
    """

    mapped: MappedNetwork
    errors: WriteErrors
    stuck: NDArray[np.float64]
    known: bool = True

    def aimed(self, weights: Mapping[str, Tensor]) -> NDArray[np.float64]:
        """Target siemens (cells,) for matrices `weights`: clipped, on levels.

        Rows that share a physical row get the mean of their weights. The good cell of a pair with
        a stuck one, if `known`, is moved by the error of that one.
        """
        parts = []
        for layer, stuck in zip(self.mapped.layers, self._by_layer(self.stuck), strict=True):
            targets = layer.targets(layer.tied(weights[layer.name].detach().numpy()))
            broken = np.isfinite(stuck)
            if self.known and broken.any():
                measured = np.where(broken, stuck, targets)
                moved = layer.scheme.compensated(targets, measured, broken, layer.levels)
                targets = np.where(broken, targets, layer.levels.quantised(moved))
            parts.append(targets.reshape(-1))
        return np.concatenate(parts)

    def landed(
        self,
        aimed: NDArray[np.float64],
        random: np.random.Generator | None,
        kept: Kept | None = None,
    ) -> NDArray[np.float64]:
        """Siemens (cells,) after one open-loop write of every cell that is not `kept` or stuck.

        Without `random` the writes make no error.
        """
        siemens = aimed if random is None else self.errors.landed(aimed, random)
        if kept is not None:
            siemens = np.where(self.near(kept, aimed), kept.siemens, siemens)
        return np.where(np.isfinite(self.stuck), self.stuck, siemens)

    def near(self, kept: Kept, aimed: NDArray[np.float64]) -> Bools:
        """Where cells that read `kept.siemens` are near enough to `aimed` to be left alone."""
        away = np.abs(kept.siemens - aimed)
        near: Bools = (away <= kept.spreads * self.errors.spread_at(aimed)) & (kept.spreads > 0)
        return near

    def weights_from(self, siemens: NDArray[np.float64]) -> Matrices:
        """Matrices that the conductances `siemens` (cells,) stand for, float32 tensors."""
        weights = self.mapped.weights_from(siemens)
        return {name: from_numpy(w.astype(np.float32)) for name, w in weights.items()}

    def drawn(
        self,
        weights: Mapping[str, Tensor],
        random: np.random.Generator | None,
        kept: Kept | None = None,
    ) -> Matrices:
        """`weights` as one write of them would leave them; their gradient goes straight through."""
        held = self.weights_from(self.landed(self.aimed(weights), random, kept))
        return {name: weight + (held[name] - weight.detach()) for name, weight in weights.items()}

    def _by_layer(self, values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        ends = np.cumsum([layer.cells.size for layer in self.mapped.layers])[:-1]
        parts = np.split(values, ends)
        return [p.reshape(m.cells.shape) for p, m in zip(parts, self.mapped.layers, strict=True)]
