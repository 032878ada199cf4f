"""The emulated die as a device: limits, clock, identity, saved states, counts, products."""

from __future__ import annotations

import io
import threading
import zipfile
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.address import open_device
from rramhil.device import Kind, Pulse, Refused
from rramhil_drivers.emulator.die import STATE_VERSION, EmulatedDie
from rramhil_drivers.emulator.faults import Purpose, noise_generator, tile_generator
from rramhil_drivers.emulator.noise import Noise

SET_WIDTH = 1e-6


def open_die(address: str = "emulator:40nm?tiles=1") -> EmulatedDie:
    device = open_device(address)
    assert isinstance(device, EmulatedDie)
    return device


def set_pulse(cells: object, gate: float = 2.4, seconds: float = SET_WIDTH) -> Pulse:
    return Pulse(Kind.SET, np.asarray(cells), 2.0, gate, seconds=seconds)


def reset_pulse(cells: object, volts: float = 2.5) -> Pulse:
    return Pulse(Kind.RESET, np.asarray(cells), volts, 4.0, seconds=SET_WIDTH)


def play(die: EmulatedDie, steps: list[tuple[str, int, float]]) -> list[bytes]:
    """Apply `steps` (what, cells, value) and return the readings as bytes."""
    heard = []
    for what, count, value in steps:
        cells = np.arange(count)
        if what == "set":
            die.apply(set_pulse(cells, round(1.5 + value, 2)))
        elif what == "reset":
            die.apply(reset_pulse(cells, round(1.0 + 2 * value, 2)))
        elif what == "sleep":
            die.clock.sleep(100 * value)
        heard.append(die.read(cells[::3]).tobytes())
    return heard


STEPS = st.lists(
    st.tuples(st.sampled_from(["set", "reset", "sleep"]), st.integers(1, 300), st.floats(0.0, 1.0)),
    min_size=1,
    max_size=6,
)


def test_readings_are_multiples_of_the_lsb_in_range() -> None:
    die = open_die("emulator:40nm?tiles=1&formed=no")
    cells = np.arange(5000)
    formed = np.arange(2500)
    die.apply(Pulse(Kind.FORM, formed, 4.5, 2.5, seconds=1e-6))
    die.apply(set_pulse(formed, 3.0))
    die.apply(reset_pulse(formed[::3]))
    got = die.read(cells)
    limits = die.spec.reading
    inside = got[(got > 0) & np.isfinite(got)]
    codes = np.round(inside.astype(np.float64) / limits.lsb)
    assert got.dtype == np.float32
    np.testing.assert_array_equal((codes * limits.lsb).astype(np.float32), inside)
    assert inside.min() >= np.float32(limits.lowest)
    assert (got == 0).any(), "no cell below the range: the test shows nothing"


def test_above_the_range_reads_infinite(tmp_path) -> None:  # type: ignore[no-untyped-def]
    die = open_die("emulator:statistical?tiles=1&law=lognormal&sigma=2")
    cells = np.arange(20000)
    die.apply(Pulse(Kind.SET, cells, 2.0, 3.0, seconds=SET_WIDTH))
    got = die.read(cells)
    assert np.isinf(got).any()
    assert np.nanmax(got[np.isfinite(got)]) <= np.float32(die.spec.reading.highest)


@settings(deadline=None, max_examples=15)
@given(STEPS)
def test_same_die_seed_and_calls_give_the_same_answers(steps: list[tuple[str, int, float]]) -> None:
    assert play(open_die(), steps) == play(open_die(), steps)


@settings(deadline=None, max_examples=15)
@given(STEPS, STEPS)
def test_a_thawed_die_goes_on_as_if_nothing_had_happened(
    before: list[tuple[str, int, float]], after: list[tuple[str, int, float]]
) -> None:
    die = open_die()
    play(die, before)
    state = die.freeze()
    expected = play(die, after)
    other = open_die()
    play(other, [("set", 7, 0.5)])
    other.thaw(state)
    assert play(other, after) == expected
    for kind in Kind:
        np.testing.assert_array_equal(other.pulses_counted(kind), die.pulses_counted(kind))
    assert other.clock.now() == die.clock.now()


def test_freezing_changes_nothing_and_is_repeatable() -> None:
    die = open_die()
    play(die, [("set", 50, 0.5)])
    state = die.freeze()
    assert die.freeze() == state


