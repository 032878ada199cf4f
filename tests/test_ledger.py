"""One ledger for each die: one writer, many readers, nothing changed afterwards."""

import shutil
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeDie, fake_spec

from rramhil.device import Kind, MvmLimits, ProgramLimits, Pulse, Refused
from rramhil.journal import Journal
from rramhil.ledger import Entry, Ledger, LedgerError, LedgerReader
from rramhil.ledger.schema import FILE_NAME, next_hash
from rramhil.ledger.specs import plain, spec_from
from rramhil.ledger.writer import _INSERT, NETWORK_FILE_SYSTEMS, _refuse_network, file_system

CELLS = np.arange(40)
SET = Pulse(Kind.SET, CELLS, 1.2, 2.0, seconds=1e-6)


def journal(folder, **changes):
    die = FakeDie(fake_spec(**changes))
    ledger = Ledger.open(folder, die.spec.serial, volatile=die.spec.volatile)
    return Journal(die, ledger, "run-1", {"seed": 3, "job": "a = 1"})


def record(folder, **changes):
    with journal(folder, **changes) as device:
        device.read(CELLS)
        device.apply(SET)
        device.read(CELLS[::2])
        device.clock.sleep(1.5)
    return LedgerReader(folder)


def one_sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) > 20
    return text


def test_rows_hold_what_happened(tmp_path):
    with record(tmp_path) as reader:
        ops = [(row.op, row.phase) for row in reader.rows()]
        assert ops == [
            ("create", "done"),
            ("begin", "done"),
            ("read", "done"),
            ("apply", "intent"),
            ("apply", "done"),
            ("read", "done"),
            ("sleep", "done"),
            ("end", "done"),
        ]
        intent, done = reader.row(4), reader.row(5)
        assert (intent.kind, intent.cells, done.intent) == ("set", 40, 4)
        assert intent.min_volts == pytest.approx(1.2)
        assert intent.volt_seconds == pytest.approx(40 * 1.2e-6)
        assert intent.before == reader.row(3).after
        again = intent.pulse()
        np.testing.assert_array_equal(again.cells, CELLS)
        np.testing.assert_array_equal(again.gate_volts, SET.gate_volts)
        assert again.limit_amps is None
        assert (reader.serial, reader.runs()) == ("fake-0", ["run-1"])
        assert reader.header() == {"seed": 3, "job": "a = 1"}
        (session,) = reader.sessions("run-1")
        assert (session.first, session.last, session.outcome) == (2, 8, "closed")
        assert [row.row for row in reader.rows(backwards=True)] == list(range(8, 0, -1))
        assert [row.row for row in reader.rows(session=2, ops=("read",))] == [3, 6]
        with pytest.raises(LedgerError, match="has no row 99"):
            reader.row(99)


def test_pages_of_rows_join_without_gaps_both_ways(tmp_path):
    with Ledger.open(tmp_path, "x") as ledger:
        for n in range(600):
            ledger.append(Entry("note", data={"n": n}))
    with LedgerReader(tmp_path) as reader:
        assert [row.row for row in reader.rows()] == list(range(1, 602))
        assert [row.row for row in reader.rows(after=5, backwards=True)] == list(range(601, 5, -1))


def test_the_spec_survives(tmp_path):
    spec = fake_spec(
        mvm=MvmLimits(4, 7, 3, 1e-6), program=ProgramLimits(4, 20), volatile=False, newborn=False
    )
    assert spec_from(plain(spec)) == spec
    with record(tmp_path, newborn=False) as reader:
        assert reader.spec() == fake_spec(newborn=False)
    endless = fake_spec(reading=replace(spec.reading, highest=np.inf))
    with Ledger.open(tmp_path / "b", "x") as ledger:
        ledger.begin_run("r", endless, {"seed": np.int64(3), "gain": np.array([1.5, np.nan])})
        ledger.note("µ \ud800", {"set": Kind.SET})
    with LedgerReader(tmp_path / "b") as reader:
        assert reader.spec() == endless
        assert reader.header() == {"seed": 3, "gain": [1.5, "nan"]}
        assert reader.row(3).data["event"] == "µ \ud800"
        assert reader.verify().ok


def test_totals_and_wear(tmp_path):
    with record(tmp_path) as reader:
        totals = reader.totals("run-1")
        assert totals.pulses[Kind.SET] == 40
        assert totals.reads == 60
        assert totals.calls == 4
        assert totals.device_seconds == pytest.approx(1.5 + 40e-6 + 3e-6 + 2e-6)
        assert totals.waiting_seconds == pytest.approx(1.5)
        before = reader.row(3).decode("siemens")["siemens"].astype(float)
        assert totals.joules == pytest.approx(float((1.2**2 * before * 1e-6).sum()), rel=1e-6)
        assert reader.totals(first=4, last=5).joules == pytest.approx(totals.joules)
        assert reader.totals(first=6).pulses[Kind.SET] == 0
        wear = reader.wear()
        assert wear.pulses.sum() == wear.done[Kind.SET].sum() == 40
        np.testing.assert_allclose(wear.volt_seconds[CELLS], 1.2e-6)
        assert reader.wear(high_volts=1.3).volt_seconds.sum() == 0


