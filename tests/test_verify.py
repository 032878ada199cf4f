"""Write-verify: the pure decision, the loop, and the statistics of what it left behind."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rramhil.address import open_device
from rramhil.device import Device, Kind, Pulse, Range, Refused, Spec
from rramhil.mapping import Levels
from rramhil.rounds import Round
from rramhil.tune import gate_curve, gate_sweep
from rramhil.verify import (
    FPPV,
    ISPP,
    SDR,
    Bias,
    Ramp,
    Recipe,
    State,
    Target,
    next_pulses,
    program,
    settled_reading,
    window_yield,
    write_open_loop,
)

RECIPES = [ISPP(), FPPV(), SDR(), SDR(first_reset=True), ISPP(first_reset=True)]
LEVELS = Levels(10, 20e-6, 200e-6, 5e-6)


@pytest.fixture(scope="module")
def die() -> Device:
    return open_device("emulator:40nm?die=5&seed=1&stuck_lrs=0&stuck_hrs=0&stuck_rows=0")


@pytest.fixture(scope="module")
def target(die: Device) -> Target:
    points = list(gate_sweep(die, np.arange(128) * 97, 1.4, 3.6, 45, Bias()))
    wanted = LEVELS.siemens[np.arange(600) % 10]
    return Target(*LEVELS.windows(wanted), gate_curve(points).nominal_gate(wanted))


CELLS = np.arange(600) * 3 + 20_000


@given(
    recipe=st.sampled_from(RECIPES),
    siemens=st.lists(
        st.one_of(st.floats(0, 3e-4), st.just(np.inf), st.just(np.nan)), min_size=1, max_size=12
    ),
    heading=st.integers(-1, 1),
    step=st.integers(0, 60),
)
@example(ISPP(), [50e-6, 150e-6], 1, 37)
@example(ISPP(), [50e-6, 150e-6], 1, 38)
@settings(deadline=None, max_examples=80)
def test_pulses_go_towards_the_window_and_stay_on_the_grid(
    die: Device, recipe: Recipe, siemens: list[float], heading: int, step: int
) -> None:
    count = len(siemens)
    reading = np.array(siemens)
    state = State(
        np.full(count, heading, np.int8),
        np.full(count, step, np.int32),
        np.zeros(count, bool),
        np.zeros(count, np.int32),
        np.zeros(count, np.int32),
        np.zeros(count, bool),
    )
    target = Target(np.full(count, 90e-6), np.full(count, 110e-6), np.full(count, 2.4))
    pulses, after = next_pulses(np.arange(count), reading, target, state, recipe, Bias(), die.spec)
    set_, reset = np.zeros(count, int), np.zeros(count, int)
    for pulse in pulses:
        die.spec.check_pulse(pulse)
        (set_ if pulse.kind is Kind.SET else reset)[pulse.cells] += 1
    first = recipe.first_reset and heading == 0
    answered = ~np.isnan(reading)
    assert np.array_equal(reset > 0, answered & ((reading > 110e-6) | first))
    below = answered & (reading < 90e-6) & (not first)
    assert np.array_equal(set_ > 0, below & ~after.spent)
    risen = 2.1 + 0.05 * (step + 1 if heading == 1 else 0)  # of ISPP; the device ends at 4 V
    assert np.array_equal(after.spent, below & (recipe.algorithm == "ispp") & (risen > 4.0 + 1e-9))
    assert np.array_equal(after.sets, set_)
    assert np.array_equal(after.resets, reset)


def test_ispp_raises_the_gate_from_pulse_to_pulse_and_starts_again_after_a_reset(
    die: Device,
) -> None:
    recipe = ISPP(gate_start_volts=1.5, gate_step_volts=0.1)
    target = Target(np.array([90e-6]), np.array([110e-6]), np.array([2.4]))
    state = State.fresh(1, coarse=False)
    gates = []
    for siemens in (10e-6, 40e-6, 60e-6, 150e-6, 12e-6):
        pulses, state = next_pulses(
            np.array([7]), np.array([siemens]), target, state, recipe, Bias(), die.spec
        )
        assert len(pulses) == 1
        if pulses[0].kind is Kind.SET and pulses[0].gate_volts is not None:
            gates.append(float(pulses[0].gate_volts[0]))
    assert gates == pytest.approx([1.5, 1.6, 1.7, 1.5])


def narrow(die: Device, low: float, high: float, step: float = 0.005) -> Spec:
    """The spec of `die` with another range of gate voltages for SET."""
    limits = replace(die.spec.pulses[Kind.SET], gate_volts=Range(low, high, step))
    return replace(die.spec, pulses={**die.spec.pulses, Kind.SET: limits})


def test_a_cell_whose_gate_ramp_leaves_the_range_is_given_up_not_repeated_at_the_limit() -> None:
    die = open_device("emulator:40nm?die=3&stuck_lrs=0&stuck_hrs=0&stuck_rows=0")
    die.spec = narrow(die, 0.0, 2.5)
    sent: list[Pulse] = []
    apply = die.apply

    def watched(pulse: Pulse) -> None:
        sent.append(pulse)
        apply(pulse)

    die.apply = watched  # type: ignore[method-assign]
    within_reach = np.arange(50) % 2 == 1
    low = np.where(within_reach, 60e-6, 240e-6)
    target = Target(low, low + 10e-6, np.full(50, 2.4))
    *_, last = program(die, np.arange(50), target, ISPP(first_reset=True))
    assert np.array_equal(last.given_up, ~within_reach)
    assert last.inside[within_reach].all()
    gates = [p.gate_volts[p.cells == 0] for p in sent if p.kind is Kind.SET]  # type: ignore[index]
    of_first = np.concatenate(gates)
    assert of_first == pytest.approx([2.1, 2.15, 2.2, 2.25, 2.3, 2.35, 2.4, 2.45, 2.5])
    assert last.sets[0] == len(of_first)


def test_a_spent_cell_gets_no_pulse_whatever_it_reads(die: Device) -> None:
    target = Target(np.full(2, 90e-6), np.full(2, 110e-6), np.full(2, 2.4))
    state = replace(State.fresh(2, coarse=False), spent=np.ones(2, bool))
    reading = np.array([10e-6, 200e-6])
    pulses, after = next_pulses(np.arange(2), reading, target, state, ISPP(), Bias(), die.spec)
    assert pulses == []
    assert after.spent.all()
    assert not (after.sets | after.resets).any()


@pytest.mark.parametrize(
    ("low", "step", "first"), [(1.0, 0.005, 1.0), (1.003, 0.005, 1.005), (1.003, 0.0, 1.003)]
)
def test_a_gate_ramp_starts_no_lower_than_the_device_can(
    die: Device, low: float, step: float, first: float
) -> None:
    spec = narrow(die, low, 4.0, step)
    target = Target(np.array([3e-6] * 2), np.array([5e-6] * 2), np.array([1.1, 2.0]))
    state, gates = State.fresh(2, coarse=False), []
    for _ in range(3):
        pulses, state = next_pulses(
            np.arange(2), np.array([1e-6] * 2), target, state, ISPP(), Bias(), spec
        )
        spec.check_pulse(pulses[0])
        gates.append(pulses[0].gate_volts)
    assert np.array(gates) == pytest.approx(
        np.array([[first, 1.7], [first + 0.05, 1.75], [first + 0.1, 1.8]]), abs=0.0026
    )


@pytest.mark.parametrize("start", [0.5, 4.5])
def test_a_gate_start_out_of_range_is_refused(die: Device, start: float) -> None:
    spec = narrow(die, 1.0, 4.0)
    target = Target(np.array([90e-6]), np.array([110e-6]), np.array([2.0]))
    recipe = ISPP(gate_start_volts=start)
    state = State.fresh(1, coarse=False)
    pulses, _ = next_pulses(np.array([7]), np.array([1e-6]), target, state, recipe, Bias(), spec)
    with pytest.raises(Refused, match=rf"gate voltage {start} V is outside 1 to 4 V"):
        spec.check_pulse(pulses[0])


@pytest.mark.parametrize(("fine", "bias_stop", "end"), [(3.6, 4.8, 4.8), (4.2, 3.6, 4.2)])
def test_the_fine_line_ramp_of_sdr_goes_on_to_the_larger_of_its_ends(
    die: Device, fine: float, bias_stop: float, end: float
) -> None:
    recipe = SDR(fine_reset=Ramp(start=0.6, step=0.26, stop=fine))
    target = Target(np.array([0.0]), np.array([12e-6]), np.array([1.5]))
    state, volts = State.fresh(1, coarse=False), []
    for _ in range(25):
        pulses, state = next_pulses(
            np.array([7]), np.array([60e-6]), target, state, recipe,
            Bias(reset_stop_volts=bias_stop), die.spec,
        )  # fmt: skip
        volts.append(float(pulses[0].volts[0]))
    assert volts[:3] == pytest.approx([0.6, 0.86, 1.12])
    assert volts[-3:] == pytest.approx([end] * 3)


def test_sdr_sets_coarsely_once_then_ramps_and_restarts_when_it_turns(die: Device) -> None:
    recipe = SDR(
        first_reset=True,
        fine_set=Ramp(start=0.6, step=0.2, stop=3),
        fine_reset=Ramp(start=0.5, step=0.25, stop=3),
    )
    target = Target(np.array([90e-6]), np.array([110e-6]), np.array([2.4]))
    state = State.fresh(1, coarse=True)
    sent: list[tuple[str, float]] = []
    for siemens in (150e-6, 10e-6, 40e-6, 50e-6, 150e-6, 140e-6, 60e-6):
        pulses, state = next_pulses(
            np.array([7]), np.array([siemens]), target, state, recipe, Bias(), die.spec
        )
        sent += [(p.kind.value, float(p.volts[0])) for p in pulses]
    expected = [
        ("reset", 2.3), ("set", 2.0), ("set", 0.6), ("set", 0.8),
        ("reset", 0.5), ("reset", 0.75), ("set", 0.6),
    ]  # fmt: skip
    assert [kind for kind, _ in sent] == [kind for kind, _ in expected]
    assert [volts for _, volts in sent] == pytest.approx([volts for _, volts in expected])


def test_a_cell_that_will_not_reset_gets_more_than_the_published_cap(die: Device) -> None:
    bias = Bias(reset_volts=2.3, reset_step_volts=0.1, reset_stop_volts=3.6)
    target = Target(np.array([0.0]), np.array([12e-6]), np.array([1.5]))
    state = State.fresh(1, coarse=False)
    volts = []
    for _ in range(20):
        pulses, state = next_pulses(
            np.array([7]), np.array([60e-6]), target, state, ISPP(), bias, die.spec
        )
        volts.append(float(pulses[0].volts[0]))
    assert volts[:3] == pytest.approx([2.3, 2.4, 2.5])
    assert volts[-1] == pytest.approx(3.6)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.algorithm}-{r.first_reset}")
def test_every_recipe_brings_fresh_cells_into_their_windows(
    die: Device, target: Target, recipe: Recipe
) -> None:
    for _ in write_open_loop(die, CELLS, target.gate_volts):
        pass
    before = window_yield(settled_reading(die, CELLS, 0.0), target)
    rounds = list(program(die, CELLS, target, recipe))
    last = rounds[-1]
    assert before.fraction < 0.5
    assert last.inside.mean() > 0.9
    assert last.open_cells == 0
    assert np.array_equal(last.inside | last.given_up, np.ones(CELLS.size, bool))
    assert int((last.sets + last.resets).max()) <= recipe.max_pulses
    assert [r.open_cells for r in rounds] == sorted((r.open_cells for r in rounds), reverse=True)


def test_a_round_that_is_kept_goes_on_saying_what_it_said(die: Device, target: Target) -> None:
    def said(round_: Round) -> list[np.ndarray]:
        parts = round_.siemens, round_.inside, round_.given_up, round_.sets, round_.resets
        return [part.copy() for part in parts]

    kept, then = [], []
    for round_ in program(die, CELLS, target, SDR(max_pulses=12)):
        round_.siemens[:] = -1.0  # what a caller does to its arrays is its own affair
        kept.append(round_)
        then.append(said(round_))
    assert kept[-1].given_up.any()
    for round_, before in zip(kept, then, strict=True):
        for now, was in zip(said(round_), before, strict=True):
            np.testing.assert_array_equal(now, was)
        assert round_.open_cells == int((~before[1] & ~before[2]).sum())
    for (*_, sets, resets), (*_, more_sets, more_resets) in pairwise(then):
        assert (more_sets + more_resets - sets - resets).max() == 1
    assert not (then[-1][0] == -1.0).any()


def test_the_accepting_reading_is_biased_and_the_independent_one_says_so(
    die: Device, target: Target
) -> None:
    *_, last = program(die, CELLS, target, SDR())
    inside = last.inside
    accepted = last.siemens[inside]
    low, high = target.low[inside], target.high[inside]
    assert bool(np.all((accepted >= low) & (accepted <= high)))
    settled = window_yield(settled_reading(die, CELLS, 1.0), target)
    assert settled.fraction < last.inside.mean()


def test_a_closed_loop_that_was_cut_short_goes_on_where_it_was(die: Device, target: Target) -> None:
    for _ in write_open_loop(die, CELLS, target.gate_volts):
        pass
    for round_ in program(die, CELLS, target, SDR()):
        if round_.number == 12:
            break
    left = round_.open_cells
    again = next(iter(program(die, CELLS, target, SDR())))
    assert 0 < left < CELLS.size / 2
    assert abs(again.open_cells - left) < 0.25 * CELLS.size


def test_open_loop_is_one_reset_and_one_set_a_cell_whatever_the_grouping(
    target: Target,
) -> None:
    die = open_device("emulator:40nm?die=6")
    sent: list[Pulse] = []

    class Watched(type(die)):  # type: ignore[misc]
        def apply(self, pulse: Pulse) -> None:
            sent.append(pulse)

    die.__class__ = Watched
    done = list(write_open_loop(die, CELLS, target.gate_volts, group=250))
    assert done == [250, 500, 600]
    for kind in (Kind.RESET, Kind.SET):
        cells = np.concatenate([p.cells for p in sent if p.kind is kind])
        assert np.array_equal(np.sort(cells), CELLS)


def test_stuck_cells_are_given_up_and_not_counted_as_a_yield(target: Target) -> None:
    die = open_device("emulator:40nm?die=5&stuck_lrs=0.2&stuck_hrs=0.1&stuck_rows=0")
    *_, last = program(die, CELLS, target, SDR(max_pulses=30))
    assert last.given_up.mean() > 0.2
    assert last.inside.mean() < 0.85


def test_a_window_that_is_upside_down_is_refused() -> None:
    with pytest.raises(ValueError, match="low end lies above"):
        Target(np.array([2e-6]), np.array([1e-6]), np.array([2.0]))
    with pytest.raises(ValueError, match="one length"):
        Target(np.array([1e-6]), np.array([2e-6, 3e-6]), np.array([2.0]))


def test_a_device_without_reset_cannot_be_written(die: Device, target: Target) -> None:
    spec = replace(die.spec, pulses={Kind.SET: die.spec.pulses[Kind.SET]})
    state = State.fresh(CELLS.size, coarse=False)
    with pytest.raises(Refused, match="does no RESET"):
        next_pulses(CELLS, np.full(CELLS.size, 3e-4), target, state, SDR(), Bias(), spec)


def test_yield_leaves_unreadable_cells_out_of_the_error(target: Target) -> None:
    siemens = (target.low + target.high) / 2
    siemens[:6] = np.nan
    siemens[6:9] = np.inf
    found = window_yield(siemens, target)
    assert (found.unreadable, found.inside, found.cells) == (9, 591, 600)
    assert found.rms_error_siemens == pytest.approx(0, abs=1e-12)


def test_an_ispp_ramp_that_passes_its_own_stop_starts_again_after_a_reset(die: Device) -> None:
    recipe = ISPP(gate_start_volts=2.0, gate_step_volts=0.25, gate_stop_volts=2.5)
    cells = np.arange(2)
    goal = Target(np.full(2, 1.0), np.full(2, 2.0), np.full(2, 2.0))
    state, seen = State.fresh(2, coarse=False), []
    for _ in range(8):
        pulses, state = next_pulses(cells, np.full(2, 1e-5), goal, state, recipe, Bias(), die.spec)
        assert len(pulses) == 1
        gate = pulses[0].gate_volts
        assert gate is not None
        seen.append((pulses[0].kind.value, round(float(gate[0]), 2)))
    ramp = [("set", 2.0), ("set", 2.25), ("set", 2.5), ("reset", Bias().reset_gate_volts)]
    assert seen == ramp * 2
    with pytest.raises(ValueError, match="lies below gate_start_volts"):
        ISPP(gate_start_volts=2.0, gate_stop_volts=1.9)
