"""What is on disk before, during and after a call, whatever happens to it."""

import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from fakes import FakeDie, SlowDie, fake_spec

from rramhil.device import (
    DeviceFault,
    Kind,
    KnobLimits,
    LinkLost,
    MvmLimits,
    ProgramLimits,
    Programmed,
    Pulse,
    Range,
    Refused,
)
from rramhil.journal import Journal
from rramhil.ledger import Ledger, LedgerError, LedgerReader
from rramhil.ledger.codec import encode

CELLS = np.arange(10, 30)
SET = Pulse(Kind.SET, CELLS, 1.2, 2.0, seconds=1e-6)
FULL = {
    "mvm": MvmLimits(4, 7, 3, 1e-6),
    "program": ProgramLimits(4, 20),
    "knobs": {"offset": KnobLimits(Range(0, 1), 2)},
    "newborn": False,
}


class FullDie(FakeDie):
    """Also does products, write-verify and knobs, in the simplest way."""

    knob = None

    def mvm(self, tile, inputs):
        return self.spec.check_inputs(tile, inputs) @ np.ones((16, 16), np.int64)

    def program(self, cells, low, high):
        flat = self.spec.check_cells(cells)
        if self.landing is not None:
            self.landing(None)
        self.siemens[flat] = (low + high) / 2
        self.counted[Kind.SET][flat] += 3
        self.counted[Kind.RESET][flat] += 1
        ones = np.ones(flat.size, np.int64)
        return Programmed(self.read(flat), ones > 0, 3 * ones, ones, 5 * ones)

    def adjust(self, knob, values):
        if knob not in self.spec.knobs:
            raise Refused(f"no knob {knob}")
        self.knob = np.asarray(values)


def open_journal(folder, die, run="r"):
    return Journal(die, Ledger.open(folder, "fake-0", volatile=die.spec.volatile), run)


def full(folder, **changes):
    return open_journal(folder, FullDie(fake_spec(**{**FULL, **changes})))


def phases(folder):
    with LedgerReader(folder) as reader:
        return [(row.op, row.phase) for row in reader.rows()][2:]


@pytest.fixture
def die():
    return FullDie(fake_spec(**FULL))


@pytest.mark.parametrize("volatile", [True, False])
def test_the_intent_is_on_disk_before_the_pulse(tmp_path, volatile):
    """Seen from the device, in a copy of the files as they are at that moment."""
    seen = []

    def landing(pulse):
        shutil.copytree(tmp_path / "live", tmp_path / "copy")
        with LedgerReader(tmp_path / "copy") as reader:
            seen.extend(reader.doubtful().tolist())

    die = FakeDie(fake_spec(volatile=volatile, newborn=False), landing=landing)
    with open_journal(tmp_path / "live", die) as device:
        device.apply(SET)
        assert seen == CELLS.tolist()
        assert device.doubtful.size == 0


def test_answers_are_what_was_stored(tmp_path, die):
    with open_journal(tmp_path, die) as device:
        siemens = device.read(CELLS)
        none = device.read([])
        sums = device.mvm(1, np.ones((3, 16), np.int64))
        programmed = device.program(CELLS, 10e-6, 12e-6)
        device.adjust("offset", [0.25, 0.5])
        device.clock.sleep(2.0)
    with LedgerReader(tmp_path) as reader:
        rows = {(row.op, row.phase): row for row in reader.rows() if row.cells or row.op != "read"}
        assert rows["read", "done"].decode()["siemens"].tobytes() == siemens.tobytes()
        np.testing.assert_array_equal(rows["mvm", "done"].decode()["sums"], sums)
        assert (rows["mvm", "done"].cells, rows["mvm", "done"].data["tile"]) == (3, 1)
        done = Programmed(**rows["program", "done"].decode())
        np.testing.assert_array_equal(done.siemens, programmed.siemens)
        assert done.ok.all()
        assert rows["adjust", "intent"].data["knob"] == "offset"
        assert rows["adjust", "intent"].decode()["values"].tolist() == [0.25, 0.5]
        assert rows["sleep", "done"].seconds == 2.0
        assert reader.wear().done[Kind.SET][CELLS].tolist() == [3] * 20
        assert reader.totals().pulses[Kind.RESET] == 20
        assert reader.totals().reads == 20 + 5 * 20
        assert reader.totals().products == 3
    assert none.size == 0


def test_one_commit_a_pulse_and_outcomes_wait(tmp_path):
    die = FakeDie(fake_spec(volatile=False, newborn=False))
    with open_journal(tmp_path, die) as device:
        before = device.ledger.commits
        for _ in range(5):
            device.apply(SET)
            device.read(CELLS)
        assert device.ledger.commits - before <= 5 + 1  # one more when the clock ran out once


