"""From an address to an emulated die: options read and checked, one sentence each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import TypeVar, get_args

from pydantic import BaseModel

from rramhil.device import Address, Refused
from rramhil.schema import FileError
from rramhil.words import nearest
from rramhil_drivers.emulator.ageing_laws import Disturb
from rramhil_drivers.emulator.chipfile import (
    ChipFile,
    Law,
    content_mark,
    is_file,
    load_chip,
    preset_names,
)
from rramhil_drivers.emulator.die import EmulatedDie

T = TypeVar("T")
MAX_TILES = 4096


def open_die(address: Address) -> EmulatedDie:
    """The die at `address`. Raises `Refused` in one sentence for a bad preset or option."""
    if not address.path:
        raise Refused(
            f"the emulator needs a chip; write emulator:{preset_names()[0]} or the path of a "
            f"chip file (presets: {', '.join(preset_names())})"
        )
    try:
        chip = _with_overrides(load_chip(address.path), address)
    except FileError as error:
        raise Refused(str(error)) from None
    options = address.options
    die = _option(options, "die", 0, _number(0, 2**32 - 1))
    formed = _option(options, "formed", True, _yes_or_no)
    if not formed and chip.cells is None:
        raise Refused(f"formed=no: the cells of {chip.name} need no forming; leave it out")
    return EmulatedDie(
        chip,
        die=die,
        seed=_option(options, "seed", 0, _number(0, 2**63 - 1)),
        tiles=_option(options, "tiles", chip.geometry.tiles, _number(1, MAX_TILES)),
        formed=formed,
        home=_option(options, "state", "", _folder),
        newborn="state" not in options,
        serial=_serial(chip.name, die, address),
    )


def _serial(name: str, die: int, address: Address) -> str:
    """'40nm-7'; other silicon under the same name and number gets marks of its own."""
    parts = [name, str(die)]
    if is_file(address.path):
        parts.append(content_mark(address.path))
    other = {k: v for k, v in address.options.items() if k not in ("die", "seed", "state")}
    if other:
        text = "&".join(f"{k}={v}" for k, v in sorted(other.items()))
        parts.append(blake2b(text.encode(), digest_size=3).hexdigest())
    return "-".join(parts)


def _with_overrides(chip: ChipFile, address: Address) -> ChipFile:
    options = address.options
    faults = {
        key: _option(options, key, 0.0, _share)
        for key in ("stuck_lrs", "stuck_hrs", "stuck_rows")
        if key in options
    }
    if faults:
        chip = _changed(chip, "faults", _changed_all(chip.faults, faults))
    if "converter_noise" in options:
        chip = _noisier(chip, _option(options, "converter_noise", 1.0, _not_negative))
    laws = {k: options[k] for k in ("sigma", "law", "disturb") if k in options}
    if laws and chip.statistical is None:
        raise Refused(
            f"{next(iter(laws))}= is for statistical chips; {chip.name} has pulse-level cells "
            "(use emulator:statistical, or leave the option out)"
        )
    if laws and chip.statistical is not None:
        new: dict[str, object] = {}
        if "sigma" in laws:
            new["sigma"] = _option(options, "sigma", 0.0, _not_negative)
        if "law" in laws:
            new["law"] = _option(options, "law", "", _law)
        if "disturb" in laws:
            new["disturb"] = _disturbed(chip, _option(options, "disturb", 0.0, _not_negative))
        chip = _changed(chip, "statistical", _changed_all(chip.statistical, new))
    return chip


def _disturbed(chip: ChipFile, hops: float) -> Disturb:
    """The chip's law of read disturb, with so many hops of a cell in a million readings."""
    law = chip.statistical.disturb if chip.statistical is not None else None
    if law is None:
        raise Refused(
            f"disturb=: {chip.name} has no [statistical.disturb]; write one into its chip file, "
            "or leave the option out"
        )
    changed = _changed(law, "hops_per_second", hops / (1e6 * chip.reading.seconds))
    try:
        changed.check_reading(chip.reading.volts, chip.reading.seconds, "statistical.disturb")
    except ValueError as error:
        raise Refused(f"disturb={hops:g}: {error}") from None
    return changed


def _noisier(chip: ChipFile, factor: float) -> ChipFile:
    """`chip` with `factor` times the noise of its converter."""
    if chip.converter is None:
        raise Refused(f"converter_noise=: {chip.name} computes no product; leave it out")
    law = chip.converter.noise
    louder = {"floor_codes": factor * law.floor_codes, "strength": factor * law.strength}
    noise = _changed_all(law, louder)
    return _changed(chip, "converter", _changed(chip.converter, "noise", noise))


M = TypeVar("M", bound=BaseModel)


def _changed(model: M, key: str, value: object) -> M:
    return model.model_copy(update={key: value})


def _changed_all(model: M, values: Mapping[str, object]) -> M:
    return model.model_copy(update=dict(values))


def _option(options: Mapping[str, str], key: str, default: T, read: Callable[[str], T]) -> T:
    if key not in options:
        return default
    try:
        return read(options[key])
    except ValueError as error:
        raise Refused(f"{key}={options[key]}: {error}") from None


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.strip().isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"give a whole number from {low} to {high}")
        return int(text)

    return read


def _share(text: str) -> float:
    value = _float(text)
    if not 0 <= value <= 1:
        raise ValueError("give a share from 0 to 1, for example 0.01")
    return value


def _not_negative(text: str) -> float:
    value = _float(text)
    if not 0 <= value < float("inf"):
        raise ValueError("give a number from 0 up, for example 0.5")
    return value


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("give a number, for example 0.01") from None


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f"give yes or no{nearest(text, ('yes', 'no'))}")
    return text == "yes"


def _law(text: str) -> str:
    if text not in get_args(Law):
        raise ValueError(f"there is no such law{nearest(text, get_args(Law))}")
    return text


def _folder(text: str) -> str:
    if not text:
        raise ValueError("name a folder that keeps the die, or leave the option out")
    return text
