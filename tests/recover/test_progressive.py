"""Progressive fine-tuning: every layer is measured before the ones behind it are written."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import torch
from digits_network import images, network
from torch import Tensor
from written import conducting, place

from rramhil.address import open_device
from rramhil.device import Cells, Device, Floats
from rramhil.mapping import Levels, MappedNetwork, TwoColumn, map_network
from rramhil.nn.in_situ import activation_ranges, array_product
from rramhil.nn.layers import Layer, biased, product_of
from rramhil.nn.network import Images, accuracy_by, accuracy_of, load_network
from rramhil.recover.chip import MappedChip, read_product
from rramhil.recover.progressive import ProgressiveSettings, progressive, tuned
from rramhil.verify import Bias, write_open_loop

LEVELS = Levels(10, 1e-6, 40e-6, 2e-6)
SHORT = ProgressiveSettings(epochs=2)


def open_loop(device: Device, cells: Cells, siemens: Floats) -> Iterator[object]:
    """The statistical chip names its targets by the gate voltage: 1 V at 1 uS to 3 V at 40 uS."""
    gates = 1.0 + 2.0 * (siemens - 1e-6) / 39e-6
    yield from write_open_loop(device, cells, gates, Bias())


def statistical(address: str) -> tuple[Device, MappedNetwork, MappedChip]:
    """A die that holds the network, written open loop, and its layers as a chip."""
    device = open_device(f"emulator:statistical?{address}")
    mapped = map_network(network().matrices(), device.spec, LEVELS, TwoColumn())
    for _ in open_loop(device, mapped.cells, mapped.siemens):
        pass
    products = read_product(device, mapped, network())
    writing = lambda cells, siemens: open_loop(device, cells, siemens)  # noqa: E731
    return device, mapped, MappedChip(mapped, writing, products)


@pytest.mark.parametrize(
    ("address", "at_least"),
    [("sigma=0.5&die=2", 0.935), ("sigma=0.3&stuck_lrs=0.0175&stuck_hrs=0.0904&die=2", 0.91)],
    ids=["multiplicative 0.5", "with stuck cells"],
)
def test_layers_behind_learn_what_the_layers_before_really_give(
    address: str, at_least: float
) -> None:
    device, mapped, chip = statistical(address)
    first = mapped.layers[0].cells.reshape(-1)
    before = accuracy_by(network(), images("test"), biased(chip.product, network().biases))
    held = device.read(first)
    steps = list(progressive(network(), chip, images("train"), images("validation"), SHORT))
    done = tuned(network(), steps[-1].checkpoint)
    after = accuracy_by(network(), images("test"), done.around(chip.product))
    assert before < 0.85
    assert after > at_least
    assert [s.layer for s in steps if s.phase == "measured"] == ["fc1", "fc2", "fc3"]
    assert {s.layer for s in steps if s.phase == "writing"} == {"fc2", "fc3"}
    np.testing.assert_allclose(device.read(first), held, atol=1e-6)  # it was not written
    assert torch.equal(done.weights["fc1"], network().weights["fc1"])
    assert not torch.equal(done.weights["fc3"], network().weights["fc3"])


def test_it_recovers_from_columns_that_only_products_show() -> None:
    """On the array itself, untrimmed and with stuck cells; nothing is ever read."""
    die, mapped = conducting("emulator:wide?tiles=2&die=3&stuck_lrs=0.01&stuck_hrs=0.02", network())
    ranges = activation_ranges(network(), images("calibration"))
    products = array_product(mapped, ranges, die.mvm_block, die.spec)

    def writing(cells: Cells, siemens: Floats) -> Iterator[object]:
        place(die, cells, siemens)
        die.clock.sleep(1.0)
        yield "written"

    chip = MappedChip(mapped, writing, products)
    before = accuracy_by(network(), images("test"), biased(products, network().biases))
    for step in progressive(network(), chip, images("train"), images("validation"), SHORT):
        last = step
    done = tuned(network(), last.checkpoint)
    assert before < 0.5
    assert accuracy_by(network(), images("test"), done.around(products)) > 0.9


class Remembering:
    """A chip that holds what it is told to with an error of its own, and counts."""

    def __init__(self) -> None:
        self.held = {name: self._off(weight) for name, weight in network().weights.items()}
        self.writes: list[str] = []
        self.measured: list[str] = []

    @staticmethod
    def _off(weight: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(weight.numel())
        return weight * (1 + 0.5 * torch.randn(weight.shape, generator=generator))

    def write(self, layer: str, weights: Tensor) -> Iterator[object]:
        yield "half"
        self.writes.append(layer)
        self.held[layer] = self._off(weights)
        yield "all"

    def product(self, layer: Layer, inputs: Tensor) -> Tensor:
        self.measured.append(layer.name)
        return product_of(layer, inputs, self.held[layer.name], None)


def learning() -> tuple[Images, Images, ProgressiveSettings]:
    return images("train", 200), images("validation"), SHORT


@pytest.mark.parametrize("stop_after", range(1, 12))
def test_stopping_and_resuming_changes_nothing_and_measures_nothing_twice(stop_after: int) -> None:
    whole = list(progressive(network(), Remembering(), *learning()))
    chip = Remembering()
    stopped = list(islice(progressive(network(), chip, *learning()), stop_after))[-1]
    rest = list(progressive(network(), chip, *learning(), checkpoint=stopped.checkpoint))
    assert len(whole) == 11
    last = rest[-1] if rest else stopped
    assert last.checkpoint.keys() == whole[-1].checkpoint.keys()
    for key, values in whole[-1].checkpoint.items():
        np.testing.assert_array_equal(last.checkpoint[key], values)
    assert chip.measured == ["fc1", "fc2", "fc3"]
    assert chip.writes in (["fc2", "fc3"], ["fc2", "fc2", "fc3"], ["fc2", "fc3", "fc3"])


def test_gains_and_offsets_are_not_fitted_to_validation_images() -> None:
    learn, validation, settings = learning()
    mirrored = Images(validation.pixels.flip(-1), validation.labels)
    first, other = (
        tuned(network(), next(progressive(network(), Remembering(), *given)).checkpoint)
        for given in ((learn, validation, settings), (learn, mirrored, settings))
    )
    assert torch.equal(first.gains["fc1"], other.gains["fc1"])
    assert torch.equal(first.biases["fc1"], other.biases["fc1"])
    assert not torch.equal(first.gains["fc1"], torch.ones(128))


def test_without_gains_only_biases_and_weights_change() -> None:
    chip, plain = Remembering(), SHORT.model_copy(update={"affine": False})
    for step in progressive(network(), chip, images("train"), images("validation"), plain):
        last = step
    done = tuned(network(), last.checkpoint)
    assert all(bool((gain == 1).all()) for gain in done.gains.values())
    assert torch.equal(done.biases["fc1"], network().biases["fc1"])
    assert last.validation_accuracy > 0.9


def test_an_exact_chip_is_left_as_good_as_the_network() -> None:
    class Exact(Remembering):
        @staticmethod
        def _off(weight: Tensor) -> Tensor:
            return weight.clone()

    chip = Exact()
    for step in progressive(network(), chip, images("train"), images("validation"), SHORT):
        last = step
    done = tuned(network(), last.checkpoint)
    after = accuracy_by(network(), images("validation"), done.around(chip.product))
    assert after == last.validation_accuracy
    assert after >= accuracy_of(network(), images("validation"))


def test_what_does_not_fit_is_refused() -> None:
    none = Images(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
    chip = Remembering()
    with pytest.raises(ValueError, match="at least one of each"):
        next(progressive(network(), chip, images("train"), none, SHORT))
    other = Images(torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="takes images of shape"):
        next(progressive(network(), chip, images("train"), other, SHORT))
    first = next(progressive(network(), chip, *learning()))
    fewer = (images("train", 100), images("validation"), SHORT)
    with pytest.raises(ValueError, match="go on with the same ones"):
        next(progressive(network(), chip, *fewer, checkpoint=first.checkpoint))
    with pytest.raises(ValueError, match="checkpoint is of another network"):
        tuned(load_network("lenet5-mnist"), first.checkpoint)
    _, mapped, _ = statistical("sigma=0.1")
    with pytest.raises(ValueError, match=r"layer fc1 has shape \(64, 128\), not"):
        mapped.layers[0].targets(np.zeros((64, 10)))
