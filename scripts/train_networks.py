"""Train a network of fixtures/networks: digits, lenet5-mnist or lenet5-fashion.

    python scripts/train_networks.py digits
    python scripts/train_networks.py lenet5-mnist --data FOLDER

Seeded and on one thread: the same versions write the same file.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from rramhil.device import ReadLimits, Spec
from rramhil.mapping import Levels, TwoColumn, map_network
from rramhil.nn.data import DataSet, load_data
from rramhil.nn.network import (
    Card,
    Layer,
    Network,
    accuracy_of,
    images_of,
    load_network,
    save_network,
)
from rramhil.nn.repeatable import repeatable
from rramhil.nn.splits import Splits, make_splits
from rramhil.nn.train import Recipe, train

FOLDER = Path(__file__).parent.parent / "fixtures" / "networks"
SEED = 0
LEVELS = Levels(count=10, lowest=1e-6, highest=40e-6, tolerance=1e-6)

DIGITS = (
    Layer(name="fc1", kind="linear", inputs=64, outputs=128),
    Layer(name="fc2", kind="linear", inputs=128, outputs=64),
    Layer(name="fc3", kind="linear", inputs=64, outputs=10, relu=False),
)
LENET5 = (
    Layer(name="conv1", kind="convolution", inputs=1, outputs=6, kernel=5, padding=2, pool=2),
    Layer(name="conv2", kind="convolution", inputs=6, outputs=16, kernel=5, pool=2),
    Layer(name="fc1", kind="linear", inputs=400, outputs=120),
    Layer(name="fc2", kind="linear", inputs=120, outputs=84),
    Layer(name="fc3", kind="linear", inputs=84, outputs=10, relu=False),
)
LENET5_RECIPE = Recipe(epochs=6, learning_rate=3e-3, batch=128)
NETWORKS = {
    "digits": ("digits", DIGITS, Recipe(epochs=60, learning_rate=3e-3, batch=50)),
    "lenet5-mnist": ("mnist", LENET5, LENET5_RECIPE),
    "lenet5-fashion": ("fashion-mnist", LENET5, LENET5_RECIPE),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--data", type=Path, help="folder with mnist/ and fashion-mnist/")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where to write it")
    chosen = parser.parse_args()
    data_name, layers, recipe = NETWORKS[chosen.network]
    data = load_data(data_name, chosen.data)
    splits = make_splits(data, SEED)
    images = images_of(data, splits.train)
    for epoch in train(layers, images, recipe, SEED):
        print(f"loss {epoch.loss:.4f}", flush=True)
    card = Card(
        name=chosen.network,
        data=data_name,
        image_shape=tuple(data.images.shape[1:]),
        layers=layers,
        script=f"scripts/train_networks.py {chosen.network}",
        recipe=", ".join(f"{key} {value:g}" for key, value in asdict(recipe).items()),
        seed=SEED,
        split_seed=SEED,
        accuracy={},
    )
    network = Network(card, epoch.weights, epoch.biases)
    accuracy = measure(network, data, splits)
    measured = card.model_copy(update={"accuracy": accuracy})
    path = chosen.out / f"{chosen.network}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_network(Network(measured, epoch.weights, epoch.biases), path)
    print(path, accuracy, load_network(path).sha256)


def measure(network: Network, data: DataSet, splits: Splits) -> dict[str, float]:
    """Teacher and ideal mapping (two columns, ten levels) on validation and on test."""
    mapped = map_network(network.matrices(), die(), LEVELS, TwoColumn())
    ideal = network.with_weights(mapped.ideal_weights())
    sets = {"validation": splits.validation, "test": splits.test}
    accuracy = {}
    for name, indices in sets.items():
        images = images_of(data, indices)
        accuracy[f"teacher_{name}"] = round(accuracy_of(network, images), 6)
        accuracy[f"ideal_mapping_{name}"] = round(accuracy_of(network, images, ideal), 6)
    return accuracy


def die() -> Spec:
    """A die with room enough: only its size matters here."""
    reading = ReadLimits(lowest=0.0, highest=100e-6, lsb=1e-9, volts=0.2, seconds=1e-6)
    return Spec("any", "any", 64, 256, 256, reading, pulses={})


if __name__ == "__main__":
    with repeatable():
        main()
