"""A low-rank correction: recovers as a sparse one of as many numbers does, and counts them."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from digits_network import accuracy, array_of, images, mapped, network

from rramhil.recover.cost import digital_cost
from rramhil.recover.loop import Recovery, adapt, best
from rramhil.recover.low_rank import LowRankSettings, low_rank_adaptation
from rramhil.recover.places import Computed, LowRank, from_readback
from rramhil.recover.rsa import RsaSettings, random_sparse_adaptation

SHORT = LowRankSettings(epochs=3)


def recovered(recovery: Recovery, array: Computed) -> Computed:
    for epoch in adapt(recovery, network(), array, images("train"), images("validation")):
        last = epoch
    return best(recovery, array, last.checkpoint)


@pytest.mark.parametrize(
    ("sigma", "stuck_lrs", "stuck_hrs"),
    [(0.5, 0.0, 0.0), (0.3, 0.0175, 0.0904)],
    ids=["multiplicative 0.5", "with stuck cells"],
)
def test_low_rank_and_sparse_of_as_many_numbers_both_recover(
    sigma: float, stuck_lrs: float, stuck_hrs: float
) -> None:
    ideal = accuracy(from_readback(network(), mapped().ideal_weights()))
    lost: dict[str, list[float]] = {"before": [], "low_rank": [], "sparse": []}
    for die in range(2):
        array = array_of(die, sigma, stuck_lrs, stuck_hrs)
        thin = low_rank_adaptation(LowRankSettings(seed=die), array)
        numbers = digital_cost(thin.places, array, 0, 0, 0).parameters["low_rank"]
        fraction = numbers / mapped().weight_count
        sparse = random_sparse_adaptation(
            RsaSettings(fraction=fraction, gains=True, seed=die), array
        )
        counted = digital_cost(sparse.places, array, 0, 0, 0).parameters["sparse"]
        assert numbers - 3 <= counted <= numbers
        lost["before"].append(ideal - accuracy(array))
        lost["low_rank"].append(ideal - accuracy(recovered(thin, array)))
        lost["sparse"].append(ideal - accuracy(recovered(sparse, array)))
    assert np.mean(lost["before"]) > 0.04
    assert np.mean(lost["low_rank"]) < 0.015
    assert np.mean(lost["sparse"]) < 0.015


def test_it_adds_the_product_of_its_factors_and_begins_without_effect() -> None:
    array = Computed(network().weights, network().biases)
    place = LowRank(2, seed=1)
    start = place.start(array)
    for name, weight in place.correct(start, array).weights.items():
        assert torch.equal(weight, array.weights[name])
        assert start[name].shape == (sum(weight.shape), 2)
        assert int(torch.linalg.matrix_rank(start[name])) == 2
    factors = {name: torch.ones_like(tensor) for name, tensor in start.items()}
    factors["fc3"][0] = torch.tensor([3.0, 4.0])
    moved = place.correct(factors, array).weights["fc3"] - array.weights["fc3"]
    torch.testing.assert_close(moved[0], torch.full((10,), 7.0))
    torch.testing.assert_close(moved[1:], torch.full((63, 10), 2.0))
    assert torch.equal(place.start(array)["fc1"], start["fc1"])
    assert not torch.equal(LowRank(2, seed=2).start(array)["fc1"], start["fc1"])


def test_stopping_and_resuming_changes_nothing() -> None:
    array = array_of(0, 0.5)
    recovery = low_rank_adaptation(SHORT, array)
    learn = (recovery, network(), array, images("train"), images("validation"))
    whole = list(adapt(*learn))
    stopped = list(islice(adapt(*learn), 2))[-1]
    rest = list(adapt(*learn, checkpoint=stopped.checkpoint))
    for key, values in whole[-1].checkpoint.items():
        np.testing.assert_array_equal(rest[-1].checkpoint[key], values)


def test_every_number_is_counted_and_a_rank_too_high_is_refused() -> None:
    array = array_of(0, 0.5)
    cost = digital_cost(low_rank_adaptation(SHORT, array).places, array, 900, 900, 150)
    thin = 2 * ((64 + 128) + (128 + 64) + (64 + 10))
    assert cost.parameters == {"low_rank": thin, "gains": 202, "biases": 202}
    assert cost.index_bits == 0
    with pytest.raises(ValueError, match=r"layer fc3 has weights, 64 x 10; give a rank of at most"):
        low_rank_adaptation(LowRankSettings(rank=9), array)
    low_rank_adaptation(LowRankSettings(rank=8), array)
    with pytest.raises(ValueError, match="rank of at least 1"):
        LowRank(0, seed=0)
