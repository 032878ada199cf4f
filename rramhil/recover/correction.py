"""A finished correction: the digital numbers that are kept beside an array, and used from then on.

What the cells hold is read again whenever the network is judged; the numbers stay as they are
until they are fitted anew or the cells are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rramhil.recover.cost import NUMBER_BITS
from rramhil.recover.masks import Mask
from rramhil.recover.places import (
    Biases,
    ColumnGains,
    Computed,
    LowRank,
    Parameters,
    Place,
    ReplacingMemory,
    SparseMemory,
    corrected,
)

PLACES: dict[str, Callable[[Mask], Place]] = {
    ColumnGains.name: lambda _: ColumnGains(),
    SparseMemory.name: SparseMemory,
    LowRank.name: lambda _: LowRank(rank=1, seed=0),
    Biases.name: lambda _: Biases(),
}
"""Places that can be kept in a file, made again from their mask; a new place is a line here.

Rank and seed of a low-rank one are where its factors start; the kept factors say what they are.
"""

_PREFIX = "correction"


@dataclass(frozen=True, eq=False, slots=True)
class Correction:
    """`places`, in the order of their use, and the trained `parameters` of each by its name."""

    places: tuple[Place, ...]
    parameters: Parameters

    @classmethod
    def of(
        cls, places: tuple[Place, ...], parameters: Mapping[str, Mapping[str, Tensor]]
    ) -> Correction:
        """A copy of trained parameters. Raises ValueError for a place that is not in PLACES.

        Numbers in the place of weights are kept as what they add to the analog ones.
        """
        other = [place.name for place in places if place.name not in PLACES]
        if other:
            known = ", ".join(PLACES)
            raise ValueError(f"a correction is kept from {known}, not from {other[0]!r}")
        kept, numbers = [], {}
        for place in places:
            own = {layer: t.detach().clone() for layer, t in parameters[place.name].items()}
            if isinstance(place, ReplacingMemory):
                own = {layer: values - place.known[layer] for layer, values in own.items()}
                place = SparseMemory(place.mask)
            kept.append(place)
            numbers[place.name] = own
        return cls(tuple(kept), numbers)

    def applied(self, array: Computed) -> Computed:
        """The network that `array` computes with this correction."""
        with torch.no_grad():
            return corrected(self.places, self.parameters, array)

    def then(self, later: Correction) -> Correction:
        """Both as one, where `later` is gains and biases fitted to what this one gives.

        g' (g (x W) + x D) + b' has the gains g' g and the numbers g' D, so it needs a gain for
        each column at most more than this one. Raises ValueError for other places.
        """
        known = {ColumnGains.name, SparseMemory.name, Biases.name}
        names = {place.name for place in self.places}
        if not names <= known or {place.name for place in later.places} - known or later.sparse:
            raise ValueError(
                "only gains and biases can be put on top of gains, sparse numbers and biases; "
                "recover anew instead"
            )
        factors = later.parameters[ColumnGains.name]
        mine = self.parameters.get(ColumnGains.name, {})
        gains = {layer: factor * mine.get(layer, 1.0) for layer, factor in factors.items()}
        numbers = {ColumnGains.name: gains, Biases.name: later.parameters[Biases.name]}
        order = [place.name for place in self.places]
        places: list[Place] = [ColumnGains(), Biases()]
        for memory in (place for place in self.places if isinstance(place, SparseMemory)):
            # Numbers that went in before the gains are scaled by those as well.
            before = ColumnGains.name in order[order.index(memory.name) :]
            scales = gains if before else factors
            numbers[memory.name] = {
                layer: own * scales[layer][_columns(memory, layer, scales[layer].numel())]
                for layer, own in self.parameters[memory.name].items()
            }
            places.insert(1, memory)
        return Correction.of(tuple(places), numbers)

    @property
    def sparse(self) -> int:
        """Numbers in sparse memories."""
        return self.counts.get(SparseMemory.name, 0)

    @property
    def counts(self) -> dict[str, int]:
        """How many numbers each place keeps."""
        return {
            place: sum(tensor.numel() for tensor in tensors.values())
            for place, tensors in self.parameters.items()
        }

    @property
    def memory_bits(self) -> int:
        """Memory of all numbers as float32, and of the indices."""
        indices = sum(place.index_bits for place in self.places)
        return NUMBER_BITS * sum(self.counts.values()) + indices

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """For a file; `from_arrays` reads it."""
        arrays: dict[str, NDArray[Any]] = {
            _PREFIX: np.array([place.name for place in self.places], dtype=np.str_)
        }
        for place in self.places:
            for layer, tensor in self.parameters[place.name].items():
                arrays[f"{_PREFIX}.{place.name}.{layer}"] = tensor.numpy().copy()
            mask = getattr(place, "mask", None)
            if isinstance(mask, Mask):
                bits = np.array(mask.index_bits)
                arrays[f"{_PREFIX}_index_bits.{place.name}"] = bits
                for layer, entries in mask.entries.items():
                    arrays[f"{_PREFIX}_mask.{place.name}.{layer}"] = entries
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Correction | None:
        """What `as_arrays` gave, found among other arrays; None where there is none."""
        if _PREFIX not in arrays:
            return None
        names = [str(name) for name in arrays[_PREFIX]]
        places = []
        for name in names:
            bits = int(arrays.get(f"{_PREFIX}_index_bits.{name}", np.array(0)))
            places.append(PLACES[name](Mask(_under(arrays, f"{_PREFIX}_mask.{name}."), bits)))
        parameters = {
            name: {
                layer: torch.from_numpy(np.array(values))
                for layer, values in _under(arrays, f"{_PREFIX}.{name}.").items()
            }
            for name in names
        }
        return cls(tuple(places), parameters)


def _columns(memory: SparseMemory, layer: str, columns: int) -> Tensor:
    """The column that each sparse number of `layer` belongs to."""
    return torch.from_numpy(memory.mask.entries[layer]) % columns


def _under(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {
        name.removeprefix(prefix): values
        for name, values in arrays.items()
        if name.startswith(prefix)
    }
