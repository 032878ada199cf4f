"""Row reorder: the order of a layer's rows in which a sparsity-aware macro errs least.

The controller sums the next few rows that have a non-zero input bit (`rramhil.mapping.
conversions`). Where the noise of a conversion grows with its sum, or sums reach the converter's
ends, it matters which rows lie near each other; the product itself does not change. With a noise
that does not grow, and sums away from the ends, there is nothing to gain.

    for round_ in reorder(conversions, generator, iterations=5000):
        print(round_.iteration, round_.error)
    order = round_.order

R. Weinstock et al. (ORSS 2023) name the method and its effect; the definition is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rramhil.device import Ints
from rramhil.mapping.conversions import Conversions

START_TEMPERATURE = 0.002  # of the error at the start; falls to 0
SWAPS = 0.5  # share of swaps; the rest moves a row elsewhere
ROUND = 100  # iterations between two safe points


@dataclass(frozen=True, eq=False, slots=True)
class Round:
    """The best so far: `order` (rows,) names the row that lies first, second, ...

    `error`: expected squared error of a product with it; `natural`: with the rows as they came.
    """

    iteration: int
    total: int
    order: Ints
    error: float
    natural: float


def reorder(
    conversions: Conversions, generator: np.random.Generator, iterations: int = 5000
) -> Iterator[Round]:
    """Anneal the order of rows (S. Kirkpatrick et al., Science 220, 671, 1983) from a greedy one.

    Yields every hundred iterations and at the end; the last is the result, never worse on these
    inputs than the rows as they came. The same generator gives the same order.
    """
    rows = conversions.cells.shape[0]
    natural = np.arange(rows)
    starts = [natural, greedy_order(conversions)]
    errors = [conversions.expected_error(order) for order in starts]
    at = int(np.argmin(errors))
    order, error = starts[at], errors[at]
    best, least = order, error
    yield Round(0, iterations, best, least, errors[0])
    for iteration in range(1, iterations + 1 if rows > 1 else 1):
        other = _neighbour(order, generator)
        found = conversions.expected_error(other)
        temperature = START_TEMPERATURE * errors[0] * (1 - iteration / iterations)
        climb = (found - error) / max(temperature, 1e-300)
        if climb <= 0 or generator.random() < np.exp(-climb):
            order, error = other, found
            if error < least:
                best, least = order, error
        if iteration % ROUND == 0 or iteration == iterations:
            yield Round(iteration, iterations, best, least, errors[0])


def greedy_order(conversions: Conversions) -> Ints:
    """Row after row the one that is active least together with the last few that were laid.

    "Together": the sum over input bits of 4^bit, and over columns of what both cells add.
    """
    bits, weights = conversions.bits, conversions.bit_weights
    weighted = bits * (weights**2)[:, None]
    overlap = (weighted.T @ bits.astype(np.float64)) * (conversions.cells @ conversions.cells.T)
    left = list(range(len(overlap)))
    chosen = [left.pop(int(np.argmax(np.diag(overlap))))]
    window = conversions.conversion.rows_at_once - 1
    while left:
        near = overlap[np.ix_(left, chosen[-window:])].sum(1)
        chosen.append(left.pop(int(np.argmin(near))))
    return np.array(chosen, dtype=np.int64)


def _neighbour(order: Ints, generator: np.random.Generator) -> Ints:
    """`order` with two rows swapped, or one moved elsewhere."""
    first, second = generator.choice(order.size, 2, replace=False)
    if generator.random() < SWAPS:
        other = order.copy()
        other[[first, second]] = order[[second, first]]
        return other
    return np.insert(np.delete(order, first), second, order[first])
