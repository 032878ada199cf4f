"""Training against the device's errors: what is written open loop afterwards is worth more."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from digits_network import images, network

from rramhil.device import ReadLimits, Spec
from rramhil.mapping import Levels, find_scheme, map_network
from rramhil.nn.hardened import Hardening, harden, with_errors, with_faults
from rramhil.nn.layers import Layer
from rramhil.nn.network import Images, Network, accuracy_of, load_network
from rramhil.nn.train import initial
from rramhil.nn.written import WriteErrors, WrittenNetwork
from rramhil.recover.hardening import distilled

LEVELS = Levels(10, 1e-6, 40e-6, 1e-6)


def written(network: Network, sigma: float = 0.5) -> WrittenNetwork:
    reading = ReadLimits(lowest=0.0, highest=100e-6, lsb=1e-9, volts=0.2, seconds=1e-6)
    spec = Spec("any", "any", 1, 256, 256, reading, pulses={})
    mapped = map_network(network.matrices(), spec, LEVELS, find_scheme("two_column"))
    errors = WriteErrors(LEVELS.siemens, LEVELS.siemens, sigma * LEVELS.siemens)
    return WrittenNetwork(mapped, errors, np.full(mapped.cells.size, np.nan))


def deployed(network: Network, hardening: Hardening) -> float:
    """Mean test accuracy over five open-loop programmings."""
    on_dies = []
    for die in range(5):
        random = np.random.default_rng(die)
        array = with_faults(written(network), hardening, random)
        held = array.weights_from(array.landed(array.aimed(network.weights), random))
        on_dies.append(accuracy_of(network, images("test"), held))
    return float(np.mean(on_dies))


def hardened(hardening: Hardening, start: Network | None = None) -> Network:
    *_, last = harden(start or network(), written(start or network()), images("train"), hardening)
    return last.network


@pytest.mark.parametrize(("stuck", "gain"), [(0.0, 0.04), (0.05, 0.08)], ids=["errors", "stuck"])
def test_a_hardened_network_stands_open_loop_writes(stuck: float, gain: float) -> None:
    hardening = Hardening(epochs=20, batch=50, stuck_hrs=stuck, stuck_lrs=stuck / 5)
    harder = hardened(hardening)
    assert deployed(harder, hardening) - deployed(network(), hardening) >= gain
    assert torch.equal(network().weights["fc1"], load_network("digits").weights["fc1"])


def test_hardening_repeats_itself() -> None:
    once, again = (hardened(Hardening(epochs=1)) for _ in range(2))
    other = hardened(Hardening(epochs=1, seed=1))
    assert torch.equal(once.weights["fc2"], again.weights["fc2"])
    assert not torch.equal(once.weights["fc2"], other.weights["fc2"])


def test_weights_stay_within_the_scale_that_they_are_trained_at() -> None:
    array, bounds = written(network()), {}
    for layer, name in zip(array.mapped.layers, network().weights, strict=True):
        bounds[name] = torch.as_tensor(np.asarray(layer.scale, np.float32))
        assert bool((network().weights[name].abs() > bounds[name]).any())
    for within in (True, False):
        tried = hardened(Hardening(epochs=1, learning_rate=1e-2, within=within))
        beyond = [bool((tried.weights[name].abs() > bounds[name]).any()) for name in bounds]
        assert beyond == [not within] * len(bounds)


def test_a_student_learns_from_the_teacher_without_labels() -> None:
    layers = (
        Layer(name="fc1", kind="linear", inputs=64, outputs=40),
        Layer(name="fc2", kind="linear", inputs=40, outputs=10, relu=False),
    )
    card = network().card.model_copy(update={"name": "student", "layers": layers})
    student = Network(card, *initial(layers, torch.Generator().manual_seed(0)))
    shuffled = Images(images("train").pixels, images("train").labels.flip(0))
    hardening = Hardening(epochs=30, learning_rate=5e-3, batch=50)
    *_, last = harden(
        student,
        written(student, 0.2),
        shuffled,
        hardening,
        distilled(temperature=2.0, label_share=0.0),
        network(),
    )
    assert accuracy_of(last.network, images("test")) >= 0.9


def test_errors_grow_and_faults_are_drawn_by_share() -> None:
    array = written(network())
    half = with_errors(array, 0.5).errors
    assert half.spread == pytest.approx(0.5 * array.errors.spread)
    hardening = Hardening(stuck_lrs=0.1, stuck_hrs=0.2, lrs_siemens=50e-6, hrs_siemens=2e-6)
    stuck = with_faults(array, hardening, np.random.default_rng(0)).stuck
    assert np.mean(stuck == 50e-6) == pytest.approx(0.1, abs=0.01)
    assert np.mean(stuck == 2e-6) == pytest.approx(0.2, abs=0.01)


def test_what_cannot_train_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one epoch"):
        Hardening(epochs=0)
    with pytest.raises(ValueError, match="no shares of all cells"):
        Hardening(stuck_lrs=0.7, stuck_hrs=0.7)
    none = Images(images("train").pixels[:0], images("train").labels[:0])
    with pytest.raises(ValueError, match="training needs images"):
        next(harden(network(), written(network()), none, Hardening()))
