"""Pulse counts against the product's own recipes, without the measured data itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil_drivers.emulator.chipfile import ChipFile, load_chip
from rramhil_drivers.emulator.die import EmulatedDie
from rramhil_drivers.twin import pulse_counts, recipes, write_verify, write_verify_fit
from rramhil_drivers.twin.bootstrap import Sample
from rramhil_drivers.twin.sources import BLOCK, open_folder
from rramhil_drivers.twin.surface import SPREADS, descend


def radar(**changed: float) -> ChipFile:
    chip = load_chip("radar")
    assert chip.cells is not None
    law = chip.cells.set.model_copy(update=changed)
    return chip.model_copy(update={"cells": chip.cells.model_copy(update={"set": law})})


# --------------------------------------------------------------------------- distances


@given(
    here=st.lists(st.integers(0, 9), min_size=1, max_size=30),
    there=st.lists(st.integers(0, 9), min_size=1, max_size=30),
)
def test_the_distance_is_that_of_kolmogorov_and_smirnov(here: list[int], there: list[int]) -> None:
    sample = Sample(np.array(here), np.arange(len(here)))
    expected = max(
        abs(np.mean(np.array(here) <= v) - np.mean(np.array(there) <= v)) for v in range(10)
    )
    assert sample.distance(np.array(there)) == pytest.approx(expected)


@given(st.lists(st.integers(0, 3), min_size=6, max_size=6).filter(any))
def test_drawing_addresses_is_repeating_their_rows(times: list[int]) -> None:
    values = np.array([1.0, 5.0, 2.0, 8.0, 4.0, 4.0, 9.0])
    addresses = np.array([3, 3, 1, 7, 8, 9, 11])
    sample = Sample(values, addresses)
    weights = np.array(times, dtype=float)
    drawn = np.repeat(values, [times[sorted({*addresses.tolist()}).index(a)] for a in addresses])
    again = Sample(drawn, np.arange(drawn.size))
    assert sample.mean(weights) == pytest.approx(drawn.mean())
    assert sample.distance(np.array([2.0, 6.0]), weights) == pytest.approx(
        again.distance(np.array([2.0, 6.0]))
    )
    np.testing.assert_array_equal(sample.drawn(weights), drawn)


def test_rows_of_one_address_go_together() -> None:
    rng = np.random.default_rng(0)
    means = np.repeat(rng.standard_normal(50), 40)
    widths = []
    for addresses in (np.repeat(np.arange(50), 40), np.arange(2000)):
        sample = Sample(means, addresses)
        low, high = sample.interval(sample.mean, rng)
        widths.append(high - low)
    assert widths[0] == pytest.approx(2 * 1.96 / np.sqrt(50), rel=0.35)
    assert widths[0] > 4 * widths[1]


def test_the_search_finds_the_bottom_of_noisy_residuals() -> None:
    target = np.linspace(-1, 1, 8)
    slopes = np.random.default_rng(5).standard_normal((30, 8))

    def residuals(x: np.ndarray, seed: int) -> np.ndarray:
        rough = np.random.default_rng(seed).standard_normal(30)
        return np.tanh(slopes @ (x - target)) * 3 + 0.3 * rough

    heard: list[str] = []
    found = descend(residuals, 8, 40, heard.append)
    assert np.linalg.norm(found - target) < 0.2 * np.linalg.norm(target)
    assert len(heard) == len(SPREADS)
    np.testing.assert_array_equal(found, descend(residuals, 8, 40, heard.append))


def test_the_search_stays_where_nothing_is_better() -> None:
    def residuals(x: np.ndarray, seed: int) -> np.ndarray:
        return np.append(10.0, x)

    found = descend(residuals, 3, 12, lambda _: None)
    np.testing.assert_allclose(found, 0, atol=0.3)


# -------------------------------------------------------------------- what the fit sees


def test_the_fit_sees_even_blocks_of_the_first_word_lines_only(tmp_path: Path) -> None:
    addresses = np.arange(30000, 38192)
    table = pd.DataFrame(
        {
            "algorithm": "SDR", "level": 1, "bits_per_cell": 2, "condition": "fresh",
            "wl_step_v": 0.0, "date": "2020-08-07", "addr": addresses, "n_set": 2, "n_reset": 1,
            "success": True,
        }
    )  # fmt: skip
    table.to_parquet(tmp_path / "write_verify_eval.parquet")
    data = open_folder(tmp_path)
    rows = write_verify_fit.Target(data.part("fit")).rows["SDR", 1, 0.0]
    assert set(rows["addr"] // BLOCK % 2) == {0}
    assert set(rows["addr"] // 2048) == {14, 15, 16}
    everything = pulse_counts.measured_rows(data, ("SDR", 1, 0.0))
    held = pulse_counts.held_lines(everything)
    assert set(held["addr"] // 2048) == {17, 18}
    assert not set(write_verify_fit.FIT_STEPS) & (set(recipes.STEPS) - {0.1})


def test_the_search_starts_from_its_own_numbers_whatever_the_chip_has() -> None:
    base = radar(kinetic_volts=0.5).cells
    assert base is not None
    at = np.zeros(len(write_verify_fit.FITTED))
    start = write_verify_fit.moved(base, at)
    assert start.set.kinetic_volts == 0.05
    assert start.set.widths[1].threshold_volts == 2.0
    assert start.set.widths[0] == base.set.widths[0]
    names = [number.path for number in write_verify_fit.FITTED]
    at[names.index("set.kinetic_volts")] = 2.0
    at[names.index("set.fresh_share")] = 50.0
    there = write_verify_fit.moved(base, at)
    assert there.set.kinetic_volts == pytest.approx(0.05 * np.exp(0.4), rel=1e-3)
    assert 0.999 < there.set.fresh_share <= 1


# ------------------------------------------------------------------------------ recipes


def test_counts_are_those_of_the_bench() -> None:
    die = EmulatedDie(radar(), die=3, seed=3)
    cells = np.arange(400) * 7
    counts = recipes.ispp_run(die, cells, recipes.WINDOWS[2], 0.1, 40)
    assert counts.pulses.max() <= 40
    assert (counts.pulses >= counts.resets - 1).all()  # the first RESET is not counted
    assert (counts.resets[counts.inside] >= 1).all()
    assert counts.inside.mean() > 0.5
    top = recipes.top_run(die, cells, 10)
    assert top.resets.max() == 10  # some cells never get there
    assert (top.resets[top.inside] <= 10).all()
    assert not top.inside[top.resets == 10].all()


def test_an_ispp_ramp_ends_and_starts_again_as_on_the_bench() -> None:
    die = EmulatedDie(radar(), die=3, seed=3)
    cells = np.arange(64)
    counts = recipes.ispp_run(die, cells, (290e-6, 1.0), 0.1, 60)  # out of reach
    assert not counts.inside.any()
    # 17 SETs from 1.8 to 3.4 V and a RESET, over and over.
    assert set(counts.resets.tolist()) == {4}


# -------------------------------------------------------------------------- comparisons


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tables that were 'measured' on the radar preset itself."""
    folder = tmp_path_factory.mktemp("measured")
    predicted = write_verify.predict(radar(), 5, 600, (0.1,), 1)
    odd_blocks = np.arange(600) // BLOCK * 2 * BLOCK + BLOCK + np.arange(600) % BLOCK
    evaluated, scanned = [], []
    for (algorithm, level, step), counts in predicted.items():
        first = 1 if algorithm != "FPPV" else 0
        table = pd.DataFrame(
            {
                "algorithm": algorithm,
                "level": level,
                "wl_step_v": step,
                "bits_per_cell": 2,
                "condition": "fresh",
                "date": "2020-08-07",
                "addr": odd_blocks,
                "n_set": counts.pulses - counts.resets + first,
                "n_reset": counts.resets + 1 - first,
                "success": counts.inside,
            }
        )
        (scanned if step else evaluated).append(table)
    pd.concat(evaluated).to_parquet(folder / "write_verify_eval.parquet")
    pd.concat(scanned).to_parquet(folder / "write_verify_parameter_scans.parquet")
    return folder


