"""Several requests in flight: order, gaps, and the exact doubt about each cell."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from boards import Altered, host, serving
from fakes import FakeDie
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil.device import DeviceError, DeviceFault, Kind, LinkLost, Pulse, Refused
from rramhil_drivers import wire
from rramhil_drivers.link import Link, Question, _Flight
from rramhil_drivers.serving import Watch
from rramhil_drivers.virtual_board import Board
from rramhil_drivers.wire import Frame, Type

ALL = np.arange(512)


def a_set(cells: object) -> Pulse:
    return Pulse(Kind.SET, np.asarray(cells), 1.0, 1.5, seconds=1e-6)


@pytest.mark.parametrize(("asked", "offered", "used"), [(8, 8, 8), (2, 8, 2), (8, 3, 3), (1, 8, 1)])
def test_the_host_uses_the_window_that_both_sides_allow(
    asked: int, offered: int, used: int, tmp_path: Path
) -> None:
    class Offering(Altered):
        def change(self, frame: Frame, answer: Frame) -> Frame:
            if frame.type != Type.HELLO:
                return answer
            reply = wire.HelloReply.unpack(answer.payload)
            return replace(answer, payload=replace(reply, window=offered).pack())

    board, trace = Offering(FakeDie(), follow_wall_clock=False), tmp_path / "trace"
    with serving(board) as url, host(url, more=f"&window={asked}&trace={trace}") as device:
        device.read(ALL)
    flying, most = 0, 0
    for line in trace.read_text().splitlines()[1:]:
        kinds = [frame["type"] for frame in json.loads(line)["frames"]]
        flying += kinds.count("READ") - kinds.count("READ reply")
        most = max(most, flying)
    assert flying == 0
    assert most == used


class Losing(Watch):
    """Swallows requests (or answers) of `kind` by their number from 1."""

    def __init__(self, kind: Type, *lost: int) -> None:
        self.kind, self.lost, self.seen = kind, lost, 0

    def received(self, frame: Frame) -> bool:
        self.seen += frame.type == self.kind
        return not (frame.type == self.kind and self.seen in self.lost)


def test_a_reading_lost_in_the_middle_is_asked_again_without_waiting_for_the_timeout() -> None:
    die, watch = FakeDie(noise=0.0), Losing(Type.READ, 3, 5)
    with (
        serving(Board(die, follow_wall_clock=False), watch) as url,
        host(url, timeout=30) as device,
    ):
        start = time.monotonic()
        assert device.read(ALL).tolist() == die.read(ALL).tolist()
        assert time.monotonic() - start < 15
    assert watch.seen == 10


def test_all_readings_in_flight_are_asked_again_after_a_timeout() -> None:
    die, watch = FakeDie(noise=0.0), Losing(Type.READ, *range(1, 9), *range(10, 17))
    with (
        serving(Board(die, follow_wall_clock=False), watch) as url,
        host(url, timeout=0.2) as device,
    ):
        assert device.read(ALL[:500]).tolist() == die.read(ALL[:500]).tolist()


def test_a_pulse_frame_lost_in_the_middle_is_the_only_doubt() -> None:
    die = FakeDie(noise=0.0)
    watch = Losing(Type.APPLY, 3)
    with serving(Board(die), watch) as url, host(url, timeout=0.3, more="&window=2") as device:
        with pytest.raises(LinkLost, match="does not answer one of") as lost:
            device.apply(a_set(ALL))
        landed = device.landed
    assert landed is not None
    assert landed.doubtful.tolist() == list(range(128, 192))
    counted = die.pulses_counted(Kind.SET)
    assert counted[landed.done].tolist() == [1] * landed.done.size
    assert not counted[landed.untouched].any()
    assert landed.untouched.size >= 512 - 5 * 64
    assert lost.value.maybe.tolist() == sorted([*landed.done, *landed.doubtful])


def fault(number: int, error: DeviceError) -> Callable[[Pulse], None]:
    seen = iter(range(1, 1000))

    def landing(pulse: Pulse) -> None:
        if next(seen) == number:
            raise error

    return landing


def test_after_a_fault_the_frames_in_flight_are_halted_and_known_untouched() -> None:
    die = FakeDie(noise=0.0, landing=fault(3, DeviceFault("the supply tripped", [130])))
    with serving(Board(die)) as url, host(url) as device:
        with pytest.raises(DeviceFault, match="the supply tripped; 128 cells had been") as broke:
            device.apply(a_set(ALL))
        assert broke.value.maybe.tolist() == [*range(128), 130]
        assert device.landed is not None
        assert device.landed.untouched.size == 512 - 129
    assert die.pulses_counted(Kind.SET).sum() == 128


@pytest.mark.parametrize("number", range(1, 9))
def test_whatever_frame_the_cable_dies_at_the_books_agree(number: int) -> None:
    class Cut(Watch):
        seen = 0

        def answered(self, frame: Frame, answer: Frame) -> None:
            self.seen += frame.type == Type.APPLY
            if self.seen == number:
                raise OSError("the cable is out")

    die = FakeDie(noise=0.0)
    with serving(Board(die), Cut()) as url, host(url, timeout=1) as device:
        with pytest.raises(LinkLost) as lost:
            device.apply(a_set(ALL))
        landed = device.landed
    assert landed is not None
    counted = die.pulses_counted(Kind.SET)
    done = np.zeros(512, int)
    done[landed.done] = 1
    doubt = np.zeros(512, int)
    doubt[landed.doubtful] = 1
    assert (done <= counted).all()
    assert (counted <= done + doubt).all()
    assert lost.value.maybe.size == landed.done.size + landed.doubtful.size


def test_frames_come_in_order_and_calls_wait_for_all_of_theirs() -> None:
    seen: list[tuple[int, int]] = []

    class Order(Watch):
        def answered(self, frame: Frame, answer: Frame) -> None:
            seen.append((frame.type, frame.seq))

    with serving(Board(FakeDie()), Order()) as url, host(url) as device:
        device.apply(a_set(ALL))
        device.read(ALL)
    numbers = [seq for kind, seq in seen if kind not in (Type.STATUS, Type.ABORT)]
    assert numbers == sorted(numbers)
    kinds = [kind for kind, _ in seen if kind in (Type.APPLY, Type.READ)]
    assert kinds == [Type.APPLY] * 8 + [Type.READ] * 8


def test_a_board_that_is_slow_is_told_from_one_that_is_silent() -> None:
    class Slow(Watch):
        def answered(self, frame: Frame, answer: Frame) -> None:
            time.sleep(0.3)

    with (
        serving(Board(FakeDie()), Slow()) as url,
        pytest.raises(Refused, match=r"later than timeout=0\.2 s; give a longer timeout="),
    ):
        host(url, timeout=0.2)


@contextmanager
def line(answer: Callable[[int], list[float]]) -> Iterator[Link]:
    """A link to a line that answers its n-th request at the delays `answer(n)`, in seconds."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        caller, _ = listener.accept()
        receiver, seen = wire.Receiver(), 0
        with caller, suppress(OSError):
            while data := caller.recv(4096):
                for frame in receiver.feed(data):
                    seen += 1
                    for delay in answer(seen):
                        time.sleep(delay)
                        caller.sendall(
                            b"\0" + wire.encode(Frame(frame.type | wire.REPLY, frame.seq))
                        )

    thread = threading.Thread(target=serve)
    thread.start()
    link = Link(f"socket://127.0.0.1:{listener.getsockname()[1]}", 115200, timeout=0.2)
    try:
        yield link
    finally:
        link.close()
        thread.join(10)
        listener.close()


