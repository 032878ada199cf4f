"""The ladder's decisions: cheapest sufficient rung, climbing, budgets, and its statistics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.device import Refused
from rramhil.recover.confidence import accuracy_bound, difference_bound, fewest_images
from rramhil.recover.ladder import (
    Budget,
    Candidate,
    CarryOut,
    Done,
    Goal,
    Judged,
    Predict,
    Price,
    Rung,
    after_writing,
    cheapest_first,
    next_move,
)

GOAL = Goal(loss=0.03)


def judged(gained: int = 0, lost: int = 0, count: int = 1000) -> Judged:
    return Judged(count, 900 + gained - lost, gained, lost)


GOOD, BAD, WORSE = judged(), judged(lost=50), judged(lost=200)


def ladder() -> list[Candidate]:
    rungs = [
        Candidate(Rung("nothing"), Price(0.1)),
        Candidate(Rung("affine", 0.0, 128), Price(0.1, memory_bits=100, images=128)),
        Candidate(Rung("sparse", 0.05, 128), Price(0.1, 0, 0.05, 900, 128)),
        Candidate(Rung("write", rewrite=1.0), Price(2.0, 50_000)),
    ]
    return cheapest_first(rungs, "writes")


def climb(true: dict[str, Judged], reached: dict[str, Judged], budget: Budget) -> list[str]:
    """What the ladder does, in words, when the rungs predict `true` and reach `reached`."""
    candidates, said = ladder(), []
    while True:
        match next_move(candidates, GOAL, budget):
            case Predict(place):
                own = candidates[place]
                candidates[place] = replace(own, predicted=true[own.rung.name])
            case CarryOut(place):
                own = candidates[place]
                name = own.rung.name
                candidates[place] = replace(own, reached=reached[name], paid=own.price)
                said.append(name)
                if own.rung.rewrite:
                    candidates = after_writing(candidates, place)
            case Done(place, shown):
                return [*said, f"{candidates[place].rung.name} {'shown' if shown else 'missed'}"]


def test_the_cheapest_rung_that_should_do_is_carried_out() -> None:
    true = {"nothing": WORSE, "affine": GOOD, "sparse": GOOD, "write": GOOD}
    assert climb(true, true, Budget()) == ["affine", "affine shown"]
    assert climb({**true, "nothing": GOOD}, {"nothing": GOOD}, Budget())[-1] == "nothing shown"


def test_it_climbs_when_the_chip_does_not_keep_what_was_predicted() -> None:
    true = {"nothing": WORSE, "affine": GOOD, "sparse": GOOD, "write": GOOD}
    reached = {"affine": BAD, "sparse": BAD, "write": GOOD}
    assert climb(true, reached, Budget()) == ["affine", "sparse", "write", "write shown"]


def test_when_all_fall_short_the_best_since_the_last_writing_is_kept() -> None:
    true = {"nothing": WORSE, "affine": GOOD, "sparse": GOOD, "write": BAD}
    reached = {"affine": WORSE, "sparse": BAD}
    assert climb(true, reached, Budget()) == ["affine", "sparse", "sparse missed"]
    reached = {"affine": WORSE, "sparse": BAD, "write": WORSE}
    true = {**true, "write": GOOD}
    assert climb(true, reached, Budget())[-1] == "write missed"


def test_a_rung_outside_the_budget_is_passed_over_and_named_when_nothing_else_does() -> None:
    true = {"nothing": WORSE, "affine": BAD, "sparse": GOOD, "write": GOOD}
    assert climb(true, true, Budget(digital_fraction=0.01)) == ["write", "write shown"]
    with pytest.raises(Refused, match=r"'sparse' should, but needs digital_fraction = 0.05 inst"):
        climb(true, true, Budget(digital_fraction=0.01, pulses=100))


def test_what_was_paid_on_the_way_up_counts_against_the_budget() -> None:
    true = {"nothing": WORSE, "affine": GOOD, "sparse": GOOD, "write": GOOD}
    reached = {"affine": BAD, "sparse": BAD, "write": GOOD}
    assert climb(true, reached, Budget(device_seconds=2.1))[-1] == "affine missed"
    assert climb(true, reached, Budget(device_seconds=2.2))[-1] == "write shown"


def test_a_target_out_of_reach_is_refused_with_one_that_is_not() -> None:
    true = dict.fromkeys(("nothing", "affine", "sparse", "write"), WORSE)
    with pytest.raises(Refused, match=r"no recovery should reach a loss of at most 3 points") as e:
        climb({**true, "sparse": BAD}, {}, Budget())
    end = -100 * difference_bound(0, 50, 1000, 0.95)
    assert f"'sparse' comes closest and could show {end:.2f} points" in str(e.value)


def test_too_few_images_for_a_target_are_refused_with_how_many_would_do() -> None:
    with pytest.raises(Refused, match="that takes at least 268 of them"):
        Goal(loss=0.01).check(150)
    Goal(loss=0.01).check(268)
    with pytest.raises(Refused, match=r"cannot show an accuracy of 99\.00%"):
        Goal(accuracy=0.99).check(267)
    Goal(accuracy=0.99).check(268)


def test_prices_are_compared_by_what_is_preferred() -> None:
    rungs = [
        Candidate(Rung("a"), Price(5.0, 0, 0.1, 500)),
        Candidate(Rung("b"), Price(1.0, 10, 0.0, 0)),
    ]
    names = [cheapest_first(rungs, how)[0].rung.name for how in ("writes", "memory", "time")]
    assert names == ["a", "b", "b"]


@pytest.mark.parametrize("goal", [{}, {"accuracy": 0.9, "loss": 0.1}])
def test_a_goal_is_one_of_two(goal: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="either"):
        Goal(**goal)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(60, 3000))
def test_bounds_lie_below_what_was_seen_and_rise_with_it(gain: int, loss: int, count: int) -> None:
    seen = (gain - loss) / count
    bound = difference_bound(gain, loss, count, 0.95)
    assert -1 < bound < seen
    assert bound < difference_bound(gain + 1, loss, count, 0.95)
    assert bound < difference_bound(gain, loss, count, 0.9)
    assert accuracy_bound(count - loss, count, 0.95) < 1 - loss / count + 1e-12


def test_the_bound_of_pairs_is_tangos_score_interval() -> None:
    """Against its definition: the constrained likelihood maximised on a grid."""
    gained, lost, count, z = 3, 9, 150, 1.6448536
    bound = difference_bound(gained, lost, count, 0.95)
    p21 = np.linspace(max(0, -bound) + 1e-6, 0.5, 200_001)
    likelihood = gained * np.log(p21 + bound) + lost * np.log(p21)
    likelihood += (count - gained - lost) * np.log(1 - 2 * p21 - bound)
    best = p21[np.argmax(likelihood)]
    spread = np.sqrt(count * (2 * best + bound * (1 - bound)))
    assert (gained - lost - count * bound) / spread == pytest.approx(z, rel=1e-4)
    assert difference_bound(0, 0, 150, 0.95) == pytest.approx(-z * z / (150 + z * z))
    assert fewest_images(0.0177, 0.95) in (150, 151)


def test_bounds_cover_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    right = random.binomial(150, 0.95, 2000)
    assert np.mean([accuracy_bound(int(n), 150, 0.95) <= 0.95 for n in right]) > 0.93
    pairs = random.multinomial(400, [0.01, 0.03, 0.96], 2000)
    covered = [difference_bound(int(g), int(b), 400, 0.95) <= -0.02 for g, b, _ in pairs]
    assert 0.93 < np.mean(covered) < 0.98
