"""A network's layers as data, and the one walk over them that everything else uses.

Every layer is a product of unrolled inputs with a matrix (rows = inputs, columns = outputs),
because that is what an array computes: a convolution of k x k over c channels has c x k x k
rows, in the order of `torch.nn.functional.unfold`. Biases, additions, activations and pooling
are digital. Pixels are 0..1 and what goes into a product is not negative, so inputs are unsigned
throughout.

A layer takes the activation of the layer before it, or of `input_from`; before its ReLU the
activation of `add_from` may be added (K. He et al., CVPR 2016). Who computes the product is the
caller's: torch, an array, a product under correction:

    for step in walk(layers, pixels, product):
        step.layer, step.inputs, step.outputs, step.activation

A layer of an integer network takes unsigned codes and hands on unsigned codes; what it needs for
that is in `Layer`, and the walk is the same: `rramhil.nn.integer`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from rramhil.schema import Strict


class Layer(Strict):
    """A product, a bias, an addition, ReLU, pooling over `pool` x `pool`; the last three if wanted.

    `inputs` and `outputs` are features of a linear layer, channels of a convolution. `input_from`
    and `add_from` name earlier layers. Where the maps to add are larger, every second (third, ...)
    pixel is taken, and channels that they do not have are zeros: the shortcut without weights,
    option A of K. He et al. A shortcut with weights is a layer of its own (kernel 1, no ReLU).

    In an integer network `input_codes` is the highest code of the inputs and `codes` that of the
    activation (None: the last layer). The activation of output c is the number of
    `thresholds[c]`, ascending integers, that its sum reaches. They are stored beside the matrix,
    not in a card.
    """

    name: str
    kind: Literal["linear", "convolution"]
    inputs: int = Field(gt=0)
    outputs: int = Field(gt=0)
    kernel: int = Field(default=1, gt=0)
    padding: int = Field(default=0, ge=0)
    stride: int = Field(default=1, gt=0)
    relu: bool = True
    pool: int = Field(default=1, gt=0)
    pooling: Literal["max", "average"] = "max"
    input_from: str | None = None
    add_from: str | None = None
    input_codes: int | None = Field(default=None, gt=0, le=255)
    codes: int | None = Field(default=None, gt=0, le=255)
    thresholds: tuple[tuple[int, ...], ...] | None = Field(default=None, exclude=True, repr=False)

    @property
    def rows(self) -> int:
        """Rows of the matrix: inputs x kernel x kernel."""
        return self.inputs * self.kernel**2


Shape = tuple[int, ...]
Product = Callable[[Layer, Tensor], Tensor]
"""(layer, inputs) -> product and bias: (n, outputs), or (n, outputs, height, width)."""


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """A layer at work on n images.

    `inputs`: what its product takes, (n, channels, height, width), or (n, features) where a linear
    layer comes before; `outputs`: product and bias, nothing added yet, (n, outputs[, height,
    width]); `activation`: what it hands on, after addition, ReLU and pooling.
    """

    layer: Layer
    inputs: Tensor
    outputs: Tensor
    activation: Tensor


def walk(layers: tuple[Layer, ...], pixels: Tensor, product: Product) -> Iterator[Step]:
    """Each layer in order on `pixels` (n, channels, height, width).

    `product` is asked for one layer at a time, so it may depend on what earlier steps showed.
    """
    wanted = {name for layer in layers for name in (layer.input_from, layer.add_from) if name}
    kept: dict[str, Tensor] = {}
    values = coded(layers[0], pixels) if layers else pixels
    for layer in layers:
        inputs = values if layer.input_from is None else kept[layer.input_from]
        outputs = product(layer, inputs)
        values = activated(layer, outputs, None if layer.add_from is None else kept[layer.add_from])
        if layer.name in wanted:
            kept[layer.name] = values
        yield Step(layer, inputs, outputs, values)


def activated(layer: Layer, outputs: Tensor, added: Tensor | None) -> Tensor:
    """`outputs` after addition, ReLU and pooling, as far as the layer has them."""
    values = outputs if added is None else outputs + _fitted(added, outputs)
    values = functional.relu(values) if layer.relu and layer.codes is None else values
    if layer.pool > 1:
        pool = functional.max_pool2d if layer.pooling == "max" else functional.avg_pool2d
        values = pool(values, layer.pool)
    return values if layer.codes is None else counted(layer, values)


def coded(layer: Layer, pixels: Tensor) -> Tensor:
    """What the first layer takes: `pixels` 0..1 as they are, or as codes of an integer network.

    The code is the number of k = 1..h (h: the highest code) with 2 h pixel >= 2k - 1. Rounding
    changes nothing: quotients of integers below 2**11 that differ do so in float32, too.
    """
    if layer.input_codes is None:
        return pixels
    highest = layer.input_codes
    edges = torch.arange(1, 2 * highest, 2, dtype=torch.float32) / (2 * highest)
    return torch.bucketize(pixels, edges, right=True).to(torch.float32)


def counted(layer: Layer, sums: Tensor) -> Tensor:
    """The code of each of `sums` (n, outputs[, height, width]): how many thresholds it reaches.

    Half a unit before a threshold is taken for it: a sum is an integer, and what an array makes
    of it is rounded so. Raises ValueError for a layer without thresholds.
    """
    if layer.thresholds is None:
        raise ValueError(f"layer {layer.name} has no thresholds; take it from a trained network")
    edges = _edges(layer.thresholds)
    by_output = sums.detach().transpose(0, 1).flatten(1).to(torch.float64)
    codes = torch.searchsorted(edges, by_output.contiguous(), right=True).to(torch.float32)
    return codes.reshape(sums.shape[1], sums.shape[0], *sums.shape[2:]).transpose(0, 1).contiguous()


@lru_cache(maxsize=64)
def _edges(thresholds: tuple[tuple[int, ...], ...]) -> Tensor:
    return torch.tensor(thresholds, dtype=torch.float64) - 0.5


def _fitted(earlier: Tensor, outputs: Tensor) -> Tensor:
    """`earlier` in the shape of `outputs`: every n-th pixel, zeros for missing channels."""
    if earlier.shape == outputs.shape:
        return earlier
    step = earlier.shape[2] // outputs.shape[2]
    missing = outputs.shape[1] - earlier.shape[1]
    return functional.pad(earlier[:, :, ::step, ::step], (0, 0, 0, 0, 0, missing))


def product_of(layer: Layer, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`inputs` times the matrix `weight` (rows, outputs), plus `bias` (outputs,)."""
    if layer.kind == "linear":
        product = inputs.flatten(1) @ weight
        return product if bias is None else product + bias
    kernel = weight.T.reshape(layer.outputs, layer.inputs, layer.kernel, layer.kernel)
    return functional.conv2d(inputs, kernel, bias, stride=layer.stride, padding=layer.padding)


