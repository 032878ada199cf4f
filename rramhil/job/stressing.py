"""The step that reads the array for the stress of it: read disturb."""

from __future__ import annotations

import numpy as np

from rramhil.device import Refused, Spec
from rramhil.job.file import Stress
from rramhil.job.work import Tick, Ticks, Work

AT_ONCE = "readings"
"""The knob by which an emulated die takes many readings at once."""
ONE_BY_ONE = 1_000
"""Readings of the whole network that are made, and recorded, one by one at most."""


def check_stress(step: Stress, spec: Spec, where: str) -> None:
    """Raises `Refused` for more readings than the die can be given."""
    if AT_ONCE in spec.knobs or step.reads <= ONE_BY_ONE:
        return
    raise Refused(
        f"{where}: {step.reads} readings of every cell would all be recorded one by one; ask for "
        f"at most {ONE_BY_ONE}, or take an emulated die that can be read many times at once "
        "(emulator:statistical with disturb=)"
    )


def stress(work: Work, step: Stress) -> Ticks:
    """Read every mapped cell `reads` times, at once where an emulated die can; then once more.

    A step that goes on makes only the readings that are left.
    """
    device, cells = work.device, work.subject.cells
    check_stress(step, device.spec, f"step {step.name or step.default_name!r}")
    made = int(work.partial["made"]) if work.partial else 0
    yield Tick(made, step.reads + 1, f"{made} of {step.reads} readings")
    if AT_ONCE in device.spec.knobs and made < step.reads:
        device.adjust(AT_ONCE, step.reads - made)
        made = step.reads
    while made < step.reads:
        device.read(cells)
        made += 1
        work.partial = {"made": np.array(made)}
        yield Tick(made, step.reads + 1, f"{made} of {step.reads} readings")
    work.arrays["siemens"] = device.read(cells)
    work.findings["reads"] = step.reads
    yield Tick(step.reads + 1, step.reads + 1, f"{step.reads} readings of {cells.size} cells")
