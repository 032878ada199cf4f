"""The contract: limits, addresses of cells, pulses, and what a bare driver refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import FakeDie, fake_spec
from hypothesis import given, settings
from hypothesis import strategies as st

import rramhil
from rramhil.device import (
    Address,
    Device,
    DeviceError,
    DeviceFault,
    Kind,
    KnobLimits,
    LinkLost,
    MvmLimits,
    Pulse,
    PulseLimits,
    Range,
    Refused,
    WallClock,
)
from rramhil.wrap import Wrapped

SPEC = fake_spec()


# ------------------------------------------------------------------------ errors


def test_errors_say_whether_it_landed() -> None:
    assert Refused("no").maybe.size == 0
    assert LinkLost("gone", [3, 4]).maybe.tolist() == [3, 4]
    assert DeviceFault("sick", 7).maybe.tolist() == [7]
    for error in (Refused, LinkLost, DeviceFault):
        assert issubclass(error, DeviceError)
    assert not issubclass(LinkLost, Refused)


# ------------------------------------------------------------------------ ranges


@pytest.mark.parametrize(
    ("values", "outside"),
    [
        ([0.0, 3.0], None),
        ([0.1 + 0.2], None),
        ([], None),
        ([1.0, 3.01], 3.01),
        ([-0.01], -0.01),
        ([0.105], 0.105),
        ([np.inf], np.inf),
    ],
)
def test_a_range_finds_the_first_value_outside(values: list[float], outside: float | None) -> None:
    assert Range(0, 3, 0.01).first_outside(values) == outside


def test_not_a_number_is_outside_every_range() -> None:
    for limit in (Range(0, 3, 0.01), Range(0, 3), Range(-np.inf, np.inf)):
        found = limit.first_outside([1.0, np.nan])
        assert found is not None
        assert np.isnan(found)


@given(
    st.integers(-50, 50),
    st.integers(1, 400),
    st.sampled_from([0.001, 0.005, 0.01, 0.1, 0.25, 1e-8, 3e-6]),
    st.floats(0, 1),
)
def test_law_what_was_snapped_is_on_the_grid(low: int, span: int, step: float, at: float) -> None:
    limit = Range(low * step, (low + span) * step, step)
    value = limit.low + at * (limit.high - limit.low)
    snapped = limit.snap(value)
    assert limit.first_outside(snapped) is None
    assert abs(float(snapped) - value) <= step / 2 * (1 + 1e-9)


def test_a_continuous_range_snaps_nothing() -> None:
    assert Range(0, 1).snap(0.123456) == 0.123456


# ------------------------------------------------------------------------ cells


def test_cells_broadcast_and_are_row_major() -> None:
    assert SPEC.size == 512
    assert SPEC.cells(1, 2, [3, 4]).tolist() == [256 + 32 + 3, 256 + 32 + 4]
    assert SPEC.cells(0, np.array([[0], [1]]), [0, 1]).tolist() == [0, 1, 16, 17]
    assert SPEC.name_cell(256 + 32 + 3) == "tile 1 row 2 column 3"


@given(st.lists(st.integers(0, 511), max_size=20))
def test_law_where_is_the_inverse_of_cells(cells: list[int]) -> None:
    assert SPEC.cells(*SPEC.where(cells)).tolist() == cells


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ((2, 0, 0), "tile 2 does not exist: fake-0 has 2 of them"),
        ((0, 16, 0), "row 16 does not exist"),
        ((0, 0, [3, -1]), "column -1 does not exist"),
    ],
)
def test_cells_that_do_not_exist_are_named(address: Any, said: str) -> None:
    with pytest.raises(Refused) as refusal:
        SPEC.cells(*address)
    assert said in str(refusal.value)


@pytest.mark.parametrize("cells", [[[0, 1]], [0.5], 3, ["a"], [True]])
def test_cells_of_a_wrong_shape_or_type(cells: Any) -> None:
    with pytest.raises(ValueError, match=r"spec\.cells\(tile, row, column\) makes one"):
        SPEC.check_cells(cells)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([512], "cell 512 does not exist: fake-0 has cells 0 to 511 (2 x 16 x 16)"),
        ([-1, 3], "cell -1 does not exist"),
        ([7, 3, 7], "cell 7 is named twice in one call"),
        ([7, 7], "cell 7 is named twice"),
    ],
)
def test_wrong_cells_are_refused(cells: list[int], said: str) -> None:
    with pytest.raises(Refused) as refusal:
        SPEC.check_cells(cells)
    assert said in str(refusal.value)


@given(st.lists(st.integers(-3, 514), max_size=12))
def test_law_check_cells_accepts_exactly_distinct_cells_of_the_die(cells: list[int]) -> None:
    legal = len(set(cells)) == len(cells) and all(0 <= cell < 512 for cell in cells)
    if legal:
        assert SPEC.check_cells(cells).tolist() == cells
        assert SPEC.check_cells(cells).dtype == np.int64
    else:
        with pytest.raises(Refused):
            SPEC.check_cells(cells)


# ------------------------------------------------------------------------ pulses


def test_a_number_is_taken_for_every_cell() -> None:
    pulse = Pulse(Kind.SET, [1, 2], 1.5, 2.0, seconds=1e-6, limit_amps=1e-5)
    assert pulse.volts.tolist() == [1.5, 1.5]
    assert pulse.limit_amps is not None
    assert len(pulse) == 2
    part = pulse.take(np.array([False, True]))
    assert (part.cells.tolist(), part.volts.tolist(), part.seconds) == ([2], [1.5], 1e-6)
    assert Pulse("reset", [1], 1.0, seconds=1e-6).kind is Kind.RESET  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"volts": [1.0, 2.0, 3.0]},
        {"gate_volts": [[1.0, 2.0]]},
        {"cells": [[1, 2]]},
        {"cells": [1.0, 2.0]},
        {"kind": "melt"},
    ],
)
def test_pulses_of_a_wrong_shape(wrong: dict[str, Any]) -> None:
    given_ = {"kind": Kind.SET, "cells": [1, 2], "volts": 1.0, **wrong}
    with pytest.raises(ValueError):
        Pulse(**given_, seconds=1e-6)


def test_a_gate_or_current_limit_must_be_what_the_chip_has() -> None:
    bare = PulseLimits(Range(0, 3), Range(0, 1))
    two_terminal = fake_spec(pulses={Kind.SET: bare})
    with pytest.raises(Refused, match="has no gate voltage for SET; leave it None"):
        two_terminal.check_pulse(Pulse(Kind.SET, [0], 1.0, 1.0, seconds=0.5))
    with pytest.raises(Refused, match="has no current limit for SET"):
        two_terminal.check_pulse(Pulse(Kind.SET, [0], 1.0, seconds=0.5, limit_amps=1.0))
    with pytest.raises(Refused, match="needs a gate voltage for SET; give one a cell"):
        SPEC.check_pulse(Pulse(Kind.SET, [0], 1.0, seconds=1e-6))
    two_terminal.check_pulse(Pulse(Kind.SET, [0], 1.0, seconds=0.5))


@settings(deadline=None)
@given(
    volts=st.lists(st.floats(-1, 5), min_size=1, max_size=4),
    gate=st.sampled_from([-0.01, 0.0, 2.0, 4.0, 4.01]),
    seconds=st.sampled_from([9e-8, 1e-7, 1e-6, 1e-5, 1.001e-5]),
)
def test_law_a_pulse_is_accepted_exactly_when_all_of_it_is_within(
    volts: list[float], gate: float, seconds: float
) -> None:
    snapped = np.round(np.array(volts) / 0.01) * 0.01
    pulse = Pulse(Kind.SET, np.arange(len(volts)), snapped, gate, seconds=seconds)
    legal = (
        (snapped >= -1e-9).all()
        and (snapped <= 3 + 1e-8).all()
        and 0 <= gate <= 4
        and 1e-7 <= seconds <= 1e-5
    )
    if legal:
        SPEC.check_pulse(pulse)
    else:
        with pytest.raises(Refused):
            SPEC.check_pulse(pulse)


# ------------------------------------------------------------------------ the rest


def test_inputs_of_a_product() -> None:
    spec = fake_spec(mvm=MvmLimits(4, 7, 3, 1e-6))
    assert spec.check_inputs(1, np.full((2, 16), 15)).dtype == np.int64
    with pytest.raises(Refused, match=r"takes 0 to 15 \(4 bits, unsigned\)"):
        spec.check_inputs(0, np.full((2, 16), 16))
    with pytest.raises(Refused, match="tile 2 does not exist"):
        spec.check_inputs(2, np.full((2, 16), 1))
    with pytest.raises(ValueError, match=r"shape \(batch, 16\)"):
        spec.check_inputs(0, np.full((2, 15), 1))
    with pytest.raises(Refused, match="computes no product"):
        SPEC.check_inputs(0, np.full((2, 16), 1))


class TwoMethods(Device):
    """All that a driver must have."""

    def __init__(self) -> None:
        self.spec = SPEC
        self.clock = WallClock()

    def read(self, cells: Any) -> Any:
        return np.zeros(len(cells), np.float32)

    def apply(self, pulse: Pulse) -> None:
        self.spec.check_pulse(pulse)


@pytest.mark.parametrize("wrap", [lambda d: d, Wrapped])
def test_two_methods_make_a_driver_and_the_rest_refuses(wrap: Any) -> None:
    with wrap(TwoMethods()) as device:
        for call in (
            lambda: device.mvm(0, np.zeros((1, 16), int)),
            lambda: device.program([0], 0.0, 1.0),
            lambda: device.adjust("x", 1),
            device.freeze,
            lambda: device.thaw(b""),
        ):
            with pytest.raises(Refused, match="fake-16"):
                call()


def test_a_wrapper_forwards_everything() -> None:
    die = FakeDie()
    wrapped = Wrapped(die)
    assert wrapped.spec is die.spec
    assert wrapped.clock is die.clock
    wrapped.apply(Pulse(Kind.SET, [0], 1.0, 1.0, seconds=1e-6))
    assert die.counted[Kind.SET][0] == 1
    state = wrapped.freeze()
    first = wrapped.read([0, 1])
    wrapped.thaw(state)
    assert (wrapped.read([0, 1]) == first).all()
    wrapped.close()
    assert die.closed.is_set()


def test_the_wall_clock_goes_forward() -> None:
    clock = WallClock()
    start = clock.now()
    clock.sleep(0.001)
    assert clock.now() - start >= 0.001


def test_addresses_are_written_as_they_are_read() -> None:
    assert (
        str(Address("emulator", "40nm", {"die": "7", "seed": "1"})) == "emulator:40nm?die=7&seed=1"
    )
    assert str(Address("serial", "/dev/ttyUSB0", {})) == "serial:/dev/ttyUSB0"


def test_names_of_the_package_are_loaded_when_used() -> None:
    assert rramhil.Pulse is Pulse
    assert "connect" in rramhil.__all__
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        _ = rramhil.conect


# ------------------------------------------------------------------------ knobs

KNOBS = fake_spec(knobs={"read_volts": KnobLimits(Range(0.1, 0.3, 0.05), 2)})


def test_a_knob_is_checked_in_one_place() -> None:
    assert KNOBS.check_knob("read_volts", [0.1, 0.3]).tolist() == [0.1, 0.3]
    for values in ([0.1, 0.32], [0.1, np.nan], [-np.inf, 0.1]):
        with pytest.raises(Refused, match=r"not within 0\.1 to 0\.3 in steps of 0\.05"):
            KNOBS.check_knob("read_volts", values)
    for values in (0.1, [0.1, 0.1, 0.1], [[0.1, 0.1]]):
        with pytest.raises(ValueError, match="takes 2 values"):
            KNOBS.check_knob("read_volts", values)
    with pytest.raises(Refused, match="did you mean 'read_volts'"):
        KNOBS.check_knob("read_volt", [0.1, 0.1])
    with pytest.raises(Refused, match="no knob 'gain'; it has none"):
        SPEC.check_knob("gain", 1.0)


def test_a_driver_that_sets_no_knobs_says_so() -> None:
    with pytest.raises(Refused, match="sets no knobs"):
        FakeDie(KNOBS).adjust("read_volts", [0.1, 0.1])
