"""connect(): leases, ledgers, limits, doubts; station files and their errors."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeDie, fake_spec
from hypothesis import given
from hypothesis import strategies as st

import rramhil.address
import rramhil.station
from rramhil.device import Address, Kind, LinkLost, Pulse, Range, Refused
from rramhil.guard import Budget, Guard, PulseSpans
from rramhil.journal import Journal
from rramhil.ledger import LedgerReader
from rramhil.schema import FileError
from rramhil.station import (
    Leased,
    Station,
    connect,
    file_name,
    home,
    load_station,
    shipped_stations,
)
from rramhil.wrap import Wrapped

CELLS = np.arange(4)


class Silicon:
    """A die that outlives its connections: what `open_device` gives is a new link to it."""

    def __init__(self, **changes: object) -> None:
        lasting = {"volatile": False, "newborn": False, "serial": "lot 3/die 7"}
        self.die = FakeDie(fake_spec(**{**lasting, **changes}), noise=0.0)
        self.broken = False
        self.opened = 0
        self.links: list[FakeDie] = []

    def open(self, _: str | Address) -> FakeDie:
        link = FakeDie(self.die.spec, noise=0.0, landing=self.land)
        link.siemens, link.counted = self.die.siemens, self.die.counted
        self.opened += 1
        self.links.append(link)
        return link

    def land(self, pulse: Pulse) -> None:
        if self.broken:
            raise LinkLost("the link went silent", pulse.cells[:2])


@pytest.fixture
def silicon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silicon]:
    silicon = Silicon()
    monkeypatch.setattr(rramhil.station, "open_device", silicon.open)
    monkeypatch.setattr(rramhil.station, "is_volatile", lambda _: True)
    yield silicon
    for link in silicon.links:
        assert link.closed.is_set()


def pulse(kind: Kind = Kind.SET, volts: float = 1.0) -> Pulse:
    return Pulse(kind, CELLS, volts, 1.0, seconds=1e-6)


def station(text: str, folder: Path) -> Path:
    path = folder / "bench.toml"
    path.write_text(f'name = "b"\n{text}', encoding="utf-8")
    return path


def test_journal_around_guard_around_lease(silicon: Silicon) -> None:
    with connect("fake:") as device:
        assert isinstance(device, Journal)
        assert isinstance(device.inner, Guard)
        assert isinstance(device.inner.inner, Leased)
        assert device.ledger.path == home() / "dies" / "lot%203%2Fdie%207" / "ledger.sqlite"


def test_refusals_of_the_guard_are_in_the_ledger(silicon: Silicon) -> None:
    with connect("fake:") as device:
        with pytest.raises(Refused):
            device.apply(pulse(volts=99.0))
        path = device.ledger.path
    with LedgerReader(path) as reader:
        assert [r.phase for r in reader.rows(ops=("apply",))] == ["intent", "refused"]


def test_the_head_of_the_session_says_what_was_used(silicon: Silicon, tmp_path: Path) -> None:
    bench = station("[pulses.set]\nvolts = [0, '2 V']", tmp_path)
    with connect("fake:x", station=bench, run="r1", header={"job": "text"}) as device:
        path = device.ledger.path
    with LedgerReader(path) as reader:
        head = reader.header()
        assert reader.runs() == ["r1"]
    assert head["versions"]["numpy"] == np.__version__
    assert head["address"] == "fake:x"
    assert head["job"] == "text"
    assert head["station"]["pulses"] == {"set": {"volts": [0.0, 2.0]}}


def test_one_process_at_a_time_on_a_die(silicon: Silicon, tmp_path: Path) -> None:
    with connect("fake:one"):
        with pytest.raises(Refused) as refusal:
            connect("fake:another-name-of-it", ledger=tmp_path)
        assert f"die lot 3/die 7 is in use by process {os.getpid()}" in str(refusal.value)
        assert "wait for it or stop it" in str(refusal.value)
    with connect("fake:again"):
        pass


def test_a_second_process_is_refused_in_one_sentence() -> None:
    code = "import rramhil; rramhil.connect('emulator:40nm?die=3&tiles=1')"
    with rramhil.station.connect("emulator:40nm?die=3&tiles=1"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "die 40nm-3" in last
    assert f"is in use by process {os.getpid()}" in last


def test_closing_from_another_thread_lets_the_die_go(silicon: Silicon) -> None:
    device = connect("fake:")
    closer = threading.Thread(target=device.close)
    closer.start()
    closer.join(10)
    connect("fake:").close()


def test_a_failed_start_lets_the_die_go(silicon: Silicon, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(Refused, match="nothing is left"):
            connect("fake:", station=station("[pulses.set]\nvolts = ['5 V', '6 V']", tmp_path))
    assert silicon.opened == 2
    connect("fake:").close()


def test_a_home_that_is_no_folder_is_one_sentence(
    silicon: Silicon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RRAMHIL_HOME", str(tmp_path / "file"))
    with pytest.raises(Refused, match="set RRAMHIL_HOME to a folder that you may write to"):
        connect("fake:")
    assert sum(c.sum() for c in silicon.die.counted.values()) == 0


def test_doubts_of_an_earlier_run_are_read_before_anything_else(silicon: Silicon) -> None:
    with connect("fake:", run="first") as device:
        silicon.broken = True
        with pytest.raises(LinkLost):
            device.apply(pulse())
        assert device.doubtful.tolist() == [0, 1]
    silicon.broken = False
    with connect("fake:", run="second") as device:
        assert device.doubtful.size == 0
        path = device.ledger.path
        device.apply(pulse())
    with LedgerReader(path) as reader:
        (settled,) = reader.rows(run="second", ops=("read",))
        assert settled.data == {"why": "settle"}
        assert settled.decode()["cells"].tolist() == [0, 1]


def test_the_budget_holds_for_the_life_of_the_die(silicon: Silicon, tmp_path: Path) -> None:
    bench = station("[budget]\npulses = 3\nvolt_seconds = 1\nhigh_volts = '1 V'", tmp_path)
    with connect("fake:", station=bench) as device:
        device.apply(pulse())
        silicon.broken = True
        with pytest.raises(LinkLost):
            device.apply(pulse())
    silicon.broken = False
    with connect("fake:", station=bench) as device:
        guard = device.inner
        assert isinstance(guard, Guard)
        assert guard.pulses_spent([0, 3]).tolist() == [2, 1]
        assert guard.volt_seconds_spent([0])[0] == pytest.approx(2e-6)
        device.apply(pulse())
        with pytest.raises(Refused, match=r"budget of 3 .* \(station file bench\.toml\)"):
            device.apply(pulse())


def test_a_die_born_again_has_its_budget_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    newborn = Silicon(volatile=True, newborn=True)
    monkeypatch.setattr(rramhil.station, "open_device", newborn.open)
    monkeypatch.setattr(rramhil.station, "is_volatile", lambda _: True)
    bench = station("[budget]\npulses = 1", tmp_path)
    for _ in range(2):
        with connect("fake:", station=bench) as device:
            device.apply(pulse())


def test_a_volatile_die_that_is_resumed_is_rebuilt() -> None:
    address = "emulator:40nm?die=5&tiles=1&seed=2"
    cells = np.arange(64)
    with connect(address, run="r") as device:
        device.apply(Pulse(Kind.SET, cells, 2.0, 1.6, seconds=1e-6))
        before = device.read(cells)
        frozen = device.freeze()
    with connect(address, run="r", resume=True) as device:
        assert not device.spec.newborn
        assert device.freeze() == frozen
        device.apply(Pulse(Kind.RESET, cells, 3.0, 4.0, seconds=1e-6))
        after = device.read(cells)
        path = device.ledger.path
    assert before.mean() > after.mean()
    with connect(address, run="r", resume=True) as device:
        assert device.read(cells).mean() == pytest.approx(after.mean(), rel=0.3)
    with LedgerReader(path) as reader:
        assert [s.newborn for s in reader.sessions()] == [True, False, False]


def test_a_folder_keeps_an_emulated_die_between_runs(tmp_path: Path) -> None:
    address = f"emulator:40nm?die=5&tiles=1&state={tmp_path}"
    cells = np.arange(64)
    with connect(address) as device:
        assert device.ledger.path.parent == tmp_path
        device.apply(Pulse(Kind.SET, cells, 2.5, 2.5, seconds=1e-6))
        frozen = device.freeze()
    with connect(address) as device:
        assert device.freeze() == frozen


def test_connect_imports_no_torch() -> None:
    code = (
        "import sys, rramhil\n"
        "with rramhil.connect('emulator:40nm?tiles=1') as device: device.read([0])\n"
        "assert 'torch' not in sys.modules, 'torch'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# ------------------------------------------------------------------------ station files


def test_a_station_file_says_what_the_bench_allows(tmp_path: Path) -> None:
    path = station(
        """
        address = "fake:"
        ledger = "ledgers"
        [conductance]
        lowest = "1 uS"
        highest = 3e-4
        [budget]
        pulses = 10
        volt_seconds = 0.5
        high_volts = "2.5 V"
        [pulses.set]
        volts = ["0 V", "2.2 V"]
        gate_volts = [0, 3]
        seconds = ["100 ns", "1 us"]
        [pulses.form]
        allowed = false
        [barred]
        cells = [[1, 2, 3]]
        rows = [[0, 1]]
        """,
        tmp_path,
    )
    bench, whose = load_station(path)
    assert bench.ledger == tmp_path / "ledgers"
    assert bench.address == "fake:"
    limits = bench.limits(fake_spec(), whose)
    assert limits.whose == "station file bench.toml"
    assert limits.kinds == {Kind.SET, Kind.RESET}
    spans = PulseSpans(volts=(0, 2.2), gate_volts=(0, 3), seconds=(1e-7, 1e-6))
    assert limits.spans == {Kind.SET: spans}
    assert limits.budget == Budget(10, 0.5, 2.5)
    assert (limits.lowest, limits.highest) == (1e-6, 3e-4)
    assert limits.barred.tolist() == [*range(16, 32), 256 + 35]


def test_a_station_names_the_folder_of_its_ledgers(silicon: Silicon, tmp_path: Path) -> None:
    with connect("fake:", station=station("ledger = 'books'", tmp_path)) as device:
        assert device.ledger.path.parent == tmp_path / "books" / "lot%203%2Fdie%207"
    with connect("fake:", station=Station(name="x"), ledger=tmp_path / "own") as device:
        assert device.ledger.path.parent == tmp_path / "own"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ledgr = 'x'", "unknown key 'ledgr'; did you mean 'ledger'?"),
        ("[pulses.sett]", "unknown key 'pulses.sett'; did you mean 'set'?"),
        ("[pulses.set]\nvolt = [0, 1]", "unknown key 'pulses.set.volt'; did you mean 'volts'?"),
        ("[pulses.set]\nvolts = ['0 V', '3 uS']", "'3 uS' is not a quantity in V"),
        ("[pulses.set]\nvolts = [3, 0]", "volts runs from 3 to 0; lowest first"),
        ("[conductance]\nhighest = '300'\n[budget]\npulses = -1", "greater than or equal to 0"),
        ("[barred]\ncells = [[1, 2]]", "barred.cells.0.2"),
        ("[budget", "is not valid TOML"),
    ],
)
def test_what_is_wrong_in_a_station_file_is_one_sentence(
    text: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(FileError) as error:
        load_station(station(text, tmp_path))
    assert said in str(error.value)
    assert "bench.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_station_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no station file 'emulato'; did you mean 'emulator'"):
        load_station("emulato")
    with pytest.raises(FileError, match="there is no file"):
        load_station(tmp_path / "none.toml")


def test_barred_cells_that_do_not_exist_are_refused(silicon: Silicon, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="row 99 does not exist"):
        connect("fake:", station=station("[barred]\nrows = [[0, 99]]", tmp_path))


def test_the_example_in_the_documentation_is_a_station_file(tmp_path: Path) -> None:
    assert rramhil.station.__doc__ is not None
    (tmp_path / "bench.toml").write_text(
        textwrap.dedent(rramhil.station.__doc__[rramhil.station.__doc__.index("    name =") :])
    )
    bench, _ = load_station(tmp_path / "bench.toml")
    assert not bench.pulses.form.allowed
    assert bench.pulses.set.seconds == (1e-7, 1e-5)


def test_a_replayed_run_gets_a_ledger_of_its_own(silicon: Silicon) -> None:
    with connect("fake:", run="r1") as device:
        path = device.ledger.path
        device.apply(pulse())
        recorded = device.read(CELLS)
    with LedgerReader(path) as reader:
        rows = reader.last_row
    real = rramhil.address.open_device
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rramhil.station, "open_device", real)
        with connect(f"replay:{path}?run=r1") as device:
            assert device.ledger.path != path
            device.apply(pulse())
            assert (device.read(CELLS) == recorded).all()
    with LedgerReader(path) as reader:
        assert reader.last_row == rows


@pytest.mark.parametrize("name", shipped_stations())
def test_shipped_stations_load_and_suit_the_emulator(name: str) -> None:
    bench, _ = load_station(name)
    with connect("emulator:40nm?tiles=1", station=bench) as device:
        assert device.spec.pulses[Kind.SET].volts.high <= 4
    assert "bench" in shipped_stations()


def test_the_spec_of_the_connected_device_is_the_tighter_one(
    silicon: Silicon, tmp_path: Path
) -> None:
    with connect("fake:", station=station("[pulses.set]\nvolts = [0, 1.5]", tmp_path)) as device:
        assert device.spec.pulses[Kind.SET].volts == Range(0, 1.5, 0.01)


# ------------------------------------------------------------------------ places


def test_home_is_the_variable_or_the_users_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RRAMHIL_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv("RRAMHIL_HOME")
    assert home().name == "rramhil"


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_law_serials_name_files_one_to_one(one: str, other: str) -> None:
    try:
        names = file_name(one), file_name(other)
    except Refused:
        return
    assert (names[0] == names[1]) == (one == other)
    for name in names:
        assert "/" not in name
        assert not name.startswith(".")


def test_serials_that_name_no_file_are_refused() -> None:
    for serial in ("", "x" * 101):
        with pytest.raises(Refused, match="cannot name a folder"):
            file_name(serial)


def test_the_lease_is_let_go_even_when_closing_fails() -> None:
    class Stuck(FakeDie):
        def close(self) -> None:
            raise LinkLost("cannot")

    spec = fake_spec(volatile=False, serial="s")
    with pytest.raises(LinkLost):
        Leased(Stuck(spec)).close()
    leased = Leased(FakeDie(spec))
    assert isinstance(leased, Wrapped)
    leased.close()
