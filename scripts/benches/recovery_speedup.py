"""Device time of repair without writes against read-verify-write, LeNet-5 on MNIST, chip 40nm.

`closed` is the closed form on 5 % of the weights and 128 unlabelled images, from one reading of
all cells; `closed_best` on 8 % and 5,000, distilled for 3 epochs, from the same reading. `rvw`
writes every cell outside its window (SDR) in three passes, the first of which is `rvw_one_pass`;
its rows hold all three. `rvw_selected` writes the cells of the 5 % of weights with the largest
expected output error, followed by gains and biases in closed form.
Device seconds are the ledger's, inside calls, without chosen delays; the reading that every way is
judged by (one of all cells) is taken off each. `speedup_with_programming` counts the first
programming on both sides, `speedup_without` on neither. Pulses and reads at once are the chip's
(`cells_at_once` of the chip file); both ratios depend on them, so they are rows of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benches import Row
from benches.dies import DieJob, Scale, carry_out, loss_rows, mean_row
from benches.recovery import Step, closed_form
from rramhil.job.file import load_job

DIES = 20
WAYS: list[Step] = [
    closed_form("closed", 0.05, 128),
    closed_form("closed_best", 0.08, 5000, finish={"epochs": 3}),
    {
        "do": "recover",
        "method": "rvw",
        "name": "rvw_selected",
        "recipe": {"algorithm": "sdr"},
        "select": "errx",
        "fraction": 0.05,
    },
    closed_form("rvw_selected_affine", 0.0, 128),
    {
        "do": "recover",
        "method": "rvw",
        "name": "rvw_one_pass",
        "recipe": {"algorithm": "sdr"},
        "passes": 1,
    },
    {
        "do": "recover",
        "method": "rvw",
        "name": "rvw",
        "recipe": {"algorithm": "sdr"},
        "passes": 2,
    },
]


def rows(seed: int, quick: bool, scale: Scale) -> Iterator[Row]:
    """Losses, device seconds and their ratios; one die when `quick`."""
    dies = scale.dies or (1 if quick else DIES)
    job = load_job("mnist")[0].model_dump(mode="json", exclude_unset=True)
    first = [step for step in job["steps"] if step["do"] in ("tune", "program", "evaluate")]
    job["steps"] = [*first, *WAYS]
    del job["name"]
    found = [result for _, result in carry_out(_jobs(job, seed, dies), scale)]
    for way in ("open_loop", *(step["name"] for step in WAYS)):
        yield from loss_rows(
            way,
            [100 * (r["accuracy"]["ideal_mapping"] - r["accuracy"][way]) for r in found],
        )
    cells = 2 * 61_470
    for way in ("rvw_selected", "rvw_one_pass", "rvw"):
        before = ["rvw_one_pass"] if way == "rvw" else []
        pulses = [sum(r["cost"][w]["pulses"] for w in (way, *before)) / cells for r in found]
        yield mean_row(f"{way}_pulses_per_cell", pulses, "cell pulses")
    seconds = {way: [_seconds(r, way) for r in found] for way in (*_names(), "program")}
    seconds["rvw"] = [a + b for a, b in zip(seconds["rvw"], seconds["rvw_one_pass"], strict=True)]
    for way, values in seconds.items():
        yield mean_row(f"{way}_device_seconds", values, "s")
    for way in ("rvw", "rvw_one_pass", "rvw_selected"):
        pairs = list(zip(seconds[way], seconds["closed"], seconds["program"], strict=True))
        yield mean_row(f"{way}_speedup_without", [w / c for w, c, _ in pairs], "times")
        together = [(p + w) / (p + c) for w, c, p in pairs]
        yield mean_row(f"{way}_speedup_with_programming", together, "times")


def _jobs(job: dict[str, Any], seed: int, dies: int) -> list[DieJob]:
    return [DieJob("speedup", seed + die, job) for die in range(dies)]


def _names() -> list[str]:
    return [step["name"] for step in WAYS]


def _seconds(result: dict[str, Any], name: str) -> float:
    """Device seconds of a step, without the reading of all cells that it is judged by."""
    own = {step["name"]: step["cost"]["device_seconds"] for step in result["steps"]}
    return float(own[name] if name == "program" else own[name] - own["open_loop"])
