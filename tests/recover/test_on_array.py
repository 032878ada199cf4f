"""Recovery with the array in the loop: products are measured, and the correction is around them."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from digits_network import images, network
from written import conducting

from rramhil.device import Refused
from rramhil.mapping import filled
from rramhil.mapping.network import MappedNetwork
from rramhil.nn.in_situ import activation_ranges, array_product
from rramhil.nn.layers import Layer, Product, by_weights, product_of
from rramhil.nn.network import (
    Images,
    Network,
    accuracy_by,
    logits_by,
)
from rramhil.recover.closed_form import Ridge, fit, start_parameters
from rramhil.recover.loop import adapt, best
from rramhil.recover.losses import matching
from rramhil.recover.masks import Mask, random_mask, ranked_mask
from rramhil.recover.on_array import by_array, product_noise
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
from rramhil.recover.scores import expected_output_error, moments
from rramhil_drivers.emulator.die import EmulatedDie


def measured(die: EmulatedDie, mapped: MappedNetwork) -> tuple[Computed, Product]:
    """What the cells read as, and the products that the array computes."""
    siemens = filled(die.read(mapped.cells), die.spec.reading.highest)
    ranges = activation_ranges(network(), images("calibration"))
    products = array_product(mapped, ranges, die.mvm_block, die.spec)
    return from_readback(network(), mapped.weights_from(siemens)), products


def places(mask: Mask) -> tuple[Place, ...]:
    return ColumnGains(), SparseMemory(mask), Biases()


def errx_mask(array: Computed, fraction: float) -> Mask:
    seen = moments(network(), images("train", 128))
    return ranked_mask(expected_output_error(network(), array, seen), fraction)


def fitted(array: Computed, mask: Mask, products: Product | None) -> Computed:
    parameters = start_parameters(network(), array, mask)
    learn = images("train", 128)
    for layer in fit(network(), array, mask, learn, Ridge(), parameters, products):
        if products is not None:
            assert layer.error_after < layer.error_before
    return corrected(places(mask), parameters, array)


@pytest.mark.parametrize(
    ("address", "at_least"),
    [
        ("emulator:wide?tiles=2&die=2", 0.92),
        ("emulator:40nm?tiles=2&die=2", 0.78),
        ("emulator:wide?tiles=2&die=3&stuck_lrs=0.02&stuck_hrs=0.05", 0.9),
        ("emulator:40nm?tiles=2&die=3&stuck_lrs=0.02&stuck_hrs=0.05", 0.75),
    ],
)
def test_a_closed_form_from_measured_products_recovers_what_readings_cannot_show(
    address: str, at_least: float
) -> None:
    """Columns are untrimmed: their gains and offsets show in products, never in readings."""
    array, products = measured(*conducting(address, network()))
    in_situ, mask = by_array(array, products), errx_mask(array, 0.05)
    before = accuracy_by(network(), images("test"), in_situ(array))
    from_products = fitted(array, mask, products)
    from_readings = fitted(array, mask, None)
    after = accuracy_by(network(), images("test"), in_situ(from_products))
    assert before < 0.5
    assert after > at_least
    assert after > accuracy_by(network(), images("test"), in_situ(from_readings)) + 0.3


def test_around_an_exact_product_the_correction_is_that_of_the_weights() -> None:
    """Through gains, sparse memory and biases, also where gains come first or twice."""
    generator = torch.Generator().manual_seed(3)
    layers = (
        Layer(name="a", kind="convolution", inputs=1, outputs=3, kernel=3, padding=1, pool=2),
        Layer(name="b", kind="linear", inputs=48, outputs=5, relu=False),
    )
    card = network().card.model_copy(update={"layers": layers})
    weights = {x.name: torch.randn(x.rows, x.outputs, generator=generator) for x in layers}
    own = Network(card, weights, {x.name: torch.randn(x.outputs) for x in layers})
    array = Computed(own.weights, own.biases)
    mask = random_mask(array.weights, 0.2, np.random.default_rng(0))
    chain = (*places(mask), ColumnGains())
    parameters = {
        place.name: {
            name: torch.randn(start.shape, generator=generator)
            for name, start in place.start(array).items()
        }
        for place in chain
    }
    repaired = corrected(chain, parameters, array)
    bare = by_weights(array.weights, {n: torch.zeros_like(b) for n, b in array.biases.items()})
    pixels = Images(torch.rand(4, 1, 8, 8, generator=generator), torch.zeros(4))
    got = logits_by(own, pixels, by_array(array, bare)(repaired))
    expected = logits_by(own, pixels, by_weights(repaired.weights, repaired.biases))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3)


def test_values_are_measured_and_gradients_go_through_the_readings() -> None:
    layer = network().card.layers[0]
    array = Computed(network().weights, network().biases)
    gains = ColumnGains().start(array)
    gains["fc1"] = (2 * gains["fc1"]).requires_grad_()
    inputs = torch.rand(3, 64).requires_grad_()
    product = by_array(array, lambda _, x: torch.full((len(x), 128), 5.0))(
        corrected((ColumnGains(),), {"gains": gains}, array)
    )
    given = product(layer, inputs)
    torch.testing.assert_close(given, 10.0 + array.biases["fc1"].expand(3, 128))
    to_inputs, to_gains = torch.autograd.grad(given.sum(), [inputs, gains["fc1"]])
    torch.testing.assert_close(to_inputs, 2 * array.weights["fc1"].sum(1).expand(3, 64))
    torch.testing.assert_close(to_gains, torch.full((128,), 15.0))


@pytest.mark.parametrize("faults", ["", "&stuck_lrs=0.02&stuck_hrs=0.05"])
def test_training_with_the_array_in_the_loop_recovers(faults: str) -> None:
    """Layer outputs are matched as the array gives them, from gains and biases alone."""
    array, products = measured(*conducting(f"emulator:wide?tiles=2&die=4{faults}", network()))
    in_situ = by_array(array, products)
    settings = RsaSettings(fraction=0.05, gains=True, epochs=12, learning_rate=2e-2)
    recovery = random_sparse_adaptation(settings, array)
    recovery = replace(recovery, forward=in_situ, loss=recovery.loss + matching(0.3))
    learn = (recovery, network(), array, images("train", 400), images("validation"))
    epochs = list(adapt(*learn))
    repaired = best(recovery, array, epochs[-1].checkpoint)
    before = accuracy_by(network(), images("test"), in_situ(array))
    after = accuracy_by(network(), images("test"), in_situ(repaired))
    assert before < 0.5
    assert after > 0.85


def test_stopped_and_resumed_on_the_array_it_gives_what_it_would_have() -> None:
    """Where the device repeats itself: the converter without noise, cells that were read once."""
    held = Computed(network().weights, network().biases)

    def products(layer: Layer, inputs: torch.Tensor) -> torch.Tensor:
        return (product_of(layer, inputs, held.weights[layer.name], None) * 4).round() / 3

    recovery = replace(
        random_sparse_adaptation(RsaSettings(gains=True, epochs=3), held),
        forward=by_array(held, products),
    )
    learn = (recovery, network(), held, images("train", 200), images("validation"))
    whole = list(adapt(*learn))
    stopped = list(islice(adapt(*learn), 2))[-1]
    rest = list(adapt(*learn, checkpoint=stopped.checkpoint))
    for key, values in whole[-1].checkpoint.items():
        np.testing.assert_array_equal(rest[-1].checkpoint[key], values)


def test_the_noise_of_products_is_what_the_converter_makes() -> None:
    found = []
    for factor in (0, 1, 2):
        address = f"emulator:wide?tiles=2&die=2&converter_noise={factor}"
        _, products = measured(*conducting(address, network()))
        found.append(product_noise(network(), products, images("calibration", 60))["fc1"])
    of_cells, once, twice = np.square(found)
    assert 0 < of_cells < 0.5 * once
    assert 3 < (twice - of_cells) / (once - of_cells) < 5
    exact = by_weights(network().weights, {n: torch.zeros(1) for n in network().weights})
    assert max(product_noise(network(), exact, images("calibration", 5)).values()) == 0
    with pytest.raises(ValueError, match="at least one"):
        product_noise(network(), exact, images("calibration", 0))


def test_a_die_without_a_product_is_refused() -> None:
    die, mapped = conducting("emulator:wide?tiles=2", network())
    with pytest.raises(Refused, match="computes no product; evaluate from conductances"):
        array_product(mapped, {}, die.mvm_block, replace(die.spec, mvm=None))