ONE = [Question(Type.READ, bytes)]


def test_an_answer_that_came_twice_is_not_a_late_one() -> None:
    with line(lambda number: [0.0, 0.0] if number == 1 else []) as link:
        assert link.exchange(ONE, window=1).error is None
        broke = link.exchange(ONE, window=1)
    assert str(broke.error) == "it does not answer"


def test_a_board_that_was_late_once_and_then_fell_silent_is_silent() -> None:
    with line(lambda number: {1: [0.3], 2: [0.0]}.get(number, [])) as link:
        assert link.exchange(ONE, window=1, attempts=3).error is None
        broke = link.exchange(ONE, window=1)
    assert str(broke.error) == "it does not answer"


def test_a_board_that_is_always_late_is_late() -> None:
    with line(lambda number: [0.3]) as link:
        broke = link.exchange(ONE, window=1, attempts=3)
    assert str(broke.error) == "it answers later than timeout=0.2 s"


def test_two_threads_share_a_link_call_by_call() -> None:
    die = FakeDie(noise=0.0)
    wrong: list[object] = []
    with serving(Board(die, follow_wall_clock=False)) as url, host(url) as device:
        expected = die.read(ALL).tolist()

        def read() -> None:
            wrong.extend(x for _ in range(5) if (x := device.read(ALL).tolist()) != expected)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert not wrong


# --------------------------------------------------------------------------- without a line


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 12),
    st.integers(1, 8),
    st.integers(1, 3),
    st.lists(st.sampled_from(["land", "lose", "refuse", "silence"]), max_size=60),
)
def test_a_flight_never_sends_more_than_it_may(
    count: int, window: int, attempts: int, events: list[str]
) -> None:
    """Whatever happens: the window holds, no question flies too often, answers have been sent."""
    flight = _Flight([Question(Type.READ, bytes)] * count, window, attempts)
    sent = [0] * count
    seq = 0
    for event in [*events, *["land"] * 1000]:
        if flight.over:
            break
        while (index := flight.next()) is not None:
            seq += 1
            flight.launch(index, seq)
            sent[index] += 1
        assert 0 < len(flight.flying) <= window
        assert max(sent) <= attempts
        flying = list(flight.flying)
        if event == "silence":
            if not flight.time_out():
                break
        elif event == "lose":
            flight.land(Frame(Type.READ | wire.REPLY, flying[-1]))
        else:
            kind = Type.NAK if event == "refuse" else Type.READ | wire.REPLY
            flight.land(Frame(kind, flying[0]))
    result = flight.result
    assert all(sent[i] for i, answer in enumerate(result.answers) if answer is not None)
    assert result.sent == [bool(times) for times in sent]
    if flight.over and not flight.stopped:
        assert all(answer is not None for answer in result.answers)
