"""A calibrated network as its cells go on moving, LeNet-5 on MNIST, chip 40nm.

Cells are written (`open_loop`, or `verify`: SDR in three passes) and calibrated from the reading
that follows, 1 s after the last write: closed form with 5 % of the weights and 128 unlabelled
images. Then 1 s or 10^5 s pass on the device's clock, and the network is judged as it was
(`without`) and after `recalibrate` (`with`): gains and biases from one reading and 128 images, the
sparse numbers anew only where validation accuracy is still half a point lower. No cell is written.
Losses are points under the ideal mapping on the 10,000 test images; `value` is the mean over dies,
`spread` half its 95 % interval; `_won` is how much refreshing gives, paired.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from benches import Row
from benches.dies import DieJob, Scale, carry_out, loss_rows, mean_row
from benches.recovery import Step, closed_form

DIES = 3
MNIST = {"network": {"name": "lenet5-mnist"}, "data": {"name": "mnist"}}
DIGITS = {"network": {"name": "digits"}, "data": {"name": "digits"}}
WRITTEN: dict[str, Step] = {
    "open_loop": {"do": "program", "how": "open_loop"},
    "verify": {"do": "program", "how": "verify", "recipe": {"algorithm": "sdr"}},
}
WAITS = {"1s": 1.0, "1e5s": 1e5}


def rows(seed: int, quick: bool, scale: Scale) -> Iterator[Row]:
    """Losses for each way of writing and each wait; the digits network on a die when `quick`."""
    dies = scale.dies or (1 if quick else DIES)
    for written, program in WRITTEN.items():
        for name, seconds in WAITS.items():
            job = {
                **(DIGITS if quick else MNIST),
                "device": {"address": "emulator:40nm"},
                "steps": [
                    {"do": "tune"},
                    program,
                    closed_form("calibrated", 0.05, 128),
                    {"do": "wait", "seconds": seconds},
                    {"do": "recalibrate"},
                ],
            }
            jobs = [DieJob(f"{written}_{name}", seed + die, job) for die in range(dies)]
            found = [result for _, result in carry_out(jobs, scale)]
            yield from _rows(f"{written}_{name}", found)


def _rows(name: str, found: list[dict[str, Any]]) -> Iterator[Row]:
    last = [result["steps"][-1]["findings"] for result in found]
    ideal = [100 * result["accuracy"]["ideal_mapping"] for result in found]
    seen = {
        "calibrated": [result["accuracy"]["calibrated"] for result in found],
        "without": [own["accuracy_before"] for own in last],
        "with": [own["accuracy"] for own in last],
    }
    losses = {
        key: [i - 100 * s for i, s in zip(ideal, shares, strict=True)]
        for key, shares in seen.items()
    }
    for key, values in losses.items():
        yield from loss_rows(f"{name}_{key}", values)
    won = [b - a for b, a in zip(losses["without"], losses["with"], strict=True)]
    yield mean_row(f"{name}_won", won, "points")
    for how, dies in Counter(own["how"] for own in last).most_common():
        yield Row(f"{name}_kept_{how}", dies, "dies", None, len(found))
    yield mean_row(f"{name}_cpu", [r["cpu_seconds"]["recalibrate"] for r in found], "CPU s")
