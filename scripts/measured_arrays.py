"""The measured arrays that the chip files are fitted to, as the fit scripts see them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

MICRO = 1e-6
Row = tuple[str, float, float]  # what, measured, model


@dataclass(frozen=True)
class Measured:
    """The data folder, and its sweeps with conductances `before` and `after` each pulse."""

    folder: Path
    sweeps: pd.DataFrame


def quantiles(
    values: pd.Series | np.ndarray, at: tuple[float, ...] = (0.1, 0.5, 0.9)
) -> np.ndarray:
    return np.quantile(np.asarray(values), at)
