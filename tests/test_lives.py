"""The lives of a volatile die: each run may take it up again as that run left it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeDie, fake_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.device import Kind, Pulse, Refused
from rramhil.journal import Journal
from rramhil.ledger import Entry, Ledger, LedgerError, LedgerReader
from rramhil.rebuild import rebuild
from rramhil.station import Station, connect

CELLS = np.arange(10, 30)


def pulse(cells: Any = CELLS, kind: Kind = Kind.SET) -> Pulse:
    return Pulse(kind, cells, 1.0, 2.0, seconds=1e-6)


@dataclass
class Left:
    """What a session left behind: the die itself, and what is known of it."""

    row: int
    state: bytes
    done: dict[Kind, Any]
    doubtful_pulses: dict[Kind, Any]
    doubtful: set[int]

    @classmethod
    def nothing(cls) -> Left:
        zeros: dict[Kind, Any] = {kind: np.zeros(512, np.int64) for kind in Kind}
        return cls(0, b"", zeros, {kind: np.zeros(512, np.int64) for kind in Kind}, set())

    def copy(self) -> Left:
        done = {kind: counts.copy() for kind, counts in self.done.items()}
        doubtful = {kind: counts.copy() for kind, counts in self.doubtful_pulses.items()}
        return Left(self.row, self.state, done, doubtful, set(self.doubtful))


def open_at(folder: Path, run: str, origin: Left | None, continues: int | None) -> Journal:
    """A journalled die: newborn without an origin, else rebuilt as `origin` left it."""
    device = FakeDie(fake_spec(newborn=origin is None))
    if origin is not None:
        with LedgerReader(folder) as reader:
            rebuild(device, reader, continues)
        assert device.freeze() == origin.state
    ledger = Ledger.open(folder, "fake-0", volatile=True)
    journal = Journal(device, ledger, run, continues=continues)
    assert journal.doubtful.tolist() == sorted(origin.doubtful if origin else [])
    return journal


def carry_out(journal: Journal, calls: list[str], left: Left) -> None:
    die = journal.inner
    assert isinstance(die, FakeDie)
    for n, call in enumerate(calls):
        cells = CELLS[n % 5 : 12]
        if call == "read":
            journal.read(cells)
            left.doubtful -= set(cells.tolist())
        elif call == "save":
            journal.checkpoint()
        elif not left.doubtful:
            kind = Kind.RESET if call == "reset" else Kind.SET
            die.landing = interrupt if call == "break" else None
            try:
                journal.apply(pulse(cells, kind))
                left.done[kind][cells] += 1
            except KeyboardInterrupt:
                left.doubtful_pulses[kind][cells] += 1
                left.doubtful |= set(cells.tolist())


def interrupt(pulse: Pulse) -> None:
    raise KeyboardInterrupt


CALLS = st.lists(st.sampled_from(["read", "set", "reset", "break", "save"]), max_size=6)
ORIGINS = st.one_of(st.sampled_from(["newborn", "here"]), st.integers(0, 5))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(ORIGINS, CALLS), min_size=2, max_size=7), st.booleans())
def test_law_each_run_finds_the_die_as_it_left_it(
    tmp_path_factory: pytest.TempPathFactory,
    sessions: list[tuple[str | int, list[str]]],
    sums: bool,
) -> None:
    """State, doubt and wear at any session's end are those of its life, however lives branch."""
    folder = tmp_path_factory.mktemp("lives")
    left: list[Left] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rramhil.journal.WEAR_AFTER_PULSES", 1 if sums else 10**9)
        for number, (origin, calls) in enumerate(sessions):
            past, continues = None, None
            if left and origin == "here":
                past = left[-1]
            elif left and isinstance(origin, int):
                past = left[origin % len(left)]
                continues = past.row
            now = past.copy() if past else Left.nothing()
            journal = open_at(folder, f"run-{number}", past, continues)
            carry_out(journal, calls, now)
            now.state = journal.inner.freeze()
            journal.close()
            with LedgerReader(folder) as reader:
                now.row = reader.last_row
            left.append(now)
    with LedgerReader(folder) as reader:
        assert reader.verify().ok
        for number, now in enumerate(left):
            assert reader.last_row_of(f"run-{number}") == now.row
            again = FakeDie(fake_spec(newborn=False))
            rebuild(again, reader, now.row)
            assert again.freeze() == now.state
            check_sums(reader, now, now.row)
        check_sums(reader, left[-1], None)
    shutil.rmtree(folder)


def check_sums(reader: LedgerReader, now: Left, upto: int | None) -> None:
    assert reader.doubtful(upto).tolist() == sorted(now.doubtful)
    wear = reader.wear(upto=upto)
    for kind in Kind:
        assert wear.done[kind].tolist() == now.done[kind].tolist()
        assert wear.doubtful[kind].tolist() == now.doubtful_pulses[kind].tolist()
    np.testing.assert_allclose(wear.volt_seconds, 1e-6 * wear.pulses)


def three_runs(folder: Path) -> None:
    """Run a, then run b on a die born again, then run c without a pulse."""
    for run, calls in (("a", ["set", "read"]), ("b", ["reset", "set"]), ("c", ["read"])):
        carry_out(open_journal := open_at(folder, run, None, None), calls, Left.nothing())
        open_journal.close()


