"""A whole integer network in situ: what the macro's own products cost in accuracy.

    scripts/bench insitu_integer [--quick] [--seed N] [--dies N] [--workers N] [--keep FOLDER]

Each die is written by the macro's own write-verify, its columns are trimmed to count high cells
(`aim = "counts"`), then a digital gain and offset of each column are fitted to products measured
on 128 training images (the closed form without sparse entries). Loss: points of accuracy under the
same integer network computed exactly, on the same test images. `trimmed` is without the digital
numbers. Faults are off but in the rows that name a share of stuck cells, two of three in LRS.

The write-verify takes 4,096 cells at once here where the preset takes 32: that changes what it
takes of device time and of this machine's, and no law of a cell. One network and its images are
fixed: the interval is over dies. RRAMHIL_BENCH_NETWORK and RRAMHIL_BENCH_IMAGES name another
network, and how many test images, drawn once, are looked at.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benches import Row
from benches.dies import Scale, loss_rows

LEARN = 128
AT_ONCE = 4096
LEVELS = (2, 0.0, 200e-6, 15e-6)
ENOUGH, FEW = 10, 2  # dies of the first two cases, where nobody says another number, and of others


class Case(NamedTuple):
    """One condition: `noise` times the converter's, a share of `stuck` cells, and the scheme."""

    noise: float = 1.0
    stuck: float = 0.0
    scheme: str = "two_column"

    @property
    def name(self) -> str:
        faults = f" stuck {100 * self.stuck:g} %" if self.stuck else ""
        return f"{self.scheme} noise x{self.noise:g}{faults}"


CASES = (
    Case(),
    Case(scheme="one_column"),
    Case(noise=0.0),
    Case(noise=2.0),
    Case(stuck=0.001),
    Case(stuck=0.01),
    Case(stuck=0.05),
)


def rows(seed: int, quick: bool, scale: Scale) -> Iterator[Row]:
    """Losses of every case, mean, interval over dies and worst die."""
    network = "digits-1b2b" if quick else os.environ.get("RRAMHIL_BENCH_NETWORK", "lenet5-1b2b")
    count = None if quick else int(os.environ.get("RRAMHIL_BENCH_IMAGES", "10000"))
    dies = scale.dies or (1 if quick else ENOUGH)
    cases = CASES[:2] if quick else CASES
    of_case = [dies if case in CASES[:2] else min(dies, FEW) for case in cases]
    plan = zip(cases, of_case, strict=True)
    jobs = [(network, case, seed + die, count) for case, number in plan for die in range(number)]
    found = list(_carry_out(jobs, scale))
    exact = found[0][1]["exact"]
    yield Row(f"{network} exact", 100 * exact, "percent", None, 1)
    for case in cases:
        own = [one for asked, one in found if asked[1] == case]
        for what in ("trimmed", "columns"):
            losses = [100 * (one["exact"] - one[what]) for one in own]
            yield from loss_rows(f"{network} {case.name} {what}", losses)


_Job = tuple[str, Case, int, int | None]


def _carry_out(jobs: list[_Job], scale: Scale) -> Iterator[tuple[_Job, dict[str, float]]]:
    """Each job with what it found, kept in files so that a bench goes on where it was stopped."""
    with tempfile.TemporaryDirectory() as passing:
        keep = scale.keep or Path(passing)
        keep.mkdir(parents=True, exist_ok=True)
        todo = [job for job in jobs if not _file(keep, job).exists()]
        if scale.workers > 1:
            with ProcessPoolExecutor(scale.workers, mp_context=get_context("spawn")) as pool:
                for future in as_completed([pool.submit(_one, job, keep) for job in todo]):
                    future.result()
        else:
            for job in todo:
                _one(job, keep)
        for job in jobs:
            yield job, json.loads(_file(keep, job).read_text("utf-8"))


def _file(keep: Path, job: _Job) -> Path:
    network, case, die, count = job
    return keep / f"{Path(network).stem}-{die}-{case.name}-{count}.json".replace(" ", "_")


def _one(job: _Job, keep: Path) -> None:
    import torch

    torch.set_num_threads(1)
    part = _file(keep, job).with_suffix(".part")
    part.write_text(json.dumps(_accuracies(*job)), "utf-8")
    part.replace(_file(keep, job))


