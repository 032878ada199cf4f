"""Training before deployment: a network that stands the levels and errors of the device.

Variation-aware training: in each step the weights are written, in the model, with a fresh draw
of the device's measured errors and of stuck cells, and the gradient goes straight through
(Y. Long, X. She, S. Mukhopadhyay, DATE 2019; G. Charan et al., IEEE JxCDC 2020, doi
10.1109/JXCDC.2020.2987605, who distil it from a teacher at temperature 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rramhil.nn.layers import forward
from rramhil.nn.network import Images, Matrices, Network, check_images, logits_of
from rramhil.nn.repeatable import repeatable
from rramhil.nn.written import WriteErrors, WrittenNetwork

Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Loss of (logits, labels, logits of the teacher), a scalar."""


@dataclass(frozen=True, slots=True)
class Hardening:
    """How to train. `stuck_lrs`, `stuck_hrs`: shares of cells drawn stuck in each step, at
    `lrs_siemens` and `hrs_siemens`. The spread of the errors grows from 0 to its full size over
    the first `growing` share of all steps: thrown in at once, large errors teach nothing. The
    learning rate falls along a cosine (AdamW); gradients are cut at `longest_gradient`.
    `within`: weights stay within the scale of their mapping, beyond which a cell cannot go
    (M. Courbariaux, Y. Bengio, J.-P. David, arXiv:1511.00363), so that a mapping of the result
    has the same scale.
    """

    epochs: int = 3
    learning_rate: float = 1.5e-3
    batch: int = 128
    weight_decay: float = 1e-4
    growing: float = 0.5
    longest_gradient: float = 1.0
    within: bool = False
    stuck_lrs: float = 0.0
    stuck_hrs: float = 0.0
    lrs_siemens: float = 40e-6
    hrs_siemens: float = 1e-6
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or not self.learning_rate > 0:
            raise ValueError(
                f"hardening needs at least one epoch (it has {self.epochs}), a batch of at least "
                f"one image ({self.batch}) and a learning rate above 0 ({self.learning_rate:g})"
            )
        if min(self.stuck_lrs, self.stuck_hrs) < 0 or self.stuck_lrs + self.stuck_hrs > 1:
            raise ValueError(
                f"stuck_lrs {self.stuck_lrs:g} and stuck_hrs {self.stuck_hrs:g} are no shares of "
                "all cells; give 0 or more, together at most 1"
            )


@dataclass(frozen=True, eq=False, slots=True)
class Hardened:
    """After an epoch: mean training loss, and the network so far."""

    epoch: int
    loss: float
    network: Network


def labels_alone(logits: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy; the teacher is not looked at."""
    return functional.cross_entropy(logits, labels)


def harden(
    network: Network,
    written: WrittenNetwork,
    images: Images,
    hardening: Hardening,
    criterion: Criterion = labels_alone,
    teacher: Network | None = None,
) -> Iterator[Hardened]:
    """Train `network` on against fresh errors of `written` in each step; yields each epoch.

    `teacher`: whose logits the criterion gets (default: `network` as it is now); another
    architecture is allowed, so a student can be smaller. Raises ValueError without images or
    with images of another shape.
    """
    check_images(network, images)
    if not len(images):
        raise ValueError("training needs images; give at least one")
    with repeatable():
        taught = logits_of(network if teacher is None else teacher, images)
    weights = {name: w.clone().requires_grad_() for name, w in network.weights.items()}
    biases = {name: b.clone().requires_grad_() for name, b in network.biases.items()}
    parameters = [*weights.values(), *biases.values()]
    scales = _scales(written)
    if hardening.within:
        _keep_within(weights, scales)
    optimiser = torch.optim.AdamW(parameters, weight_decay=hardening.weight_decay)
    random = np.random.default_rng(hardening.seed)
    batches = math.ceil(len(images) / hardening.batch)
    growing = max(hardening.growing, 1e-9)
    for epoch in range(1, hardening.epochs + 1):
        losses = []
        with repeatable():
            order = torch.from_numpy(random.permutation(len(images)))
            for index in range(batches):
                progress = (epoch - 1 + index / batches) / hardening.epochs
                for group in optimiser.param_groups:
                    group["lr"] = hardening.learning_rate * (1 + math.cos(math.pi * progress)) / 2
                chosen = order[index * hardening.batch : (index + 1) * hardening.batch]
                grown = min((epoch - 1 + index / batches) / (growing * hardening.epochs), 1.0)
                faulty = with_faults(with_errors(written, grown), hardening, random)
                held = faulty.drawn(weights, random)
                logits = forward(network.card.layers, images.pixels[chosen], held, biases)
                loss = criterion(logits, images.labels[chosen], taught[chosen])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(parameters, hardening.longest_gradient)
                optimiser.step()
                if hardening.within:
                    _keep_within(weights, scales)
                losses.append(loss.item())
        yield Hardened(epoch, float(np.mean(losses)), _network(network, weights, biases))


def with_errors(written: WrittenNetwork, share: float) -> WrittenNetwork:
    """`written` with that share of its errors, offsets and spreads alike."""
    errors = written.errors
    middle = errors.aimed + share * (errors.middle - errors.aimed)
    return replace(written, errors=WriteErrors(errors.aimed, middle, share * errors.spread))


def with_faults(
    written: WrittenNetwork, hardening: Hardening, random: np.random.Generator
) -> WrittenNetwork:
    """`written` with stuck cells drawn anew; nobody knows them, so none is made up for."""
    if hardening.stuck_lrs == hardening.stuck_hrs == 0:
        return written
    luck = random.random(written.stuck.size)
    stuck = np.full(luck.size, np.nan)
    stuck[luck < hardening.stuck_lrs] = hardening.lrs_siemens
    stuck[luck > 1 - hardening.stuck_hrs] = hardening.hrs_siemens
    return replace(written, stuck=stuck, known=False)


def _scales(written: WrittenNetwork) -> Matrices:
    layers = written.mapped.layers
    return {own.name: torch.as_tensor(np.asarray(own.scale, np.float32)) for own in layers}


def _keep_within(weights: Matrices, scales: Matrices) -> None:
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(torch.clamp(weight, -scales[name], scales[name]))


def _network(network: Network, weights: Matrices, biases: Matrices) -> Network:
    copies = [{n: t.detach().clone() for n, t in part.items()} for part in (weights, biases)]
    return Network(network.card, copies[0], copies[1])
