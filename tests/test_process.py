"""A device in a process of its own: the same device, and outputs off whatever happens here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import process_driver
import pytest
from processes import device_processes

from rramhil.connected import Aborted, Connected
from rramhil.device import DeviceFault, Kind, LinkLost, Pulse, Refused
from rramhil.journal import Journal
from rramhil.ledger import LedgerReader
from rramhil.process.remote import Remote
from rramhil.station import Station, abort, connect, connect_here

CELLS = np.arange(4)
EMULATOR = "emulator:40nm?tiles=1&die=3&seed=4"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the driver `bench` leaves its traces; no device process is left behind."""
    monkeypatch.syspath_prepend(process_driver.install(tmp_path / "site"))
    yield tmp_path
    assert device_processes(os.getpid()) == []


def bench(folder: Path, trouble: str = "", serial: str = "7") -> Remote:
    more = f"&trouble={trouble}" if trouble else ""
    device = connect(f"bench:{serial}?folder={folder}{more}")
    assert isinstance(device, Remote)
    return device


def pulse(volts: float = 1.0) -> Pulse:
    return Pulse(Kind.SET, CELLS, volts, 1.0, seconds=1e-6)


def read_on(device: Connected) -> None:
    while True:
        device.read(CELLS)


def when_off(folder: Path, seconds: float = 20.0) -> float:
    """When the outputs went off, by the monotonic clock; waits for it."""
    deadline = time.monotonic() + seconds
    while not (folder / "off").exists() or not (folder / "off").read_text():
        assert time.monotonic() < deadline, "the outputs stayed on"
        time.sleep(0.005)
    return float((folder / "off").read_text())


def run(device: Connected) -> list[object]:
    """All that can be asked of an emulated die, and what it says."""
    spec = device.spec
    cells = spec.cells(0, range(8), 3)
    windows = np.full(8, 20e-6), np.full(8, 60e-6)
    said: list[object] = [spec, device.read(cells), device.read([])]
    device.apply(Pulse(Kind.SET, cells, 2.0, 1.8, seconds=1e-6))
    said += [device.read(cells[::-1]), device.ledger.row, device.doubtful, device.settle()]
    codes = np.ones((2, spec.rows), np.uint8)
    calls = (
        lambda: device.mvm(0, codes),
        lambda: device.mvm(7, codes),
        lambda: device.mvm(0, codes + 0.5),
        lambda: device.program(cells, *windows),
        lambda: device.apply(pulse(99.0)),
        lambda: device.read([0.5]),
        lambda: device.read([1, 1]),
        lambda: device.adjust("nothing", 1.0),
        lambda: device.thaw(b""),
    )
    for call in calls:
        try:
            said.append(call())
        except (Refused, ValueError) as error:
            said.append(f"{type(error).__name__}: {error}")
    device.clock.sleep(0.5)
    said += [device.clock.now(), device.ledger.note("here", {"x": np.int64(1)})]
    device.ledger.flush()
    said += [device.freeze(), device.ledger.row, device.checkpoint(), device.finish("done", {})]
    return said


def test_it_is_the_device_that_it_would_be_here(tmp_path: Path) -> None:
    here = connect_here(EMULATOR, ledger=tmp_path / "here", run="r", header={"a": 1})
    asked = {
        "address": EMULATOR, "station": None, "whose": "", "ledger": str(tmp_path / "there"),
        "run": "r", "header": {"a": 1}, "resume": False, "continues": None,
    }  # fmt: skip
    with here, Remote.start("rramhil.station:device_process", asked) as there:
        assert isinstance(here, Journal)
        for mine, its in zip(run(here), run(there), strict=True):
            if isinstance(mine, np.ndarray):
                assert its.dtype == mine.dtype
                np.testing.assert_array_equal(mine, its)
            elif hasattr(mine, "sets"):
                np.testing.assert_array_equal(mine.sets, its.sets)
            else:
                assert mine == its
        assert there.ledger.path == tmp_path / "there" / "ledger.sqlite"
        head = there.ledger.head
    with LedgerReader(tmp_path / "here") as mine, LedgerReader(tmp_path / "there") as its:
        assert [(r.op, r.phase, r.body) for r in mine.rows()] == [
            (r.op, r.phase, r.body) for r in its.rows()
        ]
        assert its.header()["a"] == 1
        assert its.verify(head=head).ok
    with pytest.raises(Refused, match="it is closed; connect again"):
        there.read([0])


