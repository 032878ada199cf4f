"""A finished correction: kept, used on another reading, put on top of another one, counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rramhil.recover.correction import Correction
from rramhil.recover.masks import random_mask
from rramhil.recover.places import (
    Biases,
    ColumnGains,
    Computed,
    ReplacingMemory,
    SparseMemory,
    corrected,
)
from tests.recover.test_slots import computed


def correction(fraction: float = 0.3, seed: int = 1) -> Correction:
    array = computed()
    generator = torch.Generator().manual_seed(seed)
    mask = random_mask(array.weights, fraction, np.random.default_rng(seed))
    places = (ColumnGains(), SparseMemory(mask), Biases())
    parameters = {
        place.name: {
            name: torch.randn(start.shape, generator=generator)
            for name, start in place.start(array).items()
        }
        for place in places
    }
    return Correction.of(places, parameters)


def assert_same(one: Computed, other: Computed) -> None:
    for name in one.weights:
        torch.testing.assert_close(one.weights[name], other.weights[name])
        torch.testing.assert_close(one.biases[name], other.biases[name])


def affine(seed: int) -> Correction:
    own = correction(seed=seed)
    return Correction.of((ColumnGains(), Biases()), own.parameters)


def test_it_comes_back_from_a_file_and_is_used_on_another_reading() -> None:
    own, later = correction(), computed(seed=5)
    stored = {**own.as_arrays(), "siemens": np.zeros(3)}
    back = Correction.from_arrays(stored)
    assert back is not None
    assert_same(back.applied(later), own.applied(later))
    assert back.memory_bits == own.memory_bits
    assert Correction.from_arrays({"siemens": np.zeros(3)}) is None


@pytest.mark.parametrize("first", [correction(), affine(4)], ids=["sparse", "affine"])
def test_gains_and_biases_on_top_are_one_correction_of_the_same_size(first: Correction) -> None:
    second, array = affine(2), computed(seed=3)
    both = first.then(second)
    assert_same(both.applied(array), second.applied(first.applied(array)))
    assert both.memory_bits == first.memory_bits
    with pytest.raises(ValueError, match="only gains and biases"):
        first.then(correction())


def test_where_there_were_no_gains_they_are_added() -> None:
    own = correction()
    bare = Correction.of(own.places[1:], own.parameters)
    second, array = affine(2), computed(seed=3)
    both = bare.then(second)
    assert_same(both.applied(array), second.applied(bare.applied(array)))
    assert both.memory_bits == bare.memory_bits + 32 * 8


def test_numbers_in_the_place_of_weights_are_kept_as_what_they_add() -> None:
    read, later = computed(), computed(seed=5)
    mask = random_mask(read.weights, 0.3, np.random.default_rng(0))
    places = (ReplacingMemory(mask, read), ColumnGains(), Biases())
    trained = {name: torch.arange(float(len(e))) for name, e in mask.entries.items()}
    numbers = {**correction().parameters, "sparse": trained}
    own, second = Correction.of(places, numbers), affine(2)
    assert_same(own.applied(later), corrected(places, numbers, later))
    assert_same(own.then(second).applied(later), second.applied(own.applied(later)))


def test_every_number_and_index_is_counted() -> None:
    own = correction()
    sparse = int(0.3 * 35) + int(0.3 * 15)
    assert own.counts == {"gains": 8, "sparse": sparse, "biases": 8}
    assert own.memory_bits == 32 * (16 + sparse)


def test_a_place_that_cannot_be_kept_is_refused() -> None:
    class Other(Biases):
        name = "other"

    with pytest.raises(ValueError, match="not from 'other'"):
        Correction.of((Other(),), {})
