"""The lease and ABORT: without a host that is heard, and after an ABORT, nothing is driven."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from boards import SESSION, apply, arm, hello, host, read, serving, why
from fakes import FakeDie, fake_spec

from rramhil.device import DeviceFault, Kind, LinkLost, Pulse, PulseLimits, Range, Refused
from rramhil_drivers import requests, scales, wire
from rramhil_drivers.requests import State
from rramhil_drivers.serial_device import SerialDevice
from rramhil_drivers.serving import Watch
from rramhil_drivers.virtual_board import Board
from rramhil_drivers.wire import Frame, Off, Outputs, Type, Why

SLOW = PulseLimits(Range(0, 3, 0.01), Range(1e-7, 1.0, 1e-8), Range(0, 4, 0.01))
SLOW_SPEC = fake_spec(pulses={Kind.SET: SLOW, Kind.RESET: SLOW})


def slow_set(count: int, seconds: float) -> Pulse:
    return Pulse(Kind.SET, np.arange(count), 1.0, 1.5, seconds=seconds)


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def armed_board(hand: Hand) -> Board:
    board = Board(FakeDie(), follow_wall_clock=False, now=hand)
    board.answer(hello())
    board.answer(arm())
    return board


def state(board: Board, seq: int = 1) -> State:
    """What STATUS says, without renewing the lease of what it looks at."""
    return State.unpack(board.answer(Frame(Type.STATUS, seq)).payload)


def test_a_pulse_needs_an_arm_and_a_host_that_is_heard() -> None:
    hand = Hand()
    board = Board(FakeDie(), follow_wall_clock=False, now=hand)
    board.answer(hello())
    assert why(board.answer(apply(1))) is Why.UNARMED
    board.answer(arm())
    assert board.answer(apply(2)).type == Type.APPLY | wire.REPLY
    for _ in range(5):
        hand.seconds += 0.19
        board.answer(read(3))
    assert board.answer(apply(4, cell=4)).type == Type.APPLY | wire.REPLY
    hand.seconds += 0.201
    assert why(board.answer(apply(5, cell=5))) is Why.UNARMED
    assert board.counts.sum() == 2


def test_the_lease_runs_out_by_itself_and_the_state_says_so() -> None:
    hand = Hand()
    board = armed_board(hand)
    said = state(board)
    assert (said.outputs, said.lease_ms, said.session) == (Outputs.ARMED, 200, SESSION)
    hand.seconds += 0.2001
    board.tick()
    assert board.supplies.outputs is Outputs.OFF
    hand.seconds += 0.0505
    said = state(board)
    assert (said.outputs, said.why, said.expired, said.lease_ms) == (Outputs.OFF, Off.LEASE, 1, 0)
    assert said.since_ms == 50


def test_a_second_host_that_knocks_does_not_keep_the_lease_of_the_first() -> None:
    hand = Hand()
    board = armed_board(hand)
    for _ in range(3):
        assert why(board.answer(hello(SESSION + 1))) is Why.BUSY
        hand.seconds += 0.09
    assert board.answer(hello(SESSION + 1)).type == Type.HELLO | wire.REPLY


def test_a_refusal_for_want_of_a_lease_stays_one() -> None:
    board = Board(FakeDie(), follow_wall_clock=False, now=Hand())
    board.answer(hello())
    late_copy = apply(1)
    assert why(board.answer(late_copy)) is Why.UNARMED
    board.answer(arm(seq=2))
    board.answer(apply(3))
    assert why(board.answer(late_copy)) is Why.UNARMED
    assert board.counts.sum() == 1


def test_an_arm_for_longer_than_the_lease_is_refused_and_zero_disarms() -> None:
    board = armed_board(Hand())
    assert why(board.answer(arm(milliseconds=201, seq=1))) is Why.REFUSED
    assert why(board.answer(arm(session=SESSION + 1, seq=2))) is Why.SESSION
    assert state(board).outputs == Outputs.ARMED
    board.answer(arm(milliseconds=0, seq=3))
    assert (state(board).outputs, state(board).why) == (Outputs.OFF, Off.HOST)


def test_an_abort_of_any_version_halts_whatever_waits() -> None:
    board = armed_board(Hand())
    waiting = board.aborts
    answer = board.answer(Frame(Type.ABORT, 1, version=9))
    assert State.unpack(answer.payload).outputs == Outputs.OFF
    work = board.work(read(1), waiting)
    with pytest.raises(StopIteration) as ended:
        next(work)
    assert why(ended.value.value) is Why.HALTED
    assert why(board.answer(apply(2))) is Why.HALTED
    assert board.answer(read(3)).type == Type.READ | wire.REPLY
    assert board.counts.sum() == 0


# --------------------------------------------------------------------------- over the link


@contextmanager
def slow_board(watch: Watch | None = None) -> Iterator[tuple[FakeDie, Board, str]]:
    die = FakeDie(SLOW_SPEC, noise=0.0)
    board = Board(die)
    with serving(board, watch) as url:
        yield die, board, url


def test_a_call_that_was_held_up_arms_again_and_goes_on() -> None:
    class Deaf(Watch):
        """Lets the lease run out once, between two frames of a call."""

        seen = 0

        def answered(self, frame: Frame, answer: Frame) -> None:
            self.seen += frame.type == Type.APPLY
            if self.seen == 1 and frame.type == Type.APPLY:
                board.supplies.off(Off.LEASE)

    die, watch = FakeDie(noise=0.0), Deaf()
    board = Board(die)
    with serving(board, watch) as url, host(url) as device:
        device.apply(Pulse(Kind.SET, np.arange(200), 1.0, 1.5, seconds=1e-6))
    assert watch.seen > 4
    assert die.pulses_counted(Kind.SET)[:200].tolist() == [1] * 200


def test_a_lease_that_never_holds_ends_the_call_with_the_exact_doubt() -> None:
    class Never(Watch):
        def answered(self, frame: Frame, answer: Frame) -> None:
            if frame.type == Type.ARM:
                board.supplies.off(Off.LEASE)

    board = Board(FakeDie())
    with serving(board, Never()) as url, host(url) as device:
        with pytest.raises(Refused, match="ran out 4 times within one call; keep the host"):
            device.apply(slow_set(100, 1e-6))
        assert device.landed is not None
        assert device.landed.untouched.size == 100
    assert not board.counts.any()


def test_while_a_host_waits_for_a_long_pulse_its_lease_holds() -> None:
    with slow_board() as (die, board, url), host(url) as device:
        start = time.monotonic()
        device.apply(slow_set(8, 0.06))
        assert time.monotonic() - start > 0.45
        assert device.state().expired == 0
    assert die.pulses_counted(Kind.SET)[:8].tolist() == [1] * 8
    assert board.supplies.outputs is Outputs.OFF


def test_an_abort_stops_a_long_pulse_and_says_which_cells_had_theirs() -> None:
    told: list[State] = []

    class Told(Watch):
        def answered(self, frame: Frame, answer: Frame) -> None:
            if frame.type == Type.ABORT:
                told.append(State.unpack(answer.payload))
            if frame.type == Type.APPLY:
                replies.append(wire.ApplyReply.unpack(answer.payload))

    replies: list[wire.ApplyReply] = []
    with slow_board(Told()) as (die, board, url), host(url) as device:
        ended: list[BaseException] = []

        def pulse() -> None:
            try:
                device.apply(slow_set(64, 0.02))
            except LinkLost as error:
                ended.append(error)

        thread = threading.Thread(target=pulse)
        thread.start()
        while board.counts.sum() < 4:
            time.sleep(0.002)
        outputs = device.abort()
        thread.join(10)
        assert outputs.off
        assert outputs.seconds < 0.25
        assert "outputs off since an ABORT" in outputs.said
        assert "APPLY" in outputs.said
        assert isinstance(ended[0], LinkLost)
        assert ended[0].maybe.tolist() == list(range(64))
        with pytest.raises(Refused, match="it was aborted"):
            device.read([1])
        assert device.abort() == outputs
        while not replies:
            time.sleep(0.002)
        counted = die.pulses_counted(Kind.SET)
    assert (told[0].type, told[0].outputs) == (Type.APPLY, Outputs.OFF)
    pulsed = replies[0].statuses.count(wire.Status.PULSED)
    assert 3 <= pulsed == told[0].cells < 64
    assert replies[0].statuses.count(wire.Status.UNKNOWN) == 1
    assert counted.sum() == pulsed + 1
    assert board.supplies.outputs is Outputs.OFF


def test_a_host_that_falls_silent_in_a_long_pulse_finds_the_outputs_off() -> None:
    with slow_board() as (die, board, url), host(url) as device:
        link = device._link
        asked = requests.Arm(device._session, 200)
        for number, (kind, payload) in enumerate(
            [
                (Type.ARM, asked.pack()),
                (Type.APPLY, _packed(device, slow_set(64, 0.02))),
            ]
        ):
            link._put(Frame(kind, 100 + number, payload))
        while board.counts.sum() < 1:
            time.sleep(0.002)
        start = time.monotonic()
        while board.supplies.outputs is not Outputs.OFF:
            time.sleep(0.002)
            assert time.monotonic() - start < 2
        assert board.supplies.why is Off.LEASE
        assert 0.15 < board.supplies.changed - start < 0.25 + 0.1
        said = device.state()
        assert (said.outputs, said.why, said.expired) == (Outputs.OFF, Off.LEASE, 1)
        with pytest.raises(Refused, match="lease ran out"):
            device.apply(slow_set(1, 1e-6))
    assert die.pulses_counted(Kind.SET).sum() < 20


def _packed(device: SerialDevice, pulse: Pulse) -> bytes:
    return scales.pack_pulse(pulse, device.spec, device._session).pack()


def test_an_abort_from_a_signal_handler_ends_the_call_that_it_interrupts() -> None:
    with slow_board() as (_, board, url), host(url) as device:
        outputs = []
        before = signal.signal(signal.SIGUSR1, lambda *_: outputs.append(device.abort()))
        try:
            main = threading.main_thread().ident
            assert main is not None
            timer = threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGUSR1))
            timer.start()
            with pytest.raises(LinkLost, match="aborted"):
                device.apply(slow_set(64, 0.02))
            timer.join()
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert [o.off for o in outputs] == [True]
        assert board.supplies.outputs is Outputs.OFF


def test_a_board_that_does_not_answer_an_abort_is_not_said_to_be_off() -> None:
    class Mute(Watch):
        def received(self, frame: Frame) -> bool:
            return frame.type != Type.ABORT

    with serving(Board(FakeDie()), Mute()) as url:
        device = host(url)
        outputs = device.abort()
        assert not outputs.off
        assert "did not say that its outputs are off" in outputs.said
        device.close()


def test_closing_puts_the_outputs_off_at_once() -> None:
    board = Board(FakeDie())
    with serving(board) as url:
        with host(url) as device:
            device.apply(slow_set(3, 1e-6))
            assert board.supplies.armed
        assert board.supplies.why is Off.ABORT
        assert not board.supplies.armed


def test_a_board_whose_outputs_stay_on_is_refused() -> None:
    class Stuck(Board):
        def arrive(self, frame: Frame) -> Frame | None:
            answer = super().arrive(frame)
            if frame.type != Type.STATUS or answer is None:
                return answer
            said = State.unpack(answer.payload)
            stuck = State(1, *(getattr(said, n) for n in State.__slots__[1:]))
            return Frame(answer.type, answer.seq, stuck.pack())

    with serving(Stuck(FakeDie())) as url, pytest.raises(Refused, match="not off after HELLO"):
        host(url)


def test_a_fault_of_the_board_puts_the_outputs_off() -> None:
    def trip(pulse: Pulse) -> None:
        raise DeviceFault("the supply tripped", [1])

    board = Board(FakeDie(landing=trip))
    with serving(board) as url, host(url) as device:
        with pytest.raises(DeviceFault, match="tripped"):
            device.apply(slow_set(3, 1e-6))
        assert board.supplies.why is Off.FAULT