def compared(folder: Path, chip: ChipFile, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    monkeypatch.setattr(write_verify, "CELLS", 500)
    monkeypatch.setattr(write_verify, "DIES", 1)
    monkeypatch.setattr(write_verify, "STEPS", (0.1,))
    return pd.DataFrame(list(write_verify.compare(open_folder(folder), chip, 1)))


def test_a_chip_agrees_with_itself_and_not_with_another(
    made_up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = compared(made_up, radar(), monkeypatch)
    assert (same["low"] <= same["high"]).all()
    distances = same[same["statistic"] == "KS distance of pulses"]["distance"]
    assert len(distances) == 9  # no word line is held apart: all addresses lie on one
    assert distances.max() < 0.13  # 600 against 500 cells: 0.08 at 5 %
    law = radar().cells
    assert law is not None
    other = radar(weak_share=0.0, kinetic_volts=2 * law.set.kinetic_volts)
    apart = compared(made_up, other, monkeypatch)
    distances = apart[apart["statistic"] == "KS distance of pulses"]["distance"]
    assert distances.max() > 0.2


# ------------------------------------------------------------------ the shipped preset


MEASURED = json.loads(
    (files("rramhil_fixtures") / "measured" / "write_verify.json").read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def predicted() -> dict[write_verify.Key, recipes.Counts]:
    return write_verify.predict(load_chip("radar"), 0, 800, write_verify.STEPS, 1)


MISSES = {
    ("ISPP", 0, 0.12): "the measured onset is later and sharper (docs/fidelity.md)",
    ("ISPP", 2, 0.12): "37 % too few pulses (docs/emulator.md, what is not right)",
}
"""Runs that the preset is known not to follow. When one is followed, it is to be taken out."""


def runs() -> Iterator[Any]:
    for run in MEASURED["runs"]:
        key = (run["algorithm"], run["level"], run["wl_step_v"])
        marks = [pytest.mark.xfail(strict=True, reason=MISSES[key])] if key in MISSES else []
        yield pytest.param(run, marks=marks, id="-".join(map(str, key)))


@pytest.mark.parametrize("run", list(runs()))
def test_the_shipped_preset_agrees_with_the_measured_counts(
    run: dict[str, Any], predicted: dict[write_verify.Key, recipes.Counts]
) -> None:
    """The limits are wider than docs/fidelity.md asks for: 800 cells, and what is known to lack."""
    counts = predicted[run["algorithm"], run["level"], run["wl_step_v"]]
    assert counts.inside.mean() == pytest.approx(run["success"], abs=0.05)
    for resets, share in run["success_within"].items():
        found = (counts.inside & (counts.resets <= int(resets))).mean()
        assert found == pytest.approx(share, abs=0.11)
    if run["level"] == 3:
        return
    pulses = np.minimum(counts.pulses, recipes.CAPS[run["algorithm"]])
    assert pulses.mean() == pytest.approx(run["mean_pulses"], rel=0.35)
    most = 0.29 if run["level"] == 0 else 0.18
    for share, decile in zip(MEASURED["shares"], run["deciles"], strict=True):
        assert (pulses < decile).mean() < share + most
        assert (pulses <= decile).mean() > share - most


def test_both_presets_have_the_same_cells() -> None:
    ours, theirs = load_chip("radar").cells, load_chip("40nm").cells
    assert ours is not None
    assert theirs is not None
    for table in ("set", "reset", "hrs"):
        numbers = [getattr(c, table).model_dump(exclude={"source"}) for c in (ours, theirs)]
        assert numbers[0] == numbers[1]


@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_same_die_same_seed_same_counts(seed: int) -> None:
    runs = []
    for _ in range(2):
        die = EmulatedDie(load_chip("radar"), die=seed, seed=seed)
        runs.append(recipes.sdr_run(die, np.arange(60), 1, 2.4))
    np.testing.assert_array_equal(runs[0].pulses, runs[1].pulses)
    np.testing.assert_array_equal(runs[0].inside, runs[1].inside)
