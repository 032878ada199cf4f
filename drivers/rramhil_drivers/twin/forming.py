"""Forming voltages: fit to, and comparison with, the table `forming` (RADAR array data)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rramhil.device import Kind, Pulse

from ..emulator.chipfile import ChipFile, FormLaw, PulsedLaws
from ..emulator.die import EmulatedDie
from ..emulator.physics import forming_volts
from .rows import Compared, Curve
from .sources import Measured

F64 = NDArray[np.float64]
GATE = 2.0  # volts: cells that needed more are left out
STEP = 0.05  # of the bit-line ramp
SECONDS = 1e-6
CELLS = 4096
DRAWS = 200
DISTANCE_ALLOWED = 0.10
SHARES = np.linspace(0.01, 0.99, 99)


def measured_volts(data: Measured) -> tuple[F64, F64]:
    """(voltages at which cells formed, logarithms of their conductance after)."""
    table = data.table("forming")
    table = table[(table["wl_v"] < GATE + 0.01) & table["success"]]
    volts = np.rint(table["bl_v"].to_numpy(np.float64) / STEP) * STEP
    return volts, -np.log(table["r_after"].to_numpy(np.float64))


def fit(data: Measured, laws: PulsedLaws, say: Callable[[str], None]) -> PulsedLaws:
    """`laws` with the forming voltages whose quantiles, on the grid of the ramp, are nearest."""
    from scipy.optimize import minimize

    volts, landed = measured_volts(data)
    aim = np.quantile(volts, SHARES)

    def law_of(x: F64) -> FormLaw:
        names = ("volts", "cell_sd", "easy_share", "easy_volts")
        values = np.clip(x, 1e-3, (5.0, 2.0, 0.9, 3.0)).tolist()
        update = {n: float(f"{v:.3g}") for n, v in zip(names, values, strict=True)}
        return laws.form.model_copy(update=update)

    def misfit(x: F64) -> float:
        drawn = forming_volts(law_of(x), 40_000, np.random.default_rng(0))
        return float(np.abs(np.quantile(on_grid(drawn), SHARES) - aim).mean())

    found = minimize(misfit, [3.15, 0.15, 0.1, 0.5], method="Nelder-Mead", tol=1e-3)
    ratio = np.exp(np.median(landed))
    spread = float(np.subtract(*np.quantile(landed, [0.75, 0.25]))) / 1.349
    law = law_of(found.x).model_copy(
        update={
            "lowest_volts": float(f"{volts.min():.3g}"),
            "siemens": float(f"{ratio:.3g}"),
            "ln_sd": float(f"{spread:.3g}"),
            "source": "fitted by `rramhil twin fit` to forming, RADAR array data (A. Levy et al., "
            "IEEE TED 2021, doi 10.1109/TED.2021.3097975), even blocks of 64 addresses, cells that "
            "formed at WL 2 V; gate as measured",
        }
    )
    say(f"forming at {law.volts:g} V, sd {law.cell_sd:g}, {law.easy_share:.0%} easier")
    return laws.model_copy(update={"form": law})


def on_grid(volts: NDArray[np.floating]) -> F64:
    """The step of the ramp at which each cell forms."""
    return np.asarray(np.ceil(volts / STEP - 1e-6) * STEP, dtype=np.float64)


def ramped(chip: ChipFile, seed: int) -> F64:
    """Voltages at which virgin emulated cells form in the measured ramp; inf: never."""
    die = EmulatedDie(chip, die=seed, seed=seed, tiles=1, formed=False)
    limits = die.spec.pulses[Kind.FORM]
    count = min(CELLS, die.spec.rows * die.spec.cols)
    left, formed = np.arange(count), np.full(count, np.inf)
    for volts in np.arange(limits.volts.low, limits.volts.high + 1e-9, STEP):
        full = np.full(left.size, round(float(volts), 2))
        gate = np.full(left.size, GATE)
        die.apply(Pulse(Kind.FORM, left, volts=full, gate_volts=gate, seconds=SECONDS))
        done = die.read(left) > 10e-6
        formed[left[done]] = round(float(volts) / STEP) * STEP
        left = left[~done]
        if not left.size:
            break
    return formed


def compare(data: Measured, chip: ChipFile, seed: int) -> Iterator[Compared]:
    """Kolmogorov-Smirnov distance of the forming voltages, and their quantiles."""
    volts, _ = measured_volts(data)
    there = ramped(chip, seed)
    there = there[np.isfinite(there) & (there > 0)]
    rng = np.random.default_rng(seed)
    draws = [rng.choice(volts, volts.size) for _ in range(DRAWS)]
    low, high = np.quantile([distance(d, there) for d in draws], [0.025, 0.975])
    found = distance(volts, there)
    yield Compared(
        "distance of forming voltages", "WL 2 V", 0.0, found, found, DISTANCE_ALLOWED,
        float(low), float(high), "", "forming",
    )  # fmt: skip
    for share in (0.02, 0.1, 0.5, 0.9, 0.98):
        of = [float(np.quantile(there, share) - np.quantile(d, share)) for d in draws]
        low, high = np.quantile(of, [0.025, 0.975])
        here, predicted = float(np.quantile(volts, share)), float(np.quantile(there, share))
        yield Compared(
            "forming voltage", f"quantile {share:g}", here, predicted, predicted - here, None,
            float(low), float(high), "V", "forming",
        )  # fmt: skip


def distance(a: F64, b: F64) -> float:
    """Kolmogorov-Smirnov distance of two samples."""
    at = np.unique(np.concatenate([a, b]))
    shares = [np.searchsorted(np.sort(v), at, side="right") / v.size for v in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())


def curves(data: Measured, chip: ChipFile, seed: int) -> Iterator[Curve]:
    """Share of cells formed over the bit-line voltage."""
    volts, _ = measured_volts(data)
    for values, measured in ((volts, True), (ramped(chip, seed), False)):
        ordered = np.sort(values[np.isfinite(values)])
        yield Curve(
            "Forming", "RADAR arrays", ordered, np.arange(1, ordered.size + 1) / ordered.size,
            measured, "bit-line voltage (V)", "share formed",
        )  # fmt: skip


def tables(data: Measured) -> dict[str, Any]:
    """Quantiles of the forming voltages, volts: what CI checks against."""
    volts, _ = measured_volts(data)
    shares = (0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
    return {
        "source": "forming, RADAR array data (A. Levy et al., IEEE TED 2021, "
        "doi 10.1109/TED.2021.3097975), cells that formed at WL 2 V",
        "unit": "V",
        "cells": int(volts.size),
        "quantiles": {f"{s:g}": round(float(np.quantile(volts, s)), 3) for s in shares},
    }
