"""The closed form is its formula, recovers without labels or gradients, and says what it did."""

from itertools import islice

import numpy as np
import pytest
import torch
from digits_network import accuracy, array_of, images, mapped, network

from rramhil.nn.layers import Layer, by_weights, unrolled, with_positions_first
from rramhil.nn.network import (
    Card,
    Images,
    Network,
)
from rramhil.recover.closed_form import Fitted, Ridge, fit, start_parameters
from rramhil.recover.masks import Mask, random_mask, ranked_mask
from rramhil.recover.places import (
    Biases,
    ColumnGains,
    Computed,
    Parameters,
    SparseMemory,
    corrected,
    from_readback,
)
from rramhil.recover.scores import expected_output_error, moments


def errx_mask(array: Computed, fraction: float) -> Mask:
    seen = moments(network(), images("calibration"))
    return ranked_mask(expected_output_error(network(), array, seen), fraction)


def repaired(array: Computed, mask: Mask, parameters: Parameters) -> Computed:
    return corrected((ColumnGains(), SparseMemory(mask), Biases()), parameters, array)


def recover(array: Computed, mask: Mask) -> tuple[Computed, list[Fitted]]:
    parameters = start_parameters(network(), array, mask)
    fitted = list(fit(network(), array, mask, images("calibration"), Ridge(), parameters))
    return repaired(array, mask, parameters), fitted


@pytest.mark.parametrize(
    ("stuck_lrs", "stuck_hrs", "sigma", "fraction", "at_least_lost", "at_most_left"),
    [(0, 0, 0.5, 0.03, 0.05, 0.01), (0.0175, 0.0904, 0.3, 0.05, 0.2, 0.01)],
    ids=["multiplicative 0.5", "stuck cells"],
)
def test_it_comes_back_to_the_ideal_mapping_without_labels(
    stuck_lrs: float,
    stuck_hrs: float,
    sigma: float,
    fraction: float,
    at_least_lost: float,
    at_most_left: float,
) -> None:
    ideal = accuracy(from_readback(network(), mapped().ideal_weights()))
    arrays = [array_of(die, sigma, stuck_lrs, stuck_hrs) for die in range(3)]
    after = [accuracy(recover(array, errx_mask(array, fraction))[0]) for array in arrays]
    assert ideal - np.mean([accuracy(array) for array in arrays]) > at_least_lost
    assert ideal - np.mean(after) < at_most_left


def test_labels_are_not_looked_at() -> None:
    array = array_of(0, 0.5)
    mask = errx_mask(array, 0.03)
    first, again = (start_parameters(network(), array, mask) for _ in range(2))
    some = images("calibration")
    wrong = Images(some.pixels, torch.zeros_like(some.labels))
    for parameters, given in ((first, some), (again, wrong)):
        list(fit(network(), array, mask, given, Ridge(), parameters))
    for name, values in first["sparse"].items():
        assert torch.equal(values, again["sparse"][name])


def test_a_ranked_mask_does_better_than_a_random_one_of_the_same_size() -> None:
    gained = []
    for die in range(3):
        array = array_of(die, 0.3, 0.0175, 0.0904)
        ranked = errx_mask(array, 0.02)
        drawn = random_mask(array.weights, 0.02, np.random.default_rng(die))
        assert abs(len(ranked) - len(drawn)) <= 3
        gained.append(accuracy(recover(array, ranked)[0]) - accuracy(recover(array, drawn)[0]))
    assert np.mean(gained) > 0.01


def small(layer: Layer, seed: int) -> tuple[Network, Computed, Images]:
    """One layer, an array that is off, and images."""
    generator = torch.Generator().manual_seed(seed)
    shape = (3, 6, 6)
    card = Card(
        name="small", data="any", image_shape=shape, layers=(layer,), script="", recipe="",
        seed=0, split_seed=0, accuracy={},
    )  # fmt: skip
    weight = torch.randn(layer.rows, layer.outputs, generator=generator)
    off = weight * (1 + 0.4 * torch.randn(weight.shape, generator=generator))
    bias = torch.randn(layer.outputs, generator=generator)
    pixels = torch.rand(40, *shape, generator=generator)
    network = Network(card, {layer.name: weight}, {layer.name: bias})
    array = Computed({layer.name: off}, {layer.name: bias})
    return network, array, Images(pixels, torch.zeros(40, dtype=torch.int64))


LINEAR = Layer(name="only", kind="linear", inputs=108, outputs=5, relu=False)
STRIDED = Layer(
    name="only", kind="convolution", inputs=3, outputs=4, kernel=3, padding=1, stride=2, relu=False
)