def unrolled(layer: Layer, inputs: Tensor, chosen: Tensor | None = None) -> Tensor:
    """`inputs` as the rows of a layer's matrix see them: (products, rows); all, or `chosen` ones.

    A linear layer has one product an image, a convolution one for each image and position;
    positions run over y, then x. `unrolled(layer, inputs) @ weight` is the product of the layer.
    """
    if layer.kind == "linear":
        vectors = inputs.flatten(1)
        return vectors if chosen is None else vectors[chosen]
    edge, k, stride = layer.padding, layer.kernel, layer.stride
    padded = functional.pad(inputs, (edge, edge, edge, edge))
    windows = padded.unfold(2, k, stride).unfold(3, k, stride).permute(0, 2, 3, 1, 4, 5)
    if chosen is None:
        return windows.reshape(-1, layer.rows)
    height, width = windows.shape[1:3]
    image, place = chosen // (height * width), chosen % (height * width)
    return windows[image, place // width, place % width].reshape(-1, layer.rows)


def with_positions_first(outputs: Tensor) -> Tensor:
    """Outputs of a step as `unrolled` orders its inputs: (images x positions, outputs)."""
    if outputs.ndim == 2:
        return outputs
    return outputs.permute(0, 2, 3, 1).reshape(-1, outputs.shape[1])


def by_weights(weights: Mapping[str, Tensor], biases: Mapping[str, Tensor]) -> Product:
    """Products with matrices (rows, outputs) and biases (outputs,); differentiable in all."""

    def product(layer: Layer, inputs: Tensor) -> Tensor:
        return product_of(layer, inputs, weights[layer.name], biases[layer.name])

    return product


def biased(products: Product, biases: Mapping[str, Tensor]) -> Product:
    """`products` (without bias) and the biases (outputs,) of each layer added to them."""

    def product(layer: Layer, inputs: Tensor) -> Tensor:
        return products(layer, inputs) + for_columns(layer, biases[layer.name])

    return product


def for_columns(layer: Layer, values: Tensor) -> Tensor:
    """Numbers (outputs,) shaped so that they meet the columns of a layer's outputs."""
    return values.reshape(-1, 1, 1) if layer.kind == "convolution" else values


def forward(
    layers: tuple[Layer, ...],
    pixels: Tensor,
    weights: Mapping[str, Tensor],
    biases: Mapping[str, Tensor],
) -> Tensor:
    """Logits (n, classes) of `pixels` (n, channels, height, width); differentiable in all."""
    return last_of(walk(layers, pixels, by_weights(weights, biases)))


def last_of(steps: Iterator[Step]) -> Tensor:
    """The activation of the last layer, with no earlier step kept."""
    (last,) = deque(steps, maxlen=1)
    return last.activation


def shapes(layers: tuple[Layer, ...], image_shape: tuple[int, int, int]) -> dict[str, Shape]:
    """Shape of each layer's activation for one image: (features,) or (channels, height, width).

    Raises ValueError, in one sentence, where layers do not fit together.
    """
    known: dict[str, Shape] = {}
    before: Shape = image_shape
    for layer in layers:
        for name in (layer.input_from, layer.add_from):
            if name is not None and name not in known:
                raise ValueError(f"layer {layer.name} names {name!r}, which is no earlier layer")
        if layer.name in known:
            raise ValueError(f"two layers are named {layer.name!r}; names must differ")
        taken = before if layer.input_from is None else known[layer.input_from]
        outputs = output_shape(layer, taken)
        if layer.add_from is not None:
            _check_sum(layer, known[layer.add_from], outputs)
        before = (outputs[0], *(side // layer.pool for side in outputs[1:]))
        if 0 in before or (layer.pool > 1 and len(before) == 1):
            raise ValueError(f"layer {layer.name} pools over {layer.pool}, more than it has")
        known[layer.name] = before
    return known


def check_codes(layers: tuple[Layer, ...]) -> None:
    """Raises ValueError, in one sentence, where the codes of an integer network do not fit."""
    known: dict[str, int | None] = {}
    integer = layers[0].input_codes is not None
    before = layers[0].input_codes
    for number, layer in enumerate(layers, 1):
        taken = before if layer.input_from is None else known[layer.input_from]
        if layer.input_codes != taken or (integer and taken is None):
            raise ValueError(
                f"layer {layer.name} takes codes up to {layer.input_codes}, but is given "
                f"{'numbers' if taken is None else f'codes up to {taken}'}"
            )
        if integer and number == len(layers) and layer.codes is not None:
            raise ValueError(f"layer {layer.name} is the last: its sums are the answer; no codes")
        if integer and (layer.add_from is not None or (layer.pool > 1 and layer.pooling != "max")):
            raise ValueError(
                f"layer {layer.name} adds or averages, which leaves no codes; an integer network "
                "has neither"
            )
        if not integer and layer.codes is not None:
            raise ValueError(f"layer {layer.name} makes codes, but the pixels come in as numbers")
        before = known[layer.name] = layer.codes


def output_shape(layer: Layer, taken: Shape) -> Shape:
    """Shape of a layer's product for one input of shape `taken`. Raises ValueError on a misfit."""
    count = int(torch.Size(taken).numel()) if layer.kind == "linear" else taken[0]
    if count != layer.inputs or (layer.kind == "convolution" and len(taken) != 3):
        raise ValueError(f"layer {layer.name} takes {layer.inputs} inputs, but is given {taken}")
    if layer.kind == "linear":
        return (layer.outputs,)
    sides = [side + 2 * layer.padding - layer.kernel for side in taken[1:]]
    if min(sides) < 0:
        raise ValueError(f"layer {layer.name} has a kernel of {layer.kernel}, larger than {taken}")
    return (layer.outputs, *(side // layer.stride + 1 for side in sides))


def _check_sum(layer: Layer, earlier: Shape, outputs: Shape) -> None:
    fits = len(earlier) == len(outputs) and earlier[0] <= outputs[0]
    if fits and len(outputs) == 3:
        step = max(earlier[1] // outputs[1], 1)
        fits = tuple(-(-side // step) for side in earlier[1:]) == outputs[1:]
    elif fits:
        fits = earlier == outputs
    if not fits:
        raise ValueError(
            f"layer {layer.name} adds {layer.add_from} of shape {earlier} to outputs of shape "
            f"{outputs}; give the shortcut a layer of its own"
        )
