"""Networks as data: a list of layers, and matrices that anybody may replace.

Every layer is a product of unrolled inputs with a matrix (rows = inputs, columns = outputs),
because that is what an array computes: a convolution of k x k over c channels has c x k x k
rows, in the order of `torch.nn.functional.unfold`. Biases, activations and pooling are
digital. Pixels are 0..1 and activations are not negative, so inputs are unsigned throughout.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from rramhil.nn.data import DataSet
from rramhil.schema import FileError, Strict
from rramhil.words import nearest

Matrices = dict[str, Tensor]


class Layer(Strict):
    """A product, then a bias, then ReLU and max-pooling over `pool` x `pool` where wanted.

    `inputs` and `outputs` are features of a linear layer, channels of a convolution.
    """

    name: str
    kind: Literal["linear", "convolution"]
    inputs: int = Field(gt=0)
    outputs: int = Field(gt=0)
    kernel: int = Field(default=1, gt=0)
    padding: int = Field(default=0, ge=0)
    relu: bool = True
    pool: int = Field(default=1, gt=0)

    @property
    def rows(self) -> int:
        """Rows of the matrix: inputs x kernel x kernel."""
        return self.inputs * self.kernel**2


class Card(Strict):
    """What a network is and where it comes from; stored in the header of its file.

    `split_seed`: the seed of the splits it was trained with, which any use of its test images
    must keep. `accuracy`: fractions on named sets, as its training script measured them.
    """

    name: str
    data: str
    image_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    script: str
    recipe: str
    seed: int
    split_seed: int
    accuracy: dict[str, float]


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network: float32 matrices (rows, columns) and biases (columns,) by layer."""

    card: Card
    weights: Matrices
    biases: Matrices
    sha256: str = ""

    def matrices(self) -> dict[str, NDArray[np.float32]]:
        """Weights as numpy arrays (rows, columns), in layer order: what a mapping takes."""
        return {name: weight.numpy() for name, weight in self.weights.items()}

    def with_weights(self, weights: Mapping[str, ArrayLike]) -> Matrices:
        """`weights` as float32 tensors in layer order. Raises ValueError on another shape."""
        replaced = {}
        for name, own in self.weights.items():
            given = torch.as_tensor(np.asarray(weights[name], dtype=np.float32))
            if given.shape != own.shape:
                raise ValueError(
                    f"layer {name} of {self.card.name} has shape {tuple(own.shape)}, "
                    f"not {tuple(given.shape)}"
                )
            replaced[name] = given
        return replaced


