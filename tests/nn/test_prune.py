"""Pruning: how much goes where, what stays zero, what a search settles on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import pytest
import torch
from digits_network import images, network
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.nn.network import accuracy_of, load_network
from rramhil.nn.prune import (
    METHODS,
    MOST,
    Method,
    Pruning,
    kept,
    layer_ratios,
    prune,
    search,
    sparsity,
    whole_sparsity,
)

QUICK = Pruning(0.5, epochs=4, batch=100)


@given(st.floats(0.01, 0.9), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_the_smallest_are_cut_and_as_many_as_asked(ratio: float, relative: bool, seed: int) -> None:
    weight = torch.randn(12, 7, generator=torch.Generator().manual_seed(seed))
    mask = kept(weight, ratio, relative)
    assert int((mask == 0).sum()) == round(ratio * 84)
    sizes = weight.abs()
    if relative:
        sizes = sizes / weight.square().mean(0).sqrt()
    if bool((mask == 0).any()) and bool((mask == 1).any()):
        assert sizes[mask == 0].max() <= sizes[mask == 1].min()


def test_a_relative_cut_leaves_a_column_of_small_weights_its_share() -> None:
    weight = torch.randn(50, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor(
        [1, 0.01]
    )
    assert float(kept(weight, 0.5, relative=False)[:, 1].sum()) == 0
    assert 15 <= float(kept(weight, 0.5, relative=True)[:, 1].sum()) <= 35


@given(st.floats(0.05, 0.9))
@settings(max_examples=20, deadline=None)
def test_small_ends_lose_half_as_much_and_the_whole_what_was_asked(ratio: float) -> None:
    weights = {"a": torch.ones(2, 5), "b": torch.ones(50, 20), "c": torch.ones(20, 2)}
    shares = layer_ratios(weights, ratio)
    assert shares["a"] == shares["c"] == pytest.approx(shares["b"] / 2)
    lost = sum(shares[name] * weight.numel() for name, weight in weights.items())
    assert lost == pytest.approx(ratio * 1050)


@pytest.mark.parametrize("method", METHODS)
def test_pruned_to_the_ratio_without_losing_what_it_knows(method: Method) -> None:
    *_, last = prune(network(), images("train"), replace(QUICK, method=method, epochs=8))
    assert whole_sparsity(last.network) == pytest.approx(0.5, abs=1e-3)
    assert sparsity(last.network)["fc3"] == pytest.approx(
        sparsity(last.network)["fc1"] / 2, abs=2e-3
    )
    dense = accuracy_of(network(), images("validation"))
    assert accuracy_of(last.network, images("validation")) > dense - 0.03
    masked = {n: w * kept(w, 0.5, relative=False) for n, w in network().weights.items()}
    assert not torch.equal(last.network.weights["fc2"], masked["fc2"])  # it was trained on


def test_the_same_seed_prunes_alike_and_another_does_not() -> None:
    few = images("train", 200)
    one, same, other = (
        list(prune(network(), few, replace(QUICK, seed=seed)))[-1].network for seed in (1, 1, 2)
    )
    assert torch.equal(one.weights["fc1"], same.weights["fc1"])
    assert not torch.equal(one.weights["fc1"], other.weights["fc1"])


def test_the_cut_grows_and_then_stands() -> None:
    steps: list[tuple[int, int]] = []
    epochs = list(
        prune(
            network(), images("train", 200), QUICK, lambda done, total: steps.append((done, total))
        )
    )
    zeros = [whole_sparsity(epoch.network) for epoch in epochs]
    assert 0 < zeros[0] < zeros[1]
    assert zeros[1:] == pytest.approx([0.5] * 3, abs=1e-3)
    assert steps == [(done, 8) for done in range(1, 9)]


def test_admm_pulls_the_weights_to_few_before_it_cuts() -> None:
    few = images("train", 400)
    slow = replace(QUICK, method="admm", epochs=8, batch=20, learning_rate=3e-3)
    pulled = [
        list(islice(prune(network(), few, replace(slow, rho=rho)), 4))[-1].network
        for rho in (1e-9, 1.0)
    ]
    small = [
        float((w.weights["fc2"] * (1 - kept(w.weights["fc2"], 0.5, relative=False))).square().sum())
        for w in pulled
    ]
    assert small[1] < 0.5 * small[0]


def test_a_search_ends_with_the_largest_ratio_within_the_budget() -> None:
    learn, judge = images("train"), images("validation")
    found = list(search(network(), learn, judge, replace(QUICK, ratio=0.5), 2.0, step=0.2))
    dense = accuracy_of(network(), judge)
    for trial in found:
        assert trial.accuracy == accuracy_of(trial.network, judge)
        assert trial.loss_points == pytest.approx(100 * (dense - trial.accuracy))
        assert trial.within == (trial.loss_points <= 2.0)
    held = [trial.ratio for trial in found if trial.within]
    beyond = [trial.ratio for trial in found if not trial.within]
    assert held == sorted(held)
    assert not beyond or max(held) < min(beyond)


def test_a_search_that_cannot_hold_its_budget_has_no_answer() -> None:
    few = images("train", 100)
    hard = replace(QUICK, ratio=0.96, epochs=2)
    assert not any(t.within for t in search(network(), few, images("validation"), hard, 0.0))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"ratio": 0.0}, "share of the weights"),
        ({"ratio": MOST + 0.01}, "share of the weights"),
        ({"ratio": float("nan")}, "share of the weights"),
        ({"method": "magnitud"}, "did you mean 'magnitude'"),
        ({"epochs": 1}, "two epochs"),
        ({"growing": 1.0}, "between 0 and 1"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(QUICK, **wrong)  # type: ignore[arg-type]


def test_a_ratio_below_what_is_there_already_is_refused() -> None:
    with pytest.raises(ValueError, match="zeros already"):
        next(prune(load_network("digits-pruned"), images("train"), replace(QUICK, ratio=0.2)))


def test_a_search_that_goes_on_halves_its_step_from_the_ratio_that_is_there() -> None:
    shipped, few = load_network("digits-pruned"), images("train", 100)
    hard = replace(QUICK, ratio=0.9, epochs=2)
    found = list(search(shipped, few, images("validation"), hard, 0.0, dense_accuracy=1.0))
    assert [trial.ratio for trial in found] == [0.9, 0.55]
    assert not any(trial.within for trial in found)


@pytest.mark.parametrize("begin", [prune, search])
def test_an_integer_network_is_refused(begin: Callable[..., Iterator[object]]) -> None:
    more = () if begin is prune else (images("validation"),)
    budget = () if begin is prune else (1.0,)
    integers = load_network("digits-1b2b")
    with pytest.raises(ValueError, match="prune one in floating point"):
        next(begin(integers, images("train"), *more, QUICK, *budget))


def test_more_than_the_inner_layers_can_give_is_refused() -> None:
    weights = {"a": torch.ones(1, 40), "b": torch.ones(30, 30), "c": torch.ones(40, 1)}
    with pytest.raises(ValueError, match="give at most"):
        layer_ratios(weights, 0.97)


def test_the_shipped_network_is_as_sparse_and_as_good_as_its_card_says() -> None:
    shipped = load_network("digits-pruned")
    assert f"to {whole_sparsity(shipped):.1f}" in shipped.card.recipe
    assert accuracy_of(shipped, images("test")) == pytest.approx(
        shipped.card.accuracy["teacher_test"], abs=1e-6
    )
