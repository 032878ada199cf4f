"""The in-situ product of a macro: a few rows at a time, one bit plane after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Ints
from rramhil_drivers.emulator.chipfile import Converter, Wires
from rramhil_drivers.emulator.wires import group_ladder


def convert_product(
    converter: Converter, codes: Ints, siemens: NDArray[np.float32], wires: Wires | None = None
) -> Ints:
    """Sums of converter codes, (batch, cols), of input `codes` (batch, rows) on `siemens`.

    Inputs go in bit by bit; groups of `rows_at_once` rows in index order are summed, rounded
    to codes of `siemens_per_code` and saturate at 2**bits - 1. Codes are then added
    digitally with the weight of their bit. Seven binary rows fill three bits (the 40 nm
    macro of W. Li et al., ESSCIRC 2021; geometry in A. Lu et al., Front. AI 4, 659060, 2021).
    With `wires` of layout 'columns' each column is the ladder of the cells that are gated on.
    """
    batch, rows = codes.shape
    top = np.float32(2**converter.bits - 1)
    scaled = siemens * np.float32(1 / converter.siemens_per_code)
    planes = (codes[None] >> np.arange(converter.input_bits)[:, None, None]) & 1
    bits = planes.reshape(-1, rows).astype(np.float32)
    weights = 1 << np.arange(converter.input_bits, dtype=np.int64)
    sums = np.zeros((bits.shape[0], siemens.shape[1]), dtype=np.float32)
    for first in range(0, rows, converter.rows_at_once):
        group = slice(first, first + converter.rows_at_once)
        if wires is not None and wires.layout == "columns":
            shot = group_ladder(wires, siemens[group], bits[:, group], rows - first)
            shot *= np.float32(1 / converter.siemens_per_code)
        else:
            shot = bits[:, group] @ scaled[group]
        sums += np.clip(np.rint(shot), 0, top)
    by_bit = sums.astype(np.int64).reshape(converter.input_bits, batch, -1)
    return np.asarray(np.tensordot(weights, by_bit, axes=1), dtype=np.int64)
