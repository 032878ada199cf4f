"""The polarity of the stuck cells decides between schemes, and by the amount that is derived."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.mapping import SCHEMES, Levels, StuckShares, choose_scheme, find_scheme
from rramhil.mapping.choice import expected_squared_error

TEN = Levels(10, 1e-6, 40e-6, 1e-6)


def pruned(ratio: float = 0.6, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    weights = {name: random.normal(size=(60, 30)) for name in ("a", "b")}
    return {name: w * (np.abs(w) > np.quantile(np.abs(w), ratio)) for name, w in weights.items()}


@pytest.mark.parametrize("rate", [1e-4, 1e-2, 0.1])
@pytest.mark.parametrize("ratio", [0.0, 0.6, 0.8])
def test_the_polarity_of_the_faults_decides(rate: float, ratio: float) -> None:
    often, seldom = rate * 5.2 / 6.2, rate / 6.2
    on = choose_scheme(pruned(ratio), TEN, StuckShares(lrs=often, hrs=seldom))
    assert [cost.scheme for cost in on] == ["differential", "two_column"]
    off = choose_scheme(pruned(ratio), TEN, StuckShares(lrs=seldom, hrs=often))
    assert [cost.scheme for cost in off] == ["two_column", "differential"]
    # The mirror image of a scheme errs as much under mirrored faults; so only current is left.
    assert on[0].error == pytest.approx(off[0].error)
    assert on[0].siemens > 4 * off[0].siemens
    assert on[0].cells == on[1].cells == 2


def test_pruning_widens_the_gap_and_without_faults_current_decides() -> None:
    shares = StuckShares(lrs=5.2e-3, hrs=1e-3)
    gaps = []
    for ratio in (0.0, 0.6, 0.9):
        best, worst = choose_scheme(pruned(ratio), TEN, shares)
        gaps.append((worst.error - worst.rounding) / (best.error - best.rounding))
    assert gaps[0] < gaps[1] < gaps[2]
    clean = choose_scheme(pruned(), TEN, StuckShares(0, 0))
    assert [cost.scheme for cost in clean] == ["two_column", "differential"]
    assert clean[0].error == pytest.approx(clean[0].rounding)


@settings(deadline=None, max_examples=8)
@given(st.sampled_from(sorted(SCHEMES)), st.integers(0, 99))
def test_the_expected_error_is_that_of_drawn_faults(scheme: str, seed: int) -> None:
    """Mean of many drawn arrays, cells stuck off the levels too."""
    random, own = np.random.default_rng(seed), find_scheme(scheme)
    weights = random.uniform(-1, 1, (2, 3)) * (random.random((2, 3)) < 0.6)
    stuck = StuckShares(0.15, 0.1, lrs_siemens=50e-6, hrs_siemens=0.2e-6)
    targets = np.tile(own.encode(weights, TEN), (20_000, 1))
    luck = random.random(targets.shape)
    held = np.where(luck < 0.15, 50e-6, np.where(luck > 0.9, 0.2e-6, targets))
    change = (own.decode(held, TEN) - own.decode(targets, TEN)).reshape(20_000, 2, 3)
    spread = (change**2).std(axis=0) / np.sqrt(20_000)
    expected = expected_squared_error(own, weights, TEN, stuck)
    assert (np.abs((change**2).mean(axis=0) - expected) < 6 * spread + 1e-12).all()


def test_inputs_that_are_never_driven_do_not_count() -> None:
    random = np.random.default_rng(3)
    zeros, full = np.zeros((20, 5)), np.sign(random.normal(size=(20, 5)))
    weights = {"a": np.vstack([zeros, full, [[1.0] * 5]])}
    shares = StuckShares(lrs=2e-3, hrs=1e-3)
    all_alike = choose_scheme(weights, TEN, shares)
    only_full = {"a": np.r_[np.zeros(20), np.ones(21)]}
    driven = choose_scheme(weights, TEN, shares, energies=only_full)
    errors = {cost.scheme: cost.error for cost in driven}
    assert all_alike[0].scheme == "differential"
    # A full weight has one cell high and one low, so both schemes lose the same.
    assert errors["differential"] == pytest.approx(errors["two_column"])
    with pytest.raises(ValueError, match=r"layer a has 41 rows.*give one E\[x\^2\] a row"):
        choose_scheme(weights, TEN, shares, energies={"a": np.ones(5)})


@pytest.mark.parametrize(("lrs", "hrs"), [(-0.1, 0.0), (0.6, 0.6), (float("nan"), 0.0)])
def test_shares_that_are_none_are_refused(lrs: float, hrs: float) -> None:
    with pytest.raises(ValueError, match="no shares of all cells"):
        StuckShares(lrs, hrs)


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to choose from"):
        choose_scheme({}, TEN, StuckShares(0, 0))
    with pytest.raises(ValueError, match="nothing to choose from"):
        choose_scheme(pruned(), TEN, StuckShares(0, 0), [])
