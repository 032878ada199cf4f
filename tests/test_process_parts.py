"""The parts of a device process that need none: messages, errors, signals, the switch."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fakes import FakeDie, SlowDie
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from rramhil.connected import Aborted
from rramhil.device import (
    Device,
    DeviceError,
    DeviceFault,
    Kind,
    LinkLost,
    Outputs,
    Pulse,
    Refused,
    WallClock,
)
from rramhil.ledger import LedgerError
from rramhil.process.messages import Gone, InDeviceProcess, Message, failed, failure, receive, send
from rramhil.process.signals import COUNTED, TOGETHER_SECONDS, UNCOUNTED, Requests
from rramhil.process.switch import Switched
from rramhil.schema import FileError

INT, TERM, ALARM = signal.SIGINT, signal.SIGTERM, signal.SIGALRM
DTYPES = st.sampled_from(["?", "u1", "<u2", "<i4", "<i8", "<f4", "<f8", ">i4"])
ARRAYS = DTYPES.flatmap(
    lambda dtype: st_numpy.arrays(dtype, st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0))
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3),
)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


# ------------------------------------------------------------------------ messages


@given(st.text(max_size=9), st.dictionaries(st.text(max_size=5), JSON, max_size=3),
       st.dictionaries(st.text(max_size=5), ARRAYS, max_size=3))  # fmt: skip
def test_a_message_arrives_as_it_was_sent(what: str, values: Any, arrays: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, Message(what, values, arrays))
        arrived = receive(theirs)
    assert (arrived.what, arrived.values) == (what, values)
    assert list(arrived.arrays) == list(arrays)
    for name, array in arrays.items():
        assert arrived.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrived.arrays[name], array)


def test_large_arrays_and_views_arrive(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    large = np.arange(3_000_000, dtype=np.int64)[::3]
    sender = threading.Thread(target=send, args=(ours, Message("x", {}, {"a": large})))
    sender.start()
    np.testing.assert_array_equal(receive(theirs).arrays["a"], large)
    sender.join(10)


def test_what_holds_no_numbers_is_not_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    with pytest.raises(ValueError, match="cells must hold numbers, not"):
        send(ours, Message("read", {}, {"cells": np.array([object()])}))
    send(ours, Message("next"))
    assert receive(theirs).what == "next"


@pytest.mark.parametrize(
    "data",
    [b"", b"\x02\x00", b"\xff\xff\xff\xff", b"\x02\x00\x00\x00ab", b"\x02\x00\x00\x00[]",
     b'\x16\x00\x00\x00["x",{},[["a","|O",[1]]]', b'\x1a\x00\x00\x00["x",{},[["a","<f8",[-1]]]]',
     b'\x22\x00\x00\x00["x",{},[["a","<f8",[9999999999]]]]'],
)  # fmt: skip
def test_anything_else_is_the_end(pair: tuple[socket.socket, socket.socket], data: bytes) -> None:
    ours, theirs = pair
    ours.sendall(data)
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(Gone):
        receive(theirs)


class Unheard(LinkLost):
    pass


@pytest.mark.parametrize(
    ("error", "kind"),
    [(Refused("r"), Refused), (LedgerError("l"), LedgerError), (FileError("f"), FileError),
     (ValueError("v"), ValueError), (LinkLost("k", [3, 1]), LinkLost),
     (Unheard("u", [2]), LinkLost), (DeviceFault("d", [1]), DeviceFault),
     (DeviceError("e"), DeviceError), (Aborted("a", [5]), Aborted)],
)  # fmt: skip
def test_errors_arrive(
    pair: tuple[socket.socket, socket.socket], error: Exception, kind: type[Exception]
) -> None:
    send(pair[0], failure(error))
    arrived = failed(receive(pair[1]))
    assert type(arrived) is kind
    assert str(arrived) == str(error)
    if isinstance(error, DeviceError):
        assert isinstance(arrived, DeviceError)
        assert arrived.maybe.tolist() == error.maybe.tolist()


def test_what_nobody_foresaw_is_a_fault_with_its_traceback() -> None:
    try:
        raise KeyError("gate")
    except KeyError as error:
        arrived = failed(failure(error))
    assert isinstance(arrived, DeviceFault)
    assert "KeyError: 'gate'" in str(arrived)
    assert isinstance(arrived.__cause__, InDeviceProcess)
    assert "test_process_parts.py" in str(arrived.__cause__)


# ------------------------------------------------------------------------ signals


@pytest.mark.parametrize(
    ("pressed", "at_once"),
    [([(INT, 0.0)], False), ([(INT, 0.0), (INT, 1.0)], True), ([(TERM, 0.0), (INT, 1.0)], True),
     ([(INT, 0.0), (TERM, 1.0)], False), ([(TERM, 0.0), (TERM, 1.0)], False),
     ([(ALARM, 0.0), (INT, 1.0)], False), ([(INT, 0.0), (INT, TOGETHER_SECONDS + 1)], False),
     ([(COUNTED, 0.0), (INT, 1.0), (INT, 9e9)], True),
     ([(INT, 0.0), (COUNTED, 1.0), (INT, 2.0)], False),
     ([(COUNTED, 0.0), (INT, 1.0), (UNCOUNTED, 2.0), (INT, 3.0)], False)],
)  # fmt: skip
def test_which_signals_mean_outputs_off(pressed: list[tuple[int, float]], at_once: bool) -> None:
    requests = Requests()
    answers = [requests.at_once(bytes([number]), now) for number, now in pressed]
    assert answers == [False] * (len(pressed) - 1) + [at_once]


def test_signals_before_the_device_was_opened_count_only_where_somebody_counts() -> None:
    for history, at_once in ((bytes([INT]), False), (bytes([COUNTED, INT]), True)):
        requests = Requests()
        assert not requests.at_once(history, float("-inf"))
        assert requests.at_once(bytes([INT]), 5.0) is at_once


def test_the_page_is_written_while_the_interpreter_is_busy_and_not_by_forks() -> None:
    """A wake-up descriptor that somebody else has is left alone."""
    code = """
