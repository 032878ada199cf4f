"""The examiner: an honest device passes, and each way to break a promise is found out."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from fakes import FakeDie, SlowDie, fake_spec

from rramhil.address import open_device
from rramhil.conformance import PROMISES, Finding, Outcome, check, reading
from rramhil.conformance.bench import Bench, Broken
from rramhil.conformance.pulsing import atomic
from rramhil.device import (
    Clock,
    Device,
    Kind,
    KnobLimits,
    MvmLimits,
    ProgramLimits,
    Programmed,
    Pulse,
    PulseLimits,
    Range,
    Refused,
    Spec,
)
from rramhil.guard import Guard


class Able(FakeDie):
    """A die with everything that a spec can announce."""

    def __init__(self, **changes: Any) -> None:
        pulse = PulseLimits(
            Range(0.1, 3.0), Range(1e-7, 1e-5), Range(0, 4, 0.01), Range(1e-6, 1e-3, 1e-6)
        )
        everything: dict[str, Any] = {
            "pulses": dict.fromkeys(Kind, pulse),
            "mvm": MvmLimits(4, 7, 3, 1e-6),
            "program": ProgramLimits(8, 5),
            "knobs": {"averaging": KnobLimits(Range(1, 16, 1))},
        }
        super().__init__(fake_spec(**{**everything, **changes}))

    def mvm(self, tile: int, inputs: Any) -> Any:
        self.check_open()
        codes = self.spec.check_inputs(tile, inputs)
        weights = self.siemens.reshape(-1, self.spec.rows, self.spec.cols)[tile]
        return np.round(codes @ weights / 1e-5).astype(np.int64)

    def program(self, cells: Any, low: Any, high: Any) -> Programmed:
        siemens = self.read(cells)
        self.counted[Kind.SET][cells] += 1
        ones = np.ones(len(cells), dtype=np.int64)
        ok = (siemens >= low) & (siemens <= high)
        return Programmed(siemens, ok, ones, 0 * ones, ones)

    def adjust(self, knob: str, values: Any) -> None:
        if knob not in self.spec.knobs:
            super().adjust(knob, values)
        if self.spec.knobs[knob].range.first_outside(values) is not None:
            raise Refused("averaging takes 1 to 16")


def outcomes(device: Device, **options: Any) -> dict[str, Finding]:
    return {
        promise.__name__: finding
        for promise, finding in zip(PROMISES, check(device, **options), strict=True)
    }


def failed(device: Device, **options: Any) -> set[str]:
    found = outcomes(device, **options)
    return {name for name, f in found.items() if f.outcome is Outcome.FAILED}


@pytest.mark.parametrize("wrap", [lambda d: d, Guard], ids=["bare", "guarded"])
@pytest.mark.parametrize("die", [FakeDie, SlowDie, Able])
def test_an_honest_device_keeps_every_promise(die: type[FakeDie], wrap: Any) -> None:
    assert failed(wrap(die())) == set()


def test_everything_announced_is_everything_checked() -> None:
    found = outcomes(Able())
    unchecked = {name for name, f in found.items() if f.outcome is Outcome.NOT_CHECKED}
    assert unchecked == {"absent_kinds"}
    assert found["limits_outside"].detail.startswith("42 refused")


def test_without_scratch_cells_nothing_is_pulsed_and_that_is_said() -> None:
    die = FakeDie(fake_spec(volatile=False, newborn=False))
    before = die.siemens.copy()
    found = outcomes(die)
    assert sum(counted.sum() for counted in die.counted.values()) == 0
    assert (die.siemens == before).all()
    silent = [f for f in found.values() if f.outcome is Outcome.NOT_CHECKED]
    assert len(silent) == 10
    assert "no scratch cells were given" in str(found["atomic"])
    assert failed(FakeDie(fake_spec(volatile=False))) == set()


def test_a_die_that_lived_before_is_not_pulsed_either() -> None:
    die = FakeDie(fake_spec(newborn=False))
    assert outcomes(die)["set_raises"].outcome is Outcome.NOT_CHECKED
    assert sum(counted.sum() for counted in die.counted.values()) == 0


def test_only_the_scratch_cells_are_pulsed() -> None:
    die = FakeDie(fake_spec(volatile=False, newborn=False))
    scratch = np.arange(100, 120)
    assert failed(die, scratch=scratch) == set()
    counted = sum(die.counted.values())
    assert counted[scratch].min() > 0
    assert counted.sum() == counted[scratch].sum()


def test_scratch_cells_that_do_not_exist_are_refused() -> None:
    with pytest.raises(Refused, match="cell 512 does not exist"):
        list(check(FakeDie(), scratch=[512]))


# Each mutant breaks the promises it is listed with, and the examiner names them.


class Float64(FakeDie):
    def read(self, cells: Any) -> Any:
        return super().read(cells).astype(np.float64)


class OffGrid(FakeDie):
    def read(self, cells: Any) -> Any:
        return super().read(cells) + np.float32(0.3e-7)


class Sorted(FakeDie):
    def read(self, cells: Any) -> Any:
        return super().read(np.sort(self.spec.check_cells(cells)))


class Wraps(FakeDie):
    def read(self, cells: Any) -> Any:
        return super().read(np.unique(np.asarray(cells) % self.spec.size))


class Casts(FakeDie):
    def read(self, cells: Any) -> Any:
        return super().read(np.asarray(cells).ravel().astype(np.int64))


class Clamps(FakeDie):
    """What public instrument libraries do."""

    def apply(self, pulse: Pulse) -> None:
        kind = pulse.kind if pulse.kind in self.spec.pulses else Kind.SET
        limits = self.spec.pulses[kind]
        assert limits.gate_volts is not None
        volts = np.clip(np.nan_to_num(pulse.volts), limits.volts.low, limits.volts.high)
        gate = 0.0 if pulse.gate_volts is None else np.nan_to_num(pulse.gate_volts)
        gate = np.clip(gate, limits.gate_volts.low, limits.gate_volts.high)
        cells = np.unique(pulse.cells % self.spec.size)
        width = float(np.clip(np.nan_to_num(pulse.seconds), 1e-7, 1e-5))
        volts, gate = limits.volts.snap(volts), limits.gate_volts.snap(gate)
        width = float(limits.seconds.snap(width))
        volts, gate = np.resize(volts, cells.size), np.resize(gate, cells.size)
        super().apply(Pulse(kind, cells, volts, gate, seconds=width))


class ChecksLast(FakeDie):
    """Pulses the cells before the bad one."""

    def apply(self, pulse: Pulse) -> None:
        self.check_open()
        for at in range(len(pulse)):
            super().apply(pulse.take(slice(at, at + 1)))
        self.spec.check_pulse(pulse)


class ChecksLastUncounted(ChecksLast):
    pulses_counted = None  # type: ignore[assignment]

    def apply(self, pulse: Pulse) -> None:
        self.check_open()
        for at in range(len(pulse)):
            one = pulse.take(slice(at, at + 1))
            self.spec.check_pulse(one)
            self.siemens[one.cells] += (-5e-6 if one.kind is Kind.RESET else 5e-6) * one.volts
        self.spec.check_pulse(pulse)


class Narrow(FakeDie):
    def apply(self, pulse: Pulse) -> None:
        if (pulse.volts >= 3).any():
            raise Refused("I do not like 3 V")
        super().apply(pulse)


class Backwards(FakeDie):
    def apply(self, pulse: Pulse) -> None:
        kind = {Kind.SET: Kind.RESET, Kind.RESET: Kind.SET}.get(pulse.kind, pulse.kind)
        object.__setattr__(pulse, "kind", kind)
        super().apply(pulse)


class Twice(FakeDie):
    def apply(self, pulse: Pulse) -> None:
        super().apply(pulse)
        super().apply(pulse)


class Rewinds(FakeDie):
    def read(self, cells: Any) -> Any:
        self.clock.sleep(-1.0)
        return super().read(cells)


class Sleepless(FakeDie):
    def __init__(self) -> None:
        super().__init__()

        class Insomniac(Clock):
            seconds = 0.0

            def now(self) -> float:
                return 0.0

            def sleep(self, seconds: float) -> None:
                pass

        self.clock = Insomniac()  # type: ignore[assignment]


class Forgetful(FakeDie):
    def thaw(self, state: bytes) -> None:
        super().thaw(state)
        self.siemens += 5e-6


class Immortal(FakeDie):
    def check_open(self) -> None:
        pass


class CrashesWhenClosed(FakeDie):
    def check_open(self) -> None:
        if self.closed.is_set():
            raise OSError("bad file descriptor")


class ClosesOnce(FakeDie):
    def close(self) -> None:
        if self.closed.is_set():
            raise RuntimeError("already closed")
        super().close()


class Hangs(FakeDie):
    def check_open(self) -> None:
        if self.closed.is_set():
            time.sleep(1.0)
            super().check_open()


class WrongSums(Able):
    def mvm(self, tile: int, inputs: Any) -> Any:
        return super().mvm(tile, inputs)[:, :-1]


class Falling(Able):
    def mvm(self, tile: int, inputs: Any) -> Any:
        return -super().mvm(tile, inputs)


class AnyCode(Able):
    def mvm(self, tile: int, inputs: Any) -> Any:
        self.check_open()
        return np.ones((len(inputs), self.spec.cols), dtype=np.int64)


class Eager(Able):
    def program(self, cells: Any, low: Any, high: Any) -> Programmed:
        done = super().program(cells, low, high)
        return Programmed(done.siemens, done.ok, done.sets + 9, done.resets, done.reads)


class AnyKnob(Able):
    def adjust(self, knob: str, values: Any) -> None:
        pass


class UnlistedProduct(FakeDie):
    def mvm(self, tile: int, inputs: Any) -> Any:
        return np.zeros((1, self.spec.cols), dtype=np.int64)


CLOSING = {"close_while_reading", "after_close"}


@pytest.mark.parametrize(
    ("mutant", "broken"),
    [
        (Float64, {"shape"}),
        (OffGrid, {"grid"}),
        (Sorted, {"order"}),
        (Wraps, {"order", "read_twice", "read_outside", "read_wrongly"}),
        (Casts, {"read_wrongly"}),
        (Clamps, {"absent_kinds", "limits_outside", "terminals", "pulse_addresses", "atomic"}),
        (ChecksLast, {"limits_outside", "pulse_addresses", "atomic"}),
        (ChecksLastUncounted, {"pulse_addresses", "atomic"}),
        (Narrow, {"limits_inside"}),
        (Backwards, {"set_raises", "reset_lowers"}),
        (Twice, {"exactly_once"}),
        (Rewinds, {"clock"}),
        (Sleepless, {"clock"}),
        (Forgetful, {"freeze"}),
        (CrashesWhenClosed, CLOSING),
        (ClosesOnce, {"close_twice"}),
        (Hangs, {"close_while_reading"}),
        (WrongSums, {"product"}),
        (Falling, {"product"}),
        (AnyCode, {"product_wrongly"}),
        (Eager, {"write_verify"}),
        (AnyKnob, {"knobs"}),
        (UnlistedProduct, {"product"}),
    ],
)
def test_a_broken_promise_is_found(mutant: type[FakeDie], broken: set[str]) -> None:
    found = failed(mutant(), patience=0.3)
    if mutant is ChecksLast:
        assert found <= broken
        assert "atomic" in found
    else:
        assert found == broken


def test_a_pulse_that_landed_shows_on_cells_that_can_go_no_further() -> None:
    class AtTheCeiling(ChecksLastUncounted):
        def apply(self, pulse: Pulse) -> None:
            if pulse.kind is Kind.RESET:
                self.spec.check_pulse(pulse)
            try:
                super().apply(pulse)
            finally:
                np.clip(self.siemens, 0, 100e-6, out=self.siemens)

    die = AtTheCeiling()
    die.siemens[:] = 100e-6
    with pytest.raises(Broken, match="scratch cells moved"):
        atomic(Bench(die, None, seed=0, patience=1.0))


def test_a_device_that_cannot_be_closed_is_found() -> None:
    assert failed(Immortal(), patience=0.2) == CLOSING


def test_a_missing_announcement_is_no_excuse() -> None:
    spec: Spec = fake_spec(pulses={})
    found = outcomes(FakeDie(spec))
    assert found["absent_kinds"].detail == "SET, RESET, FORM"
    assert found["set_raises"].outcome is Outcome.NOT_CHECKED
    assert failed(FakeDie(spec)) == set()


@pytest.mark.parametrize("model", ["40nm", "statistical"])
def test_cells_that_jump_by_themselves_break_no_promise(model: str) -> None:
    """Of 40 dies some have a telegraph cell among the eight that are read."""
    verdicts = []
    for number in range(40):
        die = open_device(f"emulator:{model}?tiles=1&die={number}")
        bench = Bench(die, die.spec.cells(0, number % 8 + 1, range(8)), 0, 10.0)
        verdicts.append(reading.order(bench))
    assert verdicts == ["8 cells, straight and shuffled"] * 40


@pytest.mark.parametrize("number", range(4))
def test_swapped_cells_are_found_on_every_die(number: int) -> None:
    die = open_device(f"emulator:40nm?tiles=1&die={number}")
    read = die.read
    die.read = lambda cells: read(np.sort(cells))  # type: ignore[method-assign]
    bench = Bench(die, die.spec.cells(0, 1, range(8)), 0, 10.0)
    with pytest.raises(Broken, match="of 8 cells read otherwise in another order"):
        reading.order(bench)
