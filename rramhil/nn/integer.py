"""Integer networks: integers go into a product, integers are summed, integers come out.

Weights are small integers, activations unsigned codes 0..h, pixels are quantised. While such a
network is trained (`rramhil.nn.train_integer`), the code of a sum S in output c is

    code = floor(a_c S + (b_c + 1/2)), not below 0 and not above h

with a scale a_c > 0 and a bias b_c of the output, in float32. A network that is exported holds
neither: the code is the number of integers T_c1 <= ... <= T_ch that S reaches. That is the same
number for every S, ties included, because a product and a sum that are rounded are still monotone
in S: so T_ck is the smallest integer whose code is k or more, and bisection finds it with the very
operations of the training. Max pooling commutes with it, being monotone, too. Scale and bias were
folded into thresholds first for binary networks: Y. Umuroglu et al., FINN, FPGA 2017, 4.2.2.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors import safe_open
from torch import Tensor

from rramhil.nn.layers import Layer, for_columns
from rramhil.schema import FileError

EXACT = 2**24
"""Sums of integers below this are exact in float32, whatever their order."""


def is_integer(layers: tuple[Layer, ...]) -> bool:
    """Whether these are the layers of an integer network."""
    return bool(layers) and layers[0].input_codes is not None


def raw_codes(layer: Layer, sums: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """`a S + (b + 1/2)`: the code before it is cut; differentiable. `scale`, `bias`: (outputs,)."""
    return sums * for_columns(layer, scale) + for_columns(layer, bias + 0.5)


def cut(raw: Tensor, highest: int) -> Tensor:
    """`raw` (see `raw_codes`) as codes 0..`highest`, float32."""
    return raw.detach().floor().clamp(0, highest)


def folded(
    layer: Layer, scale: Tensor, bias: Tensor, largest_sum: int
) -> tuple[tuple[int, ...], ...]:
    """Thresholds of each output, (outputs, codes), for sums of -`largest_sum`..`largest_sum`.

    A code that no such sum reaches has the threshold `largest_sum` + 1, one that all reach
    -`largest_sum`. Raises ValueError for a scale that is not above 0 or a number that is not
    finite.
    """
    if layer.codes is None:
        raise ValueError(f"layer {layer.name} makes no codes, so it has no thresholds")
    if not (bool((scale > 0).all()) and bool(torch.isfinite(torch.stack([scale, bias])).all())):
        raise ValueError(f"layer {layer.name} has a scale that is not above 0, or no finite number")
    wanted = torch.arange(1, layer.codes + 1)
    flat = layer.model_copy(update={"kind": "linear"})
    low = torch.full((layer.codes, layer.outputs), -largest_sum)
    high = torch.full_like(low, largest_sum + 1)
    while bool((low < high).any()):
        middle = torch.div(low + high, 2, rounding_mode="floor")
        reached = cut(raw_codes(flat, middle.float(), scale, bias), layer.codes) >= wanted[:, None]
        high = torch.where(reached, middle, high)
        low = torch.where(reached | (low >= high), low, middle + 1)
    return tuple(map(tuple, high.T.tolist()))


def check_exact(layer: Layer, largest_weight: int) -> int:
    """The largest sum of a layer. Raises ValueError where float32 would round it."""
    largest = layer.rows * largest_weight * (layer.input_codes or 0)
    if largest >= EXACT:
        raise ValueError(
            f"the sums of layer {layer.name} may reach {largest:,}, and float32 is exact below "
            f"{EXACT:,}; take fewer bits for weights or activations"
        )
    return largest


def packed(
    layers: tuple[Layer, ...], weights: Mapping[str, Tensor], biases: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What the file of an integer network holds: int8 weights, int32 thresholds, int32 bias.

    Raises ValueError for numbers that are no such integers.
    """
    tensors = {}
    for layer in layers:
        name = layer.name
        tensors[f"{name}.weight"] = _integers(weights[name], torch.int8, f"weights of {name}")
        bias = _integers(biases[name], torch.int32, f"biases of {name}")
        if layer.codes is None:
            tensors[f"{name}.bias"] = bias
            continue
        own = torch.tensor(layer.thresholds, dtype=torch.int32)
        tensors[f"{name}.thresholds"] = own - bias[:, None]
    return tensors


def _integers(values: Tensor, kind: torch.dtype, what: str) -> Tensor:
    limits = torch.iinfo(kind)
    inside = bool(((values >= limits.min) & (values <= limits.max)).all())
    if not inside or not torch.equal(values, values.round()):
        raise ValueError(f"the {what} are no integers of {limits.bits} bits; train an integer net")
    return values.to(kind).contiguous()


def unpacked(
    stored: safe_open, layers: tuple[Layer, ...], source: str
) -> tuple[tuple[Layer, ...], dict[str, Tensor], dict[str, Tensor]]:
    """Layers with their thresholds, float32 weights and biases, from an open file.

    Raises `FileError` for a tensor of another shape or type, or thresholds that do not rise.
    """
    weights, biases, complete = {}, {}, []
    for layer in layers:
        name = layer.name
        shape = (layer.rows, layer.outputs)
        weights[name] = _checked(stored, f"{name}.weight", torch.int8, shape, source).float()
        if layer.codes is None:
            bias = _checked(stored, f"{name}.bias", torch.int32, shape[1:], source)
            biases[name] = bias.float()
            complete.append(layer)
            continue
        biases[name] = torch.zeros(layer.outputs)
        of = (layer.outputs, layer.codes)
        edges = _checked(stored, f"{name}.thresholds", torch.int32, of, source)
        if bool((edges[:, 1:] < edges[:, :-1]).any()):
            raise FileError(f"{source}: the thresholds of layer {name} fall; train it again")
        rising = tuple(map(tuple, edges.tolist()))
        complete.append(layer.model_copy(update={"thresholds": rising}))
    return tuple(complete), weights, biases


def _checked(
    stored: safe_open, key: str, kind: torch.dtype, shape: tuple[int, ...], source: str
) -> Tensor:
    tensor: Tensor = stored.get_tensor(key)  # type: ignore[no-untyped-call]
    if tuple(tensor.shape) != shape or tensor.dtype != kind:
        raise FileError(
            f"{source}: {key} is {tensor.dtype} of shape {tuple(tensor.shape)}, but its card says "
            f"{kind} of shape {shape}"
        )
    return tensor
