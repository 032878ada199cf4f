"""Is this device well? Identification, a few rows, noise, timing, and every promise it makes.

    with rramhil.connect("serial:/dev/ttyUSB0") as device:
        print(examine(device, scratch=device.spec.cells(0, 7, range(16))))

Reading comes first, pulses (on scratch cells only) last. What readings alone say of a cell is
a guess: a cell that conducts far more than the others may be stuck_lrs or just written so. A
scan, with a RESET and a SET, tells.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from rramhil.conformance import Outcome, check
from rramhil.device import Cells, Device, Kind, Spec
from rramhil.schema import Strict
from rramhil.units import show

NOISE_READS = 16
NOISE_CELLS = 256
TIMED_READS = 5
UNREADABLE_SHARE = 0.01
BAD_ROW_SHARE = 0.25


class Identity(Strict):
    """Who answered, and what it says that it can do."""

    model: str
    serial: str
    tiles: int
    rows: int
    cols: int
    volatile: bool = Field(description="an emulated die that ends with its process")
    abilities: tuple[str, ...] = Field(description="kinds of pulse, product, write-verify, knobs")


class RowCensus(Strict):
    """What a few rows read, as shares of their cells; siemens of those that gave a number."""

    rows: tuple[tuple[int, int], ...] = Field(description="the rows that were read: tile, row")
    cells: int
    unreadable: float = Field(description="share that gave no answer")
    below_range: float = Field(description="share that read 0: unformed, stuck_hrs or very low")
    above_range: float = Field(description="share that read inf: stuck_lrs or in compliance")
    far_above: float = Field(description="share beyond the upper quartile + 3 quartile distances")
    quartiles_siemens: tuple[float, float, float]
    suspect_rows: tuple[tuple[int, int], ...] = Field(
        description="rows where over a quarter of the cells gave no number: faults cluster so"
    )


class Noise(Strict):
    """Repeated readings of the same cells."""

    siemens: float = Field(description="median over the cells of the standard deviation")
    worst_siemens: float = Field(description="99th percentile over the cells")
    lsb_siemens: float
    reads: int
    cells: int


class Timing(Strict):
    """Seconds of a read call of one cell, and of each further cell in it."""

    device_call_seconds: float
    device_cell_seconds: float
    host_call_seconds: float
    host_cell_seconds: float


class Promise(Strict):
    """One finding of `rramhil.conformance`."""

    promise: str
    outcome: Outcome
    detail: str


class Examination(Strict):
    """All that was found. `remarks` are the sentences that a person should read."""

    identity: Identity
    census: RowCensus
    noise: Noise
    timing: Timing
    promises: tuple[Promise, ...]
    remarks: tuple[str, ...]
    healthy: bool = Field(description="every promise checked is kept, and the cells answer")

    def __str__(self) -> str:
        return "\n".join(self.remarks)


def examine(
    device: Device, *, scratch: ArrayLike | None = None, rows: int = 4, seed: int = 0
) -> Examination:
    """Examine `device` and close it. Only `scratch` cells are pulsed, as in `conformance.check`.

    `rows`: how many rows are read, spread over the die (at most all). Raises `DeviceError` when
    it cannot even be read.
    """
    chosen = _spread_rows(device.spec, rows)
    census = _census(device, chosen)
    noise = _noise(device, np.random.default_rng(seed))
    timing = _timing(device, device.spec.cells(*chosen[0], np.arange(device.spec.cols)))
    promises = tuple(
        Promise(promise=f.promise, outcome=f.outcome, detail=f.detail)
        for f in check(device, scratch, seed=seed)
    )
    broken = any(p.outcome is Outcome.FAILED for p in promises)
    identity = _identity(device.spec)
    return Examination(
        identity=identity,
        census=census,
        noise=noise,
        timing=timing,
        promises=promises,
        remarks=tuple(_remarks(identity, census, noise, timing, promises)),
        healthy=not broken and census.unreadable <= UNREADABLE_SHARE,
    )


def _identity(spec: Spec) -> Identity:
    abilities = [kind.name for kind in Kind if kind in spec.pulses]
    abilities += ["in-situ product"] if spec.mvm else []
    abilities += ["write-verify of its own"] if spec.program else []
    abilities += [f"knob {name}" for name in spec.knobs]
    of_spec = set(Identity.model_fields) - {"abilities"}
    return Identity(**{key: getattr(spec, key) for key in of_spec}, abilities=tuple(abilities))


def _spread_rows(spec: Spec, rows: int) -> list[tuple[int, int]]:
    every = spec.tiles * spec.rows
    chosen = np.unique(np.linspace(0, every - 1, min(max(rows, 1), every)).astype(np.int64))
    return [(int(row // spec.rows), int(row % spec.rows)) for row in chosen]


def _census(device: Device, rows: list[tuple[int, int]]) -> RowCensus:
    cols = np.arange(device.spec.cols)
    siemens = np.stack([device.read(device.spec.cells(*row, cols)) for row in rows])
    number = np.isfinite(siemens) & (siemens > 0)
    low, middle, high = np.percentile(siemens[number], [25, 50, 75]) if number.any() else (0, 0, 0)
    silent = np.mean(~number, axis=1) > BAD_ROW_SHARE
    return RowCensus(
        rows=tuple(rows),
        cells=siemens.size,
        unreadable=_share(np.isnan(siemens)),
        below_range=_share(siemens == 0),
        above_range=_share(np.isposinf(siemens)),
        far_above=_share(number & (siemens > high + 3 * (high - low))),
        quartiles_siemens=(float(low), float(middle), float(high)),
        suspect_rows=tuple(row for row, bad in zip(rows, silent, strict=True) if bad),
    )


def _noise(device: Device, rng: np.random.Generator) -> Noise:
    size = device.spec.size
    cells = np.sort(rng.choice(size, min(NOISE_CELLS, size), replace=False))
    stack = np.stack([device.read(cells) for _ in range(NOISE_READS)]).astype(np.float64)
    steady = np.isfinite(stack).all(axis=0)
    spread = stack[:, steady].std(axis=0, ddof=1) if steady.any() else np.zeros(1)
    return Noise(
        siemens=float(np.median(spread)),
        worst_siemens=float(np.percentile(spread, 99)),
        lsb_siemens=device.spec.reading.lsb,
        reads=NOISE_READS,
        cells=int(steady.sum()),
    )


def _timing(device: Device, row: Cells) -> Timing:
    clocks = (device.clock.now, time.perf_counter)
    one, many = (
        [_median_seconds(device, cells, clock) for clock in clocks] for cells in (row[:1], row)
    )
    more = max(row.size - 1, 1)
    return Timing(
        device_call_seconds=one[0],
        device_cell_seconds=max(many[0] - one[0], 0.0) / more,
        host_call_seconds=one[1],
        host_cell_seconds=max(many[1] - one[1], 0.0) / more,
    )


def _median_seconds(device: Device, cells: Cells, clock: Callable[[], float]) -> float:
    taken = []
    for _ in range(TIMED_READS):
        start = clock()
        device.read(cells)
        taken.append(clock() - start)
    return float(np.median(taken))


def _remarks(
    identity: Identity,
    census: RowCensus,
    noise: Noise,
    timing: Timing,
    promises: tuple[Promise, ...],
) -> list[str]:
    by = {outcome: [p for p in promises if p.outcome is outcome] for outcome in Outcome}
    passed, failed = by[Outcome.PASSED], by[Outcome.FAILED]
    low, middle, high = (show(siemens, "S") for siemens in census.quartiles_siemens)
    said = [
        f"{identity.model}, serial {identity.serial}: {identity.tiles} x {identity.rows} x "
        f"{identity.cols} cells; it does {', '.join(identity.abilities) or 'nothing but read'}",
        f"{len(census.rows)} rows read: median {middle}, quartiles {low} and {high}; "
        f"{census.unreadable:.1%} gave no answer, {census.below_range:.1%} read below the range, "
        f"{census.above_range:.1%} above it, {census.far_above:.1%} far above the others "
        "(stuck_lrs, or written so: a scan tells)",
        f"read noise {show(noise.siemens, 'S')} (worst 1 %: {show(noise.worst_siemens, 'S')}), "
        f"lsb {show(noise.lsb_siemens, 'S')}",
        f"a read call takes {show(timing.device_call_seconds, 's')} of device time and "
        f"{show(timing.host_call_seconds, 's')} of host time; each further cell "
        f"{show(timing.device_cell_seconds, 's')} and {show(timing.host_cell_seconds, 's')}",
        f"{len(passed)} promises kept, {len(failed)} broken, "
        f"{len(by[Outcome.NOT_CHECKED])} not checked",
    ]
    said += [f"BROKEN: {p.promise}: {p.detail}" for p in failed]
    said += [f"not checked: {p.promise} ({p.detail})" for p in by[Outcome.NOT_CHECKED]]
    if census.suspect_rows:
        named = ", ".join(f"tile {tile} row {row}" for tile, row in census.suspect_rows)
        said.append(f"look at {named}: over {BAD_ROW_SHARE:.0%} of its cells gave no number")
    if census.unreadable > UNREADABLE_SHARE:
        said.append("cells give no answer: check the contacts before anything is written")
    return said


def _share(which: NDArray[np.bool_]) -> float:
    return float(np.mean(which))
