"""The three slots, each on its own: places, masks, losses; and what they are said to cost."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.nn.network import load_network
from rramhil.recover.cost import digital_cost
from rramhil.recover.losses import Answers, distillation, label_loss
from rramhil.recover.masks import Mask, random_mask
from rramhil.recover.places import (
    Biases,
    ColumnGains,
    Computed,
    Place,
    SparseMemory,
    corrected,
    from_readback,
)
from rramhil.recover.rsa import RsaSettings, random_sparse_adaptation

SHAPES = {"fc1": (7, 5), "fc2": (5, 3)}


def computed(seed: int = 0) -> Computed:
    generator = torch.Generator().manual_seed(seed)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    biases = {name: torch.randn(cols, generator=generator) for name, (_, cols) in SHAPES.items()}
    return Computed(weights, biases)


def places() -> list[Place]:
    mask = random_mask(computed().weights, 0.3, np.random.default_rng(1))
    return [ColumnGains(), SparseMemory(mask), Biases()]


@pytest.mark.parametrize("place", places(), ids=lambda place: place.name)
def test_a_place_starts_without_effect(place: Place) -> None:
    array = computed()
    now = place.correct(place.start(array), array)
    for name in SHAPES:
        assert torch.equal(now.weights[name], array.weights[name])
        assert torch.equal(now.biases[name], array.biases[name])


def test_each_place_corrects_what_is_its_own() -> None:
    array, mask = computed(), Mask({"fc1": np.array([0, 34]), "fc2": np.array([4])}, index_bits=0)
    parameters = {
        "gains": {"fc1": torch.full((5,), 2.0), "fc2": torch.ones(3)},
        "sparse": {"fc1": torch.tensor([10.0, 20.0]), "fc2": torch.tensor([30.0])},
        "biases": {"fc1": torch.zeros(5), "fc2": torch.ones(3)},
    }
    now = corrected((ColumnGains(), SparseMemory(mask), Biases()), parameters, array)
    expected = 2 * array.weights["fc1"]
    expected[0, 0] += 10
    expected[6, 4] += 20
    torch.testing.assert_close(now.weights["fc1"], expected)
    assert now.weights["fc2"][1, 1] == array.weights["fc2"][1, 1] + 30
    assert torch.equal(now.biases["fc2"], torch.ones(3))
    assert torch.equal(array.weights["fc1"], computed().weights["fc1"])


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.integers(0, 2**32))
def test_a_random_mask_is_drawn_again_from_its_seed_and_never_larger(
    rows: int, cols: int, fraction: float, seed: int
) -> None:
    weights = {"a": torch.zeros(rows, cols), "b": torch.zeros(cols, 3)}
    first, again = (random_mask(weights, fraction, np.random.default_rng(seed)) for _ in range(2))
    for name, weight in weights.items():
        entries = first.entries[name]
        np.testing.assert_array_equal(entries, again.entries[name])
        assert np.unique(entries).size == entries.size
        assert entries.size == 0 or 0 <= entries.min() <= entries.max() < weight.numel()
        assert fraction * weight.numel() - 1 < entries.size <= fraction * weight.numel() + 1e-6
    assert first.index_bits == 0


def test_masks_of_other_seeds_differ_and_cover_a_layer_evenly() -> None:
    weights = {"a": torch.zeros(100, 100)}
    masks = [random_mask(weights, 0.05, np.random.default_rng(seed)) for seed in range(40)]
    hits = np.bincount(np.concatenate([mask.entries["a"] // 1000 for mask in masks]))
    assert len(np.unique([mask.entries["a"][0] for mask in masks])) > 10
    np.testing.assert_allclose(hits, 40 * 50, rtol=0.12)


def test_distillation_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 4, 3, generator=generator)
    logits, teacher = (Answers(values) for values in scores)
    labels = torch.tensor([0, 1, 2, 0])
    taught, learnt = (torch.softmax(values / 4, dim=1) for values in scores.flip(0))
    divergence = (taught * (taught.log() - learnt.log())).sum(1).mean()
    correct = -torch.log_softmax(logits.logits, dim=1)[range(4), labels].mean()
    torch.testing.assert_close(label_loss()(logits, labels, teacher), correct)
    torch.testing.assert_close(
        distillation(4, 0.3)(logits, labels, teacher), 0.7 * 16 * divergence + 0.3 * correct
    )
    torch.testing.assert_close(distillation(4, 1)(logits, labels, teacher), correct)
    unlabelled = distillation(4, 0)
    torch.testing.assert_close(unlabelled(logits, labels, teacher), 16 * divergence)
    assert unlabelled(teacher, labels, teacher).abs() < 1e-5
    assert torch.equal(unlabelled(logits, labels, teacher), unlabelled(logits, 2 - labels, teacher))


def test_the_cost_counts_every_number_and_no_index_of_a_seeded_mask() -> None:
    network = load_network("digits")
    array = Computed(network.weights, network.biases)
    recovery = random_sparse_adaptation(RsaSettings(fraction=0.05, gains=True), array)
    cost = digital_cost(recovery.places, array, images=900, labels=900, validation_images=150)
    weights = 64 * 128 + 128 * 64 + 64 * 10
    sparse = 2 * math.floor(0.05 * 64 * 128) + math.floor(0.05 * 640)
    assert cost.parameters == {"gains": 202, "sparse": sparse, "biases": 202}
    assert cost.digital_parameters == sparse + 404
    assert cost.weights == weights
    assert cost.index_bits == 0
    assert cost.sparse_fraction <= 0.05
    plain = random_sparse_adaptation(RsaSettings(), array)
    assert [place.name for place in plain.places] == ["sparse", "biases"]
    stored = SparseMemory(Mask({"fc1": np.arange(3)}, index_bits=3 * 13))
    assert stored.index_bits == 39


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="fraction of 0 to 1"):
        random_mask(computed().weights, 1.5, np.random.default_rng(0))
    with pytest.raises(ValueError, match="temperature above 0"):
        distillation(0, 0.5)
    with pytest.raises(ValueError, match="label share"):
        distillation(1, 1.5)


def test_unreadable_weights_are_refused() -> None:
    network = load_network("digits")
    weights = {name: weight.copy() for name, weight in network.matrices().items()}
    assert torch.equal(from_readback(network, weights).weights["fc2"], network.weights["fc2"])
    weights["fc2"][3, 4] = np.nan
    with pytest.raises(ValueError, match="layer fc2 are NaN or infinite"):
        from_readback(network, weights)
