"""Estimates of a job: products are taken as its table [in_situ] says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import rramhil
from rramhil.device import Device
from rramhil.estimate import Quantity
from rramhil.job.estimating import IMAGES, estimates_of
from rramhil.job.file import JobFile
from rramhil.job.subject import Material, Subject
from rramhil.nn.in_situ import activation_ranges, array_product, averaged, whole_tile
from rramhil.nn.layers import by_weights, walk


def job(**in_situ: Any) -> JobFile:
    return JobFile.model_validate(
        {
            "name": "estimated",
            "device": {"address": "emulator:40nm?tiles=1"},
            "network": {"name": "digits"},
            "data": {"name": "digits"},
            "in_situ": in_situ,
            "mapping": {"levels": 2, "lowest": "8 uS", "highest": "200 uS", "tolerance": "8 uS"},
            "steps": [{"do": "tune"}],
        }
    )


def subject_of(device: Device, **in_situ: Any) -> Subject:
    wanted = job(**in_situ)
    return Subject(Material.load(wanted), wanted, device.spec)


def named(subject: Subject, device: Device) -> dict[str, Quantity]:
    return {one.name: one for one in estimates_of(subject, device.spec)}


def value(found: dict[str, Quantity], name: str) -> float:
    known = found[name].value
    assert known is not None
    return known


def test_each_repeat_takes_its_time_and_energy_and_the_formulas_say_so() -> None:
    with rramhil.connect("emulator:40nm?tiles=1") as device:
        once = named(subject_of(device), device)
        often = named(subject_of(device, repeats=16), device)
    scaled = (
        "conversions of an image", "energy of an image", "of it in the cells",
        "latency of an image",
    )  # fmt: skip
    for name in scaled:
        assert "16 repeats" in often[name].formula
        assert "repeats" not in once[name].formula
        for end in ("value", "low", "high"):
            one = getattr(once[name], end)
            assert getattr(often[name], end) == (one and pytest.approx(16 * one))
    fewer = value(often, "images a second")
    assert fewer == pytest.approx(value(once, "images a second") / 16)
    for name in once.keys() - {*scaled, "images a second"}:
        assert often[name].value == pytest.approx(once[name].value)


def test_the_latency_is_the_device_time_of_products_as_a_job_takes_them() -> None:
    """Two products of each input, codes by a percentile: more bits are set than by the largest."""
    with rramhil.connect("emulator:40nm?tiles=1") as device:
        spec = device.spec
        plain = value(named(subject_of(device), device), "latency of an image")
        subject = subject_of(device, repeats=2, input_percentile=80)
        took = value(named(subject, device), "latency of an image")
        ranges = activation_ranges(subject.network, subject.calibration, percentile=80)
        block = whole_tile(device.mvm, spec.rows)
        products = averaged(array_product(subject.mapped, ranges, block, spec), 2)
        exact = by_weights(subject.network.weights, subject.network.biases)
        before = device.clock.now()
        with torch.no_grad():
            for step in walk(
                subject.network.card.layers, subject.calibration.pixels[:IMAGES], exact
            ):
                products(step.layer, step.inputs)
        measured = (device.clock.now() - before) / IMAGES
    assert took == pytest.approx(measured, rel=1e-6)
    assert took != pytest.approx(2 * plain, rel=0.02)