def test_refusals_leave_no_doubt(tmp_path, die):
    with open_journal(tmp_path, die) as device:
        with pytest.raises(Refused, match="outside"):
            device.apply(Pulse(Kind.SET, CELLS, 2.9, 9.0, seconds=1e-6))
        with pytest.raises(Refused, match="no knob"):
            device.adjust("gain", 1.0)
        with pytest.raises(Refused):
            device.read([9999])
        with pytest.raises(ValueError):
            device.program(CELLS, [1.0, 2.0], 3.0)
        assert device.doubtful.size == 0
    assert phases(tmp_path) == [
        ("apply", "intent"),
        ("apply", "refused"),
        ("adjust", "intent"),
        ("adjust", "refused"),
        ("read", "refused"),
        ("end", "done"),
    ]


@pytest.mark.parametrize(
    ("error", "doubt"),
    [
        (LinkLost("cable pulled", CELLS[:4]), CELLS[:4]),
        (DeviceFault("overheated", CELLS[3:]), CELLS[3:]),
        (LinkLost("which ones it does not say"), CELLS),
        (RuntimeError("a bug in a driver"), CELLS),
        (KeyboardInterrupt(), CELLS),
    ],
)
@pytest.mark.parametrize("op", ["apply", "program"])
def test_a_broken_call_leaves_doubt_until_read(tmp_path, die, error, doubt, op):
    def landing(pulse):
        raise error

    device = open_journal(tmp_path, die)
    die.landing = landing
    with pytest.raises(type(error)):
        device.apply(SET) if op == "apply" else device.program(CELLS, 1e-6, 2e-6)
    die.landing = None
    assert device.doubtful.tolist() == doubt.tolist()
    with LedgerReader(tmp_path) as reader:
        assert reader.doubtful().tolist() == doubt.tolist()
        assert reader.row(reader.last_row).phase == "unknown"
    with pytest.raises(Refused, match=r"possibly pulsed.*tile 0 row .*read them before"):
        device.apply(SET)
    device.read(doubt[1:])
    assert device.doubtful.tolist() == doubt[:1].tolist()
    device.close()

    again = open_journal(tmp_path, FullDie(fake_spec(**FULL)))
    assert again.doubtful.tolist() == doubt[:1].tolist()
    assert again.settle().tolist() == doubt[:1].tolist()
    assert again.settle().size == 0
    again.apply(SET)
    again.close()
    with LedgerReader(tmp_path) as reader:
        assert reader.doubtful().size == 0
        kept = sum(counts.sum() for counts in reader.wear().doubtful.values())
        assert kept == doubt.size * (2 * 20 if op == "program" else 1)
        assert reader.rows(ops=("read",)) is not None
        assert [r.data.get("why") for r in reader.rows(ops=("read",))] == [None, "settle"]


def test_failed_readings_are_recorded(tmp_path, die):
    device = open_journal(tmp_path, die)
    die.read = lambda cells: (_ for _ in ()).throw(LinkLost("silent", CELLS[:2]))
    with pytest.raises(LinkLost):
        device.read(CELLS)
    device.close()
    with LedgerReader(tmp_path) as reader:
        (row,) = reader.rows(ops=("read",))
        assert (row.phase, row.data["error"], row.data["message"]) == (
            "unknown", "LinkLost", "silent",
        )  # fmt: skip
        assert reader.doubtful().tolist() == CELLS[:2].tolist()


def test_an_outcome_that_cannot_be_written_is_a_fault_with_the_cells(tmp_path, die, monkeypatch):
    device = open_journal(tmp_path, die)
    append = device.ledger.append

    def full_at_outcomes(entry, *, commit=False):
        if entry.phase == "done":
            raise LedgerError("the disk is full")
        return append(entry, commit=commit)

    monkeypatch.setattr(device.ledger, "append", full_at_outcomes)
    with pytest.raises(DeviceFault, match="landed but is not recorded: the disk is full") as error:
        device.apply(SET)
    assert error.value.maybe.tolist() == CELLS.tolist() == device.doubtful.tolist()
    monkeypatch.undo()
    device.close()
    with LedgerReader(tmp_path) as reader:
        assert reader.doubtful().tolist() == CELLS.tolist()


def test_closing_from_another_thread_ends_a_pending_call(tmp_path):
    device = open_journal(tmp_path, SlowDie(fake_spec(newborn=False)))
    raised = []

    def keep_reading():
        try:
            while True:
                device.read(CELLS)
        except (LinkLost, Refused) as error:
            raised.append(error)

    thread = threading.Thread(target=keep_reading)
    thread.start()
    time.sleep(0.05)
    device.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert len(raised) == 1
    device.close()
    with pytest.raises(Refused, match="is closed"):
        device.read(CELLS)
    with pytest.raises(Refused, match="is closed"):
        device.clock.sleep(1.0)
    with LedgerReader(tmp_path) as reader:
        assert reader.sessions()[0].outcome == "closed"
        assert reader.verify().ok


