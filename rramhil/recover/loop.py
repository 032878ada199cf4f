"""The loop: Adam on the digital parameters of any places, under any loss, array frozen.

    array = from_readback(network, mapped.weights_from(readings))
    recovery = random_sparse_adaptation(RsaSettings(), array)
    for epoch in adapt(recovery, network, array, images, validation):
        ...                       # the only place to stop; epoch.checkpoint resumes from here
    repaired = best(recovery, array, epoch.checkpoint)

The epoch that counts is the one with the best validation accuracy (between equals, the lowest
validation cross-entropy); epoch 0, before any training, takes part. D. P. Kingma, J. Ba,
"Adam", ICLR 2015; cosine: I. Loshchilov, F. Hutter, "SGDR", ICLR 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rramhil.nn.augment import moved_images
from rramhil.nn.layers import Product, by_weights
from rramhil.nn.network import Images, Network, check_images, logits_by, logits_of
from rramhil.nn.repeatable import repeatable
from rramhil.recover.losses import Answers, Loss, answers
from rramhil.recover.places import Computed, Parameters, Place, corrected

Checkpoint = dict[str, NDArray[np.float64] | NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Schedule:
    """`learning_rate` is where the cosine starts. Images of a batch are drawn from the seed.

    `shift`, `mirror`: in each epoch images are moved by up to so many pixels, and half of them
    mirrored; the teacher answers what it is shown, so that no label has to survive it (L. Beyer
    et al., "Knowledge distillation: a good teacher is patient and consistent", CVPR 2022).
    """

    epochs: int
    learning_rate: float
    batch: int
    seed: int
    shift: int = 0
    mirror: bool = False

    def moved(self, pixels: Tensor, random: np.random.Generator) -> Tensor:
        """`pixels` (n, channels, height, width) as an epoch shows them; drawn from `random`."""
        if not self.moves:
            return pixels
        starts = torch.from_numpy(random.integers(2 * self.shift + 1, size=(2, len(pixels), 1)))
        mirrored = random.random(len(pixels)) < (0.5 if self.mirror else 0.0)
        return moved_images(pixels, self.shift, starts, torch.from_numpy(mirrored))

    @property
    def moves(self) -> bool:
        """Whether an epoch shows other images than there are."""
        return self.mirror or self.shift > 0

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ValueError(f"images are moved by 0 pixels or more, not by {self.shift}")
        if self.epochs < 1 or self.batch < 1 or not self.learning_rate > 0:
            raise ValueError(
                f"a schedule needs at least one epoch (it has {self.epochs}), a batch of at least "
                f"one image ({self.batch}) and a learning rate above 0 ({self.learning_rate:g})"
            )


Forward = Callable[[Computed], Product]
"""How the corrected network is computed: the product of each layer, differentiable."""


def by_readback(computed: Computed) -> Product:
    """Products by the host, from what was read and corrected."""
    return by_weights(computed.weights, computed.biases)


@dataclass(frozen=True, slots=True)
class Recovery:
    """The three slots filled (the mask sits in its place), the schedule, the forward pass."""

    places: tuple[Place, ...]
    loss: Loss
    schedule: Schedule
    forward: Forward = by_readback


@dataclass(frozen=True, eq=False, slots=True)
class Epoch:
    """What happened: mean training loss (NaN for epoch 0, before any), validation accuracy.

    `best`: the epoch whose parameters count so far. `checkpoint`: named arrays to resume from.
    """

    number: int
    loss: float
    validation_accuracy: float
    best: int
    best_accuracy: float
    checkpoint: Checkpoint


def adapt(
    recovery: Recovery,
    network: Network,
    array: Computed,
    images: Images,
    validation: Images,
    checkpoint: Checkpoint | None = None,
    start: Parameters | None = None,
) -> Iterator[Epoch]:
    """Train the digital parameters; yields epoch 0 (untrained) and then each epoch.

    They begin without effect, or at `start` (from a closed form).

    `network` is the teacher, `array` what the cells hold (weights from readback, digital
    biases); neither is changed. With the `checkpoint` of an epoch the loop goes on behind it
    and gives bit for bit what it would have given; it computes on one thread for that.
    Raises ValueError when images or checkpoint do not fit.
    """
    if not len(images) or not len(validation):
        raise ValueError(
            f"a recovery needs images to learn from ({len(images)}) and images to validate with "
            f"({len(validation)}); give at least one of each"
        )
    if network.is_integer:
        raise ValueError(
            f"{network.card.name} is an integer network, and no gradient passes its codes; repair "
            "it in closed form"
        )
    check_images(network, images)
    state = _State(recovery, array, start)
    with repeatable():
        anew = recovery.loss.asks_outputs or recovery.schedule.moves
        taught = None if anew else logits_of(network, images)
        if checkpoint is not None:
            state.restore(checkpoint)
        else:
            state.judge(0, network, array, validation)
    if checkpoint is None:
        yield state.epoch(math.nan)
    for number in range(state.done + 1, recovery.schedule.epochs + 1):
        with repeatable():
            loss = state.train(number, network, array, images, taught)
            state.judge(number, network, array, validation)
        yield state.epoch(loss)


def best(recovery: Recovery, array: Computed, checkpoint: Checkpoint) -> Computed:
    """The network corrected by the best parameters of a checkpoint."""
    parameters = best_parameters(recovery, array, checkpoint)
    with torch.no_grad():
        return corrected(recovery.places, parameters, array)


def latest(recovery: Recovery, array: Computed, checkpoint: Checkpoint) -> Parameters:
    """The parameters of a checkpoint as they are now, best or not."""
    return _unpacked(_start(recovery, array), checkpoint, "now")


def best_parameters(recovery: Recovery, array: Computed, checkpoint: Checkpoint) -> Parameters:
    """The best parameters of a checkpoint. Raises ValueError when it is of another recovery."""
    return _unpacked(_start(recovery, array), checkpoint, "best")


def best_epoch(checkpoint: Checkpoint) -> int:
    """The number of the epoch that the best parameters of a checkpoint are of."""
    return int(checkpoint["numbers"][1])


class _State:
    """Parameters, the optimiser's moments, and the best parameters seen."""

    def __init__(self, recovery: Recovery, array: Computed, start: Parameters | None) -> None:
        self.recovery = recovery
        self.parameters = _start(recovery, array)
        if start is not None:
            for name, tensor in _named(self.parameters):
                place, layer = name.split("/", 1)
                tensor.data.copy_(start[place][layer])
        self.best = _copied(self.parameters)
        self.best_epoch, self.best_accuracy, self.best_loss = -1, -1.0, math.inf
        self.done, self.accuracy = -1, math.nan
        self.optimiser = torch.optim.Adam([tensor for _, tensor in _named(self.parameters)])

    def train(
        self,
        number: int,
        network: Network,
        array: Computed,
        images: Images,
        taught: Tensor | None,
    ) -> float:
        """One epoch over the images in an order of its own; the mean loss.

        `taught`: the teacher's logits (n, classes), where nothing else is asked of it.
        """
        recovery, schedule = self.recovery, self.recovery.schedule
        layers, asks = network.card.layers, self.recovery.loss.asks_outputs
        exact = by_weights(network.weights, network.biases)
        random = np.random.default_rng([schedule.seed, number])
        for place in recovery.places:
            place.begin(number)
        order = torch.from_numpy(random.permutation(len(images)))
        batches = math.ceil(len(images) / schedule.batch)
        losses = []
        for index in range(batches):
            progress = (number - 1 + index / batches) / schedule.epochs
            for group in self.optimiser.param_groups:
                group["lr"] = schedule.learning_rate * (1 + math.cos(math.pi * progress)) / 2
            chosen = order[index * schedule.batch : (index + 1) * schedule.batch]
            now = corrected(recovery.places, self.parameters, array)
            pixels = schedule.moved(images.pixels[chosen], random)
            with torch.no_grad():
                teacher = (
                    answers(layers, pixels, exact, asks)
                    if taught is None
                    else Answers(taught[chosen])
                )
            given = answers(layers, pixels, recovery.forward(now), asks)
            loss = recovery.loss(given, images.labels[chosen], teacher)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            losses.append(loss.item())
        return float(np.mean(losses))

    def judge(self, number: int, network: Network, array: Computed, validation: Images) -> None:
        """Validate, and keep the parameters when they are the best so far."""
        for place in self.recovery.places:
            place.begin(0)
        with torch.no_grad():
            now = corrected(self.recovery.places, self.parameters, array)
        product = self.recovery.forward(now)
        logits = logits_by(network, validation, product, self.recovery.schedule.batch)
        hits = logits.argmax(1) == validation.labels
        accuracy = float(hits.sum()) / len(validation)
        loss = functional.cross_entropy(logits, validation.labels).item()
        self.done, self.accuracy = number, accuracy
        if (accuracy, -loss) > (self.best_accuracy, -self.best_loss):
            self.best = _copied(self.parameters)
            self.best_epoch, self.best_accuracy, self.best_loss = number, accuracy, loss

    def epoch(self, loss: float) -> Epoch:
        best_so_far = (self.best_epoch, self.best_accuracy)
        return Epoch(self.done, loss, self.accuracy, *best_so_far, self._checkpoint())

    def _checkpoint(self) -> Checkpoint:
        numbers = [self.done, self.best_epoch, self.best_accuracy, self.best_loss]
        arrays: Checkpoint = {"numbers": np.array(numbers, dtype=np.float64)}
        for name, tensor in _named(self.parameters):
            arrays[f"now/{name}"] = tensor.detach().numpy().copy()
            for key, value in self.optimiser.state[tensor].items():
                arrays[f"{key}/{name}"] = value.numpy().copy()
        for name, tensor in _named(self.best):
            arrays[f"best/{name}"] = tensor.numpy().copy()
        return arrays

    def restore(self, checkpoint: Checkpoint) -> None:
        done, best_epoch, self.best_accuracy, self.best_loss = checkpoint["numbers"].tolist()
        self.done, self.best_epoch = int(done), int(best_epoch)
        self.best = _unpacked(self.best, checkpoint, "best")
        stored = dict(_named(_unpacked(self.parameters, checkpoint, "now")))
        for name, tensor in _named(self.parameters):
            with torch.no_grad():
                tensor.copy_(stored[name])
            moments = {
                key: torch.from_numpy(np.array(checkpoint[f"{key}/{name}"]))
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}/{name}" in checkpoint
            }
            if moments:
                self.optimiser.state[tensor] = moments


