"""Training with batch norm: it learns, resumes to the same numbers, and folds exactly."""

import numpy as np
import pytest
import torch

from rramhil.nn.data import DataSet
from rramhil.nn.layers import Layer, forward
from rramhil.nn.repeatable import repeatable
from rramhil.nn.train_normed import NormedRecipe, NormedTraining, _mirrored

CONV = {"kind": "convolution", "kernel": 3, "padding": 1}
LAYERS = (
    Layer(name="stem", inputs=3, outputs=8, **CONV),
    Layer(name="a", inputs=8, outputs=8, **CONV),
    Layer(name="b", inputs=8, outputs=8, add_from="stem", pool=8, pooling="average", **CONV),
    Layer(name="fc", kind="linear", inputs=8, outputs=4, relu=False),
)
RECIPE = NormedRecipe(epochs=4, learning_rate=0.1, batch=16, shift=1)


def coloured(count: int = 80) -> DataSet:
    """Noise whose brightest colour is the class; class 3 is grey."""
    random = np.random.default_rng(0)
    images = random.integers(0, 120, size=(count, 3, 8, 8), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % 4
    for colour in range(3):
        images[labels == colour, colour] += 60
    images.setflags(write=False)
    return DataSet("coloured", images, labels, 255, None)


def trained(epochs: int) -> NormedTraining:
    training, data = NormedTraining(LAYERS, RECIPE, seed=1), coloured()
    for _ in range(epochs):
        training.epoch(data, np.arange(len(data)))
    return training


def test_it_learns_and_folds_into_the_same_function() -> None:
    data = coloured()
    with repeatable():
        training = NormedTraining(LAYERS, RECIPE, seed=1)
        losses = [training.epoch(data, np.arange(len(data))) for _ in range(RECIPE.epochs)]
    assert losses[-1] < 0.7 * losses[0]
    pixels = torch.from_numpy(data.pixels(np.arange(len(data))))
    weights, biases = training.folded()
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == {
        layer.name: (layer.rows, layer.outputs) for layer in LAYERS
    }
    with torch.no_grad():
        expected = training.logits(pixels, training=False)
        logits = forward(LAYERS, pixels, weights, biases)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert float((logits.argmax(1).numpy() == data.labels).mean()) > 0.5


def test_a_resumed_training_repeats_the_whole_one() -> None:
    with repeatable():
        whole = trained(3)
        half = trained(1)
        resumed = NormedTraining(LAYERS, RECIPE, seed=1)
        resumed.restore(half.state())
        data = coloured()
        while resumed.done < 3:
            resumed.epoch(data, np.arange(len(data)))
    for ours, theirs in zip(whole.folded(), resumed.folded(), strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(whole.folded()[0]["a"], half.folded()[0]["a"])


def test_half_of_the_images_are_mirrored_in_even_epochs_the_others_in_odd_ones() -> None:
    even, odd = _mirrored(1000, 0, 0), _mirrored(1000, 0, 1)
    assert (even ^ odd).all()
    assert 400 < int(even.sum()) < 600


@pytest.mark.parametrize(("layers", "seed"), [(LAYERS[:3], 1), (LAYERS, 2)], ids=["layers", "seed"])
def test_the_state_of_another_training_is_refused(layers: tuple[Layer, ...], seed: int) -> None:
    other = NormedTraining(layers, RECIPE, seed)
    with pytest.raises(ValueError, match="belongs to other layers"):
        other.restore(trained(0).state())
