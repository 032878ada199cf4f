"""After-care: how far cells have moved since they were calibrated, and when to look.

Conductance goes on changing after a write, roughly with the logarithm of time, and the digital
numbers were fitted to what it was. A few physical columns, read again, tell how much of a
layer's output their movement makes; what the rest does is inferred, because cells move
independently of each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Bools, Floats
from rramhil.mapping import MappedLayer, MappedNetwork
from rramhil.mapping.row_table import first_rows
from rramhil.recover.scores import Moments


@dataclass(frozen=True, slots=True)
class Movement:
    """How far the sampled cells moved.

    `rms_siemens`, `median_siemens`: of the change (the median of its size); `output_error`: the
    share of a layer's output variance that the movement makes, in the layer where it is most.
    `unreadable` cells count in neither.
    """

    cells: int
    unreadable: int
    rms_siemens: float
    median_siemens: float
    output_error: float


def sampled_columns(mapped: MappedNetwork, count: int, random: np.random.Generator) -> Bools:
    """Which of `mapped.cells` lie in `count` physical columns of each layer, drawn at random.

    A layer with fewer columns is sampled whole; reference columns, which move all of a layer's
    weights, always are.
    """
    parts = []
    for layer in mapped.layers:
        chosen = _references(layer)
        own = np.flatnonzero(~chosen)
        chosen[own[random.permutation(own.size)[:count]]] = True
        parts.append(np.tile(chosen, (layer.cells.shape[0], 1)).reshape(-1))
    return np.concatenate(parts)


def movement(
    mapped: MappedNetwork, before: Floats, now: Floats, sampled: Bools, seen: Moments
) -> Movement:
    """Compare readings `now` of the `sampled` cells with what they read `before`, in siemens.

    All have the length of `mapped.cells`; `now` is looked at only where `sampled`. `seen` are
    the teacher's moments over images, of physical rows where `mapped` has a row table (see
    `rramhil.recover.scores.moments`). Raises ValueError where no sampled cell could be read.
    """
    good = sampled & np.isfinite(before) & np.isfinite(now)
    if not good.any():
        raise ValueError("none of the sampled cells could be read; run a scan to see why")
    earlier = np.where(np.isfinite(before), before, 0.0).astype(np.float64)
    change = np.where(good, now, earlier).astype(np.float64) - earlier
    errors = _output_errors(mapped, earlier, earlier + change, sampled, seen)
    return Movement(
        cells=int(sampled.sum()),
        unreadable=int(np.count_nonzero(sampled & ~good)),
        rms_siemens=float(np.sqrt(np.mean(change[good] ** 2))),
        median_siemens=float(np.median(np.abs(change[good]))),
        output_error=max(errors.values()),
    )


def _output_errors(
    mapped: MappedNetwork,
    before: NDArray[np.float64],
    now: NDArray[np.float64],
    sampled: Bools,
    seen: Moments,
) -> Mapping[str, float]:
    """sum err^2 E[x^2] / (columns var(y)) of each layer, scaled up to all of its columns.

    What the references do is known whole, so only the part of the sampled cells is scaled up;
    the two move independently, and their energies add. Rows that share cells count once, with
    the sum of their inputs as x.
    """
    ends = np.cumsum([layer.cells.size for layer in mapped.layers])[:-1]
    errors = {}
    for layer, part, old, new in zip(
        mapped.layers, *(np.split(values, ends) for values in (sampled, before, now)), strict=True
    ):
        references = np.tile(_references(layer), (layer.cells.shape[0], 1)).reshape(-1)
        earlier, weigh = layer.weights_from(old), seen.inputs[layer.name].numpy()[:, None]
        physical = first_rows(layer.row_of)
        moved = (layer.weights_from(np.where(references, old, new)) - earlier)[physical]
        energy = (moved**2 * weigh).sum() / part[~references].mean()
        if references.any():
            moved = (layer.weights_from(np.where(references, new, old)) - earlier)[physical]
            energy += (moved**2 * weigh).sum()
        errors[layer.name] = float(energy / (layer.shape[1] * seen.outputs[layer.name]))
    return errors


def _references(layer: MappedLayer) -> Bools:
    """Which physical columns of `layer` are references."""
    served: Bools = layer.scheme.column_of(layer.shape[1], layer.levels) < 0
    return served


def log_spaced(first: float, horizon: float, points: int) -> NDArray[np.float64]:
    """`points` times from `first` to `horizon` seconds, evenly spaced in their logarithm.

    Raises ValueError unless 0 < first < horizon and there are at least two points.
    """
    if not 0 < first < horizon or points < 2:
        raise ValueError(
            f"a schedule needs at least 2 points (it has {points}) from more than 0 s to a later "
            f"time (it goes from {first:g} s to {horizon:g} s)"
        )
    return np.geomspace(first, horizon, points)
