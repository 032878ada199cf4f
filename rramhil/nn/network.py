"""Trained networks as data: a card with its layers, and matrices that anybody may replace.

What a layer is, and the walk over layers, is in `rramhil.nn.layers`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rramhil.nn.data import DataSet
from rramhil.nn.integer import is_integer, packed, unpacked
from rramhil.nn.layers import Layer, Product, by_weights, check_codes, last_of, shapes, walk
from rramhil.schema import FileError, Strict, check
from rramhil.words import nearest

Matrices = dict[str, Tensor]
BATCH = 100
"""Images at a time where only time depends on it: activations of more leave the cache."""


class Card(Strict):
    """What a network is and where it comes from; stored in the header of its file.

    `split_seed`: the seed of the splits it was trained with, which any use of its test images
    must keep. `accuracy`: fractions on named sets, as its training script measured them.
    `full_scale`: the pixel code that is 1, for who reads an integer network by integers alone.
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
    full_scale: int | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        shapes(self.layers, self.image_shape)
        if self.layers:
            check_codes(self.layers)
        return self


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network: float32 matrices (rows, columns) and biases (columns,) by layer.

    Those of an integer network are integers; its thresholds are in the layers of its card.
    """

    card: Card
    weights: Matrices
    biases: Matrices
    sha256: str = ""

    @property
    def is_integer(self) -> bool:
        """Whether it takes, sums and hands on integers alone (`rramhil.nn.integer`)."""
        return is_integer(self.card.layers)

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
    """`pixels`: float32 (n, channels, height, width) in 0..1; `labels`: int64 (n,).

    `images_of` lays them channels last in memory, with which convolutions take a third less time.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return int(self.labels.numel())

    def batches(self, size: int) -> Iterator[Images]:
        """All images in order, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield Images(self.pixels[start : start + size], self.labels[start : start + size])


def images_of(data: DataSet, indices: ArrayLike) -> Images:
    """The images of `data` at `indices` as tensors."""
    chosen = np.asarray(indices, dtype=np.int64)
    pixels = torch.from_numpy(data.pixels(chosen)).contiguous(memory_format=torch.channels_last)
    return Images(pixels, torch.from_numpy(data.labels[chosen]))


def logits_of(
    network: Network,
    images: Images,
    weights: Mapping[str, Tensor] | None = None,
    biases: Mapping[str, Tensor] | None = None,
    batch: int = BATCH,
) -> Tensor:
    """Logits (n, classes) without gradients; `weights` and `biases` replace the network's own.

    Raises ValueError when the images do not have the shape that the network takes.
    """
    own = network.weights if weights is None else weights
    return logits_by(
        network, images, by_weights(own, network.biases if biases is None else biases), batch
    )


def logits_by(network: Network, images: Images, product: Product, batch: int = 1000) -> Tensor:
    """Logits (n, classes) without gradients, each layer by `product`; raises as `logits_of`."""
    check_images(network, images)
    layers = network.card.layers
    with torch.no_grad():
        parts = [last_of(walk(layers, part.pixels, product)) for part in images.batches(batch)]
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
    return _share_right(logits_of(network, images, weights, biases), images)


def accuracy_by(network: Network, images: Images, product: Product) -> float:
    """Fraction of `images` classified as labelled, each layer by `product`."""
    return _share_right(logits_by(network, images, product), images)


def _share_right(logits: Tensor, images: Images) -> float:
    return float((logits.argmax(1) == images.labels).sum()) / len(images)


def save_network(network: Network, path: Path) -> None:
    """Write a .safetensors file: matrices, biases, and the card as JSON in its header.

    An integer network is written as integers; raises ValueError where it has other numbers.
    """
    if network.is_integer:
        tensors = packed(network.card.layers, network.weights, network.biases)
    else:
        tensors = {f"{n}.weight": weight.contiguous() for n, weight in network.weights.items()}
        tensors |= {f"{n}.bias": bias.contiguous() for n, bias in network.biases.items()}
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
            card = check(json.loads((stored.metadata() or {})["card"]), Card, str(path))
            if is_integer(card.layers):
                layers, weights, biases = unpacked(stored, card.layers, str(path))
                return Network(card.model_copy(update={"layers": layers}), weights, biases, digest)
            names = [layer.name for layer in card.layers]
            weights = {name: stored.get_tensor(f"{name}.weight") for name in names}
            biases = {name: stored.get_tensor(f"{name}.bias") for name in names}
    except FileNotFoundError:
        raise FileError(f"there is no file {path}") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error}") from None
    except (SafetensorError, json.JSONDecodeError, KeyError):
        raise FileError(
            f"{path} is no network that scripts/train_networks.py or save_network wrote"
        ) from None
    for layer in card.layers:
        where, shape = f"of layer {layer.name}", (layer.rows, layer.outputs)
        _check_tensor(weights[layer.name], shape, f"{path}: the weight {where}")
        _check_tensor(biases[layer.name], (layer.outputs,), f"{path}: the bias {where}")
    return Network(card, weights, biases, digest)


def _check_tensor(tensor: Tensor, shape: tuple[int, ...], what: str) -> None:
    if tuple(tensor.shape) != shape:
        raise FileError(f"{what} has shape {tuple(tensor.shape)}, but its card says {shape}")
    if tensor.dtype != torch.float32:
        raise FileError(f"{what} is {tensor.dtype}; store it as float32")
    if not bool(torch.isfinite(tensor).all()):
        raise FileError(f"{what} holds NaN or infinite numbers; train the network again")
