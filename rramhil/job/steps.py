"""The steps of a job. Each is a generator: it acts between two yields, and stops at one.

A step yields a `Tick` at every safe point (no pulse in flight). When the caller goes on, so
does the step; when the caller stops, the run is resumed by running the step again: a closed
loop starts by reading, and what was already written open loop is remembered in `work.done`.
"""

from __future__ import annotations

import numpy as np

from rramhil.census import take_census
from rramhil.device import Cells, Device, Floats, Kind
from rramhil.job.after_care import Care, Recalibrate, Wait, Watch
from rramhil.job.caring import care, recalibrate, wait, watch
from rramhil.job.characterising import characterise_cells
from rramhil.job.closed_loop import closed_loop
from rramhil.job.deciding import decide
from rramhil.job.file import (
    Characterise,
    Evaluate,
    Form,
    Program,
    Refresh,
    Scan,
    Step,
    Stress,
    Trim,
    Tune,
)
from rramhil.job.learning import held, judge
from rramhil.job.on_array import judge_in_situ, products_of
from rramhil.job.on_chip import write_on_chip
from rramhil.job.recoveries import Recovery
from rramhil.job.recovering import recover
from rramhil.job.stressing import stress
from rramhil.job.subject import Decision
from rramhil.job.trimming import trim
from rramhil.job.work import Arrays, Tick, Ticks, Work, note_yield
from rramhil.recover.correction import Correction
from rramhil.tune import GateCurve, SweepPoint, form, gate_curve, gate_sweep
from rramhil.units import show
from rramhil.verify import Bias, reset_pulse, set_pulse, settled_reading, write_open_loop


def run_step(work: Work, step: Step, generator: np.random.Generator) -> Ticks:
    """Carry out one step of a job other than the report."""
    if step.writes:
        work.correction = None
    match step:
        case Scan():
            return scan(work, step)
        case Form():
            return form_cells(work, step)
        case Tune():
            return tune(work, step, generator)
        case Characterise():
            return characterise_cells(work, step, generator)
        case Program():
            return first_program(work, step)
        case Refresh():
            return write_on_chip(work, step.delay)
        case Trim():
            return trim(work, step, generator)
        case Evaluate():
            return evaluate(work, step)
        case Stress():
            return stress(work, step)
        case Recovery():
            return recover(work, step, generator)
        case Wait():
            return wait(work, step)
        case Watch():
            return watch(work, step, generator)
        case Recalibrate():
            return recalibrate(work, step, generator)
        case Care():
            return care(work, step, generator)
    raise AssertionError(f"no step {step!r}")


def remember(work: Work, step: Step, arrays: Arrays) -> None:
    """Give `work` what a finished step found, for the steps that build on it."""
    if step.writes:
        work.correction, work.seen = None, None
    if isinstance(step, Scan):
        bad = arrays["stuck_lrs"] | arrays["stuck_hrs"] | arrays["unreadable"]
        work.stuck = arrays["cells"][bad]
        decision = Decision.from_arrays(arrays)
        if decision is not None:
            work.subject = work.subject.decided(decision)
    elif isinstance(step, Tune):
        names = ("gate_volts", "siemens", "spread_siemens")
        work.curve = GateCurve(*(arrays[name] for name in names))
    elif isinstance(step, Trim):
        work.counted = bool(arrays.get("counted", False))
    elif isinstance(step, Program):
        work.written = work.seen = arrays["siemens"]
        if "open_loop_siemens" in arrays:
            work.open_loop = arrays["open_loop_siemens"]
    elif isinstance(step, (Refresh, Recovery, Recalibrate, Care)):
        work.correction, work.seen = Correction.from_arrays(arrays), arrays.get("siemens")


def scan(work: Work, step: Scan) -> Ticks:
    """Census of every tile that the network uses or may come to use: stuck and noisy cells, bad
    rows. Cells that the station bars are left out. Then what it decides of the mapping."""
    device, spec = work.device, work.device.spec
    per_tile = spec.rows * spec.cols
    tiles = [
        np.setdiff1d(np.arange(per_tile) + tile * per_tile, spec.barred).astype(np.int64)
        for tile in work.subject.tiles
    ]
    cells = np.concatenate(tiles).astype(np.int64)
    total = 2 * step.reads * len(tiles)
    after: dict[Kind, list[Floats]] = {Kind.RESET: [], Kind.SET: []}
    done = 0
    for kind in (Kind.SET, Kind.RESET):
        for tile in tiles:
            yield Tick(done, total, f"{kind.name} of {tile.size} cells")
            _strong_pulse(device, tile, kind, step, work.job.writing)
        for number in range(step.reads):
            parts = []
            for tile in tiles:
                yield Tick(done, total, f"reading after a {kind.name}, {number + 1}/{step.reads}")
                parts.append(device.read(tile))
                done += 1
            after[kind].append(np.concatenate(parts))
    low, high = np.stack(after[Kind.RESET]), np.stack(after[Kind.SET])
    census = take_census(cells, low, high, spec, step.thresholds)
    mapped = np.isin(cells, work.subject.cells)
    work.stuck = cells[census.bad]
    work.findings |= {
        "cells": int(cells.size),
        **{f"{name}_share": share for name, share in census.shares().items()},
        "bad_rows": len(census.bad_rows),
        "bad_mapped_cells": int(np.count_nonzero(census.bad & mapped)),
        "median_after_set_siemens": float(np.nanmedian(high)),
        "median_after_reset_siemens": float(np.nanmedian(low)),
    }
    work.arrays |= {
        "cells": cells,
        "after_reset": np.median(low, axis=0).astype(np.float32),
        "after_set": np.median(high, axis=0).astype(np.float32),
        "stuck_lrs": census.stuck_lrs,
        "stuck_hrs": census.stuck_hrs,
        "noisy": census.noisy,
        "unreadable": census.unreadable,
        "bad_rows": np.array(census.bad_rows, dtype=np.int64).reshape(-1, 2),
    }
    if work.subject.provisional:
        yield from decide(work, work.arrays)
    yield Tick(total, total, f"{int(census.bad.sum())} of {cells.size} cells are stuck")


