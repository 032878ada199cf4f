"""Addresses: taken apart, checked, and put together again; drivers by their entry points."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
from fakes import FakeDie

import rramhil.address
from rramhil.address import driver_names, find_driver, open_device, parse_address, with_option
from rramhil.device import Address, Driver, Refused

asked: list[Address] = []


def _open(address: Address) -> FakeDie:
    asked.append(address)
    return FakeDie()


driver = Driver("a fake", "fake:0", _open, options={"die": "its number", "seed": "of noise"})
no_driver = "not a record"


@pytest.fixture(autouse=True)
def _fake_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    asked.clear()
    entries = {
        "fake": EntryPoint("fake", f"{__name__}:driver", rramhil.address.GROUP),
        "bad": EntryPoint("bad", f"{__name__}:no_driver", rramhil.address.GROUP),
        **rramhil.address._entries(),
    }
    monkeypatch.setattr(rramhil.address, "_entries", lambda: entries)
    monkeypatch.setattr(EntryPoint, "load", _load)


def _load(entry: EntryPoint) -> object:
    if entry.value.startswith(__name__):
        return globals()[entry.attr]
    module = __import__(entry.module, fromlist=["driver"])
    return getattr(module, entry.attr)


@pytest.mark.parametrize(
    ("text", "path", "options"),
    [
        ("fake:", "", {}),
        ("fake:/dev/ttyUSB0", "/dev/ttyUSB0", {}),
        ("fake:socket://host:7", "socket://host:7", {}),
        ("fake:x?die=7&seed=1", "x", {"die": "7", "seed": "1"}),
        ("fake:odd?name?die=7", "odd?name", {"die": "7"}),
        ("fake:x?die=", "x", {"die": ""}),
    ],
)
def test_addresses_are_taken_apart(text: str, path: str, options: dict[str, str]) -> None:
    address = parse_address(text)
    assert (address.scheme, address.path, dict(address.options)) == ("fake", path, options)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("40nm", "'40nm' is no device address; write scheme:address, for example emulator:40nm"),
        (":40nm", "is no device address"),
        ("", "is no device address"),
        ("fakr:1", "no driver for 'fakr' is installed"),
        ("fakr:1", "did you mean 'fake'?"),
        ("fake:1?dye=7", "fake has no option 'dye' (in 'fake:1?dye=7'); did you mean 'die'?"),
        ("fake:1?die=7&die=8", "option 'die' stands twice"),
        ("bad:1", "is no rramhil.device.Driver record"),
    ],
)
def test_wrong_addresses_are_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(Refused) as refusal:
        open_device(text)
    assert said in str(refusal.value)
    assert asked == []


def test_the_driver_is_given_the_address() -> None:
    open_device("fake:x?die=7").close()
    open_device(Address("fake", "y", {}), {"seed": "3"}).close()
    assert [str(address) for address in asked] == ["fake:x?die=7", "fake:y?seed=3"]


def test_extra_options_are_checked_too() -> None:
    with pytest.raises(Refused, match="no option 'sede'"):
        open_device("fake:x", {"sede": "1"})


def test_every_installed_driver_gives_a_record_and_an_example_of_its_own() -> None:
    for name in set(driver_names()) - {"bad"}:
        record = find_driver(name)
        assert record.example.startswith(f"{name}:")
        assert record.summary
        assert record.faults <= set(record.options)


def test_listing_drivers_imports_none_of_them() -> None:
    code = (
        "import sys\n"
        "from rramhil.address import driver_names, find_driver\n"
        "assert {'emulator', 'serial', 'replay'} <= set(driver_names())\n"
        "assert 'rramhil_drivers' not in sys.modules\n"
        "find_driver('emulator'), find_driver('serial')\n"
        "assert not {'serial', 'torch', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_option_is_added_to_an_address_or_refused_by_its_driver() -> None:
    longer = with_option("serial:socket://127.0.0.1:9?baud=9600", "trace", "/tmp/a b+c.jsonl")
    assert parse_address(longer).options == {"baud": "9600", "trace": "/tmp/a b+c.jsonl"}
    with pytest.raises(Refused, match="emulator has no option 'trace'"):
        with_option("emulator:40nm", "trace", "/tmp/x")
