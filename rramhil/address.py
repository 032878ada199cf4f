"""From "scheme:address" to the bare device, through the entry points of installed drivers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from urllib.parse import parse_qsl, quote

from rramhil.device import Address, Device, Driver, Refused
from rramhil.words import nearest

GROUP = "rramhil.drivers"


def driver_names() -> list[str]:
    """Schemes of all installed drivers, sorted. Imports none of them."""
    return sorted(_entries())


def find_driver(scheme: str) -> Driver:
    """The driver record of `scheme`. Raises `Refused` naming the nearest installed one."""
    entry = _entries().get(scheme)
    if entry is None:
        have = ", ".join(driver_names()) or "none"
        raise Refused(
            f"no driver for {scheme!r} is installed (installed: {have})"
            f"{nearest(scheme, driver_names())}"
        )
    record = entry.load()
    if not isinstance(record, Driver):
        raise Refused(
            f"the driver {scheme!r} of {entry.value} is no rramhil.device.Driver record; "
            "update or remove the package that brings it"
        )
    return record


def parse_address(text: str) -> Address:
    """Take an address apart and check its options. Raises `Refused` in one sentence."""
    scheme, colon, rest = text.partition(":")
    if not colon or not scheme:
        raise Refused(
            f"{text!r} is no device address; write scheme:address, for example emulator:40nm"
        )
    driver = find_driver(scheme)
    path, _, query = rest.rpartition("?") if "?" in rest else (rest, "", "")
    pairs = parse_qsl(query, keep_blank_values=True)
    options: dict[str, str] = {}
    for key, value in pairs:
        if key not in driver.options:
            raise Refused(
                f"{scheme} has no option {key!r} (in {text!r}){nearest(key, driver.options)}"
            )
        if key in options:
            raise Refused(f"option {key!r} stands twice in {text!r}")
        options[key] = value
    return Address(scheme, path, options)


def with_option(address: str, key: str, value: str) -> str:
    """`address` with one more option. Raises `Refused` when its driver has no such option."""
    joint = "&" if "?" in address else "?"
    longer = f"{address}{joint}{key}={quote(value, safe='/:')}"
    parse_address(longer)
    return longer


def absolute_address(address: str) -> str:
    """`address` with a relative `state=` folder made absolute: it must mean the same die when a
    run is resumed from another folder. Raises `Refused` like `parse_address`."""
    parsed = parse_address(address)
    if "state" not in parsed.options:
        return address
    state = quote(str(Path(parsed.options["state"]).resolve()), safe="/:")
    rest = {k: quote(v, safe="/:") for k, v in parsed.options.items()} | {"state": state}
    return f"{parsed.scheme}:{parsed.path}?" + "&".join(f"{k}={v}" for k, v in rest.items())


def open_device(address: str | Address, extra: Mapping[str, str] | None = None) -> Device:
    """The bare device at `address`: no guard, no journal. `rramhil.connect` adds those."""
    parsed = parse_address(str(address))
    if extra:
        parsed = parse_address(
            str(Address(parsed.scheme, parsed.path, {**parsed.options, **extra}))
        )
    return find_driver(parsed.scheme).open(parsed)


def is_volatile(address: str) -> bool:
    """Whether the device at `address` ends with the process that opens it. Opens nothing."""
    return find_driver(parse_address(address).scheme).volatile


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
