"""An integer network on an array that errs: repaired in closed form; steps by gradient refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rramhil.job.file import JobFile
from rramhil.job.learning import check_lessons
from rramhil.job.subject import Material
from rramhil.nn.data import load_data
from rramhil.nn.network import accuracy_of, images_of, load_network
from rramhil.nn.splits import make_splits
from rramhil.recover.closed_form import Ridge, fit, start_parameters
from rramhil.recover.loop import Recovery, Schedule, adapt
from rramhil.recover.losses import label_loss
from rramhil.recover.masks import ranked_mask
from rramhil.recover.places import Biases, ColumnGains, Computed, SparseMemory, corrected
from rramhil.recover.scores import expected_output_error, moments
from rramhil.schema import FileError

NETWORK = "digits-1b2b"


def test_a_closed_form_brings_the_codes_back() -> None:
    network, data = load_network(NETWORK), load_data("digits")
    splits = make_splits(data, network.card.split_seed)
    calibration, test = (images_of(data, part) for part in (splits.calibration, splits.test))
    exact = accuracy_of(network, test)
    before, after = [], []
    for die in range(3):
        generator = torch.Generator().manual_seed(die)
        off = {
            name: weight * 0.8 * (1 + 0.5 * torch.randn(weight.shape, generator=generator))
            for name, weight in network.weights.items()
        }
        array = Computed(off, network.biases)
        scores = expected_output_error(network, array, moments(network, calibration))
        mask = ranked_mask(scores, 0.05)
        parameters = start_parameters(network, array, mask)
        list(fit(network, array, mask, calibration, Ridge(), parameters))
        repaired = corrected((ColumnGains(), SparseMemory(mask), Biases()), parameters, array)
        before.append(accuracy_of(network, test, array.weights, array.biases))
        after.append(accuracy_of(network, test, repaired.weights, repaired.biases))
    assert exact - np.mean(before) > 0.05
    assert exact - np.mean(after) < 0.5 * (exact - np.mean(before))


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"method": "rsa"}, "step 'rsa': an integer network has no gradient .* rsa trains by it"),
        ({"method": "low_rank"}, "low_rank trains by it"),
        ({"method": "fine_tune"}, "fine_tune trains by it; use method = 'closed_form'"),
        ({"method": "closed_form", "finish": {}}, "leave 'finish' out"),
        ({"method": "closed_form", "mask": "taylor"}, "mask = 'taylor' asks for it"),
        ({"method": "rvw", "select": "sensitivity"}, "select = 'sensitivity' asks for it"),
    ],
)
def test_steps_that_follow_gradients_are_refused(step: dict[str, Any], words: str) -> None:
    job = job_with({"do": "recover", **step})
    with pytest.raises(FileError, match=words):
        check_lessons(job, Material.load(job))


def test_the_loop_of_gradients_refuses_it() -> None:
    network, data = load_network(NETWORK), load_data("digits")
    some = images_of(data, make_splits(data, network.card.split_seed).calibration[:5])
    schedule = Schedule(epochs=1, learning_rate=1e-3, batch=5, seed=0)
    recovery = Recovery((Biases(),), label_loss(), schedule)
    with pytest.raises(ValueError, match="digits-1b2b is an integer network, and no"):
        next(adapt(recovery, network, Computed(network.weights, network.biases), some, some))


@pytest.mark.parametrize("step", [{"method": "closed_form"}, {"method": "rvw", "select": "errx"}])
def test_steps_without_gradients_are_allowed(step: dict[str, Any]) -> None:
    job = job_with({"do": "recover", **step})
    check_lessons(job, Material.load(job))


def job_with(step: dict[str, Any]) -> JobFile:
    steps = [{"do": "tune"}, {"do": "program"}, step]
    return JobFile.model_validate(
        {"network": {"name": NETWORK}, "data": {"name": "digits"}, "steps": steps, "name": "x"}
    )
