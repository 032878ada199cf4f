"""How sure an accuracy is: one-sided bounds from the images that it was judged with.

A bound at a confidence of 95 % lies below the true value in 95 of 100 drawings of images. Two
networks judged on the same images are compared in pairs, because what both get wrong says
nothing about their difference.
"""

from __future__ import annotations

import math
from statistics import NormalDist


def accuracy_bound(right: int, count: int, confidence: float) -> float:
    """Lower end of an accuracy: `right` of `count` images (E. B. Wilson, JASA 22, 1927)."""
    z, share = _quantile(confidence), right / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - half) / (1 + z * z / count)


def difference_bound(gained: int, lost: int, count: int, confidence: float) -> float:
    """Lower end of a difference of accuracies in pairs of answers to `count` images.

    `gained`: right only in the first network, `lost`: only in the second. The score interval of
    T. Tango, Statistics in Medicine 17, 891 (1998), which also holds where both are 0.
    """
    z, low, high = _quantile(confidence), -1.0, (gained - lost) / count
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _score(gained, lost, count, middle) > z else (low, middle)
    return low


def fewest_images(margin: float, confidence: float) -> int:
    """Images with which a loss of at most `margin` can be shown when no answer differs."""
    z = _quantile(confidence)
    return math.ceil(z * z * (1 - margin) / margin - 1e-9)


def _score(gained: int, lost: int, count: int, difference: float) -> float:
    """Tango's score: how many standard errors the pairs lie above `difference`."""
    double = 2.0 * count
    linear = -gained - lost + (double - gained + lost) * difference
    constant = -lost * difference * (1 - difference)
    root = math.sqrt(max(linear * linear - 4 * double * constant, 0.0))
    spread = count * ((root - linear) / double + difference * (1 - difference))
    above = gained - lost - count * difference
    return math.inf if spread <= 0 and above > 0 else above / math.sqrt(max(spread, 1e-300))


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(confidence)
