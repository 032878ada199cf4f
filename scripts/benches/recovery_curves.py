"""Curves beside the required rows: LeNet-5 on MNIST, statistical preset, losses as in `recovery`.

- `rsa_*`: random sparse adaptation to the letter (random mask, biases, no gains, Adam), by share
  of the weights, error and loss function; 1,000 images of the train set, 20 epochs.
- `sparse_*`, `images_*`: the closed form by share of the weights (128 images) and by images (5 %).
- `mask_*`: the closed form with each way to choose the mask (5 %, 128 images).
- `dac2020_*`: ten levels and "50 % variance" (G. Charan et al., DAC 2020, reports 31.76 % before
  recovery), read in each way that it can be; before, and after 8 % in closed form (5,000 images).
- `cifar_*`: `rsa_*` for ResNet-20 on one die: 5 %, 2,000 images (calibration set), 6 epochs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benches import Row
from benches.dies import DieJob, Scale, carry_out, mean_row
from benches.recovery import Step, closed_form, job_of
from benches.recovery_cifar import job_on as cifar_job

Groups = dict[str, tuple[str, list[Step]]]
"""The law of the errors (of an address) and the ways of recovery, by the name of its rows."""

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
    groups = _mnist(quick) | _cifar(quick)
    found: dict[str, list[dict[str, Any]]] = {}
    for job, result in carry_out(list(_jobs(groups, seed, dies)), scale):
        found.setdefault(job.group, []).append(result)
    for group, results in found.items():
        ways = ["before", *(way["name"] for way in groups[group][1])]
        for name in ways:
            yield mean_row(f"{group}_{name}_loss", [_loss(r, name) for r in results], "points")


def _jobs(groups: Groups, seed: int, dies: int) -> Iterator[DieJob]:
    for group, (address, ways) in groups.items():
        if group.startswith("cifar"):
            yield DieJob(group, seed, cifar_job(address, ways))
            continue
        job = job_of(address, "lenet5-mnist", "mnist", ways)
        yield from (DieJob(group, seed + die, job) for die in range(dies))


def _mnist(quick: bool) -> Groups:
    ends = slice(None, None, 3) if quick else slice(None)
    groups = {
        f"mult{sigma:g}": (f"law=multiplicative&sigma={sigma:g}", _literal(FRACTIONS[ends]))
        for sigma in SIGMAS[:: 2 if quick else 1]
    }
    groups["mult0.5"][1].extend(_closed(ends))
    after = [closed_form("after", 0.08, 5000)]
    return groups | {f"dac2020_{name}": (law, after) for name, law in READINGS.items()}


def _cifar(quick: bool) -> Groups:
    ways = _literal((0.05,), images=2000, learn_from="both", epochs=6, batch=100)
    sigmas = () if quick else (0.3, 0.5)
    return {
        f"cifar_mult{sigma:g}": (f"law=multiplicative&sigma={sigma:g}", ways) for sigma in sigmas
    }


def _literal(fractions: Sequence[float], **more: Any) -> list[Step]:
    step = {"do": "recover", "method": "rsa", "images": 1000, "epochs": 20, **more}
    return [
        {
            **step,
            "name": f"rsa_{100 * fraction:g}_{loss}",
            "fraction": fraction,
            "label_share": share,
        }
        for fraction in fractions
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
