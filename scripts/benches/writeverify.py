"""Write-verify of the emulated chip beside the measured array: pulses a cell, 2 bits per cell.

The product's own recipes with the settings and windows of the RADAR array data (A. Levy et al.,
IEEE Trans. Electron Devices 2021, doi 10.1109/TED.2021.3097975): fresh cells, every one RESET
first, pulses counted as SET + RESET - 1 and clipped at the caps of the data (ISPP 150, FPPV
200, SDR 80). Gate voltages come from this die's gate sweep. `value`: mean over dies of the mean
over cells; `spread`: standard deviation over dies.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benches import Row
from rramhil.address import open_device
from rramhil.tune import gate_curve, gate_sweep
from rramhil.verify import FPPV, ISPP, SDR, Bias, Ramp, Recipe, Target, program

WINDOWS = {0: (1 / 5000, 1e-3), 1: (1 / 6010, 1 / 5770), 2: (1 / 9310, 1 / 8510)}
BIAS = Bias(reset_volts=2.5, reset_step_volts=0.0, reset_stop_volts=2.5)
SDR_RAMPS = {0: (2.0, 0.30, 0.6, 0.30), 1: (0.6, 0.18, 0.6, 0.26), 2: (0.8, 0.10, 0.6, 0.34)}
MEASURED = {
    ("ispp", 0): 10.7, ("ispp", 1): 25.7, ("ispp", 2): 24.1,
    ("fppv", 0): 6.8, ("fppv", 1): 19.0, ("fppv", 2): 19.0,
    ("sdr", 0): 2.6, ("sdr", 1): 13.0, ("sdr", 2): 10.1,
}  # fmt: skip


def rows(seed: int, quick: bool) -> Iterator[Row]:
    """For each algorithm and level: mean pulses, the measured mean beside it, success."""
    dies, cells = (1, 300) if quick else (3, 2000)
    for algorithm in ("ispp", "fppv", "sdr"):
        for level in WINDOWS:
            found = [_one(algorithm, level, seed + die, cells) for die in range(dies)]
            pulses = [mean for mean, _ in found]
            name = f"{algorithm}_level{level}"
            spread = float(np.std(pulses)) if dies > 1 else None
            yield Row(f"{name}_pulses", float(np.mean(pulses)), "pulses a cell", spread, dies)
            yield Row(f"{name}_measured", MEASURED[algorithm, level], "pulses a cell")
            success = 100 * float(np.mean([share for _, share in found]))
            yield Row(f"{name}_success", success, "percent", None, dies)


def _one(algorithm: str, level: int, die: int, count: int) -> tuple[float, float]:
    faultless = "stuck_lrs=0&stuck_hrs=0&stuck_rows=0"
    device = open_device(f"emulator:40nm?die={die}&seed={die}&tiles=1&{faultless}")
    cells = np.arange(count) * 29 % 65536
    cells.sort()
    low, high = WINDOWS[level]
    curve = gate_curve(list(gate_sweep(device, cells[:512], 1.9, 3.6, 86, BIAS)))
    middle = 1 / 4700 if level == 0 else (low + high) / 2
    window = np.full(count, low), np.full(count, high)
    target = Target(*window, np.full(count, curve.nominal_gate(middle)))
    *_, last = program(device, cells, target, _recipe(algorithm, level), BIAS)
    return float((last.sets + last.resets - 1).mean()), float(last.inside.mean())


def _recipe(algorithm: str, level: int) -> Recipe:
    if algorithm == "ispp":
        return ISPP(first_reset=True, gate_step_volts=0.1, gate_start_volts=1.9, max_pulses=151)
    if algorithm == "fppv":
        return FPPV(first_reset=True, max_pulses=201)
    up, up_step, down, down_step = SDR_RAMPS[level]
    return SDR(
        first_reset=True,
        max_pulses=81,
        fine_set=Ramp(start=up, step=up_step, stop=4.0),
        fine_reset=Ramp(start=down, step=down_step, stop=4.0),
    )
