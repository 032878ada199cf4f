"""Write-verify of the emulated RADAR array beside the measured one: pulses a cell, 2 bits per cell.

The product's own recipes with the settings, windows and caps of the RADAR array data (A. Levy et
al., IEEE Trans. Electron Devices 2021, doi 10.1109/TED.2021.3097975); gate voltages come from each
die's gate sweep. `value`: mean over dies of the mean over cells; `spread`: standard deviation over
dies. `rramhil twin check radar DATA` compares distributions and gives intervals.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files

import numpy as np

from benches import Row
from rramhil_drivers.emulator.chipfile import load_chip
from rramhil_drivers.twin.recipes import CAPS
from rramhil_drivers.twin.write_verify import predict

MEASURED = json.loads(
    (files("rramhil_fixtures") / "measured" / "write_verify.json").read_text(encoding="utf-8")
)


def rows(seed: int, quick: bool) -> Iterator[Row]:
    """For each algorithm and level: mean pulses, the measured mean beside it, success."""
    dies, cells = (1, 300) if quick else (3, 2000)
    found = [predict(load_chip("radar"), seed + die, cells, (0.1,), 1) for die in range(dies)]
    for run in MEASURED["runs"]:
        key = (run["algorithm"], run["level"], run["wl_step_v"])
        if key not in found[0]:
            continue
        name, cap = f"{key[0].lower()}_level{key[1]}", CAPS[key[0]]
        means = [float(np.minimum(one[key].pulses, cap).mean()) for one in found]
        spread = float(np.std(means)) if dies > 1 else None
        yield Row(f"{name}_pulses", float(np.mean(means)), "pulses a cell", spread, dies)
        yield Row(f"{name}_measured", run["mean_pulses"], "pulses a cell")
        success = 100 * float(np.mean([one[key].inside.mean() for one in found]))
        yield Row(f"{name}_success", success, "percent", None, dies)