def test_no_two_streams_share_words() -> None:
    streams = {}
    for die in (0, 1, 2, 5):
        for number in (0, 1, 2, 5, 2**32, 2**32 + 1, 2**63 - 1):
            for kind in range(len(fields(Noise))):
                streams["noise", die, number, kind] = noise_generator(die, number, kind)
            if number < 2**32:
                for purpose in Purpose:
                    if purpose is not Purpose.NOISE:
                        streams[purpose, die, number] = tile_generator(die, number, purpose)
    words = {name: s.bit_generator.random_raw(32).tolist() for name, s in streams.items()}
    assert len(words) == 4 * (7 * len(fields(Noise)) + 4 * (len(Purpose) - 1))
    seen = [word for drawn in words.values() for word in drawn]
    assert len(set(seen)) == len(seen)


def test_the_noise_of_a_die_is_that_stream_and_no_other() -> None:
    die = open_die("emulator:40nm?die=0&seed=0")
    drawn = die._noise.read.bit_generator.random_raw(100)
    assert np.array_equal(drawn, noise_generator(0, 0, 0).bit_generator.random_raw(100))


def test_another_seed_is_the_same_silicon_with_other_noise() -> None:
    one, two = (open_die(f"emulator:40nm?die=3&seed={s}&stuck_lrs=0.05") for s in (1, 2))
    cells = np.arange(65536)
    assert one.spec.serial == two.spec.serial
    for die in (one, two):
        die.apply(reset_pulse(cells, 3.0))
    a, b = one.read(cells), two.read(cells)
    assert (a != b).mean() > 0.5
    stuck = (a > 140e-6) & (b > 140e-6)
    assert abs(stuck.mean() - 0.05) < 0.01  # the same cells in both


def test_another_die_has_other_faults() -> None:
    dies = [open_die(f"emulator:40nm?tiles=1&die={d}&stuck_lrs=0.05") for d in (1, 2)]
    cells = np.arange(65536)
    for die in dies:
        die.apply(reset_pulse(cells, 3.0))
    a, b = (die.read(cells) > 140e-6 for die in dies)
    assert (a & b).mean() < 0.01


def test_what_is_touched_first_does_not_change_what_is_there() -> None:
    cells = np.array([70000, 5])
    one, two = (open_die("emulator:40nm?tiles=2") for _ in range(2))
    one.read(cells[:1])
    two.read(cells[1:])
    g = [die._cells.conductance(cells, 0.0) for die in (one, two) if not die._cells.wake(cells)]
    np.testing.assert_array_equal(g[0], g[1])


def test_each_call_takes_its_documented_time() -> None:
    die = open_die()
    limits, settings_ = die.spec.reading, die.chip.set
    die.read(np.arange(limits.cells_at_once + 1))
    assert die.clock.now() == pytest.approx(2 * limits.seconds)
    before = die.clock.now()
    die.apply(set_pulse(np.arange(settings_.cells_at_once * 3)))
    took = die.clock.now() - before
    assert took == pytest.approx(3 * (SET_WIDTH + settings_.overhead_seconds))
    with pytest.raises(ValueError, match="only moves forward"):
        die.clock.sleep(-1.0)


def test_counts_are_what_was_pulsed_and_nothing_else() -> None:
    die = open_die()
    die.apply(set_pulse([1, 2]))
    die.apply(set_pulse([2]))
    die.apply(reset_pulse([7]))
    with pytest.raises(Refused):
        die.apply(set_pulse([1, 2], gate=9.0))
    with pytest.raises(Refused):
        die.apply(Pulse(Kind.SET, [3, 4], 2.0, 2.4, seconds=50e-9))
    assert die.pulses_counted(Kind.SET)[:4].tolist() == [0, 1, 2, 0]
    assert die.pulses_counted(Kind.SET).sum() == 3
    assert die.pulses_counted(Kind.RESET).sum() == 1


def test_a_cell_costs_at_most_32_bytes() -> None:
    cells = open_die()._cells
    arrays = {id(v): v for v in [*vars(cells).values(), *cells.state.values()]}.values()
    per_cell = [v for v in arrays if isinstance(v, np.ndarray) and v.size == cells.size]
    assert len(per_cell) > 8
    assert sum(v.itemsize for v in per_cell) <= 32


