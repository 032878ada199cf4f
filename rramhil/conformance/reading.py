"""Promises about reading and time."""

from __future__ import annotations

import numpy as np

from rramhil.conformance.bench import (
    Bench,
    Broken,
    NotChecked,
    refused,
    value_error,
)
from rramhil.device import NO_CELLS, Kind

ORDER_READS = 9


def shape(bench: Bench) -> str:
    """read() gives one float32 for each cell"""
    siemens = bench.device.read(bench.probe)
    if not isinstance(siemens, np.ndarray) or siemens.shape != bench.probe.shape:
        raise Broken(f"{bench.probe.size} cells gave shape {np.shape(siemens)}")
    if siemens.dtype != np.float32:
        raise Broken(f"the readings are {siemens.dtype}")
    return f"{siemens.size} cells"


def grid(bench: Bench) -> str:
    """readings are multiples of the lsb within the range, or 0, inf or NaN"""
    reading = bench.spec.reading
    siemens = bench.device.read(bench.probe).astype(np.float64)
    finite = siemens[np.isfinite(siemens) & (siemens != 0)]
    if np.isneginf(siemens).any():
        raise Broken("a cell read minus infinity")
    outside = (finite < reading.lowest - reading.lsb) | (finite > reading.highest + reading.lsb)
    if outside.any():
        raise Broken(
            f"a cell read {finite[outside][0]:.6g} S, outside {reading.lowest:g} to "
            f"{reading.highest:g} S"
        )
    if reading.references:
        return "a threshold reader: the grid is its references"
    codes = finite / reading.lsb
    off = np.abs(codes - np.round(codes)) > 1e-3 + 2e-7 * np.abs(codes)
    if off.any():
        raise Broken(f"a cell read {finite[off][0]:.9g} S, no multiple of {reading.lsb:g} S")
    return f"lsb {reading.lsb:g} S"


def order(bench: Bench) -> str:
    """a reading belongs to the cell it was asked for, in any order"""
    if bench.scratch.size >= 8:
        for kind, cells in ((Kind.RESET, bench.scratch[1::2]), (Kind.SET, bench.scratch[::2])):
            if kind in bench.spec.pulses:
                bench.device.apply(bench.pulse(kind, cells, 0.6))
    cells = bench.scratch if bench.scratch.size >= 8 else bench.probe
    shuffled = np.random.default_rng(1).permutation(cells.size)
    straight, again = np.empty((2, ORDER_READS, cells.size))
    for straight_reading, shuffled_reading in zip(straight, again, strict=True):
        straight_reading[:] = bench.levels(cells, reads=1)
        shuffled_reading[shuffled] = bench.levels(cells[shuffled], reads=1)
    # Taking turns, both orders see the same telegraph noise; what each cell does within one
    # order (not between them) is then its own measure of by how much the medians may differ.
    spread = np.maximum(straight.std(axis=0, ddof=1), again.std(axis=0, ddof=1))
    noise = float(np.median(spread)) + bench.spec.reading.lsb
    levels = np.median(straight, axis=0)
    if np.ptp(levels) < 8 * noise:
        raise NotChecked("the cells that were read are too much alike to be told apart")
    wrong = np.abs(np.median(again, axis=0) - levels) > 5 * np.maximum(spread, noise)
    if wrong.mean() > 0.1:
        raise Broken(f"{int(wrong.sum())} of {cells.size} cells read otherwise in another order")
    return f"{cells.size} cells, straight and shuffled"


def no_cells(bench: Bench) -> str:
    """reading no cell gives an empty array"""
    siemens = bench.device.read(NO_CELLS)
    if siemens.shape != (0,):
        raise Broken(f"it gave shape {siemens.shape}")
    return ""


def read_twice(bench: Bench) -> str:
    """reading a cell twice in one call is refused"""
    refused("cell 0 named twice", bench.device.read, np.array([0, 1, 0]))
    return ""


def read_outside(bench: Bench) -> str:
    """reading a cell that does not exist is refused"""
    for cell in (-1, bench.spec.size):
        refused(f"cell {cell}", bench.device.read, np.array([0, cell]))
    return f"-1 and {bench.spec.size}"


def read_wrongly(bench: Bench) -> str:
    """cells of a wrong shape or type are a ValueError"""
    value_error("a matrix of cells", bench.device.read, np.zeros((1, 1), dtype=np.int64))
    value_error("the cell 0.5", bench.device.read, np.array([0.5]))
    return ""


def clock(bench: Bench) -> str:
    """the clock goes forward only, and sleep() lets time pass"""
    clock = bench.device.clock
    times = []
    for _ in range(5):
        times.append(clock.now())
        bench.device.read(bench.probe[:1])
    if np.any(np.diff(times) < 0):
        raise Broken(f"time went back by {-float(np.min(np.diff(times))):g} s")
    start = clock.now()
    clock.sleep(0.01)
    slept = clock.now() - start
    if not slept >= 0.00999:
        raise Broken(f"after sleep(0.01) only {slept:g} s had passed")
    return f"a reading of one cell takes {np.median(np.diff(times)):.3g} s of device time"
