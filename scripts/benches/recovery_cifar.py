"""Recovery of ResNet-20 on CIFAR-10, statistical preset: points under the teacher.

Ten levels and a digital scale for each column (folded into the norm), 2,000 unlabelled images of
the calibration set, no writes. `distilled`: 5 % of the weights (errx), gains and biases in closed
form, trained on for 12 epochs without labels, half of the images mirrored; the validation set
chooses the epoch, and die 0 has chosen the recipe there.
`cifar10_loss_to_teacher` is the worst mean of the three required errors. Dies are run one after
another with all their errors, so that a run that was cut off has whole dies.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benches import Row
from benches.dies import DieJob, Scale, carry_out, loss_rows, mean_row
from benches.recovery import Step, closed_form, job_of

DIES = 20
ERRORS = {
    "mult0.3": "law=multiplicative&sigma=0.3",
    "mult0.5": "law=multiplicative&sigma=0.5",
    "saf_hrs": "law=multiplicative&sigma=0.3&stuck_lrs=0.0175&stuck_hrs=0.0904",
    "saf_lrs": "law=multiplicative&sigma=0.3&stuck_lrs=0.0904&stuck_hrs=0.0175",
}
REQUIRED = ("mult0.3", "mult0.5", "saf_hrs")
REPORTED_DIES = 1
"""Dies of an error that is reported only."""
WAYS: list[Step] = [
    closed_form(
        "distilled",
        0.05,
        2000,
        finish={"epochs": 12, "images": 2000, "learning_rate": 2e-3, "mirror": True},
    ),
]


def job_on(law: str, ways: list[Step]) -> Step:
    """The ways one after another on a die of 16 tiles, from the same first programming."""
    return job_of(f"tiles=16&{law}", "resnet20-cifar", "cifar-10", ways, "column")


def rows(seed: int, quick: bool, scale: Scale) -> Iterator[Row]:
    """All errors; one die when `quick`."""
    dies = scale.dies or (1 if quick else DIES)
    jobs = [
        DieJob(error, seed + die, job_on(law, WAYS))
        for die in range(dies)
        for error, law in ERRORS.items()
        if error in REQUIRED or die < REPORTED_DIES
    ]
    results: dict[str, list[dict[str, Any]]] = {}
    for job, result in carry_out(jobs, scale):
        results.setdefault(job.group, []).append(result)
    worst = []
    for error, found in results.items():
        teacher = [100 * result["accuracy"]["teacher"] for result in found]
        for name in ("teacher", "ideal_mapping", "before"):
            values = [100 * result["accuracy"][name] for result in found]
            yield mean_row(f"{error}_{name}", values, "percent")
        for way in WAYS:
            name = way["name"]
            losses = [t - 100 * r["accuracy"][name] for r, t in zip(found, teacher, strict=True)]
            yield from loss_rows(f"{error}_{name}_to_teacher", losses)
        if error in REQUIRED:
            worst.append(float(np.mean(losses)))
        yield mean_row(
            f"{error}_cpu_seconds", [r["cpu_seconds"]["distilled"] for r in found], "CPU seconds"
        )
    yield Row("cifar10_loss_to_teacher", max(worst), "points", None, dies)
