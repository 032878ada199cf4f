"""The digits network, its images, and arrays that hold it with errors drawn directly."""

from __future__ import annotations

from functools import cache

import numpy as np

from rramhil.device import ReadLimits, Spec
from rramhil.mapping import Levels, MappedNetwork, TwoColumn, map_network
from rramhil.nn.data import load_data
from rramhil.nn.network import Images, Network, accuracy_of, images_of, load_network
from rramhil.nn.splits import make_splits
from rramhil.recover.places import Computed, from_readback

LEVELS = Levels(10, 1e-6, 40e-6, 1e-6)


@cache
def network() -> Network:
    return load_network("digits")


@cache
def images(part: str, count: int | None = None) -> Images:
    """The first `count` images (all of them by default) of a part of the network's own splits."""
    data = load_data("digits")
    chosen = getattr(make_splits(data, network().card.split_seed), part)
    return images_of(data, chosen[:count])


@cache
def mapped() -> MappedNetwork:
    reading = ReadLimits(lowest=0.0, highest=100e-6, lsb=1e-9, volts=0.2, seconds=1e-6)
    spec = Spec("any", "any", 1, 256, 256, reading, pulses={})
    return map_network(network().matrices(), spec, LEVELS, TwoColumn())


def array_of(die: int, sigma: float, stuck_lrs: float = 0.0, stuck_hrs: float = 0.0) -> Computed:
    """An array written open loop: multiplicative error on every cell, some stuck."""
    random = np.random.default_rng(die)
    siemens = mapped().siemens * (1 + sigma * random.standard_normal(mapped().cells.size))
    luck = random.random(siemens.size)
    siemens[luck < stuck_lrs] = 40e-6
    siemens[luck > 1 - stuck_hrs] = 1e-6
    return from_readback(network(), mapped().weights_from(np.maximum(siemens, 0)))


def accuracy(computed: Computed | None = None) -> float:
    """Of the test images; of the network in floating point by default."""
    weights, biases = (None, None) if computed is None else (computed.weights, computed.biases)
    return accuracy_of(network(), images("test"), weights, biases)
