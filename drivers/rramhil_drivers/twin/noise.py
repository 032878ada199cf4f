"""What cells at rest fluctuate by: fit and comparison.

`noise_time_series_400hz`: 250 s of one cell a level, technology A of the RRAM relaxation master
model (A. Levy 2021, MIT). `repeated_reads_hrs`: 2,001 readings each of 202 cells near HRS (the
test setup of the RADAR arrays, A. Levy); their interval is not recorded, and a slope needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..emulator.ageing_laws import Noise
from ..emulator.chipfile import ChipFile, PulsedLaws
from ..emulator.fluctuation import Fluctuation
from .ages import EDGES, binned, shape
from .relaxation import FULL_SCALE, ageing, rounded, shapes, technology
from .rows import Compared, Curve
from .sources import Measured

F64 = NDArray[np.float64]
MICRO = 1e-6
SERIES_HZ = 400.0
SERIES_BAND = (0.1, 20.0)  # Hz, of the slope and the density at 1 Hz
READS_BAND = (0.005, 0.1)  # per reading
READS_INTERVAL = (
    0.2  # seconds, ours: within the traps' times, where the slope does not depend on it
)
SEGMENTS = 8
CELLS = 300
COUNT = 2000
SLOPE_ALLOWED = 0.3
DRAWS = 200
OF_RELAXATION = 0.45
LEAST_WHITE = 3e-8  # siemens, of a cell that conducts nothing: a part of a reading step, ours
UNIT = 1e-7
HIGH_RESISTANCE = ((7.0, 11.0), (19.0, 29.0))  # uS: where the repeated readings lie


def robust_white(series: F64) -> F64:
    """White noise of each row: robust spread of the differences over the root of two."""
    low, high = np.quantile(np.diff(series, axis=-1), [0.25, 0.75], axis=-1)
    return np.asarray((high - low) / 1.349 / np.sqrt(2))


def spectrum(series: F64, hertz: float) -> tuple[F64, F64]:
    """(frequencies, one-sided power density of each row): P. D. Welch, IEEE TAE 15, 70 (1967)."""
    length = series.shape[-1] // SEGMENTS
    window = np.hanning(length)
    total = np.zeros((*series.shape[:-1], length // 2 + 1))
    for i in range(SEGMENTS):
        part = series[..., i * length : (i + 1) * length]
        part = (part - part.mean(axis=-1, keepdims=True)) * window
        total = total + np.abs(np.fft.rfft(part)) ** 2
    density = total * 2 / (SEGMENTS * hertz * np.sum(window**2))
    frequencies = np.fft.rfftfreq(length, 1 / hertz).astype(np.float64)
    return frequencies[1:], np.asarray(density)[..., 1:]


def line(frequencies: F64, density: F64, band: tuple[float, float]) -> tuple[F64, F64]:
    """(slope, log10 density at 1) of each row, over equal steps of log frequency."""
    edges = np.geomspace(*band, 13)
    x, y = [], []
    for low, high in pairwise(edges):
        here = (frequencies >= low) & (frequencies < high)
        if here.any():
            x.append(np.log10(frequencies[here]).mean())
            y.append(np.log10(np.maximum(density[..., here].mean(axis=-1), 1e-30)))
    fitted = np.polyfit(x, np.array(y).reshape(len(x), -1), 1)
    return np.asarray(fitted[0]), np.asarray(fitted[1])


def simulated(law: Noise, siemens: float, interval: float, white: bool = True) -> F64:
    """`COUNT` readings of `CELLS` emulated cells that rest at `siemens`: (cells, readings)."""
    fluctuation = Fluctuation(law)
    cells, g = np.arange(CELLS), np.full(CELLS, siemens, dtype=np.float32)
    rng = np.random.default_rng(0)
    seen = [
        fluctuation.look(cells, g, 500.0 + i * interval, 7, rng)
        if white
        else g + fluctuation.offset(cells, g, 500.0 + i * interval, 7)
        for i in range(COUNT)
    ]
    return np.array(seen, dtype=np.float64).T


def series_of(data: Measured) -> dict[float, F64]:
    """The 400 Hz series, siemens, by mean conductance."""
    table = data.table("noise_time_series_400hz")
    found = [rows["g_s"].to_numpy(np.float64) for _, rows in table.groupby("level")]
    return {float(series.mean()): series for series in found}


def reads_of(data: Measured) -> dict[str, F64]:
    """The repeated readings of each run, siemens, (cells, readings); none without the table."""
    if not data.has("repeated_reads_hrs"):
        return {}
    table = data.table("repeated_reads_hrs")
    runs = {}
    for run, rows in table.groupby("run"):
        wide = rows.pivot_table(index="addr", columns="sample", values="r")
        runs[str(run)] = 1 / wide.to_numpy(np.float64)[:, :COUNT]
    return runs


def near_high_resistance(runs: dict[str, F64]) -> Iterator[tuple[float, F64]]:
    """(median conductance, readings) of the cells in each of `HIGH_RESISTANCE`."""
    if not runs:
        return
    readings = np.concatenate(list(runs.values()))
    middle = np.median(readings, axis=1)
    for low, high in HIGH_RESISTANCE:
        here = (middle > low * MICRO) & (middle < high * MICRO)
        if here.sum() >= 10:
            yield float(np.median(middle[here])), readings[here]


# -------------------------------------------------------------------------------- fitting


def fit(data: Measured, laws: PulsedLaws, say: Callable[[str], None]) -> PulsedLaws:
    """White noise and telegraph steps by level; the times, their number and spread are kept.

    A telegraph step is scaled so that the median cell shows what is measured: the density at
    1 Hz of the series, the standard deviation over all readings of the repeated ones.
    """
    law = laws.noise
    unit = law.model_copy(update={"siemens": (0.0,), "sd": (0.0,), "step_siemens": (UNIT,)})
    flat = 1e-3  # siemens: far from what traps could take
    fast = spectrum(simulated(unit, flat, 1 / 40.0, white=False), 40.0)
    at_one = 10 ** np.median(line(*fast, SERIES_BAND)[1][moving(fast)])
    wander = np.median(simulated(unit, flat, READS_INTERVAL, white=False).std(axis=1))
    knots = [(0.0, LEAST_WHITE, 0.0)]
    most = _most_step(data, laws, unit)
    for siemens, readings in near_high_resistance(reads_of(data)):
        white = float(np.median(robust_white(readings)))
        slow = float(np.median(np.sqrt(np.maximum(readings.var(axis=1) - white**2, 0.0))))
        knots.append((siemens, white, min(UNIT * slow / wander, most(siemens))))
    many = knots[-1][0]
    for siemens, series in series_of(data).items():
        if siemens < 1.5 * many:
            continue  # the many cells near HRS say more than one
        density = 10 ** line(*spectrum(series, SERIES_HZ), SERIES_BAND)[1][0]
        step = min(UNIT * np.sqrt(density / at_one), most(siemens))
        knots.append((siemens, float(robust_white(series)), float(step)))
    for siemens, white, step in knots:
        say(f"at {siemens / MICRO:.3g} uS: white {white / MICRO:.2g}, step {step / MICRO:.2g} uS")
    columns = [rounded(row) for row in zip(*knots, strict=True)]
    source = (
        "sd and step_siemens fitted by `rramhil twin fit`: up to 29 uS to repeated_reads_hrs (test "
        "setup of the RADAR arrays), above to noise_time_series_400hz, one cell a level "
        "(technology A, RRAM relaxation master model, A. Levy 2021, MIT), a step at most what "
        "makes 0.45 of the spread of the table relaxation; number, spread, growth and times of "
        "the traps by hand from the spread and the slopes between those cells"
    )
    update = dict(zip(("siemens", "sd", "step_siemens"), columns, strict=True))
    return laws.model_copy(update={"noise": law.model_copy(update={**update, "source": source})})


def _most_step(data: Measured, laws: PulsedLaws, unit: Noise) -> Callable[[float], float]:
    """The step that makes `OF_RELAXATION` of the spread of relaxation at its narrowest age.

    What a cell at rest does is part of what is seen as its relaxation, and that is measured on
    hundreds of cells a level, the series on one.
    """
    if not data.has("relaxation"):
        return lambda siemens: np.inf
    name = technology(laws)
    measured = ageing(data, name)
    fluctuation, cells = Fluctuation(unit), np.arange(10 * CELLS)
    g = np.full(cells.size, 1e-3, dtype=np.float32)
    bounds = []
    for age in sorted(measured.changes):
        change = fluctuation.offset(cells, g, 500 + age, 7) - fluctuation.offset(cells, g, 500, 7)
        alone = shape(change).spread / UNIT
        found = shapes(measured.starts[age], measured.changes[age], FULL_SCALE[name])
        if alone > 0.05:
            bounds.append([OF_RELAXATION * s.spread / alone if s else np.nan for s in found])
    where = binned(measured.first, FULL_SCALE[name])
    narrowest = np.min(np.nan_to_num(bounds, nan=np.inf), axis=0)
    held = [b for b in range(len(EDGES) - 1) if np.isfinite(narrowest[b])]
    levels = [float(np.median(measured.first[where == b])) for b in held]
    return lambda siemens: float(np.interp(siemens, levels, narrowest[held]))


def moving(found: tuple[F64, F64]) -> NDArray[np.bool_]:
    """Cells with a trap that was drawn anew within the series."""
    return np.asarray(found[1].max(axis=-1) > 0)


# ------------------------------------------------------------------------------ comparing


def compare(data: Measured, chip: ChipFile, seed: int) -> Iterator[Compared]:
    """Slopes, white noise and wandering of repeated readings; densities of single cells."""
    laws = chip.cells
    assert laws is not None
    rng = np.random.default_rng(seed)
    for run, readings in reads_of(data).items():
        middle = float(np.median(readings))
        there = simulated(laws.noise, middle, READS_INTERVAL)
        for statistic, of, allowed in (
            ("slope of 1/f noise", _slopes, SLOPE_ALLOWED),
            ("white noise", robust_white, None),
            ("standard deviation", _deviations, None),
        ):
            yield _medians(run, statistic, of(readings), of(there), allowed, rng)
    for siemens, series in series_of(data).items():
        yield from _single(siemens, series, laws.noise)


def _slopes(readings: F64) -> F64:
    return line(*spectrum(readings, 1.0), READS_BAND)[0]


def _deviations(readings: F64) -> F64:
    return np.asarray(readings.std(axis=1))


def _medians(
    run: str, statistic: str, here: F64, there: F64, allowed: float | None,
    rng: np.random.Generator,
) -> Compared:  # fmt: skip
    absolute = allowed is not None
    predicted = float(np.median(there))

    def off(measured: float) -> float:
        return predicted - measured if absolute else predicted / measured - 1

    draws = [off(float(np.median(rng.choice(here, here.size)))) for _ in range(DRAWS)]
    low, high = np.quantile(draws, [0.025, 0.975])
    scale = 1.0 if absolute else 1 / MICRO
    measured = float(np.median(here))
    return Compared(
        f"{statistic}, median cell", run, measured * scale, predicted * scale, off(measured),
        allowed, float(low), float(high), "" if absolute else "µS", "repeated_reads_hrs",
    )  # fmt: skip


def _single(siemens: float, series: F64, law: Noise) -> Iterator[Compared]:
    """One measured cell against the emulated ones: the interval is theirs, 95 % of the cells."""
    slope, density = (float(v[0]) for v in line(*spectrum(series, SERIES_HZ), SERIES_BAND))
    slopes, densities = line(*spectrum(simulated(law, siemens, 1 / 40.0), 40.0), SERIES_BAND)
    group = f"one cell at {siemens / MICRO:.3g} µS"
    for statistic, here, there in (
        ("slope of 1/f noise", slope, slopes),
        ("log10 of S_G at 1 Hz", density, densities),
    ):
        low, high = np.quantile(there - here, [0.025, 0.975])
        middle = float(np.median(there))
        yield Compared(
            statistic, group, here, middle, middle - here, None, float(low), float(high), "",
            "noise_time_series_400hz, interval over emulated cells",
        )  # fmt: skip


def curves(data: Measured, chip: ChipFile, seed: int) -> Iterator[Curve]:
    """Mean relative spectra of the repeated readings, measured and predicted."""
    laws = chip.cells
    assert laws is not None
    for run, readings in reads_of(data).items():
        middle = float(np.median(readings))
        for values, measured in (
            (readings, True), (simulated(laws.noise, middle, READS_INTERVAL), False)
        ):  # fmt: skip
            relative = values / np.median(values, axis=1, keepdims=True)
            frequencies, density = spectrum(relative, 1.0)
            yield Curve(
                "Noise near HRS", run, frequencies, _median_of(density), measured,
                "frequency (per reading)", "relative power density, median cell", "xy",
            )  # fmt: skip


def _median_of(density: F64) -> NDArray[Any]:
    return np.asarray(np.median(density, axis=0))
