"""The presets against quantiles of the measured arrays (fixtures/measured)."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from rramhil_drivers.emulator.chipfile import ChipFile, load_chip
from rramhil_drivers.twin.ages import Shape, later_readings, shape
from rramhil_drivers.twin.forming import on_grid, ramped
from rramhil_drivers.twin.relaxation import technology

CELLS = 6000


def measured(topic: str) -> dict[str, Any]:
    text = (files("rramhil_fixtures") / "measured" / f"{topic}.json").read_text()
    return dict(json.loads(text))


def predicted(chip: ChipFile, rows: list[dict[str, Any]]) -> list[Shape]:
    """The shape of the changes of emulated cells at each row's level and age."""
    ages = sorted({row["seconds"] for row in rows})
    levels = sorted({row["level"] for row in rows})
    start = np.repeat(np.array(levels) * 1e-6, CELLS)
    first, later = later_readings(chip, start, ages, 3)
    changes = dict(zip(ages, (1e6 * (one - first) for one in later), strict=True))
    return [
        shape(changes[row["seconds"]].reshape(len(levels), CELLS)[levels.index(row["level"])])
        for row in rows
    ]


@pytest.mark.parametrize("name", ["40nm", "techA", "techB", "techC"])
def test_relaxation_is_that_of_the_measured_cells(name: str) -> None:
    chip = load_chip(name)
    assert chip.cells is not None
    every = measured("relaxation")["technologies"][technology(chip.cells)]["rows"]
    rows = [row for row in every if row["cells"] >= 500]
    assert len(rows) > 30
    found = predicted(chip, rows)
    off = [one.spread / row["spread"] - 1 for one, row in zip(found, rows, strict=True)]
    assert np.mean(np.abs(off) < 0.15) > 0.7  # fitted to half of the blocks, and blocks differ
    assert abs(np.median(off)) < 0.05
    # A bin of 500 cells holds some tens beyond three robust standard deviations.
    tails = [
        np.log(max(one.tails, 1e-3) / max(row["tails"], 1e-3))
        for one, row in zip(found, rows, strict=True)
    ]
    assert np.mean(np.abs(tails) < np.log(1.5)) > 0.65
    assert abs(np.median(tails)) < 0.2
    drift = [
        (one.middle - row["middle"]) / row["spread"] for one, row in zip(found, rows, strict=True)
    ]
    assert np.mean(np.abs(drift) < 0.15) > 0.85


def test_cells_form_where_the_measured_ones_did() -> None:
    quantiles = measured("forming")["quantiles"]
    found = ramped(load_chip("40nm"), 1)
    found = found[np.isfinite(found) & (found > 0)]
    for share, volts in quantiles.items():
        allowed = 0.15 if float(share) < 0.1 else 0.051  # one step of the ramp; the far tail three
        assert np.quantile(found, float(share)) == pytest.approx(volts, abs=allowed), share


def test_a_ramp_ends_at_the_next_step() -> None:
    assert on_grid(np.array([2.991, 3.0, 3.001])) == pytest.approx([3.0, 3.0, 3.05])
