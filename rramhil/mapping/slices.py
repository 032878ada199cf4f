"""A weight in digits: several pairs of cells, each pair a digit of it."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rramhil.device import Floats, Ints
from rramhil.mapping.levels import Levels
from rramhil.mapping.scheme import Scheme, Weights, finite_siemens, weights_inside

FINEST_BITS = 24
"""Weights finer than that are not told apart by the single precision of networks."""


class BitSlices(Scheme):
    """`slices` digits a weight, the base the number of levels, the most significant first.

    |w| in steps of 1 / (base^slices - 1) is written in digits; each digit is a pair of cells as
    in `two_column`, so the sign needs no digit and zero is every cell at the lowest level. A
    digit's columns are weighted by its place after conversion. Raises ValueError for fewer than
    two slices.

    >>> levels = Levels(4, 0.0, 30e-6, 1e-6)
    >>> (1e6 * BitSlices(2).encode([[1.0, -0.4]], levels)).round()
    array([[30.,  0., 30.,  0.,  0., 10.,  0., 20.]])
    """

    name = "bit_slices"
    low_is_zero = True

    def __init__(self, slices: int) -> None:
        if slices < 2:
            raise ValueError(
                f"{slices} slices make no digits; give at least 2, or take the scheme two_column"
            )
        self.slices = slices
        self.columns_per_weight = 2 * slices

    def encode(self, weights: ArrayLike, levels: Levels) -> Weights:
        inside = weights_inside(weights)
        steps = np.rint(inside * self._full(levels)).astype(np.int64)
        digits = np.abs(steps)[:, :, None] // self._places(levels) % levels.count
        return self._pairs(digits * np.sign(steps)[:, :, None], levels)

    def decode(self, siemens: ArrayLike, levels: Levels) -> Weights:
        measured = finite_siemens(siemens, self)
        cells = measured.reshape(len(measured), -1, self.slices, 2)
        digits = (cells[..., 0] - cells[..., 1]) / levels.step
        return np.asarray(digits @ self._places(levels) / self._full(levels))

    def step(self, levels: Levels) -> float:
        return 1 / self._full(levels)

    def per_siemens(self, columns: int, levels: Levels) -> Weights:
        place = self._places(levels) / (self._full(levels) * levels.step)
        return np.tile(np.stack([place, -place], axis=1).reshape(-1), columns)

    def compensated(
        self, targets: Floats, measured: ArrayLike, faulty: ArrayLike, levels: Levels
    ) -> Weights:
        """The digits of the good cells that come nearest to the weight, given the faulty ones.

        A digit whose pair is good may take either sign, and one whose pair is half good the sign
        of its good cell; cells stay on levels. A weight without a faulty cell stays as it is.
        """
        bad = np.asarray(faulty, dtype=bool)
        values = finite_siemens(measured, self)
        shape = (-1, self.slices, 2)
        spoilt = bad.reshape(shape).any(axis=(1, 2))
        cells = np.asarray(targets, dtype=np.float64).reshape(shape)[spoilt]
        broken, held = bad.reshape(shape)[spoilt], values.reshape(shape)[spoilt]
        places = self._places(levels)
        wanted = (cells[..., 0] - cells[..., 1]) / levels.step @ places
        above = np.where(broken, held - levels.lowest, 0.0) / levels.step
        left = wanted - (above[..., 0] - above[..., 1]) @ places
        digits = _nearest_digits(left, ~broken, places, levels.count - 1)
        new = np.array(targets, dtype=np.float64).reshape(shape)
        pairs = self._pairs(digits[None], levels).reshape(shape)
        new[spoilt] = np.where(broken, cells, pairs)
        return np.asarray(new.reshape(bad.shape))

    def _places(self, levels: Levels) -> Ints:
        """What a one of each digit counts, the most significant first. Raises ValueError for
        weights finer than single precision."""
        if levels.count**self.slices > 2**FINEST_BITS:
            raise ValueError(
                f"{self.slices} digits of {levels.count} levels are finer than {FINEST_BITS} bits; "
                "take fewer slices or levels"
            )
        return np.asarray(levels.count ** np.arange(self.slices)[::-1], dtype=np.int64)

    def _full(self, levels: Levels) -> int:
        """Steps from 0 to 1."""
        return int(self._places(levels)[0]) * levels.count - 1

    def _pairs(self, digits: Ints, levels: Levels) -> Weights:
        """Siemens (rows, physical columns) of signed digits (rows, columns, slices)."""
        both = np.stack([np.maximum(digits, 0), np.maximum(-digits, 0)], axis=-1)
        return np.asarray(levels.siemens[both].reshape(len(digits), -1))


def _nearest_digits(
    wanted: NDArray[np.float64], good: NDArray[np.bool_], places: Ints, largest: int
) -> Ints:
    """Signed digits (weights, slices) whose sum is nearest to `wanted` steps (weights,).

    `good` (weights, slices, 2): the cells that may be used, of + and -. Each digit is what is
    left over its place, rounded down or up, or the nearest that its cells can hold: one more
    than that away, the lower digits together could not bring it back.
    """
    best = np.zeros((wanted.size, places.size), dtype=np.int64)
    error = np.full(wanted.size, np.inf)
    for ups in itertools.product((0, 1), repeat=places.size):
        left, digits = wanted.copy(), np.empty_like(best)
        for n, (up, place) in enumerate(zip(ups, places.tolist(), strict=True)):
            digit = np.clip(np.floor(left / place) + up, -largest, largest)
            digit = np.clip(digit, np.where(good[:, n, 1], -largest, 0), None)
            digit = np.clip(digit, None, np.where(good[:, n, 0], largest, 0))
            digits[:, n] = digit
            left -= digit * place
        nearer = np.abs(left) < error - 1e-9
        best[nearer], error[nearer] = digits[nearer], np.abs(left)[nearer]
    return best
