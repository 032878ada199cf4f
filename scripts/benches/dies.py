"""Many dies, each a job of its own in a process of its own, kept so that a bench can go on.

A die's result is a file in the folder `keep`; a bench that is started again with the same folder
runs only the dies that are missing.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import stats

from benches import Row

if TYPE_CHECKING:
    from rramhil.job.file import JobFile
    from rramhil.job.subject import Material

_KEPT: dict[tuple[str, str], Material] = {}


class Scale(NamedTuple):
    """How much to run: `dies` (None: as many as the bench asks for), `workers` processes."""

    dies: int | None
    workers: int
    keep: Path | None


@dataclass(frozen=True)
class DieJob:
    """A job (as a job file has it) on die `die`; `group` names what its result belongs to."""

    group: str
    die: int
    job: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.group}-{self.die}"


def carry_out(jobs: Sequence[DieJob], scale: Scale) -> Iterator[tuple[DieJob, dict[str, Any]]]:
    """Each job with its result (`RunResult` as JSON, and CPU seconds of each step)."""
    with tempfile.TemporaryDirectory() as passing:
        keep = scale.keep or Path(passing)
        keep.mkdir(parents=True, exist_ok=True)
        todo = [job for job in jobs if not (keep / f"{job.name}.json").exists()]
        if scale.workers > 1:
            with ProcessPoolExecutor(scale.workers, mp_context=get_context("spawn")) as pool:
                for future in as_completed([pool.submit(_one, job, keep) for job in todo]):
                    future.result()
        else:
            for job in todo:
                _one(job, keep)
        for job in jobs:
            yield job, json.loads((keep / f"{job.name}.json").read_text("utf-8"))


def _material(job: JobFile) -> Material:
    """Network and data, the last ones kept: unpacking CIFAR-10 takes as long as a repair."""
    from rramhil.job.subject import Material

    asked = (job.network.name, job.data.name)
    if asked not in _KEPT:
        _KEPT.clear()
        _KEPT[asked] = Material.load(job)
    return _KEPT[asked]


def _one(die_job: DieJob, keep: Path) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from rramhil.job.file import JobFile
    from rramhil.job.folder import RunFolder
    from rramhil.run import Run
    from rramhil.session import Progress

    torch.set_num_threads(1)
    job = JobFile.model_validate({"name": die_job.group, "seed": die_job.die, **die_job.job})
    joint = "&" if "?" in job.device.address else "?"
    address = f"{job.device.address}{joint}die={die_job.die}&seed={die_job.die}"
    seconds: dict[str, float] = {}
    last = [time.process_time()]

    def watch(progress: Progress) -> None:
        now = time.process_time()
        seconds[progress.name] = seconds.get(progress.name, 0.0) + now - last[0]
        last[0] = now

    with tempfile.TemporaryDirectory() as home:
        os.environ["RRAMHIL_HOME"] = home
        run = Run.start(job, "", address=address, folder=RunFolder.create(die_job.name))
        result = run.execute(watch=watch, should_stop=lambda: False, material=_material(job))
    kept = {**result.model_dump(mode="json"), "cpu_seconds": seconds}
    part = keep / f"{die_job.name}.part"
    part.write_text(json.dumps(kept), "utf-8")
    part.replace(keep / f"{die_job.name}.json")


def mean_row(name: str, values: Sequence[float], unit: str) -> Row:
    """Mean over dies; `spread` is half its 95 % interval (t over dies)."""
    half = None
    if len(values) > 1:
        t = float(stats.t.ppf(0.975, len(values) - 1))
        half = t * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return Row(name, float(np.mean(values)), unit, half, len(values))


def loss_rows(name: str, losses: Sequence[float]) -> Iterator[Row]:
    """The mean loss over dies in points, and the worst die."""
    yield mean_row(f"{name}_loss", losses, "points")
    yield Row(f"{name}_loss_worst_die", max(losses), "points", None, len(losses))
