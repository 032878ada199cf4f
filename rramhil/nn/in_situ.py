"""A network whose products the array computes itself.

Activations go in as codes, what comes out is turned into sums of weight times activation by the
scheme of the mapping, and bias, activation and pooling are digital:

    ranges = activation_ranges(network, calibration_images)
    product = array_product(mapped, ranges, whole_tile(device.mvm, device.spec.rows), device.spec)
    logits = logits_by(network, images, biased(product, network.biases))

An activation above its layer's range is cut there, as a driver that saturates does it; ranges come
from calibration images, never from the test images. The codes of an integer network go in as they
are. How a macro reads an input code is in
`rramhil.device.MvmLimits`; partial sums of row blocks are added after conversion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rramhil.device import Ints, Refused, Spec
from rramhil.mapping.network import MappedLayer, MappedNetwork
from rramhil.mapping.place import Block
from rramhil.mapping.row_table import fed, shots
from rramhil.nn.layers import Layer, Product, biased, by_weights, output_shape, walk
from rramhil.nn.network import Images, Network, logits_by

BlockProduct = Callable[[int, Ints, Ints, Ints], Ints]
"""(tile, codes (batch, rows), rows, columns) -> sums (batch, columns)"""

RANGE_STEPS = 4096
"""How finely the range of a layer's inputs is told by a percentile."""


def whole_tile(mvm: Callable[[int, Ints], Ints], rows: int) -> BlockProduct:
    """A block product made of the product of whole tiles of `rows` word lines, `Device.mvm`."""

    def product(tile: int, codes: Ints, lines: Ints, columns: Ints) -> Ints:
        inputs = np.zeros((len(codes), rows), dtype=np.int64)
        inputs[:, lines] = codes
        return mvm(tile, inputs)[:, columns]

    return product


def activation_ranges(
    network: Network, images: Images, batch: int = 500, percentile: float = 100.0
) -> dict[str, float]:
    """The largest input of each layer over `images`, by its name: what a full input code is.

    For an integer network its highest input code, whatever the images and the percentile.
    Below 100 that percentile of the inputs above 0, to 1/4096 of the largest: what lies beyond
    is cut, all the rest comes in higher codes and stands out more from the converter's noise and
    steps. Raises ValueError for a percentile that is not above 0 and at most 100.
    """
    if not 0 < percentile <= 100:
        raise ValueError(
            f"ranges at the {percentile:g}th percentile of the inputs cannot be; take one above 0 "
            "and at most 100"
        )
    if network.is_integer:
        return {layer.name: float(layer.input_codes or 0) for layer in network.card.layers}
    ranges = {layer.name: -math.inf for layer in network.card.layers}
    for name, inputs in _inputs(network, images, batch):
        ranges[name] = max(float(inputs.max()), ranges[name])
    if percentile == 100:
        return ranges
    counts = {name: torch.zeros(RANGE_STEPS, dtype=torch.float64) for name in ranges}
    for name, inputs in _inputs(network, images, batch):
        if ranges[name] > 0:
            above = inputs[inputs > 0]
            counts[name] += torch.histc(above, RANGE_STEPS, min=0, max=ranges[name]).double()
    return {name: _percentile(count, percentile) * ranges[name] for name, count in counts.items()}


def _inputs(network: Network, images: Images, batch: int) -> Iterator[tuple[str, Tensor]]:
    with torch.no_grad():
        for part in images.batches(batch):
            given = by_weights(network.weights, network.biases)
            for step in walk(network.card.layers, part.pixels, given):
                yield step.layer.name, step.inputs


def _percentile(counts: Tensor, percentile: float) -> float:
    """Of a histogram from 0 to 1, the end of the step in which the percentile lies; 1 if empty."""
    wanted = counts.sum() * percentile / 100
    steps = int(torch.searchsorted(counts.cumsum(0), wanted)) + 1
    return min(steps / len(counts), 1.0) if wanted > 0 else 1.0


def averaged(products: Product, times: int) -> Product:
    """The mean of `times` products of the same inputs, each measured by `products`.

    What is drawn anew in each falls with the square root of `times`, and with it the rounding
    that it dithers (L. Schuchman, IEEE Trans. Commun. Technol. 12(4), 1964); what is the same in
    all stays. Device time and energy are `times` those of one. Raises ValueError below 1.
    """
    if times < 1:
        raise ValueError(f"a product cannot be measured {times} times; take 1 or more")

    def mean(layer: Layer, inputs: Tensor) -> Tensor:
        total = products(layer, inputs)
        for _ in range(times - 1):
            total = total + products(layer, inputs)
        return total / times

    return products if times == 1 else mean


