"""Training of an integer network: the forward pass is integers, gradients go straight through.

Weights are integers of a latent matrix in -1..1 that the optimiser moves (M. Courbariaux,
Y. Bengio, J.-P. David, BinaryConnect, arXiv:1511.00363); the gradient passes the rounding as if it
were not there, and nothing passes beyond the ends of the code (Y. Bengio, N. Léonard, A. Courville,
arXiv:1308.3432; S. Zhou et al., DoReFa-Net, arXiv:1606.06160, for activations of few bits).
Ternary weights: `rramhil.nn.ternary`. What is exported gives the same codes and the same order of
answers (`rramhil.nn.integer`), so the accuracy on validation is that of the file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from torch.nn import functional

from rramhil.device import Ints
from rramhil.mapping import Levels, TwoColumn
from rramhil.mapping.rename import merged_rows
from rramhil.nn.augment import moved_images
from rramhil.nn.data import DataSet, data_names
from rramhil.nn.integer import check_exact, cut, folded, raw_codes
from rramhil.nn.layers import (
    Layer,
    by_weights,
    check_codes,
    coded,
    product_of,
    shapes,
    unrolled,
    walk,
)
from rramhil.nn.network import Card, Images, Matrices, Network, accuracy_of, images_of
from rramhil.nn.shapes import SHAPES
from rramhil.nn.splits import Splits
from rramhil.nn.ternary import THRESHOLD
from rramhil.schema import Strict
from rramhil.words import nearest

Weights = Literal["1", "ternary", "2", "4", "8"]
LARGEST: dict[Weights, int] = {"1": 1, "ternary": 1, "2": 3, "4": 7, "8": 127}
"""1 bit: -1, 1. Ternary: -1, 0, 1. 2 bits: -3, -1, 1, 3. 4 bits: -7..7. 8 bits: -127..127."""

MERGED_ON = 5000
"""Training images, and vectors of a layer, that the merging of rows looks at."""

LEAST_LATENT = 1e-3
"""Of a binary weight that changed its sign by merging: small, but not of either sign by chance."""


class IntegerSettings(Strict):
    """What `rramhil train` reads: the network, its integers, and how it is trained.

    `shift`: images are moved by up to so many pixels, anew in each epoch.
    """

    network: str = Field("lenet5", description="layers by name, see rramhil.nn.shapes")
    layers: tuple[Layer, ...] | None = Field(None, description="layers of your own instead")
    data: str = "mnist"
    weights: Weights = "1"
    activation_bits: int = Field(2, ge=1, le=8)
    input_bits: int | None = Field(None, ge=1, le=8, description="of a pixel; as activation_bits")
    epochs: int = Field(10, ge=1, le=1000)
    learning_rate: float = Field(2e-3, gt=0, le=1)
    batch: int = Field(128, ge=1)
    shift: int = Field(0, ge=0, le=8)
    seed: int = Field(0, ge=0)
    split_seed: int = Field(0, ge=0)
    rename: dict[str, int] = Field(
        default_factory=dict, description="by layer: rows are merged to so many half-way"
    )

    @field_validator("weights", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _fits_together(self) -> IntegerSettings:
        if self.layers is None and self.network not in SHAPES:
            raise ValueError(f"there is no network {self.network!r}{nearest(self.network, SHAPES)}")
        if self.data not in data_names():
            raise ValueError(
                f"there is no data set {self.data!r}{nearest(self.data, data_names())}"
            )
        layers = self.integer_layers()
        for layer in layers:
            check_exact(layer, LARGEST[self.weights])
        rows = {layer.name: layer.rows for layer in layers}
        if self.rename and self.epochs < 2:
            raise ValueError("rows are merged after half of the epochs; rename takes at least 2")
        for name, wanted in self.rename.items():
            if name not in rows:
                raise ValueError(f"rename names {name!r}, which is no layer{nearest(name, rows)}")
            if not 1 <= wanted <= rows[name]:
                raise ValueError(
                    f"rename of {name} to {wanted} rows, but it has {rows[name]}; give 1 to that"
                )
        return self

    def integer_layers(self) -> tuple[Layer, ...]:
        """The layers with their codes. Raises ValueError where they cannot be integer."""
        highest = 2**self.activation_bits - 1
        pixels = 2 ** (self.input_bits or self.activation_bits) - 1
        plain = SHAPES[self.network] if self.layers is None else self.layers
        if not plain or plain[-1].pool > 1:
            raise ValueError("the last layer gives the answers; let it be one without pooling")
        layers = tuple(
            layer.model_copy(
                update={
                    "input_codes": highest if number else pixels,
                    "codes": highest if number < len(plain) - 1 else None,
                    "relu": number < len(plain) - 1,
                    "thresholds": None,
                }
            )
            for number, layer in enumerate(plain)
        )
        if any(layer.input_from is not None for layer in layers):
            raise ValueError("integer training takes layers one after the other; leave input_from")
        check_codes(layers)
        return layers


@dataclass(frozen=True, slots=True)
class Tick:
    """After a batch: `done` of `steps`; `loss` is the mean of the epoch so far.

    `validation`: share of the validation images that are right, at the end of an epoch only.
    """

    done: int
    steps: int
    epoch: int
    loss: float
    validation: float | None


class IntegerTraining:
    """A training that can be stopped after each batch and resumed from its `state`.

    Every epoch and batch draws from generators of its own, so a resumed training repeats the
    whole one, bit for bit.
    """

    def __init__(self, settings: IntegerSettings, card: Card) -> None:
        """`card`: what the network will be (see `card_of`)."""
        self.settings, self.card, self.layers = settings, card, card.layers
        self.done = 0
        self.best = 0.0
        self.best_epoch = 0
        self._loss = 0.0
        self._row_of: dict[str, Tensor] = {}
        generator = torch.Generator().manual_seed(settings.seed)
        self._latent: Matrices = {}
        self._scales: Matrices = {}
        self._biases: Matrices = {}
        for layer in self.layers:
            reach = 0.3 if settings.weights in ("1", "ternary") else 0.9
            random = torch.rand(layer.rows, layer.outputs, generator=generator)
            latent = 2 * reach * random - reach
            count = 1 if layer.codes is None else layer.outputs
            unit = self._first_scale(layer, latent)
            start = 0.0 if layer.codes is None else 0.5
            self._latent[layer.name] = latent.requires_grad_()
            self._scales[layer.name] = torch.full((count,), math.log(unit)).requires_grad_()
            self._biases[layer.name] = torch.full((layer.outputs,), start).requires_grad_()
        self._kept = [tensor.detach().clone() for tensor in self._tensors()]
        self._optimiser = torch.optim.Adam(self._tensors(), lr=settings.learning_rate)

    def run(self, images: Images, validation: Images) -> Iterator[Tick]:
        """Train on from where it is; yields after each batch. Any of them may be the last."""
        settings = self.settings
        batches = math.ceil(len(images) / settings.batch)
        steps = batches * settings.epochs
        order: Ints | None = None
        while self.done < steps:
            epoch, number = divmod(self.done, batches)
            if number == 0 and epoch == settings.epochs // 2 and settings.rename:
                self._merge_rows(images)
            if number == 0 or order is None:
                order = np.random.default_rng([settings.seed, epoch]).permutation(len(images))
            chosen = torch.from_numpy(
                order[number * settings.batch : (number + 1) * settings.batch]
            )
            pixels = self._moved(images.pixels[chosen])
            for group in self._optimiser.param_groups:
                cosine = 0.5 * (1 + math.cos(math.pi * self.done / steps))
                group["lr"] = settings.learning_rate * cosine
            loss = self._step(pixels, images.labels[chosen])
            self._loss = (self._loss if number else 0.0) + loss
            self.done += 1
            ended = number == batches - 1
            share = self._judged(validation, epoch + 1) if ended else None
            yield Tick(self.done, steps, epoch + 1, self._loss / (number + 1), share)

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits (n, classes): the integer answers times one scale; differentiable."""
        values = coded(self.layers[0], pixels)
        for layer in self.layers:
            values = self.handed_on(layer, values)
        return values

    def handed_on(self, layer: Layer, values: Tensor) -> Tensor:
        """Codes (logits of the last layer) for input codes `values`; differentiable."""
        sums = product_of(layer, values, self._straight(layer), None)
        scale, bias = self._scales[layer.name].exp(), self._biases[layer.name]
        if layer.codes is None:
            shift = bias / scale.detach()
            return (sums + _with_value(shift.round(), shift)) * scale
        sums = functional.max_pool2d(sums, layer.pool) if layer.pool > 1 else sums
        raw = raw_codes(layer, sums, scale, bias)
        return _with_value(cut(raw, layer.codes), (raw - 0.5).clamp(0, layer.codes))

    def weights(self) -> Matrices:
        """The integer weights (rows, outputs) of each layer, float32."""
        return {layer.name: self._integers(layer) for layer in self.layers}

    def exported(self) -> Network:
        """The network as it is now, in integers alone, its layers with their thresholds."""
        layers, biases = [], {}
        with torch.no_grad():
            for layer in self.layers:
                name = layer.name
                scale, bias = self._scales[name].exp(), self._biases[name]
                largest = check_exact(layer, LARGEST[self.settings.weights])
                biases[name] = torch.zeros(layer.outputs)
                if layer.codes is None:
                    biases[name] = (bias / scale).round()
                else:
                    edges = folded(layer, scale, bias, largest)
                    layer = layer.model_copy(update={"thresholds": edges})
                layers.append(layer)
            card = self.card.model_copy(update={"layers": tuple(layers)})
            return Network(card, self.weights(), biases)

    def choose_best(self) -> None:
        """Take the numbers of the epoch that was best on validation, the first of equals."""
        with torch.no_grad():
            for own, kept in zip(self._tensors(), self._kept, strict=True):
                own.copy_(kept)

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, for torch.save."""
        return {
            "of": self._identity(),
            "done": self.done,
            "loss": self._loss,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "tensors": [tensor.detach().clone() for tensor in self._tensors()],
            "kept": list(self._kept),
            "optimiser": self._optimiser.state_dict(),
            "rows": dict(self._row_of),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`. Raises ValueError for one of other settings."""
        if state.get("of") != self._identity():
            raise ValueError(
                "the checkpoint belongs to other settings; give the same ones again, or delete it "
                "to train from scratch"
            )
        with torch.no_grad():
            for own, kept in zip(self._tensors(), state["tensors"], strict=True):
                own.copy_(kept)
        self._kept = list(state["kept"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._row_of = dict(state["rows"])
        self.done, self.best_epoch = int(state["done"]), int(state["best_epoch"])
        self._loss, self.best = float(state["loss"]), float(state["best"])

    def _step(self, pixels: Tensor, labels: Tensor) -> float:
        loss = functional.cross_entropy(self.logits(pixels), labels)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        with torch.no_grad():
            for latent in self._latent.values():
                latent.clamp_(-1, 1)
        return loss.item()

    def _merge_rows(self, images: Images) -> None:
        """Rows share from here on: which, is chosen on the network as it is now.

        What is trained from here is the mean of the latent rows that share, so all of them follow
        the other layers and each other; what was best before has too many rows and is forgotten.
        """
        network = self.exported()
        fed: dict[str, Tensor] = {}
        with torch.no_grad():
            pixels = images.pixels[:MERGED_ON]
            for step in walk(
                network.card.layers, pixels, by_weights(network.weights, network.biases)
            ):
                if step.layer.name in self.settings.rename:
                    count = step.outputs.shape[0] * step.outputs[0, 0].numel()
                    some = torch.linspace(0, count - 1, min(count, MERGED_ON)).long()
                    fed[step.layer.name] = unrolled(step.layer, step.inputs, some)
            for name, target in self.settings.rename.items():
                found = merged_rows(network.weights[name].numpy(), fed[name].numpy(), target)
                self._row_of[name] = torch.from_numpy(found.row_of)
                merged = torch.from_numpy(found.weights.astype(np.float32))
                latent = self._latent[name]
                moved = merged / LARGEST[self.settings.weights]
                if self.settings.weights == "1":
                    moved = merged * latent.abs().clamp_min(LEAST_LATENT)
                latent.copy_(torch.where(merged == self._integers_of(latent), latent, moved))
        self.best, self.best_epoch = 0.0, 0

    def _shared(self, name: str) -> Tensor:
        """The latent matrix of a layer, rows that share at their mean."""
        latent, row_of = self._latent[name], self._row_of.get(name)
        if row_of is None:
            return latent
        count = int(row_of.max()) + 1
        sums = torch.zeros(count, latent.shape[1]).index_add(0, row_of, latent)
        sizes = torch.bincount(row_of, minlength=count).unsqueeze(1)
        return (sums / sizes)[row_of]

    def _judged(self, validation: Images, epoch: int) -> float:
        share = accuracy_of(self.exported(), validation)
        if share > self.best or not self.best_epoch:
            self.best, self.best_epoch = share, epoch
            self._kept = [tensor.detach().clone() for tensor in self._tensors()]
        return share

    def _moved(self, pixels: Tensor) -> Tensor:
        shift = self.settings.shift
        if shift == 0:
            return pixels
        random = np.random.default_rng([self.settings.seed, self.done, 1])
        starts = torch.from_numpy(random.integers(0, 2 * shift + 1, size=(2, len(pixels), 1)))
        unturned = torch.zeros(len(pixels), dtype=torch.bool)
        return moved_images(pixels, shift, starts, unturned).contiguous()

    def _straight(self, layer: Layer) -> Tensor:
        latent = self._shared(layer.name)
        return _with_value(self._integers_of(latent), latent * LARGEST[self.settings.weights])

    def _integers(self, layer: Layer) -> Tensor:
        return self._integers_of(self._shared(layer.name))

    def _integers_of(self, latent: Tensor) -> Tensor:
        latent, largest = latent.detach(), LARGEST[self.settings.weights]
        match self.settings.weights:
            case "1":
                return torch.where(latent < 0, -1.0, 1.0)
            case "ternary":
                sizes = latent.abs()
                return latent.sign() * (sizes > THRESHOLD * sizes.mean(0))
            case "2":
                return (2 * (2 * latent).floor() + 1).clamp(-largest, largest)
            case _:
                return (largest * latent).round()

    def _first_scale(self, layer: Layer, latent: Tensor) -> float:
        """So that the first codes spread over their range: inputs of mean square 2 of 3**2."""
        self._latent[layer.name] = latent
        size = float(self._integers(layer).square().mean().sqrt())
        taken, given = (layer.input_codes or 3) / 3, (layer.codes or 3) / 3
        return 1.2 * given / (math.sqrt(2 * layer.rows) * size * taken)

    def _identity(self) -> str:
        told = self.settings.model_dump_json()
        return hashlib.sha256(told.encode()).hexdigest()

    def _tensors(self) -> list[Tensor]:
        kinds = (self._latent, self._scales, self._biases)
        return [tensor for kind in kinds for tensor in kind.values()]


def card_of(settings: IntegerSettings, data: DataSet, name: str) -> Card:
    """The card of a network of these settings, with nothing measured yet.

    Raises ValueError, in one sentence, when the layers do not take the images of `data`.
    """
    channels, height, width = data.images.shape[1:]
    layers = settings.integer_layers()
    last = shapes(layers, (channels, height, width))[layers[-1].name]
    classes = int(data.labels.max()) + 1
    if last != (classes,):
        raise ValueError(f"{data.name} has {classes} classes, but the last layer gives {last}")
    told = settings.model_dump(exclude={"layers", "network", "data", "seed", "split_seed"})
    return Card(
        name=name,
        data=settings.data,
        image_shape=(channels, height, width),
        layers=layers,
        script="rramhil train",
        recipe=", ".join(f"{key} {value}" for key, value in told.items() if value is not None),
        seed=settings.seed,
        split_seed=settings.split_seed,
        accuracy={},
        full_scale=data.full_scale,
    )


def measured(network: Network, data: DataSet, splits: Splits) -> dict[str, float]:
    """Shares of validation and test images that are right: read the test images once.

    `teacher` is the network as it is; `ideal_mapping` that of its weights on the fewest levels of
    two columns that hold them, which is the same unless the mapping is wrong.
    """
    largest = max(int(weight.abs().max()) for weight in network.weights.values())
    levels = Levels(largest + 1, lowest=1e-6, highest=40e-6, tolerance=1e-9)
    columns = TwoColumn()
    ideal = {}
    for name, weight in network.matrices().items():
        held = columns.decode(columns.encode(weight / largest, levels), levels)
        ideal[name] = torch.from_numpy(np.asarray(largest * held, dtype=np.float32))
    accuracy = {}
    for name, indices in (("validation", splits.validation), ("test", splits.test)):
        images = images_of(data, indices)
        accuracy[f"teacher_{name}"] = round(accuracy_of(network, images), 6)
        accuracy[f"ideal_mapping_{name}"] = round(accuracy_of(network, images, ideal), 6)
    return accuracy


def _with_value(value: Tensor, smooth: Tensor) -> Tensor:
    """`value` exactly, with the gradient of `smooth`."""
    return value + (smooth - smooth.detach())
