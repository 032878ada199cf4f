"""How well a network does, in floating point and mapped without any error, for its card."""

from __future__ import annotations

from typing import Literal

from rramhil.device import ReadLimits, Spec
from rramhil.mapping import Levels, TwoColumn, map_network
from rramhil.nn.data import DataSet
from rramhil.nn.network import Network, accuracy_of, images_of
from rramhil.nn.splits import Splits

LEVELS = Levels(count=10, lowest=1e-6, highest=40e-6, tolerance=1e-6)


def judged(
    network: Network, data: DataSet, splits: Splits, scale: Literal["layer", "column"]
) -> dict[str, float]:
    """Teacher and ideal mapping (two columns, `LEVELS`) on validation and on test, as fractions.

    `scale`: of the mapping. The test images are read here, once, for the network as it is kept.
    """
    each = scale == "column"
    mapped = map_network(
        network.matrices(), roomy_die(), LEVELS, TwoColumn(), scale_per_column=each
    )
    ideal = network.with_weights(mapped.ideal_weights())
    accuracy = {}
    for name, indices in {"validation": splits.validation, "test": splits.test}.items():
        images = images_of(data, indices)
        accuracy[f"teacher_{name}"] = round(accuracy_of(network, images), 6)
        accuracy[f"ideal_mapping_{name}"] = round(accuracy_of(network, images, ideal), 6)
    return accuracy


def roomy_die() -> Spec:
    """A die with room enough: only its size matters here."""
    reading = ReadLimits(lowest=0.0, highest=100e-6, lsb=1e-9, volts=0.2, seconds=1e-6)
    return Spec("any", "any", 64, 256, 256, reading, pulses={})
