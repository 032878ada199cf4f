"""Minimise the squares of noisy residuals of many parameters, by response surfaces.

G. E. P. Box, K. B. Wilson, J. R. Stat. Soc. B 13, 1 (1951): simulate at random points about the
best one so far, fit a straight line through each residual (ridge regression, so that noise is no
slope), step to where the lines are least in squares, draw closer and repeat. One simulation
informs about every parameter at once, and noise is averaged over all points: a gradient by
differences needs twice as many simulations as parameters and takes its noise as it is, an
evolution strategy learns from one number a simulation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
SPREADS = (0.8, 0.5)
"""Standard deviation of the points about the best one, round after round."""
LENGTHS = (0.5, 1.0)
"""Shares of the step that are tried."""
TRIALS = 4
"""Simulations by which two places are compared, on the same seeds."""


def descend(
    residuals: Callable[[F64, int], F64],
    count: int,
    points: int,
    say: Callable[[str], None],
    seed: int = 0,
) -> F64:
    """Where the sum of squared residuals is least, sought from 0.

    `residuals(x, seed)`, x of shape (count,), gives an array of always the same shape, or an
    empty one where nothing can be simulated; the seed is that of a simulation. What x itself
    should cost is for `residuals` to append. Raises ValueError when no point of a round can be
    simulated.
    """
    rng = np.random.default_rng(seed)

    def level(x: F64) -> float:
        seen = [residuals(x, n) for n in range(TRIALS)]
        return float(np.mean([(one**2).sum() if one.size else np.inf for one in seen]))

    best = np.zeros(count)
    least = level(best)
    for number, spread in enumerate(SPREADS, 1):
        moves = spread * rng.standard_normal((points, count))
        every = [residuals(best + move, n) for n, move in enumerate(moves)]
        able = np.array([bool(one.size) for one in every])
        if not able.any():
            raise ValueError(f"none of {points} trials could be simulated; begin from other cells")
        step = _step(moves[able], np.array([one for one in every if one.size]), spread)
        trials = [best + length * step for length in LENGTHS]
        found = [level(trial) for trial in trials]
        if min(found) < least:
            least, best = min(found), trials[int(np.argmin(found))]
        say(f"round {number} of {len(SPREADS)}: squares {least:.1f}")
    return best


def _step(moves: F64, seen: F64, spread: float) -> F64:
    """Where straight lines through `seen` (points, residuals) have the least squares."""
    points, count = moves.shape
    middle = seen.mean(axis=0)
    scatter = seen - middle
    gram = moves.T @ moves
    slopes = np.linalg.solve(gram + spread**2 * count * np.eye(count), moves.T @ scatter)
    left = scatter - moves @ slopes
    noise = float((left**2).sum()) / max(points - count, 1) / (points * spread**2)
    curve = slopes @ slopes.T + noise * np.eye(count)
    step = -np.linalg.solve(curve, slopes @ middle)
    longest = 2.5 * spread * np.sqrt(count)
    return np.asarray(step * min(1.0, longest / max(float(np.linalg.norm(step)), 1e-12)))
