"""Fit a chip file to the open-loop record of a die, by the method of simulated moments.

D. McFadden, Econometrica 57, 995 (1989): the record's calls are done again on an emulated die,
always with the same random numbers, and parameters are moved until quantiles of the readings,
and of their changes from one reading to the next, agree. The weights are the bootstrap
variances over cells; the intervals are those of the weighted least-squares estimator with the
bootstrap covariance of all moments (the sandwich), times `CALIBRATION`. It needs no likelihood,
so it holds for whatever the laws of the emulator are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rramhil.schema import FileError

from ..emulator.chipfile import ChipFile, PulsedLaws
from ..emulator.periphery import Reading
from .record import Record, do_again
from .rows import Compared, Curve
from .sweeps import MEDIAN_ALLOWED, SPREAD_ALLOWED

F64 = NDArray[np.float64]
AT = (0.1, 0.25, 0.5, 0.75, 0.9)
BOOTSTRAPS = 200
COPIES = 4
CALIBRATION = 2.0
"""The estimator's own errors are linear and too small; `scripts/bench twin` shows by how much."""
WIDEST = {"shift": 0.25, "factor": 0.5}
"""A parameter whose standard error would be wider is not told by the record."""


WORST_MISFIT = 5.0
"""Standard deviations, root mean square; right chips have 1."""
LEAST_EFFECT = 1.0
"""A parameter that moves all moments together by less, in their sd a unit, is not told either."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that is fitted: a `shift` (in volts) or a `factor` of what the chip file has.

    `path`: the table of [cells] and the key; a key with several entries is moved as a whole.
    """

    path: str
    how: str
    step: float


