"""Write-verify: pulse counts of ISPP, FPPV and SDR, measured against the product's own recipes.

The counts are in `pulse_counts`, the fit in `write_verify_fit`. Compared is what the fit did not
look at: odd blocks of addresses, whole word lines, WL steps and dates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..emulator.chipfile import ChipFile
from ..emulator.die import EmulatedDie
from .bootstrap import F64, Sample
from .pulse_counts import (
    ALLOWED,
    EVAL,
    SCANS,
    THREE_BIT_STEP,
    Key,
    held_lines,
    measured_rows,
    predict,
    with_pulses,
)
from .recipes import AIMS, CAPS, STEPS, TOP_RESETS, WINDOWS, WINDOWS_3BIT, Counts, ispp_run
from .rows import Compared, Curve
from .sources import Measured
from .write_verify_fit import fit as fit  # a part of what a topic offers

if TYPE_CHECKING:
    import pandas as pd

CELLS = 2048
DIES = 2

# --------------------------------------------------------------------------- comparing


def compare(data: Measured, chip: ChipFile, seed: int) -> Iterator[Compared]:
    """Means, distributions and success of the pulse counts, on odd blocks of addresses."""
    held = data.part("check")
    predicted = predict(chip, seed, CELLS, STEPS, DIES)
    rng = np.random.default_rng(seed)
    for key, counts in predicted.items():
        if key[1] == 3 or (key[0] == "ISPP" and not held.has(SCANS)):
            continue
        yield from _counts(measured_rows(held, key), key, counts, rng)
    yield from _whole_lines(held, predicted, rng)
    yield _order(held, predicted)
    yield from _top(held, predicted, rng)
    yield from _three_bits(held, chip, seed, rng)


def _counts(
    rows: pd.DataFrame, key: Key, counts: Counts, rng: np.random.Generator
) -> Iterator[Compared]:
    algorithm, level, step = key
    sample = Sample(rows["pulses"].to_numpy(), rows["addr"].to_numpy())
    predicted = np.minimum(counts.pulses, CAPS[algorithm])
    group = f"{algorithm}, level {level}" + (f", WL step {step:.2f} V" if step else "")
    data = f"{SCANS if step else EVAL}, held out addresses"
    main = step in (0.0, 0.1)
    yield mean_row(sample, predicted, group, data, ALLOWED[algorithm] if main else 0.25, rng)
    if not main:
        return
    yield ks_row(sample, predicted, group, data, 0.15 if level == 0 else 0.10, rng)
    success = Sample(rows["success"].to_numpy(), rows["addr"].to_numpy())
    yield share_row("success", success, float(counts.inside.mean()), group, data, 0.01, rng)


def _whole_lines(
    held: Measured, predicted: dict[Key, Counts], rng: np.random.Generator
) -> Iterator[Compared]:
    """Pulses on the word lines of which the fit sees no block at all."""
    for key, counts in predicted.items():
        rows = held_lines(measured_rows(held, key))
        if key[1] == 3 or key[0] == "ISPP" or rows.empty:
            continue
        sample = Sample(rows["pulses"].to_numpy(), rows["addr"].to_numpy())
        pulses = np.minimum(counts.pulses, CAPS[key[0]])
        group, where = (
            f"{key[0]}, level {key[1]}",
            f"{EVAL}, held out addresses on held out word lines",
        )
        yield mean_row(sample, pulses, group, where, ALLOWED[key[0]], rng)
        yield ks_row(sample, pulses, group, where, 0.15 if key[1] == 0 else 0.10, rng)


def mean_row(
    sample: Sample, predicted: NDArray[Any], group: str, data: str, allowed: float | None,
    rng: np.random.Generator,
) -> Compared:  # fmt: skip
    """The relative distance of the mean pulses."""
    mean = float(predicted.mean())

    def distance(weights: F64 | None = None) -> float:
        return mean / sample.mean(weights) - 1

    low, high = sample.interval(distance, rng)
    return Compared(
        "mean pulses", group, sample.mean(), mean, distance(), allowed, low, high, "pulses", data
    )


def ks_row(
    sample: Sample, predicted: NDArray[Any], group: str, data: str, allowed: float | None,
    rng: np.random.Generator,
) -> Compared:  # fmt: skip
    """The Kolmogorov-Smirnov distance of the pulse counts; measured and predicted: medians."""
    low, high = sample.interval(lambda w: sample.distance(predicted, w), rng)
    return Compared(
        "KS distance of pulses", group, float(np.median(sample.values)),
        float(np.median(predicted)), sample.distance(predicted), allowed, low, high,
        "pulses (medians)", data,
    )  # fmt: skip


def share_row(
    what: str, sample: Sample, predicted: float, group: str, data: str, allowed: float | None,
    rng: np.random.Generator,
) -> Compared:  # fmt: skip
    """The difference of a share of cells."""

    def distance(weights: F64 | None = None) -> float:
        return predicted - sample.mean(weights)

    low, high = sample.interval(distance, rng)
    return Compared(
        what, group, sample.mean(), predicted, distance(), allowed, low, high, "share", data
    )


def _order(held: Measured, predicted: dict[Key, Counts]) -> Compared:
    """Whether SDR needs fewer pulses than FPPV, and FPPV than ISPP, in the mean of the levels."""
    means: list[dict[str, float]] = [{}, {}]
    for algorithm, cap in CAPS.items():
        step = 0.1 if algorithm == "ISPP" else 0.0
        keys = [(algorithm, level, step) for level in AIMS]
        means[0][algorithm] = np.mean([measured_rows(held, k)["pulses"].mean() for k in keys])
        means[1][algorithm] = np.mean([np.minimum(predicted[k].pulses, cap).mean() for k in keys])
    measured, found = (float(m["SDR"] < m["FPPV"] < m["ISPP"]) for m in means)
    off = found - measured
    group = ", ".join(f"{name} {means[1][name]:.1f}" for name in ("SDR", "FPPV", "ISPP"))
    data = f"{EVAL} and {SCANS}, held out addresses"
    return Compared(
        "order SDR < FPPV < ISPP", f"predicted {group}", measured, found, off, 0.0, off, off,
        "yes is 1", data,
    )  # fmt: skip


def _top(
    held: Measured, predicted: dict[Key, Counts], rng: np.random.Generator
) -> Iterator[Compared]:
    data = f"{EVAL}, held out addresses"
    for algorithm, cap in TOP_RESETS.items():
        rows = measured_rows(held, (algorithm, 3, 0.0))
        counts = predicted[algorithm, 3, 0.0]
        for resets in (1, 2, 5, cap):
            share = float((counts.inside & (counts.resets <= resets)).mean())
            passed = rows["success"].to_numpy() & (rows["resets"].to_numpy() <= resets)
            sample = Sample(passed, rows["addr"].to_numpy())
            group = f"{algorithm}, top level, {resets} RESET" + ("s" if resets > 1 else "")
            yield share_row(
                "success", sample, share, group, data, 0.04 if resets == cap else None, rng
            )
    failing = {a: measured_rows(held, (a, 3, 0.0)) for a in TOP_RESETS}
    sdr, fppv = (f.loc[~f["success"], "addr"].to_numpy() for f in failing.values())
    sample = Sample(np.isin(sdr, fppv), sdr)
    here, there = (~predicted[a, 3, 0.0].inside for a in TOP_RESETS)
    share = float((here & there).sum() / max(here.sum(), 1))
    yield share_row(
        "SDR's failing cells that fail in FPPV", sample, share, "top level", data, 0.10, rng
    )


def _three_bits(
    held: Measured, chip: ChipFile, seed: int, rng: np.random.Generator
) -> Iterator[Compared]:
    table = held.table(EVAL)
    run = table[(table["algorithm"] == "ISPP") & (table["date"].astype(str) == "2020-07-19")]
    if run.empty:
        return
    die = EmulatedDie(chip, die=seed, seed=seed, tiles=1)
    cells = np.sort(np.random.default_rng(seed).permutation(die.spec.size)[:1024])
    for level, window in WINDOWS_3BIT.items():
        rows = with_pulses(run[run["level"] == level], CAPS["ISPP"], "ISPP")
        counts = ispp_run(die, cells, window, THREE_BIT_STEP, CAPS["ISPP"])
        sample = Sample(rows["pulses"].to_numpy(), rows["addr"].to_numpy())
        predicted = np.minimum(counts.pulses, CAPS["ISPP"])
        group, data = f"ISPP, 3 bits, level {level}", f"{EVAL}, 2020-07-19, held out addresses"
        yield mean_row(sample, predicted, group, data, ALLOWED["ISPP"], rng)
        yield ks_row(sample, predicted, group, data, 0.15 if level == 0 else 0.10, rng)


# ----------------------------------------------------------------------------- pictures


def curves(data: Measured, chip: ChipFile, seed: int) -> Iterator[Curve]:
    """Distribution of the pulse counts, and mean pulses of ISPP against its step."""
    held, predicted = data.part("check"), predict(chip, seed, CELLS, STEPS, 1)
    for (algorithm, level, step), counts in predicted.items():
        if level == 3 or step not in (0.0, 0.1):
            continue
        rows = measured_rows(held, (algorithm, level, step))
        figure = f"{algorithm}: pulses a cell, 2 bits per cell"
        for values, measured in ((rows["pulses"].to_numpy(), True), (counts.pulses, False)):
            x = np.sort(np.minimum(values, CAPS[algorithm]))
            y = np.arange(1, x.size + 1) / x.size
            label = f"level {level}"
            yield Curve(figure, label, x, y, measured, "pulses", "share of cells", "x")
    for level in AIMS:
        for measured in (True, False):
            means = [
                float(measured_rows(held, ("ISPP", level, step))["pulses"].mean())
                if measured
                else float(np.minimum(predicted["ISPP", level, step].pulses, CAPS["ISPP"]).mean())
                for step in STEPS
            ]
            yield Curve(
                "ISPP: mean pulses against the WL step", f"level {level}", np.array(STEPS),
                np.array(means), measured, "WL step, V", "pulses",
            )  # fmt: skip


def tables(data: Measured) -> dict[str, Any]:
    """Means, deciles and success of the pulse counts on all addresses, for the shipped presets."""
    shares = [round(0.1 * n, 1) for n in range(1, 10)]
    found: dict[str, Any] = {"shares": shares, "runs": []}
    keys = [(a, level, 0.0) for a in ("FPPV", "SDR") for level in WINDOWS]
    keys += [("ISPP", level, step) for step in STEPS for level in AIMS]
    for key in keys:
        rows = measured_rows(data, key)
        found["runs"].append(
            {
                "algorithm": key[0],
                "level": key[1],
                "wl_step_v": key[2],
                "cells": len(rows),
                "mean_pulses": round(float(rows["pulses"].mean()), 3),
                "deciles": [float(v) for v in rows["pulses"].quantile(shares)],
                "success": round(float(rows["success"].mean()), 4),
                "success_within": {
                    str(n): round(float((rows["success"] & (rows["resets"] <= n)).mean()), 4)
                    for n in ((1, 2, 5, TOP_RESETS[key[0]]) if key[1] == 3 else ())
                },
            }
        )
    return found
