"""Curves beside the required rows: LeNet-5 on MNIST, statistical preset, losses as in `recovery`.

- `rsa_*`: random sparse adaptation to the letter (random mask, biases, no gains, Adam), by share
  of the weights, error and loss function; 1,000 images of the train set, 20 epochs.
- `sparse_*`, `images_*`: the closed form by share of the weights (128 images) and by images (5 %).
- `mask_*`: the closed form with each way to choose the mask (5 %, 128 images).
- `dac2020_*`: ten levels and "50 % variance" (G. Charan et al., DAC 2020, reports 31.76 % before
  recovery), read in each way that it can be; before, and after 8 % in closed form (5,000 images).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benches import Row
from benches.dies import DieJob, Scale, carry_out, mean_row
from benches.recovery import Step, closed_form, job_of

DIES = 5
SIGMAS = (0.1, 0.3, 0.5)
FRACTIONS = (0.01, 0.03, 0.05, 0.1)
LOSSES = {"labels": 1.0, "distillation": 0.0}
MASKS = ("random", "magnitude", "known_bad", "errx", "fisher", "taylor")
READINGS = {
    "sigma_of_level": "law=multiplicative&sigma=0.5",
    "variance_of_level": "law=multiplicative&sigma=0.7071",
    "sigma_lognormal": "law=lognormal&sigma=0.5",
    "sigma_of_range": "law=share_of_range&sigma=0.5",
    "variance_of_range": "law=share_of_range&sigma=0.7071",
}


def rows(seed: int, quick: bool, scale: Scale) -> Iterator[Row]:
    """All curves; one die and the ends of each curve when `quick`."""
    dies = scale.dies or (1 if quick else DIES)
    groups = _groups(quick)
    jobs = [
        DieJob(group, seed + die, job_of(address, "lenet5-mnist", "mnist", ways))
        for group, (address, ways) in groups.items()
        for die in range(dies)
    ]
    results: dict[str, list[dict[str, Any]]] = {}
    for job, result in carry_out(jobs, scale):
        results.setdefault(job.group, []).append(result)
    for group, found in results.items():
        yield mean_row(
            f"{group}_before_loss", [_loss(result, "before") for result in found], "points"
        )
        for way in groups[group][1]:
            losses = [_loss(result, way["name"]) for result in found]
            yield mean_row(f"{group}_{way['name']}_loss", losses, "points")


def _groups(quick: bool) -> dict[str, tuple[str, list[Step]]]:
    ends = slice(None, None, 3) if quick else slice(None)
    groups = {
        f"mult{sigma:g}": (f"law=multiplicative&sigma={sigma:g}", _literal(ends))
        for sigma in SIGMAS[:: 2 if quick else 1]
    }
    groups["mult0.5"][1].extend(_closed(ends))
    after = [closed_form("after", 0.08, 5000)]
    return groups | {f"dac2020_{name}": (law, after) for name, law in READINGS.items()}


def _literal(ends: slice) -> list[Step]:
    return [
        {
            "do": "recover",
            "method": "rsa",
            "name": f"rsa_{100 * fraction:g}_{loss}",
            "fraction": fraction,
            "label_share": share,
            "images": 1000,
            "epochs": 20,
        }
        for fraction in FRACTIONS[ends]
        for loss, share in LOSSES.items()
    ]


def _closed(ends: slice) -> list[Step]:
    shares = (0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08)[ends]
    counts = (16, 32, 64, 128, 512, 2000)[ends]
    return [
        *(closed_form(f"sparse_{100 * share:g}", share, 128) for share in shares),
        *(closed_form(f"images_{count}", 0.05, count) for count in counts),
        *(closed_form(f"mask_{mask}", 0.05, 128, mask=mask) for mask in MASKS[ends]),
    ]


def _loss(result: dict[str, Any], way: str) -> float:
    return 100 * (result["accuracy"]["ideal_mapping"] - result["accuracy"][way])
