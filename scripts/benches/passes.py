"""Read-verify-write of the quickstart: what later passes and moved partners are worth.

Losses are points under the ideal mapping on the test images, paired over dies: each die is
programmed open loop and repaired under each setting. `value` is the mean over dies, `spread`
half the 95 % interval of that mean (t over dies).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import numpy as np

from benches import Row
from benches.dies import loss_rows
from rramhil.job.file import load_job
from rramhil.job.folder import RunFolder
from rramhil.job.recoveries import RecoverRVW
from rramhil.job.result import RunResult
from rramhil.run import Run

SETTINGS = {
    "one_pass": {"passes": 1, "compensate": False},
    "three_passes": {"passes": 3, "compensate": False},
    "three_passes_partners": {"passes": 3, "compensate": True},
}


def rows(seed: int, quick: bool) -> Iterator[Row]:
    """Loss and pulses a cell under each setting; two dies when `quick`, else ten."""
    dies = 2 if quick else 10
    for name, setting in SETTINGS.items():
        with tempfile.TemporaryDirectory() as home:
            os.environ["RRAMHIL_HOME"] = home
            results = [_one_die(seed + die, setting) for die in range(dies)]
        losses = [100 * (r.accuracy.ideal_mapping - _rvw(r)) for r in results]
        yield from loss_rows(name, losses)
        pulses = [_finding(r, "pulses_per_cell") for r in results]
        yield Row(f"{name}_pulses", float(np.mean(pulses)), "pulses a cell", None, dies)


def _one_die(die: int, setting: dict[str, object]) -> RunResult:
    job, text = load_job("quickstart")
    steps = [
        step.model_copy(update=setting) if isinstance(step, RecoverRVW) else step
        for step in job.steps
        if step.do != "report" and getattr(step, "method", "rvw") == "rvw"
    ]
    job = job.model_copy(update={"seed": die, "steps": steps})
    address = f"{job.device.address}?die={die}&seed={die}"
    return Run.start(job, text, address=address, folder=RunFolder.create(f"die-{die}")).execute(
        watch=lambda _: None, should_stop=lambda: False
    )


def _rvw(result: RunResult) -> float:
    return float(getattr(result.accuracy, "rvw"))  # noqa: B009  named by the job's step


def _finding(result: RunResult, key: str) -> float:
    (found,) = [s.findings[key] for s in result.steps if s.name == "rvw"]
    return float(found or 0)
