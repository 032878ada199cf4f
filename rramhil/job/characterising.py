"""The step `characterise`: the open-loop record of a sample that a twin is fitted to."""

from __future__ import annotations

import numpy as np

from rramhil.characterise import Reading, characterise
from rramhil.job.file import Characterise
from rramhil.job.work import Tick, Ticks, Work
from rramhil.units import show


def characterise_cells(work: Work, step: Characterise, generator: np.random.Generator) -> Ticks:
    """Sweep, ramp and settle a random sample of mapped cells.

    Cells known to be stuck are part of it: the sample is to be like the die.
    """
    cells = work.subject.cells
    count = min(step.cells, cells.size)
    sample = np.sort(generator.choice(cells, count, replace=False))
    plan = step.plan()
    readings: list[Reading] = []
    for reading in characterise(work.device, sample, plan, work.job.writing):
        readings.append(reading)
        median = float(np.nanmedian(reading.siemens))
        yield Tick(len(readings), plan.total, f"{reading.text}: {show(median, 'S')}")
    work.findings |= {"cells": count, "readings": len(readings)}
    work.arrays |= {
        "cells": sample,
        "part": np.array([["gate", "sl", "settle"].index(r.part) for r in readings]),
        "at": np.array([r.at for r in readings]),
        "siemens": np.array([r.siemens for r in readings], dtype=np.float32),
    }