def array_product(
    mapped: MappedNetwork,
    ranges: Mapping[str, float],
    product: BlockProduct,
    spec: Spec,
    batch: int = 100,
    counted: bool = False,
) -> Product:
    """Each layer's products as the array itself computes them, without bias.

    `ranges`: the input that a full code stands for, by layer (see `activation_ranges`). `batch`:
    images at a time, which bounds the memory. `counted`: codes are numbers of high cells (see
    `rramhil.trim.counting`). No gradient comes through. Raises `Refused` on a die without a
    product, and when asked for a layer whose inputs are negative or are codes that it does not
    take.
    """
    limits = spec.mvm
    if limits is None:
        raise Refused(f"{spec.model} computes no product; evaluate from conductances instead")
    highest = 2**limits.input_bits - 1
    per_code = np.float32(limits.amps_per_code / spec.reading.volts)
    cells = {layer.name: layer for layer in mapped.layers}
    if limits.row_order == "next_nonzero":
        product = _without_empty(product)

    def some(layer: Layer, inputs: Tensor) -> Tensor:
        own, unit = cells[layer.name], code_unit(layer, ranges, highest)
        largest = layer.input_codes or highest
        codes = _codes(layer, inputs.numpy(), unit, largest)
        sums = physical_sums(own, codes, product, largest, highest)
        if counted:  # k high cells under inputs of sum(x): k H + (sum(x) - k) L
            sums *= np.float32(own.levels.span)
            sums += np.float32(own.levels.lowest) * codes.sum(axis=1, dtype=np.float32)[:, None]
        else:
            sums *= per_code
        outputs = weighted(own, sums, codes) * (own.scale * unit).astype(np.float32)
        return _as_maps(layer, torch.from_numpy(outputs), inputs)

    def on_array(layer: Layer, inputs: Tensor) -> Tensor:
        return torch.cat([some(layer, part) for part in torch.split(inputs.detach(), batch)])

    return on_array


def logits_in_situ(
    network: Network,
    mapped: MappedNetwork,
    images: Images,
    ranges: Mapping[str, float],
    product: BlockProduct,
    spec: Spec,
    batch: int = 100,
) -> Tensor:
    """Logits (n, classes) of `images` with every product computed by `product` on the array.

    Raises as `array_product` does, and ValueError for images of another shape.
    """
    products = array_product(mapped, ranges, product, spec, batch)
    return logits_by(network, images, biased(products, network.biases), batch)


def code_unit(layer: Layer, ranges: Mapping[str, float], highest: int) -> float:
    """What one input code stands for; a code of an integer network is the code of the array.

    Raises `Refused` for codes beyond `highest`, the highest that the macro takes.
    """
    if layer.input_codes is None:
        return ranges[layer.name] / highest
    if layer.input_codes > highest:
        raise Refused(
            f"layer {layer.name} takes codes up to {layer.input_codes}, but the array those up to "
            f"{highest}; train a network with activations of fewer bits"
        )
    return 1.0


def _codes(layer: Layer, values: NDArray[np.float32], unit: float, highest: int) -> Ints:
    """Input codes of every product of a layer, (images x positions, rows); one byte or two each."""
    if values.size and values.min() < 0:
        raise Refused(f"layer {layer.name} has negative inputs, and input codes are unsigned")
    per_unit = 1 / unit if unit > 0 else 0.0  # a layer that calibration never fed is cut at 0
    codes = np.minimum(values * np.float32(per_unit) + np.float32(0.5), highest)
    small: Ints = codes.astype(np.uint8 if highest < 256 else np.uint16)
    if layer.kind == "linear":
        return small.reshape(len(small), -1)
    edge = layer.padding
    padded = np.pad(small, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    k = layer.kernel
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(2, 3))
    apart = windows[:, :, :: layer.stride, :: layer.stride]
    unrolled: Ints = apart.transpose(0, 2, 3, 1, 4, 5).reshape(-1, layer.rows)
    return unrolled


