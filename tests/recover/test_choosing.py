"""Masks by the name of their rule, and a digital number in the place of a weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rramhil.nn.data import load_data
from rramhil.nn.network import Images, Network, images_of, load_network
from rramhil.nn.splits import make_splits
from rramhil.recover.choosing import choose_mask
from rramhil.recover.masks import Mask
from rramhil.recover.places import Computed, ReplacingMemory
from rramhil.recover.rules import ASKS_IMAGES, RULES, Rule

ASKED: tuple[Rule, ...] = ("known_bad", "errx")


@pytest.fixture(scope="module")
def network() -> Network:
    return load_network("digits")


@pytest.fixture(scope="module")
def images(network: Network) -> Images:
    data = load_data("digits")
    return images_of(data, make_splits(data, network.card.split_seed).calibration)


def broken(network: Network, row: int) -> Computed:
    """The network with each weight of one row of its first layer off by the layer's largest."""
    weights = {name: weight.clone() for name, weight in network.weights.items()}
    first = next(iter(weights.values()))
    first[row] += first.abs().max()
    return Computed(weights, dict(network.biases))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_gives_no_more_than_was_asked_for(
    network: Network, images: Images, rule: Rule
) -> None:
    mask = choose_mask(rule, 0.01, network, broken(network, 20), images, 0)
    count = sum(weight.numel() for weight in network.weights.values())
    assert 0.9 * 0.01 * count < len(mask) <= 0.01 * count
    assert (mask.index_bits == 0) == (rule == "random")


@pytest.mark.parametrize("rule", ["known_bad", "errx", "taylor"])
def test_rules_that_read_the_array_find_the_broken_row(
    network: Network, images: Images, rule: Rule
) -> None:
    """Row 20 is a pixel in the middle of the digits; its 128 weights are 0.75 % of all."""
    rows, columns = next(iter(network.weights.values())).shape
    mask = choose_mask(rule, columns / 17_024, network, broken(network, 20), images, 0)
    found = next(iter(mask.entries.values())) // columns
    assert np.count_nonzero(found == 20) > 0.8 * columns
    assert rows == 64


def test_errors_on_a_pixel_that_is_always_dark_do_not_matter(
    network: Network, images: Images
) -> None:
    dark = int(images.pixels.flatten(1).amax(0).argmin())
    assert float(images.pixels.flatten(1)[:, dark].max()) == 0
    array = broken(network, dark)
    random = torch.Generator().manual_seed(0)
    for weight in array.weights.values():
        weight += 0.01 * torch.randn(weight.shape, generator=random)
    columns = next(iter(network.weights.values())).shape[1]
    rows = {
        rule: next(iter(choose_mask(rule, 0.01, network, array, images, 0).entries.values()))
        // columns
        for rule in ASKED
    }
    assert (rows["known_bad"] == dark).sum() == columns
    assert not (rows["errx"] == dark).any()


@pytest.mark.parametrize("rule", ASKS_IMAGES)
def test_a_rule_that_looks_at_activations_is_refused_without_images(
    network: Network, images: Images, rule: Rule
) -> None:
    none = Images(images.pixels[:0], images.labels[:0])
    array = broken(network, 20)
    with pytest.raises(ValueError, match="give images, or choose one of random, magnitude, known"):
        choose_mask(rule, 0.01, network, array, none, 0)
    choose_mask("known_bad", 0.01, network, array, none, 0)


def test_a_replaced_weight_is_the_digital_number_but_for_what_drifted_since() -> None:
    read = Computed({"all": torch.tensor([[0.5, -1.0], [2.0, 3.0]])}, {"all": torch.zeros(2)})
    place = ReplacingMemory(Mask({"all": np.array([1, 2])}, 0), read)
    assert torch.equal(place.correct(place.start(read), read).weights["all"], read.weights["all"])
    numbers = {"all": torch.tensor([7.0, 9.0])}
    now = place.correct(numbers, read).weights["all"]
    assert torch.equal(now, torch.tensor([[0.5, 7.0], [9.0, 3.0]]))
    drifted = Computed({"all": read.weights["all"] + 0.25}, read.biases)
    later = place.correct(numbers, drifted).weights["all"]
    assert torch.equal(later, now + 0.25)
