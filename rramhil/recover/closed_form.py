"""Closed form: gains, biases and a sparse memory by ridge least squares, layer by layer.

For each column of each layer the numbers are sought with which the array gives what the teacher
gives, over unlabelled images: y = g (x W) + x D + b against the teacher's pre-activation, W what
the array computes, D the sparse memory. The corrected activations go on to the next layer, so
that it makes up for what is left of the errors before it. There are no labels, no gradients and
no epochs; x is digital and x W either follows from readings or is measured on the array itself.

The ridge (A. E. Hoerl, R. W. Kennard, Technometrics 12(1), 1970) pulls towards numbers known
beforehand: gain 1, the teacher's bias, and for a masked weight the difference between what it
should be and what it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rramhil.device import Ints
from rramhil.nn.layers import (
    Layer,
    Product,
    by_weights,
    for_columns,
    product_of,
    unrolled,
    walk,
    with_positions_first,
)
from rramhil.nn.network import Images, Network, check_images
from rramhil.nn.repeatable import repeatable
from rramhil.recover.masks import Mask
from rramhil.recover.places import Biases, ColumnGains, Computed, Parameters, SparseMemory


@dataclass(frozen=True, slots=True)
class Ridge:
    """`strength`: of the ridge, as a share of each unknown's own second moment.

    `products`: how many inputs of a layer are looked at, at most, drawn from `seed`: a
    convolution makes hundreds from an image.
    """

    strength: float = 0.03
    products: int = 12_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.strength > 0 or self.products < 1:
            raise ValueError(
                f"a ridge needs a strength above 0 (it is {self.strength:g}) and at least one "
                f"product to look at (it has {self.products})"
            )


@dataclass(frozen=True, eq=False, slots=True)
class Fitted:
    """A layer that was fitted: the share of its outputs' variance that was wrong and still is."""

    layer: str
    error_before: float
    error_after: float


def start_parameters(network: Network, array: Computed, mask: Mask) -> Parameters:
    """Where the ridge pulls to: gain 1, the teacher's biases, masked weights put right."""
    sparse = {
        name: (weight - array.weights[name]).reshape(-1)[torch.from_numpy(mask.entries[name])]
        for name, weight in network.weights.items()
    }
    return {
        ColumnGains.name: ColumnGains().start(array),
        SparseMemory.name: sparse,
        Biases.name: {name: bias.clone() for name, bias in network.biases.items()},
    }


def fit(
    network: Network,
    array: Computed,
    mask: Mask,
    images: Images,
    ridge: Ridge,
    parameters: Parameters,
    products: Product | None = None,
) -> Iterator[Fitted]:
    """Fill `parameters` (of `start_parameters`), a layer at each step; yields after each.

    `products` measures a layer's products (without bias) on the array; by default they follow
    from `array`. The places are gains, sparse and biases, in this order. Raises ValueError
    without images, or with images of another shape.
    """
    check_images(network, images)
    if not len(images):
        raise ValueError("a closed-form recovery needs images to learn from; give at least one")
    unbiased = {name: torch.zeros_like(bias) for name, bias in array.biases.items()}
    analog = by_weights(array.weights, unbiased) if products is None else products
    random = np.random.default_rng(ridge.seed)
    layers, exact = network.card.layers, by_weights(network.weights, network.biases)
    taught = walk(layers, images.pixels, exact)
    done: list[Fitted] = []

    def corrected(layer: Layer, inputs: Tensor) -> Tensor:
        own = _Layer.of(layer, array, mask, parameters)
        wanted, raw = next(taught).outputs, analog(layer, inputs)
        done.append(own.fit(inputs, raw, wanted, ridge, random))
        return own.corrected(inputs, raw)

    steps = walk(layers, images.pixels, corrected)
    for _ in layers:
        with torch.no_grad(), repeatable():
            next(steps)
        yield done[-1]


@dataclass(frozen=True, eq=False, slots=True)
class _Layer:
    """One layer and its numbers, which `fit` changes in place."""

    layer: Layer
    entries: Tensor
    shape: tuple[int, int]
    array_bias: Tensor
    gains: Tensor
    sparse: Tensor
    biases: Tensor

    @classmethod
    def of(cls, layer: Layer, array: Computed, mask: Mask, parameters: Parameters) -> _Layer:
        name = layer.name
        rows, columns = array.weights[name].shape
        return cls(
            layer,
            torch.from_numpy(mask.entries[name]),
            (rows, columns),
            array.biases[name],
            parameters[ColumnGains.name][name],
            parameters[SparseMemory.name][name],
            parameters[Biases.name][name],
        )

    @property
    def memory(self) -> Tensor:
        """D: the sparse memory as a matrix (rows, columns)."""
        return (
            torch.zeros(self.shape)
            .reshape(-1)
            .index_add(0, self.entries, self.sparse)
            .reshape(self.shape)
        )

    def corrected(self, values: Tensor, raw: Tensor) -> Tensor:
        """g (x W) + x D + b from the layer's inputs and its products on the array."""
        digital = product_of(self.layer, values, self.memory, self.biases)
        return raw * for_columns(self.layer, self.gains) + digital

    def fit(
        self, values: Tensor, raw: Tensor, wanted: Tensor, ridge: Ridge, random: np.random.Generator
    ) -> Fitted:
        """Move the numbers to the ridge solution over a sample of the layer's products."""
        outputs, targets = (
            with_positions_first(raw),
            with_positions_first(wanted),
        )
        chosen = torch.from_numpy(_sample(len(outputs), ridge.products, random))
        x = unrolled(self.layer, values, chosen).double()
        y, t = outputs[chosen].double(), targets[chosen].double()
        variance = max(float(t.var(0, correction=0).mean()), 1e-30)
        before = float((t - y - self.array_bias).square().mean())
        left = t - self._given(x, y)
        gains, sparse, biases = _ridge_columns(x, y, left, self.entries, ridge.strength)
        self.gains.add_(gains)
        self.sparse.add_(sparse)
        self.biases.add_(biases)
        after = float((t - self._given(x, y)).square().mean())
        return Fitted(self.layer.name, before / variance, after / variance)

    def _given(self, x: Tensor, y: Tensor) -> Tensor:
        return y * self.gains + x @ self.memory.double() + self.biases


