"""Addresses and chip files: what is taken, and one sentence for what is not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rramhil.address import open_device
from rramhil.device import Refused
from rramhil_drivers.emulator import driver
from rramhil_drivers.emulator.chipfile import ChipFile, load_chip, preset_names
from rramhil_drivers.emulator.periphery import Sourced

PRESETS = Path(__file__).parents[2] / "fixtures" / "chips"


def test_serials_tell_silicon_apart() -> None:
    def serial(options: str) -> str:
        return open_device(f"emulator:40nm{options}").spec.serial

    assert serial("") == "40nm-0"
    assert serial("?die=7") == serial("?die=7&seed=3") == "40nm-7"
    assert serial("?die=7&stuck_lrs=0.01").startswith("40nm-7-")
    assert serial("?stuck_lrs=0.01") != serial("?stuck_lrs=0.02")


def test_a_kept_die_has_a_home_and_is_not_newborn() -> None:
    assert open_device("emulator:40nm").spec.newborn
    kept = open_device("emulator:40nm?state=/somewhere").spec
    assert (kept.home, kept.newborn, kept.volatile) == ("/somewhere", False, True)


def test_the_example_opens() -> None:
    assert open_device(driver.example).spec.serial == "40nm-7"


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("emulator:40mn", "no preset '40mn'; did you mean '40nm'"),
        ("emulator:", "needs a chip; write emulator:40nm"),
        ("emulator:40nm?dye=7", "no option 'dye'.* did you mean 'die'"),
        ("emulator:40nm?die=seven", "die=seven: give a whole number from 0"),
        ("emulator:40nm?die=-1", "die=-1: give a whole number"),
        ("emulator:40nm?seed=1.5", "seed=1.5: give a whole number"),
        ("emulator:40nm?tiles=0", "tiles=0: give a whole number from 1"),
        ("emulator:40nm?stuck_lrs=1.5", "stuck_lrs=1.5: give a share from 0 to 1"),
        ("emulator:40nm?stuck_rows=nan", "stuck_rows=nan: give a share"),
        ("emulator:40nm?formed=maybe", "formed=maybe: give yes or no"),
        ("emulator:40nm?state=", "state=: name a folder"),
        ("emulator:40nm?sigma=0.5", "sigma= is for statistical chips"),
        ("emulator:statistical?law=gaussian", "law=gaussian: there is no such law; known"),
        ("emulator:statistical?law=multiplicativ", "did you mean 'multiplicative'"),
        ("emulator:statistical?sigma=-1", "sigma=-1: give a number from 0 up"),
        ("emulator:statistical?formed=no", "need no forming"),
        ("emulator:40nm?converter_noise=-1", "converter_noise=-1: give a number from 0 up"),
        ("emulator:ember?converter_noise=2", "computes no product"),
        ("emulator:./nowhere.toml", "there is no file"),
    ],
)
def test_a_bad_address_is_refused_in_one_sentence(address: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence) as caught:
        open_device(address)
    assert "\n" not in str(caught.value)


def test_a_chip_file_of_your_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    text = (PRESETS / "40nm.toml").read_text().replace('name = "40nm"', 'name = "mine"')
    mine.write_text(text.replace("tiles = 4", "tiles = 2"))
    spec = open_device(f"emulator:{mine}?die=5").spec
    assert spec.serial.startswith("mine-5-")
    assert spec.tiles == 2


def test_the_serial_of_a_chip_file_of_your_own_says_what_stands_in_it(tmp_path: Path) -> None:
    text = (PRESETS / "40nm.toml").read_text()

    def serial(name: str, text: str, options: str = "?die=7") -> str:
        (tmp_path / name).write_text(text)
        return open_device(f"emulator:{tmp_path / name}{options}").spec.serial

    mine = serial("40nm.toml", text)
    assert re.fullmatch(r"40nm-7-[0-9a-f]{6}", mine)
    assert serial("other.toml", "# mine\n" + text) == mine
    assert serial("40nm.toml", text.replace("creep_volts = 0.15", "creep_volts = 0.16")) != mine
    assert re.fullmatch(mine + "-[0-9a-f]{6}", serial("40nm.toml", text, "?die=7&tiles=1"))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("\ncell_sd = ", "\ncell_ds = ", "unknown key.*cell_ds'; did you mean 'cell_sd'"),
        ("[cells.hrs]", "[cells.hrz]", "unknown key 'cells.hrz'; did you mean 'hrs'"),
        ('lsb = "0.1 uS"', 'lsb = "0.1 V"', "lsb: .*is not a quantity in S"),
        ("rows = 256", "rows = 0", "geometry.rows"),
        ("low = 100e-9, high = 10e-6", "low = 10e-9, high = 10e-6", "leaves the fitted widths"),
        ("low = 1e-6, high = 1e-3", "low = 10e-9, high = 1e-3", "form.seconds.low 1e-08 s lies"),
        ("low = 0.0, high = 4.0", "low = 5.0, high = 4.0", "lies above high"),
        ("early = [", "early = [1.0, ", "equally many"),
        ('name = "40nm"', "name = 40nm", "not valid TOML"),
    ],
)
def test_a_wrong_chip_file_is_one_sentence(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    text = (PRESETS / "40nm.toml").read_text()
    assert old in text
    (tmp_path / "bad.toml").write_text(text.replace(old, new))
    with pytest.raises(Refused, match=sentence) as caught:
        open_device(f"emulator:{tmp_path}/bad.toml")
    assert "bad.toml" in str(caught.value)


@pytest.mark.parametrize("name", preset_names())
def test_every_group_of_every_preset_names_its_source(name: str) -> None:
    chip = load_chip(name)
    tables = [getattr(chip, name) for name in ChipFile.model_fields]
    groups = [table for table in tables if isinstance(table, Sourced)]
    assert len(groups) >= 5
    assert all(len(group.source) > 3 for group in groups)
    assert chip.name == name


def test_the_driver_record_imports_no_emulator() -> None:
    code = (
        "import sys; from rramhil_drivers.emulator import driver; "
        "sys.exit('rramhil_drivers.emulator.die' in sys.modules or 'pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_chip_may_take_its_cells_from_a_preset(tmp_path: Path) -> None:
    wide = load_chip("wide")
    assert wide.cells == load_chip("40nm").cells
    text = (PRESETS / "wide.toml").read_text()
    other = tmp_path / "other.toml"
    for old, new in (
        ('cells_from = "40nm"', 'cells_from = "40mn"'),
        ("[geometry]", "[cells.set]\n[geometry]"),
    ):
        assert old in text
        other.write_text(text.replace(old, new))
        with pytest.raises(Refused, match="needs a preset with"):
            open_device(f"emulator:{other}")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("bits_at_once = 1", "bits_at_once = 4", "choose 1 or all of them"),
        ("stuck_lrs = 0.002", "stuck_lrs = 1.0", "are more than all cells"),
        ("reference_kelvin = 298.15\nkelvin", "reference_kelvin = 300.0\nkelvin", "at rate 1"),
        ("limit_siemens = 0.00032", "limit_siemens = 0.00095", "limit_siemens"),
        ("birth_reset_volts = 2.3", "birth_reset_volts = nan", "birth_reset_volts"),
        ('law = "sqrt"', 'law = "square"', "constant"),
        ("gain_trim = { low = 0.5", "gain_trim = { low = 1.5", "gain_trim needs a step, and 1"),
        ("references_per_kelvin = 0.0", "references_per_kelvin = 0.02", "leaves no reference"),
        ("start = 1.8, step = 0.04", "start = 1.801, step = 0.04", "set_gate.start 1.801"),
        ("reset_gate_volts = 4.0", "reset_gate_volts = 6.0", "reset_gate_volts 6 is outside"),
        ('lsb = "0.1 uS"', 'lsb = "0.1 uS"\nreferences = [2e-6, 1e-6]', "references must rise"),
    ],
)
def test_a_wrong_periphery_is_refused_in_one_sentence(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    text = (PRESETS / "40nm.toml").read_text()
    assert old in text
    (tmp_path / "bad.toml").write_text(text.replace(old, new))
    with pytest.raises(Refused, match=sentence):
        open_device(f"emulator:{tmp_path}/bad.toml")
