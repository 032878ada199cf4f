"""What an emulated die announces: the `Spec` of its chip file, and readings on its grid."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rramhil.device import (
    Floats,
    KnobLimits,
    MvmLimits,
    ProgramLimits,
    PulseLimits,
    ReadLimits,
    Spec,
)
from rramhil_drivers.emulator.chipfile import ChipFile


def make_spec(
    chip: ChipFile,
    serial: str,
    tiles: int,
    home: str,
    newborn: bool,
    knobs: Mapping[str, KnobLimits],
) -> Spec:
    """The `Spec` that a chip file describes."""
    own = chip.program
    return Spec(
        model=f"emulated {chip.name}",
        serial=serial,
        tiles=tiles,
        rows=chip.geometry.rows,
        cols=chip.geometry.cols,
        reading=ReadLimits(**chip.reading.model_dump(exclude={"source"})),
        pulses={
            kind: PulseLimits(
                volts=s.volts.as_range(),
                seconds=s.seconds.as_range(),
                gate_volts=s.gate_volts.as_range(),
                cells_at_once=s.cells_at_once,
            )
            for kind, s in chip.settings().items()
        },
        mvm=_mvm_limits(chip),
        program=ProgramLimits(own.levels, own.attempts, own.cells_at_once) if own else None,
        knobs=knobs,
        volatile=True,
        newborn=newborn,
        home=home,
    )


def _mvm_limits(chip: ChipFile) -> MvmLimits | None:
    converter = chip.converter
    if converter is None:
        return None
    return MvmLimits(
        input_bits=converter.input_bits,
        rows_at_once=converter.rows_at_once,
        converter_bits=converter.bits,
        amps_per_code=converter.siemens_per_code * chip.reading.volts,
        row_order=converter.row_order,
        seconds=converter.seconds,
        bits_at_once=converter.bits_at_once,
        joules=converter.joules,
    )


def quantise(siemens: NDArray[np.float32], limits: ReadLimits) -> Floats:
    """Readings as float32 multiples of the lsb; 0 below the range, inf above it.

    A threshold reader gives the highest reference that the cell reaches, 0 below the first.
    """
    if limits.references:
        steps = np.array((0.0, *limits.references))
        return np.asarray(steps[np.searchsorted(steps[1:], siemens, "right")], dtype=np.float32)
    codes = np.rint(siemens * np.float32(1 / limits.lsb))
    values = (codes.astype(np.float64) * limits.lsb).astype(np.float32)
    values[codes < round(limits.lowest / limits.lsb)] = 0.0
    values[codes > round(limits.highest / limits.lsb)] = np.inf
    return np.asarray(values, dtype=np.float32)
