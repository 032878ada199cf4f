"""The board side: what is executed, how often, and what is answered."""

from __future__ import annotations

import time

import numpy as np
import pytest
from boards import SESSION, apply, arm, hello, read, why
from fakes import FakeDie
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.device import DeviceFault, Kind, Pulse, Refused
from rramhil_drivers import scales, wire
from rramhil_drivers.virtual_board import REMEMBERED, Board
from rramhil_drivers.wire import Frame, Type, Why


def greeted(die: FakeDie | None = None, seq: int = 0) -> Board:
    """A board in a session, armed, whose clock stands still."""
    board = Board(die or FakeDie(), follow_wall_clock=False, now=lambda: 7.0)
    board.answer(hello(SESSION, seq))
    board.answer(arm(seq=seq))
    return board


def test_a_repeated_pulse_gets_the_first_answer_and_is_sent_once() -> None:
    board = greeted()
    first = board.answer(apply(1))
    assert first.type == Type.APPLY | wire.REPLY
    assert board.answer(apply(1)) == first
    board.answer(hello())
    assert board.answer(apply(1)) == first
    assert board.counts[0, 3] == 1


def test_a_refusal_is_remembered_too() -> None:
    die = FakeDie()
    board = greeted(die)
    answer = board.answer(apply(1, volts=900))
    assert why(answer) is Why.REFUSED
    assert board.answer(apply(1, volts=900)) == answer
    assert not board.counts.any()
    assert not die.pulses_counted(Kind.SET).any()


def test_the_same_number_for_another_pulse_is_stale() -> None:
    board = greeted()
    board.answer(apply(1, cell=3))
    assert why(board.answer(apply(1, cell=4))) is Why.STALE
    assert board.counts.sum() == 1


def test_a_number_older_than_the_memory_is_stale_whatever_made_time_pass() -> None:
    board = greeted()
    board.answer(apply(1))
    board.answer(read(1 + REMEMBERED))
    assert why(board.answer(apply(1))) is Why.STALE
    assert board.counts.sum() == 1


def test_after_all_numbers_were_used_the_first_is_new_again() -> None:
    board = greeted()
    for seq in range(1, 2**16, 1000):
        board.answer(read(seq))
        board.answer(apply(seq))
    executed = board.counts.sum()
    board.answer(read(2**16 - 1))
    board.answer(read(0))
    assert board.answer(apply(1)).type == Type.APPLY | wire.REPLY
    assert board.counts.sum() == executed + 1


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["new", "skip", "again", "read"]), st.integers(0, 3 * REMEMBERED)
        ),
        max_size=60,
    ),
    st.integers(0, 2**16 - 1),
)
def test_no_request_is_ever_executed_twice(steps: list[tuple[str, int]], start: int) -> None:
    """Numbers here do not wrap; the wire's do. Each stands for one request of the host."""
    board = greeted(seq=start)
    newest = 0
    answers: dict[int, Frame] = {}
    for what, back in steps:
        number = newest + 1 + back * (what == "skip") if what != "again" else max(1, newest - back)
        seq = (start + number) % 2**16
        before = int(board.counts.sum())
        answer = board.answer(read(seq) if what == "read" else apply(seq, number % 100))
        executed = int(board.counts.sum()) - before
        newest = max(newest, number)
        if what == "read":
            assert executed == 0
        elif number in answers:
            assert executed == 0
            assert answer == answers[number] or why(answer) is Why.STALE
        elif executed:
            answers[number] = answer
        else:
            assert why(answer) is Why.STALE
            assert newest - number >= REMEMBERED


def test_what_a_board_does_not_know_it_says_and_does_not_do() -> None:
    board = Board(FakeDie(), follow_wall_clock=False)
    assert why(board.answer(read(1))) is Why.SESSION
    assert why(board.answer(apply(1))) is Why.SESSION
    board.answer(hello())
    assert why(board.answer(Frame(99, 1))) is Why.TYPE
    assert why(board.answer(Frame(Type.READ, 2, b"\x03"))) is Why.LAYOUT
    assert why(board.answer(Frame(Type.APPLY, 3, b"abc"))) is Why.LAYOUT
    assert why(board.answer(Frame(Type.HELLO, 4, b"abc"))) is Why.LAYOUT
    assert why(board.answer(Frame(Type.READ, 5, wire.pack_cells(np.array([9999]))))) is Why.REFUSED
    assert why(board.answer(apply(6, session=SESSION + 1))) is Why.SESSION
    newer = Frame(Type.READ, 7, read(7).payload, version=3)
    assert why(board.answer(newer)) is Why.VERSION
    assert not board.counts.any()


def test_a_new_session_forgets_the_old_one() -> None:
    board = greeted()
    board.answer(apply(1))
    assert why(board.answer(hello(SESSION + 1))) is Why.BUSY
    board.answer(arm(milliseconds=0))
    board.answer(hello(SESSION + 1))
    assert why(board.answer(apply(2))) is Why.SESSION
    board.answer(arm(SESSION + 1))
    assert board.answer(apply(1, session=SESSION + 1)).type == Type.APPLY | wire.REPLY
    assert board.counts.sum() == 2


def test_a_fault_halts_the_session_until_the_next_hello() -> None:
    def fail(pulse: Pulse) -> None:
        raise DeviceFault("the supply tripped", [4])

    die = FakeDie(landing=fail)
    board = greeted(die)
    pulse = Pulse(Kind.SET, [3, 4, 5], 1.0, 1.5, seconds=1e-6)
    payload = scales.pack_pulse(pulse, board.spec, SESSION).pack()
    answer = board.answer(Frame(Type.APPLY, 1, payload))
    reply = wire.ApplyReply.unpack(answer.payload)
    assert reply.statuses == (1, 2, 1)
    assert reply.message == "the supply tripped"
    assert board.answer(Frame(Type.APPLY, 1, payload)) == answer
    die.landing = None
    assert why(board.answer(apply(2))) is Why.HALTED
    assert board.answer(read(3)).type == Type.READ | wire.REPLY
    assert why(board.answer(arm())) is Why.HALTED
    board.answer(hello(SESSION + 1))
    board.answer(arm(SESSION + 1))
    assert board.answer(apply(1, session=SESSION + 1)).type == Type.APPLY | wire.REPLY


def test_a_die_is_newborn_until_its_first_pulse() -> None:
    board = greeted()

    def newborn() -> bool:
        return scales.unpack_spec(wire.HelloReply.unpack(board.answer(hello()).payload))[0].newborn

    assert newborn()
    board.answer(apply(1))
    assert not newborn()


def test_the_die_ages_with_the_wall_unless_asked_not_to() -> None:
    for follow in (True, False):
        die = FakeDie()
        board = Board(die, follow_wall_clock=follow)
        board.answer(hello())
        time.sleep(0.02)
        board.answer(read(1))
        assert (die.clock.now() >= 0.02) is follow


def test_a_frozen_board_goes_on_where_it_was() -> None:
    board = greeted()
    board.answer(apply(1))
    other = Board(FakeDie(seed=5), follow_wall_clock=False)
    other.thaw(board.freeze())
    assert other.counts.tolist() == board.counts.tolist()
    assert not other.spec.newborn
    other.answer(hello())
    assert other.answer(read(2)) == board.answer(read(2))
    with pytest.raises(Refused, match="state of board-fake-0, not of else"):
        Board(FakeDie(), serial="else").thaw(board.freeze())
