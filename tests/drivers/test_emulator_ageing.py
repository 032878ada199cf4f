"""What time, temperature, readings and use do to emulated cells."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.address import open_device
from rramhil.device import Kind, Pulse, Refused
from rramhil_drivers.emulator import ageing
from rramhil_drivers.emulator.chipfile import ChipFile, PulsedLaws, load_chip
from rramhil_drivers.emulator.die import EmulatedDie
from rramhil_drivers.emulator.fluctuation import Fluctuation
from rramhil_drivers.emulator.noise import Noise
from rramhil_drivers.emulator.pulsed import PulsedCells

ALL = np.arange(65536)
NONE = {"stuck_lrs": 0.0, "stuck_hrs": 0.0, "stuck_rows": 0.0}


def laws() -> PulsedLaws:
    found = load_chip("40nm").cells
    assert found is not None
    return found


def chip(**tables: dict[str, Any]) -> ChipFile:
    """The preset without faults, with some keys of some tables of its cells changed."""
    base, cells = load_chip("40nm"), laws()
    new = {name: getattr(cells, name).model_copy(update=keys) for name, keys in tables.items()}
    faults = base.faults.model_copy(update=NONE)
    return base.model_copy(update={"cells": cells.model_copy(update=new), "faults": faults})


def placed(of: ChipFile, siemens: float, seed: int = 0) -> tuple[PulsedCells, Noise]:
    """Cells that were written to `siemens` at 1000 s."""
    assert of.cells is not None
    cells, noise = PulsedCells(of, of.cells, 0, 1, formed=True), Noise.seeded(seed, 0)
    cells.wake(ALL)
    cells.place(ALL, np.full(ALL.size, siemens, dtype=np.float32), 1000.0, noise)
    return cells, noise


def robust(x: np.ndarray) -> float:
    low, high = np.quantile(x, [0.25, 0.75])
    return float(high - low) / 1.349


# --------------------------------------------------------------------------- fluctuation


def test_white_noise_and_traps_have_the_stated_spreads() -> None:
    law = laws().noise
    fluctuation, rng = Fluctuation(law), np.random.default_rng(1)
    g = np.full(ALL.size, 1.85e-4, dtype=np.float32)
    white = np.interp(1.85e-4, law.siemens, law.sd)
    step = np.interp(1.85e-4, law.siemens, law.step_siemens)
    looks = np.array([fluctuation.look(ALL, g, 50.0, 3, rng) for _ in range(12)])
    assert looks.std(axis=0, ddof=1).mean() == pytest.approx(white, rel=0.05)
    slow = fluctuation.offset(ALL, g, 50.0, 3)
    assert slow.std() == pytest.approx(np.sqrt(law.traps) * step / 2, rel=0.05)
    assert abs(slow.mean()) < 0.02 * slow.std()


def test_noise_of_many_cells_has_the_stated_slope() -> None:
    law = laws().noise
    fluctuation, cells = Fluctuation(law), np.arange(800)
    g = np.full(cells.size, 1.85e-4, dtype=np.float32)
    series = np.array([fluctuation.offset(cells, g, 500 + 0.1 * i, 3) for i in range(2048)])
    density = (np.abs(np.fft.rfft(series - series.mean(axis=0), axis=0)) ** 2).mean(axis=1)
    frequencies = np.fft.rfftfreq(2048, 0.1)
    edges = np.geomspace(0.01, 1.0, 9)
    means = [density[(frequencies >= a) & (frequencies < b)].mean() for a, b in pairwise(edges)]
    slope = np.polyfit(np.log(edges[:-1]), np.log(means), 1)[0]
    assert slope == pytest.approx(-(1 + 2 * law.step_per_time), abs=0.2)


def test_traps_stay_for_a_while_and_are_no_draws() -> None:
    fluctuation = Fluctuation(laws().noise)
    g = np.full(ALL.size, 1.85e-4, dtype=np.float32)

    def at(seconds: float, key: int = 3) -> np.ndarray:
        return fluctuation.offset(ALL, g, seconds, key)

    np.testing.assert_array_equal(at(77.0), at(77.0))
    same = [np.corrcoef(at(77.0), at(77.0 + dt))[0, 1] for dt in (1e-4, 1e-2, 1.0, 100.0, 1e4)]
    assert same[0] > 0.99
    assert same == sorted(same, reverse=True)
    assert abs(same[-1]) < 0.02
    assert abs(np.corrcoef(at(77.0), at(77.0, key=4))[0, 1]) < 0.02
    part = fluctuation.offset(ALL[30000:], g[30000:], 77.0, 3)
    np.testing.assert_array_equal(part, at(77.0)[30000:])


def test_no_trap_takes_more_than_the_cell_has() -> None:
    fluctuation = Fluctuation(laws().noise.model_copy(update={"step_ln_sd": 3.0}))
    g = np.full(ALL.size, 1e-6, dtype=np.float32)
    assert (g + fluctuation.offset(ALL, g, 5.0, 3) > 0).all()


# ---------------------------------------------------------------------------- relaxation


@pytest.mark.parametrize("level", [2, 5, 8])
@pytest.mark.parametrize("row", [1, 2, 5])
def test_relaxation_has_the_spread_the_middle_and_the_tails_of_its_table(
    level: int, row: int
) -> None:
    law = laws().relaxation
    cells, _ = placed(chip(), law.siemens[level])
    change = cells.conductance(ALL, 1000.0 + law.seconds[row]).astype(float) - law.siemens[level]
    middle, down, up = (t[row][level] for t in (law.middle_siemens, *law.spreads()[:2]))
    heavy = [0.6745 * np.exp(t[row][level] * 0.2275) for t in law.spreads()[2:]]
    low, median, high = np.quantile(change, [0.25, 0.5, 0.75])
    spread = robust(change)
    assert median == pytest.approx(middle, abs=0.06 * spread)
    assert high - low == pytest.approx(down * heavy[0] + up * heavy[1], rel=0.06)
    assert (np.abs(change - median) > 3 * spread).mean() > 3 * 0.0027


def test_relaxation_begins_at_nothing_and_goes_on_beyond_what_was_measured() -> None:
    cells, noise = placed(chip(), 1.08e-4)
    start = cells.written[ALL].copy()
    first = laws().relaxation.seconds[0]
    np.testing.assert_array_equal(cells.conductance(ALL, 1000.0 + first / 11), start)
    seen = cells.look(ALL, 1000.0, noise)
    spreads = [
        robust(cells.look(ALL, 1000.0 + s, noise) - seen) for s in (0.01, 0.1, 1.0, 1e2, 1e4, 1e6)
    ]
    assert spreads == sorted(spreads)
    assert spreads[-1] > 1.05 * spreads[-2]


def test_what_is_seen_early_tells_only_a_part_of_what_comes_late() -> None:
    cells, noise = placed(chip(), 1.08e-4)
    first, *later = (cells.look(ALL, 1000.0 + s, noise) for s in (0.0, 1.0, 1e4))
    ranks = [np.argsort(np.argsort(g - first)) for g in later]
    assert 0.5 < np.corrcoef(ranks)[0, 1] < 0.8  # measured: 0.63


@settings(deadline=None, max_examples=30)
@given(siemens=st.floats(1e-7, 3.1e-4), seconds=st.floats(0.0, 1e20))
def test_no_cell_leaves_the_physical_range(siemens: float, seconds: float) -> None:
    cells, _ = placed(chip(), siemens)
    g = cells.conductance(ALL, 1000.0 + seconds)
    assert g.min() >= np.float32(laws().hrs.lowest_siemens)
    assert g.max() <= np.float32(laws().set.limit_siemens)


# --------------------------------------------------------------------------- temperature


def test_a_hot_hour_ages_like_the_time_that_arrhenius_says() -> None:
    law = laws().retention
    assert law is not None
    rate = ageing.ageing_rate(law, 373.15)
    colder = 1 / law.reference_kelvin - 1 / 373.15
    assert rate == pytest.approx(np.exp(law.activation_ev / 8.617333e-5 * colder))
    hot, _ = placed(chip(), 1.08e-4)
    waited, _ = placed(chip(), 1.08e-4)
    hot.heat(373.15, 1000.0)
    hot.heat(law.reference_kelvin, 4600.0)
    np.testing.assert_array_equal(
        hot.conductance(ALL, 4600.0), waited.conductance(ALL, 1000.0 + 3600.0 * rate)
    )
    room = robust(waited.conductance(ALL, 4600.0))
    assert robust(hot.conductance(ALL, 4600.0)) > 1.5 * room


@settings(deadline=None, max_examples=50)
@given(
    steps=st.lists(st.tuples(st.floats(1e-6, 1e6), st.floats(200.0, 600.0)), min_size=1, max_size=8)
)
def test_effective_time_only_moves_forward(steps: list[tuple[float, float]]) -> None:
    law = laws().retention
    assert law is not None
    time, now, before = ageing.EffectiveTime(), 0.0, 0.0
    for seconds, kelvin in steps:
        time.run_at(ageing.ageing_rate(law, kelvin), now)
        assert time.at(now) >= before
        now += seconds
        assert time.at(now) > before or seconds * ageing.ageing_rate(law, kelvin) < 1e-9 * before
        before = time.at(now)


def test_without_a_law_heat_does_nothing_and_no_temperature_is_refused() -> None:
    plain = chip()
    assert plain.cells is not None
    cold = plain.model_copy(update={"cells": plain.cells.model_copy(update={"retention": None})})
    one, _ = placed(cold, 1e-4)
    other, _ = placed(cold, 1e-4)
    one.heat(500.0, 1000.0)
    np.testing.assert_array_equal(one.conductance(ALL, 4600.0), other.conductance(ALL, 4600.0))
    law = laws().retention
    assert law is not None
    with pytest.raises(ValueError, match="give kelvin above 0"):
        ageing.ageing_rate(law, 0.0)


# -------------------------------------------------------------------------- read disturb


def disturbed(hops_per_second: float, step: float = 0.02) -> EmulatedDie:
    die = EmulatedDie(chip(disturb={"hops_per_second": hops_per_second, "step": step}), tiles=1)
    die.apply(Pulse(Kind.SET, ALL, 2.0, 2.3, seconds=200e-9))
    return die


def test_without_strength_readings_leave_the_state_alone() -> None:
    die = disturbed(0.0)
    before = die.freeze()
    shadow = disturbed(0.0)
    shadow.thaw(before)
    for _ in range(5):
        die.read(ALL)
    shadow.clock.set(die.clock.now())
    for name, values in die._cells.state.items():
        np.testing.assert_array_equal(values, shadow._cells.state[name], err_msg=name)


def test_readings_raise_at_the_stated_rate_and_never_beyond_the_saturation() -> None:
    seconds = load_chip("40nm").reading.seconds
    die = disturbed(0.05 / seconds, step=0.2)
    before = die._cells.written[ALL].copy()
    for _ in range(4):
        die.read(ALL)
    change = die._cells.written[ALL] - before
    law = laws().disturb
    assert law is not None
    low = before < 0.9 * law.saturation_siemens
    assert (change[low] > 0).mean() == pytest.approx(1 - np.exp(-0.2), rel=0.03)
    assert (change >= 0).all()
    now = die.clock.now()
    below = die._cells.conductance(ALL, now) < law.saturation_siemens
    for _ in range(150):
        die._cells.disturb(ALL, 0.3, np.array([[1e-6]]), now, die._noise)
    after = die._cells.conductance(ALL, now)
    assert (after[below] <= law.saturation_siemens * 1.03).all()
    assert (after[below & low] > 0.9 * law.saturation_siemens).mean() > 0.9


def test_disturb_grows_as_the_sinh_of_the_voltage() -> None:
    law = laws().disturb
    assert law is not None
    assert law.rate(0.0) == 0.0
    assert law.rate(law.volts) == pytest.approx(law.hops_per_second)
    higher = law.rate(law.volts + 0.1) / law.hops_per_second
    assert higher == pytest.approx(np.exp(0.1 / law.volts_per_e), rel=0.01)


def test_many_hops_in_one_call_are_as_many_as_in_parts() -> None:
    """700,000 hops: more parts than 64 bits hold."""
    stress, places = np.full(700, 1.0), []
    for parts in (1, 7):
        hops, random = ageing.Hops(), np.random.default_rng(5)
        found = [hops.among(part, 1000, random) for part in np.split(stress, parts)]
        sizes = [0, *np.cumsum([700_000 // parts] * parts)[:-1]]
        places.append(np.concatenate([a + b for a, b in zip(found, sizes, strict=True)]))
        assert 0 < hops.left < 100 * ageing.PARTS
    assert places[0].size == pytest.approx(700_000, rel=0.01)
    np.testing.assert_array_equal(*places)


def test_a_statistical_chip_whose_cells_hop_at_every_reading_is_refused() -> None:
    with pytest.raises(Refused, match=r"disturb=1e\+08: .* lower it"):
        open_device("emulator:statistical?disturb=1e8")


@settings(deadline=None, max_examples=50)
@given(cuts=st.lists(st.integers(0, 3000), max_size=5), each=st.integers(1, 300))
def test_the_same_cells_hop_whether_a_call_comes_whole_or_in_parts(
    cuts: list[int], each: int
) -> None:
    stress = np.random.default_rng(0).random(3000) * 1e-3
    stress[::7] = 0.0

    def places(ends: list[int]) -> list[int]:
        hops, rng, found = ageing.Hops(), np.random.default_rng(1), []
        for a, b in zip([0, *ends], [*ends, 3000], strict=True):
            found += (hops.among(stress[a:b], each, rng) + a * each).tolist()
        return found

    whole = places([])
    assert whole == places(sorted(cuts))
    assert not {place // each % 7 for place in whole} & {0} or not whole
    assert len(whole) == pytest.approx(stress.sum() * each, abs=6 * np.sqrt(stress.sum() * each))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_hops_of_products_go_by_the_bits_of_their_inputs(dtype: Any) -> None:
    each, share = 50, ageing.PARTS // 4000
    codes = np.random.default_rng(2).integers(0, 256, (300, 7)).astype(dtype)
    codes[:, 3] = 0

    def places(*cuts: int) -> np.ndarray:
        hops, rng, found = ageing.Hops(), np.random.default_rng(3), []
        for a, b in pairwise((0, *cuts, 300)):
            found.append(hops.along_lines(codes[a:b], share, each, rng) + a * 7 * each)
        return np.concatenate(found)

    one = places()
    np.testing.assert_array_equal(one, places(1, 44, 299))
    bits = np.array([int(code).bit_count() for code in codes.reshape(-1)])
    stress = np.repeat(bits * share, each).astype(np.float64) / ageing.PARTS
    slow = ageing.Hops().among(stress, 1, np.random.default_rng(3))
    np.testing.assert_array_equal(one, slow)
    assert one.size > 50
    assert not (one // each % 7 == 3).any()


def test_a_product_disturbs_the_rows_that_got_an_input() -> None:
    seconds = load_chip("40nm").converter.seconds
    die = disturbed(0.02 / seconds)
    before = die._cells.written[ALL].reshape(256, 256).copy()
    inputs = np.zeros((1, 256), dtype=np.int64)
    inputs[0, 100:110] = 255
    die.mvm(0, inputs)
    moved = die._cells.written[ALL].reshape(256, 256) != before
    assert moved[100:110].mean() > 0.05
    assert not moved[:100].any()
    assert not moved[110:].any()


# ----------------------------------------------------------------------------------- use


def test_cells_die_at_their_weibull_lives_and_then_stick() -> None:
    life = {"life": 40.0, "life_shape": 2.0}
    die = EmulatedDie(chip(endurance=life), tiles=1)
    for _ in range(30):
        die.apply(Pulse(Kind.RESET, ALL, 2.5, 4.0, seconds=200e-9))
    stuck = (die._cells.flags[ALL] & 2) > 0
    assert stuck.mean() == pytest.approx(1 - np.exp(-((29 / 40) ** 2)), abs=0.03)
    held = die._cells.written[ALL][stuck].copy()
    law = laws().endurance
    assert law is not None
    assert (held >= np.float32(law.stuck_siemens[0])).all()
    die.apply(Pulse(Kind.SET, ALL, 3.0, 3.0, seconds=200e-9))
    np.testing.assert_array_equal(die._cells.written[ALL][stuck], held)


def test_a_fresh_die_does_not_wear_and_a_used_one_spreads() -> None:
    def spread(resets: int) -> float:
        still = [w.model_copy(update={"pulse_sd_volts": 0.0}) for w in laws().set.widths]
        die = EmulatedDie(chip(endurance={"widening": 1.0}, set={"widths": tuple(still)}), tiles=1)
        die._cells.wake(ALL)
        die.use(Kind.RESET, resets)
        die.apply(Pulse(Kind.SET, ALL, 2.0, 2.3, seconds=100e-9))
        return robust(die._cells.written[ALL])

    law = laws().endurance
    assert law is not None
    assert spread(int(law.onset)) == spread(0)
    assert spread(int(100 * law.onset)) > 1.5 * spread(0)


# ---------------------------------------------------------------------------------- state


def test_a_saved_die_ages_and_hops_as_if_it_had_not_been_saved() -> None:
    die = disturbed(2000.0)
    die._cells.heat(350.0, die.clock.now())
    die.read(ALL)
    shadow = disturbed(2000.0)
    shadow.thaw(die.freeze())
    for one in (die, shadow):
        one.clock.sleep(100.0)
    np.testing.assert_array_equal(die.read(ALL), shadow.read(ALL))
    np.testing.assert_array_equal(die.read(ALL), shadow.read(ALL))
