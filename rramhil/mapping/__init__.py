"""Weights to siemens and back: levels, schemes, scales, tiling. Pure numpy.

levels = Levels(10, 1e-6, 40e-6, 1e-6)
mapped = map_network({"fc1": matrix}, device.spec, levels, TwoColumn())
...write mapped.siemens to mapped.cells...
weights = mapped.weights_from(device.read(mapped.cells))
"""

from rramhil.mapping.choice import SchemeCost, StuckShares, choose_scheme
from rramhil.mapping.levels import Levels
from rramhil.mapping.network import MappedLayer, MappedNetwork, map_network
from rramhil.mapping.pairs import Differential, TwoColumn
from rramhil.mapping.place import Block
from rramhil.mapping.scheme import Scheme, filled
from rramhil.mapping.schemes import SCHEMES, find_scheme
from rramhil.mapping.single import OneColumn, ReferenceColumn
from rramhil.mapping.slices import BitSlices

__all__ = [
    "SCHEMES",
    "BitSlices",
    "Block",
    "Differential",
    "Levels",
    "MappedLayer",
    "MappedNetwork",
    "OneColumn",
    "ReferenceColumn",
    "Scheme",
    "SchemeCost",
    "StuckShares",
    "TwoColumn",
    "choose_scheme",
    "filled",
    "find_scheme",
    "map_network",
]
