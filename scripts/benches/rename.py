"""Row rename of the last layer of LeNet-5 (84 rows, 1-bit weights, 2-bit activations), MNIST.

    scripts/bench rename [--quick] [--seed N] [--keep FOLDER]

Rows are merged with the covariance of 5,000 calibration images, without labels and without
training; the loss is on the 10,000 test images, against the network as it was trained. `trained`:
merged to 46 half-way through the training instead (`rramhil train --rename fc3=46`), against the
training of the same seed and epochs without. `value` is
the mean over three networks, `spread` half its 95 % interval. `area`: of the layer's array, in
percent; `net`: with the table's bits as cells of as many bits (two binary cells a weight, a cell a
bit of the table). `input_bits`: of the added inputs; without adding, `shots` products an input.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benches import Row
from benches.dies import Scale, mean_row
from benches.row_networks import NETWORKS, last_layer

TRAINED = 46
TARGETS = (84, 76, 68, 60, 53, 46, 40, 32, 24, 16)


def rows(seed: int, quick: bool, scale: Scale) -> Iterator[Row]:
    """The loss at every number of rows, and what the table costs."""
    from rramhil.mapping.rename import equal_rows, merged_rows

    count = 1 if quick else scale.dies or NETWORKS
    layers = [last_layer(seed + number, quick, scale.keep) for number in range(count)]
    clean = [layer.accuracy("test", layer.weights, layer.bias) for layer in layers]
    yield mean_row("accuracy", clean, "percent")
    if not quick:
        yield from _trained_rows(seed, count, scale, clean)
    equal = [float(equal_rows(layer.weights).physical_rows) for layer in layers]
    yield mean_row("rename_equal_rows", equal, "rows")
    largest = max(int(codes.max()) for codes in layers[0].codes.values())
    cells = 2 * layers[0].weights.size
    for target in TARGETS:
        if target > len(layers[0].weights):
            continue
        found = [merged_rows(one.weights, one.codes["calibration"], target) for one in layers]
        losses = {
            of: [
                one.accuracy(of, one.weights, one.bias)
                - one.accuracy(of, r.weights, one.bias + np.rint(r.shift))
                for one, r in zip(layers, found, strict=True)
            ]
            for of in ("test", "validation")
        }
        name = f"rename{target}"
        yield mean_row(f"{name}_loss", losses["test"], "points")
        yield mean_row(f"{name}_loss_validation", losses["validation"], "points")
        yield Row(f"{name}_area", -100 * found[0].saved, "percent")
        bits = found[0].index_bits
        yield Row(f"{name}_index_bits", bits, "bits")
        yield Row(f"{name}_net", -100 * (found[0].saved - bits / cells), "percent")
        more = [float(r.input_bits(largest) - largest.bit_length()) for r in found]
        yield mean_row(f"{name}_extra_input_bits", more, "bits")
        yield mean_row(f"{name}_shots", [float(r.most_shared) for r in found], "products")


def _trained_rows(seed: int, count: int, scale: Scale, clean: list[float]) -> Iterator[Row]:
    """What the merged networks lose, and that they have no more different rows."""
    from rramhil.mapping.rename import equal_rows

    layers = [last_layer(seed + n, False, scale.keep, merged=TRAINED) for n in range(count)]
    found = [layer.accuracy("test", layer.weights, layer.bias) for layer in layers]
    losses = [before - after for before, after in zip(clean, found, strict=True)]
    yield mean_row(f"rename{TRAINED}_trained_loss", losses, "points")
    yield mean_row(f"rename{TRAINED}_trained_accuracy", found, "percent")
    most = max(equal_rows(layer.weights).physical_rows for layer in layers)
    yield Row(f"rename{TRAINED}_trained_rows", float(most), "rows", None, count)
