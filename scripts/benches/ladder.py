"""The ladder and after-care: what `method = "auto"` chooses, whether it keeps its word, and time.

For each kind of die: how many dies reached the target (validation images, lower end at 95 %), the
loss on the test images that no decision has seen, digital memory, pulses, rungs carried out; then
the accuracy of closed-form repairs 10^5 s later with and without recalibration. Losses are points
under the ideal mapping; `value` is the mean over dies, `spread` half its 95 % interval.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from benches import Row
from benches.dies import DieJob, Scale, carry_out, loss_rows, mean_row
from benches.recovery import job_of

DIES = 10
MNIST_DIES = 3
DIGITS = {"network": {"name": "digits"}, "data": {"name": "digits"}}
FITTED = {**DIGITS, "device": {"address": "emulator:40nm"}}
PROGRAM = [{"do": "tune", "points": 23}, {"do": "program"}]
STATISTICAL = {
    "mult0.5": "law=multiplicative&sigma=0.5",
    "saf_lrs": "law=multiplicative&sigma=0.3&stuck_lrs=0.0904&stuck_hrs=0.0175",
}


def auto(target_loss: float, **more: Any) -> dict[str, Any]:
    """The ladder as a step of a job."""
    return {"do": "recover", "method": "auto", "target_loss": target_loss, **more}


def jobs() -> dict[str, dict[str, Any]]:
    """Every kind of die with the ladder's target."""
    tight = {"budget": {"digital_fraction": 0.01}}
    fppv = {"recipe": {"algorithm": "fppv"}}
    return {
        "40nm": {**FITTED, "steps": [*PROGRAM, auto(3.0)]},
        "40nm_1_percent": {**FITTED, "steps": [*PROGRAM, auto(3.0, **tight)]},
        **{
            f"mnist_{name}": job_of(errors, "lenet5-mnist", "mnist", [auto(1.0, **fppv)])
            for name, errors in STATISTICAL.items()
        },
    }


def rows(seed: int, quick: bool, scale: Scale) -> Iterator[Row]:
    """Digits only, on two dies, when `quick`."""
    count = scale.dies or (2 if quick else DIES)
    for name, job in jobs().items():
        mnist = name.startswith("mnist")
        if quick and mnist:
            continue
        dies = min(count, MNIST_DIES) if mnist and scale.dies is None else count
        yield from _ladder(name, _results(name, job, seed, dies, scale))
    steps = [*PROGRAM, {"do": "recover", "method": "closed_form"}, {"do": "care"}]
    aged = _results("care", {**FITTED, "steps": steps}, seed, count, scale)
    yield from _care(aged)


def _results(
    name: str, job: dict[str, Any], seed: int, dies: int, scale: Scale
) -> list[dict[str, Any]]:
    wanted = [DieJob(name, seed + die, job) for die in range(dies)]
    return [result for _, result in carry_out(wanted, scale)]


def _ladder(name: str, results: Sequence[dict[str, Any]]) -> Iterator[Row]:
    found = [result["steps"][-1]["findings"] for result in results]
    costs = [result["cost"]["auto"] for result in results]
    accuracy = [result["accuracy"] for result in results]
    losses = [100 * (own["ideal_mapping"] - own["auto"]) for own in accuracy]
    yield Row(f"{name}_shown", sum(own["target_shown"] for own in found), "dies", None, len(found))
    yield from loss_rows(name, losses)
    yield mean_row(f"{name}_sparse", [100 * own["sparse_share"] for own in costs], "% of weights")
    yield mean_row(f"{name}_pulses", [own["paid_pulses"] for own in found], "pulses")
    yield mean_row(f"{name}_carried_out", [own["carried_out"] for own in found], "rungs")
    seconds = [own["cpu_seconds"]["auto"] for own in results]
    yield mean_row(f"{name}_cpu", seconds, "CPU s")
    for rung, dies in Counter(own["rung"] for own in found).most_common():
        yield Row(f"{name}_kept_{rung}", dies, "dies", None, len(found))


def _care(results: Sequence[dict[str, Any]]) -> Iterator[Row]:
    found = [result["steps"][-1]["findings"] for result in results]
    ideal = [result["accuracy"]["ideal_mapping"] for result in results]
    fresh = [result["accuracy"]["closed_form"] for result in results]
    for name, seen in {
        "care_fresh": fresh,
        "care_1e5s_without": [own["accuracy_without"] for own in found],
        "care_1e5s_with": [own["accuracy"] for own in found],
    }.items():
        yield from loss_rows(name, [100 * (i - s) for i, s in zip(ideal, seen, strict=True)])
    yield mean_row("care_recalibrations", [own["recalibrations"] for own in found], "of 6 checks")
