"""A network computed by the array: exact where the array is, and cured by trimming its columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from written import LEVELS, conducting

from rramhil.address import open_device
from rramhil.device import Ints, ReadLimits, Spec
from rramhil.mapping import SCHEMES, MappedLayer, find_scheme, map_network
from rramhil.mapping.place import block_cells
from rramhil.nn.data import load_data
from rramhil.nn.in_situ import (
    activation_ranges,
    extra_shots,
    logits_in_situ,
    physical_sums,
    weighted,
    whole_tile,
)
from rramhil.nn.layers import Layer
from rramhil.nn.network import Images, Network, images_of, load_network, logits_of
from rramhil.nn.splits import make_splits
from rramhil.trim import TrimSettings, read_tile, trim_tile


def digits() -> tuple[Network, Images, Images]:
    network = load_network("digits")
    data = load_data("digits")
    splits = make_splits(data, network.card.split_seed)
    return network, images_of(data, splits.calibration), images_of(data, splits.test)


PLAIN = (
    Layer(name="a", kind="convolution", inputs=1, outputs=3, kernel=3, padding=1, pool=2),
    Layer(name="b", kind="convolution", inputs=3, outputs=4, kernel=3, pool=2),
    Layer(name="c", kind="linear", inputs=16, outputs=5, relu=False),
)
RESIDUAL = (
    Layer(name="a", kind="convolution", inputs=1, outputs=3, kernel=3, padding=1),
    Layer(name="s", kind="convolution", inputs=3, outputs=4, stride=2, relu=False),
    Layer(name="b", kind="convolution", inputs=3, outputs=4, kernel=3, padding=1, stride=2,
          input_from="a", add_from="s"),
    Layer(name="d", kind="convolution", inputs=4, outputs=6, kernel=3, padding=1, stride=2,
          add_from="b", pool=3, pooling="average"),
    Layer(name="c", kind="linear", inputs=6, outputs=5, relu=False),
)  # fmt: skip


@pytest.mark.parametrize("scheme", ["two_column", "one_column"])
@pytest.mark.parametrize("layers", [PLAIN, RESIDUAL], ids=["plain", "residual"])
def test_an_exact_array_gives_the_logits_of_the_mapped_weights(
    scheme: str, layers: tuple[Layer, ...]
) -> None:
    """Also through convolutions with pooling, strides and additions, against torch."""
    generator = torch.Generator().manual_seed(1)
    card = load_network("digits").card.model_copy(
        update={"image_shape": (1, 12, 12), "layers": layers}
    )
    weights = {x.name: torch.randn((x.rows, x.outputs), generator=generator) * 0.3 for x in layers}
    biases = {x.name: torch.randn(x.outputs, generator=generator) * 0.1 for x in layers}
    network = Network(card, weights, biases)
    spec = open_device("emulator:wide?tiles=1").spec
    assert spec.mvm is not None
    mapped = map_network(network.matrices(), spec, LEVELS, find_scheme(scheme))
    tile = np.zeros(spec.rows * spec.cols)
    tile[mapped.cells] = mapped.siemens
    per_code = spec.mvm.amps_per_code / spec.reading.volts

    def product(number: int, codes: Ints, rows: Ints, columns: Ints) -> Ints:
        assert number == 0
        block = tile.reshape(spec.rows, spec.cols)[np.ix_(rows, columns)]
        return codes.astype(np.float64) @ block / per_code  # sums without a converter

    pixels = torch.rand((7, 1, 12, 12), generator=generator)
    images = Images(pixels, torch.zeros(7, dtype=torch.int64))
    got = logits_in_situ(network, mapped, images, activation_ranges(network, images), product, spec)
    exact = network.with_weights(mapped.ideal_weights())
    expected = logits_of(network, images, exact)
    assert float((got - expected).abs().max()) < 0.03 * float(expected.abs().max())


def test_trimmed_columns_bring_a_network_on_the_array_back() -> None:
    network, calibration, test = digits()
    die, mapped = conducting("emulator:wide?tiles=2&die=2", network)
    ranges = activation_ranges(network, calibration)

    def accuracy() -> float:
        logits = logits_in_situ(network, mapped, test, ranges, die.mvm_block, die.spec)
        return float((logits.argmax(1) == test.labels).float().mean())

    before = accuracy()
    rng = np.random.default_rng(0)
    for tile in mapped.tiles:
        siemens = read_tile(die, tile, 2)
        list(trim_tile(die, tile, siemens, TrimSettings(vectors=2048), rng))
    after = accuracy()
    assert before < 0.7
    assert after > before + 0.2
    weights = network.with_weights(mapped.weights_from(die.read(mapped.cells)))
    readback = float((logits_of(network, test, weights).argmax(1) == test.labels).float().mean())
    assert after > readback - 0.06


def test_whole_tiles_give_what_blocks_give() -> None:
    network, calibration, test = digits()
    die, mapped = conducting("emulator:wide?tiles=2&die=2&converter_noise=0", network)
    few = Images(test.pixels[:40], test.labels[:40])
    ranges = activation_ranges(network, calibration)
    blocks = logits_in_situ(network, mapped, few, ranges, die.mvm_block, die.spec)
    whole = whole_tile(die.mvm, die.spec.rows)
    tiles = logits_in_situ(network, mapped, few, ranges, whole, die.spec)
    spread = float(blocks.std())
    assert float((blocks - tiles).abs().mean()) < 0.1 * spread


def test_a_layer_that_calibration_never_fed_gives_its_biases() -> None:
    """Its input is cut at 0, the largest that calibration saw."""
    network, _, test = digits()
    spec = open_device("emulator:wide?tiles=1").spec
    mapped = map_network(network.matrices(), spec, LEVELS, find_scheme("two_column"))
    last = network.card.layers[-1].name
    ranges = {layer.name: 1.0 for layer in network.card.layers} | {last: 0.0}

    def product(number: int, codes: Ints, rows: Ints, columns: Ints) -> Ints:
        return np.full((len(codes), columns.size), codes.astype(np.int64).sum())

    logits = logits_in_situ(
        network, mapped, Images(test.pixels[:3], test.labels[:3]), ranges, product, spec
    )
    np.testing.assert_allclose(logits, network.biases[last].expand(3, -1), rtol=1e-6)


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 70),
    physical=st.integers(1, 70),
    largest=st.sampled_from([3, 15]),
    scheme=st.sampled_from(sorted(SCHEMES)),
    seed=st.integers(0, 999),
)
def test_shared_and_scattered_rows_give_the_products_of_the_weights(
    rows: int, physical: int, largest: int, scheme: str, seed: int
) -> None:
    """Row tables, lines in any order and row blocks: an ideal array gives codes @ weights."""
    random = np.random.default_rng(seed)
    kept = min(rows, physical)
    table = random.permutation(np.append(np.arange(kept), random.integers(0, kept, rows - kept)))
    weights = random.normal(size=(kept, 5))[table]
    reading = ReadLimits(lowest=0.0, highest=1e-3, lsb=1e-9, volts=0.2, seconds=1e-6)
    spec = Spec("test", "T-1", 60, 32, 16, reading, pulses={})
    mapped = map_network({"a": weights}, spec, LEVELS, find_scheme(scheme), rows={"a": table})
    layer = scattered(mapped.layers[0], spec, random)
    array = np.zeros((spec.tiles, spec.rows, spec.cols))
    array.reshape(-1)[layer.cells.reshape(-1)] = layer.siemens.reshape(-1)

    def product(tile: int, codes: Ints, lines: Ints, columns: Ints) -> Ints:
        assert (np.diff(lines) > 0).all()
        assert (np.diff(columns) > 0).all()
        assert codes.max(initial=0) <= 15
        return codes.astype(np.float64) @ array[tile][np.ix_(lines, columns)]

    codes = random.integers(0, largest + 1, (6, rows)).astype(np.uint8)
    sums = physical_sums(layer, codes, product, largest, 15)
    got = weighted(layer, sums, codes) * layer.scale
    np.testing.assert_allclose(got, codes @ layer.ideal_weights(), rtol=1e-3, atol=1e-3)
    most = int(np.bincount(table).max())
    assert extra_shots(layer, largest, 15) == -(-most // (15 // largest)) - 1


def scattered(layer: MappedLayer, spec: Spec, random: np.random.Generator) -> MappedLayer:
    """`layer` with each block on other word lines and columns of its tile, in any order."""
    blocks = tuple(
        replace(
            block,
            tile=n,
            lines=random.permutation(spec.rows)[: block.rows],
            columns=random.permutation(spec.cols)[: block.cols],
        )
        for n, block in enumerate(layer.blocks)
    )
    return replace(layer, blocks=blocks, cells=block_cells(layer.cells.shape, blocks, spec))