def fit_affine(
    layer: Layer,
    values: Tensor,
    raw: Tensor,
    wanted: Tensor,
    biases: Tensor,
    ridge: Ridge,
) -> tuple[Tensor, Tensor]:
    """Gains and biases (columns,) with which `raw` comes nearest to `wanted`, and nothing else.

    `values`: what went into the layer, `raw`: its products as measured, `wanted`: products and
    biases as they should be; the ridge pulls to gain 1 and `biases`.
    """
    own = _Layer(
        layer=layer,
        entries=torch.zeros(0, dtype=torch.int64),
        shape=(layer.rows, layer.outputs),
        array_bias=biases,
        gains=torch.ones(layer.outputs),
        sparse=torch.zeros(0),
        biases=biases.clone(),
    )
    own.fit(values, raw, wanted, ridge, np.random.default_rng(ridge.seed))
    return own.gains, own.biases


def _sample(count: int, most: int, random: np.random.Generator) -> Ints:
    if count <= most:
        return np.arange(count)
    return np.sort(random.choice(count, most, replace=False)).astype(np.int64)


def _ridge_columns(
    x: Tensor, y: Tensor, left: Tensor, entries: Tensor, strength: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Changes of gains (columns,), masked entries and biases (columns,) that lessen `left`.

    All columns are solved in one batch. Column j has its own unknowns (its masked rows, a bias,
    its gain in units of the rms of y_j), but all second moments are sub-blocks of three that
    the columns share: x'x, x'y and x'left.
    """
    (count, rows), columns = x.shape, y.shape[1]
    rms = y.square().mean(0).sqrt().clamp_min(1e-12)
    scaled, slots = y / rms, _Slots.of(entries, rows, columns)
    gram = _padded(x.T @ x / count, 1, 1)
    mean, cross = _padded(x.mean(0)[:, None], 1, 0), _padded(x.T @ scaled / count, 1, 0)
    pull = _padded(x.T @ left / count, 1, 0)
    most = slots.index.shape[1]
    index, column = slots.index, torch.arange(columns)[:, None]
    moments = torch.ones(columns, most + 2, most + 2, dtype=torch.float64)
    moments[:, :most, :most] = gram[index[:, :, None], index[:, None, :]]
    moments[:, :most, most] = moments[:, most, :most] = mean[index, 0]
    moments[:, :most, most + 1] = moments[:, most + 1, :most] = cross[index, column]
    moments[:, most, most + 1] = moments[:, most + 1, most] = scaled.mean(0)
    against = (pull[index, column], left.mean(0)[:, None], (scaled * left).mean(0)[:, None])
    diagonal = torch.diagonal(moments, dim1=1, dim2=2)
    diagonal += strength * (diagonal + 1e-3 * gram.diagonal()[:rows].mean())
    diagonal[:, :most] += (index == rows).double()
    solved = torch.linalg.solve(moments, torch.cat(against, 1)).float()
    return solved[:, most + 1] / rms.float(), slots.taken(solved), solved[:, most]


@dataclass(frozen=True, eq=False, slots=True)
class _Slots:
    """Masked rows of each column, padded to the longest column with the row of zeros behind."""

    index: Tensor
    column: Tensor
    slot: Tensor

    @classmethod
    def of(cls, entries: Tensor, rows: int, columns: int) -> _Slots:
        row, column = entries // columns, entries % columns
        order = torch.argsort(column, stable=True)
        sizes = torch.bincount(column, minlength=columns)
        slot = torch.empty_like(column)
        slot[order] = torch.arange(len(column)) - (sizes.cumsum(0) - sizes)[column[order]]
        index = torch.full((columns, int(sizes.max())), rows)
        index[column, slot] = row
        return cls(index, column, slot)

    def taken(self, solved: Tensor) -> Tensor:
        """From (columns, slots) the entries in their own order."""
        return solved[self.column, self.slot]


def _padded(matrix: Tensor, below: int, right: int) -> Tensor:
    return torch.nn.functional.pad(matrix, (0, right, 0, below))
