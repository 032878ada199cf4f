"""Weights of three values, {-1, 0, 1} times a scale for each column: two binary cells a weight.

A cell that is either on or off is what an array holds best, and a conversion of few rows counts
such cells without a rest. F. Li, B. Liu, X. Wang, B. Zhang, J. Yan, "Ternary weight networks"
(arXiv:1605.04711): threshold 0.7 of the mean |w|, scale the mean |w| above it; here by column.
"""

from __future__ import annotations

import torch
from torch import Tensor

THRESHOLD = 0.7


def ternary(weight: Tensor) -> Tensor:
    """`weight` (rows, columns) at the three values of each column; the gradient goes through.

    The nearest ternary column by least squares, nearly; a column of zeros stays one.
    """
    sizes = weight.detach().abs()
    kept = sizes > THRESHOLD * sizes.mean(0)
    scale = (sizes * kept).sum(0) / kept.sum(0).clamp_min(1)
    values = torch.sign(weight.detach()) * kept * scale
    return values + (weight - weight.detach())
