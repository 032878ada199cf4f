"""Fit of the relaxation law to technology A of the RRAM relaxation master model.

For the relaxation of a chip file. Source of the data: A. Levy 2021, MIT licence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from measured_arrays import MICRO, Measured, Row, quantiles
from scipy.optimize import least_squares, minimize

from rramhil_drivers.emulator import physics
from rramhil_drivers.emulator.chipfile import PulsedLaws, Relaxation

BEYOND = (3, 6)  # robust standard deviations: how heavy the tails are
FIRST_UPPER = 3  # relaxation bins from 24 uS up decide the tails


def fit_relaxation(data: Measured, laws: PulsedLaws) -> tuple[PulsedLaws, list[Row]]:
    """Spread and mean by level at 1 s, their course in time, and the tails (technology A)."""
    table = pd.read_parquet(data.folder / "relaxation.parquet")
    table = table[(table.technology == "A") & (table.condition == "fresh")]
    table = table[table.time_nominal_s > 0].assign(change=lambda t: t.g_s - t.g_initial_s)
    law = laws.relaxation
    edges = np.array([0, 4, 12, 24, 48, 72, 96, 120, 168, 216, 260]) * MICRO
    table["bin"] = pd.cut(table.g_initial_s, edges, labels=False)
    by = table.groupby(["bin", "time_nominal_s"]).change
    robust = ((by.quantile(0.75) - by.quantile(0.25)) / 1.349).unstack()
    middle = by.median().unstack()
    centre = table.groupby("bin").g_initial_s.median()
    noise = np.interp(centre, laws.noise.siemens, laws.noise.sd)
    clean = robust.pow(2).sub(0.5 * noise**2, axis=0).clip(lower=(0.2 * robust) ** 2).pow(0.5)
    course = clean.div(clean[1.0], axis=0).median()  # common to all levels
    wide = table.pivot_table(index="addr", columns="time_nominal_s", values="change")
    scaled = wide.div(wide.abs().median())
    corr = scaled.rank().corr().to_numpy()  # ranks: the tails must not decide
    early, late = _two_components(course.to_numpy(), 2 * np.sin(np.pi / 6 * corr))
    update = {
        "siemens": _rounded(centre),
        "mean_siemens": _rounded(middle[1.0]),
        "spread_siemens": _rounded(clean[1.0]),
        "seconds": tuple(float(t) for t in course.index),
        "progress": _rounded(np.maximum.accumulate(middle.median() / middle[1.0].median()), 3),
        "early": _rounded(early, 3),
        "late": _rounded(late, 3),
    }
    law = law.model_copy(update=update)
    tails = {t: _tail(table, t) for t in course.index}
    levels = centre.to_numpy()
    law = _fit_tails(law, laws, tails, levels)
    for _ in range(2):  # tails widen the quartiles a little: take that out of the spread
        law = _rescaled(law, laws, robust, levels)
    laws = laws.model_copy(update={"relaxation": law})
    return laws, list(_relaxation_rows(laws, robust, corr, tails, levels))


def _rounded(values: Any, digits: int = 3) -> tuple[float, ...]:
    return tuple(float(f"{v:.{digits}g}") for v in np.asarray(values))


def _two_components(course: np.ndarray, corr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Profiles early(t), late(t): their root of squares is `course`, `corr` fits best.

    early = course sin(angle), late = course cos(angle), the angle falling with time.
    """
    count = len(course)

    def angles(x: np.ndarray) -> np.ndarray:
        return np.maximum(np.pi / 2 - np.cumsum(np.abs(x)), 0.0)

    def misfit(x: np.ndarray) -> np.ndarray:
        model = np.cos(np.subtract.outer(angles(x), angles(x)))
        return (model - corr)[np.triu_indices(count, 1)]

    angle = angles(least_squares(misfit, np.full(count, 0.25)).x)
    return course * np.sin(angle), course * np.cos(angle)


def _tail(table: pd.DataFrame, seconds: float) -> np.ndarray:
    """Shares beyond `BEYOND` robust standard deviations at one time, mean over upper levels."""
    here = table[(table.time_nominal_s == seconds) & (table.bin >= FIRST_UPPER)]
    return np.mean([_beyond(b.change.to_numpy()) for _, b in here.groupby("bin")], axis=0)