@dataclass(frozen=True, eq=False, slots=True)
class Images:
    """`pixels`: float32 (n, channels, height, width) in 0..1; `labels`: int64 (n,)."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return int(self.labels.numel())


def images_of(data: DataSet, indices: ArrayLike) -> Images:
    """The images of `data` at `indices` as tensors."""
    chosen = np.asarray(indices, dtype=np.int64)
    return Images(torch.from_numpy(data.pixels(chosen)), torch.from_numpy(data.labels[chosen]))


Product = Callable[[Layer, Tensor], Tensor]
"""(layer, its inputs (n, features) or (n, channels, height, width)) -> its outputs, biased, before
the activation: whoever computes them, torch from weights or an array."""


def walk(
    layers: tuple[Layer, ...], pixels: Tensor
) -> Generator[tuple[Layer, Tensor], Tensor, Tensor]:
    """Yields each layer with its inputs, is sent its outputs (`Product`), returns the logits."""
    values = pixels
    for layer in layers:
        values = yield layer, values.flatten(1) if layer.kind == "linear" else values
        values = functional.relu(values) if layer.relu else values
        values = functional.max_pool2d(values, layer.pool) if layer.pool > 1 else values
    return values


def compute(layers: tuple[Layer, ...], pixels: Tensor, product: Product) -> Tensor:
    """Logits (n, classes) of `pixels` (n, channels, height, width), each layer by `product`."""
    steps = walk(layers, pixels)
    layer, values = next(steps)
    while True:
        try:
            layer, values = steps.send(product(layer, values))
        except StopIteration as end:
            return cast("Tensor", end.value)


def product_of(weights: Mapping[str, Tensor], biases: Mapping[str, Tensor]) -> Product:
    """The product with matrices (rows, columns) and biases (columns,); differentiable in all."""

    def product(layer: Layer, values: Tensor) -> Tensor:
        weight, bias = weights[layer.name], biases[layer.name]
        if layer.kind == "linear":
            return values @ weight + bias
        kernel = weight.T.reshape(layer.outputs, layer.inputs, layer.kernel, layer.kernel)
        return functional.conv2d(values, kernel, bias, padding=layer.padding)

    return product


def forward(
    layers: tuple[Layer, ...],
    pixels: Tensor,
    weights: Mapping[str, Tensor],
    biases: Mapping[str, Tensor],
) -> Tensor:
    """Logits (n, classes) of `pixels` (n, channels, height, width); differentiable in all."""
    return compute(layers, pixels, product_of(weights, biases))


def unrolled(layer: Layer, values: Tensor, chosen: Tensor | None = None) -> Tensor:
    """The inputs of a layer as vectors of its rows, (products, rows); of all products, or `chosen`.

    A linear layer has one product an image, a convolution one for each image and position.
    """
    if layer.kind == "linear":
        return values if chosen is None else values[chosen]
    edge, k = layer.padding, layer.kernel
    padded = functional.pad(values, (edge, edge, edge, edge))
    windows = padded.unfold(2, k, 1).unfold(3, k, 1).permute(0, 2, 3, 1, 4, 5)
    if chosen is None:
        return windows.reshape(-1, layer.rows)
    height, width = windows.shape[1:3]
    image, place = chosen // (height * width), chosen % (height * width)
    return windows[image, place // width, place % width].reshape(-1, layer.rows)


def as_vectors(layer: Layer, outputs: Tensor) -> Tensor:
    """Outputs of a layer, one row a product, in the order of `unrolled`: (products, columns)."""
    return outputs if layer.kind == "linear" else outputs.flatten(2).transpose(1, 2).flatten(0, 1)


def logits_of(
    network: Network,
    images: Images,
    weights: Mapping[str, Tensor] | None = None,
    biases: Mapping[str, Tensor] | None = None,
    batch: int = 1000,
) -> Tensor:
    """Logits (n, classes) without gradients; `weights` and `biases` replace the network's own.

    Raises ValueError when the images do not have the shape that the network takes.
    """
    own = network.weights if weights is None else weights
    return logits_by(
        network, images, product_of(own, network.biases if biases is None else biases), batch
    )


def logits_by(network: Network, images: Images, product: Product, batch: int = 1000) -> Tensor:
    """Logits (n, classes) without gradients, each layer by `product`; raises as `logits_of`."""
    check_images(network, images)
    with torch.no_grad():
        parts = [
            compute(network.card.layers, images.pixels[start : start + batch], product)
            for start in range(0, len(images), batch)
        ]
    return torch.cat(parts)


def check_images(network: Network, images: Images) -> None:
    """Raises ValueError when `images` do not have the shape that the network takes."""
    if tuple(images.pixels.shape[1:]) != network.card.image_shape:
        raise ValueError(
            f"{network.card.name} takes images of shape {network.card.image_shape}, not "
            f"{tuple(images.pixels.shape[1:])}; use it with the data set {network.card.data}"
        )


def accuracy_of(
    network: Network,
    images: Images,
    weights: Mapping[str, Tensor] | None = None,
    biases: Mapping[str, Tensor] | None = None,
) -> float:
    """Fraction of `images` classified as labelled (see `logits_of`)."""
    hits = logits_of(network, images, weights, biases).argmax(1) == images.labels
    return float(hits.sum()) / len(images)


def save_network(network: Network, path: Path) -> None:
    """Write a .safetensors file: matrices, biases, and the card as JSON in its header."""
    tensors = {f"{name}.weight": weight.contiguous() for name, weight in network.weights.items()}
    tensors |= {f"{name}.bias": bias.contiguous() for name, bias in network.biases.items()}
    card = json.dumps(network.card.model_dump(mode="json"), sort_keys=True)
    path.write_bytes(save(tensors, metadata={"card": card}))


def network_names() -> list[str]:
    """Names of the trained networks that come with the package."""
    folder = files("rramhil_fixtures") / "networks"
    names = (Path(entry.name) for entry in folder.iterdir())
    return sorted(name.stem for name in names if name.suffix == ".safetensors")


def load_network(name: str | Path) -> Network:
    """A network that comes with the package by name, or any .safetensors file by path.

    Raises `FileError` in one sentence when there is none, or it is no network of ours.
    """
    if str(name).endswith(".safetensors"):
        return _load(Path(name))
    if str(name) not in network_names():
        raise FileError(
            f"there is no network {str(name)!r}{nearest(str(name), network_names())}; a file of "
            "your own is named with its .safetensors"
        )
    with as_file(files("rramhil_fixtures") / "networks" / f"{name}.safetensors") as path:
        return _load(path)


def _load(path: Path) -> Network:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with safe_open(path, framework="pt") as stored:
            card = Card.model_validate_json((stored.metadata() or {})["card"])
            names = [layer.name for layer in card.layers]
            weights = {name: stored.get_tensor(f"{name}.weight") for name in names}
            biases = {name: stored.get_tensor(f"{name}.bias") for name in names}
    except FileNotFoundError:
        raise FileError(f"there is no file {path}") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error}") from None
    except (SafetensorError, ValidationError, KeyError):
        raise FileError(
            f"{path} is no network that scripts/train_networks.py or save_network wrote"
        ) from None
    for layer in card.layers:
        if tuple(weights[layer.name].shape) != (layer.rows, layer.outputs):
            raise FileError(
                f"{path}: layer {layer.name} is {tuple(weights[layer.name].shape)}, but its card "
                f"says ({layer.rows}, {layer.outputs})"
            )
    return Network(card, weights, biases, digest)
