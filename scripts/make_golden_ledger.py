"""Record fixtures/ledgers/golden.sqlite: a short closed loop, to see that ledgers stay readable.

Made once for each schema version; a test replays it and checks its head.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from rramhil import connect
from rramhil.mapping import Levels
from rramhil.tune import gate_curve, gate_sweep
from rramhil.verify import SDR, Bias, Target, program

GOLDEN = Path(__file__).parent.parent / "fixtures" / "ledgers" / "golden.sqlite"
ADDRESS = "emulator:40nm?die=1&tiles=1"
CELLS = np.arange(0, 65536, 521)


def main() -> None:
    """Record, and print the head that the test knows."""
    with tempfile.TemporaryDirectory() as folder:
        with connect(ADDRESS, ledger=folder, run="golden") as device:
            curve = gate_curve(list(gate_sweep(device, CELLS[:32], 1.4, 3.6, 12, Bias())))
            levels = Levels(4, 30e-6, 180e-6, 10e-6)
            wanted = levels.siemens[np.arange(CELLS.size) % 4]
            target = Target(*levels.windows(wanted), curve.nominal_gate(wanted))
            *_, last = program(device, CELLS, target, SDR(max_pulses=30))
            device.ledger.note("golden", {"inside": int(last.inside.sum())})
            device.finish("finished")
            head = device.ledger.head
        GOLDEN.parent.mkdir(exist_ok=True)
        shutil.copy(Path(folder) / "ledger.sqlite", GOLDEN)
    print(head, GOLDEN.stat().st_size)


if __name__ == "__main__":
    main()
