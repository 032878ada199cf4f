"""Which scheme costs a network least on a chip whose stuck cells have been counted.

A cell stuck where a zero weight has it anyway does no harm, so the polarity of the faults decides
between schemes that hold zero low (two_column) and high (differential), and the share of zeros
decides by how much. Pure: what a census found goes in, a ranking comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rramhil.mapping.levels import Levels
from rramhil.mapping.network import weight_scale
from rramhil.mapping.scheme import Scheme
from rramhil.mapping.schemes import find_scheme


@dataclass(frozen=True, slots=True)
class StuckShares:
    """Shares of all cells (0..1) that are stuck in the low (`lrs`) and the high resistive state
    (`hrs`), and at how many siemens; None: at the highest and the lowest level.

    Raises ValueError for shares that are none.
    """

    lrs: float
    hrs: float
    lrs_siemens: float | None = None
    hrs_siemens: float | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.lrs <= 1 and 0 <= self.hrs <= 1 and self.lrs + self.hrs <= 1):
            raise ValueError(
                f"shares of stuck cells of {self.lrs:g} (LRS) and {self.hrs:g} (HRS) are no "
                "shares of all cells; give 0 to 1 each, together at most 1"
            )


@dataclass(frozen=True, slots=True)
class SchemeCost:
    """What a scheme is expected to cost a network.

    `error`: squared error of the products over their squared size, mean of the layers, from stuck
    cells and levels; `rounding`: from levels alone. `siemens` a weight: times the reading voltage
    the current it draws. `cells` a weight: its area.
    """

    scheme: str
    error: float
    rounding: float
    siemens: float
    cells: float


def choose_scheme(
    weights: Mapping[str, ArrayLike],
    levels: Levels,
    stuck: StuckShares,
    schemes: Sequence[Scheme] | None = None,
    *,
    energies: Mapping[str, ArrayLike] | None = None,
    percentile: float = 99.5,
    scale_per_column: bool = False,
) -> tuple[SchemeCost, ...]:
    """What each of `schemes` (two_column and differential by default) would cost, best first.

    `weights`: (rows, columns) of each layer. `energies`: E[x^2] of the inputs of each row,
    (rows,) by layer, where they are known; all alike otherwise. Scale and clipping are those of
    `map_network`. Cells are stuck independently of each other, and nothing makes up for them.
    Equal errors are ranked by current. Raises ValueError without weights or schemes, and for
    energies of another shape.
    """
    if schemes is None:
        schemes = (find_scheme("two_column"), find_scheme("differential"))
    if not weights or not schemes:
        raise ValueError("there is nothing to choose from; give at least one layer and one scheme")
    layers = []
    for name, values in weights.items():
        matrix = np.asarray(values, dtype=np.float64)
        scale = weight_scale(matrix, percentile, scale_per_column)
        energy = np.asarray((energies or {}).get(name, np.ones(len(matrix))), dtype=np.float64)
        if energy.shape != (len(matrix),):
            raise ValueError(
                f"layer {name} has {len(matrix)} rows, but energies of shape {energy.shape}; "
                "give one E[x^2] a row"
            )
        layers.append((np.clip(matrix / scale, -1, 1), scale**2 * energy[:, None]))
    costs = [_cost(scheme, layers, levels, stuck) for scheme in schemes]
    # Errors that differ in their rounding alone are equal.
    return tuple(sorted(costs, key=lambda c: (float(f"{c.error:.9g}"), c.siemens, c.cells)))


_Layer = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Weights in -1..1 and what the square of an error of each counts, (rows, columns)."""


def _cost(
    scheme: Scheme, layers: Sequence[_Layer], levels: Levels, stuck: StuckShares
) -> SchemeCost:
    count = sum(weights.size for weights, _ in layers)
    errors, roundings, siemens, cells = [], [], 0.0, 0
    for weights, counts in layers:
        rounding = scheme.decode(scheme.encode(weights, levels), levels) - weights
        size = (counts * weights**2).sum() or 1.0  # a layer of zeros has no product to spoil
        squared = expected_squared_error(scheme, weights, levels, stuck, rounding)
        errors.append(float((counts * squared).sum() / size))
        roundings.append(float((counts * rounding**2).sum() / size))
        siemens += scheme.mean_siemens(weights, levels) * weights.size / count
        cells += weights.shape[0] * scheme.physical_columns(weights.shape[1], levels)
    return SchemeCost(
        scheme.name, float(np.mean(errors)), float(np.mean(roundings)), siemens, cells / count
    )


def expected_squared_error(
    scheme: Scheme,
    weights: NDArray[np.float64],
    levels: Levels,
    stuck: StuckShares,
    offset: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    """E[(offset + what stuck cells change)^2] of each weight in -1..1, (rows, columns).

    Decoding is linear and cells fail independently, so their means and variances add.
    """
    low = levels.lowest if stuck.hrs_siemens is None else stuck.hrs_siemens
    high = levels.highest if stuck.lrs_siemens is None else stuck.lrs_siemens
    to_low = scheme.stuck_error(weights, levels, low)
    to_high = scheme.stuck_error(weights, levels, high)
    mean = stuck.hrs * to_low + stuck.lrs * to_high
    spread = stuck.hrs * to_low**2 + stuck.lrs * to_high**2 - mean**2
    served = scheme.column_of(weights.shape[1], levels)
    means, spreads = (_of_weights(part, served, weights.shape[1]) for part in (mean, spread))
    return np.asarray(spreads + (offset + means) ** 2)


def _of_weights(
    cells: NDArray[np.float64], served: NDArray[np.int64], columns: int
) -> NDArray[np.float64]:
    """Sums over the cells of each weight, a reference counting for every weight of its row."""
    sums = np.zeros((len(cells), columns))
    np.add.at(sums.T, served[served >= 0], cells[:, served >= 0].T)
    return np.asarray(sums + cells[:, served < 0].sum(axis=1, keepdims=True))
