"""The step that trims the columns of the tiles in use, on what their cells hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rramhil.column_fit import ColumnFit
from rramhil.job.file import Trim
from rramhil.job.work import Tick, Ticks, Work
from rramhil.trim import TrimRound, counting, read_tile, trim_tile


def trim(work: Work, step: Trim, generator: np.random.Generator) -> Ticks:
    """Set the references of every tile that the network uses, tile after tile.

    With the aim "counts" products count the cells at the higher level from now on. The findings
    are of the columns that could be measured: before with neutral references, after by a
    measurement that nothing was set from. A stopped step begins again.
    """
    tiles = work.subject.mapped.tiles
    each = step.settings.rounds + 2
    total = each * len(tiles)
    rounds: list[TrimRound] = []
    for place, tile in enumerate(tiles):
        done = place * each
        yield Tick(done, total, f"reading tile {tile}")
        siemens = read_tile(work.device, tile, step.settings.reads)
        aim = None
        if step.settings.aim == "counts":
            high, blocks = work.subject.mapped.high_cells(tile, work.device.spec)
            aim = counting(work.device.spec, siemens, high, blocks)
        for round_ in trim_tile(work.device, tile, siemens, step.settings, generator, aim):
            rounds.append(round_)
            text = (
                f"tile {tile}: gain CV {round_.fit.gain_cv:.3f}, offset {round_.fit.offset_rms:.2f}"
            )
            # The last tick is a safe point too, but nothing is left to do after it.
            yield Tick(done + round_.number + 2, total, text)
    work.counted = step.settings.aim == "counts"
    before = _together([r for r in rounds if r.number == 0])
    after = _together([r for r in rounds if r.number == step.settings.rounds])
    last = [r for r in rounds if r.number == step.settings.rounds]
    work.findings |= {
        "columns": int(after.measured.size),
        "unmeasured": int(np.count_nonzero(~after.measured)),
        "beyond_references": sum(r.beyond for r in last),
        "gain_cv_before": before.gain_cv,
        "gain_cv": after.gain_cv,
        "offset_codes_before": before.offset_rms,
        "offset_codes": after.offset_rms,
        "largest_offset_codes": _largest(after),
    }
    work.arrays |= {
        "tiles": np.array(tiles, dtype=np.int64),
        "counted": np.array(work.counted),
        "gain_before": before.gain,
        "offset_before": before.offset,
        "gain": after.gain,
        "offset": after.offset,
        "measured": after.measured,
    }


def _together(rounds: list[TrimRound]) -> ColumnFit:
    """The columns of several tiles as one, tile after tile."""

    def joined(name: str) -> NDArray[np.float64]:
        return np.concatenate([getattr(r.fit, name) for r in rounds])

    return ColumnFit(joined("gain"), joined("offset"), joined("measured").astype(bool))


def _largest(fit: ColumnFit) -> float:
    return float(np.abs(fit.offset[fit.measured]).max()) if fit.measured.any() else float("nan")
