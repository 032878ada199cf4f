"""A network computed by the array itself: accuracy on the test images, before and after trim.

    scripts/bench in_situ [--quick] [--seed N]

The shipped network `digits`, cells written by SDR into the windows of their levels on each
of three dies, read and multiplied a second later. `wide` sums all rows at once in 8 bits, `40nm`
seven rows in 3 bits. Every row is printed with the converter's noise as the chip file has it,
without it, and with twice as much. `readback`: the product computed from conductances read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benches import Row

LEVELS = (10, 20e-6, 200e-6, 5e-6)
IMAGES = 300


def rows(seed: int, quick: bool) -> Iterator[Row]:
    """Accuracies, a row for each chip, noise and state of the columns; spread over dies."""
    dies = 1 if quick else 3
    for chip in ("wide", "40nm"):
        for noise in (1, 0, 2):
            found = [_accuracies(chip, noise, seed + die) for die in range(dies)]
            for name in found[0]:
                values = [one[name] for one in found]
                spread = float(np.std(values, ddof=1)) if dies > 1 else None
                row = f"{chip} noise x{noise} {name}"
                yield Row(row, float(np.mean(values)), "share", spread, dies, 1)


def _accuracies(chip: str, noise: int, die_number: int) -> dict[str, float]:
    from rramhil.address import open_device
    from rramhil.mapping import Levels, find_scheme, map_network
    from rramhil.nn.data import load_data
    from rramhil.nn.in_situ import activation_ranges, logits_in_situ
    from rramhil.nn.network import Images, images_of, load_network, logits_of
    from rramhil.nn.splits import make_splits
    from rramhil.trim import TrimSettings, read_tile, trim_tile
    from rramhil.tune import gate_curve, gate_sweep
    from rramhil.verify import SDR, Bias, Target, program

    network = load_network("digits")
    data = load_data("digits")
    splits = make_splits(data, network.card.split_seed)
    calibration, every = images_of(data, splits.calibration), images_of(data, splits.test)
    test = Images(every.pixels[:IMAGES], every.labels[:IMAGES])
    die: Any = open_device(f"emulator:{chip}?die={die_number}&converter_noise={noise}")
    mapped = map_network(network.matrices(), die.spec, Levels(*LEVELS), find_scheme("two_column"))
    curve = gate_curve(list(gate_sweep(die, np.sort(mapped.cells)[::97], 1.4, 3.6, 45, Bias())))
    windows = Levels(*LEVELS).windows(mapped.siemens)
    target = Target(*windows, curve.nominal_gate(mapped.siemens, 20e-6))
    for _ in program(die, mapped.cells, target, SDR(first_reset=True)):
        pass
    die.clock.sleep(1.0)
    ranges = activation_ranges(network, calibration)

    def hits(logits: Any) -> float:
        return float((logits.argmax(1) == test.labels).float().mean())

    def in_situ() -> float:
        return hits(logits_in_situ(network, mapped, test, ranges, die.mvm_block, die.spec))

    weights = network.with_weights(mapped.weights_from(die.read(mapped.cells)))
    found = {"readback": hits(logits_of(network, test, weights)), "untrimmed": in_situ()}
    generator = np.random.default_rng(die_number)
    for tile in mapped.tiles:
        siemens = read_tile(die, tile, 4)
        for _ in trim_tile(die, tile, siemens, TrimSettings(), generator):
            pass
    return {**found, "trimmed": in_situ()}