def _start(recovery: Recovery, array: Computed) -> Parameters:
    return {
        place.name: {n: t.requires_grad_() for n, t in place.start(array).items()}
        for place in recovery.places
    }


def _named(parameters: Mapping[str, Mapping[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    for place, tensors in parameters.items():
        for layer, tensor in tensors.items():
            yield f"{place}/{layer}", tensor


def _copied(parameters: Parameters) -> Parameters:
    return {
        place: {layer: tensor.detach().clone() for layer, tensor in tensors.items()}
        for place, tensors in parameters.items()
    }


def _unpacked(like: Parameters, checkpoint: Checkpoint, part: str) -> Parameters:
    """Parameters shaped `like` from the arrays `part`/place/layer of a checkpoint."""
    unpacked: Parameters = {}
    for place, tensors in like.items():
        unpacked[place] = {}
        for layer, tensor in tensors.items():
            stored = checkpoint.get(f"{part}/{place}/{layer}")
            if stored is None or stored.shape != tuple(tensor.shape):
                raise ValueError(
                    f"the checkpoint is of another recovery: {place} of layer {layer} should have "
                    f"shape {tuple(tensor.shape)}; start this one anew"
                )
            unpacked[place][layer] = torch.from_numpy(np.array(stored, dtype=np.float32))
    return unpacked
