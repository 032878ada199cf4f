"""A finished correction: the digital numbers that are kept beside an array, and used from then on.

y = g (x W) + x D + b: a gain and a bias for each column, a number for each masked weight. What
W is at the moment is read again whenever the network is judged; the numbers stay as they are
until they are fitted anew or the cells are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rramhil.recover.masks import Mask
from rramhil.recover.places import (
    Biases,
    ColumnGains,
    Computed,
    Parameters,
    Place,
    SparseMemory,
    corrected,
)

NUMBER_BITS = 32
"""A digital number is kept as float32."""

_INDEX_BITS = "index_bits"


@dataclass(frozen=True, eq=False, slots=True)
class Correction:
    """`parameters`: of the places gains (columns,), sparse (entries of `mask`), biases, a layer."""

    mask: Mask
    parameters: Parameters

    @classmethod
    def none(cls, array: Computed) -> Correction:
        """One that changes nothing."""
        return cls.of(array, (), {})

    @classmethod
    def of(
        cls,
        array: Computed,
        places: tuple[Place, ...],
        parameters: Mapping[str, Mapping[str, torch.Tensor]],
    ) -> Correction:
        """From the trained `parameters` of `places`; a place that is not there changes nothing.

        Raises ValueError for places that it cannot hold.
        """
        known = {ColumnGains.name, SparseMemory.name, Biases.name}
        other = [place.name for place in places if place.name not in known]
        if other:
            raise ValueError(f"a correction holds {', '.join(sorted(known))}, not {other[0]!r}")
        masks = [place.mask for place in places if isinstance(place, SparseMemory)]
        nothing = {name: np.zeros(0, np.int64) for name in array.weights}
        kept = masks[0] if masks else Mask(nothing, 0)
        start = {place.name: place.start(array) for place in _places(kept)}
        given = {
            place: {
                layer: parameters.get(place, tensors)[layer].detach().clone() for layer in tensors
            }
            for place, tensors in start.items()
        }
        return cls(kept, given)

    def applied(self, array: Computed) -> Computed:
        """The network that `array` computes with this correction."""
        with torch.no_grad():
            return corrected(_places(self.mask), self.parameters, array)

    def then(self, later: Correction) -> Correction:
        """Both as one: `later` was fitted to what this one gives, and has no sparse numbers.

        g' (g (x W) + x D) + b' has gains g' g and numbers g' D, so it needs no more memory.
        Raises ValueError when `later` has sparse numbers of its own.
        """
        if len(later.mask):
            raise ValueError("only gains and biases can be put on top of an earlier correction")
        mine, others = self.parameters, later.parameters
        gains, sparse = {}, {}
        for layer, factor in others[ColumnGains.name].items():
            columns = torch.from_numpy(self.mask.entries[layer]) % factor.numel()
            gains[layer] = mine[ColumnGains.name][layer] * factor
            sparse[layer] = mine[SparseMemory.name][layer] * factor[columns]
        biases = {name: bias.clone() for name, bias in others[Biases.name].items()}
        names = (ColumnGains.name, SparseMemory.name, Biases.name)
        return Correction(self.mask, dict(zip(names, (gains, sparse, biases), strict=True)))

    @property
    def counts(self) -> dict[str, int]:
        """How many numbers each place keeps."""
        return {
            place: sum(tensor.numel() for tensor in tensors.values())
            for place, tensors in self.parameters.items()
        }

    @property
    def memory_bits(self) -> int:
        """Memory of all numbers as float32 and of the indices."""
        return NUMBER_BITS * sum(self.counts.values()) + self.mask.index_bits

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """For a file; `from_arrays` reads it."""
        arrays: dict[str, NDArray[Any]] = {
            f"correction.{place}.{layer}": tensor.numpy().copy()
            for place, tensors in self.parameters.items()
            for layer, tensor in tensors.items()
        }
        arrays |= {f"correction.mask.{name}": e for name, e in self.mask.entries.items()}
        return {**arrays, f"correction.{_INDEX_BITS}": np.array(self.mask.index_bits)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Correction | None:
        """What `as_arrays` gave, among other arrays; None where there is none."""
        if f"correction.{_INDEX_BITS}" not in arrays:
            return None
        parts: dict[str, dict[str, NDArray[Any]]] = {}
        for key, values in arrays.items():
            prefix, _, rest = key.partition(".")
            place, _, layer = rest.partition(".")
            if prefix == "correction" and layer:
                parts.setdefault(place, {})[layer] = values
        mask = Mask(parts.pop("mask"), int(arrays[f"correction.{_INDEX_BITS}"]))
        return cls(
            mask,
            {
                place: {layer: torch.from_numpy(np.array(values)) for layer, values in own.items()}
                for place, own in parts.items()
            },
        )


def _places(mask: Mask) -> tuple[Place, ...]:
    return (ColumnGains(), SparseMemory(mask), Biases())
