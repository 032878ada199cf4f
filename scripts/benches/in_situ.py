"""A network computed by the array itself: accuracy on the test images, before and after repair.

    scripts/bench in_situ [--quick] [--seed N] [--dies N] [--workers N] [--keep FOLDER]

Cells are written by SDR into the windows of their levels on each die, read and multiplied a
second later. `wide` sums all rows at once in 8 bits and holds the network `digits` in ten levels;
`40nm` sums seven rows in 3 bits, and holds it as well, and `digits-ternary` in two. Every row is
printed with the converter's noise as the chip file has it, without it, and with twice as much; in
percent of the 600 test images, `loss` in points under the ideal mapping; `spread`: half the 95 %
interval of the mean over dies (t). Columns are trimmed first (`trimmed`), then gains and offsets
of the columns fitted to products measured on 128 images (`columns`), or the closed form with 5 %
of the weights in digital memory (`closed form`). `closed form untrimmed` leaves the references as
they are, `closed form by readings` measures nothing in situ but the accuracy; `mean of N`: every
product, in the fit and in the accuracy, is measured N times. `readback`: the product computed
from conductances read.

A full input code stands for the 98th percentile of a layer's inputs above 0 on `wide`, where
columns see few of the converter's codes, and for the largest elsewhere (`largest range`: on
`wide` as well). The percentile was chosen of 98, 99, 99.5, 99.9 and 100 on validation images, with
the test numbers beside them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benches import Row
from benches.dies import Scale, loss_rows, mean_row

SUBJECTS = (("wide", "digits", 98), ("40nm", "digits-ternary", 100), ("40nm", "digits", 100))
DIES = 5
TEN, TWO = (10, 20e-6, 200e-6, 5e-6), (2, 5e-6, 200e-6, 10e-6)
IMAGES = 128
FRACTION = 0.05
MEANS = (2, 4)


def rows(seed: int, quick: bool, scale: Scale) -> Iterator[Row]:
    """Accuracies and losses, a row for each subject, noise and repair; one die when `quick`."""
    numbers = range(seed, seed + (scale.dies or (1 if quick else DIES)))
    for chip, network, percentile in SUBJECTS[:2] if quick else SUBJECTS:
        for noise in (1, 0, 2):
            found = list(_dies([(chip, network, percentile, noise, n) for n in numbers], scale))
            for name in found[0]:
                row = f"{chip} {network} noise x{noise} {name}"
                yield mean_row(row, [100 * one[name] for one in found], "percent")
                if name != "ideal mapping":
                    losses = [100 * (one["ideal mapping"] - one[name]) for one in found]
                    yield from loss_rows(row, losses)


Subject = tuple[str, str, float, int, int]
"""Chip, network, percentile of the inputs, converter's noise, die."""


def _dies(subjects: list[Subject], scale: Scale) -> Iterator[dict[str, float]]:
    """What each die gives, from `scale.keep` where it is there already."""
    if scale.workers == 1:
        yield from (_kept(subject, scale.keep) for subject in subjects)
        return
    with ProcessPoolExecutor(scale.workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_kept, subjects, [scale.keep] * len(subjects))


def _kept(subject: Subject, keep: Path | None) -> dict[str, float]:
    os.environ["OMP_NUM_THREADS"] = "1"
    if keep is None:
        return _accuracies(*subject)
    keep.mkdir(parents=True, exist_ok=True)
    path = keep / f"{'-'.join(map(str, subject))}.json"
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_text(json.dumps(_accuracies(*subject)), "utf-8")
        part.replace(path)
    found: dict[str, float] = json.loads(path.read_text("utf-8"))
    return found


