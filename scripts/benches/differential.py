"""The differential mapping against two columns, on stuck cells (G. Yuan et al., ISQED 2021).

The same pruned network under both mappings, stuck LRS : HRS = 5.2 : 1, nobody knowing which cells
are stuck, and nothing repaired. `..._rate` is the failure rate at which the mean loss over dies
reaches 1 point, between two rates of the sweep on the logarithm of the rate;
`failure_rate_ratio` is that of the differential mapping over that of two columns, and `spread`
half its 95 % interval (bootstrap over dies; lower and upper end have rows of their own).
Losses are points of test accuracy under the same mapping without a stuck cell.

Two laws of a stuck cell: `ends`, the binary model of the paper, is the highest or the lowest
level; `die` is what dies of the statistical preset have, 40 to 60 uS and 0.2 to 1 uS for levels
from 1 to 40 uS. Fault maps are those of emulated dies, by their numbers; one row reads them back
through real emulated dies.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benches import Row
from benches.dies import DieJob, Scale, carry_out, mean_row
from benches.recovery import job_of

Law = Literal["ends", "die"]
LRS_TO_HRS = 5.2
RATES = (1e-4, 3e-4, 5e-4, 7e-4, 1e-3, 1.5e-3, 2.2e-3, 3.3e-3, 5e-3, 7e-3, 0.01, 0.015, 0.06, 0.2)
IMAGES, CIFAR_IMAGES = 10_000, 1_000
LOSS_POINTS = 1.0
DIES, CIFAR_DIES, EMULATED_DIES = 10, 3, 5
MAPPINGS = ("two_column", "differential")


@dataclass(frozen=True)
class Case:
    """A network under faults. `lrs_to_hrs`: stuck LRS for each stuck HRS; `sigma`: multiplicative
    error of every write; `images`: test images, evenly taken; `scale`, `percentile`: of the
    mapping, where 100 is the largest weight of a layer, as in the paper;
    `bfloat16`: products of the host in that format, for a network that is large for a CPU."""

    name: str
    network: str
    law: Law
    lrs_to_hrs: float = LRS_TO_HRS
    sigma: float = 0.0
    images: int = IMAGES
    rates: tuple[float, ...] = RATES
    mappings: tuple[str, ...] = MAPPINGS
    levels: int = 64
    scale: str = "layer"
    percentile: float = 100.0
    bfloat16: bool = False


PRUNED = Case("lenet5_pruned_ends", "lenet5-pruned", "ends")
OPPOSITE = replace(PRUNED, lrs_to_hrs=1 / LRS_TO_HRS)
DENSE = replace(PRUNED, network="lenet5-mnist")
VARIED = replace(PRUNED, rates=(0.0, 3e-4, 1e-3, 3e-3, 1e-2))
CASES = (
    PRUNED,
    replace(DENSE, name="lenet5_dense_ends"),
    replace(OPPOSITE, name="lenet5_pruned_opposite_ends"),
    replace(PRUNED, name="lenet5_pruned_clipped_ends", percentile=99.5),
    replace(PRUNED, name="lenet5_pruned_die", law="die"),
    replace(VARIED, name="lenet5_pruned_sigma0.05", sigma=0.05),
    replace(VARIED, name="lenet5_pruned_sigma0.1", sigma=0.1),
)
CIFAR = replace(
    PRUNED,
    name="resnet20_pruned_ends",
    network="resnet20-pruned",
    images=CIFAR_IMAGES,
    rates=RATES[1:13:2],
    scale="column",
    bfloat16=True,
)
CIFAR_CASES = (CIFAR,)


def rows(seed: int, quick: bool, scale: Scale) -> Iterator[Row]:
    """All curves; the digits and two dies when `quick`, which needs no data."""
    with tempfile.TemporaryDirectory() as passing:
        keep = scale.keep or Path(passing)
        keep.mkdir(parents=True, exist_ok=True)
        if quick:
            small = replace(
                PRUNED, name="digits_pruned", network="digits-pruned", rates=RATES[:7:2]
            )
            yield from rows_of_case(small, measured(small, seed, scale.dies or 2, scale, keep))
            return
        for name in dict.fromkeys(case.network for case in (*CASES, *CIFAR_CASES)):
            yield from pruning_rows(name, keep)
        found: dict[str, list[Losses]] = {}
        for case, dies in [(c, DIES) for c in CASES] + [(c, CIFAR_DIES) for c in CIFAR_CASES]:
            found[case.name] = measured(case, seed, scale.dies or dies, scale, keep)
            yield from rows_of_case(case, found[case.name])
        both = zip(found["lenet5_dense_ends"], found["lenet5_pruned_ends"], strict=True)
        mixed = [{**dense, "differential": pruned["differential"]} for dense, pruned in both]
        yield from ratio_rows("lenet5_against_dense_ends", mixed, RATES)
        yield from emulated_rows(seed, scale, keep)


Losses = dict[str, Any]
"""Of one die: points lost at each rate by mapping, clean accuracy and mean siemens of a cell."""


def measured(case: Case, seed: int, dies: int, scale: Scale, keep: Path) -> list[Losses]:
    """The losses of each die, from `keep` where they are there already."""
    paths = [keep / f"{case.name}-{seed + die}.json" for die in range(dies)]
    todo = [(case, seed + die, keep) for die in range(dies) if not paths[die].exists()]
    if scale.workers > 1:
        with ProcessPoolExecutor(scale.workers, mp_context=get_context("spawn")) as pool:
            list(pool.map(_one, todo))
    else:
        for job in todo:
            _one(job)
    return [json.loads(path.read_text("utf-8")) for path in paths]


def _one(job: tuple[Case, int, Path]) -> None:
    import torch

    torch.set_num_threads(1)
    case, die, keep = job
    part = keep / f"{case.name}-{die}.part"
    part.write_text(json.dumps(losses_of_die(case, die, keep)), "utf-8")
    part.replace(keep / f"{case.name}-{die}.json")


def losses_of_die(case: Case, die: int, keep: Path) -> Losses:
    """Losses of the die with the number `die` under each mapping of `case`."""
    found: Losses = {"siemens": {}, "clean": {}}
    for mapping in case.mappings:
        network, mapped, images, spec = _placed(case, mapping, keep)
        random = np.random.default_rng([die, round(1e6 * case.sigma)])
        written = np.maximum(
            mapped.siemens * (1 + case.sigma * random.standard_normal(mapped.cells.size)), 0.0
        )
        ideal = network.with_weights(mapped.ideal_weights())
        clean = _accuracy(network, images, ideal, case.bfloat16)
        found["clean"][mapping] = clean
        found["siemens"][mapping] = float(mapped.siemens.mean())
        losses = []
        for rate in case.rates:
            siemens = with_faults(written, mapped, spec, case, rate, die)
            weights = network.with_weights(mapped.weights_from(siemens))
            losses.append(100 * (clean - _accuracy(network, images, weights, case.bfloat16)))
        found[mapping] = losses
    return found


def _accuracy(network: Any, images: Any, weights: Any, bfloat16: bool) -> float:
    import torch

    from rramhil.nn.network import logits_of

    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        logits = logits_of(network, images, weights, batch=100)
    return float((logits.argmax(1) == images.labels).sum()) / len(images)


def with_faults(
    written: NDArray[np.float64], mapped: Any, spec: Any, case: Case, rate: float, die: int
) -> NDArray[np.float64]:
    """What the cells of the emulated die `die` conduct whose stuck ones are `rate` of all."""
    from rramhil_drivers.emulator.chipfile import Faults
    from rramhil_drivers.emulator.faults import STUCK, Purpose, draw_faults, tile_generator

    levels = mapped.levels
    at_ends = case.law == "ends"
    share = case.lrs_to_hrs / (1 + case.lrs_to_hrs)
    law = Faults(
        source="the bench",
        stuck_lrs=rate * share,
        stuck_hrs=rate * (1 - share),
        stuck_rows=0.0,
        row_share=0.0,
        row_lrs_share=0.0,
        lrs_siemens=(levels.highest, levels.highest) if at_ends else (40e-6, 60e-6),
        hrs_siemens=(levels.lowest, levels.lowest) if at_ends else (0.2e-6, 1e-6),
    )
    size = spec.rows * spec.cols
    siemens = written.copy()
    for tile in mapped.tiles:
        random = tile_generator(die, tile, Purpose.FAULTS)
        flags, stuck = draw_faults(law, spec.rows, spec.cols, random)
        inside = mapped.cells // size == tile
        own = mapped.cells[inside] % size
        siemens[inside] = np.where(flags[own] & STUCK, stuck[own], siemens[inside])
    return siemens


@cache
def _placed(case: Case, mapping: str, keep: Path) -> tuple[Any, Any, Any, Any]:
    """Network, its mapping, its test images (evenly taken), and a die with room enough."""
    from rramhil.device import ReadLimits, Spec
    from rramhil.mapping import Levels, find_scheme, map_network
    from rramhil.nn.data import load_data
    from rramhil.nn.network import images_of
    from rramhil.nn.splits import make_splits

    network = network_of(case.network, keep)
    data = load_data(network.card.data)
    test = make_splits(data, network.card.split_seed).test
    images = images_of(data, test[:: max(len(test) // case.images, 1)])
    reading = ReadLimits(lowest=0.0, highest=400e-6, lsb=1e-9, volts=0.2, seconds=1e-6)
    spec = Spec("any", "any", 64, 256, 256, reading, pulses={})
    step = 39e-6 / (case.levels - 1)
    mapped = map_network(
        network.matrices(),
        spec,
        Levels(case.levels, 1e-6, 40e-6, step / 2),
        find_scheme(mapping),
        percentile=case.percentile,
        scale_per_column=case.scale == "column",
    )
    return network, mapped, images, spec


def network_of(name: str, keep: Path) -> Any:
    """A shipped network, or the file NAME.safetensors in the folder `keep`."""
    from rramhil.nn.network import load_network, network_names

    if name in network_names():
        return load_network(name)
    path = keep / f"{name}.safetensors"
    if not path.exists():
        raise SystemExit(
            f"error: {name} does not come with rramhil and {path} is not there; write it with "
            f"`rramhil prune` (docs/codesign.md says how) and give its folder with --keep"
        )
    return load_network(path)


def pruning_rows(name: str, keep: Path) -> Iterator[Row]:
    """The ratio of a pruned network, and what every ratio that was tried lost on validation."""
    from rramhil.nn.prune import whole_sparsity

    network = network_of(name, keep)
    accuracy = network.card.accuracy
    tried = {k: v for k, v in accuracy.items() if k.startswith("validation_at_")}
    if not tried:
        return
    for key, value in sorted(tried.items()):
        lost = 100 * (accuracy["dense_validation"] - value)
        ratio = key.removeprefix("validation_at_")
        yield Row(f"{name}_validation_loss_at_{ratio}", lost, "points")
    yield Row(f"{name}_ratio", whole_sparsity(network), "of weights")


def rows_of_case(case: Case, dies: Sequence[Losses]) -> Iterator[Row]:
    """Clean accuracy, current, the curve of each mapping, and the ratio."""
    for mapping in case.mappings:
        start = f"{case.name}_{mapping}"
        yield Row(f"{start}_clean", 100 * dies[0]["clean"][mapping], "percent")
        yield Row(f"{start}_cell", 1e6 * dies[0]["siemens"][mapping], "uS")
        for index, rate in enumerate(case.rates):
            yield mean_row(f"{start}_loss_at_{rate:g}", [d[mapping][index] for d in dies], "points")
    if case.mappings != MAPPINGS:
        return
    one, two = (dies[0]["siemens"][mapping] for mapping in MAPPINGS)
    yield Row(f"{case.name}_current_ratio", two / one, "times")
    if not case.sigma:
        yield from ratio_rows(case.name, dies, case.rates)


def ratio_rows(name: str, dies: Sequence[Losses], rates: Sequence[float]) -> Iterator[Row]:
    """Tolerable rate of each mapping and their ratio; ends of its bootstrap interval over dies."""
    found = {m: np.array([d[m] for d in dies]) for m in MAPPINGS}
    tolerated = {m: tolerated_rate(found[m].mean(axis=0), rates) for m in MAPPINGS}
    for mapping, rate in tolerated.items():
        yield Row(f"{name}_{mapping}_rate", rate, "of cells", None, len(dies))
    ratio = tolerated["differential"] / tolerated["two_column"]
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(2_000):
        chosen = random.integers(len(dies), size=len(dies))
        rate = [tolerated_rate(found[m][chosen].mean(axis=0), rates) for m in MAPPINGS]
        drawn.append(rate[1] / rate[0])
    low, high = np.percentile(drawn, (2.5, 97.5))
    yield Row(f"{name}_failure_rate_ratio", ratio, "times", (high - low) / 2, len(dies))
    yield Row(f"{name}_failure_rate_ratio_low", low, "times", None, len(dies))
    yield Row(f"{name}_failure_rate_ratio_high", high, "times", None, len(dies))


def tolerated_rate(losses: NDArray[np.float64], rates: Sequence[float]) -> float:
    """The rate at which rising `losses` (one a rate) first reach 1 point.

    On the logarithm of the rate, losses made monotone from below; the first or last rate where
    the curve lies wholly above or below: then the true one is beyond.
    """
    rising = np.maximum.accumulate(losses)
    if rising[0] >= LOSS_POINTS:
        return rates[0]
    if rising[-1] < LOSS_POINTS:
        return rates[-1]
    last = int(np.argmax(rising >= LOSS_POINTS))
    share = (LOSS_POINTS - rising[last - 1]) / (rising[last] - rising[last - 1])
    ends = np.log(rates[last - 1]), np.log(rates[last])
    return float(np.exp(ends[0] + share * (ends[1] - ends[0])))


def emulated_rows(seed: int, scale: Scale, keep: Path) -> Iterator[Row]:
    """The digits through emulated dies, programmed and read: how far from the direct model."""
    rate, share = 0.005, LRS_TO_HRS / (1 + LRS_TO_HRS)
    address = f"sigma=0&stuck_lrs={rate * share:.6f}&stuck_hrs={rate * (1 - share):.6f}"
    for mapping in MAPPINGS:
        job = job_of(address, "digits-pruned", "digits", [])
        job["mapping"]["scheme"] = mapping
        dies = [DieJob(f"digits_{mapping}", seed + die, job) for die in range(EMULATED_DIES)]
        case = replace(
            PRUNED,
            name=f"digits_{mapping}_direct",
            network="digits-pruned",
            law="die",
            rates=(rate,),
            mappings=(mapping,),
            levels=job["mapping"]["levels"],
            percentile=job["mapping"].get("percentile", 99.5),
        )
        losses, apart = [], []
        for die, result in carry_out(dies, scale._replace(keep=keep)):
            accuracy = result["accuracy"]
            losses.append(100 * (accuracy["ideal_mapping"] - accuracy["before"]))
            apart.append(losses[-1] - losses_of_die(case, die.die, keep)[mapping][0])
        yield mean_row(f"digits_{mapping}_emulated_loss_at_{rate:g}", losses, "points")
        yield mean_row(f"digits_{mapping}_emulated_minus_direct", apart, "points")