def _beyond(change: np.ndarray) -> np.ndarray:
    low, middle, high = quantiles(change, (0.25, 0.5, 0.75))
    far = np.abs(change - middle) / ((high - low) / 1.349)
    return np.array([(far > limit).mean() for limit in BEYOND])


def _simulated(laws: PulsedLaws, law: Relaxation, g: float, count: int = 20000) -> np.ndarray:
    """Measured-like changes (times, count): relaxation and the noise of two readings."""
    rng = np.random.default_rng(7)
    z = [physics.tukey(rng, count, h, law.largest) for h in (law.early_tail, law.late_tail)]
    prepared = physics.RelaxationLaw(law)
    level = np.full(count, g, dtype=np.float32)
    sd = float(np.interp(g, laws.noise.siemens, laws.noise.sd)) * 0.5**0.5
    out = []
    for seconds in law.seconds:
        weights = prepared.weights(np.full(count, seconds))
        change = prepared.change(level, (z[0], z[1]), weights)
        out.append(change + sd * rng.standard_normal(count))
    return np.array(out)


def _fit_tails(
    law: Relaxation, laws: PulsedLaws, tails: dict[float, np.ndarray], levels: np.ndarray
) -> Relaxation:
    wanted = np.array(list(tails.values()))

    def misfit(x: np.ndarray) -> float:
        new = law.model_copy(update={"early_tail": abs(x[0]), "late_tail": abs(x[1])})
        some = levels[FIRST_UPPER::2]
        shares = [[_beyond(t) for t in _simulated(laws, new, g, 8000)] for g in some]
        off = np.log((np.mean(shares, axis=0) + 0.002) / (wanted + 0.002))
        return float(np.mean(off**2))

    found = minimize(misfit, [0.4, 0.2], method="Nelder-Mead", options={"maxfev": 60})
    early, late = (round(abs(float(v)), 3) for v in found.x)
    return law.model_copy(update={"early_tail": early, "late_tail": late})


def _rescaled(
    law: Relaxation, laws: PulsedLaws, robust: pd.DataFrame, levels: np.ndarray
) -> Relaxation:
    """`law` with its spread and its course scaled to the measured robust spreads."""
    simulated = [_simulated(laws, law, g) for g in levels]
    model = np.array([np.diff(np.quantile(s, [0.25, 0.75], axis=1), axis=0)[0] for s in simulated])
    ratio = robust.to_numpy() * 1.349 / model
    by_level, by_time = np.median(ratio, axis=1), np.median(ratio, axis=0)
    by_time /= np.median(by_time)
    update = {
        "spread_siemens": _rounded(np.array(law.spread_siemens) * by_level),
        "early": _rounded(np.array(law.early) * by_time),
        "late": _rounded(np.array(law.late) * by_time),
    }
    return law.model_copy(update=update)


def _relaxation_rows(
    laws: PulsedLaws, robust: pd.DataFrame, corr: np.ndarray, tails: dict[float, np.ndarray],
    levels: np.ndarray,
) -> Iterator[Row]:  # fmt: skip
    changes = {g: _simulated(laws, laws.relaxation, g) for g in levels}
    for index, seconds in enumerate(laws.relaxation.seconds):
        for g, measured in zip(levels, robust[seconds], strict=True):
            low, high = quantiles(changes[g][index], (0.25, 0.75))
            what = f"relaxation {seconds:g} s at {g / MICRO:.0f} uS: robust sd uS"
            yield what, measured / MICRO, (high - low) / 1.349 / MICRO
        shares = np.mean([_beyond(changes[g][index]) for g in levels[FIRST_UPPER:]], axis=0)
        for limit, measured, model in zip(BEYOND, tails[seconds], shares, strict=True):
            yield f"relaxation {seconds:g} s: share beyond {limit} robust sd", measured, model
    ranks = pd.DataFrame(changes[levels[4]].T).rank().corr().to_numpy()
    yield "relaxation rank correlation 1 s, 10^4 s", corr[2, -1], ranks[2, -1]
    yield "relaxation rank correlation 0.01 s, 10^4 s", corr[0, -1], ranks[0, -1]