def test_which_runs_pulsed_since(tmp_path: Path) -> None:
    three_runs(tmp_path)
    with LedgerReader(tmp_path) as reader:
        assert reader.pulsed_since(0, other_than="x") == ("a", "b")
        assert reader.pulsed_since(0, other_than="a") == ("b",)
        assert reader.pulsed_since(reader.last_row_of("a"), other_than="a") == ("b",)
        assert reader.pulsed_since(reader.last_row_of("b"), other_than="a") == ()
        with pytest.raises(LedgerError, match=r"has no run 'd'; it has a, b, c"):
            reader.last_row_of("d")


def test_lives_and_their_spans(tmp_path: Path) -> None:
    three_runs(tmp_path)
    with LedgerReader(tmp_path) as reader:
        (a, b, c) = reader.sessions()
        assert [reader.life_at(row) for row in (1, a.last, b.first, b.last)] == [1, 2, 7, 7]
        assert reader.life == c.first
        row = reader.last_row_of("a")
        device = FakeDie(fake_spec(newborn=False))
        assert rebuild(device, reader, row).calls == 2
    book = Ledger.open(tmp_path, "fake-0", volatile=True)
    with Journal(device, book, "a", continues=row) as journal:
        journal.apply(pulse())
    with LedgerReader(tmp_path) as reader:
        (*_, again) = reader.sessions()
        assert again.newborn
        assert reader.row(again.first).data["continues"] == row
        assert reader.spans() == [(a.first, row), (again.first, reader.last_row)]
        assert reader.spans(b.last) == [(b.first, b.last)]


@pytest.mark.parametrize(
    ("changes", "row", "says"),
    [
        ({"volatile": False, "newborn": False}, 2, "only a volatile die that was rebuilt"),
        ({"newborn": True}, 2, "only a volatile die that was rebuilt"),
        ({"newborn": False}, 0, r"cannot go on from row 0 of .*, which has the rows 1 to \d+; nam"),
        ({"newborn": False}, 99, r"cannot go on from row 99 of .* rows 1 to \d+; name one"),
    ],
)
def test_a_way_back_that_there_is_not_is_refused(
    tmp_path: Path, changes: dict[str, bool], row: int, says: str
) -> None:
    three_runs(tmp_path)
    with Ledger.open(tmp_path, "fake-0", volatile=True) as book:
        last = book.row
        with pytest.raises(Refused, match=says) as error:
            Journal(FakeDie(fake_spec(**changes)), book, "a", continues=row)
        assert "\n" not in str(error.value)
        assert (book.row, book.session) == (last, 0)


def test_a_damaged_way_back_is_named(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, "fake-0", volatile=True) as book:
        book.append(Entry("begin", data={"newborn": True, "continues": 2}))
        book.flush()
        with (
            LedgerReader(tmp_path) as reader,
            pytest.raises(LedgerError, match=r"row 2 of .* goes on from row 2, which is none befo"),
        ):
            reader.spans()


def test_energy_of_an_earlier_run_stays_when_the_die_is_born_again(tmp_path: Path) -> None:
    """Readings before a run's first row say what its first pulses cost: those of its own life."""
    with open_at(tmp_path, "a", None, None) as journal:
        journal.read(CELLS)
        journal.apply(pulse())
    with LedgerReader(tmp_path) as reader:
        before = reader.totals(first=4).joules
    three_runs(tmp_path)
    with LedgerReader(tmp_path) as reader:
        assert reader.totals("a", first=4, last=6).joules == before > 0


def test_connect_goes_on_where_another_run_left_the_die(tmp_path: Path) -> None:
    address = "emulator:40nm?die=5&tiles=1&seed=2"
    cells = np.arange(64)
    bench = Station.model_validate({"name": "bench", "budget": {"pulses": 2}, "ledger": tmp_path})
    reset = Pulse(Kind.RESET, cells, 3.0, 4.0, seconds=1e-6)
    with connect(address, station=bench, run="a") as device:
        device.apply(Pulse(Kind.SET, cells, 2.0, 1.6, seconds=1e-6))
        device.read(cells)
        frozen = device.freeze()
        path = device.ledger.path
    with connect(address, station=bench, run="b") as device:
        device.apply(reset)
        device.apply(reset)
    with LedgerReader(path) as reader:
        row = reader.last_row_of("a")
    with connect(address, station=bench, run="a", continues=row) as device:
        assert device.freeze() == frozen
        device.apply(reset)
        with pytest.raises(Refused, match="would reach 3 pulses"):
            device.apply(reset)
        frozen = device.freeze()
    with connect(address, run="a", ledger=path.parent, resume=True) as device:
        assert device.freeze() == frozen


def test_a_row_between_intent_and_outcome_is_doubt(tmp_path: Path) -> None:
    """Rebuilt to that row, the die has not seen the pulse, and nobody knows that yet."""
    with open_at(tmp_path, "a", None, None) as journal:
        journal.apply(pulse())
    with LedgerReader(tmp_path) as reader:
        assert (reader.row(3).phase, reader.row(4).phase) == ("intent", "done")
        assert reader.doubtful(upto=3).tolist() == CELLS.tolist()
        assert reader.doubtful(upto=4).size == 0
        assert reader.wear(upto=3).doubtful[Kind.SET][CELLS].tolist() == [1] * CELLS.size
