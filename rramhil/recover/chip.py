"""The layers of a mapped network on a device, written and multiplied one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from rramhil.device import Cells, Device, Floats
from rramhil.mapping import MappedNetwork, filled
from rramhil.nn.layers import Layer, Product, product_of
from rramhil.nn.network import Network

Writing = Callable[[Cells, Floats], Iterator[object]]
"""(cells, target siemens): brings the cells there somehow; yields at safe points."""


class MappedChip:
    """A `rramhil.recover.progressive.Chip`: weights go where the mapping has their layer.

    They keep the layer's scale, so that what is read of it later means the same.
    """

    def __init__(self, mapped: MappedNetwork, writing: Writing, products: Product) -> None:
        self.layers = {layer.name: layer for layer in mapped.layers}
        self.writing, self.products = writing, products

    def write(self, layer: str, weights: Tensor) -> Iterator[object]:
        """Write `weights` (rows, columns), clipped and on levels, into the cells of `layer`.

        Rows that share a physical row get the mean of their weights.
        """
        own = self.layers[layer]
        targets = own.targets(own.tied(weights.detach().numpy()))
        yield from self.writing(own.cells.reshape(-1), targets.reshape(-1))

    def product(self, layer: Layer, inputs: Tensor) -> Tensor:
        """Products of a layer, without bias."""
        return self.products(layer, inputs)


def read_product(device: Device, mapped: MappedNetwork, network: Network) -> Product:
    """Products by the host, from a reading of the layer's cells for each call; without bias.

    A cell above the range counts as the highest readable conductance, an unreadable one as open.
    """
    layers = {layer.name: layer for layer in mapped.layers}
    highest = device.spec.reading.highest

    def product(layer: Layer, inputs: Tensor) -> Tensor:
        own = layers[layer.name]
        siemens = filled(device.read(own.cells.reshape(-1)), highest)
        weight = network.weights[layer.name].new_tensor(own.weights_from(siemens))
        return product_of(layer, inputs, weight, None)

    return product