def test_nothing_works_after_close_from_another_thread() -> None:
    die = open_die()
    state = die.freeze()
    closer = threading.Thread(target=die.close)
    closer.start()
    closer.join()
    die.close()
    calls = (
        lambda: die.read([1]),
        lambda: die.apply(set_pulse([1])),
        lambda: die.mvm(0, np.zeros((1, 256), dtype=int)),
        die.freeze,
        lambda: die.thaw(state),
    )
    for call in calls:
        with pytest.raises(Refused, match=r"40nm-0.* is closed"):
            call()


def test_a_saved_state_of_another_die_or_version_is_refused() -> None:
    state = open_die("emulator:40nm?tiles=1&die=1").freeze()
    with pytest.raises(Refused, match="40nm-1"):
        open_die("emulator:40nm?tiles=1&die=2").thaw(state)
    with pytest.raises(Refused, match="no saved state"):
        open_die().thaw(b"nonsense")
    with pytest.raises(Refused, match="no saved state"):
        open_die().thaw(state[: len(state) // 2])
    with pytest.raises(Refused, match="version 99"):
        open_die("emulator:40nm?tiles=1&die=1").thaw(
            _edited(state, f'"version": {STATE_VERSION}'.encode(), b'"version":99')
        )


def _edited(state: bytes, old: bytes, new: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(state)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(old, new))
    return out.getvalue()


# ------------------------------------------------------------------------------ products


def test_the_product_is_the_quantised_sum_of_each_group() -> None:
    die = open_die("emulator:statistical?tiles=1&sigma=0")
    spec = die.spec
    assert spec.mvm is not None
    cells = spec.cells(0, np.arange(256)[:, None], np.arange(256)[None, :])
    die.apply(Pulse(Kind.SET, cells, 2.0, 3.0, seconds=SET_WIDTH))  # 40 uS: one code each
    inputs = np.zeros((3, 256), dtype=np.int64)
    inputs[0, :7] = 1  # one full group
    inputs[1, :14] = 5  # two groups, bits 0 and 2
    inputs[2, 250:] = 255  # the last, short groups
    expected = [7, 14 * 5, 6 * 255]
    for row, sums in zip(expected, die.mvm(0, inputs), strict=True):
        np.testing.assert_array_equal(sums, row)


def test_converter_codes_saturate() -> None:
    die = open_die("emulator:statistical?tiles=1&law=share_of_range&sigma=0")
    inputs = np.ones((1, 256), dtype=np.int64)
    cells = np.arange(256 * 256)
    die.apply(Pulse(Kind.SET, cells, 2.0, 3.0, seconds=SET_WIDTH))
    full = die.mvm(0, inputs)
    assert full.max() == 36 * 7 + 4  # 36 groups of seven and one of four
    bright = die.chip.converter.model_copy(update={"siemens_per_code": 10e-6})
    brighter = EmulatedDie(die.chip.model_copy(update={"converter": bright}), tiles=1)
    brighter.apply(Pulse(Kind.SET, cells, 2.0, 3.0, seconds=SET_WIDTH))
    assert brighter.mvm(0, inputs).max() == 37 * 7


def test_the_product_checks_its_inputs() -> None:
    die = open_die()
    with pytest.raises(Refused, match="input codes run"):
        die.mvm(0, np.full((1, 256), 256))
    with pytest.raises(ValueError, match="shape"):
        die.mvm(0, np.zeros((1, 7), dtype=int))
    with pytest.raises(Refused, match="tile 1 does not exist"):
        die.mvm(1, np.zeros((1, 256), dtype=int))


def test_a_used_die_is_used_everywhere_and_keeps_its_counts() -> None:
    die = open_die("emulator:40nm?tiles=2&die=1")
    die.use(Kind.RESET, 8000)
    again = open_die("emulator:40nm?tiles=2&die=1")
    again.thaw(die.freeze())
    assert set(again.pulses_counted(Kind.RESET).tolist()) == {8000}
    with pytest.raises(ValueError, match="70000 pulses cannot be added to the counts of FORM"):
        die.use(Kind.FORM, 70_000)
    with pytest.raises(ValueError, match="give 0 to"):
        die.use(Kind.SET, -1)