PARAMETERS = (
    Parameter("set.threshold_volts", "shift", 0.02),
    Parameter("set.scale_volts", "factor", 0.06),
    Parameter("set.highest_siemens", "factor", 0.04),
    Parameter("set.cell_sd_volts", "factor", 0.15),
    Parameter("set.pulse_sd_volts", "factor", 0.15),
    Parameter("reset.threshold_volts", "shift", 0.04),
    Parameter("reset.cell_sd", "factor", 0.15),
    Parameter("hrs.siemens", "factor", 0.08),
    Parameter("hrs.cell_sd", "factor", 0.08),
    Parameter("hrs.cycle_sd", "factor", 0.08),
    Parameter("noise.sd", "factor", 0.1),
    Parameter("relaxation.spread_factor", "factor", 0.1),
)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A parameter after the fit: its move, and the 95 % interval of it; None: not told."""

    parameter: Parameter
    move: float
    low: float | None
    high: float | None

    @property
    def told(self) -> bool:
        """Whether the record says anything about it."""
        return self.low is not None


def moments(readings: list[NDArray[np.float32]], limits: Reading) -> F64:
    """Quantiles of each reading and of its change since the one before, in siemens.

    `readings`: arrays (cells,). What is outside of the range counts as its end: a reading that
    jumps from 0 to the lowest conductance would make the fit rough. So would the steps of the
    converter, where noise is of their size: they are dithered (L. Schuchman, IEEE Trans. Commun.
    Technol. 12, 162, 1964), always by the same numbers.
    """
    seen = np.clip(np.array(readings, dtype=np.float64), limits.lowest, limits.highest)
    seen += limits.lsb * (np.random.default_rng(0).random(seen.shape) - 0.5)
    levels = np.nanquantile(seen, AT, axis=1)
    changes = np.nanquantile(np.diff(seen, axis=0), AT[1:-1], axis=1)
    return np.concatenate([levels.reshape(-1), changes.reshape(-1)])


def fit(
    record: Record, chip: ChipFile, say: Callable[[str], None], seed: int = 1
) -> tuple[ChipFile, list[Fitted]]:
    """`chip` with its cells moved to where the record is told best, and how far each was moved.

    Raises `FileError` when the record tells nothing, or no such cells do what it holds.
    """
    from scipy.optimize import least_squares

    laws = chip.cells
    assert laws is not None
    limits = chip.reading
    recorded = moments(record.readings, limits)
    sd, covariance = _bootstrap(record, limits, seed)

    def misfit(x: F64, parameters: list[Parameter]) -> F64:
        trial = moved_chip(chip, parameters, x)
        again = do_again(record, trial, COPIES, seed)
        return np.asarray((moments(again.readings, limits) - recorded) / sd)

    def jacobian(x: F64, parameters: list[Parameter]) -> F64:
        columns = []
        for number, parameter in enumerate(parameters):
            step = np.zeros(len(parameters))
            step[number] = parameter.step
            columns.append((misfit(x + step, parameters) - misfit(x - step, parameters)) / 2)
        return np.array(columns).T / [p.step for p in parameters]

    say("which parameters does the record tell?")
    told = _told(jacobian(np.zeros(len(PARAMETERS)), list(PARAMETERS)), covariance, sd)
    while told:
        say(f"{len(told)} parameters, {recorded.size} moments of {len(record.readings)} readings")
        bounds = [(-1.0, 1.0) if p.how == "shift" else (-0.9, 3.0) for p in told]
        found = least_squares(
            misfit, np.zeros(len(told)), jac=jacobian, args=(told,),
            bounds=tuple(zip(*bounds, strict=True)), x_scale=[p.step for p in told],
            loss="soft_l1", f_scale=3.0, max_nfev=20, xtol=1e-4,
        )  # fmt: skip
        error = _errors(jacobian(found.x, told), covariance, sd)
        certain = [p for p, e in zip(told, error, strict=True) if e <= WIDEST[p.how]]
        if len(certain) == len(told):
            break
        told = certain  # what the solution does not tell is left alone: fit the others again
    if not told:
        raise FileError(
            f"the record of {record.serial} tells none of the parameters; record more with the "
            "step 'characterise'"
        )
    off = float(np.sqrt(np.mean(misfit(found.x, told) ** 2)))
    say(f"root mean square of the misfit: {off:.2f} sd")
    if off > WORST_MISFIT:
        raise FileError(
            f"no cells of this kind do what {record.serial} did (misfit {off:.1f} sd, at most "
            f"{WORST_MISFIT:g}); begin from another chip with --base, or see `rramhil twin check`"
        )
    error = CALIBRATION * error
    fitted = {
        p.path: Fitted(p, float(x), float(x - 1.96 * e), float(x + 1.96 * e))
        for p, x, e in zip(told, found.x, error, strict=True)
    }
    report = [fitted.get(p.path, Fitted(p, 0.0, None, None)) for p in PARAMETERS]
    return moved_chip(chip, told, found.x), report


def _told(jacobian: F64, covariance: F64, sd: F64) -> list[Parameter]:
    """Those that the record tells: drop the least certain one until all are certain enough."""
    kept = list(range(len(PARAMETERS)))
    while kept:
        error = _errors(jacobian[:, kept], covariance, sd)
        ratio = error / [WIDEST[PARAMETERS[k].how] for k in kept]
        worst = int(np.argmax(ratio))
        if ratio[worst] <= 1:
            break
        kept.pop(worst)
    return [PARAMETERS[k] for k in kept]


def _errors(jacobian: F64, covariance: F64, sd: F64) -> F64:
    """Standard errors of the estimate, the simulation's own noise included."""
    inverse = np.linalg.pinv(jacobian.T @ jacobian)
    middle = jacobian.T @ (covariance / sd[:, None] / sd) @ jacobian
    variance = np.diag(inverse @ middle @ inverse) * (1 + 1 / COPIES)
    blind = np.linalg.norm(jacobian, axis=0) < LEAST_EFFECT
    return np.where(blind, np.inf, np.sqrt(np.maximum(variance, 0.0)))