def _accuracies(
    chip: str, name: str, percentile: float, noise: int, die_number: int
) -> dict[str, float]:
    from rramhil.mapping import filled
    from rramhil.nn.in_situ import activation_ranges, array_product, averaged
    from rramhil.nn.network import accuracy_by, accuracy_of
    from rramhil.recover.on_array import by_array
    from rramhil.recover.places import Computed, from_readback
    from rramhil.trim import TrimSettings, read_tile, trim_tile

    network, learn, calibration, test = _subject(name)
    die, mapped = _written(chip, name, network, noise, die_number)
    siemens = filled(die.read(mapped.cells), die.spec.reading.highest)
    array = from_readback(network, mapped.weights_from(siemens))

    def measured(percentile: float) -> Any:
        ranges = activation_ranges(network, calibration, percentile=percentile)
        return array_product(mapped, ranges, die.mvm_block, die.spec)

    once = measured(percentile)

    def accuracy(repaired: Computed, products: Any = once) -> float:
        return accuracy_by(network, test, by_array(array, products)(repaired))

    def fitted(fraction: float, products: Any = once) -> Computed:
        return _fitted(network, array, learn, fraction, products)

    def repaired(fraction: float, products: Any = once) -> float:
        return accuracy(fitted(fraction, products), products)

    found = {
        "ideal mapping": accuracy_of(network, test, network.with_weights(mapped.ideal_weights())),
        "readback": accuracy_of(network, test, array.weights),
        "untrimmed": accuracy(array),
        "closed form untrimmed": repaired(FRACTION),
    }
    generator = np.random.default_rng(die_number)
    for tile in mapped.tiles:
        for _ in trim_tile(die, tile, read_tile(die, tile, 4), TrimSettings(), generator):
            pass
    found |= {
        "trimmed": accuracy(array),
        "columns": repaired(0),
        "closed form": repaired(FRACTION),
        "closed form by readings": accuracy(fitted(FRACTION, None)),
    }
    for times in MEANS:
        products = averaged(once, times)
        found[f"columns, mean of {times}"] = repaired(0, products)
        found[f"closed form, mean of {times}"] = repaired(FRACTION, products)
    if percentile < 100:
        found["columns, largest range"] = repaired(0, measured(100))
        found["closed form, largest range"] = repaired(FRACTION, measured(100))
    return found


def _subject(name: str) -> tuple[Any, Any, Any, Any]:
    """The network; images to learn from, to find ranges with, and to judge by."""
    from rramhil.nn.data import load_data
    from rramhil.nn.network import images_of, load_network
    from rramhil.nn.splits import make_splits

    network, data = load_network(name), load_data("digits")
    splits = make_splits(data, network.card.split_seed)
    sets = (splits.train[:IMAGES], splits.calibration, splits.test)
    learn, calibration, test = (images_of(data, indices) for indices in sets)
    return network, learn, calibration, test


def _written(chip: str, name: str, network: Any, noise: int, die_number: int) -> tuple[Any, Any]:
    """A die whose cells hold the network by write-verify, a second ago; and the mapping."""
    from rramhil.address import open_device
    from rramhil.mapping import Levels, find_scheme, map_network
    from rramhil.tune import gate_curve, gate_sweep
    from rramhil.verify import SDR, Bias, Target, program

    die: Any = open_device(f"emulator:{chip}?die={die_number}&converter_noise={noise}")
    ternary = name.endswith("ternary")
    levels = Levels(*(TWO if ternary else TEN))
    mapped = map_network(
        network.matrices(),
        die.spec,
        levels,
        find_scheme("two_column"),
        percentile=100 if ternary else 99.5,
        scale_per_column=ternary,
    )
    curve = gate_curve(list(gate_sweep(die, np.sort(mapped.cells)[::97], 1.4, 3.6, 45, Bias())))
    target = Target(*levels.windows(mapped.siemens), curve.nominal_gate(mapped.siemens, 20e-6))
    for _ in program(die, mapped.cells, target, SDR(first_reset=True)):
        pass
    die.clock.sleep(1.0)
    return die, mapped


def _fitted(network: Any, array: Any, images: Any, fraction: float, products: Any) -> Any:
    """The network repaired in closed form, from `products` or (None) from readings."""
    from rramhil.recover.closed_form import Ridge, fit, start_parameters
    from rramhil.recover.masks import ranked_mask
    from rramhil.recover.places import Biases, ColumnGains, SparseMemory, corrected
    from rramhil.recover.scores import expected_output_error, moments

    scores = expected_output_error(network, array, moments(network, images))
    mask = ranked_mask(scores, fraction)
    parameters = start_parameters(network, array, mask)
    for _ in fit(network, array, mask, images, Ridge(), parameters, products):
        pass
    return corrected((ColumnGains(), SparseMemory(mask), Biases()), parameters, array)
