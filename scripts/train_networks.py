"""Train a network of fixtures/networks, by its name.

    python scripts/train_networks.py digits
    python scripts/train_networks.py lenet5-mnist --data FOLDER
    python scripts/train_networks.py resnet20-cifar --data FOLDER --checkpoint FILE

Seeded and on one thread: the same versions write the same file. With a checkpoint a training of
many epochs goes on where it was stopped. With --harden SIGMA the stored network is trained on
against multiplicative write errors, and written as NAME-hardened.
"""

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from rramhil.mapping import TwoColumn, map_network
from rramhil.nn.data import DataSet, load_data
from rramhil.nn.hardened import Hardening, harden
from rramhil.nn.judged import LEVELS, judged, roomy_die
from rramhil.nn.layers import Layer
from rramhil.nn.network import (
    Card,
    Matrices,
    Network,
    accuracy_of,
    images_of,
    load_network,
    save_network,
)
from rramhil.nn.repeatable import repeatable
from rramhil.nn.shapes import DIGITS, LENET5
from rramhil.nn.splits import Splits, make_splits
from rramhil.nn.train import Recipe, train
from rramhil.nn.train_normed import NormedRecipe, NormedTraining
from rramhil.nn.written import WriteErrors, WrittenNetwork

FOLDER = Path(__file__).parent.parent / "fixtures" / "networks"
SEED = 0


def resnet20() -> tuple[Layer, ...]:
    """ResNet-20 for 32 x 32 pixels, shortcuts without weights (K. He et al., CVPR 2016, 4.2)."""
    same = {"kind": "convolution", "kernel": 3, "padding": 1}
    layers = [Layer(name="stem", inputs=3, outputs=16, **same)]
    for stage, width in enumerate((16, 32, 64), 1):
        for block in (1, 2, 3):
            before = layers[-1]
            stride = 2 if stage > 1 and block == 1 else 1
            name = f"s{stage}b{block}"
            layers += [
                Layer(name=f"{name}a", inputs=before.outputs, outputs=width, stride=stride, **same),
                Layer(name=f"{name}b", inputs=width, outputs=width, add_from=before.name, **same),
            ]
    layers[-1] = layers[-1].model_copy(update={"pool": 8, "pooling": "average"})
    return (*layers, Layer(name="fc", kind="linear", inputs=64, outputs=10, relu=False))


@dataclass(frozen=True)
class Plan:
    """Data, layers and recipe of a network; `scale`: of the mapping that its card measures.

    Norms leave columns of very different size behind, so those networks want a scale for each.
    """

    data: str
    layers: tuple[Layer, ...]
    recipe: Recipe | NormedRecipe
    scale: Literal["layer", "column"] = "layer"


