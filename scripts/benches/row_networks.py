"""Networks for the benches of rows: LeNet-5 of 1-bit weights and 2-bit activations on MNIST.

    scripts/bench rename --keep FOLDER

They are trained here, one a seed, and kept as files in the folder, where a later run finds them.
What the last layer is fed is all that these benches need of the images.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NETWORKS, EPOCHS = 3, 7
SETS = ("calibration", "validation", "test")


@dataclass(frozen=True, eq=False)
class LastLayer:
    """The last layer of a network: `weights` (rows, classes), integer `bias`, and by set of images
    its input codes (images, rows) and the labels."""

    weights: NDArray[Any]
    bias: NDArray[Any]
    codes: dict[str, NDArray[Any]]
    labels: dict[str, NDArray[Any]]

    def accuracy(self, of: str, weights: NDArray[Any], bias: NDArray[Any]) -> float:
        """Percent of a set that is right with other weights and bias."""
        answers = (self.codes[of] @ weights + bias).argmax(1)
        return 100 * float((answers == self.labels[of]).mean())


def last_layer(seed: int, quick: bool, keep: Path | None, merged: int | None = None) -> LastLayer:
    """That of the network of `seed`; of the shipped one for the digits when `quick`.

    With `merged` of a network whose last rows were merged to so many half-way through its training.
    """
    import torch

    from rramhil.nn.data import load_data
    from rramhil.nn.layers import by_weights, walk
    from rramhil.nn.network import images_of, load_network
    from rramhil.nn.splits import make_splits

    torch.set_num_threads(1)
    network = load_network("digits-1b2b") if quick else _trained(seed, keep, merged)
    data, layers = load_data(network.card.data), network.card.layers
    splits = make_splits(data, network.card.split_seed)
    codes, labels = {}, {}
    for name in SETS:
        images = images_of(data, getattr(splits, name))
        parts = []
        with torch.no_grad():
            for part in images.batches(500):
                *_, step = walk(layers, part.pixels, by_weights(network.weights, network.biases))
                parts.append(step.inputs.flatten(1))
        codes[name] = torch.cat(parts).numpy().astype(np.int64)
        labels[name] = images.labels.numpy()
    own = layers[-1].name
    return LastLayer(network.weights[own].numpy(), network.biases[own].numpy(), codes, labels)


def _trained(seed: int, keep: Path | None, merged: int | None) -> Any:
    from rramhil.nn.data import load_data
    from rramhil.nn.network import images_of, load_network, save_network
    from rramhil.nn.splits import make_splits
    from rramhil.nn.train_integer import IntegerSettings, IntegerTraining, card_of

    folder = keep or Path(tempfile.gettempdir()) / "rramhil-row-networks"
    folder.mkdir(parents=True, exist_ok=True)
    rename = {} if merged is None else {"fc3": merged}
    path = folder / f"lenet5-{'1b2b' if merged is None else merged}-{seed}.safetensors"
    if not path.exists():
        settings = IntegerSettings(epochs=EPOCHS, seed=seed, rename=rename)
        data = load_data(settings.data)
        splits = make_splits(data, settings.split_seed)
        training = IntegerTraining(settings, card_of(settings, data, path.stem))
        for _ in training.run(images_of(data, splits.train), images_of(data, splits.validation)):
            pass
        training.choose_best()
        save_network(training.exported(), path)
    return load_network(str(path))
