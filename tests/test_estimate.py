"""Estimates: by hand on a small layer, and by the emulator's own clock and the ledger's joules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.address import open_device
from rramhil.device import Refused, Spec
from rramhil.estimate import Periphery, Quantity, activity_of, estimate
from rramhil.mapping import Levels, MappedNetwork, OneColumn, map_network

LEVELS = Levels(2, 10e-6, 200e-6, 5e-6)
WEIGHTS = np.where(np.arange(20).reshape(10, 2) % 3, 1.0, -1.0)
CODES = np.array([[3] * 10, [0] * 10, [1, 0, 0, 0, 2, 0, 0, 0, 0, 0]])


@pytest.fixture(scope="module")
def spec() -> Spec:
    with open_device("emulator:40nm") as die:
        return die.spec


def small(spec: Spec) -> MappedNetwork:
    return map_network({"all": WEIGHTS}, spec, LEVELS, OneColumn(), percentile=100)


def found(spec: Spec, periphery: Periphery | None = None) -> dict[str, Quantity]:
    mapped = small(spec)
    activity = {"all": activity_of(mapped.layers[0], CODES, spec)}
    return {one.name: one for one in estimate(mapped, activity, len(CODES), spec, periphery)}


def test_a_small_layer_is_what_a_pencil_makes_of_it(spec: Spec) -> None:
    """Vector 1: two planes of 10 rows, so 2 x 2 shots; 2: none; 3: one shot in each plane."""
    one = found(spec)
    counts = ("weights", "cells", "tiles", "physical rows", "physical columns")
    assert [one[name].value for name in counts] == [20, 20, 1, 10, 2]
    assert one["conversions of an image"].value == 6 / 3
    assert one["latency of an image"].value == pytest.approx(2 * 10e-9)
    assert one["latency of an image"].high == pytest.approx(8 * 2 * 10e-9)
    assert one["energy of an image"].value == pytest.approx(2 * 256 * 3.85e-13)
    assert one["energy of an image"].low == pytest.approx(2 * 2 * 3.85e-13)
    siemens = np.where(WEIGHTS > 0, 200e-6, 10e-6)
    on = 2 * siemens.sum() + siemens[0].sum() + siemens[4].sum()
    mean = 0.2 * on / (6 * 2)
    assert one["read current of a column, mean"].value == pytest.approx(mean)
    assert one["read current of a column, highest"].value == pytest.approx(0.2 * 7 * 200e-6)
    assert one["of it in the cells"].value == pytest.approx(0.04 * on / 3 * 10e-9)
    area = 2 * 7 * 256 / 10e-9 / 97.8e15
    assert one["area of the tiles"].value == pytest.approx(area)
    assert one["area of the tiles"].low == pytest.approx(area / 8)


def test_what_nobody_says_is_not_known(spec: Spec) -> None:
    assert found(spec)["area of the cells alone"].value is None
    assert found(spec, Periphery(cell_m2=1e-13))["area of the cells alone"].value == 2e-12
    assert spec.mvm is not None
    silent = replace(spec, mvm=replace(spec.mvm, joules=0.0, seconds=0.0), program=None)
    one = found(silent)
    for name in ("energy of an image", "latency of an image", "images a second"):
        assert one[name].value is None
    assert one["area of the tiles"].value is one["programming time on the chip"].high is None
    assert all(each.formula and each.source for each in one.values())


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["40nm", "wide"]))
def test_the_latency_is_the_time_that_the_emulated_macro_takes(seed: int, chip: str) -> None:
    rng = np.random.default_rng(seed)
    with open_device(f"emulator:{chip}?tiles=1") as die:
        spec = die.spec
        mapped = map_network(
            {"all": rng.choice([-1.0, 1.0], (60, 5))}, spec, LEVELS, OneColumn(), percentile=100
        )
        assert spec.mvm is not None
        codes = rng.integers(0, 2**spec.mvm.input_bits, (7, 60)) * (rng.random((7, 60)) < 0.3)
        inputs = np.zeros((7, spec.rows), dtype=np.int64)
        inputs[:, mapped.layers[0].blocks[0].lines] = codes
        activity = {"all": activity_of(mapped.layers[0], codes, spec)}
        took = {one.name: one for one in estimate(mapped, activity, 7, spec)}["latency of an image"]
        before = die.clock.now()
        die.mvm(0, inputs)
        assert took.value == pytest.approx((die.clock.now() - before) / 7)


def test_a_die_without_products_is_refused_with_one_that_has_them() -> None:
    with open_device("emulator:ember") as die, pytest.raises(Refused, match="emulator:40nm"):
        list(estimate(small(die.spec), {}, 1, die.spec))
