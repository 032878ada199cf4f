"""What a recovery costs in digital memory and in images, counted in full."""

from __future__ import annotations

from dataclasses import dataclass

from rramhil.recover.places import Computed, Place

NUMBER_BITS = 32
"""A trained number is kept as it was trained, in single precision."""


@dataclass(frozen=True, slots=True)
class DigitalCost:
    """Numbers beside the array. `parameters` counts by place ("sparse", "gains", "biases").

    `sparse_fraction`: entries of the mask over weights. `index_bits`: to know which weights
    they belong to (0 where a seed gives them). `images`, `labels`: distinct ones learnt from,
    validation (`validation_images`, all labelled) apart.
    """

    parameters: dict[str, int]
    weights: int
    index_bits: int
    images: int
    labels: int
    validation_images: int

    @property
    def digital_parameters(self) -> int:
        """All trained numbers together."""
        return sum(self.parameters.values())

    @property
    def memory_bits(self) -> int:
        """Bits of digital memory: the trained numbers and the indices."""
        return NUMBER_BITS * self.digital_parameters + self.index_bits

    @property
    def sparse_fraction(self) -> float:
        """Entries of the sparse memory over the weights of the network."""
        return self.parameters.get("sparse", 0) / self.weights


def digital_cost(
    places: tuple[Place, ...], array: Computed, images: int, labels: int, validation_images: int
) -> DigitalCost:
    """Count what `places` keep beside `array` after learning from `images`."""
    return DigitalCost(
        parameters={
            place.name: sum(tensor.numel() for tensor in place.start(array).values())
            for place in places
        },
        weights=sum(weight.numel() for weight in array.weights.values()),
        index_bits=sum(place.index_bits for place in places),
        images=images,
        labels=labels,
        validation_images=validation_images,
    )