PLANS = {
    "digits": Plan("digits", DIGITS, Recipe(epochs=60, learning_rate=3e-3, batch=50)),
    "digits-ternary": Plan(
        "digits",
        DIGITS,
        Recipe(60, 3e-3, batch=50, weight_noise=0.1, ternary=True),
        "column",
    ),
    "lenet5-mnist": Plan("mnist", LENET5, Recipe(epochs=6, learning_rate=3e-3, batch=128)),
    "lenet5-fashion": Plan(
        "fashion-mnist",
        LENET5,
        Recipe(20, 3e-3, 128, weight_decay=0.1, weight_noise=0.02, shift=1, mirror=True),
    ),
    "resnet20-cifar": Plan(
        "cifar-10", resnet20(), NormedRecipe(40, learning_rate=0.4, batch=256), "column"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=PLANS)
    parser.add_argument("--data", type=Path, help="folder with mnist/, fashion-mnist/, cifar-10/")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where to write it")
    parser.add_argument(
        "--harden", type=float, metavar="SIGMA", help="train the stored network on against errors"
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="file to stop and resume with (resnet20-cifar)",
    )
    chosen = parser.parse_args()
    plan = PLANS[chosen.network]
    layers, recipe = plan.layers, plan.recipe
    data = load_data(plan.data, chosen.data)
    splits = make_splits(data, SEED)
    if chosen.harden is not None:
        network = hardened(load_network(chosen.network), data, splits, plan.scale, chosen.harden)
        write(network, data, plan.scale, chosen.out)
        return
    card = Card(
        name=chosen.network,
        data=plan.data,
        image_shape=tuple(data.images.shape[1:]),
        layers=layers,
        script=f"scripts/train_networks.py {chosen.network}",
        recipe=", ".join(f"{key} {value:g}" for key, value in asdict(recipe).items()),
        seed=SEED,
        split_seed=SEED,
        accuracy={},
    )
    if isinstance(recipe, NormedRecipe):
        weights, biases = normed(card, recipe, data, splits, chosen.checkpoint)
    else:
        weights, biases = plain(layers, recipe, data, splits)
    write(Network(card, weights, biases), data, plan.scale, chosen.out)


def write(network: Network, data: DataSet, scale: str, folder: Path) -> None:
    """Measure `network` and write it into `folder` under its name."""
    accuracy = judged(network, data, make_splits(data, SEED), scale)
    card = network.card.model_copy(update={"accuracy": accuracy})
    path = folder / f"{card.name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_network(Network(card, network.weights, network.biases), path)
    print(path, accuracy, load_network(path).sha256, f"{time.process_time():.0f} CPU s")


def hardened(teacher: Network, data: DataSet, splits: Splits, scale: str, sigma: float) -> Network:
    """`teacher` trained on against multiplicative write errors, two columns and ten levels."""
    per_column = scale == "column"
    mapped = map_network(
        teacher.matrices(), roomy_die(), LEVELS, TwoColumn(), scale_per_column=per_column
    )
    errors = WriteErrors(LEVELS.siemens, LEVELS.siemens, sigma * LEVELS.siemens)
    written = WrittenNetwork(mapped, errors, np.full(mapped.cells.size, np.nan))
    hardening = Hardening(seed=SEED)
    for epoch in harden(teacher, written, images_of(data, splits.train), hardening):
        print(f"epoch {epoch.epoch}: loss {epoch.loss:.4f}", flush=True)
    card = teacher.card.model_copy(
        update={
            "name": f"{teacher.card.name}-hardened",
            "script": f"{teacher.card.script} --harden {sigma:g}",
            "recipe": f"{teacher.card.recipe}; hardened: {hardening.epochs} epochs, "
            f"learning_rate {hardening.learning_rate:g}, sigma {sigma:g}",
        }
    )
    return Network(card, epoch.network.weights, epoch.network.biases)


def plain(
    layers: tuple[Layer, ...], recipe: Recipe, data: DataSet, splits: Splits
) -> tuple[Matrices, Matrices]:
    """Weights and biases after all epochs."""
    for epoch in train(layers, images_of(data, splits.train), recipe, SEED):
        print(f"loss {epoch.loss:.4f}", flush=True)
    return epoch.weights, epoch.biases


def normed(
    card: Card, recipe: NormedRecipe, data: DataSet, splits: Splits, checkpoint: Path | None
) -> tuple[Matrices, Matrices]:
    """Weights and biases after all epochs, norms folded; goes on from `checkpoint` if there is."""
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    training = NormedTraining(card.layers, recipe, SEED)
    if checkpoint is not None and checkpoint.exists():
        training.restore(torch.load(checkpoint, weights_only=True))
    validation = images_of(data, splits.validation)
    while training.done < recipe.epochs:
        start, used = time.perf_counter(), time.process_time()
        loss = training.epoch(data, splits.train)
        wall, cpu = time.perf_counter() - start, time.process_time() - used
        if checkpoint is not None:
            partial = checkpoint.with_suffix(".partial")
            torch.save(training.state(), partial)
            partial.replace(checkpoint)
        share = accuracy_of(Network(card, *training.folded()), validation)
        print(
            f"epoch {training.done}: loss {loss:.4f}, validation {share:.4f}, "
            f"{wall:.0f} s, {cpu:.0f} CPU s",
            flush=True,
        )
    return training.folded()


if __name__ == "__main__":
    with repeatable():
        main()
