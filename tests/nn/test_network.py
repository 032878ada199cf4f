"""Networks: the forward pass is torch's own, files keep everything, wrong input is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rramhil.nn.data import DataError, load_data
from rramhil.nn.layers import Layer, forward
from rramhil.nn.network import (
    Card,
    Images,
    Network,
    accuracy_of,
    images_of,
    load_network,
    logits_of,
    network_names,
    save_network,
)
from rramhil.nn.repeatable import repeatable
from rramhil.nn.splits import make_splits
from rramhil.nn.train import Recipe, train
from rramhil.schema import FileError

LAYERS = (
    Layer(name="conv", kind="convolution", inputs=2, outputs=3, kernel=3, padding=1, pool=2),
    Layer(name="fc", kind="linear", inputs=3 * 4 * 4, outputs=5, relu=False),
)


def small_network(seed: int = 0) -> Network:
    generator = torch.Generator().manual_seed(seed)
    card = Card(
        name="small",
        data="none",
        image_shape=(2, 8, 8),
        layers=LAYERS,
        script="",
        recipe="",
        seed=seed,
        split_seed=0,
        accuracy={"test": 0.5},
    )
    weights = {
        layer.name: torch.randn(layer.rows, layer.outputs, generator=generator) for layer in LAYERS
    }
    biases = {layer.name: torch.randn(layer.outputs, generator=generator) for layer in LAYERS}
    return Network(card, weights, biases)


def small_images(count: int = 7) -> Images:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(count, 2, 8, 8, generator=generator)
    return Images(pixels, torch.arange(count) % 5)


def test_forward_is_the_product_of_unrolled_inputs() -> None:
    network, images = small_network(), small_images()
    patches = nn.functional.unfold(images.pixels, 3, padding=1)
    product = patches.transpose(1, 2) @ network.weights["conv"] + network.biases["conv"]
    maps = product.transpose(1, 2).reshape(-1, 3, 8, 8).relu()
    features = nn.functional.max_pool2d(maps, 2).flatten(1)
    expected = features @ network.weights["fc"] + network.biases["fc"]
    actual = forward(LAYERS, images.pixels, network.weights, network.biases)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits_of(network, images, batch=2), actual, rtol=1e-4, atol=1e-4)


def test_replaced_weights_and_biases_are_used() -> None:
    network, images = small_network(), small_images()
    zeros = {name: torch.zeros_like(weight) for name, weight in network.weights.items()}
    one_hot = {"conv": torch.zeros(3), "fc": torch.eye(5)[2]}
    assert (logits_of(network, images, zeros, one_hot).argmax(1) == 2).all()
    assert accuracy_of(network, images, zeros, one_hot) == pytest.approx(1 / 7)


def test_a_file_keeps_weights_biases_and_card(tmp_path: Path) -> None:
    network, path = small_network(), tmp_path / "small.safetensors"
    save_network(network, path)
    back = load_network(path)
    assert back.card == network.card
    assert len(back.sha256) == 64
    for name, weight in network.weights.items():
        assert torch.equal(back.weights[name], weight)
        assert torch.equal(back.biases[name], network.biases[name])


def test_what_is_no_network_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="did you mean 'digits'"):
        load_network("digit")
    with pytest.raises(FileError, match="there is no file"):
        load_network(tmp_path / "none.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing of the kind")
    with pytest.raises(FileError, match="no network that"):
        load_network(broken)
    save_file({"x": torch.zeros(1)}, broken)
    with pytest.raises(FileError, match="no network that"):
        load_network(broken)
    network = small_network()
    network.weights["fc"] = torch.zeros(4, 5)
    save_network(network, broken)
    with pytest.raises(FileError, match=r"weight of layer fc has shape \(4, 5\), but .* \(48, 5\)"):
        load_network(broken)


@pytest.mark.parametrize(
    ("bias", "words"),
    [
        (torch.zeros(1), r"bias of layer fc has shape \(1,\), but its card says \(5,\)"),
        (torch.zeros(5, dtype=torch.float16), "float16; store it as float32"),
        (torch.full((5,), float("nan")), "NaN or infinite"),
    ],
)
def test_numbers_that_cannot_be_computed_with_are_refused(
    tmp_path: Path, bias: torch.Tensor, words: str
) -> None:
    network, path = small_network(), tmp_path / "odd.safetensors"
    network.biases["fc"] = bias
    save_network(network, path)
    with pytest.raises(FileError, match=words):
        load_network(path)


def test_a_card_whose_layers_do_not_fit_says_which(tmp_path: Path) -> None:
    network, path = small_network(), tmp_path / "odd.safetensors"
    layers = (LAYERS[0], LAYERS[1].model_copy(update={"add_from": "cnv"}))
    card = network.card.model_copy(update={"layers": layers})
    save_network(Network(card, network.weights, network.biases), path)
    with pytest.raises(FileError, match=r"odd\.safetensors: layer fc names 'cnv', which is no"):
        load_network(path)


def test_weights_and_images_of_another_shape_are_refused() -> None:
    network = small_network()
    weights = network.matrices()
    weights["fc"] = np.zeros((5, 48), dtype=np.float32)
    with pytest.raises(ValueError, match=r"fc of small has shape \(48, 5\), not \(5, 48\)"):
        network.with_weights(weights)
    with pytest.raises(ValueError, match=r"takes images of shape \(2, 8, 8\)"):
        logits_of(network, Images(torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64)))


def test_neither_batches_nor_the_order_in_memory_change_what_comes_out() -> None:
    network, images = small_network(), small_images(40)
    wanted = forward(LAYERS, images.pixels.contiguous(), network.weights, network.biases)
    last = Images(images.pixels.contiguous(memory_format=torch.channels_last), images.labels)
    for batch in (7, 40, 1000):
        torch.testing.assert_close(logits_of(network, last, batch=batch), wanted)


@pytest.mark.parametrize(
    "more", [{}, {"weight_noise": 0.1}, {"shift": 1, "mirror": True}], ids=["", "noise", "moved"]
)
def test_training_learns_and_repeats(more: dict[str, Any]) -> None:
    images = small_images(40)
    recipe = Recipe(epochs=30, learning_rate=1e-2, batch=10, **more)
    with repeatable():
        runs = [list(train(LAYERS, images, recipe, seed=5)) for _ in range(2)]
    assert runs[0][-1].loss < 0.7 * runs[0][0].loss
    assert torch.equal(runs[0][-1].weights["conv"], runs[1][-1].weights["conv"])


def test_repeatable_leaves_torch_as_it_was() -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with repeatable():
        assert torch.get_num_threads() == 1
        assert torch.are_deterministic_algorithms_enabled()
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


@pytest.mark.parametrize("name", network_names())
def test_networks_that_come_along_say_what_they_are(name: str) -> None:
    network = load_network(name)
    assert network.card.name == name
    made_by = (
        "rramhil train" if network.is_integer else ("scripts/train_networks.py", "rramhil prune")
    )
    assert network.card.script.startswith(made_by)
    assert network.card.accuracy["teacher_test"] > 0.85
    ideal_loss = network.card.accuracy["teacher_test"] - network.card.accuracy["ideal_mapping_test"]
    deep = len(network.card.layers) > 10  # ten levels cost twenty layers more: docs/networks.md
    assert ideal_loss <= (0.03 if deep else 0.01)


@pytest.mark.parametrize("name", network_names())
def test_a_network_does_what_its_card_says(name: str) -> None:
    network = load_network(name)
    try:
        data = load_data(network.card.data)
    except DataError as error:
        pytest.skip(str(error))
    splits = make_splits(data, network.card.split_seed)
    measured = accuracy_of(network, images_of(data, splits.validation))
    said = network.card.accuracy["teacher_validation"]
    assert measured == pytest.approx(said, abs=1.5 / len(splits.validation))