def _strong_pulse(device: Device, cells: Cells, kind: Kind, step: Scan, bias: Bias) -> None:
    """One SET of all cells, or a RESET repeated on those that still conduct.

    A share of cells misses a RESET by chance; only one that misses them all is stuck.
    """
    if kind is Kind.SET:
        gates = np.full(cells.size, step.set_gate)
        volts = np.full(cells.size, bias.set_volts)
        device.apply(set_pulse(cells, volts, gates, bias, device.spec))
        return
    left = cells
    for _ in range(step.resets):
        volts = np.full(left.size, bias.reset_stop_volts)
        device.apply(reset_pulse(left, volts, bias, device.spec))
        left = left[device.read(left) > step.thresholds.stuck_lrs_siemens]
        if left.size == 0:
            return


def form_cells(work: Work, step: Form) -> Ticks:
    """Form the cells that are or may be mapped and do not conduct; then RESET the newly formed."""
    cells = work.subject.cells_to_form
    rounds = []
    for round_ in form(work.device, cells, step.forming):
        rounds.append(round_)
        text = f"{round_.open_cells} cells to form, BL {round_.volts:.2f} V"
        yield Tick(cells.size - round_.open_cells, cells.size, text)
    newly = cells[rounds[-1].formed & ~rounds[0].formed]
    if newly.size:
        bias = work.job.writing
        full = np.full(newly.size, bias.reset_stop_volts)
        work.device.apply(reset_pulse(newly, full, bias, work.device.spec))
    work.findings |= {
        "formed": int(newly.size),
        "unformed": rounds[-1].open_cells,
        "last_bl_volts": rounds[-1].volts,
    }
    work.arrays |= {
        "bl_volts": np.array([r.volts for r in rounds]),
        "open_cells": np.array([r.open_cells for r in rounds]),
    }


def tune(work: Work, step: Tune, generator: np.random.Generator) -> Ticks:
    """Gate sweep on a random sample of mapped cells, without those known to be stuck."""
    cells = work.subject.cells
    cells = cells[~np.isin(cells, work.stuck)]
    count = min(step.cells, cells.size)
    sample = np.sort(generator.choice(cells, count, replace=False))
    points: list[SweepPoint] = []
    for point in gate_sweep(
        work.device, sample, step.first_gate, step.last_gate, step.points, work.job.writing
    ):
        points.append(point)
        text = (
            f"gate {point.gate_volts:.2f} V gives {show(float(np.nanmedian(point.siemens)), 'S')}"
        )
        yield Tick(point.number + 1, point.total, text)
    work.curve = gate_curve(points)
    levels = work.subject.mapped.levels
    nominal = work.curve.nominal_gate(levels.siemens, levels.tolerance)
    work.findings |= {
        "cells": count,
        "lowest_level_gate_volts": float(nominal[0]),
        "highest_level_gate_volts": float(nominal[-1]),
    }
    work.arrays |= {
        "gate_volts": work.curve.gate_volts,
        "siemens": work.curve.siemens,
        "spread_siemens": work.curve.spread_siemens,
    }


def first_program(work: Work, step: Program) -> Ticks:
    """The first programming of the mapped cells; then one reading a second later."""
    if step.how == "on_chip":
        yield from write_on_chip(work, 1.0)
        return
    target = work.subject.target(work.need_curve())
    cells = work.subject.cells
    if step.how == "verify":
        yield from closed_loop(work, step.recipe, step.passes, 1.0, step.compensate)
        return
    start = work.done
    bias = work.job.writing
    for written in write_open_loop(work.device, cells[start:], target.gate_volts[start:], bias):
        work.done = start + written
        text = f"one SET at each level's gate voltage, {work.done} of {cells.size} cells"
        yield Tick(work.done, cells.size, text)
    siemens = settled_reading(work.device, cells)
    note_yield(work, siemens)
    work.open_loop = siemens
    work.arrays |= {
        "siemens": siemens,
        "open_loop_siemens": siemens,
        "open_cells": np.zeros(0, np.int64),
    }


def evaluate(work: Work, step: Evaluate) -> Ticks:
    """Test accuracy `delay` after the last write: from a reading of the cells, or in situ."""
    if step.how == "in_situ":
        yield Tick(0, 1, f"{len(work.subject.test)} test images on the array")
        if work.correction is None:
            work.device.clock.sleep(step.delay)
            judge_in_situ(work, products_of(work))
        else:
            reading = settled_reading(work.device, work.subject.cells, step.delay)
            array = held(work.subject, reading)
            judge_in_situ(work, products_of(work), array, work.correction.applied(array))
        if not work.subject.network.is_integer:  # whose ranges are its codes, of no images
            work.digital |= {"images": len(work.subject.calibration)}
        yield Tick(1, 1, f"accuracy in situ {work.accuracy:.2%}")
        return
    yield Tick(0, 2, f"reading {work.subject.cells.size} cells")
    siemens = settled_reading(work.device, work.subject.cells, step.delay)
    yield Tick(1, 2, f"{len(work.subject.test)} test images")
    judge(work, siemens)
    yield Tick(2, 2, f"accuracy {work.accuracy:.2%}")
