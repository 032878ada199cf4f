"""Layers: the walk against torch's own modules, shortcuts, and what does not fit together."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from rramhil.nn.layers import (
    Layer,
    forward,
    product_of,
    shapes,
    unrolled,
    walk,
    with_positions_first,
)

CONV = {"kind": "convolution", "kernel": 3, "padding": 1}
RESIDUAL = (
    Layer(name="stem", inputs=2, outputs=3, **CONV),
    Layer(name="short", kind="convolution", inputs=3, outputs=4, stride=2, relu=False),
    Layer(name="a", inputs=3, outputs=4, stride=2, input_from="stem", **CONV),
    Layer(name="b", inputs=4, outputs=4, add_from="short", **CONV),
    Layer(name="c", inputs=4, outputs=6, stride=2, **CONV),
    Layer(name="d", inputs=6, outputs=6, add_from="b", pool=2, pooling="average", **CONV),
    Layer(name="fc", kind="linear", inputs=6, outputs=5, relu=False),
)


def parameters(layers: tuple[Layer, ...]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    weights = {x.name: torch.randn(x.rows, x.outputs, generator=generator) for x in layers}
    return weights, {x.name: torch.randn(x.outputs, generator=generator) for x in layers}


def as_torch(
    layer: Layer, weights: Mapping[str, Tensor], biases: Mapping[str, Tensor]
) -> nn.Conv2d:
    module = nn.Conv2d(
        layer.inputs, layer.outputs, layer.kernel, stride=layer.stride, padding=layer.padding
    )
    module.weight.data = weights[layer.name].T.reshape(module.weight.shape)
    module.bias.data = biases[layer.name]
    return module.requires_grad_(False)


def test_residual_blocks_are_those_of_torch() -> None:
    """A shortcut with weights, one that takes every second pixel, and average pooling."""
    pixels = torch.rand(5, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    weights, biases = parameters(RESIDUAL)
    module = {x.name: as_torch(x, weights, biases) for x in RESIDUAL if x.kind == "convolution"}
    stem = module["stem"](pixels).relu()
    b = (module["b"](module["a"](stem).relu()) + module["short"](stem)).relu()
    d = module["d"](module["c"](b).relu())
    d[:, :4] += b[:, :, ::2, ::2]
    expected = d.relu().mean((2, 3)) @ weights["fc"] + biases["fc"]
    actual = forward(RESIDUAL, pixels, weights, biases)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-3)


def test_every_step_is_the_product_of_its_unrolled_inputs() -> None:
    pixels = torch.rand(3, 2, 8, 8, generator=torch.Generator().manual_seed(2))
    weights, biases = parameters(RESIDUAL)

    def product(layer: Layer, inputs: Tensor) -> Tensor:
        return product_of(layer, inputs, weights[layer.name], biases[layer.name])

    known = shapes(RESIDUAL, (2, 8, 8))
    steps = list(walk(RESIDUAL, pixels, product))
    assert [step.layer for step in steps] == list(RESIDUAL)
    for step in steps:
        name = step.layer.name
        rows = unrolled(step.layer, step.inputs)
        assert rows.shape[1] == step.layer.rows
        expected = rows @ weights[name] + biases[name]
        torch.testing.assert_close(
            with_positions_first(step.outputs), expected, rtol=1e-4, atol=1e-3
        )
        assert tuple(step.activation.shape[1:]) == known[name]
    assert torch.equal(steps[2].inputs, steps[0].activation)
    assert float(steps[1].activation.min()) < 0 <= float(steps[3].activation.min())


def test_products_are_asked_for_one_layer_at_a_time() -> None:
    """So that a correction found at one layer reaches the next."""
    weights, biases = parameters(RESIDUAL)
    asked = []

    def product(layer: Layer, inputs: Tensor) -> Tensor:
        asked.append(layer.name)
        return product_of(layer, inputs, weights[layer.name], biases[layer.name])

    steps = walk(RESIDUAL, torch.zeros(1, 2, 8, 8), product)
    next(steps)
    assert asked == ["stem"]
    weights["short"] = torch.zeros_like(weights["short"])
    assert torch.equal(next(steps).outputs[0, :, 0, 0], biases["short"])


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (3, {"add_from": "sort"}, "layer b names 'sort', which is no earlier layer"),
        (2, {"input_from": "fc"}, "layer a names 'fc', which is no earlier layer"),
        (2, {"name": "stem"}, "two layers are named 'stem'"),
        (2, {"inputs": 7}, r"layer a takes 7 inputs, but is given \(3, 8, 8\)"),
        (6, {"inputs": 24}, r"layer fc takes 24 inputs, but is given \(6, 1, 1\)"),
        (4, {"kernel": 9}, r"layer c has a kernel of 9, larger than \(4, 4, 4\)"),
        (5, {"pool": 4}, "layer d pools over 4, more than it has"),
        (6, {"pool": 2}, "layer fc pools over 2, more than it has"),
        (1, {"stride": 3}, r"layer b adds short of shape \(4, 3, 3\) to .* \(4, 4, 4\)"),
        (6, {"add_from": "d"}, r"layer fc adds d of shape \(6, 1, 1\) to outputs of shape \(5,\)"),
    ],
)
def test_layers_that_do_not_fit_are_refused(
    number: int, change: dict[str, object], message: str
) -> None:
    layers = list(RESIDUAL)
    layers[number] = layers[number].model_copy(update=change)
    with pytest.raises(ValueError, match=message):
        shapes(tuple(layers), (2, 8, 8))
