"""Minimise a noisy function of many parameters: the separable CMA evolution strategy.

R. Ros, N. Hansen, "A simple modification in CMA-ES achieving linear time and space complexity",
PPSN X, 2008; constants from N. Hansen, "The CMA evolution strategy: a tutorial", 2016. scipy's
local methods stop on the steps of simulated counts, and its global ones need bounds and a
hundred times the evaluations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
POPULATION = 14


def evolve(
    loss: Callable[[F64, int], float],
    count: int,
    generations: int,
    spread: float,
    say: Callable[[str], None],
    seed: int = 0,
) -> F64:
    """The mean of the last generation, started at 0 with standard deviation `spread`.

    `loss(x, generation)`, x of shape (count,): the generation chooses the random numbers of a
    simulation, the same for all of a generation.
    """
    rng = np.random.default_rng(seed)
    parents = POPULATION // 2
    weights = np.log(parents + 0.5) - np.log(np.arange(1, parents + 1))
    weights /= weights.sum()
    mass = 1 / (weights**2).sum()
    rate_path = (mass + 2) / (count + mass + 5)
    damping = 1 + rate_path + 2 * max(0.0, np.sqrt((mass - 1) / (count + 1)) - 1)
    expected = np.sqrt(count) * (1 - 1 / (4 * count) + 1 / (21 * count**2))
    rate_long = 4 / (count + 4)
    gain = (count + 2) / 3  # the separable form learns faster
    rate_one = min(1.0, 2 / ((count + 1.3) ** 2 + mass) * gain)
    rate_rank = min(1 - rate_one, 2 * (mass - 2 + 1 / mass) / ((count + 2) ** 2 + mass) * gain)
    mean, path, long_path = (np.zeros(count) for _ in range(3))
    variance, sigma = np.ones(count), spread
    for generation in range(generations):
        moves = rng.standard_normal((POPULATION, count)) * np.sqrt(variance)
        losses = np.array([loss(mean + sigma * move, generation) for move in moves])
        best = moves[np.argsort(losses)[:parents]]
        step = weights @ best
        mean = mean + sigma * step
        path = (1 - rate_path) * path
        path += np.sqrt(rate_path * (2 - rate_path) * mass) * step / np.sqrt(variance)
        long_path = (1 - rate_long) * long_path + np.sqrt(rate_long * (2 - rate_long) * mass) * step
        variance = (1 - rate_one - rate_rank) * variance
        variance += rate_one * long_path**2 + rate_rank * (weights @ best**2)
        sigma *= float(np.exp(rate_path / damping * (np.linalg.norm(path) / expected - 1)))
        if generation % 10 == 9:
            say(f"generation {generation + 1}: loss {losses.min():.2f} to {losses.max():.2f}")
    return mean