def test_wear_is_summed_up_at_the_end_of_a_run_and_continued(tmp_path, monkeypatch):
    monkeypatch.setattr("rramhil.journal.WEAR_AFTER_PULSES", 50)
    for _ in range(3):
        with journal(tmp_path, newborn=False) as device:
            device.apply(SET)
    with LedgerReader(tmp_path) as reader:
        held = [row for row in reader.rows(ops=("end",)) if "high_volts" in row.data]
        assert len(held) == 1
        assert reader.wear().done[Kind.SET][:41].tolist() == [3] * 40 + [0]
        np.testing.assert_allclose(reader.wear(1.0).volt_seconds, reader.wear().volt_seconds)


def test_a_newborn_die_has_no_past(tmp_path):
    record(tmp_path).close()
    with record(tmp_path) as reader:
        assert reader.wear().pulses.max() == 1
        assert len(reader.sessions("run-1")) == 2


def test_append_only_and_in_order(tmp_path):
    record(tmp_path).close()
    db = sqlite3.connect(tmp_path / FILE_NAME)
    for change in (
        "UPDATE entries SET cells = 1 WHERE row = 3",
        "DELETE FROM entries WHERE row = 3",
        "INSERT OR REPLACE INTO entries SELECT * FROM entries WHERE row = 3",
    ):
        with pytest.raises(sqlite3.DatabaseError, match=r"append only|without gaps"):
            db.execute(change)
    db.close()


@pytest.mark.parametrize("volatile", [True, False])
def test_another_process_reads_while_a_run_writes(tmp_path, volatile):
    with journal(tmp_path, volatile=volatile) as device:
        device.apply(SET)
        for _ in range(5):
            device.read(CELLS)
        time.sleep(0.6)
        count = "SELECT count(*) FROM entries WHERE op = 'read'"
        script = f"import sqlite3, sys; db = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', \
uri=True); print(db.execute({count!r}).fetchone()[0])"
        seen = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / FILE_NAME)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert seen.stdout.strip() == "5"
        with LedgerReader(tmp_path) as reader:
            assert reader.head == device.ledger.head
            device.apply(SET)
            assert reader.last_row >= 10


def test_a_copy_of_a_live_folder_is_a_ledger(tmp_path):
    with journal(tmp_path / "live") as device:
        device.apply(SET)
        device.ledger.flush()
        shutil.copytree(tmp_path / "live", tmp_path / "copy")
    with LedgerReader(tmp_path / "copy") as reader:
        assert reader.verify().ok
        assert reader.last_row == 4


def test_a_closed_ledger_is_one_file(tmp_path):
    head = record(tmp_path).head
    assert {p.name for p in tmp_path.iterdir()} <= {FILE_NAME, "ledger.lock"}
    shutil.copy(tmp_path / FILE_NAME, tmp_path / "alone.sqlite")
    with LedgerReader(tmp_path / "alone.sqlite") as reader:
        assert reader.verify(head).ok


# --------------------------------------------------------------------------- refusals


def test_a_second_writer_is_refused_and_named(tmp_path):
    with journal(tmp_path), pytest.raises(LedgerError) as error:
        Ledger.open(tmp_path, "fake-0")
    text = one_sentence(error)
    assert "fake-0" in text
    assert "in use by process" in text
    journal(tmp_path).close()


def test_a_second_process_is_refused(tmp_path):
    script = "import sys; from rramhil.ledger import Ledger; Ledger.open(sys.argv[1], 'fake-0')"
    with journal(tmp_path):
        second = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True
        )
    assert second.returncode != 0
    assert "is in use by process" in second.stderr.splitlines()[-1]


def test_another_die_a_newer_schema_and_other_files_are_refused(tmp_path):
    record(tmp_path).close()
    path = tmp_path / FILE_NAME
    with pytest.raises(LedgerError, match="the ledger of die 'fake-0', not of 'fake-9'"):
        Ledger.open(tmp_path, "fake-9")
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    for use in (lambda: Ledger.open(tmp_path, "fake-0"), lambda: LedgerReader(path)):
        with pytest.raises(LedgerError, match=r"newer version of rramhil.*update rramhil") as error:
            use()
        one_sentence(error)
    for content in (b"this is a text and no database, but long enough for a header" * 9, None):
        path.unlink()
        if content is None:
            other = sqlite3.connect(path)
            other.execute("CREATE TABLE a (b)")
            other.close()
        else:
            path.write_bytes(content)
        for use in (lambda: Ledger.open(tmp_path, "fake-0"), lambda: LedgerReader(path)):
            with pytest.raises(LedgerError, match=r"no ledger .*name the") as error:
                use()
            one_sentence(error)


