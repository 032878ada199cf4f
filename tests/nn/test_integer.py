"""Integer networks: thresholds say what the training said, and files hold integers alone."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from rramhil.address import open_device
from rramhil.device import Ints, Refused
from rramhil.mapping import Levels, TwoColumn, map_network
from rramhil.nn.data import load_data
from rramhil.nn.in_situ import activation_ranges, array_product
from rramhil.nn.integer import check_exact, cut, folded, raw_codes
from rramhil.nn.layers import Layer, Product, biased, by_weights, coded, counted, walk
from rramhil.nn.network import (
    Card,
    Images,
    Network,
    accuracy_of,
    images_of,
    load_network,
    logits_by,
    logits_of,
    save_network,
)
from rramhil.nn.splits import make_splits
from rramhil.nn.train_integer import LARGEST, IntegerSettings, IntegerTraining, Weights, card_of
from rramhil.schema import FileError

CONVOLUTIONS = (
    Layer(name="conv", kind="convolution", inputs=1, outputs=4, kernel=3, padding=1, pool=2),
    Layer(name="fc1", kind="linear", inputs=64, outputs=16),
    Layer(name="fc2", kind="linear", inputs=16, outputs=10, relu=False),
)
LAST = CONVOLUTIONS[2]
DIGITS = load_data("digits")
SPLITS = make_splits(DIGITS, 0)


def images(name: str, count: int | None = None) -> Images:
    return images_of(DIGITS, getattr(SPLITS, name)[:count])


def training(**changes: Any) -> IntegerTraining:
    settings = IntegerSettings(
        **{"data": "digits", "layers": CONVOLUTIONS, "batch": 50, "epochs": 2, **changes}
    )
    return IntegerTraining(settings, card_of(settings, DIGITS, "small"))


@cache
def trained(weights: Weights = "1", activation_bits: int = 2) -> IntegerTraining:
    """Two epochs, so that scales and biases have moved apart."""
    done = training(weights=weights, activation_bits=activation_bits)
    for _ in done.run(images("train", 500), images("validation")):
        pass
    return done


def layer_of(outputs: int, codes: int) -> Layer:
    return Layer(name="a", kind="linear", inputs=9, outputs=outputs, input_codes=3, codes=codes)


QUARTERS = st.integers(-40, 40).map(lambda n: n / 4)  # sums times such a scale meet .5 exactly
SCALES = st.one_of(st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0]), st.floats(2.0**-13, 10.0, width=32))
BIASES = st.one_of(QUARTERS, st.floats(-100, 100, width=32))


@given(st.lists(st.tuples(SCALES, BIASES), min_size=1, max_size=4), st.integers(1, 15))
def test_thresholds_give_the_code_of_the_training_for_every_sum(
    pairs: list[tuple[float, float]], highest: int
) -> None:
    layer, largest = layer_of(len(pairs), highest), 60
    scale, bias = torch.tensor(pairs).unbind(1)
    sums = torch.arange(-largest, largest + 1.0)[:, None].expand(-1, len(pairs))
    thresholds = folded(layer, scale, bias, largest)
    expected = cut(raw_codes(layer, sums, scale, bias), highest)
    complete = layer.model_copy(update={"thresholds": thresholds})
    assert torch.equal(counted(complete, sums), expected)
    assert all(-largest <= edge <= largest + 1 for row in thresholds for edge in row)


def test_a_tie_goes_up_and_thresholds_are_the_smallest_sums() -> None:
    layer = layer_of(1, 3)
    # S/2 + 1/4 + 1/2 reaches 1, 2, 3 at S = 1/2, 5/2, 9/2, and S/2 + 1/2 at 1, 3, 5.
    assert folded(layer, torch.tensor([0.5]), torch.tensor([0.25]), 20) == ((1, 3, 5),)
    assert folded(layer, torch.tensor([0.5]), torch.tensor([0.0]), 20) == ((1, 3, 5),)
    assert folded(layer, torch.tensor([0.5]), torch.tensor([0.5]), 20) == ((0, 2, 4),)
    assert folded(layer, torch.tensor([1e-6]), torch.tensor([1.0]), 20) == ((-20, 21, 21),)


@pytest.mark.parametrize("activation_bits", [1, 2, 4])
@pytest.mark.parametrize("weights", list(LARGEST))
def test_what_is_exported_is_the_training_network_in_every_layer(
    weights: Weights, activation_bits: int, tmp_path: Path
) -> None:
    done, path = trained(weights, activation_bits), tmp_path / "net.safetensors"
    save_network(done.exported(), path)
    network, test = load_network(path), images("test")
    values = coded(done.layers[0], test.pixels)
    assert set(values.unique().tolist()) == set(range(2**activation_bits))
    for step in walk(network.card.layers, test.pixels, _by(network)):
        assert torch.equal(step.inputs, values)
        values = done.handed_on(step.layer, values).detach()
        if step.layer.codes is not None:
            assert torch.equal(step.activation, values)
            assert 0 <= values.min() < values.max() <= step.layer.codes
            assert not network.biases[step.layer.name].any()
    answers = logits_of(network, test)
    assert torch.equal(answers, answers.round())
    assert torch.equal(answers.argsort(dim=1, stable=True), values.argsort(dim=1, stable=True))


def _by(network: Network) -> Product:
    return by_weights(network.weights, network.biases)


@pytest.mark.parametrize(
    ("weights", "values"),
    [("1", [-1, 1]), ("ternary", [-1, 0, 1]), ("2", [-3, -1, 1, 3]), ("4", range(-7, 8))],
)
def test_weights_are_the_integers_that_their_bits_allow(weights: Weights, values: Any) -> None:
    found = torch.cat([w.flatten() for w in trained(weights).weights().values()]).unique()
    assert set(found.tolist()) <= {float(value) for value in values}
    assert len(found) >= min(len(values), 8)


def test_the_file_holds_integers_and_a_card_without_thresholds(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    network = trained().exported()
    save_network(network, path)
    kinds = {key: tensor.dtype for key, tensor in load_file(path).items()}
    assert kinds == {
        "conv.weight": torch.int8,
        "conv.thresholds": torch.int32,
        "fc1.weight": torch.int8,
        "fc1.thresholds": torch.int32,
        "fc2.weight": torch.int8,
        "fc2.bias": torch.int32,
    }
    back = load_network(path)
    assert back.card == network.card
    assert back.is_integer
    assert back.card.full_scale == 16
    assert b"thresholds" not in json.dumps(back.card.model_dump(mode="json")).encode()


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("fc2.bias", lambda t: t.float(), r"fc2\.bias is torch\.float32 .* says torch\.int32"),
        ("fc1.thresholds", lambda t: t[:, :2], r"fc1\.thresholds .* \(16, 2\), .* \(16, 3\)"),
        ("fc1.thresholds", lambda t: t.flip(1), "thresholds of layer fc1 fall"),
        ("conv.weight", lambda t: t.T, r"conv\.weight .* \(4, 9\), but .* \(9, 4\)"),
    ],
)
def test_a_file_that_does_not_fit_its_card_is_refused(
    tmp_path: Path, key: str, change: Any, words: str
) -> None:
    path = tmp_path / "net.safetensors"
    network = trained().exported()
    save_network(network, path)
    tensors = load_file(path)
    tensors[key] = change(tensors[key]).contiguous()
    card = json.dumps(network.card.model_dump(mode="json"))
    save_file(tensors, path, metadata={"card": card})
    with pytest.raises(FileError, match=words):
        load_network(path)


def test_weights_that_are_no_integers_are_not_written(tmp_path: Path) -> None:
    network = trained().exported()
    network.weights["fc1"][0, 0] = 0.5
    with pytest.raises(ValueError, match="weights of fc1 are no integers of 8 bits"):
        save_network(network, tmp_path / "net.safetensors")


@pytest.mark.parametrize("rename", [{}, {"fc2": 9}], ids=["as it is", "rows merged"])
def test_a_resumed_training_repeats_the_whole_one_bit_for_bit(rename: dict[str, int]) -> None:
    data, validation = images("train", 300), images("validation", 50)
    whole, first, second = (training(epochs=3, shift=1, rename=rename) for _ in range(3))
    losses = [tick.loss for tick in whole.run(data, validation)]
    for tick in first.run(data, validation):
        if tick.done == 8:  # within the second epoch
            break
    second.restore(first.state())
    rest = [tick.loss for tick in second.run(data, validation)]
    assert rest == losses[8:]
    again, once = second.state(), whole.state()
    assert again["best"] == once["best"]
    for kind in ("tensors", "kept"):
        assert all(torch.equal(a, b) for a, b in zip(again[kind], once[kind], strict=True))
    with pytest.raises(ValueError, match="belongs to other settings"):
        training(epochs=3, seed=1, shift=1, rename=rename).restore(first.state())


@pytest.mark.parametrize("weights", ["1", "4"])
def test_rows_merged_half_way_are_trained_on_together(weights: Weights) -> None:
    done = training(weights=weights, epochs=6, rename={"fc2": 8})
    tied = []
    for tick in done.run(images("train", 500), images("validation")):
        if tick.validation is not None:
            rows = done.exported().weights["fc2"]
            tied.append((len(rows.unique(dim=0)), done.state()["tensors"][2]))
    assert [count <= 8 for count, _ in tied] == [False] * 3 + [True] * 3
    moved = tied[5][1] - tied[3][1]
    assert (moved.abs() > 1e-4).float().mean() > 0.5, "the rows that share were not trained"
    done.choose_best()
    network = done.exported()
    assert len(network.weights["fc2"].unique(dim=0)) <= 8
    assert accuracy_of(network, images("validation")) == done.best
    assert len(network.weights["fc1"].unique(dim=0)) > 8


def test_it_learns_and_keeps_the_epoch_that_was_best_on_validation() -> None:
    done = training(network="digits", layers=None, epochs=6)
    shares = [
        tick.validation
        for tick in done.run(images("train"), images("validation"))
        if tick.validation is not None
    ]
    done.choose_best()
    assert done.best == max(shares) > 0.7
    assert done.best_epoch == shares.index(max(shares)) + 1
    assert accuracy_of(done.exported(), images("validation")) == done.best


def test_pixels_become_codes_as_integers_say() -> None:
    for full_scale in (16, 255):
        for highest in (1, 3, 7, 255):
            layer = layer_of(1, 3).model_copy(update={"input_codes": highest})
            pixels = torch.arange(full_scale + 1, dtype=torch.float32) / full_scale
            codes = [
                sum(2 * highest * p >= (2 * k - 1) * full_scale for k in range(1, highest + 1))
                for p in range(full_scale + 1)
            ]
            assert coded(layer, pixels).tolist() == codes


def test_a_product_that_is_a_little_wrong_gives_the_same_codes() -> None:
    network, some = trained().exported(), images("test", 100)
    exact = _by(network)
    off = logits_of(network, some)

    def product(layer: Layer, inputs: torch.Tensor) -> torch.Tensor:
        sums: torch.Tensor = exact(layer, inputs)
        return sums if layer.codes is None else sums + 0.98 * (torch.rand(sums.shape) - 0.5)

    assert torch.equal(logits_by(network, some, product), off)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": "lenet", "layers": None}, "no network 'lenet'; did you mean 'lenet5'"),
        ({"data": "digit"}, "no data set 'digit'; did you mean 'digits'"),
        ({"weights": "3"}, "'1', 'ternary', '2', '4' or '8'"),
        ({"activation_bits": 9}, "less than or equal to 8"),
        ({"weights": 8, "activation_bits": 8, "layers": None, "network": "wide"}, "no network"),
        (
            {"layers": (*CONVOLUTIONS[:2], LAST.model_copy(update={"add_from": "fc1"}))},
            "fc2 adds or averages",
        ),
        (
            {
                "layers": (
                    CONVOLUTIONS[0].model_copy(update={"pooling": "average"}),
                    CONVOLUTIONS[2],
                )
            },
            "conv adds or averages",
        ),
        ({"layers": ()}, "last layer gives the answers"),
        ({"rename": {"fc3": 4}}, "'fc3', which is no layer; did you mean"),
        ({"rename": {"fc2": 17}}, "fc2 to 17 rows, but it has 16"),
        ({"rename": {"fc2": 8}, "epochs": 1}, "takes at least 2"),
    ],
)
def test_settings_that_make_no_integer_network_are_refused(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        training(**changes)


def test_sums_that_float32_would_round_are_refused() -> None:
    wide = Layer(name="wide", kind="linear", inputs=600, outputs=2, input_codes=255)
    with pytest.raises(ValueError, match=r"wide may reach 19,431,000, .* take fewer bits"):
        check_exact(wide, 127)
    assert check_exact(wide, 7) == 600 * 7 * 255


def test_layers_that_do_not_take_the_images_are_refused() -> None:
    settings = IntegerSettings(data="digits", network="lenet5")
    with pytest.raises(ValueError, match="conv2 has a kernel of 5, larger than"):
        card_of(settings, DIGITS, "x")
    few = (Layer(name="fc", kind="linear", inputs=64, outputs=4),)
    with pytest.raises(ValueError, match="digits has 10 classes, but the last layer gives"):
        card_of(IntegerSettings(data="digits", layers=few), DIGITS, "x")


def test_codes_that_do_not_fit_are_refused_by_the_card() -> None:
    card = trained().exported().card.model_dump(mode="json")
    card["layers"][1]["input_codes"] = 7
    with pytest.raises(ValueError, match="fc1 takes codes up to 7, but is given codes up to 3"):
        Card.model_validate(card)
    card["layers"][0]["input_codes"] = None
    with pytest.raises(ValueError, match="conv"):
        Card.model_validate(card)


def test_a_layer_that_was_not_trained_has_no_codes_to_give() -> None:
    with pytest.raises(ValueError, match="layer a has no thresholds"):
        counted(layer_of(1, 3), torch.zeros(1, 1))


def test_the_shipped_binary_network_reads_its_images_as_codes() -> None:
    network = load_network("digits-1b2b")
    ranges = activation_ranges(network, images("calibration", 5))
    assert ranges == {"fc1": 3.0, "fc2": 3.0, "fc3": 3.0}
    assert all(set(w.unique().tolist()) == {-1.0, 1.0} for w in network.weights.values())
    assert np.isclose(
        accuracy_of(network, images("validation")), network.card.accuracy["teacher_validation"]
    )


def test_in_situ_an_input_code_is_the_activation_code() -> None:
    network, some = load_network("digits-1b2b"), images("test", 20)
    spec = open_device("emulator:wide?tiles=2").spec
    assert spec.mvm is not None
    mapped = map_network(network.matrices(), spec, Levels(2, 1e-6, 40e-6, 1e-6), TwoColumn())
    cells = np.zeros(2 * spec.rows * spec.cols)
    cells[mapped.cells] = mapped.siemens
    tiles = cells.reshape(2, spec.rows, spec.cols)
    per_code = spec.mvm.amps_per_code / spec.reading.volts
    seen: set[int] = set()

    def exact(tile: int, codes: Ints, lines: Ints, columns: Ints) -> Ints:
        seen.update(np.unique(codes).tolist())
        return codes.astype(np.float64) @ tiles[tile][np.ix_(lines, columns)] / per_code

    ranges = activation_ranges(network, images("calibration", 5))
    product = array_product(mapped, ranges, exact, spec)
    found = logits_by(network, some, biased(product, network.biases))
    assert torch.equal(found.round(), logits_of(network, some))
    assert seen == {0, 1, 2, 3}


def test_codes_that_the_array_does_not_take_are_refused() -> None:
    network = load_network("digits-1b2b")
    spec = open_device("emulator:wide?tiles=2").spec
    assert spec.mvm is not None
    one_bit = replace(spec, mvm=replace(spec.mvm, input_bits=1))
    mapped = map_network(network.matrices(), spec, Levels(2, 1e-6, 40e-6, 1e-6), TwoColumn())
    product = array_product(mapped, {}, lambda *_: np.zeros((1, 1), dtype=np.int64), one_bit)
    with pytest.raises(Refused, match="fc1 takes codes up to 3, but the array those up to 1"):
        logits_by(network, images("test", 2), product)


@pytest.mark.parametrize("weights", ["1", "4"])
def test_the_reader_of_the_page_gives_the_answers_by_integers_alone(
    weights: Weights, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "integer-networks.md").read_text("utf-8")
    (block,) = re.findall(r"(?ms)^```python\n(.*?)^```", page)
    read: dict[str, Any] = {}
    exec(compile(block, "integer-networks.md", "exec"), read)
    path = tmp_path / "net.safetensors"
    save_network(trained(weights).exported(), path)
    own = read["answers"](path, DIGITS.images[SPLITS.test])
    assert own.dtype == np.int64
    assert np.array_equal(own, logits_of(load_network(path), images("test")).numpy())


def test_the_settings_of_the_page_are_settings() -> None:
    page = (Path(__file__).parents[2] / "docs" / "integer-networks.md").read_text("utf-8")
    (block,) = re.findall(r"(?ms)^```toml\n(.*?)^```", page)
    settings = IntegerSettings.model_validate(tomllib.loads(block))
    assert card_of(settings, DIGITS, "mine").layers[0].input_codes == 3
