"""A recovery with the array in the loop: its own products, the correction around them.

    products = array_product(mapped, ranges, block_product, device.spec)
    in_situ = by_array(array, products)
    recovery = replace(random_sparse_adaptation(settings, array), forward=in_situ)
    accuracy = accuracy_by(network, test, in_situ(repaired))

A layer gives g (x W) + x D + b, where x W is measured: converter, noise and offsets of the macro
are in it. The gradient goes straight through the measurement as if it were the product with the
weights that were read (Y. Bengio, N. Leonard, A. Courville, 2013; chip in the loop: W. Wan et
al., Nature 608, 504, 2022), so that neither needs to be known exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rramhil.nn.layers import Layer, Product, biased, for_columns, product_of, walk
from rramhil.nn.network import Images, Network, check_images
from rramhil.recover.loop import Forward
from rramhil.recover.places import Computed


def by_array(array: Computed, products: Product) -> Forward:
    """Forward passes with `products` (without bias) measured on the array.

    `array`: what it holds by its readings, for gradients and to tell what of a corrected network
    is digital. Every pass costs products on the device; its ledger counts them.
    """

    def forward(corrected: Computed) -> Product:
        def product(layer: Layer, inputs: Tensor) -> Tensor:
            name = layer.name
            held, gain = array.weights[name], corrected.gains.get(name)
            raw = products(layer, inputs.detach())
            if inputs.requires_grad:
                through = product_of(layer, inputs, held, None)
                raw = raw + (through - through.detach())
            digital = corrected.weights[name] - (held if gain is None else held * gain)
            scaled = raw if gain is None else raw * for_columns(layer, gain)
            return scaled + product_of(layer, inputs, digital, corrected.biases[name])

        return product

    return forward


def product_noise(network: Network, products: Product, images: Images) -> dict[str, float]:
    """How much of what each layer gives is noise: the rms of two measurements' difference over
    sqrt(2), as a share of the standard deviation of the products. `images` are multiplied twice.

    Raises ValueError without images, or with images of another shape.
    """
    check_images(network, images)
    if not len(images):
        raise ValueError("noise is measured on images; give at least one")
    noise = {}
    with torch.no_grad():
        for step in walk(network.card.layers, images.pixels, biased(products, network.biases)):
            name, given = step.layer.name, step.outputs
            again = products(step.layer, step.inputs)
            again += for_columns(step.layer, network.biases[name])
            apart = float((given - again).square().mean().sqrt()) / 2**0.5
            spread = (given - for_columns(step.layer, network.biases[name])).std()
            noise[name] = apart / max(float(spread), 1e-30)
    return noise
