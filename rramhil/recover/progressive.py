"""Progressive fine-tuning with the chip in the loop: a layer at a time, the rest trained around it.

    for step in progressive(network, chip, images, validation, ProgressiveSettings()):
        ...                     # a safe point; step.checkpoint resumes from here

The first layer lies in the array. Its outputs are measured, and the layers behind it, still in
software, are trained on what it really gives; then the second one is written and measured, and so
on (W. Wan et al., Nature 608, 504, 2022, "chip-in-the-loop progressive model fine-tuning").
Errors of any kind are learnt around, because they are in what was measured, and nothing needs to
be written exactly. As there, each layer's columns get a digital gain and offset once it is written,
and weights that are not written yet carry noise while they are trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rramhil.nn.layers import Layer, Product, by_weights, for_columns, last_of, product_of, walk
from rramhil.nn.network import Images, Matrices, Network, check_images
from rramhil.nn.repeatable import repeatable
from rramhil.recover.closed_form import Ridge, fit_affine
from rramhil.recover.loop import Checkpoint
from rramhil.recover.losses import Answers, Loss, distillation
from rramhil.schema import Strict


class ProgressiveSettings(Strict):
    """`epochs` of training behind each layer; the best one by validation counts, or none.

    `weight_noise`: of weights that are not written yet, as a share of their layer's largest.
    `affine`: a digital gain and offset for each column, fitted when its layer was measured.
    """

    epochs: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    batch: int = Field(default=50, ge=1)
    label_share: float = Field(default=0.3, ge=0, le=1)
    temperature: float = Field(default=4.0, gt=0)
    weight_noise: float = Field(default=0.1, ge=0, le=1)
    affine: bool = True
    seed: int = Field(default=0, ge=0)

    def loss(self) -> Loss:
        """What the layers behind are trained for."""
        return distillation(self.temperature, self.label_share)


class Chip(Protocol):
    """What holds the layers: it is written a layer at a time and gives their products."""

    def write(self, layer: str, weights: Tensor) -> Iterator[object]:
        """Write `weights` (rows, columns) into the cells of `layer`; yields at safe points."""

    def product(self, layer: Layer, inputs: Tensor) -> Tensor:
        """Products of a layer that was written, without bias (see `rramhil.nn.layers.Product`)."""


Phase = Literal["writing", "measured", "training"]


@dataclass(frozen=True, eq=False, slots=True)
class Progress:
    """What happened to `layer`, number `number` of all (from 0); a safe point.

    "measured": its outputs are known, and the accuracy is that of what is measured so far with
    the rest in software. "training": an epoch of the layers behind it is over, with its mean loss.
    """

    layer: str
    number: int
    phase: Phase
    epoch: int
    loss: float
    validation_accuracy: float
    checkpoint: Checkpoint


@dataclass(frozen=True, eq=False, slots=True)
class Tuned:
    """What the chip was written with (rows, columns) and the digital numbers beside it (columns,).

    The first layer's weights are the network's own. Layers not reached yet have gain 1.
    """

    weights: Matrices
    gains: Matrices
    biases: Matrices

    def around(self, products: Product) -> Product:
        """`products` of the chip (without bias) with gains and biases."""

        def product(layer: Layer, inputs: Tensor) -> Tensor:
            gain, bias = self.gains[layer.name], self.biases[layer.name]
            return products(layer, inputs) * for_columns(layer, gain) + for_columns(layer, bias)

        return product


def progressive(
    network: Network,
    chip: Chip,
    images: Images,
    validation: Images,
    settings: ProgressiveSettings,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Progress]:
    """Measure, train and write, layer after layer; the first one is taken as it lies in `chip`.

    With the `checkpoint` of a step it goes on behind it: a layer that was being written is written
    again, what was measured is not measured again, and training gives what it would have given.
    Raises ValueError when images or checkpoint do not fit.
    """
    if not len(images) or not len(validation):
        raise ValueError(
            f"a recovery needs images to learn from ({len(images)}) and images to validate with "
            f"({len(validation)}); give at least one of each"
        )
    check_images(network, images)
    check_images(network, validation)
    state = _State(network, images, validation, settings)
    if checkpoint is not None:
        state.restore(checkpoint)
    layers = network.card.layers
    for number, layer in enumerate(layers):
        if layer.name not in state.outputs:
            if number:
                for _ in chip.write(layer.name, state.tuned.weights[layer.name]):
                    yield state.progress(number, "writing")
            with repeatable():
                state.measure(layer, chip)
            yield state.progress(number, "measured")
        if number + 1 < len(layers) and state.trained <= number:
            yield from state.train(number)


def tuned(network: Network, checkpoint: Checkpoint) -> Tuned:
    """The weights, gains and biases of a checkpoint. Raises ValueError for one of another run."""
    return Tuned(
        _stored(network.weights, checkpoint, "weights"),
        _stored(network.biases, checkpoint, "gains"),
        _stored(network.biases, checkpoint, "biases"),
    )


class _State:
    """What is in software, and what was measured of the layers that are written."""

    def __init__(
        self, network: Network, images: Images, validation: Images, settings: ProgressiveSettings
    ) -> None:
        self.network, self.settings = network, settings
        self.images, self.validation = images, validation
        self.pixels = torch.cat([images.pixels, validation.pixels])
        self.tuned = Tuned(
            _copied(network.weights),
            {name: torch.ones_like(bias) for name, bias in network.biases.items()},
            _copied(network.biases),
        )
        self.outputs: Matrices = {}
        self.trained = 0
        learn = torch.arange(len(images))
        exact = by_weights(network.weights, network.biases)
        with torch.no_grad():
            self.taught = last_of(walk(network.card.layers, self.pixels[learn], exact))

    def measure(self, layer: Layer, chip: Chip) -> None:
        """Outputs of `layer` on the array for all images, its columns put right."""
        name, biases = layer.name, self.tuned.biases[layer.name]
        everything = torch.arange(len(self.pixels))

        def product(asked: Layer, inputs: Tensor) -> Tensor:
            if asked.name != name:
                return self._product(everything)(asked, inputs)
            raw, gains = chip.product(layer, inputs), self.tuned.gains[name]
            if self.settings.affine:
                wanted = product_of(layer, inputs, self.tuned.weights[name], biases)
                ridge = Ridge(seed=self.settings.seed)
                n = len(self.images)  # validation images are corrected, never fitted to
                gains, found = fit_affine(layer, inputs[:n], raw[:n], wanted[:n], biases, ridge)
                self.tuned.gains[name], self.tuned.biases[name] = gains, found
            biased = for_columns(layer, self.tuned.biases[name])
            self.outputs[name] = raw * for_columns(layer, gains) + biased
            return self.outputs[name]

        with torch.no_grad():
            for step in walk(self.network.card.layers, self.pixels, product):
                if step.layer.name == name:
                    return

    def train(self, number: int) -> Iterator[Progress]:
        """Train what lies behind layer `number`; the best epoch by validation is kept."""
        settings, loss = self.settings, self.settings.loss()
        behind = [layer.name for layer in self.network.card.layers[number + 1 :]]
        now = Tuned(_copied(self.tuned.weights), self.tuned.gains, _copied(self.tuned.biases))
        moving = [part[name] for name in behind for part in (now.weights, now.biases)]
        optimiser = torch.optim.Adam([tensor.requires_grad_() for tensor in moving])
        best, best_accuracy = self.tuned, self._accuracy(self.tuned)
        for epoch in range(1, settings.epochs + 1):
            with repeatable():
                mean = self._epoch(number, epoch, now, optimiser, loss)
                accuracy = self._accuracy(now)
            if accuracy > best_accuracy:
                copies = (_copied(now.weights), now.gains, _copied(now.biases))
                best, best_accuracy = Tuned(*copies), accuracy
            if epoch == settings.epochs:
                self.tuned, self.trained = best, number + 1
            yield self.progress(number, "training", epoch, mean, accuracy)

    def _epoch(
        self, number: int, epoch: int, now: Tuned, optimiser: torch.optim.Adam, loss: Loss
    ) -> float:
        settings, layers = self.settings, self.network.card.layers
        random = np.random.default_rng([settings.seed, number, epoch])
        noise = torch.Generator().manual_seed(int(random.integers(2**62)))
        order = torch.from_numpy(random.permutation(len(self.images)))
        batches = math.ceil(len(self.images) / settings.batch)
        losses = []
        for index in range(batches):
            progress = (epoch - 1 + index / batches) / settings.epochs
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * progress)) / 2
            chosen = order[index * settings.batch : (index + 1) * settings.batch]
            noisy = {name: self._noisy(weight, noise) for name, weight in now.weights.items()}
            product = self._product(chosen, noisy, now.biases)
            given = Answers(last_of(walk(layers, self.pixels[chosen], product)))
            value = loss(given, self.images.labels[chosen], Answers(self.taught[chosen]))
            optimiser.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(value.item())
        return float(np.mean(losses))

    def _noisy(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        if not weight.requires_grad or not self.settings.weight_noise:
            return weight
        drawn = torch.randn(weight.shape, generator=generator)
        return weight + self.settings.weight_noise * weight.detach().abs().max() * drawn

    def _product(
        self,
        chosen: Tensor,
        weights: Mapping[str, Tensor] | None = None,
        biases: Mapping[str, Tensor] | None = None,
    ) -> Product:
        """Layers as measured for the images `chosen`, the others in software."""
        software = by_weights(weights or self.tuned.weights, biases or self.tuned.biases)

        def product(layer: Layer, inputs: Tensor) -> Tensor:
            if layer.name in self.outputs:
                return self.outputs[layer.name][chosen]
            return software(layer, inputs)

        return product

    def _accuracy(self, now: Tuned) -> float:
        """Share of validation images that are right, the layers in software without noise."""
        chosen = torch.arange(len(self.images), len(self.pixels))
        product = self._product(chosen, now.weights, now.biases)
        with torch.no_grad():
            logits = last_of(walk(self.network.card.layers, self.pixels[chosen], product))
        return float((logits.argmax(1) == self.validation.labels).sum()) / len(self.validation)

    def progress(
        self,
        number: int,
        phase: Phase,
        epoch: int = 0,
        loss: float = math.nan,
        accuracy: float | None = None,
    ) -> Progress:
        layer = self.network.card.layers[number].name
        share = self._accuracy(self.tuned) if accuracy is None else accuracy
        return Progress(layer, number, phase, epoch, loss, share, self._checkpoint())

    def _checkpoint(self) -> Checkpoint:
        parts = {
            "weights": self.tuned.weights,
            "gains": self.tuned.gains,
            "biases": self.tuned.biases,
        }
        arrays: Checkpoint = {"trained": np.array([self.trained], dtype=np.float64)}
        # Outputs are large, and nothing changes them once they are measured.
        arrays |= {f"outputs/{name}": tensor.numpy() for name, tensor in self.outputs.items()}
        for part, tensors in parts.items():
            for name, tensor in tensors.items():
                arrays[f"{part}/{name}"] = tensor.detach().numpy().copy()
        return arrays

    def restore(self, checkpoint: Checkpoint) -> None:
        self.tuned = tuned(self.network, checkpoint)
        self.trained = int(checkpoint["trained"][0])
        for layer in self.network.card.layers:
            stored = checkpoint.get(f"outputs/{layer.name}")
            if stored is None:
                break
            if len(stored) != len(self.pixels):
                raise ValueError(
                    f"the checkpoint was measured on {len(stored)} images, and these are "
                    f"{len(self.pixels)}; go on with the same ones"
                )
            self.outputs[layer.name] = torch.from_numpy(np.array(stored, dtype=np.float32))


def _copied(tensors: Mapping[str, Tensor]) -> Matrices:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _stored(like: Mapping[str, Tensor], checkpoint: Checkpoint, part: str) -> Matrices:
    """Tensors shaped `like` from the arrays `part`/layer of a checkpoint."""
    found = {}
    for name, tensor in like.items():
        stored = checkpoint.get(f"{part}/{name}")
        if stored is None or stored.shape != tuple(tensor.shape):
            raise ValueError(
                f"the checkpoint is of another network: {part} of layer {name} should have shape "
                f"{tuple(tensor.shape)}; start this recovery anew"
            )
        found[name] = torch.from_numpy(np.array(stored, dtype=np.float32))
    return found
