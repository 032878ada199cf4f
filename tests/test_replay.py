"""A recorded run gives the same answers, and says where another one departs."""

import numpy as np
import pytest
from fakes import FakeDie, fake_spec
from test_journal import FULL, FullDie

from rramhil.address import open_device
from rramhil.device import DeviceFault, Kind, LinkLost, Pulse, Refused, Spec
from rramhil.journal import Journal
from rramhil.ledger import Ledger, LedgerReader
from rramhil.replay import Departed

CELLS = np.arange(10, 30)
SET = Pulse(Kind.SET, CELLS, 1.2, 2.0, seconds=1e-6)


def work(device):
    """A closed loop with everything a device can do; what it saw and when."""
    seen = [device.read(CELLS), device.clock.now()]
    for _ in range(3):
        low = CELLS[seen[0] < 40e-6]
        device.apply(Pulse(Kind.SET, low, 1.2, 2.0, seconds=1e-6))
        device.clock.sleep(1.0)
        seen += [device.read(CELLS), device.clock.now()]
    device.adjust("offset", [0.5, 0.5])
    seen.append(device.mvm(0, np.arange(32).reshape(2, 16) % 16))
    seen.append(device.program(CELLS, 10e-6, 12e-6).siemens)
    return seen


def record(folder, calls, run="r", die=None):
    die = die or FullDie(fake_spec(**FULL))
    with Journal(die, Ledger.open(folder, "fake-0"), run) as device:
        return calls(device)


def replay(folder, options=""):
    return open_device(f"replay:{folder}/ledger.sqlite{options}")


def test_the_same_calls_give_the_same_answers(tmp_path):
    recorded = record(tmp_path, work)
    with replay(tmp_path) as device:
        for then, now in zip(recorded, work(device), strict=True):
            np.testing.assert_array_equal(then, now)
        assert device.spec.serial == "fake-0.replay"
        assert (device.spec.tiles, device.spec.reading) == (2, fake_spec().reading)
        with pytest.raises(Departed, match="the record ends there, and the run goes on with read"):
            device.read(CELLS)
    with pytest.raises(Refused, match="is closed"):
        device.read(CELLS)


def test_a_replay_can_be_journalled_and_frozen(tmp_path):
    recorded = record(tmp_path / "a", work)
    played = replay(tmp_path / "a")
    state = played.freeze()
    with Journal(played, Ledger.open(tmp_path / "b", "fake-0.replay"), "again") as device:
        for then, now in zip(recorded, work(device), strict=True):
            np.testing.assert_array_equal(then, now)
        device.checkpoint()
    with replay(tmp_path / "a") as device:
        work(device)
        device.thaw(state)
        np.testing.assert_array_equal(device.read(CELLS), recorded[0])
        with pytest.raises(Refused, match="not the state of a replayed run"):
            device.thaw(b"something else")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda d: d.read(CELLS[1:]), r"row 3 .*cells had shape \(20,\) and has \(19,\) now"),
        (lambda d: d.read(CELLS + 1), "cells number 0 was 10 and is 11 now"),
        (lambda d: d.apply(SET), "recorded is read .20 cells., called is apply"),
        (lambda d: d.clock.sleep(1.0), "recorded is read"),
        (lambda d: (d.read(CELLS), d.apply(SET)), r"row 4 .*in this apply cells had shape"),
    ],
)
def test_a_different_call_is_refused_where_it_departs(tmp_path, call, says):
    record(tmp_path, work)
    with replay(tmp_path) as device, pytest.raises(Departed, match=says) as error:
        call(device)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (Pulse(Kind.RESET, CELLS, 1.2, 2.0, seconds=1e-6), "kind was set and is reset"),
        (Pulse(Kind.SET, CELLS, 1.3, 2.0, seconds=1e-6), "volts number 0 was 1.2 and is 1.3"),
        (Pulse(Kind.SET, CELLS, 1.2, 2.1, seconds=1e-6), "gate_volts number 0 was 2"),
        (Pulse(Kind.SET, CELLS, 1.2, 2.0, seconds=2e-6), "seconds was 1e-06 and is 2e-06"),
    ],
)
def test_a_different_pulse_is_refused(tmp_path, changed, says):
    record(tmp_path, lambda device: device.apply(SET))
    with replay(tmp_path) as device:
        with pytest.raises(Departed, match=says):
            device.apply(changed)
        device.apply(SET)


