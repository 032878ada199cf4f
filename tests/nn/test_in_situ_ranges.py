"""What a full input code stands for, and the mean of several products."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rramhil.nn.data import load_data
from rramhil.nn.in_situ import RANGE_STEPS, activation_ranges, averaged
from rramhil.nn.layers import Layer, by_weights, walk
from rramhil.nn.network import Images, Network, images_of, load_network
from rramhil.nn.splits import make_splits

LAYER = Layer(name="fc", kind="linear", inputs=4, outputs=2)


def digits() -> tuple[Network, Images]:
    network, data = load_network("digits"), load_data("digits")
    return network, images_of(data, make_splits(data, network.card.split_seed).calibration)


NETWORK, CALIBRATION = digits()


@settings(max_examples=20, deadline=None)
@given(st.floats(1, 99.9))
def test_a_percentile_is_that_of_the_inputs_above_zero(percentile: float) -> None:
    largest = activation_ranges(NETWORK, CALIBRATION)
    found = activation_ranges(NETWORK, CALIBRATION, batch=64, percentile=percentile)
    given_ = by_weights(NETWORK.weights, NETWORK.biases)
    for step in walk(NETWORK.card.layers, CALIBRATION.pixels, given_):
        name, above = step.layer.name, step.inputs[step.inputs > 0].numpy()
        exact = np.percentile(above, percentile, method="inverted_cdf")
        assert largest[name] == float(above.max())
        assert abs(found[name] - exact) <= 1.5 * largest[name] / RANGE_STEPS


def test_all_of_the_inputs_are_their_largest() -> None:
    assert activation_ranges(NETWORK, CALIBRATION, percentile=100) == activation_ranges(
        NETWORK, CALIBRATION
    )


def test_a_layer_that_is_never_fed_has_no_range() -> None:
    dark = Images(torch.zeros_like(CALIBRATION.pixels[:3]), CALIBRATION.labels[:3])
    assert activation_ranges(NETWORK, dark, percentile=98)["fc1"] == 0


@pytest.mark.parametrize("percentile", [0, -1, 100.1])
def test_a_percentile_that_is_none_is_refused(percentile: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 100"):
        activation_ranges(NETWORK, CALIBRATION, percentile=percentile)


def test_the_noise_of_a_mean_falls_with_the_root_of_its_number() -> None:
    random, asked = torch.Generator().manual_seed(1), []

    def noisy(layer: Layer, inputs: Tensor) -> Tensor:
        asked.append(layer.name)
        return inputs.sum(1, keepdim=True) + torch.randn(len(inputs), 2, generator=random)

    inputs = torch.ones(4000, 4)
    mean = averaged(noisy, 9)(LAYER, inputs)
    assert asked == ["fc"] * 9
    assert float(mean.mean()) == pytest.approx(4, abs=0.03)
    assert float(mean.std()) == pytest.approx(1 / 3, rel=0.05)
    assert averaged(noisy, 1) is noisy
    with pytest.raises(ValueError, match="0 times; take 1 or more"):
        averaged(noisy, 0)
