"""How much each weight of an array matters: what masks and selective rewriting rank by.

All give a matrix (rows, columns) of non-negative scores for each layer, comparable over the
whole network. What a score asks for is in its arguments: weights alone, readings, activations
(no labels, no gradients), or gradients of a loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from rramhil.device import Ints
from rramhil.mapping.row_table import first_rows
from rramhil.nn.layers import Layer, by_weights, unrolled, walk, with_positions_first
from rramhil.nn.network import BATCH, Images, Matrices, Network, check_images
from rramhil.recover.losses import Loss, answers
from rramhil.recover.places import Computed

Scores = dict[str, Tensor]

IMAGES_AT_ONCE = 10
"""Whose inputs of shared rows are unrolled together: bounds the memory."""


def magnitude(weights: Mapping[str, Tensor]) -> Scores:
    """|w| over the largest of its layer."""
    return {name: weight.abs() / _largest(weight) for name, weight in weights.items()}


def known_bad(network: Network, array: Computed) -> Scores:
    """|read - wanted| over the layer's largest |w|: the cells known to be bad first."""
    return {
        name: (array.weights[name] - weight).abs() / _largest(weight)
        for name, weight in network.weights.items()
    }


@dataclass(frozen=True, eq=False, slots=True)
class Moments:
    """Of the teacher over images: E[x^2] of each row's input, and the variance of outputs.

    Rows are physical ones in layers whose row table `moments` was given.
    """

    inputs: Matrices
    outputs: dict[str, float]


def moments(
    network: Network,
    images: Images,
    batch: int = BATCH,
    rows: Mapping[str, Ints] | None = None,
) -> Moments:
    """Second moments of the inputs (rows,) of each layer and the variance of its outputs.

    `rows`: row tables by layer, for moments of physical rows there, (physical rows,). Rows that
    share cells share their errors, so their inputs are added before squaring: E[(x1 + x2)^2].
    Raises ValueError without images, or with images of another shape.
    """
    check_images(network, images)
    if not len(images):
        raise ValueError("moments are those of images; give at least one")
    inputs: Matrices = {}
    tables = rows or {}
    totals: dict[str, Tensor] = {}
    products = dict.fromkeys(network.weights, 0)
    exact = by_weights(network.weights, network.biases)
    with torch.no_grad():
        for part in images.batches(batch):
            for step in walk(network.card.layers, part.pixels, exact):
                name = step.layer.name
                squared = _squared_inputs(step.layer, step.inputs, tables.get(name))
                outputs = with_positions_first(step.outputs).double()
                sums = torch.stack([outputs.sum(0), outputs.square().sum(0)])
                inputs[name] = inputs[name] + squared if name in inputs else squared
                totals[name] = totals[name] + sums if name in totals else sums
                products[name] += len(outputs)
    variances = {}
    for name, (first, second) in totals.items():
        mean = first / products[name]
        variances[name] = float((second / products[name] - mean.square()).mean())
    return Moments({name: x / products[name] for name, x in inputs.items()}, variances)


def _squared_inputs(layer: Layer, inputs: Tensor, table: Ints | None = None) -> Tensor:
    """The sum of x^2 over all products for each row, physical ones with a `table`."""
    if table is not None:
        first = first_rows(table)
        if first.size == table.size:
            return _squared_inputs(layer, inputs)[torch.from_numpy(first)]
        return _squared_sums(layer, inputs, table)
    if layer.kind == "linear":
        return inputs.flatten(1).square().sum(0)
    edge, stride = layer.padding, layer.stride
    power = functional.pad(inputs.square().sum(0), (edge, edge, edge, edge))
    windows = power.unfold(1, layer.kernel, stride).unfold(2, layer.kernel, stride)
    return windows.sum((1, 2)).reshape(-1)


def _squared_sums(layer: Layer, inputs: Tensor, table: Ints) -> Tensor:
    """The sum over all products of the squared sums of inputs of rows that share one."""
    total = torch.zeros(int(table.max()) + 1)
    physical = torch.from_numpy(table)
    for part in torch.split(inputs, IMAGES_AT_ONCE):
        rows = unrolled(layer, part)
        sums = torch.zeros(len(rows), len(total)).index_add(1, physical, rows)
        total += sums.square().sum(0)
    return total


def expected_output_error(network: Network, array: Computed, seen: Moments) -> Scores:
    """`errx`: the share of a layer's output variance that the error of a weight makes.

    err^2 E[x^2] / (columns var(y)): needs readings and unlabelled images, no gradients.
    """
    return {
        name: (array.weights[name] - weight).square()
        * seen.inputs[name][:, None]
        / (weight.shape[1] * max(seen.outputs[name], 1e-30))
        for name, weight in network.weights.items()
    }


def fisher(
    network: Network, array: Computed, images: Images, loss: Loss, batch: int = 10
) -> Scores:
    """Mean squared gradient of `loss` at the array: the diagonal of its empirical Fisher matrix.

    It stands for the second derivative that Z. Yan, X. S. Hu, Y. Shi, "SWIM: selective
    write-verify for computing-in-memory neural accelerators", DAC 2022, rank weights by.
    """
    weights = {name: weight.clone().requires_grad_() for name, weight in array.weights.items()}
    squared = {name: torch.zeros_like(weight) for name, weight in array.weights.items()}
    layers, exact = network.card.layers, by_weights(network.weights, network.biases)
    steps = 0
    for start in range(0, len(images), batch):
        pixels = images.pixels[start : start + batch]
        with torch.no_grad():
            taught = answers(layers, pixels, exact, loss.asks_outputs)
        given = answers(layers, pixels, by_weights(weights, array.biases), loss.asks_outputs)
        value = loss(given, images.labels[start : start + batch], taught)
        gradients = torch.autograd.grad(value, list(weights.values()))
        for name, gradient in zip(weights, gradients, strict=True):
            squared[name] += gradient.square()
        steps += 1
    return {name: total / steps for name, total in squared.items()}


def expected_loss_change(network: Network, array: Computed, squared_gradients: Scores) -> Scores:
    """`taylor`: squared gradient times squared error, the loss that undoing it would save."""
    return {
        name: squared_gradients[name] * (array.weights[name] - weight).square()
        for name, weight in network.weights.items()
    }


def _largest(weight: Tensor) -> Tensor:
    return weight.abs().max().clamp_min(1e-30)