def _bootstrap(record: Record, limits: Reading, seed: int) -> tuple[F64, F64]:
    """Standard deviations and covariance of the moments, drawing cells with replacement."""
    rng = np.random.default_rng(seed)
    seen, count = np.array(record.readings), record.cells.size
    drawn = [
        moments(list(seen[:, rng.integers(0, count, count)]), limits) for _ in range(BOOTSTRAPS)
    ]
    rounding = limits.lsb / np.sqrt(12)
    sd = np.sqrt(np.var(drawn, axis=0) + rounding**2)
    return sd, np.cov(np.array(drawn).T) + np.eye(sd.size) * rounding**2


# ----------------------------------------------------------------------- moving numbers


def moved_chip(chip: ChipFile, parameters: list[Parameter], moves: NDArray[Any]) -> ChipFile:
    """`chip` with each of `parameters` moved by its entry of `moves`."""
    laws = chip.cells
    assert laws is not None
    for parameter, move in zip(parameters, moves.tolist(), strict=True):
        laws = _moved(laws, parameter, move)
    return chip.model_copy(update={"cells": laws})


def _moved(laws: PulsedLaws, parameter: Parameter, move: float) -> PulsedLaws:
    table, key = parameter.path.split(".")
    law = getattr(laws, table)
    if hasattr(law, key):
        new = law.model_copy(update={key: _apply(parameter, getattr(law, key), move)})
    else:  # a key of each pulse width
        widths = tuple(
            w.model_copy(update={key: _apply(parameter, getattr(w, key), move)}) for w in law.widths
        )
        new = law.model_copy(update={"widths": widths})
    return laws.model_copy(update={table: new})


def _apply(parameter: Parameter, value: Any, move: float) -> Any:
    if isinstance(value, tuple):
        return tuple(_apply(parameter, one, move) for one in value)
    return value + move if parameter.how == "shift" else value * (1 + move)


# ---------------------------------------------------------------------------- comparing


def compare(record: Record, chip: ChipFile, seed: int) -> Iterator[Compared]:
    """Median and spread of each reading, recorded and as `chip` predicts them.

    Allowed are the shares that SET curves of a folder are allowed, and what a sample of this size
    is off by chance, at 95 %.
    """
    highest = chip.reading.highest
    again = do_again(record, chip, COPIES, seed)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, record.cells.size, (BOOTSTRAPS, record.cells.size))
    for label, recorded, predicted in zip(
        record.labels(), record.readings, again.readings, strict=True
    ):
        here = np.clip(recorded.astype(np.float64), 0.0, highest)
        there = np.clip(predicted.astype(np.float64), 0.0, highest)
        for statistic, of, share in (
            ("median", _median, MEDIAN_ALLOWED),
            ("spread 10-90 %", _spread, SPREAD_ALLOWED),
        ):
            off = _off(of(there), of(here))
            samples = [_off(of(there), of(here[pick])) for pick in drawn]
            low, high = np.quantile(samples, (0.025, 0.975))
            yield Compared(
                statistic, label, 1e6 * of(here), 1e6 * of(there), off,
                share + 1.96 * float(np.std(samples)), float(low), float(high), "µS",
                f"ledger of {record.serial}, held out addresses",
            )  # fmt: skip


def curves(record: Record, chip: ChipFile, seed: int) -> Iterator[Curve]:
    """Deciles of the readings in their order, recorded and predicted."""
    again = do_again(record, chip, COPIES, seed)
    for measured, readings in ((True, record.readings), (False, again.readings)):
        seen = np.clip(np.array(readings, dtype=np.float64), 0.0, chip.reading.highest)
        for at in (0.1, 0.5, 0.9):
            yield Curve(
                f"readings of {record.serial}", f"{100 * at:.0f} %",
                np.arange(len(readings)), 1e6 * np.nanquantile(seen, at, axis=1),
                measured, "reading", "conductance (µS)",
            )  # fmt: skip


def _median(values: F64) -> float:
    return float(np.nanmedian(values))


def _spread(values: F64) -> float:
    low, high = np.nanquantile(values, (0.1, 0.9))
    return float(high - low)


def _off(predicted: float, measured: float) -> float:
    """Predicted over measured, less one; a reading step stands for what is below it."""
    return predicted / max(measured, 1e-7) - 1