@pytest.mark.parametrize("layer", [LINEAR, STRIDED], ids=["linear", "convolution"])
def test_each_column_is_the_ridge_solution_written_out(layer: Layer) -> None:
    """Against one dense normal equation a column, made of the inputs themselves."""
    network, array, some = small(layer, 3)
    weight, off, bias = network.weights["only"], array.weights["only"], network.biases["only"]
    mask = random_mask(array.weights, 0.2, np.random.default_rng(2))
    ridge = Ridge(strength=0.05)
    parameters = start_parameters(network, array, mask)
    start = {place: tensors["only"].clone() for place, tensors in parameters.items()}
    (fitted,) = fit(network, array, mask, some, ridge, parameters)
    x = unrolled(layer, some.pixels).double()
    memory = torch.zeros(weight.shape).reshape(-1)
    memory[torch.from_numpy(mask.entries["only"])] = start["sparse"]
    memory = memory.reshape(weight.shape).double()
    wanted, raw = x @ weight.double() + bias, x @ off.double()
    left = wanted - (raw + x @ memory + bias)
    typical = float(x.square().mean())
    for column in range(layer.outputs):
        inside = [i for i, e in enumerate(mask.entries["only"]) if e % layer.outputs == column]
        rows = mask.entries["only"][inside] // layer.outputs
        rms = raw[:, column].square().mean().sqrt()
        unknowns = torch.cat(
            [x[:, rows], torch.ones(len(x), 1), (raw[:, column] / rms)[:, None]], 1
        )
        normal = unknowns.T @ unknowns / len(x)
        normal += torch.diag(ridge.strength * (normal.diagonal() + 1e-3 * typical))
        found = torch.linalg.solve(normal, unknowns.T @ left[:, column] / len(x))
        moved = (parameters["sparse"]["only"] - start["sparse"])[inside].double()
        torch.testing.assert_close(moved, found[:-2], atol=1e-5, rtol=1e-4)
        change = float(parameters["biases"]["only"][column] - bias[column])
        assert change == pytest.approx(float(found[-2]), abs=1e-5)
        gain = float(parameters["gains"]["only"][column]) - 1
        assert gain == pytest.approx(float(found[-1] / rms), abs=1e-5)
    assert fitted.error_after < fitted.error_before
    after = by_weights(*_as_pair(repaired(array, mask, parameters)))(layer, some.pixels)
    variance = wanted.var(0, correction=0).mean()
    share = (with_positions_first(after) - wanted).square().mean() / variance
    assert fitted.error_after == pytest.approx(float(share), rel=1e-3)


def _as_pair(computed: Computed) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    return computed.weights, computed.biases


def test_a_measured_product_is_what_is_fitted_not_the_readings() -> None:
    """The array has a gain and an offset that no reading shows."""
    array = array_of(0, 0.2)
    mask = errx_mask(array, 0.01)

    def measured(layer: Layer, inputs: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros(layer.outputs)
        return 0.7 * by_weights(array.weights, {layer.name: zero})(layer, inputs) + 0.3

    parameters = start_parameters(network(), array, mask)
    list(fit(network(), array, mask, images("calibration"), Ridge(), parameters, measured))
    gains = torch.cat(list(parameters["gains"].values()))
    assert float(gains.median()) == pytest.approx(1 / 0.7, rel=0.1)


def test_stopped_after_a_layer_the_earlier_layers_are_done_and_the_later_untouched() -> None:
    array = array_of(0, 0.5)
    mask = errx_mask(array, 0.03)
    whole, part = (start_parameters(network(), array, mask) for _ in range(2))
    untouched = start_parameters(network(), array, mask)
    steps = list(fit(network(), array, mask, images("calibration"), Ridge(), whole))
    first = next(iter(fit(network(), array, mask, images("calibration"), Ridge(), part)))
    assert [step.layer for step in steps] == list(network().weights)
    for place, tensors in part.items():
        assert torch.equal(tensors[first.layer], whole[place][first.layer])
        for layer in list(tensors)[1:]:
            assert torch.equal(tensors[layer], untouched[place][layer])
    assert len(list(islice(steps, 1))) == 1


def test_an_empty_mask_calibrates_columns_alone() -> None:
    array = array_of(0, 0.5)
    mask = random_mask(array.weights, 0.0, np.random.default_rng(0))
    after, fitted = recover(array, mask)
    assert len(mask) == 0
    assert all(step.error_after < step.error_before for step in fitted)
    assert accuracy(after) > accuracy(array)


def test_what_cannot_be_fitted_is_refused() -> None:
    array = array_of(0, 0.5)
    mask = errx_mask(array, 0.03)
    parameters = start_parameters(network(), array, mask)
    none = Images(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least one"):
        next(fit(network(), array, mask, none, Ridge(), parameters))
    other = Images(torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="takes images of shape"):
        next(fit(network(), array, mask, other, Ridge(), parameters))
    with pytest.raises(ValueError, match="strength above 0"):
        Ridge(strength=0)
