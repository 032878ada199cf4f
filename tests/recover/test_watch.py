"""Predictions of rungs and of rewriting, and what a few columns tell about the whole array."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

import numpy as np
import pytest
import torch

import rramhil
from rramhil.mapping import Levels, MappedNetwork, ReferenceColumn, TwoColumn, map_network
from rramhil.nn.data import load_data
from rramhil.nn.layers import Layer
from rramhil.nn.network import Card, Images, Network, images_of, load_network
from rramhil.nn.splits import make_splits
from rramhil.recover.correction import Correction
from rramhil.recover.ladder import NOTHING, Rung
from rramhil.recover.places import from_readback
from rramhil.recover.predict import (
    Writes,
    compensated,
    corrections,
    judged,
    refreshed,
    rewritten,
    right_answers,
)
from rramhil.recover.scores import moments
from rramhil.recover.watch import log_spaced, movement, sampled_columns

NETWORK, DIGITS = load_network("digits"), load_data("digits")
LEVELS = Levels(10, 1e-6, 40e-6, 2e-6)
_SPLITS = make_splits(DIGITS, NETWORK.card.split_seed)
LEARN = images_of(DIGITS, _SPLITS.calibration)
JUDGE = images_of(DIGITS, _SPLITS.validation)


@pytest.fixture(scope="module")
def mapped() -> MappedNetwork:
    with rramhil.connect("emulator:statistical") as device:
        return map_network(NETWORK.matrices(), device.spec, LEVELS, TwoColumn())


def read(mapped: MappedNetwork, sigma: float, stuck: float, seed: int) -> np.ndarray:
    """Siemens after an open-loop write with multiplicative errors and cells stuck at HRS."""
    random = np.random.default_rng(seed)
    siemens = np.abs(mapped.siemens * (1 + sigma * random.standard_normal(mapped.siemens.size)))
    siemens[random.random(siemens.size) < stuck] = 0.5e-6
    return siemens.astype(np.float32)


Result = TypeVar("Result")


def result_of(steps: Generator[object, None, Result]) -> Result:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def fitted(
    rung: Rung, mapped: MappedNetwork, siemens: np.ndarray, learn: Images = LEARN
) -> Correction | None:
    array = from_readback(NETWORK, mapped.weights_from(siemens))
    return result_of(corrections(rung, NETWORK, array, learn, JUDGE, seed=0))


def points(mapped: MappedNetwork, siemens: np.ndarray, own: Correction | None) -> float:
    array = from_readback(NETWORK, mapped.weights_from(siemens))
    return 100 * float(right_answers(NETWORK, JUDGE, own.applied(array) if own else array).mean())


@pytest.mark.parametrize(("sigma", "stuck"), [(0.5, 0.0), (0.3, 0.09)], ids=["varied", "faulty"])
def test_each_rung_of_digital_numbers_recovers_more(
    mapped: MappedNetwork, sigma: float, stuck: float
) -> None:
    siemens = np.stack([read(mapped, sigma, stuck, seed) for seed in range(3)])
    rungs = [NOTHING, Rung("affine", 0.0, 128), Rung("sparse", 0.05, 128)]
    means = [np.mean([points(mapped, s, fitted(r, mapped, s)) for s in siemens]) for r in rungs]
    ideal = points(mapped, mapped.siemens, fitted(NOTHING, mapped, siemens[0]))
    assert means[0] < ideal - 4
    assert means[0] + 3 < means[1] <= means[2] + 0.5
    assert means[2] > ideal - 0.7
    distilled = Rung("distilled", 0.01, 128, epochs=3)
    assert points(mapped, siemens[0], fitted(distilled, mapped, siemens[0])) > means[0] + 3


def test_a_rung_draws_from_its_seed_alone_and_looks_at_no_label(mapped: MappedNetwork) -> None:
    siemens = read(mapped, 0.5, 0.0, 1)
    first = fitted(Rung("sparse", 0.05, 128), mapped, siemens).as_arrays()
    mislabelled = Images(LEARN.pixels, (LEARN.labels + 1) % 10)
    again = fitted(Rung("sparse", 0.05, 128), mapped, siemens, mislabelled).as_arrays()
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])


def test_rewriting_is_played_through_with_the_errors_of_this_die(mapped: MappedNetwork) -> None:
    siemens, random = read(mapped, 0.5, 0.05, 2), np.random.default_rng(0)
    writes = Writes(siemens, LEVELS.nearest(mapped.siemens), LEVELS)
    chosen = np.zeros(siemens.size, dtype=bool)
    chosen[: siemens.size // 2] = True
    stuck = np.isclose(siemens, 0.5e-6) & (mapped.siemens > 4e-6)
    result = rewritten(writes, siemens, chosen, stuck, 400, random)
    np.testing.assert_array_equal(result.siemens[~chosen], siemens[~chosen])
    np.testing.assert_array_equal(result.siemens[stuck], siemens[stuck])
    inside = np.abs(result.siemens - mapped.siemens) <= LEVELS.tolerance
    assert inside[chosen & ~stuck].mean() > 0.99
    assert result.given_up[chosen & stuck].all()
    # Mean of a geometric law: a write to a level lands in its window one time in 1 / share.
    away = chosen & ~stuck & (np.abs(siemens - mapped.siemens) > LEVELS.tolerance)
    shares = np.array([writes.share(level) for level in range(10)])[writes.level[away]]
    expected = 2 * (1 / shares).sum() + 400 * np.count_nonzero(stuck & chosen)
    assert result.pulses == pytest.approx(expected, rel=0.05)


def test_partners_of_given_up_cells_take_over_their_error(mapped: MappedNetwork) -> None:
    siemens, random = read(mapped, 0.3, 0.0, 3), np.random.default_rng(0)
    stuck = random.random(siemens.size) < 0.02
    siemens[stuck] = 30e-6
    writes = Writes(siemens, LEVELS.nearest(mapped.siemens), LEVELS)
    every = np.ones(siemens.size, dtype=bool)
    once = rewritten(writes, siemens, every, stuck, 400, random)
    twice = compensated(once, mapped, LEVELS, random)
    nothing = fitted(NOTHING, mapped, siemens)
    assert points(mapped, twice.siemens, nothing) > points(mapped, once.siemens, nothing) + 1
    np.testing.assert_array_equal(twice.siemens[stuck], siemens[stuck])
    assert 0 < twice.pulses - once.pulses <= 2 * np.count_nonzero(stuck)


def test_gains_and_biases_take_back_what_all_cells_lost(mapped: MappedNetwork) -> None:
    siemens = read(mapped, 0.5, 0.0, 4)
    own = fitted(Rung("sparse", 0.05, 128), mapped, siemens)
    decayed = (0.6 * siemens + 6e-6).astype(np.float32)
    before = points(mapped, decayed, own)
    array = own.applied(from_readback(NETWORK, mapped.weights_from(decayed)))
    refresh = result_of(refreshed(NETWORK, array, LEARN, seed=0))
    now = points(mapped, decayed, own.then(refresh))
    assert now > before + 2
    assert now > points(mapped, siemens, own) - 2


def test_a_few_columns_tell_how_much_the_array_moved(mapped: MappedNetwork) -> None:
    seen, random = moments(NETWORK, LEARN), np.random.default_rng(0)
    before = read(mapped, 0.1, 0.0, 5)
    now = (before + 2e-6 * random.standard_normal(before.size)).astype(np.float32)
    every = movement(mapped, before, now, np.ones(before.size, dtype=bool), seen)
    few = sampled_columns(mapped, 8, random)
    assert few.sum() == 8 * (64 + 128 + 64)
    part = movement(mapped, before, np.where(few, now, np.nan), few, seen)
    assert part.rms_siemens == pytest.approx(2e-6, rel=0.1)
    assert part.output_error == pytest.approx(every.output_error, rel=0.3)
    assert movement(mapped, before, before, few, seen).output_error == 0
    twice = movement(mapped, before, (2 * now - before).astype(np.float32), few, seen)
    assert twice.output_error == pytest.approx(4 * part.output_error, rel=0.01)


def test_references_are_always_looked_at_and_count_once() -> None:
    """The energy of independent movements: that of the cells, and of both references together."""
    with rramhil.connect("emulator:statistical") as device:
        mapped = map_network(NETWORK.matrices(), device.spec, LEVELS, ReferenceColumn())
    seen, random = moments(NETWORK, LEARN), np.random.default_rng(0)
    before = read(mapped, 0.1, 0.0, 5).astype(np.float64)
    few = sampled_columns(mapped, 8, random)
    assert few.sum() == (8 + 2) * (64 + 128 + 64)
    errors = []
    for references in (1.0, 0.0):
        tables = [layer.scheme.column_of(layer.shape[1], LEVELS) < 0 for layer in mapped.layers]
        moves = [
            np.tile(np.where(table, references, 1.0), layer.cells.shape[0])
            for table, layer in zip(tables, mapped.layers, strict=True)
        ]
        now = before + 2e-6 * np.concatenate(moves) * random.standard_normal(before.size)
        every = movement(mapped, before, now, np.ones(before.size, dtype=bool), seen)
        part = movement(mapped, before, np.where(few, now, np.nan), few, seen)
        assert part.output_error == pytest.approx(every.output_error, rel=0.35)
        errors.append(part.output_error)
    # Two references, whose mean has half of a cell's variance.
    assert errors[0] == pytest.approx(1.5 * errors[1], rel=0.3)


def test_a_cell_that_rows_share_moves_the_output_by_the_sum_of_their_inputs() -> None:
    """One cell moved: the share of the outputs' variance, from the products themselves."""
    layer = Layer(name="only", kind="linear", inputs=6, outputs=3, relu=False)
    card = Card(
        name="small", data="any", image_shape=(1, 2, 3), layers=(layer,), script="", recipe="",
        seed=0, split_seed=0, accuracy={},
    )  # fmt: skip
    table, random = np.array([2, 0, 1, 0, 2, 2]), np.random.default_rng(0)
    weights = torch.from_numpy(random.normal(size=(3, 3))[table].astype(np.float32))
    network = Network(card, {"only": weights}, {"only": torch.zeros(3)})
    pixels = torch.from_numpy(random.random((40, 1, 2, 3), dtype=np.float32))
    images = Images(pixels, torch.zeros(40, dtype=torch.int64))
    with rramhil.connect("emulator:statistical") as device:
        mapped = map_network(
            network.matrices(), device.spec, LEVELS, TwoColumn(), rows={"only": table}
        )
    before = mapped.siemens.astype(np.float64)
    now = before.copy()
    now[2 * 6 + 1] += 3e-6  # in physical row 2, which holds rows 0, 4 and 5
    every = np.ones(before.size, dtype=bool)
    seen = moments(network, images, rows={"only": table})
    inputs = pixels.flatten(1).double().numpy()
    errors = inputs @ (mapped.weights_from(now)["only"] - mapped.weights_from(before)["only"])
    variance = (inputs @ weights.double().numpy()).var(axis=0).mean()
    found = movement(mapped, before, now, every, seen)
    assert found.output_error == pytest.approx(float((errors**2).mean() / variance), rel=1e-4)


def test_cells_that_give_no_answer_are_counted_and_left_out(mapped: MappedNetwork) -> None:
    seen, before = moments(NETWORK, LEARN), read(mapped, 0.1, 0.0, 6)
    few = sampled_columns(mapped, 2, np.random.default_rng(0))
    now = before.copy()
    now[np.flatnonzero(few)[:10]] = np.nan
    found = movement(mapped, before, now, few, seen)
    assert (found.unreadable, found.rms_siemens) == (10, 0.0)
    with pytest.raises(ValueError, match="none of the sampled cells"):
        movement(mapped, before, np.full_like(now, np.nan), few, seen)


def test_a_schedule_in_the_logarithm_of_time() -> None:
    np.testing.assert_allclose(log_spaced(1.0, 1e5, 6), [1, 10, 100, 1e3, 1e4, 1e5])
    with pytest.raises(ValueError, match="at least 2 points"):
        log_spaced(10.0, 1.0, 3)


def test_a_judgement_counts_pairs() -> None:
    right, ideal = np.array([True, True, False, False]), np.array([True, False, True, False])
    own = judged(right, ideal)
    assert (own.count, own.right, own.gained, own.lost) == (4, 2, 1, 1)
    assert own.loss == 0