def test_finish_names_the_outcome(tmp_path, die):
    device = open_journal(tmp_path, die)
    device.finish("done", {"accuracy": 0.5})
    device.close()
    with LedgerReader(tmp_path) as reader:
        assert reader.sessions()[0].outcome == "done"
        assert reader.row(reader.last_row).data["accuracy"] == 0.5


@pytest.mark.parametrize(
    "call",
    [
        lambda device: device.read(CELLS),
        lambda device: device.apply(SET),
        lambda device: device.mvm(0, np.ones((1, 16), np.int64)),
        lambda device: device.program(CELLS, 1e-6, 2e-6),
        lambda device: device.adjust("offset", [0.0, 0.0]),
        lambda device: device.clock.sleep(1.0),
        lambda device: device.checkpoint(),
        lambda device: device.finish("done again"),
    ],
)
def test_a_finished_session_takes_no_more_calls(tmp_path, die, call):
    device = open_journal(tmp_path, die)
    device.finish("done")
    with pytest.raises(
        Refused, match=r"no session of die fake-0 is open|session of fake-0 has ended"
    ):
        call(device)
    device.close()
    with LedgerReader(tmp_path) as reader:
        assert phases(tmp_path) == [("end", "done")]
        assert reader.last_row == reader.sessions()[0].last
    assert die.counted[Kind.SET].sum() == 0


def test_states_are_kept_and_named(tmp_path, die):
    with open_journal(tmp_path, die) as device:
        rows = [device.checkpoint() for _ in range(4)]
        with pytest.raises(Refused, match="journalled"):
            device.thaw(b"")
    assert sorted(int(p.stem) for p in (tmp_path / "states").iterdir()) == rows[-2:]


def test_a_die_that_keeps_its_own_state_has_no_checkpoints(tmp_path):
    with (
        open_journal(tmp_path, FakeDie(fake_spec(volatile=False, newborn=False))) as device,
        pytest.raises(Refused, match="keeps its own state"),
    ):
        device.checkpoint()


def test_doubt_of_an_earlier_life_does_not_hold(tmp_path, die):
    def landing(pulse):
        raise LinkLost("cable pulled", CELLS)

    die.landing = landing
    with open_journal(tmp_path, die) as device, pytest.raises(LinkLost):
        device.apply(SET)
    born = FakeDie(replace(fake_spec(), newborn=True))
    with open_journal(tmp_path, born) as device:
        assert device.doubtful.size == 0
        device.apply(SET)


def test_an_end_that_cannot_be_written_is_said(tmp_path, die, monkeypatch):
    device = open_journal(tmp_path, die)

    def full_disk(outcome, data=None, body=None):
        raise LedgerError("the disk is full")

    monkeypatch.setattr(device.ledger, "end_run", full_disk)
    with pytest.raises(LedgerError, match="the disk is full"):
        device.close()
    assert die.closed.is_set()
    open_journal(tmp_path, FullDie(fake_spec(**FULL))).close()  # it let go of the lock


@pytest.mark.parametrize("error", [LinkLost("cannot switch the outputs off"), KeyboardInterrupt()])
def test_a_device_that_cannot_be_closed_keeps_no_lock_and_no_session(tmp_path, die, error):
    def close():
        raise error

    device = open_journal(tmp_path, die)
    device.apply(SET)
    die.close = close
    with pytest.raises(type(error)):
        device.close()
    with LedgerReader(tmp_path) as reader:
        assert reader.doubtful().size == 0
        assert reader.sessions()[0].outcome.startswith("closed after an error")
    open_journal(tmp_path, FullDie(fake_spec(**FULL))).close()


def test_device_time_is_that_of_the_device_not_of_the_disk(tmp_path, die, monkeypatch):
    """On a clock of the host's, the fsync of the intent and packing an answer take time."""
    with open_journal(tmp_path, die) as device:
        commit = device.ledger._commit
        monkeypatch.setattr(device.ledger, "_commit", lambda: (die.clock.sleep(20.0), commit()))
        monkeypatch.setattr(
            "rramhil.journal.encode", lambda *a: (die.clock.sleep(20.0), encode(*a))[1]
        )
        die.clock.seconds = 1000.0
        device.apply(SET)
        device.program(CELLS, 10e-6, 12e-6)
        device.mvm(0, np.ones((1, 16), np.int64))
        landing_fails(die)
        with pytest.raises(LinkLost):
            device.apply(SET)
        monkeypatch.undo()
    with LedgerReader(tmp_path) as reader:
        assert reader.totals().device_seconds < 1.0
        for row in reader.rows():
            assert row.before is None or row.after is None or row.after - row.before < 1.0


def landing_fails(die):
    def landing(pulse):
        raise LinkLost("cable pulled", CELLS)

    die.landing = landing
