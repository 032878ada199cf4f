"""The host of the kill and strace tests: writes cells in a closed loop, without torch.

    python host_job.py ADDRESS LEDGER_FOLDER PASSES

It says "ready", waits for a line, connects (which reads the cells in doubt first), writes the
same cells into alternating windows, and says in one line of JSON how it went.
"""

from __future__ import annotations

import json
import sys

import numpy as np

import rramhil
from rramhil.verify import ISPP, Target, program

CELLS = 200
WINDOWS = ((25e-6, 55e-6), (90e-6, 150e-6))
RECIPE = ISPP(gate_start_volts=1.5, max_pulses=60)


def write(device: rramhil.Device, passes: int) -> float:
    """Share of cells inside their window when the last of `passes` ended."""
    rng = np.random.default_rng(11)
    cells = np.sort(rng.choice(device.spec.size, CELLS, replace=False))
    inside = np.zeros(CELLS, bool)
    for number in range(passes):
        low, high = (np.full(CELLS, end) for end in WINDOWS[number % len(WINDOWS)])
        target = Target(low, high, np.full(CELLS, 1.8))
        for turn in program(device, cells, target, RECIPE):
            inside = turn.inside
    return float(inside.mean())


def main() -> None:
    address, folder, passes = sys.argv[1:]
    print("ready", flush=True)
    if not sys.stdin.readline():
        return
    with rramhil.connect(address, ledger=folder, run="write") as device:
        inside = write(device, int(passes))
        doubtful = device.doubtful.size
    print(json.dumps({"inside": inside, "doubtful": doubtful, "torch": "torch" in sys.modules}))


if __name__ == "__main__":
    main()