def fed_codes(
    layer: Layer, own: MappedLayer, inputs: Tensor, ranges: Mapping[str, float], spec: Spec
) -> Ints:
    """Every input vector that the products of a layer take, (vectors, physical rows).

    One for each product, or one for each of its shots (see `physical_sums`). Raises as
    `array_product` does.
    """
    assert spec.mvm is not None
    highest = 2**spec.mvm.input_bits - 1
    largest = layer.input_codes or highest
    codes = _codes(layer, inputs.numpy(), code_unit(layer, ranges, highest), largest)
    return np.concatenate(
        [fed(codes, own.row_of, shot) for shot in shots(own.row_of, largest, highest)]
    )


def physical_sums(
    layer: MappedLayer, codes: Ints, product: BlockProduct, largest: int, highest: int
) -> NDArray[np.float32]:
    """Sums of converter codes of the physical columns, (products, columns), over all row blocks.

    `codes`: (products, rows), each at most `largest`; `highest`: the highest that the macro
    takes. Codes of rows that share a physical row are added before, as far as `highest` reaches,
    and fed in several products beyond (see `extra_shots`).
    """
    if np.array_equal(layer.row_of, np.arange(layer.row_of.size)):
        return _one_shot(layer, codes, product)
    total = np.zeros((len(codes), layer.cells.shape[1]), dtype=np.float32)
    for shot in shots(layer.row_of, largest, highest):
        total += _one_shot(layer, fed(codes, layer.row_of, shot), product)
    return total


def extra_shots(layer: MappedLayer, largest: int, highest: int) -> int:
    """Products of a layer beyond one an input, because shared rows do not fit an input code."""
    return len(shots(layer.row_of, largest, highest)) - 1


def _one_shot(layer: MappedLayer, codes: Ints, product: BlockProduct) -> NDArray[np.float32]:
    """The sums of `codes` of physical rows, (products, columns), over all row blocks."""
    total = np.zeros((len(codes), layer.cells.shape[1]), dtype=np.float32)
    for block in layer.blocks:
        part = codes[:, block.row : block.row + block.rows]
        sums = _of_block(block, part, product)
        if len(layer.blocks) == 1:
            return sums.astype(np.float32)
        total[:, block.col : block.col + block.cols] += sums
    return total


def _of_block(block: Block, codes: Ints, product: BlockProduct) -> Ints:
    """A product takes lines in rising order; the rows of a block may lie in any."""
    lines, columns = np.argsort(block.lines), np.argsort(block.columns)
    part = np.ascontiguousarray(codes if _rising(block.lines) else codes[:, lines])
    sums = product(block.tile, part, block.lines[lines], block.columns[columns])
    return sums if _rising(block.columns) else sums[:, np.argsort(columns)]


def _without_empty(product: BlockProduct) -> BlockProduct:
    """`product` of the vectors that have an input; the others take no conversion and give 0."""

    def some(tile: int, codes: Ints, lines: Ints, columns: Ints) -> Ints:
        given = codes.any(axis=1)
        if given.all():
            return product(tile, codes, lines, columns)
        sums = np.zeros((len(codes), columns.size), dtype=np.int64)
        if given.any():
            sums[given] = product(tile, codes[given], lines, columns)
        return sums

    return some


def _rising(places: Ints) -> bool:
    return bool(np.all(places[1:] > places[:-1]))


def weighted(layer: MappedLayer, sums: NDArray[np.float32], codes: Ints) -> NDArray[np.float32]:
    """Sums of weight times code from `sums` of siemens times code; `codes`: (products, rows).

    A scheme decodes siemens by a line, w = a G + b; so a sum of x w is a sum(x G) + b sum(x).
    """
    start = np.asarray(layer.scheme.decode(np.zeros((1, sums.shape[1])), layer.levels))
    decoded = np.asarray(layer.scheme.decode(sums, layer.levels), dtype=np.float32)
    if start.any():
        inputs = codes.sum(axis=1, dtype=np.int64)[:, None] - 1
        decoded = decoded + (start * inputs).astype(np.float32)
    return decoded


def _as_maps(layer: Layer, outputs: Tensor, inputs: Tensor) -> Tensor:
    """Outputs (images x positions, columns) as maps (images, columns, y, x) of a convolution."""
    if layer.kind == "linear":
        return outputs
    _, height, width = output_shape(layer, tuple(inputs.shape[1:]))
    return outputs.reshape(-1, height, width, layer.outputs).permute(0, 3, 1, 2)
