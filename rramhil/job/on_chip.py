"""Steps that leave the write-verify to the chip: the first programming, and the refresh."""

from __future__ import annotations

import numpy as np

from rramhil.device import Refused, Spec
from rramhil.job.closed_loop import Scope
from rramhil.job.work import Arrays, Tick, Ticks, Work, note_yield
from rramhil.verify import settled_reading

CELLS_A_CALL = 4096


def check_on_chip(spec: Spec, levels: int, where: str) -> None:
    """Refuse a die that has no write-verify of its own here, or too few windows for `levels`."""
    if spec.program is None:
        raise Refused(
            f'{where}: {spec.model} has no write-verify of its own here; use how = "verify"'
        )
    if levels > spec.program.levels:
        raise Refused(
            f"{where}: [mapping] has {levels} levels, but the write-verify of {spec.model} holds "
            f"{spec.program.levels} windows; map to fewer levels"
        )


def _nothing(size: int) -> Arrays:
    """What the chip has done of `size` cells before the first call."""
    counts = {name: np.zeros(size, np.int64) for name in ("sets", "resets")}
    return {**counts, "ok": np.zeros(size, np.bool_), "written": np.array(0)}


def write_on_chip(work: Work, delay: float, scope: Scope | None = None) -> Ticks:
    """Let the chip bring the cells of `scope` into their windows, then read all `delay` later.

    Cells inside are read once and not pulsed: after a programming this is a refresh. What was
    done before a stop counts, and is not done again.
    """
    device, cells = work.device, work.subject.cells
    scope = scope or Scope.everything(work.subject)
    target, chosen = scope.target(work.subject, None), np.flatnonzero(scope.chosen)
    so_far = _nothing(cells.size) | work.partial
    for start in range(int(so_far["written"]), chosen.size, CELLS_A_CALL):
        yield Tick(start, cells.size + 1, f"on the chip: {start} of {chosen.size} cells")
        part = chosen[start : start + CELLS_A_CALL]
        done = device.program(cells[part], target.low[part], target.high[part])
        so_far = {name: values.copy() for name, values in so_far.items()}
        for name in ("sets", "resets", "ok"):
            so_far[name][part] = getattr(done, name)
        so_far["written"] = np.array(min(start + CELLS_A_CALL, chosen.size))
        work.partial = so_far
    sets, resets, ok = so_far["sets"], so_far["resets"], so_far["ok"] | ~scope.chosen
    pulses = sets + resets
    work.findings |= {
        "given_up": int(np.count_nonzero(~ok)),
        "rewritten": int(np.count_nonzero(pulses)),
        "pulses_per_cell": float(pulses.mean()),
    }
    siemens = settled_reading(device, cells, delay)
    note_yield(work, siemens)
    work.arrays |= {"siemens": siemens, "sets": sets, "resets": resets, "given_up": ~ok}
    work.arrays |= {"open_cells": np.zeros(0, np.int64)}
    arrived = chosen.size - int(np.count_nonzero(~ok))
    yield Tick(cells.size + 1, cells.size + 1, f"{arrived} of {chosen.size} cells arrived")