def test_nothing_heavy_is_loaded_there_and_it_has_a_session_of_its_own(folder: Path) -> None:
    with bench(folder) as device:
        assert (folder / "loaded").read_text() == ""
        assert os.getsid(device.pid) == device.pid != os.getsid(0)
        assert device_processes(os.getpid()) == [device.pid]


def test_the_chip_tells_its_pulses(folder: Path) -> None:
    with bench(folder) as device:
        device.apply(pulse())
        assert device.pulses_counted(Kind.SET)[:6].tolist() == [1, 1, 1, 1, 0, 0]  # type: ignore[attr-defined]


# ------------------------------------------------------------------------ starting


def test_errors_of_opening_are_the_same_sentence(folder: Path) -> None:
    cases: list[tuple[str, Station | None, str]] = [
        ("bench:7?trouble=missing", None, "there is no bench; build one"),
        (f"bench:7?folder={folder}", Station(name="s", barred={"rows": [(0, 99)]}), "row 99 does"),
        (f"bench:7?folder={folder}&trobule=x", None, "did you mean 'trouble'"),
    ]
    for address, station, says in cases:
        with pytest.raises(Refused, match=says):
            connect(address, station=station)
    used = f"die 7 is in use by process {os.getpid()}"
    with bench(folder), pytest.raises(Refused, match=used):
        bench(folder)
    bench(folder).close()


def test_a_process_that_dies_while_it_opens_is_one_sentence(folder: Path) -> None:
    asked = {"address": f"bench:7?folder={folder}"}
    with pytest.raises(LinkLost, match=r"ended while it opened the device \(it ended with exit"):
        Remote.start("os:_exit", asked)


def test_two_dies_and_a_thread(folder: Path) -> None:
    devices: list[Remote] = []
    opener = threading.Thread(target=lambda: devices.append(bench(folder, serial="8")))
    with bench(folder) as first:
        opener.start()
        opener.join(60)
        (second,) = devices
        with second:
            assert {first.spec.serial, second.spec.serial} == {"7", "8"}
            second.abort()
            with pytest.raises(Refused, match="outputs of 8 were switched off"):
                second.read(CELLS)
            assert first.read(CELLS).size == 4


# ------------------------------------------------------------------------ losses


@pytest.mark.parametrize("trouble", ["segv", "killed"])
def test_a_process_that_dies_leaves_a_doubt_that_the_next_one_settles(
    folder: Path, trouble: str
) -> None:
    with bench(folder, "slow" if trouble == "killed" else trouble) as device:
        if trouble == "killed":
            threading.Timer(0.3, os.kill, (device.pid, signal.SIGKILL)).start()
        with pytest.raises(LinkLost, match="was lost during apply: killed by SIG") as lost:
            device.apply(pulse())
        assert lost.value.maybe.tolist() == CELLS.tolist()
        assert device.doubtful.tolist() == CELLS.tolist()
        with pytest.raises(Refused, match="cannot be used any more: its device process is gone"):
            device.read(CELLS)
        with pytest.raises(Refused):
            device.finish("over")
        assert not device.abort().off
    with LedgerReader(device.ledger.path) as reader:
        assert reader.doubtful().tolist() == CELLS.tolist()
    with bench(folder) as device:
        assert device.doubtful.size == 0
        device.apply(pulse())
    with LedgerReader(device.ledger.path) as reader:
        assert reader.verify().ok
        (settled,) = reader.rows(ops=("read",))
        assert settled.data == {"why": "settle"}


def test_errors_keep_their_class_message_and_cells(folder: Path) -> None:
    with bench(folder, "unplugged") as device:
        with pytest.raises(LinkLost, match="the cable is out") as lost:
            device.apply(pulse())
        assert lost.value.maybe.tolist() == [0, 1]
        assert device.doubtful.tolist() == [0, 1]
        assert device.settle().tolist() == [0, 1]
        assert device.doubtful.size == 0
    with bench(folder, "bug") as device:
        with pytest.raises(DeviceFault, match=r"the driver failed \(ZeroDivisionError") as fault:
            device.apply(pulse())
        assert "process_driver.py" in str(fault.value.__cause__)
        assert device.doubtful.tolist() == CELLS.tolist()
    with bench(folder, "os") as device, pytest.raises(OSError, match="no space") as full:
        device.apply(pulse())
    assert (full.value.errno, full.value.filename) == (28, "/dev/bench")


def test_closing_from_another_thread_ends_a_pending_call(folder: Path) -> None:
    device = bench(folder, "slow")
    threading.Timer(0.3, device.close).start()
    with pytest.raises(LinkLost, match="closed while it was read"):
        device.read(CELLS)
    device.close()
    assert when_off(folder) <= time.monotonic()