def test_recorded_failures_are_raised_again(tmp_path):
    errors = [LinkLost("pulled", CELLS[:3]), DeviceFault("hot", CELLS[:2]), KeyboardInterrupt()]
    die = FullDie(fake_spec(**FULL))

    def landing(pulse):
        raise errors[0]

    def calls(device):
        die.landing = landing
        while errors:
            with pytest.raises(type(errors[0])):
                device.apply(SET)
            errors.pop(0)
            device.settle()
        with pytest.raises(Refused, match="outside"):
            device.apply(Pulse(Kind.SET, CELLS, 1.2, 9.0, seconds=1e-6))
        die.landing = None
        return device.read(CELLS[::2])

    recorded = record(tmp_path, calls, die=die)
    with replay(tmp_path) as device:
        with pytest.raises(LinkLost, match="pulled") as lost:
            device.apply(SET)
        assert lost.value.maybe.tolist() == CELLS[:3].tolist()
        device.read(CELLS[:3])
        with pytest.raises(DeviceFault, match="hot"):
            device.apply(SET)
        with pytest.raises(DeviceFault, match="recorded was KeyboardInterrupt"):
            device.apply(SET)
        np.testing.assert_array_equal(device.read(CELLS[::2]), recorded)  # steps over the rest


def test_runs_and_sessions_are_chosen(tmp_path):
    first = record(tmp_path, lambda device: device.read(CELLS), "one")
    second = record(tmp_path, lambda device: device.read(CELLS[:5]), "one")
    record(tmp_path, lambda device: device.apply(SET), "two")
    with pytest.raises(Refused, match=r"2 sessions.*session=1 to session=2, or session=all"):
        replay(tmp_path, "?run=one")
    with pytest.raises(Refused, match="has no run 'onne'; did you mean 'one'"):
        replay(tmp_path, "?run=onne")
    with pytest.raises(Refused, match="2 sessions"):
        replay(tmp_path, "?run=one&session=7")
    with replay(tmp_path, "?run=one&session=2") as device:
        np.testing.assert_array_equal(device.read(CELLS[:5]), second)
    with replay(tmp_path, "?run=one&session=all") as device:
        np.testing.assert_array_equal(device.read(CELLS), first)
        np.testing.assert_array_equal(device.read(CELLS[:5]), second)
    with replay(tmp_path) as device:
        device.apply(SET)


def test_a_call_cut_off_by_a_kill_is_a_lost_link(tmp_path):
    die = FullDie(fake_spec(**FULL))
    device = Journal(die, Ledger.open(tmp_path, "fake-0"), "r")
    device.read(CELLS)
    device.apply(SET)
    device.ledger._db.execute("ROLLBACK")  # the outcome was not committed yet
    device.ledger._in_step = False
    device.close()
    with LedgerReader(tmp_path) as reader:
        assert reader.doubtful().size == 20
    with replay(tmp_path) as played:
        played.read(CELLS)
        with pytest.raises(LinkLost, match="ended during this apply") as lost:
            played.apply(SET)
        assert lost.value.maybe.size == 20


def test_empty_and_missing_records(tmp_path):
    with pytest.raises(Refused, match="there is no ledger at"):
        replay(tmp_path)
    Ledger.open(tmp_path, "fake-0").close()
    with pytest.raises(Refused, match="holds no run yet"):
        replay(tmp_path)


def test_on_hardware_any_length_of_sleep_is_the_recorded_one(tmp_path):
    for volatile in (True, False):
        die = FakeDie(fake_spec(volatile=volatile))
        record(tmp_path / str(volatile), lambda device: device.clock.sleep(1.0), die=die)
    with replay(tmp_path / "False") as device:
        device.clock.sleep(1.01)
    with replay(tmp_path / "True") as device, pytest.raises(Departed, match="not of this length"):
        device.clock.sleep(1.01)


def test_an_array_where_none_was_given_is_a_departure(tmp_path, monkeypatch):
    record(tmp_path, lambda d: d.apply(SET), die=FakeDie())
    bare = Pulse(Kind.SET, CELLS, 1.2, None, seconds=1e-6)
    monkeypatch.setattr(Spec, "check_pulse", lambda spec, pulse: None)
    with (
        replay(tmp_path) as device,
        pytest.raises(Departed, match="in this apply gate_volts was 20 values and is None now"),
    ):
        device.apply(bare)