def _accuracies(name: str, case: Case, die_number: int, count: int | None) -> dict[str, float]:
    from rramhil.nn.in_situ import activation_ranges, array_product
    from rramhil.nn.network import accuracy_by, accuracy_of
    from rramhil.recover.closed_form import Ridge, fit, start_parameters
    from rramhil.recover.masks import random_mask
    from rramhil.recover.on_array import by_array
    from rramhil.recover.places import Biases, ColumnGains, corrected, from_readback

    network, learn, test = _subject(name, count)
    die, mapped = _written(network, case, die_number)
    _trimmed(die, mapped, die_number)
    array = from_readback(network, mapped.ideal_weights())
    ranges = activation_ranges(network, learn)
    products = array_product(mapped, ranges, die.mvm_block, die.spec, counted=True)
    in_situ = by_array(array, products)
    mask = random_mask(network.weights, 0, np.random.default_rng(0))
    parameters = start_parameters(network, array, mask)
    for _ in fit(network, array, mask, learn, Ridge(), parameters, products):
        pass
    fitted = corrected((ColumnGains(), Biases()), parameters, array)
    return {
        "exact": accuracy_of(network, test),
        "trimmed": accuracy_by(network, test, in_situ(array)),
        "columns": accuracy_by(network, test, in_situ(fitted)),
    }


def _subject(name: str, count: int | None) -> tuple[Any, Any, Any]:
    """The network, images to learn from, and `count` test images drawn once and for all."""
    from rramhil.nn.data import load_data
    from rramhil.nn.network import images_of, load_network
    from rramhil.nn.splits import make_splits

    network = load_network(name)
    data = load_data(network.card.data)
    splits = make_splits(data, network.card.split_seed)
    test = np.asarray(splits.test)
    if count is not None and count < test.size:
        test = np.sort(np.random.default_rng(0).choice(test, count, replace=False))
    return network, images_of(data, splits.train[:LEARN]), images_of(data, test)


def _written(network: Any, case: Case, die_number: int) -> tuple[Any, Any]:
    """A die that holds the network by its own write-verify since a second, and the mapping."""
    from rramhil.address import open_device
    from rramhil.mapping import Levels, find_scheme, map_network

    faults = f"stuck_lrs={case.stuck * 2 / 3:.6f}&stuck_hrs={case.stuck / 3:.6f}&stuck_rows=0"
    with tempfile.TemporaryDirectory() as folder:
        chip = Path(folder) / "40nm.toml"
        chip.write_text(_chip_text(), "utf-8")
        address = f"emulator:{chip}?die={die_number}&seed={die_number}&{faults}"
        die: Any = open_device(f"{address}&converter_noise={case.noise:g}")
    levels = Levels(*LEVELS)
    scheme = find_scheme(case.scheme)
    mapped = map_network(network.matrices(), die.spec, levels, scheme, percentile=100)
    low, high = levels.windows(mapped.siemens)
    for start in range(0, mapped.cells.size, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        die.program(mapped.cells[part], low[part], high[part])
    die.clock.sleep(1.0)
    return die, mapped


def _chip_text() -> str:
    """The preset 40nm with `AT_ONCE` cells at once in its write-verify, else unchanged."""
    from importlib.resources import files

    text = (files("rramhil_fixtures") / "chips" / "40nm.toml").read_text("utf-8")
    head, table = text.split("[program]")
    changed = table.replace("cells_at_once = 32", f"cells_at_once = {AT_ONCE}", 1)
    assert changed != table
    return f"{head}[program]{changed}"


def _trimmed(die: Any, mapped: Any, die_number: int) -> None:
    """Trim every tile so that codes count high cells."""
    from rramhil.trim import TrimSettings, counting, read_tile, trim_tile

    rng = np.random.default_rng(die_number)
    for tile in mapped.tiles:
        siemens = read_tile(die, tile, 4)
        aim = counting(die.spec, siemens, *mapped.high_cells(tile, die.spec))
        for _ in trim_tile(die, tile, siemens, TrimSettings(), rng, aim):
            pass
