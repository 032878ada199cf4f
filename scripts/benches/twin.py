"""Does a twin fitted to a ledger of the emulator find the parameters that made the ledger?

Dies of a chip whose parameters were moved from the preset's by known amounts run the job
`characterise`; the preset is fitted to each ledger. `z_PARAMETER` is the error of the fitted
move over its standard error: mean over dies, `spread` its standard deviation (1 when the stated
confidence is right). `covered` is the share of all 95 % intervals that hold the truth.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benches import Row
from rramhil.job.file import load_job
from rramhil.job.folder import RunFolder
from rramhil.ledger import LedgerReader
from rramhil.run import Run
from rramhil_drivers.emulator.chipfile import load_chip
from rramhil_drivers.twin.chipwriter import write_chip
from rramhil_drivers.twin.moments import PARAMETERS, fit, moved_chip
from rramhil_drivers.twin.record import read_record

MOVES = {"shift": 0.05, "factor": 0.15}


def rows(seed: int, quick: bool) -> Iterator[Row]:
    """Rows over two dies when `quick`, else ten."""
    dies = 2 if quick else 10
    scores: dict[str, list[float]] = {}
    for die in range(seed, seed + dies):
        for name, score in _one_die(die).items():
            scores.setdefault(name, []).append(score)
    for name, found in scores.items():
        yield Row(f"z_{name}", float(np.mean(found)), "standard errors", float(np.std(found)), dies)
    every = np.concatenate([np.array(found) for found in scores.values()])
    share = 100 * float(np.mean(np.abs(every) <= 1.96))
    yield Row("covered", share, "percent of 95 % intervals", None, every.size)


def _one_die(die: int) -> dict[str, float]:
    rng = np.random.default_rng(die)
    preset = load_chip("40nm")
    moves = np.array([MOVES[p.how] * rng.choice((-1.0, 1.0)) for p in PARAMETERS])
    with tempfile.TemporaryDirectory() as home:
        os.environ["RRAMHIL_HOME"] = home
        moved = moved_chip(preset, list(PARAMETERS), moves).model_copy(update={"name": "moved"})
        file = write_chip(moved, Path(home) / "moved.toml")
        job, text = load_job("characterise")
        run = Run.start(
            job,
            text,
            address=f"emulator:{file}?die={die}&seed={die}",
            folder=RunFolder.create(f"die-{die}"),
        )
        result = run.execute(watch=lambda _: None, should_stop=lambda: False)
        with LedgerReader(Path(str(result.ledger))) as reader:
            record = read_record(reader).part("fit")
    _, fitted = fit(record, preset, lambda _: None)
    return {
        f.parameter.path: (f.move - move) / ((f.high - f.low) / 2 / 1.96)
        for f, move in zip(fitted, moves, strict=True)
        if f.low is not None and f.high is not None
    }