# ------------------------------------------------------------------------ outputs off


def test_abort_ends_a_pending_call_and_says_what_the_device_said(folder: Path) -> None:
    with bench(folder, "slow") as device:
        lost: list[BaseException] = []

        def write() -> None:
            try:
                device.apply(pulse())
            except Aborted as error:
                lost.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        time.sleep(0.2)
        said = device.abort()
        writer.join(10)
        assert said.off
        assert said.said == "its driver closed it"
        assert lost[0].maybe.tolist() == CELLS.tolist()  # type: ignore[attr-defined]
        assert device.abort() == said
        assert device.doubtful.tolist() == CELLS.tolist()
        with pytest.raises(Refused, match=r"switched off \(the host asked for it\)"):
            device.read(CELLS)
        device.finish("stopped at once")
    with LedgerReader(device.ledger.path) as reader:
        (note,) = [row for row in reader.rows(ops=("note",)) if row.data["event"] == "outputs off"]
        assert note.data["why"] == "the host asked for it"
        assert note.data["off"] is True
        assert reader.sessions()[-1].outcome == "stopped at once"
        assert reader.verify().ok


def test_an_abort_ends_a_wait(folder: Path) -> None:
    with bench(folder) as device:
        device.clock.sleep(0.01)
        threading.Timer(0.2, device.abort).start()
        began = time.monotonic()
        with pytest.raises(Aborted, match=r"the host asked for it\): a wait was ended"):
            device.clock.sleep(100)
        assert time.monotonic() - began < 60


def test_another_process_may_ask_for_it(folder: Path) -> None:
    with pytest.raises(Refused, match="no process on this computer answers for die 7"):
        abort("7")
    with bench(folder) as device:
        code = "from rramhil.station import abort; print(abort('7').off)"
        other = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        assert other.stdout == "True\n"
        with pytest.raises(Refused, match="another process asked for it"):
            device.read(CELLS)
    with pytest.raises(Refused, match="no process on this computer"):
        abort("7")


def test_sigterm_to_the_device_process_is_outputs_off(folder: Path) -> None:
    with bench(folder) as device:
        os.kill(device.pid, signal.SIGTERM)
        when_off(folder)
        with pytest.raises((Aborted, Refused)):
            read_on(device)
    with LedgerReader(device.ledger.path) as reader:
        assert reader.sessions()[-1].outcome == "closed"
        assert reader.verify().ok


def test_one_ctrl_c_ends_the_call_here_and_loses_nothing(folder: Path) -> None:
    with bench(folder) as device:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            device.clock.sleep(0.6)
        row = device.ledger.row
        assert device.read(CELLS).size == 4
        assert device.ledger.row == row + 1
    with LedgerReader(device.ledger.path) as reader:
        assert [row.op for row in reader.rows(ops=("sleep", "read"))] == ["sleep", "read"]


def test_the_second_ctrl_c_is_outputs_off_without_a_word_from_here(folder: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        with bench(folder) as device:
            for _ in range(2):
                assert not (folder / "off").exists()
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)
            when_off(folder)
            with pytest.raises(Refused, match="Ctrl-C was pressed twice"):
                device.read(CELLS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(heard) == 2


def test_a_killed_host_with_a_forked_child_switches_the_outputs_off(folder: Path) -> None:
    """The device is the parent's, and the forks that outlive it do not keep it alive."""
    code = f"""
import ctypes, os, signal, sys
sys.path[:0] = {[str(folder / "site"), str(Path(__file__).parent)]!r}
import rramhil
device = rramhil.connect("bench:7?folder={folder}")
if os.fork() == 0:
    try:
        device.read([0])
    except rramhil.Refused as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
libc = ctypes.CDLL(None)  # a fork that Python's hooks do not see keeps the host's sockets open
sleeper = libc.fork()
while sleeper == 0:
    libc.pause()
print(sleeper, flush=True)
print(device.read([0]).size, os.path.exists({str(folder / "off")!r}), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    sleeper = 0
    host = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert host.stdout is not None
        assert "it is closed" in host.stdout.readline()
        sleeper = int(host.stdout.readline())
        assert host.stdout.readline() == "1 False\n"
        assert host.wait(60) == -9
        when_off(folder)
        deadline = time.monotonic() + 20
        while device_processes(host.pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        bench(folder).close()
    finally:
        if sleeper:
            os.kill(sleeper, signal.SIGKILL)
        host.kill()
        host.wait()
        if host.stdout is not None:
            host.stdout.close()