def test_missing_ledger_and_unwritable_folder(tmp_path):
    with pytest.raises(LedgerError, match="there is no ledger at"):
        LedgerReader(tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LedgerError, match=r"cannot be written .*choose another folder") as error:
        Ledger.open(tmp_path / "file", "fake-0")
    one_sentence(error)


def test_network_file_systems_are_refused(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"dev / ext4 rw 0 0\nserver:/x {tmp_path}/a\\040b nfs4 rw 0 0\n")
    assert file_system(tmp_path / "c", mounts) == "ext4"
    assert file_system(tmp_path / "a b" / "deep", mounts) in NETWORK_FILE_SYSTEMS
    _refuse_network(tmp_path, mounts)
    with pytest.raises(LedgerError, match=r"network file system .nfs4.*local disk"):
        _refuse_network(tmp_path / "a b", mounts)
    assert file_system(tmp_path, tmp_path / "none") == ""


def test_a_full_disk_refuses_the_pulse_and_breaks_cleanly(tmp_path):
    device = journal(tmp_path, volatile=False)
    die = device.inner
    db = device.ledger._db
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages + 2}")
    rng = np.random.default_rng(0)

    def pulse_on_and_on():
        for _ in range(50):
            cells, volts = rng.permutation(512), rng.integers(0, 300, 512) * 0.01
            device.apply(Pulse(Kind.SET, cells, volts, 2.0, seconds=1e-6))

    with pytest.raises(Refused, match=r"nothing was sent.*make room") as error:
        pulse_on_and_on()
    one_sentence(error)
    counted = die.counted[Kind.SET].copy()
    assert 0 < counted.max() < 50
    with pytest.raises(LedgerError, match="cannot be written"):
        device.read(CELLS)
    device.close()
    with LedgerReader(tmp_path) as reader:
        wear = reader.wear()
        assert (wear.done[Kind.SET] <= counted).all()
        assert (counted <= wear.done[Kind.SET] + wear.doubtful[Kind.SET]).all()
        assert reader.verify().ok
    journal(tmp_path, volatile=False, newborn=False).close()


def test_a_disk_that_is_really_full(tmp_path):
    """The limit on file size makes the operating system itself refuse to write."""
    script = """
import resource, sys
import numpy as np
from fakes import FakeDie, fake_spec
from rramhil.device import Kind, Pulse, Refused
from rramhil.journal import Journal
from rramhil.ledger import Ledger

die = FakeDie(fake_spec(volatile=False, newborn=False))
device = Journal(die, Ledger.open(sys.argv[1], "fake-0"), "r")
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
rng = np.random.default_rng(0)
try:
    for n in range(1000):
        cells, volts = rng.permutation(512), rng.integers(0, 300, 512) * 0.01
        device.apply(Pulse(Kind.SET, cells, volts, 2.0, seconds=1e-6))
except Refused as error:
    assert die.counted[Kind.SET].max() == n, "sent all the same"
    print(n, error)
device.close()
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
    )  # fmt: skip
    count, sentence = ran.stdout.strip().split(" ", 1)
    assert 3 < int(count) < 999
    assert sentence.startswith("nothing was sent: the ledger of die fake-0")
    with LedgerReader(tmp_path) as reader:
        assert reader.verify().ok
        pulses = reader.wear().pulses.max()
        assert int(count) - 1 <= pulses <= int(count)
        assert reader.doubtful().size in (0, 512)


def test_an_interrupt_between_the_row_and_its_number_is_healed(tmp_path, monkeypatch):
    with Ledger.open(tmp_path, "x") as ledger:
        ledger.note("one")
        columns = ledger._columns(3, Entry("note"))
        head = next_hash(ledger._head, columns, None)
        monkeypatch.setattr(ledger, "_in_step", False)  # as the interrupt leaves it
        ledger._db.execute(_INSERT, (*columns, head, None))
        assert ledger.note("two") == 4
    with LedgerReader(tmp_path) as reader:
        assert reader.verify().ok
        assert reader.last_row == 4


def test_a_session_ends_once(tmp_path):
    with Ledger.open(tmp_path, "x") as ledger:
        ledger.begin_run("r", fake_spec())
        ledger.end_run("done")
        with pytest.raises(LedgerError, match="no session of die x is open"):
            ledger.end_run("done")
        ledger.note("goes on")


def test_a_closed_ledger_says_so(tmp_path):
    ledger = Ledger.open(tmp_path, "x")
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="is closed; open the device again"):
        ledger.note("late")


def test_a_ledger_whose_last_commit_fails_lets_go_of_all(tmp_path, monkeypatch):
    ledger = Ledger.open(tmp_path, "fake-0")
    ledger.begin_run("r", fake_spec())

    def full_disk():
        raise ledger._break(sqlite3.OperationalError("disk I/O error"))

    monkeypatch.setattr(ledger, "_commit", full_disk)
    with pytest.raises(LedgerError, match="disk I/O error"):
        ledger.close()
    assert not ledger._committer.is_alive()
    assert ledger.session == 0
    ledger.close()
    Ledger.open(tmp_path, "fake-0").close()
