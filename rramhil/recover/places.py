"""Where a correction lives: digital numbers beside an array that stays as it is.

A place turns the (weights, biases) that the array and the host compute with into corrected
ones, from parameters that it starts at no effect. Places are applied in order; each is exact
in the product: y = gain * (x W) + x D + b is x (W gain + D) + b.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rramhil.nn.network import Matrices, Network
from rramhil.recover.masks import Mask

Parameters = dict[str, Matrices]
"""The trained numbers by the name of their place, then by layer."""


@dataclass(frozen=True, eq=False, slots=True)
class Computed:
    """What the network is computed with: matrices (rows, columns) and biases (columns,).

    `gains` (columns,): factors by which what the array itself gives has been multiplied, for the
    layers that have any. What `weights` has beyond gain times the array's own is digital.
    """

    weights: Matrices
    biases: Matrices
    gains: Mapping[str, Tensor] = field(default_factory=dict)


def from_readback(network: Network, weights: Mapping[str, ArrayLike]) -> Computed:
    """What the array computes: `weights` (rows, columns) from its readings, digital biases.

    Raises ValueError for weights of another shape or that are not finite.
    """
    array = Computed(network.with_weights(weights), network.biases)
    for name, weight in array.weights.items():
        if not bool(torch.isfinite(weight).all()):
            raise ValueError(
                f"weights of layer {name} are NaN or infinite; decide with rramhil.mapping.filled "
                "what unreadable cells are"
            )
    return array


class Place(ABC):
    """Digital numbers and what they do. Parameters are float32 tensors, one a layer."""

    name: str

    def begin(self, epoch: int) -> None:  # noqa: B027 (most places draw nothing)
        """An epoch of training begins, or a validation (0): what draws begins its draws anew."""

    @abstractmethod
    def start(self, array: Computed) -> Matrices:
        """Parameters with which `correct` changes nothing."""

    @abstractmethod
    def correct(self, parameters: Mapping[str, Tensor], computed: Computed) -> Computed:
        """The corrected network; differentiable in the parameters."""

    @property
    def index_bits(self) -> int:
        """Bits that must be stored to know which weights the parameters belong to."""
        return 0


class SparseMemory(Place):
    """A number for each masked weight, added to it: the random sparse memory of RSA.

    A. Mohanty et al., IEDM 2017; additive as in G. Charan et al., IEEE JxCDC 2020
    (10.1109/JXCDC.2020.2987605): the analog cell stays, the two outputs are summed.
    """

    name = "sparse"

    def __init__(self, mask: Mask) -> None:
        self.mask = mask

    def start(self, array: Computed) -> Matrices:
        return {name: torch.zeros(len(index)) for name, index in self.mask.entries.items()}

    def correct(self, parameters: Mapping[str, Tensor], computed: Computed) -> Computed:
        weights = {}
        for name, weight in computed.weights.items():
            index = torch.from_numpy(self.mask.entries[name])
            added = weight.reshape(-1).index_add(0, index, parameters[name])
            weights[name] = added.reshape(weight.shape)
        return replace(computed, weights=weights)

    @property
    def index_bits(self) -> int:
        return self.mask.index_bits


class ReplacingMemory(Place):
    """A number for each masked weight in the place of the analog one, as A. Mohanty et al. have it.

    Nobody switches a single cell off: what the array adds for it is `known` from a reading (its
    weights at the masked entries) and taken away digitally, so that what it has drifted since is
    still in the product. Goes before `ColumnGains`, which then scale the number as well.
    """

    name = "sparse"

    def __init__(self, mask: Mask, read: Computed) -> None:
        self.mask = mask
        self.known = masked(read.weights, mask)

    def start(self, array: Computed) -> Matrices:
        return {name: known.clone() for name, known in self.known.items()}

    def correct(self, parameters: Mapping[str, Tensor], computed: Computed) -> Computed:
        weights = {}
        for name, weight in computed.weights.items():
            index = torch.from_numpy(self.mask.entries[name])
            change = parameters[name] - self.known[name]
            weights[name] = weight.reshape(-1).index_add(0, index, change).reshape(weight.shape)
        return replace(computed, weights=weights)

    @property
    def index_bits(self) -> int:
        return self.mask.index_bits


class LowRank(Place):
    """A (rows, rank) times B (rank, columns) added to each layer's matrix: two thin products.

    E. J. Hu et al., "LoRA", ICLR 2022. With `ColumnGains` behind it the gains are the magnitudes
    of S.-Y. Liu et al., "DoRA", ICML 2024, without their division by the column's length. B
    starts at 0, A is drawn from `seed` with variance 1 / rows; a layer's parameters are one
    tensor (rows + columns, rank), A above B transposed. Raises ValueError for a rank below 1, and
    from `start` where a layer has fewer weights than the two factors would.
    """

    name = "low_rank"

    def __init__(self, rank: int, seed: int) -> None:
        if rank < 1:
            raise ValueError(f"a low-rank correction needs a rank of at least 1, not {rank}")
        self.rank, self.seed = rank, seed

    def start(self, array: Computed) -> Matrices:
        generator = torch.Generator().manual_seed(self.seed)
        factors = {}
        for name, weight in array.weights.items():
            rows, columns = weight.shape
            most = (weight.numel() - 1) // (rows + columns)
            if self.rank > most:
                raise ValueError(
                    f"rank {self.rank} takes as many numbers as layer {name} has weights, "
                    f"{rows} x {columns}; give a rank of at most {most}, or a sparse memory"
                )
            drawn = torch.randn(rows, self.rank, generator=generator) / rows**0.5
            factors[name] = torch.cat([drawn, torch.zeros(columns, self.rank)])
        return factors

    def correct(self, parameters: Mapping[str, Tensor], computed: Computed) -> Computed:
        weights = {}
        for name, weight in computed.weights.items():
            left, right = torch.split(parameters[name], list(weight.shape))
            weights[name] = weight + left @ right.T
        return replace(computed, weights=weights)


class ColumnGains(Place):
    """A factor for each column of each layer."""

    name = "gains"

    def start(self, array: Computed) -> Matrices:
        return {name: torch.ones(weight.shape[1]) for name, weight in array.weights.items()}

    def correct(self, parameters: Mapping[str, Tensor], computed: Computed) -> Computed:
        scaled = {name: weight * parameters[name] for name, weight in computed.weights.items()}
        gains = {
            name: parameters[name] * computed.gains.get(name, 1.0) for name in computed.weights
        }
        return replace(computed, weights=scaled, gains=gains)


class Biases(Place):
    """The digital biases, trained on: one for each column of each layer."""

    name = "biases"

    def start(self, array: Computed) -> Matrices:
        return {name: bias.clone() for name, bias in array.biases.items()}

    def correct(self, parameters: Mapping[str, Tensor], computed: Computed) -> Computed:
        return replace(computed, biases=dict(parameters))


def masked(weights: Mapping[str, Tensor], mask: Mask) -> Matrices:
    """The weights at the entries of `mask`, (entries,) of each layer."""
    return {
        name: weight.reshape(-1)[torch.from_numpy(mask.entries[name])]
        for name, weight in weights.items()
    }


def corrected(
    places: tuple[Place, ...], parameters: Mapping[str, Mapping[str, Tensor]], array: Computed
) -> Computed:
    """`array` corrected by all `places` in order, with the parameters of each by its name."""
    computed = array
    for place in places:
        computed = place.correct(parameters[place.name], computed)
    return computed
