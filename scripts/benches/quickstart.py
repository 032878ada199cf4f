"""The quickstart on many dies: what open loop loses, what each repair leaves, what it costs.

Losses are points under the ideal mapping on the test images, paired over dies. `value` is
the mean over dies, `spread` half the 95 % interval of that mean (t over dies); the worst die
has a row of its own. Both the fitted chip and the `statistical` preset are run.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

from benches import Row
from benches.dies import mean_row
from rramhil.job.file import load_job
from rramhil.job.folder import RunFolder
from rramhil.job.result import RunResult
from rramhil.run import Run

CHIPS = {"40nm": "quickstart", "statistical": "statistical"}
WAYS = ("open_loop", "closed_form", "rsa", "rvw")


def rows(seed: int, quick: bool) -> Iterator[Row]:
    """Rows for both chips; two dies each when `quick`, else ten."""
    dies = 2 if quick else 10
    for chip, job in CHIPS.items():
        with tempfile.TemporaryDirectory() as home:
            os.environ["RRAMHIL_HOME"] = home
            results = [_one_die(job, seed + die) for die in range(dies)]
        prefix = "" if chip == "40nm" else f"{chip}_"
        yield from _rows_of(results, prefix)


def _one_die(name: str, die: int) -> RunResult:
    job, text = load_job(name)
    joint = "&" if "?" in job.device.address else "?"
    address = f"{job.device.address}{joint}die={die}&seed={die}"
    steps = [step for step in job.steps if step.do != "report"]
    job = job.model_copy(update={"seed": die, "steps": steps})
    folder = RunFolder.create(f"die-{die}-{name}")
    return Run.start(job, text, address=address, folder=folder).execute(
        watch=lambda _: None, should_stop=lambda: False
    )


def _rows_of(results: list[RunResult], prefix: str) -> Iterator[Row]:
    def row(name: str, values: list[float], unit: str) -> Row:
        return mean_row(prefix + name, values, unit)

    teacher = [100 * _share(r, "teacher") for r in results]
    ideal = [100 * _share(r, "ideal_mapping") for r in results]
    yield row("teacher_accuracy", teacher, "percent")
    yield row(
        "ideal_loss_to_teacher", [t - i for t, i in zip(teacher, ideal, strict=True)], "points"
    )
    for way in WAYS:
        losses = [i - 100 * _share(r, way) for r, i in zip(results, ideal, strict=True)]
        yield row(f"{way}_loss", losses, "points")
        yield Row(f"{prefix}{way}_loss_worst_die", max(losses), "points", None, len(losses))
    for way in WAYS:
        cost = [r.cost[way] for r in results]
        yield row(f"{way}_pulses", [float(c.pulses) for c in cost], "cell pulses")
        yield row(f"{way}_reads", [float(c.reads) for c in cost], "cell reads")
        yield row(f"{way}_device_seconds", [c.device_seconds for c in cost], "s")
        yield row(f"{way}_host_seconds", [c.host_seconds for c in cost], "s")
    for way in ("closed_form", "rsa"):
        cost = [r.cost[way] for r in results]
        yield row(f"{way}_sparse_share", [100 * c.sparse_share for c in cost], "percent of weights")
        yield row(
            f"{way}_digital_parameters", [float(c.digital_parameters) for c in cost], "numbers"
        )
        yield row(f"{way}_memory_bits", [float(c.memory_bits) for c in cost], "bits")
        speed_ups = [r.timing.ways[way] for r in results if r.timing is not None]
        alone = [float(w.speed_up or 0) for w in speed_ups]
        together = [float(w.speed_up_with_programming or 0) for w in speed_ups]
        yield row(f"{way}_speed_up_over_rvw", alone, "times, device time")
        yield row(f"{way}_speed_up_with_programming", together, "times, device time")
    yield row("rvw_yield", [100 * _finding(r, "rvw", "yield") for r in results], "percent")


def _share(result: RunResult, name: str) -> float:
    return float(getattr(result.accuracy, name))


def _finding(result: RunResult, step: str, key: str) -> float:
    (found,) = [s.findings[key] for s in result.steps if s.name == step]
    return float(found or 0)
