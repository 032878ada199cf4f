"""Pruning: the small weights of a trained network made zero, and the others trained on.

Two ways, both unstructured, the same share of every layer; a first or last layer that is small is
sensitive out of all proportion, and loses half as much:

- `magnitude`: the share grows over the first epochs (M. Zhu, S. Gupta, arXiv:1710.01878), masks
  are drawn anew as it grows, and the rest of the epochs train what is left.
- `admm`: the alternating direction method of multipliers pulls the weights towards their nearest
  sparse neighbour, which moves with a dual variable, before they are cut (T. Zhang et al., ECCV
  2018, arXiv:1804.03294; the way of G. Yuan et al., ISQED 2021, arXiv:2106.09166).

`search` looks for the largest share whose loss on validation images stays within a budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rramhil.nn.augment import moved_images
from rramhil.nn.layers import forward
from rramhil.nn.network import Images, Matrices, Network, accuracy_of, check_images
from rramhil.nn.repeatable import repeatable
from rramhil.nn.train import warm_cosine
from rramhil.words import nearest

Method = Literal["magnitude", "admm"]
METHODS: tuple[Method, ...] = ("magnitude", "admm")
Watch = Callable[[int, int], None]
"""(steps done, steps in all)"""
SPARED, SMALL = 0.5, 0.05
"""What a first or last layer loses of what others lose, if it has less than this of all weights."""
MOST = 0.98


@dataclass(frozen=True, slots=True)
class Pruning:
    """How to prune. `ratio`: the share of all weights that become zero.

    `growing`: share of the epochs before the masks stand (the duals of `admm` move in them).
    `relative`: |w| counts against the root mean square of its column, for networks whose folded
    norms left columns of very different size. `rho`: strength of the pull of `admm`.
    `learning_rate` falls along a cosine (AdamW). `shift` and `mirror` as in `train.Recipe`;
    `bfloat16`: products in that format, sums and weights in float32.
    """

    ratio: float
    method: Method = "magnitude"
    epochs: int = 6
    learning_rate: float = 1e-3
    batch: int = 128
    weight_decay: float = 1e-4
    growing: float = 0.5
    relative: bool = False
    rho: float = 3e-3
    shift: int = 0
    mirror: bool = False
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= MOST:
            raise ValueError(
                f"a pruning ratio of {self.ratio:g} is outside 0 to {MOST:g}; it is the share of "
                "the weights that become zero, for example 0.6"
            )
        if self.method not in METHODS:
            near = nearest(self.method, METHODS)
            raise ValueError(f"there is no way of pruning {self.method!r}{near}")
        if self.epochs < 2 or self.batch < 1 or not self.learning_rate > 0:
            raise ValueError(
                f"pruning needs at least two epochs (it has {self.epochs}: one to cut, one to "
                f"train what is left), a batch of at least one image ({self.batch}) and a "
                f"learning rate above 0 ({self.learning_rate:g})"
            )
        if not 0 < self.growing < 1 or not self.rho > 0:
            raise ValueError(
                f"growing {self.growing:g} must lie between 0 and 1 and rho {self.rho:g} above 0"
            )

    @property
    def growing_epochs(self) -> int:
        """Epochs before the masks stand: at least one, and at least one follows."""
        return min(max(round(self.growing * self.epochs), 1), self.epochs - 1)


SETTINGS: dict[str, Pruning] = {
    "digits": Pruning(0.5, epochs=20, batch=50),
    "mnist": Pruning(0.5, epochs=4),
    "fashion-mnist": Pruning(0.5, epochs=6, shift=1, mirror=True),
    "cifar-10": Pruning(
        0.5,
        epochs=2,
        learning_rate=3e-4,
        weight_decay=5e-4,
        relative=True,
        shift=4,
        mirror=True,
        bfloat16=True,
    ),
}
"""Settings for the networks of each data set; their ratio is an example."""


@dataclass(frozen=True, eq=False, slots=True)
class PrunedEpoch:
    """After an epoch: its number from 1, the share cut so far, mean loss, the network so far."""

    epoch: int
    ratio: float
    loss: float
    network: Network


@dataclass(frozen=True, eq=False, slots=True)
class Trial:
    """A ratio that was tried: accuracy on validation, points lost against dense, and verdict."""

    ratio: float
    accuracy: float
    loss_points: float
    within: bool
    network: Network


def sparsity(network: Network) -> dict[str, float]:
    """Share of weights that are exactly zero, by layer."""
    return {name: float((weight == 0).float().mean()) for name, weight in network.weights.items()}


def whole_sparsity(network: Network) -> float:
    """Share of all weights that are exactly zero."""
    zeros = sum(int((weight == 0).sum()) for weight in network.weights.values())
    return zeros / sum(weight.numel() for weight in network.weights.values())


def layer_ratios(weights: Mapping[str, Tensor], ratio: float) -> dict[str, float]:
    """The share that each layer loses, so that the network loses `ratio` of all its weights.

    A small first or last layer loses `SPARED` times as much as the others. Raises ValueError where
    the others would have to lose more than `MOST`.
    """
    sizes = {name: weight.numel() for name, weight in weights.items()}
    names, count = list(sizes), sum(sizes.values())
    spared = {name for name in (names[0], names[-1]) if sizes[name] < SMALL * count}
    part = {name: SPARED if name in spared else 1.0 for name in names}
    share = ratio * count / sum(part[name] * sizes[name] for name in names)
    if share > MOST:
        raise ValueError(
            f"a pruning ratio of {ratio:g} leaves less than {100 * (1 - MOST):.0f} % of a layer; "
            f"give at most {math.floor(100 * ratio * MOST / share) / 100:g}"
        )
    return {name: share * part[name] for name in names}


def kept(weight: Tensor, ratio: float, relative: bool) -> Tensor:
    """Mask, shape of `weight`: all but the `ratio` smallest (to the nearest whole weight)."""
    sizes = weight.detach().abs()
    if relative:
        sizes = sizes / sizes.square().mean(0).sqrt().clamp_min(1e-12)
    cut = round(ratio * weight.numel())
    mask = torch.ones(weight.numel())
    mask[sizes.flatten().argsort(stable=True)[:cut]] = 0
    return mask.reshape(weight.shape)


def prune(
    network: Network, images: Images, pruning: Pruning, watch: Watch | None = None
) -> Iterator[PrunedEpoch]:
    """Prune `network` and train it on with labelled `images`; yields after each epoch.

    Raises ValueError without images, for images of another shape, for a ratio that the layers
    cannot give, and for a network that already has more zeros.
    """
    check_images(network, images)
    _check_floating(network)
    if not len(images):
        raise ValueError("pruning needs images to train what is left; give at least one")
    if pruning.ratio < whole_sparsity(network):
        raise ValueError(
            f"{network.card.name} has {whole_sparsity(network):.1%} zeros already, more than a "
            f"ratio of {pruning.ratio:g}; give a larger ratio, or the network before it was pruned"
        )
    layer_ratios(network.weights, pruning.ratio)
    work = _Work(network, pruning)
    for epoch in range(1, pruning.epochs + 1):
        with repeatable():
            loss = work.epoch(epoch, images, watch)
        yield PrunedEpoch(epoch, work.cut, loss, work.network())


def _check_floating(network: Network) -> None:
    if network.is_integer:
        raise ValueError(
            f"{network.card.name} is an integer network, and no gradient passes its codes; prune "
            "one in floating point, or train integers that have zeros with --weights ternary"
        )


def search(
    network: Network,
    images: Images,
    validation: Images,
    pruning: Pruning,
    budget_points: float,
    step: float = 0.1,
    finest: float = 0.05,
    last: float = MOST,
    dense_accuracy: float | None = None,
    watch: Watch | None = None,
) -> Iterator[Trial]:
    """Try rising ratios from `pruning.ratio`, each from the network before it; yields each trial.

    Where the loss on `validation` first exceeds `budget_points`, the step is halved and the
    search goes on from the last network within it, down to steps of `finest`: progressive and
    hierarchical, as G. Yuan et al. do; no ratio beyond `last` is tried. The last trial `within`
    is the answer; there may be none.
    `dense_accuracy`: on `validation`, of the network before any pruning (default: `network`'s);
    with it the search goes on from the ratio that `network` has.
    Raises as `prune` does.
    """
    if budget_points < 0 or not 0 < finest <= step < 1:
        raise ValueError(
            f"a search needs a budget of at least 0 points ({budget_points:g}) and steps below 1 "
            f"that shrink ({step:g} to {finest:g})"
        )
    _check_floating(network)
    dense = accuracy_of(network, validation) if dense_accuracy is None else dense_accuracy
    best, ratio = network, pruning.ratio
    reached = 0.0 if dense_accuracy is None else round(whole_sparsity(network), 2)
    while ratio <= last:
        try:
            *_, end = prune(best, images, replace(pruning, ratio=ratio), watch)
        except ValueError:
            if reached == 0.0:
                raise
            return  # the layers cannot give more
        accuracy = accuracy_of(end.network, validation)
        points = 100 * (dense - accuracy)
        within = points <= budget_points + 1e-9
        yield Trial(ratio, accuracy, points, within, end.network)
        if within:
            best, reached = end.network, ratio
        else:
            step /= 2
            if step < finest - 1e-12 or reached == 0.0:
                return
        ratio = round(reached + step, 6)


class _Work:
    """Weights, masks and duals while a network is pruned."""

    def __init__(self, network: Network, pruning: Pruning) -> None:
        self._start, self._pruning = network, pruning
        self._weights = {n: w.clone().requires_grad_() for n, w in network.weights.items()}
        self._biases = {n: b.clone().requires_grad_() for n, b in network.biases.items()}
        self._masks = {n: (w != 0).float() for n, w in network.weights.items()}
        self._duals = {n: torch.zeros_like(w) for n, w in network.weights.items()}
        self._near: Matrices = {}
        self.cut = whole_sparsity(network)
        self._began = self.cut
        parameters = [*self._weights.values(), *self._biases.values()]
        self._optimiser = torch.optim.AdamW(parameters, weight_decay=pruning.weight_decay)
        self._generator = torch.Generator().manual_seed(pruning.seed)

    def epoch(self, number: int, images: Images, watch: Watch | None) -> float:
        """One epoch over all images; mean loss."""
        pruning = self._pruning
        pulling = pruning.method == "admm" and number <= pruning.growing_epochs
        if pulling:
            self._near = self._nearest()
        else:
            self._cut(number)
        order = torch.randperm(len(images), generator=self._generator)
        batches = math.ceil(len(images) / pruning.batch)
        losses = []
        for index in range(batches):
            done = (number - 1) * batches + index
            self._rate(done / (pruning.epochs * batches))
            chosen = order[index * pruning.batch : (index + 1) * pruning.batch]
            pixels = _moved(images.pixels[chosen], pruning, self._generator)
            losses.append(self._step(pixels, images.labels[chosen], pulling))
            if watch is not None:
                watch(done + 1, pruning.epochs * batches)
        if pulling:
            for name, weight in self._weights.items():
                self._duals[name] += weight.detach() - self._near[name]
        return float(np.mean(losses))

    def _rate(self, progress: float) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self._pruning.learning_rate * warm_cosine(progress, 0.0)

    def _step(self, pixels: Tensor, labels: Tensor, pulling: bool) -> float:
        layers = self._start.card.layers
        with torch.autocast("cpu", torch.bfloat16, enabled=self._pruning.bfloat16):
            logits = forward(layers, pixels, self._weights, self._biases)
        loss = functional.cross_entropy(logits.float(), labels)
        pull = torch.zeros(())
        if pulling:
            for name, weight in self._weights.items():
                pull = pull + (weight - self._near[name] + self._duals[name]).square().sum()
        self._optimiser.zero_grad()
        (loss + 0.5 * self._pruning.rho * pull).backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight *= self._masks[name]
        return loss.item()

    def _cut(self, epoch: int) -> None:
        """Masks of this epoch; from the end of the growing on they stand."""
        pruning = self._pruning
        if epoch > pruning.growing_epochs + (pruning.method == "admm"):
            return
        left = max(1 - epoch / pruning.growing_epochs, 0.0) ** 3
        ratio = pruning.ratio - (pruning.ratio - self._began) * left
        shares = layer_ratios(self._weights, ratio)
        with torch.no_grad():
            for name, weight in self._weights.items():
                self._masks[name] = kept(weight, shares[name], pruning.relative)
                weight *= self._masks[name]
        self.cut = ratio

    def _nearest(self) -> Matrices:
        """Of each layer's weights plus duals the nearest matrix that is sparse enough."""
        shares = layer_ratios(self._weights, self._pruning.ratio)
        near = {}
        for name, weight in self._weights.items():
            moved = weight.detach() + self._duals[name]
            near[name] = moved * kept(moved, shares[name], self._pruning.relative)
        return near

    def network(self) -> Network:
        """The network as it is, its card unchanged."""
        weights = {name: weight.detach().clone() for name, weight in self._weights.items()}
        biases = {name: bias.detach().clone() for name, bias in self._biases.items()}
        return Network(self._start.card, weights, biases)


def _moved(pixels: Tensor, pruning: Pruning, generator: torch.Generator) -> Tensor:
    if pruning.shift == 0 and not pruning.mirror:
        return pixels
    starts = torch.randint(2 * pruning.shift + 1, (2, len(pixels), 1), generator=generator)
    turned = torch.rand(len(pixels), generator=generator) < (0.5 if pruning.mirror else 0.0)
    return moved_images(pixels, pruning.shift, starts, turned)
