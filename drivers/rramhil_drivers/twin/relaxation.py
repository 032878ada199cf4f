"""Relaxation after a write: fit to, and comparison with, the table `relaxation`.

Data: RRAM relaxation master model (A. Levy 2021, MIT): three technologies; the one is taken
whose full scale is nearest to the chip's, and of its conditions that with most ages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..emulator.ageing_laws import Relaxation
from ..emulator.chipfile import ChipFile, PulsedLaws
from .ages import (
    EDGES,
    F64,
    FEWEST,
    MICRO,
    Shape,
    bare_chip,
    binned,
    compare_shapes,
    later_readings,
    seconds_text,
    shape,
)
from .rows import Compared, Curve
from .sources import Measured

if TYPE_CHECKING:
    import pandas as pd

FULL_SCALE = {"A": 240e-6, "B": 128e-6, "C": 40e-6}
FULL_OF_LIMIT = 0.75  # full scale of technology A over the highest conductance of its chip file
ROUNDS = 14
SIMULATED = 60_000  # cells
LEAST_SPREAD = 2e-8
WIDER_THAN_LEVEL = 5e-6  # a wider spread would only be cut at the lowest conductance
LARGEST_TAIL = 1.5
NEIGHBOUR = 0.25  # weight of the tails at the next level and age
LARGEST = 20.0
LATER, LATER_WEIGHT = 0.99, 4.0  # seconds, and weight of correlations between such ages


def technology(laws: PulsedLaws) -> str:
    """The measured technology whose full scale is nearest to that of the cells."""
    full = FULL_OF_LIMIT * laws.set.limit_siemens
    return min(FULL_SCALE, key=lambda name: abs(np.log(FULL_SCALE[name] / full)))


@dataclass(frozen=True, slots=True, eq=False)
class Ageing:
    """Readings of one technology: first ones, and changes at each age by address."""

    name: str
    condition: str
    first: F64
    changes: dict[float, F64]
    starts: dict[float, F64]

    @property
    def data(self) -> str:
        """Which rows they are."""
        return f"relaxation, technology {self.name}, {self.condition}"


def ageing(data: Measured, name: str) -> Ageing:
    """The readings of technology `name`, of the condition with most ages."""
    table = data.table("relaxation")
    table = table[(table["technology"] == name) & (table["time_nominal_s"] > 0)]
    ages = table.groupby("condition")["time_nominal_s"].nunique()
    condition = str(ages.idxmax())
    table = table[table["condition"] == condition]
    changes, starts = {}, {}
    for age, rows in table.groupby("time_nominal_s"):
        seconds = float(f"{age:.3g}")
        starts[seconds] = rows["g_initial_s"].to_numpy(np.float64)
        changes[seconds] = rows["g_s"].to_numpy(np.float64) - starts[seconds]
    first = table.groupby("addr")["g_initial_s"].first().to_numpy(np.float64)
    return Ageing(name, condition, first, changes, starts)


def shapes(starts: F64, changes: F64, full_scale: float) -> list[Shape | None]:
    """The shape of the changes in each bin; None where there are too few."""
    bins = binned(starts, full_scale)
    found = [changes[bins == b] for b in range(len(EDGES) - 1)]
    return [shape(c) if c.size >= FEWEST else None for c in found]


# -------------------------------------------------------------------------------- fitting


def fit(data: Measured, laws: PulsedLaws, say: Callable[[str], None]) -> PulsedLaws:
    """`laws` with the relaxation table of the nearest technology; rows of later ages are kept."""
    name = technology(laws)
    measured = ageing(data, name)
    ages = sorted(measured.changes)
    full = FULL_SCALE[name]
    targets = {a: shapes(measured.starts[a], measured.changes[a], full) for a in ages}
    bins = [b for b in range(len(EDGES) - 1) if all(targets[a][b] for a in ages)]
    where = binned(measured.first, full)
    levels = [float(np.median(measured.first[where == b])) for b in bins]
    aim = {a: [_known(targets[a][b]) for b in bins] for a in ages}
    counts = np.array([(where == b).sum() for b in bins])
    early = early_weights(data, measured)
    law = _start(laws, levels, ages, early, aim)
    law = matched(laws, law, smoothed(aim, counts), levels, measured.first, full, bins, say)
    law = turned(data, laws, law, measured)
    source = (
        f"fitted by `rramhil twin fit` to {measured.data} (RRAM relaxation master model, "
        "A. Levy 2021, MIT), even blocks of 64 addresses"
    )
    law = with_later(law, laws.relaxation).model_copy(update={"source": source})
    return laws.model_copy(update={"relaxation": law})


def _known(one: Shape | None) -> Shape:
    assert one is not None
    return one


def _start(
    laws: PulsedLaws, levels: list[float], ages: list[float], early: F64,
    aim: dict[float, list[Shape]],
) -> Relaxation:  # fmt: skip
    down = np.array([[s.down for s in aim[a]] for a in ages])
    up = np.array([[s.up for s in aim[a]] for a in ages])
    middle = np.array([[s.middle for s in aim[a]] for a in ages])
    tail = np.full(down.shape, 0.1)
    law = laws.relaxation.model_copy(
        update={
            "siemens": rounded(levels),
            "seconds": tuple(ages),
            "early": rounded(early),
            "largest": LARGEST,
        }
    )
    return with_tables(law, middle, down, up, tail, tail)


def with_tables(law: Relaxation, *tables: NDArray[Any]) -> Relaxation:
    """`law` with middle, down, up, down_tail, up_tail: arrays (ages, levels), three digits."""
    names = ("middle_siemens", "down_siemens", "up_siemens", "down_tail", "up_tail")
    new = {n: tuple(rounded(row) for row in t) for n, t in zip(names, tables, strict=True)}
    return law.model_copy(update=new)


def rounded(values: Any, digits: int = 3) -> tuple[float, ...]:
    """Floats of so many digits."""
    return tuple(float(f"{v:.{digits}g}") for v in np.asarray(values).tolist())


def matched(
    laws: PulsedLaws, law: Relaxation, aim: dict[float, list[Shape]], levels: list[float],
    first: F64, full: float, bins: list[int], say: Callable[[str], None],
    heated: Callable[[ChipFile, F64], dict[float, tuple[F64, F64]]] | None = None,
) -> Relaxation:  # fmt: skip
    """`law` moved until emulated cells, read noise included, show the shapes `aim`.

    `aim`: for each age (a row of the law), for each level. `heated` simulates instead of
    ageing at the reference temperature: (first readings, changes) of each age.
    """
    rng = np.random.default_rng(1)
    start = evenly(first, full, rng)
    ages = sorted(aim)
    rows = [law.seconds.index(a) for a in ages]
    tables = [np.array(t) for t in (law.middle_siemens, *law.spreads())]
    for turn in range(ROUNDS):
        chip = bare_chip(laws.model_copy(update={"relaxation": with_tables(law, *tables)}))
        if heated is None:
            seen, later = later_readings(chip, start, ages, 1)
            readings = {a: (seen, at - seen) for a, at in zip(ages, later, strict=True)}
        else:
            readings = heated(chip, start)
        off = 0.0
        for row, age in zip(rows, ages, strict=True):
            found = shapes(*readings[age], full)
            for level, b in enumerate(bins):
                if (here := found[b]) is not None:
                    off = max(off, abs(here.spread / aim[age][level].spread - 1))
                    _move(tables, row, level, here, aim[age][level], levels[level])
        if turn in (0, ROUNDS - 1):
            say(f"round {turn + 1}: worst spread off by {100 * off:.0f} %")
    return with_tables(law, *tables)


def _move(
    tables: list[NDArray[Any]], row: int, level: int, here: Shape, aim: Shape, siemens: float
) -> None:
    middle, down, up, down_tail, up_tail = tables
    middle[row, level] += aim.middle - here.middle
    for table, is_, should in ((down, here.down, aim.down), (up, here.up, aim.up)):
        factor = np.clip(should / max(is_, 1e-12), 0.5, 2.0)
        widest = siemens + WIDER_THAN_LEVEL
        table[row, level] = np.clip(table[row, level] * factor, LEAST_SPREAD, widest)
    least = 1e-3
    for table, is_, should in (
        (down_tail, here.low_tail, aim.low_tail),
        (up_tail, here.high_tail, aim.high_tail),
    ):
        step = 0.2 * np.log(max(should, least) / max(is_, least))
        table[row, level] = np.clip(table[row, level] + np.clip(step, -0.2, 0.2), 0, LARGEST_TAIL)


def smoothed(aim: dict[float, list[Shape]], counts: NDArray[Any]) -> dict[float, list[Shape]]:
    """Tails, skew and drift with a part of their neighbours': hundreds of cells tell little.

    The spread stays as it was measured.
    """
    ages = sorted(aim)

    def smooth(values: F64) -> F64:
        weights = np.broadcast_to(counts, values.shape).astype(float)
        total, weight = weights * values, weights.copy()
        for axis in (0, 1):
            for by in (-1, 1):
                shifted = np.roll(weights * values, by, axis)
                share = np.roll(weights, by, axis)
                edge = [slice(None), slice(None)]
                edge[axis] = slice(0, 1) if by == 1 else slice(-1, None)
                share[tuple(edge)] = shifted[tuple(edge)] = 0
                total, weight = total + NEIGHBOUR * shifted, weight + NEIGHBOUR * share
        return np.asarray(total / weight)

    spread = np.array([[s.spread for s in aim[a]] for a in ages])
    skew = smooth(np.array([[(s.up - s.down) / 2 for s in aim[a]] for a in ages]) / spread)
    drift = smooth(np.array([[s.middle for s in aim[a]] for a in ages]) / spread)
    low = smooth(np.array([[s.low_tail for s in aim[a]] for a in ages]))
    high = smooth(np.array([[s.high_tail for s in aim[a]] for a in ages]))
    tables = (drift * spread, spread * (1 - skew), spread * (1 + skew), low, high)
    return {
        a: [Shape(*(float(t[i, j]) for t in tables)) for j in range(spread.shape[1])]
        for i, a in enumerate(ages)
    }


def evenly(first: F64, full: float, rng: np.random.Generator) -> F64:
    """First readings drawn so that each bin holds as many."""
    where = binned(first, full)
    held = [first[where == b] for b in range(len(EDGES) - 1)]
    each = SIMULATED // len(held)
    return np.concatenate([rng.choice(one, each) for one in held if one.size])


def with_later(law: Relaxation, old: Relaxation) -> Relaxation:
    """`law` with the rows of `old` that lie beyond its last age, at its own levels."""
    kept = [i for i, s in enumerate(old.seconds) if s > 10 * law.seconds[-1]]
    new = {}
    for name in ("middle_siemens", "down_siemens", "up_siemens", "down_tail", "up_tail"):
        rows = [np.interp(law.siemens, old.siemens, getattr(old, name)[i]) for i in kept]
        new[name] = (*getattr(law, name), *(rounded(r) for r in rows))
    seconds = (*law.seconds, *(old.seconds[i] for i in kept))
    early = (*law.early, *(law.early[-1] for _ in kept))
    return law.model_copy(update={**new, "seconds": seconds, "early": early})


def early_weights(data: Measured, measured: Ageing) -> F64:
    """sin of the angles by which n turns with age, from the rank correlations between ages.

    Ranks, since the tails must not decide; 2 sin(pi rho / 6) turns them into those of normals
    (K. Pearson, 1907).
    """
    from scipy.optimize import least_squares

    wide = by_address(data, measured)
    scaled = wide / wide.abs().median()
    corr = 2 * np.sin(np.pi / 6 * scaled.rank().corr().to_numpy())
    count = len(corr)
    # Two components cannot follow all pairs; waiting before a verify is a matter of seconds up.
    later = np.array(sorted(measured.changes)) >= LATER
    weights = np.where(np.logical_and.outer(later, later), LATER_WEIGHT, 1.0)

    def angles(x: F64) -> F64:
        return np.asarray(np.maximum(np.pi / 2 - np.cumsum(np.abs(x)), 0.0))

    def misfit(x: F64) -> F64:
        turned = angles(x)
        model = np.cos(np.subtract.outer(turned, turned))
        return np.asarray((weights * (model - corr))[np.triu_indices(count, 1)])

    found = least_squares(misfit, np.full(count, 0.25)).x
    return np.asarray(np.sin(angles(found)))


def turned(data: Measured, laws: PulsedLaws, law: Relaxation, measured: Ageing) -> Relaxation:
    """`law` with its angles scaled until readings at 1 s and at the last age rank as measured.

    Read noise and traps hide a part of the correlation, in the data as in the emulator.
    """
    pair = [a for a in sorted(measured.changes) if a >= LATER]
    ages = [pair[0], pair[-1]]
    wide = by_address(data, measured)
    both = wide[[c for c in wide.columns if c >= LATER]].iloc[:, [0, -1]].dropna()
    aim = _rank_correlation(both.iloc[:, 0].to_numpy(), both.iloc[:, 1].to_numpy())
    start = np.random.default_rng(1).choice(measured.first, SIMULATED)
    angles = np.arcsin(np.array(law.early))

    def by(factor: float) -> Relaxation:
        early = np.sin(np.minimum(factor * angles, np.pi / 2))
        return law.model_copy(update={"early": rounded(early)})

    low, high = 0.2, 2.0
    for _ in range(8):
        middle = (low + high) / 2
        chip = bare_chip(laws.model_copy(update={"relaxation": by(middle)}))
        first, later = later_readings(chip, start, ages, 1)
        found = _rank_correlation(later[0] - first, later[1] - first)
        low, high = (middle, high) if found > aim else (low, middle)
    return by((low + high) / 2)


def by_address(data: Measured, measured: Ageing) -> pd.DataFrame:
    """Changes, one row an address, one column an age."""
    table = data.table("relaxation")
    table = table[
        (table["technology"] == measured.name)
        & (table["condition"] == measured.condition)
        & (table["time_nominal_s"] > 0)
    ]
    table = table.assign(change=table["g_s"] - table["g_initial_s"])
    return table.pivot_table(index="addr", columns="time_nominal_s", values="change")


# ------------------------------------------------------------------------------ comparing


def _aged(data: Measured, chip: ChipFile, seed: int) -> tuple[Ageing, F64, list[F64]]:
    """What was measured, and readings of emulated cells: the first, and one at each age."""
    assert chip.cells is not None
    measured = ageing(data, technology(chip.cells))
    start = np.random.default_rng(seed).choice(measured.first, SIMULATED)
    return measured, *later_readings(chip, start, sorted(measured.changes), seed)


def compare(data: Measured, chip: ChipFile, seed: int) -> Iterator[Compared]:
    """Spread, tails and drift in each bin at each age; correlation between ages."""
    measured, first, later = _aged(data, chip, seed)
    ages, full = sorted(measured.changes), FULL_SCALE[measured.name]
    rng = np.random.default_rng(seed)
    bins = binned(first, full)
    for age, readings in zip(ages, later, strict=True):
        here = binned(measured.starts[age], full)
        for b in range(len(EDGES) - 1):
            changes = measured.changes[age][here == b]
            if changes.size >= FEWEST:
                group = f"{bin_text(b, full)}, {seconds_text(age)}"
                there = (readings - first)[bins == b]
                yield from compare_shapes(group, changes, there, measured.data, True, rng)
    yield _correlation(data, measured, ages, [r - first for r in later], rng)


def _correlation(
    data: Measured, measured: Ageing, ages: list[float], changes: list[F64],
    rng: np.random.Generator,
) -> Compared:  # fmt: skip
    wide = by_address(data, measured)
    pair = wide[[c for c in wide.columns if c >= 0.99]].dropna().iloc[:, [0, -1]]
    kept = [i for i, age in enumerate(ages) if age >= 0.99]
    there = _rank_correlation(changes[kept[0]], changes[kept[-1]])
    values = np.asarray(pair, dtype=np.float64)
    here = _rank_correlation(*values.T)
    draws = []
    for _ in range(100):
        pick = rng.integers(0, len(values), len(values))
        draws.append(there - _rank_correlation(*values[pick].T))
    low, high = np.quantile(draws, [0.025, 0.975])
    group = f"{seconds_text(ages[kept[0]])} and {seconds_text(ages[kept[-1]])}"
    return Compared(
        "rank correlation", group, here, there, there - here, None, float(low), float(high), "",
        measured.data,
    )  # fmt: skip


def _rank_correlation(a: F64, b: F64) -> float:
    ranks = [np.argsort(np.argsort(v)) for v in (a, b)]
    return float(np.asarray(np.corrcoef(ranks))[0, 1])


def bin_text(number: int, full: float) -> str:
    """A bin as people say it."""
    low, high = max(EDGES[number], 0.0) * full / MICRO, EDGES[number + 1] * full / MICRO
    return f"{low:.3g}-{high:.3g} µS"


def curves(data: Measured, chip: ChipFile, seed: int) -> Iterator[Curve]:
    """Robust spread over age for some bins, measured and predicted."""
    measured, first, later = _aged(data, chip, seed)
    ages, full = sorted(measured.changes), FULL_SCALE[measured.name]
    for b in (2, 4, 6, 8):
        here = [shapes(measured.starts[a], measured.changes[a], full)[b] for a in ages]
        there = [shapes(first, r - first, full)[b] for r in later]
        for found, is_measured in ((here, True), (there, False)):
            spreads = np.array([np.nan if s is None else s.spread / MICRO for s in found])
            yield Curve(
                f"Relaxation, technology {measured.name}", bin_text(b, full), np.array(ages),
                spreads, is_measured, "time after the write (s)", "robust spread (µS)", "x",
            )  # fmt: skip


# ----------------------------------------------------------------------------- for the CI

SOURCE = "RRAM relaxation master model, A. Levy 2021, MIT (github.com/akashlevy)"


def tables(data: Measured) -> dict[str, Any]:
    """Shapes of all cells by technology, age and bin, in uS and shares: what CI checks against."""
    found: dict[str, Any] = {"source": SOURCE, "unit": "uS", "technologies": {}}
    for name, full in FULL_SCALE.items():
        measured = ageing(data, name)
        rows = []
        for age in sorted(measured.changes):
            where = binned(measured.starts[age], full)
            for b in range(len(EDGES) - 1):
                here = where == b
                if here.sum() >= FEWEST:
                    one = shape(measured.changes[age][here])
                    rows.append(
                        {
                            "seconds": age,
                            "level": _micro(float(np.median(measured.starts[age][here]))),
                            "cells": int(here.sum()),
                            "middle": _micro(one.middle),
                            "spread": _micro(one.spread),
                            "tails": float(f"{one.tails:.4g}"),
                        }
                    )
        found["technologies"][name] = {"data": measured.data, "rows": rows}
    return found


def _micro(siemens: float) -> float:
    return float(f"{siemens / MICRO:.4g}")
