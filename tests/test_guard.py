"""The guard: what it refuses, in whose name, and that nothing is sent then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes import FakeDie, fake_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.device import (
    DeviceFault,
    Kind,
    KnobLimits,
    LinkLost,
    ProgramLimits,
    Programmed,
    Pulse,
    PulseLimits,
    Range,
    Refused,
)
from rramhil.guard import Budget, Guard, PulseSpans, StationLimits

WHOSE = "station file bench.toml"
CELLS = np.arange(8)
BOTH_SIGNS = PulseLimits(Range(-3, 3, 0.01), Range(1e-7, 1e-5, 1e-8), Range(0, 4, 0.01))
TWO_SIDED = fake_spec(pulses={Kind.SET: BOTH_SIGNS, Kind.RESET: BOTH_SIGNS})


def pulse(kind: Kind = Kind.SET, cells: Any = CELLS, volts: Any = 1.5, gate: Any = 1.0) -> Pulse:
    return Pulse(kind, cells, volts, gate, seconds=1e-6)


def sent(die: FakeDie) -> int:
    return int(sum(counted.sum() for counted in die.counted.values()))


def test_a_legal_pulse_goes_through_unchanged() -> None:
    die = FakeDie()
    Guard(die).apply(pulse())
    assert die.counted[Kind.SET][:8].tolist() == [1] * 8
    assert sent(die) == 8


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (
            pulse(volts=3.01),
            "BL voltage 3.01 V is outside 0 to 3 V (the limits of fake-16 for SET)",
        ),
        (pulse(Kind.RESET, volts=-0.01), "SL voltage -0.01 V is outside 0 to 3 V"),
        (pulse(gate=np.full(8, np.nan)), "gate voltage nan V is outside 0 to 4 V"),
        (pulse(volts=1.505), "BL voltage 1.505 V is not on the grid of 0.01 V"),
        (pulse(Kind.FORM), "fake-16 does no FORM; it does SET, RESET"),
        (pulse(cells=[3, 600]), "cell 600 does not exist"),
        (pulse(cells=[3, 3]), "cell 3 is named twice"),
    ],
)
def test_what_the_chip_forbids_is_refused_in_the_name_of_the_chip(bad: Pulse, said: str) -> None:
    die = FakeDie()
    guard = Guard(die, StationLimits(WHOSE, spans={Kind.SET: PulseSpans(volts=(0, 2.5))}))
    with pytest.raises(Refused) as refusal:
        guard.apply(bad)
    assert said in str(refusal.value)
    assert WHOSE not in str(refusal.value)
    assert sent(die) == 0


@pytest.mark.parametrize(
    ("spans", "bad", "said"),
    [
        ({"volts": (0, 2.0)}, pulse(volts=2.01), "BL voltage 2.01 V is outside 0 to 2 V"),
        ({"gate_volts": (0.5, 2)}, pulse(gate=0.49), "gate voltage 0.49 V is outside 0.5 to 2 V"),
        ({"seconds": (1e-7, 5e-7)}, pulse(), "pulse width 1e-06 s is outside 1e-07 to 5e-07 s"),
    ],
)
def test_what_the_station_forbids_is_refused_in_the_name_of_the_station(
    spans: dict[str, Any], bad: Pulse, said: str
) -> None:
    die = FakeDie()
    guard = Guard(die, StationLimits(WHOSE, spans={Kind.SET: PulseSpans(**spans)}))
    with pytest.raises(Refused) as refusal:
        guard.apply(bad)
    assert said in str(refusal.value)
    assert f"({WHOSE} for SET)" in str(refusal.value)
    assert sent(die) == 0


def test_a_kind_that_the_station_does_not_list_is_refused() -> None:
    guard = Guard(FakeDie(), StationLimits(WHOSE, kinds=frozenset({Kind.SET})))
    with pytest.raises(Refused, match=f"RESET is not allowed by {WHOSE}; allowed: SET"):
        guard.apply(pulse(Kind.RESET))
    assert Kind.RESET not in guard.spec.pulses


def test_the_spec_of_the_guard_is_the_tighter_of_both_limits() -> None:
    spans = PulseSpans(volts=(-1.0, 2.0), gate_volts=(0.5, 9.0))
    spec = Guard(FakeDie(), StationLimits(WHOSE, spans={Kind.SET: spans})).spec
    assert spec.pulses[Kind.SET].volts == Range(0, 2.0, 0.01)
    assert spec.pulses[Kind.SET].gate_volts == Range(0.5, 4, 0.01)
    assert spec.pulses[Kind.RESET] == fake_spec().pulses[Kind.RESET]


def test_limits_that_leave_nothing_are_refused_at_once() -> None:
    with pytest.raises(Refused, match=r"but the chip takes 0 to 3 V; nothing is left"):
        Guard(FakeDie(), StationLimits(WHOSE, spans={Kind.SET: PulseSpans(volts=(4, 5))}))
    with pytest.raises(Refused, match=r"limits limit_amps of SET, which this chip does not have"):
        Guard(FakeDie(), StationLimits(WHOSE, spans={Kind.SET: PulseSpans(limit_amps=(0, 1))}))


def test_barred_cells_are_read_but_never_pulsed() -> None:
    die = FakeDie()
    guard = Guard(die, StationLimits(WHOSE, barred=np.array([5])))
    assert guard.read(CELLS).shape == (8,)
    with pytest.raises(Refused, match=rf"tile 0 row 0 column 5 \(cell 5\) is barred .* {WHOSE}"):
        guard.apply(pulse())
    assert sent(die) == 0
    guard.apply(pulse(cells=[4, 6]))


def test_the_budget_counts_all_kinds_for_the_life_of_the_die() -> None:
    die = FakeDie()
    before = np.zeros(die.spec.size, dtype=np.int64)
    before[3] = 7
    guard = Guard(die, StationLimits(WHOSE, budget=Budget(pulses=9)), pulses=before)
    guard.apply(pulse())
    guard.apply(pulse(Kind.RESET))
    with pytest.raises(Refused) as refusal:
        guard.apply(pulse())
    assert "tile 0 row 0 column 3 would reach 10 pulses, over the budget of 9" in str(refusal.value)
    assert WHOSE in str(refusal.value)
    assert sent(die) == 16
    assert guard.pulses_spent(CELLS).tolist() == [2, 2, 2, 9, 2, 2, 2, 2]


def test_volt_seconds_count_at_high_voltage_only() -> None:
    budget = Budget(volt_seconds=5e-6, high_volts=1.5)
    guard = Guard(FakeDie(), StationLimits(WHOSE, budget=budget))
    for _ in range(10):
        guard.apply(pulse(volts=1.49))
    assert guard.volt_seconds_spent(CELLS).max() == 0
    guard.apply(pulse(volts=2.0))
    guard.apply(pulse(volts=2.0))
    with pytest.raises(Refused, match=r"would reach 6 µVs at high voltage, over .* 5 µVs"):
        guard.apply(pulse(volts=2.0))
    guard.apply(pulse(volts=1.4))
    assert guard.volt_seconds_spent([0])[0] == pytest.approx(4e-6)


def test_a_refusal_below_gives_the_budget_back_and_a_doubt_does_not() -> None:
    outcome: list[Exception] = [Refused("no"), LinkLost("gone", CELLS), DeviceFault("sick")]

    def landing(_: Pulse) -> None:
        raise outcome[0]

    limits = StationLimits(WHOSE, budget=Budget(pulses=3, volt_seconds=1.0))
    guard = Guard(FakeDie(landing=landing), limits)
    for expected in (0, 1, 2):
        with pytest.raises(type(outcome[0])):
            guard.apply(pulse())
        assert guard.pulses_spent(CELLS).tolist() == [expected] * 8
        assert guard.volt_seconds_spent([0])[0] == pytest.approx(1.5e-6 * expected)
        outcome.append(outcome.pop(0))


def test_no_pulse_outward_beyond_the_conductance_bounds() -> None:
    die = FakeDie(noise=0.0)
    guard = Guard(die, StationLimits(WHOSE, lowest=10e-6, highest=50e-6))
    die.siemens[:3] = [9e-6, 30e-6, 60e-6]
    guard.apply(pulse(cells=[2]))
    guard.read([0, 1, 2])
    with pytest.raises(Refused) as refusal:
        guard.apply(pulse(cells=[1, 2]))
    said = str(refusal.value)
    assert "tile 0 row 0 column 2" in said
    assert "50 µS" in said
    assert WHOSE in said
    with pytest.raises(Refused, match=r"at or below the lowest conductance 10 µS"):
        guard.apply(pulse(Kind.RESET, cells=[0, 1]))
    guard.apply(pulse(Kind.RESET, cells=[1, 2]))
    guard.apply(pulse(cells=[0, 1]))
    die.siemens[2] = 20e-6
    guard.read([2])
    guard.apply(pulse(cells=[2]))


def test_a_reading_without_answer_leaves_the_last_one_standing() -> None:
    class Mute(FakeDie):
        def read(self, cells: Any) -> Any:
            siemens = super().read(cells)
            return np.where(self.siemens[cells] < 0, np.nan, siemens).astype(np.float32)

    die = Mute(noise=0.0)
    guard = Guard(die, StationLimits(WHOSE, highest=50e-6))
    die.siemens[1] = 60e-6
    guard.read(CELLS)
    die.siemens[1] = -1
    assert np.isnan(guard.read(CELLS)[1])
    with pytest.raises(Refused):
        guard.apply(pulse())


class Careless(FakeDie):
    """A die that checks nothing itself."""

    def read(self, cells: Any) -> Any:
        return np.zeros(len(cells), dtype=np.float32)

    def adjust(self, knob: str, values: Any) -> None:
        self.adjusted = knob, values


def test_reads_knobs_and_products_are_checked() -> None:
    knob = KnobLimits(Range(0.1, 0.3, 0.05), 2)
    die = Careless(fake_spec(knobs={"read_volts": knob}))
    guard = Guard(die)
    guard.adjust("read_volts", [0.1, 0.2])
    assert die.adjusted[0] == "read_volts"
    with pytest.raises(Refused, match="cell 512 does not exist"):
        guard.read([512])
    with pytest.raises(Refused, match="did you mean 'read_volts'"):
        guard.adjust("read_volt", [0.1, 0.1])
    with pytest.raises(Refused, match=r"read_volts 0\.35 is not within 0\.1 to 0\.3"):
        guard.adjust("read_volts", [0.1, 0.35])
    with pytest.raises(ValueError, match=r"takes 2 values, not an array of shape \(1,\)"):
        guard.adjust("read_volts", 0.1)
    with pytest.raises(Refused, match="computes no product"):
        guard.mvm(0, np.zeros((1, 16), dtype=int))


class SelfWriting(FakeDie):
    """A die with a write-verify of its own: two SETs, one RESET a cell."""

    failing: BaseException | None = None

    def program(self, cells: Any, low: Any, high: Any) -> Programmed:
        if self.failing is not None:
            raise self.failing
        ones = np.ones(len(cells), dtype=np.int64)
        return Programmed(self.read(cells), ones > 0, 2 * ones, ones, 4 * ones)


def test_write_verify_on_the_device_is_held_to_the_stations_limits() -> None:
    die = SelfWriting(fake_spec(program=ProgramLimits(8, 5)))
    guard = Guard(die, StationLimits(WHOSE, budget=Budget(pulses=13), highest=50e-6))
    guard.program(CELLS, 10e-6, 20e-6)
    assert guard.pulses_spent(CELLS).tolist() == [3] * 8
    with pytest.raises(Refused, match="window edge of 60 µS"):
        guard.program(CELLS, 10e-6, 60e-6)
    guard.program(CELLS, 10e-6, 20e-6)
    with pytest.raises(Refused, match="would reach 16 pulses, over the budget of 13"):
        guard.program(CELLS, 10e-6, 20e-6)
    die.siemens[3] = 60e-6
    guard = Guard(die, StationLimits(WHOSE, highest=50e-6))
    guard.program(CELLS, 10e-6, 20e-6)
    with pytest.raises(Refused, match="column 3 was last read at"):
        guard.apply(pulse())
    with pytest.raises(Refused, match="is barred"):
        Guard(die, StationLimits(WHOSE, barred=CELLS)).program(CELLS, 1e-6, 2e-6)
    limits = StationLimits(WHOSE, spans={Kind.SET: PulseSpans(volts=(0, 2))})
    with pytest.raises(Refused, match=r"chooses by itself .* use rramhil\.verify"):
        Guard(die, limits).program(CELLS, 10e-6, 20e-6)
    with pytest.raises(Refused, match="has no write-verify of its own"):
        Guard(FakeDie()).program(CELLS, 10e-6, 20e-6)


@pytest.mark.parametrize(
    ("failing", "costs"),
    [
        (LinkLost("gone", CELLS), 10),
        (DeviceFault("sick"), 10),
        (KeyboardInterrupt(), 10),
        (ZeroDivisionError(), 10),
        (Refused("no"), 0),
        (ValueError("a shape"), 0),
    ],
)
def test_a_write_verify_of_unknown_outcome_costs_all_its_attempts(
    failing: BaseException, costs: int
) -> None:
    """Attempts of SET and attempts of RESET: as `LedgerReader.wear` counts them."""
    die = SelfWriting(fake_spec(program=ProgramLimits(8, 5)))
    guard = Guard(die, StationLimits(WHOSE, budget=Budget(pulses=10)))
    die.failing = failing
    with pytest.raises(type(failing)):
        guard.program(CELLS, 10e-6, 20e-6)
    assert guard.pulses_spent(CELLS).tolist() == [costs] * 8


def test_thawing_forgets_readings_but_not_what_was_spent() -> None:
    die = FakeDie(noise=0.0)
    guard = Guard(die, StationLimits(WHOSE, highest=50e-6))
    state = guard.freeze()
    die.siemens[:] = 60e-6
    guard.apply(pulse())
    guard.read(CELLS)
    guard.thaw(state)
    guard.apply(pulse(cells=[0]))
    assert guard.pulses_spent([0, 1]).tolist() == [2, 1]


def test_wear_of_another_die_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"pulses has shape \(3,\), but the die has 512 cells"):
        Guard(FakeDie(), pulses=np.zeros(3))


def test_volt_seconds_are_those_of_the_size_of_the_voltage() -> None:
    """On a chip that SETs with a negative voltage, too: the ledger adds up |V| as well."""
    guard = Guard(FakeDie(TWO_SIDED), StationLimits(WHOSE, budget=Budget(volt_seconds=5e-6)))
    guard.apply(pulse(volts=-2.0))
    assert guard.volt_seconds_spent(CELLS).tolist() == pytest.approx([2e-6] * 8)
    guard.apply(pulse(volts=-2.0))
    with pytest.raises(Refused, match=r"would reach 6 µVs at high voltage, over .* 5 µVs"):
        guard.apply(pulse(volts=-2.0))


def test_each_cell_of_a_pulse_is_held_to_the_volt_seconds() -> None:
    """Also where the most worn cell of the pulse gets a gentle one."""
    spent = np.zeros(TWO_SIDED.size)
    spent[:3] = [9e-6, 4e-6, 4e-6]
    limits = StationLimits(WHOSE, budget=Budget(volt_seconds=5e-6, high_volts=1.0))
    guard = Guard(FakeDie(), limits, volt_seconds=spent)
    with pytest.raises(Refused, match=r"tile 0 row 0 column 1 would reach 6 µVs"):
        guard.apply(pulse(cells=[0, 1, 2], volts=[0.5, 2.0, 2.0]))
    guard.apply(pulse(cells=[0, 1], volts=[0.5, 1.0]))


@settings(deadline=None, max_examples=100)
@given(
    calls=st.lists(
        st.tuples(
            st.sampled_from([Kind.SET, Kind.RESET]),
            st.dictionaries(
                st.integers(0, 11),
                st.sampled_from([-3.0, -2.0, -0.5, 0.5, 1.5, 2.0, 2.5, 3.0, 3.5]),
                min_size=1,
                max_size=6,
            ),
        ),
        max_size=30,
    ),
    budget=st.integers(1, 6),
    worn=st.lists(st.sampled_from([0.0, 3e-6, 7e-6, 20e-6]), min_size=12, max_size=12),
)
def test_law_nothing_beyond_any_limit_ever_lands(
    calls: list[tuple[Kind, dict[int, float]]], budget: int, worn: list[float]
) -> None:
    landed: list[Pulse] = []
    die = FakeDie(TWO_SIDED, landing=landed.append)
    limits = StationLimits(
        WHOSE,
        spans={Kind.SET: PulseSpans(volts=(-2.0, 2.0))},
        budget=Budget(pulses=budget, volt_seconds=8e-6, high_volts=1.0),
        barred=np.array([7]),
    )
    before = np.zeros(die.spec.size)
    before[:12] = worn
    guard = Guard(die, limits, volt_seconds=before)
    for kind, volts in calls:
        try:
            guard.apply(pulse(kind, list(volts), list(volts.values())))
        except Refused:
            continue
    counted = sum(die.counted.values())
    assert counted.max(initial=0) <= budget
    assert counted[7] == 0
    every_cell = np.arange(die.spec.size)
    assert (guard.pulses_spent(every_cell) == counted).all()
    stress = before.copy()
    for one in landed:
        size = np.abs(one.volts)
        assert size.max() <= (2.0 if one.kind is Kind.SET else 3.0)
        stress[one.cells] += np.where(size >= 1.0, size, 0) * one.seconds
    assert (stress <= np.maximum(before, 8e-6 * (1 + 1e-9))).all()
    np.testing.assert_allclose(guard.volt_seconds_spent(every_cell), stress, rtol=1e-12)


def test_the_station_may_not_name_cells_that_do_not_exist() -> None:
    with pytest.raises(Refused, match="cell 512 does not exist"):
        Guard(FakeDie(), replace(StationLimits(WHOSE), barred=np.array([512])))
