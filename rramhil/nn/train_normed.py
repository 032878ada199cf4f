"""Training of a convolutional teacher with batch norm, which is folded away afterwards.

While it is trained, each convolution is followed by a batch norm (S. Ioffe, C. Szegedy, ICML
2015) in place of a bias. An array holds no norm, so `folded` multiplies its gain over the deviation
into the columns of the matrix and puts the rest into the digital bias: exactly the same function.
Pixels stay 0..1 without normalisation: the first norm does its work, and zero padding is black.

SGD with Nesterov momentum, warm-up and cosine, label smoothing; images are shifted by up to
`shift` pixels and mirrored, each image every other epoch (K. Jordan, arXiv 2404.00498). Products
are computed in bfloat16, sums and parameters kept in float32.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rramhil.device import Ints
from rramhil.nn.augment import moved_images
from rramhil.nn.data import DataSet
from rramhil.nn.layers import Layer, last_of, walk
from rramhil.nn.network import Matrices
from rramhil.nn.train import warm_cosine

EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class NormedRecipe:
    """`learning_rate` is the peak, after `warm_up` of all steps; `shift` in pixels."""

    epochs: int
    learning_rate: float
    batch: int
    weight_decay: float = 5e-4
    momentum: float = 0.9
    label_smoothing: float = 0.05
    warm_up: float = 0.2
    shift: int = 4


class NormedTraining:
    """A training that can be stopped after each epoch and resumed from its `state`.

    Every epoch draws from a generator of its own, so a resumed training repeats the whole one.
    """

    def __init__(self, layers: tuple[Layer, ...], recipe: NormedRecipe, seed: int) -> None:
        self.layers, self.recipe, self.seed = layers, recipe, seed
        self.done = 0
        generator = torch.Generator().manual_seed(seed)
        self._weights = {layer.name: _initial(layer, generator) for layer in layers}
        self._gains = {layer.name: torch.ones(layer.outputs) for layer in layers if _normed(layer)}
        self._shifts = {layer.name: torch.zeros(layer.outputs) for layer in layers}
        self._means = {name: torch.zeros_like(gain) for name, gain in self._gains.items()}
        self._variances = {name: torch.ones_like(gain) for name, gain in self._gains.items()}
        decayed = [tensor.requires_grad_() for tensor in self._weights.values()]
        free = [*self._gains.values(), *self._shifts.values()]
        self._optimiser = torch.optim.SGD(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay},
                {"params": [tensor.requires_grad_() for tensor in free], "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=True,
        )

    def epoch(self, data: DataSet, indices: Ints) -> float:
        """One more epoch over the images of `data` at `indices`; the mean loss."""
        recipe = self.recipe
        random = np.random.default_rng([self.seed, self.done])
        order = random.permutation(indices)
        batches = math.ceil(len(indices) / recipe.batch)
        mirrored = _mirrored(len(data), self.seed, self.done)
        losses = []
        for number in range(batches):
            chosen = order[number * recipe.batch : (number + 1) * recipe.batch]
            progress = (self.done + number / batches) / recipe.epochs
            for group in self._optimiser.param_groups:
                group["lr"] = recipe.learning_rate * warm_cosine(progress, recipe.warm_up)
            codes, labels = (torch.from_numpy(a[chosen]) for a in (data.images, data.labels))
            starts = random.integers(0, 2 * recipe.shift + 1, size=(2, len(chosen), 1))
            moved = moved_images(codes, recipe.shift, torch.from_numpy(starts), mirrored[chosen])
            losses.append(self._step(moved.float() / data.full_scale, labels))
        self.done += 1
        return float(np.mean(losses))

    def _step(self, pixels: Tensor, labels: Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.logits(pixels, training=True)
        loss = functional.cross_entropy(
            logits.float(), labels, label_smoothing=self.recipe.label_smoothing
        )
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return loss.item()

    def logits(self, pixels: Tensor, *, training: bool) -> Tensor:
        """Logits (n, classes); in training with the batch's own statistics, which are kept."""

        def product(layer: Layer, inputs: Tensor) -> Tensor:
            name = layer.name
            if not _normed(layer):
                return functional.linear(inputs.flatten(1), self._weights[name], self._shifts[name])
            outputs = functional.conv2d(
                inputs, self._weights[name], stride=layer.stride, padding=layer.padding
            )
            return functional.batch_norm(
                outputs,
                self._means[name],
                self._variances[name],
                self._gains[name],
                self._shifts[name],
                training,
                eps=EPSILON,
            )

        return last_of(walk(self.layers, pixels, product))

    def folded(self) -> tuple[Matrices, Matrices]:
        """Matrices (rows, outputs) and biases (outputs,) of the network without its norms."""
        weights, biases = {}, {}
        for layer in self.layers:
            name = layer.name
            matrix = self._weights[name].detach().reshape(layer.outputs, layer.rows).T
            bias = self._shifts[name].detach()
            if _normed(layer):
                factor = self._gains[name].detach() / (self._variances[name] + EPSILON).sqrt()
                matrix, bias = matrix * factor, bias - self._means[name] * factor
            weights[name], biases[name] = matrix.contiguous(), bias.clone()
        return weights, biases

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, for torch.save."""
        return {
            "of": self._identity(),
            "done": self.done,
            "tensors": [tensor.detach() for tensor in self._tensors()],
            "optimiser": self._optimiser.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`. Raises ValueError for one of other layers, recipe or seed."""
        if state.get("of") != self._identity():
            raise ValueError(
                "the checkpoint belongs to other layers, another recipe or another seed; name "
                "another file, or delete this one to train from scratch"
            )
        with torch.no_grad():
            for own, kept in zip(self._tensors(), state["tensors"], strict=True):
                own.copy_(kept)
        self._optimiser.load_state_dict(state["optimiser"])
        self.done = int(state["done"])

    def _identity(self) -> str:
        told = repr((self.layers, self.recipe, self.seed))
        return hashlib.sha256(told.encode()).hexdigest()

    def _tensors(self) -> list[Tensor]:
        kinds = (self._weights, self._gains, self._shifts, self._means, self._variances)
        return [tensor for kind in kinds for tensor in kind.values()]


def _normed(layer: Layer) -> bool:
    return layer.kind == "convolution"


def _initial(layer: Layer, generator: torch.Generator) -> Tensor:
    """Kernels or (outputs, inputs) of variance 2 / rows (K. He et al., ICCV 2015)."""
    matrix = torch.randn(layer.outputs, layer.rows, generator=generator) * math.sqrt(2 / layer.rows)
    if not _normed(layer):
        return matrix
    kernel = matrix.reshape(layer.outputs, layer.inputs, layer.kernel, layer.kernel)
    return kernel.contiguous(memory_format=torch.channels_last)


def _mirrored(count: int, seed: int, epoch: int) -> Tensor:
    """Which of `count` images are mirrored: half of them in even epochs, the others in odd ones."""
    even = np.random.default_rng(seed).random(count) < 0.5
    return torch.from_numpy(even ^ bool(epoch % 2))