import os, re, signal, sys, threading
from rramhil.process import signals
signal.signal(signal.SIGUSR1, lambda *_: None)
assert signals.hear() and signals.hear()
page = signals.page()
if os.fork() == 0:
    os.kill(os.getpid(), signal.SIGUSR1)
    if os.fork() == 0:
        os._exit(0)
    assert os.wait()[1] == 0
    os._exit(os.fstat(page).st_size if os.path.exists(f"/proc/self/fd/{page}") else 0)
assert os.wait()[1] == 0
sent = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
seen = []
sent.start()
sent.join()
assert os.pread(page, 9, 0) == bytes([signal.SIGUSR1]), os.pread(page, 9, 0)
results = []
threading.Thread(target=lambda: results.append(signals.hear())).start()
read, write = os.pipe()
os.set_blocking(write, False)
signal.set_wakeup_fd(write)
assert signals.hear() is False and signal.set_wakeup_fd(-1) == write and results == [False]
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_two_ctrl_c_during_one_long_call_are_two() -> None:
    """Python calls a handler once for signals that came while it was busy; `Stop` hears both."""
    code = """
from rramhil.cli.stop import NOW, SOON, Stop
said = []
try:
    with Stop(said.append):
        print("busy", flush=True)
        while True:
            sum(range(60_000_000))  # C that neither looks for signals nor lets a thread run
except KeyboardInterrupt:
    print(said in ([NOW], [SOON, NOW]))
"""
    command = [sys.executable, "-W", "error", "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "busy\n"
        for _ in range(2):
            time.sleep(0.1)
            host.send_signal(signal.SIGINT)
        try:
            assert host.communicate(timeout=40)[0] == "True\n"
        finally:
            host.kill()


# ------------------------------------------------------------------------ the switch


class Counting(FakeDie):
    """A die that answers an abort in its own way, and counts them."""

    def __init__(self, fails: Exception | None = None) -> None:
        super().__init__()
        self.aborts = 0
        self.fails = fails

    def abort(self) -> Outputs:
        self.aborts += 1
        if self.fails:
            raise self.fails
        return Outputs(True, "all lines at zero")


def calls(device: Device) -> list[Any]:
    pulse = Pulse(Kind.SET, [0], 1.0, 1.0, seconds=1e-6)
    return [
        lambda: device.read([0]),
        lambda: device.apply(pulse),
        lambda: device.mvm(0, np.zeros((1, 16), int)),
        lambda: device.program([0], 1e-6, 2e-6),
        lambda: device.adjust("x", 1.0),
    ]


def read_on(device: Device) -> None:
    while True:
        device.read([0])


def test_it_is_switched_off_once_and_for_good() -> None:
    die = Counting()
    device = Switched(die)
    device.apply(Pulse(Kind.SET, [0], 1.0, 1.0, seconds=1e-6))
    first = device.switch_off("somebody said so")
    assert (first.off, first.said) == (True, "all lines at zero")
    assert device.switch_off("again") == first == device.abort()
    assert die.aborts == 1
    for call in calls(device):
        with pytest.raises(Refused, match=r"switched off \(somebody said so\); connect again"):
            call()
    assert die.counted[Kind.SET].sum() == 1


@pytest.mark.parametrize("error", [LinkLost("no answer"), ZeroDivisionError("oh")])
def test_an_abort_that_fails_is_an_answer(error: Exception) -> None:
    said = Switched(Counting(error)).abort()
    assert not said.off
    assert str(error) in said.said


def test_a_driver_without_an_abort_of_its_own_is_closed() -> None:
    die = SlowDie()
    device = Switched(die)
    threading.Timer(0.1, device.abort).start()
    with pytest.raises((Aborted, Refused)):
        read_on(device)
    assert device.outputs is not None
    assert device.outputs.off
    assert die.closed.is_set()


def test_a_wait_on_the_wall_clock_ends_with_the_device() -> None:
    die = FakeDie()
    assert Switched(die).clock is die.clock
    die.clock = WallClock()  # type: ignore[assignment]
    device = Switched(die)
    device.clock.sleep(0.001)
    threading.Timer(0.1, device.close).start()
    with pytest.raises(LinkLost, match="a wait was ended"):
        device.clock.sleep(100)


def test_the_contract_s_own_abort_says_what_closing_came_to() -> None:
    class Stuck(FakeDie):
        def close(self) -> None:
            raise LinkLost("the port is gone")

    assert FakeDie().abort() == Outputs(True, "its driver closed it")
    assert Stuck().abort() == Outputs(False, "the port is gone")
