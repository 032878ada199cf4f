"""A network computed by the array itself: accuracy on the test images, before and after repair.

    scripts/bench in_situ [--quick] [--seed N]

Cells are written by SDR into the windows of their levels on each of five dies, read and
multiplied a second later. `wide` sums all rows at once in 8 bits and holds the network `digits`
in ten levels; `40nm` sums seven rows in 3 bits, and holds it as well, and `digits-ternary` in two.
Every row is printed with the converter's noise as the chip file has it, without it, and with
twice as much; as a share of the 600 test images. Columns are trimmed first (`trimmed`), then
gains and offsets of the columns fitted to products measured on 128 images (`columns`), or the
closed form with 5 % of the weights in digital memory (`closed form`). `closed form untrimmed`
leaves the references as they are, `closed form by readings` measures nothing in situ but the
accuracy. `readback`: the product computed from conductances read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benches import Row

SUBJECTS = (("wide", "digits"), ("40nm", "digits-ternary"), ("40nm", "digits"))
TEN, TWO = (10, 20e-6, 200e-6, 5e-6), (2, 5e-6, 200e-6, 10e-6)
IMAGES = 128
FRACTION = 0.05


def rows(seed: int, quick: bool) -> Iterator[Row]:
    """Accuracies, a row for each subject, noise and repair; spread over dies."""
    dies = 1 if quick else 5
    for chip, network in SUBJECTS[:2] if quick else SUBJECTS:
        for noise in (1, 0, 2):
            found = [_accuracies(chip, network, noise, seed + die) for die in range(dies)]
            for name in found[0]:
                values = [one[name] for one in found]
                spread = float(np.std(values, ddof=1)) if dies > 1 else None
                row = f"{chip} {network} noise x{noise} {name}"
                yield Row(row, float(np.mean(values)), "share", spread, dies, 1)


def _accuracies(chip: str, name: str, noise: int, die_number: int) -> dict[str, float]:
    from rramhil.mapping import filled
    from rramhil.nn.in_situ import activation_ranges, array_product
    from rramhil.nn.network import accuracy_by, accuracy_of
    from rramhil.recover.on_array import by_array
    from rramhil.recover.places import Computed, from_readback
    from rramhil.trim import TrimSettings, read_tile, trim_tile

    network, learn, calibration, test = _subject(name)
    die, mapped = _written(chip, name, network, noise, die_number)
    siemens = filled(die.read(mapped.cells), die.spec.reading.highest)
    array = from_readback(network, mapped.weights_from(siemens))
    ranges = activation_ranges(network, calibration)
    products = array_product(mapped, ranges, die.mvm_block, die.spec)
    in_situ = by_array(array, products)

    def accuracy(repaired: Computed) -> float:
        return accuracy_by(network, test, in_situ(repaired))

    ideal = network.with_weights(mapped.ideal_weights())
    found = {
        "ideal mapping": accuracy_of(network, test, ideal),
        "readback": accuracy_of(network, test, array.weights),
        "untrimmed": accuracy(array),
        "closed form untrimmed": accuracy(_fitted(network, array, learn, FRACTION, products)),
    }
    generator = np.random.default_rng(die_number)
    for tile in mapped.tiles:
        for _ in trim_tile(die, tile, read_tile(die, tile, 4), TrimSettings(), generator):
            pass
    return {
        **found,
        "trimmed": accuracy(array),
        "columns": accuracy(_fitted(network, array, learn, 0, products)),
        "closed form by readings": accuracy(_fitted(network, array, learn, FRACTION, None)),
        "closed form": accuracy(_fitted(network, array, learn, FRACTION, products)),
    }


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
