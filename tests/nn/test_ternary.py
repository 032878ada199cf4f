"""Ternary weights: three values a column, gradients straight through, a network that holds."""

from __future__ import annotations

import pytest
import torch

from rramhil.nn.data import load_data
from rramhil.nn.network import Images, Network, accuracy_of, images_of, load_network
from rramhil.nn.splits import make_splits
from rramhil.nn.ternary import ternary
from rramhil.nn.train import Recipe, train


def digits(part: str) -> Images:
    data = load_data("digits")
    splits = make_splits(data, load_network("digits").card.split_seed)
    return images_of(data, getattr(splits, part))


def test_columns_have_three_values_and_gradients_go_straight_through() -> None:
    weight = torch.tensor([[3.0, 0.0], [-1.0, 0.0], [0.2, 0.0], [-5.0, 0.0]]).requires_grad_()
    values = ternary(weight)
    # mean |w| 2.3, threshold 1.61: 3 and -5 are kept, at their mean size
    torch.testing.assert_close(values[:, 0], torch.tensor([4.0, 0.0, 0.0, -4.0]))
    assert torch.equal(values[:, 1], torch.zeros(4))
    (gradient,) = torch.autograd.grad((values * torch.arange(8.0).reshape(4, 2)).sum(), weight)
    assert torch.equal(gradient, torch.arange(8.0).reshape(4, 2))


def test_training_straight_through_beats_rounding_afterwards() -> None:
    network, learn, test = load_network("digits"), digits("train"), digits("test")
    recipe = Recipe(epochs=10, learning_rate=3e-3, batch=50, ternary=True)
    for epoch in train(network.card.layers, learn, recipe, seed=1):
        last = epoch
    trained = Network(network.card, last.weights, last.biases)
    rounded = {name: ternary(weight) for name, weight in network.weights.items()}
    after = accuracy_of(trained, test)
    assert after > 0.93
    assert after > accuracy_of(network, test, rounded) + 0.01


@pytest.mark.parametrize("layer", ["fc1", "fc2", "fc3"])
def test_the_shipped_ternary_network_is_one(layer: str) -> None:
    network = load_network("digits-ternary")
    weight = network.weights[layer]
    for column in weight.T:
        size = column.abs().max()
        assert bool(((column.abs() < 1e-6 * size) | (column.abs() > (1 - 1e-6) * size)).all())
    assert accuracy_of(network, digits("test")) == pytest.approx(
        network.card.accuracy["teacher_test"], abs=1e-6
    )
