"""Recovery of LeNet-5 on MNIST, on the statistical preset: points under the ideal mapping.

Every die is programmed once, open loop; each way of recovery starts from that state (those
without writes first), so losses are paired. Accuracy is from readback, a second after the last
write, on the 10,000 test images. `value` is the mean over dies, `spread` half its 95 % interval,
and the worst die has a row of its own. Learning is without labels; images are those of the
calibration set. Digital numbers: `sparse` in percent of the weights; column gains and biases
come on top and are the same for all (472 numbers).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benches import Row
from benches.dies import DieJob, Scale, carry_out, loss_rows, mean_row

DIES = 20
ERRORS = {
    "mult0.5": "law=multiplicative&sigma=0.5",
    "saf_hrs": "law=multiplicative&sigma=0.3&stuck_lrs=0.0175&stuck_hrs=0.0904",
    "saf_lrs": "law=multiplicative&sigma=0.3&stuck_lrs=0.0904&stuck_hrs=0.0175",
    "range0.3": "law=share_of_range&sigma=0.3",
}
Step = dict[str, Any]


def closed_form(name: str, fraction: float, images: int, **more: Any) -> Step:
    """A closed-form recovery as a step of a job."""
    step = {"do": "recover", "method": "closed_form", "name": name}
    return {**step, "fraction": fraction, "images": images, **more}


WAYS: dict[str, list[Step]] = {
    "mult0.5": [closed_form("128", 0.03, 128), closed_form("1000", 0.03, 1000)],
    "saf_hrs": [closed_form("128", 0.05, 128)],
    "saf_lrs": [closed_form("5000", 0.08, 5000)],
    "range0.3": [closed_form("5000", 0.08, 5000)],
}
"""What the issue of each error is judged by; the name of a row is error and way."""


def job_of(address: str, network: str, data: str, ways: list[Step], scale: str = "layer") -> Step:
    """Tune, program open loop, evaluate, then each way in turn."""
    sweep = {"do": "tune", "first_gate": "1 V", "last_gate": "3 V", "cells": 4096}
    return {
        "device": {"address": f"emulator:statistical?{address}"},
        "network": {"name": network},
        "data": {"name": data},
        "mapping": {
            "scheme": "two_column",
            "levels": 10,
            "lowest": "1 uS",
            "highest": "40 uS",
            "tolerance": "2.1 uS",
            "scale": scale,
        },
        "steps": [
            sweep,
            {"do": "program", "how": "open_loop"},
            {"do": "evaluate", "name": "before"},
            *ways,
        ],
    }


def rows(seed: int, quick: bool, scale: Scale) -> Iterator[Row]:
    """The required rows; two dies when `quick`."""
    dies = scale.dies or (2 if quick else DIES)
    jobs = [
        DieJob(error, seed + die, job_of(address, "lenet5-mnist", "mnist", WAYS[error]))
        for error, address in ERRORS.items()
        for die in range(dies)
    ]
    results: dict[str, list[dict[str, Any]]] = {}
    for job, result in carry_out(jobs, scale):
        results.setdefault(job.group, []).append(result)
    for error, found in results.items():
        yield from rows_of(error, found, [way["name"] for way in WAYS[error]])
    yield mean_row(
        "cpu_seconds_per_die", [r["cpu_seconds"]["128"] for r in results["mult0.5"]], "s"
    )


def rows_of(error: str, found: list[dict[str, Any]], ways: list[str]) -> Iterator[Row]:
    """Accuracy before, and the losses and prices of `ways`, over the results of all dies."""
    ideal = [100 * result["accuracy"]["ideal_mapping"] for result in found]
    yield mean_row(f"{error}_teacher", [100 * r["accuracy"]["teacher"] for r in found], "percent")
    yield mean_row(f"{error}_ideal_mapping", ideal, "percent")
    yield mean_row(f"{error}_before", [100 * r["accuracy"]["before"] for r in found], "percent")
    for way in ways:
        losses = [i - 100 * r["accuracy"][way] for r, i in zip(found, ideal, strict=True)]
        yield from loss_rows(f"{error}_{way}", losses)
        prices = [result["cost"][way] for result in found]
        yield mean_row(
            f"{error}_{way}_sparse", [100 * p["sparse_share"] for p in prices], "percent of weights"
        )
        yield mean_row(f"{error}_{way}_index_bits", [p["index_bits"] for p in prices], "bits")
        yield mean_row(f"{error}_{way}_pulses", [p["pulses"] for p in prices], "cell pulses")
