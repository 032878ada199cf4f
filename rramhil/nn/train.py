"""Training of a teacher in floating point: AdamW, warm-up, cosine, optional weight noise.

`weight_noise` adds, in each step, Gaussian noise of that share of a layer's largest |w| to its
weights: flat minima tolerate the levels and errors of an array better (A. F. Murray, P. J.
Edwards, IEEE Trans. Neural Networks 5(5), 1994).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rramhil.nn.augment import moved_images
from rramhil.nn.layers import Layer, forward
from rramhil.nn.network import Images, Matrices


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a teacher is trained. `learning_rate` is the peak after `warm_up` of all steps.

    `shift`: each image is moved by up to so many pixels each way, and with `mirror` half of them
    are turned left to right, anew in each epoch.
    """

    epochs: int
    learning_rate: float
    batch: int
    weight_decay: float = 1e-4
    warm_up: float = 0.1
    weight_noise: float = 0.0
    shift: int = 0
    mirror: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class TrainingEpoch:
    """Mean training loss, and copies of the weights and biases after the epoch."""

    loss: float
    weights: Matrices
    biases: Matrices


def initial(layers: tuple[Layer, ...], generator: torch.Generator) -> tuple[Matrices, Matrices]:
    """Weights and biases to start from (K. He et al., ICCV 2015: variance 2 / rows; biases 0)."""
    weights = {
        layer.name: torch.randn(layer.rows, layer.outputs, generator=generator)
        * math.sqrt(2 / layer.rows)
        for layer in layers
    }
    return weights, {layer.name: torch.zeros(layer.outputs) for layer in layers}


def train(
    layers: tuple[Layer, ...], images: Images, recipe: Recipe, seed: int
) -> Iterator[TrainingEpoch]:
    """Train from scratch with cross-entropy; yields after each epoch."""
    generator = torch.Generator().manual_seed(seed)
    weights, biases = initial(layers, generator)
    parameters = [t.requires_grad_() for t in [*weights.values(), *biases.values()]]
    optimiser = torch.optim.AdamW(parameters, weight_decay=recipe.weight_decay)
    steps_an_epoch = math.ceil(len(images) / recipe.batch)
    steps = steps_an_epoch * recipe.epochs
    step = 0
    for _ in range(recipe.epochs):
        losses = []
        order = torch.randperm(len(images), generator=generator)
        for start in range(0, len(images), recipe.batch):
            chosen = order[start : start + recipe.batch]
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate * warm_cosine(step / steps, recipe.warm_up)
            noisy = {n: _noisy(w, recipe.weight_noise, generator) for n, w in weights.items()}
            pixels = _moved(images.pixels[chosen], recipe, generator)
            logits = forward(layers, pixels, noisy, biases)
            loss = functional.cross_entropy(logits, images.labels[chosen])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.item())
            step += 1
        yield TrainingEpoch(float(np.mean(losses)), _copies(weights), _copies(biases))


def warm_cosine(progress: float, warm_up: float) -> float:
    """Share of the peak learning rate at `progress` 0..1: a line up to `warm_up`, a cosine to 0."""
    if progress < warm_up:
        return (progress + 1e-3) / (warm_up + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def _moved(pixels: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    if recipe.shift == 0 and not recipe.mirror:
        return pixels
    count = len(pixels)
    starts = torch.randint(2 * recipe.shift + 1, (2, count, 1), generator=generator)
    mirrored = torch.rand(count, generator=generator) < (0.5 if recipe.mirror else 0.0)
    return moved_images(pixels, recipe.shift, starts, mirrored)


def _noisy(weight: Tensor, share: float, generator: torch.Generator) -> Tensor:
    if share == 0:
        return weight
    noise = torch.randn(weight.shape, generator=generator)
    return weight + share * weight.detach().abs().max() * noise


def _copies(tensors: Matrices) -> Matrices:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
