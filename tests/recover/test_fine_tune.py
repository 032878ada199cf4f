"""Fine-tuning of the device: it recovers in every case, stops anywhere, writes what it says."""

from __future__ import annotations

import numpy as np
import pytest
from digits_network import accuracy, images, network

from rramhil.device import Refused
from rramhil.recover.fine_tune import (
    Chip,
    FineTuneSettings,
    FineTuning,
    Progress,
    check_budget,
    fine_tune,
    most_writes,
    refreshed,
)
from rramhil.verify import settled_reading
from tests.recover.subject_on_die import OnDie, on_die

QUICK = FineTuneSettings(rounds=2, epochs=1, refresh_epochs=1)
FULL = FineTuneSettings(epochs=3)


def run(die: OnDie, settings: FineTuneSettings, state: FineTuning) -> list[Progress]:
    parts = images("train"), images("validation")
    return list(fine_tune(die.chip, network(), *parts, settings, state))


def recovered(die: OnDie, settings: FineTuneSettings, state: FineTuning) -> float:
    run(die, settings, state)
    siemens = settled_reading(die.device, die.cells)
    held = die.chip.held(siemens, state.biases)
    return accuracy(refreshed(settings, state, die.chip).applied(held))


def before(die: OnDie) -> float:
    return accuracy(die.chip.held(die.first, network().biases))


@pytest.mark.parametrize(
    ("options", "scheme", "lowest", "readings", "lost", "left"),
    [
        ("sigma=0.5&die=1", "two_column", 1e-6, 0, 0.03, 0.02),
        ("sigma=0.5&die=1", "one_column", 1e-6, 0, 0.5, 0.12),
        ("sigma=0.5&die=1", "one_column", 4e-6, 0, 0.5, 0.12),
        ("sigma=0.5&die=1&disturb=10", "one_column", 1e-6, 1_000_000, 0.5, 0.12),
        ("sigma=0.3&die=1&stuck_lrs=0.0175&stuck_hrs=0.0904", "two_column", 1e-6, 0, 0.2, 0.02),
    ],
    ids=["two columns", "one column", "on/off 10", "a million readings", "stuck cells"],
)
def test_halving_recovers_with_less_than_one_more_write_a_cell(
    options: str, scheme: str, lowest: float, readings: int, lost: float, left: float
) -> None:
    die = on_die(options, scheme, lowest, readings)
    teacher, sets, state = 0.97, die.sets(), die.begun()
    assert teacher - before(die) >= lost
    assert teacher - recovered(die, FULL, state) <= left
    assert np.array_equal(die.sets() - sets, state.writes)
    assert state.writes.mean() <= most_writes(FULL, network().weights)
    assert not state.writes[np.isfinite(die.chip.written.stuck)].any()


def test_a_cell_is_written_once_a_round_and_stopping_loses_nothing() -> None:
    whole, parts = on_die("sigma=0.5&die=2"), on_die("sigma=0.5&die=2")
    state = whole.begun()
    happened = run(whole, QUICK, state)
    assert {p.phase for p in happened} == {"train", "write", "read", "refresh"}
    arrays, count = parts.begun().as_arrays(), 0
    while True:
        resumed = FineTuning.resumed(network(), arrays)
        steps = fine_tune(
            parts.chip, network(), images("train"), images("validation"), QUICK, resumed
        )
        if (progress := next(steps, None)) is None:
            break
        arrays, count = progress.state, count + 1
    assert count == len(happened)
    for name, values in state.as_arrays().items():
        assert np.array_equal(values, arrays[name]), name
    assert state.writes.max() <= QUICK.rounds


@pytest.mark.parametrize(
    ("strategy", "rounds", "gain", "most"),
    [
        ("threshold", 2, 0.03, 2.0),
        ("last_layer", 2, 0.01, 0.08),
        ("biases_and_norms", 1, 0.03, 0.0),
    ],
)
def test_every_strategy_gains_at_its_price(
    strategy: str, rounds: int, gain: float, most: float
) -> None:
    die = on_die("sigma=0.5&die=1")
    settings = FineTuneSettings.model_validate({"strategy": strategy, "rounds": rounds})
    state = die.begun()
    assert recovered(die, settings, state) - before(die) >= gain
    assert state.writes.mean() <= most
    if strategy == "last_layer":
        assert not state.writes[: -network().weights["fc3"].numel() * 2].any()


def test_rewriting_everything_each_round_writes_everything() -> None:
    die = on_die("sigma=0.5&die=1")
    settings = QUICK.model_copy(update={"strategy": "rewrite_all", "rounds": 1})
    state = die.begun()
    run(die, settings, state)
    assert state.writes.min() == state.writes.max() == 1


def test_a_budget_is_refused_beforehand_with_what_would_do() -> None:
    settings = FineTuneSettings(rounds=4, writes_a_cell=0.8)
    with pytest.raises(ValueError, match=r"up to 0.938 times.*0.8 .*take rounds = 2, allow 0.938"):
        check_budget(settings, network().weights)
    check_budget(settings.model_copy(update={"rounds": 2}), network().weights)
    die = on_die("sigma=0.5")
    with pytest.raises(ValueError, match="biases_and_norms, which writes none"):
        run(die, settings, die.begun())


def test_what_does_not_fit_is_refused() -> None:
    die = on_die("sigma=0.5")
    blind = Chip(die.device, die.chip.written, None, 400e-6, die.chip.bias)
    steps = fine_tune(blind, network(), images("train"), images("validation"), QUICK, die.begun())
    with pytest.raises(Refused, match="gate voltages of this device are not known; sweep"):
        next(steps)
    with pytest.raises(ValueError, match="has not come to its refresh"):
        refreshed(QUICK, die.begun(), die.chip)
    arrays = die.begun().as_arrays()
    arrays["wanted.fc1"] = np.zeros((3, 3), np.float32)
    with pytest.raises(ValueError, match="another network than digits; start it anew"):
        FineTuning.resumed(network(), arrays)
