"""Row reorder of the last layer of LeNet-5 (84 rows, 1-bit weights, 2-bit activations), MNIST.

    scripts/bench reorder [--quick] [--seed N] [--keep FOLDER]

The macro of 40 nm: the next seven non-zero inputs, three bits; a cell counts one code, noise as
the row's name says, in codes at a sum of S. The order is annealed on 300 calibration images
without labels; the loss is that of the noise, on the 10,000 test images. `reduction`: percent of
the loss that reordering takes away, a value for each network, over its ten noise seeds
(`natural`), or against the mean of 20 random orders (`random`); spread: half the 95 % interval
over networks and noise seeds, or (`by_network`) over the means of the networks alone.
`code_error`: percent by which the expected squared error of the outputs changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches import Row
from benches.dies import Scale, mean_row
from benches.row_networks import NETWORKS, LastLayer, last_layer

LAWS = (("linear", 0.25), ("linear", 0.4), ("sqrt", 0.25), ("constant", 0.25))
NOISE_SEEDS, ORDERS, IMAGES, ITERATIONS = 10, 20, 300, 3000


def rows(seed: int, quick: bool, scale: Scale) -> Iterator[Row]:
    """For each law of the noise: losses before and after, and what reordering takes away."""
    count = 1 if quick else scale.dies or NETWORKS
    seeds, orders = (2, 2) if quick else (NOISE_SEEDS, ORDERS)
    layers = [last_layer(seed + number, quick, scale.keep) for number in range(count)]
    for law, strength in LAWS:
        found = [_one(one, law, strength, seeds, orders, seed) for one in layers]
        name = f"reorder_{law}{strength:g}"
        for what in ("natural", "random", "reordered"):
            losses = [float(loss) for one in found for loss in one[what]]
            yield mean_row(f"{name}_{what}_loss", losses, "points")
        for what in ("natural", "random"):
            by_network = [
                [100 * (1 - after / float(np.mean(one[what]))) for after in one["reordered"]]
                for one in found
            ]
            yield mean_row(
                f"{name}_loss_reduction_{what}",
                [share for shares in by_network for share in shares],
                "percent",
            )
            means = [float(np.mean(shares)) for shares in by_network]
            yield mean_row(f"{name}_loss_reduction_{what}_by_network", means, "percent")
        changes = [float(one["code_error"][0]) for one in found]
        yield mean_row(f"{name}_code_error", changes, "percent")


def _one(
    layer: LastLayer, law: Any, strength: float, seeds: int, orders: int, seed: int
) -> dict[str, list[float]]:
    """Losses in points: a value a noise seed; of random orders a value an order."""
    from rramhil.mapping.conversions import Conversion, Conversions, NoiseLaw
    from rramhil.mapping.reorder import reorder

    conversion = Conversion(7, 3, NoiseLaw(law, strength))
    cells = (layer.weights + 1) / 2  # a weight of -1 conducts nothing: 2 S - sum of the inputs
    readout = 2 * np.eye(cells.shape[1])
    learn = Conversions(layer.codes["calibration"][:IMAGES], cells, readout, conversion, True)
    *_, last = reorder(learn, np.random.default_rng(seed), ITERATIONS if seeds > 2 else 100)
    test = Conversions(layer.codes["test"], cells, readout, conversion, True)
    clean = layer.accuracy("test", layer.weights, layer.bias)

    def losses(order: NDArray[Any], first: int, count: int) -> list[float]:
        return [clean - _noisy(layer, test, order, first + n) for n in range(count)]

    natural = np.arange(len(cells))
    random = [np.random.default_rng([seed, n]).permutation(len(cells)) for n in range(orders)]
    return {
        "natural": losses(natural, 0, seeds),
        "random": [losses(order, n, 1)[0] for n, order in enumerate(random)],
        "reordered": losses(last.order, 0, seeds),
        "code_error": [100 * (last.error / last.natural - 1)],
    }


def _noisy(layer: LastLayer, test: Any, order: NDArray[Any], seed: int) -> float:
    """Percent of the test images that are right through a noisy converter."""
    from rramhil.mapping.conversions import STEPS

    sums = test.sums(order) / STEPS
    noise = test.conversion.noise.sigma(sums)
    drawn = np.random.default_rng([seed, 7]).standard_normal(sums.shape)
    codes = np.clip(np.rint(sums + noise * drawn), 0, 2**test.conversion.bits - 1)
    codes *= test.bit_weights[test.line, None]
    vector = test.line // test.input_bits
    first = np.flatnonzero(np.diff(vector, prepend=-1))
    outputs = np.zeros((len(test.inputs), codes.shape[1]))
    outputs[vector[first]] = 2 * np.add.reduceat(codes, first, axis=0)
    outputs -= test.inputs.sum(1)[:, None]
    return 100 * float(((outputs + layer.bias).argmax(1) == layer.labels["test"]).mean())
