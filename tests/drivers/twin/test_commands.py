"""`rramhil twin`: from a ledger to a chip file and back, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import rramhil
from rramhil.characterise import Plan, characterise
from rramhil.cli import app
from rramhil.verify import Bias
from rramhil_drivers.emulator.chipfile import load_chip
from rramhil_drivers.twin import moments, topics
from rramhil_drivers.twin.chipwriter import rounded, write_chip
from rramhil_drivers.twin.rows import Compared, Curve
from rramhil_drivers.twin.sources import BLOCK

PLAN = Plan((2.1, 3.1, 5), (0.5, 2.5, 4), 3.2, (2.6,), (1.0,))


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["twin", *words])


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    with rramhil.connect("emulator:40nm?die=4&seed=4&tiles=1", ledger=tmp_path / "die") as device:
        list(characterise(device, np.arange(256), PLAN, Bias()))
    return str(tmp_path / "die")


def test_a_preset_that_is_written_loads_as_the_same_chip(tmp_path: Path) -> None:
    for name in ("40nm", "statistical"):
        chip = load_chip(name)
        again = load_chip(str(write_chip(chip, tmp_path / f"{name}.toml")))
        for table, value in chip.model_dump().items():
            found = again.model_dump()[table]
            assert json.dumps(found) == json.dumps(rounded(value)), table


def test_fit_writes_a_chip_that_says_what_it_was_fitted_to(ledger: str, tmp_path: Path) -> None:
    file = tmp_path / "twin.toml"
    answer = call("fit", ledger, "-o", str(file), "--json")
    assert answer.exit_code == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found["die"].startswith("40nm-4")
    told = {p["parameter"] for p in found["parameters"] if p["low"] is not None}
    assert "set.highest_siemens" in told
    chip = load_chip(str(file))
    assert chip.name == "twin"
    assert chip.cells is not None
    assert "fitted to the ledger of 40nm-4" in chip.cells.set.source
    assert chip.cells.form.source == load_chip("40nm").cells.form.source  # type: ignore[union-attr]


def test_check_compares_every_reading_and_draws_them(ledger: str, tmp_path: Path) -> None:
    page = tmp_path / "docs" / "twin.md"
    page.parent.mkdir()
    answer = call("check", "40nm", ledger, "--json", "--page", str(page))
    assert answer.exit_code == 0, answer.stderr
    rows = json.loads(answer.stdout)
    assert len(rows) == 2 * PLAN.total
    last = rows[-2]
    assert last["statistic"] == "median"
    assert last["low"] <= last["distance"] <= last["high"]
    assert 0.1 < last["allowed"] < 0.2  # 0.1 and what 128 cells are off by chance
    assert all(row["holds"] == (abs(row["distance"]) <= row["allowed"]) for row in rows)
    text = page.read_text()
    assert "| median | SET BL 2.00 V, gate 2.60 V, 100 ns, 1 s later |" in text
    (picture,) = (page.parent / "images" / "twin").glob("*.svg")
    assert f"images/twin/{picture.name}" in text
    assert picture.read_text().startswith("<?xml")


def test_another_chip_is_found_out(ledger: str) -> None:
    answer = call("check", "40nm", ledger, "--json")
    base = load_chip("40nm")
    assert base.cells is not None
    widths = tuple(
        w.model_copy(update={"threshold_volts": w.threshold_volts + 0.2})
        for w in base.cells.set.widths
    )
    law = base.cells.set.model_copy(update={"widths": widths})
    other = base.model_copy(update={"cells": base.cells.model_copy(update={"set": law})})
    file = write_chip(other, Path(ledger).parent / "other.toml")
    worse = call("check", str(file), ledger, "--json")

    def worst(result: Result) -> float:
        rows = json.loads(result.stdout)
        return max(abs(r["distance"]) for r in rows if r["statistic"] == "median")

    assert worst(worse) > 2 * worst(answer)
    assert call("check", str(file), ledger, "--strict").exit_code == 1


def test_a_die_of_the_same_chip_is_strictly_predicted(ledger: str) -> None:
    answer = call("check", "40nm", ledger, "--strict")
    assert answer.exit_code == 0, answer.stdout
    assert f"{2 * PLAN.total} of {2 * PLAN.total} required distances hold" in answer.stderr


def test_a_ledger_is_fitted_on_even_blocks_and_checked_on_odd_ones(
    ledger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[int]] = {}

    def watch(name: str) -> None:
        real = getattr(moments, name)

        def watched(record, *rest):  # type: ignore[no-untyped-def]
            seen[name] = set((record.cells // BLOCK % 2).tolist())
            assert all(reading.shape == record.cells.shape for reading in record.readings)
            return real(record, *rest)

        monkeypatch.setattr(moments, name, watched)

    watch("fit")
    watch("compare")
    assert call("fit", ledger, "-o", str(tmp_path / "c.toml")).exit_code == 0
    assert call("check", "40nm", ledger).exit_code == 0
    assert seen == {"fit": {0}, "compare": {1}}


def test_a_sample_in_one_block_is_refused(tmp_path: Path) -> None:
    with rramhil.connect("emulator:40nm?die=4&tiles=1", ledger=tmp_path / "die") as device:
        list(characterise(device, np.arange(64), PLAN, Bias()))
    answer = call("check", "40nm", str(tmp_path / "die"))
    assert answer.exit_code == 2
    assert "0 of its 64 cells in odd blocks" in answer.stderr


class _Topic:
    """A topic of a folder whose one statistic is off by what the test says."""

    off = 0.5

    def fit(self, data, laws, say):  # type: ignore[no-untyped-def]
        rows = data.table("forming")
        assert set(rows.addr // 64 % 2) == {0}
        say("fitting made-up cells")
        return laws.model_copy(
            update={"form": laws.form.model_copy(update={"volts": float(rows.v.mean())})}
        )

    def compare(self, data, chip, seed) -> Iterator[Compared]:  # type: ignore[no-untyped-def]
        assert set(data.table("forming").addr // 64 % 2) == {1}
        yield Compared("mean", "all", 3.0, 3.0, self.off, 0.1, 0.0, 1.0, "V", "forming, held out")

    def curves(self, data, chip, seed) -> Iterator[Curve]:  # type: ignore[no-untyped-def]
        x = np.arange(3)
        yield Curve("forming", "mean", x, x, True, "x", "y")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import pandas as pd

    table = pd.DataFrame({"addr": np.arange(256), "v": 3.0 + (np.arange(256) // 64 % 2)})
    path = tmp_path / "data"
    path.mkdir()
    table.to_parquet(path / "forming.parquet")
    monkeypatch.setattr(topics, "module", lambda name: _Topic())
    return path


def test_a_folder_is_fitted_on_even_blocks_and_checked_on_odd_ones(
    folder: Path, tmp_path: Path
) -> None:
    answer = call("fit", str(folder), "-o", str(tmp_path / "c.toml"), "--json")
    assert answer.exit_code == 0, answer.stderr
    assert json.loads(answer.stdout)["topics"] == ["forming"]
    chip = load_chip(str(tmp_path / "c.toml"))
    assert chip.cells is not None
    assert chip.cells.form.volts == 3.0
    checked = call("check", "40nm", str(folder))
    assert checked.exit_code == 0
    assert "0 of 1 required distances hold" in checked.stderr
    assert call("check", "40nm", str(folder), "--strict").exit_code == 1


def test_strict_is_content_when_all_hold(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Topic, "off", 0.05)
    assert call("check", "40nm", str(folder), "--strict").exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fit", "nowhere", "-o", "x.toml"), "is no ledger file, no die"),
        (("check", "40mn", "{folder}"), "did you mean '40nm'"),
        (("check", "statistical", "{folder}"), "has statistical cells"),
        (("check", "40nm", "{folder}", "--only", "fornimg"), "did you mean 'forming'"),
        (("check", "40nm", "{folder}", "--only", "relaxation"), "lacks relaxation.parquet"),
        (("fit", "{ledger}", "-o", "{new}", "--only", "forming"), "a ledger is fitted as a whole"),
        (("fit", "{folder}", "-o", "{old}"), "add --force to replace it"),
        (("fit", "{folder}", "-o", "{old}/nowhere/x.toml"), "does not exist; make it"),
    ],
)
def test_wrong_input_is_one_sentence_and_writes_nothing(
    words: tuple[str, ...], said: str, folder: Path, ledger: str, tmp_path: Path
) -> None:
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text("mine")
    places = {"folder": str(folder), "ledger": ledger, "old": str(old), "new": str(new)}
    answer = call(*(word.format(**places) for word in words))
    assert answer.exit_code == 2
    lines = answer.stderr.strip().splitlines()
    assert said in lines[-1]
    assert lines[-1].startswith("error: ")
    assert old.read_text() == "mine"
    assert not new.exists()
